#![allow(clippy::unwrap_used)]
use super::{
    edit::{forgotten, named},
    *,
};

const A: &str = "12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp";
const B: &str = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";

fn parse(text: &str) -> Result<Names, NamesError> {
    Names::parse(text, Path::new("peers.toml"))
}

fn error(text: &str) -> String {
    parse(text).unwrap_err().to_string()
}

fn name(text: &str) -> PeerName {
    text.parse().unwrap()
}

#[test]
fn a_name_leads_to_its_peer_and_the_peer_to_its_name() {
    let names = parse(&format!("# ours\nalice = \"{A}\" # the laptop\nbob-2 = '{B}'\n")).unwrap();
    let (a, b): (PeerId, PeerId) = (A.parse().unwrap(), B.parse().unwrap());
    assert_eq!(names.resolve(&"alice".parse().unwrap()).unwrap(), a);
    assert_eq!(names.resolve(&B.parse().unwrap()).unwrap(), b);
    assert_eq!(names.of(b), Some(&name("bob-2")));
    let all: Vec<_> = names.iter().map(|(name, peer)| (name.as_str(), peer)).collect();
    assert_eq!(all, [("alice", a), ("bob-2", b)]);
    assert_eq!(parse("").unwrap().iter().count(), 0);
}

#[test]
fn a_wrong_line_is_named_by_its_number_and_says_what_to_write() {
    for (text, line, hint) in [
        (format!("a = \"{A}\"\n\na = \"{B}\"\n"), 3, "duplicate key"),
        (
            format!("a = \"{A}\"\nb = \"{B}\"\nc = \"{A}\"\n"),
            3,
            "second name of the peer that is `a` in line 1",
        ),
        ("alice = \"12D3\"\n".to_owned(), 1, "`alice` is not a peer id; write `alice = \"12D3KooW…\"`"),
        ("\nalice = 5\n".to_owned(), 2, "`alice` is not a peer id"),
        (format!("# me\n\n[peers]\nalice = \"{A}\"\n"), 3, "`peers` is not a peer id"),
        (format!("\"al ice\" = \"{A}\"\n"), 1, "`al ice` is no name: a name has 1 to 32 letters"),
        (format!("a = \"{A}\"\nalice: {B}\n"), 2, "alice = \"12D3KooW…\""),
    ] {
        let error = error(&text);
        assert!(error.starts_with(&format!("peers.toml, line {line}: ")), "{text}: {error}");
        assert!(error.contains(hint), "{text}: {error}");
    }
}

#[test]
fn an_unknown_name_is_told_with_those_like_it() {
    let names = parse(&format!("alice = \"{A}\"\nzoe = \"{B}\"\n")).unwrap();
    let error = names.resolve(&"Alcie".parse().unwrap()).unwrap_err().to_string();
    assert!(error.contains("`Alcie` is not a peer id, nor a name in peers.toml"), "{error}");
    assert!(error.contains("; did you mean alice?"), "{error}");
    let error = names.resolve(&"quentin".parse().unwrap()).unwrap_err().to_string();
    assert!(!error.contains("did you mean") && error.contains("punchline peers name <ID> quentin"));
}

#[test]
fn a_mistyped_id_is_no_name() {
    let wrong = format!("{A}x").parse::<PeerRef>().unwrap_err();
    assert!(wrong.contains("not a peer id") && wrong.contains("punchline id"), "{wrong}");
    for bad in ["", "a b", "ä", "a.b", &"a".repeat(NAME_BYTES_MAX + 1)] {
        assert_eq!(bad.parse::<PeerName>(), Err(NoName), "{bad}");
    }
    assert!("a".repeat(NAME_BYTES_MAX).parse::<PeerName>().is_ok());
}

#[test]
fn what_people_wrote_around_a_name_stays() {
    let path = Path::new("peers.toml");
    let text = format!("# my machines\n\nalice = \"{A}\"   # the laptop\n# the end\n");
    let more = named(&text, path, &name("bob"), B.parse().unwrap()).unwrap();
    assert_eq!(more, format!("{text}bob = \"{B}\"\n"));
    let (first, ..) = forgotten(&more, path, &"alice".parse().unwrap()).unwrap();
    assert_eq!(first, format!("# my machines\n\n# the end\nbob = \"{B}\"\n"));
    let (less, gone, peer) = forgotten(&more, path, &"bob".parse().unwrap()).unwrap();
    assert_eq!((less.as_str(), gone.as_str(), peer.to_string().as_str()), (text.as_str(), "bob", B));
    let open = named("# no end", path, &name("bob"), B.parse().unwrap()).unwrap();
    assert_eq!(open, format!("# no end\nbob = \"{B}\"\n"));
    let same = named(&text, path, &name("alice"), A.parse().unwrap()).unwrap();
    assert_eq!(same, text, "there already");
}

#[test]
fn a_name_and_a_peer_are_taken_once() {
    let path = Path::new("peers.toml");
    let text = format!("alice = \"{A}\"\n");
    let taken = named(&text, path, &name("alice"), B.parse().unwrap()).unwrap_err().to_string();
    assert!(taken.contains("`alice` is 12D3KooWE") && taken.contains("peers forget alice"), "{taken}");
    let called = named(&text, path, &name("bob"), A.parse().unwrap()).unwrap_err().to_string();
    assert!(called.contains("is called `alice` already"), "{called}");
    let nameless = forgotten(&text, path, &B.parse().unwrap()).unwrap_err();
    assert!(matches!(nameless, EditError::Nameless { .. }));
}

#[test]
fn a_file_that_is_not_there_is_empty_and_is_made_and_keeps_its_mode() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let file = NamesFile::at(folder.path().join("state/peers.toml"));
    assert_eq!(file.read().unwrap().iter().count(), 0);
    file.name(A.parse().unwrap(), &name("alice")).unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(file.path()), 0o600);
    std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o644)).unwrap();
    file.name(B.parse().unwrap(), &name("bob")).unwrap();
    assert_eq!((mode(file.path()), file.read().unwrap().iter().count()), (0o644, 2));
    file.forget(&A.parse().unwrap()).unwrap();
    assert!(file.resolve(&"alice".parse().unwrap()).is_err());
    std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o666)).unwrap();
    let exposed = file.read().unwrap_err().to_string();
    assert!(exposed.contains("anybody may write to it"), "{exposed}");
}

#[test]
fn what_can_be_read_as_a_peer_id_is_no_name() {
    for short in ["11", "17a", "1fxs"] {
        assert!(short.parse::<PeerId>().is_ok(), "{short}");
        assert_eq!(short.parse::<PeerName>(), Err(NoName), "{short}");
        let error = error(&format!("{short} = \"{A}\"\n"));
        assert!(error.contains("cannot be read as a peer id"), "{error}");
    }
    assert!("1".parse::<PeerName>().is_ok() && "alice".parse::<PeerName>().is_ok());
}

#[test]
fn of_names_that_are_given_at_once_none_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let file = NamesFile::at(folder.path().join("state/peers.toml"));
    let gives = |at: usize| {
        let file = file.clone();
        std::thread::spawn(move || file.name(PeerId::random(), &name(&format!("n{at}"))).unwrap())
    };
    let all: Vec<_> = (0..16).map(gives).collect();
    all.into_iter().for_each(|one| one.join().unwrap());
    assert_eq!(file.read().unwrap().iter().count(), 16);
}

#[test]
fn a_name_that_root_gives_stays_in_a_file_of_its_owner() {
    use std::os::unix::fs::{MetadataExt as _, chown};
    let folder = tempfile::tempdir().unwrap();
    let file = NamesFile::at(folder.path().join("peers.toml"));
    let (user, group) = (12_345, 54_321);
    // Nobody else may give files away.
    if chown(folder.path(), Some(user), Some(group)).is_err() {
        return;
    }
    for (peer, called) in [(A, "alice"), (B, "bob")] {
        file.name(peer.parse().unwrap(), &name(called)).unwrap();
        let metadata = std::fs::metadata(file.path()).unwrap();
        assert_eq!((metadata.uid(), metadata.gid()), (user, group), "{called}");
    }
}

#[test]
fn there_is_a_most_of_names() {
    let line = |at: usize| format!("n{at} = \"{}\"\n", PeerId::random());
    let text: String = (0..NAMES_MAX).map(line).collect();
    assert_eq!(parse(&text).unwrap().iter().count(), NAMES_MAX);
    assert!(matches!(parse(&(text + &line(NAMES_MAX))), Err(NamesError::TooMany { .. })));
}

#[test]
fn a_text_for_people_has_names_in_place_of_ids_but_in_addresses() {
    let names = parse(&format!("alice = \"{A}\"\n")).unwrap();
    let text =
        format!("{A} is not reached through {B}, `--peer {A}`: /ip4/192.0.2.1/tcp/1/p2p/{A}, … ({A})");
    let said = format!(
        "alice is not reached through {B}, `--peer alice`: /ip4/192.0.2.1/tcp/1/p2p/{A}, … (alice)"
    );
    assert_eq!(names.in_text(&text), said);
}
