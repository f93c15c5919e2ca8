//! What the libp2p fork of the Kaspa node calls things: `--libp2p-…` flags and `KASPAD_LIBP2P_…` variables of `server` and
//! `run`, said in our words, or refused with what to say instead.
//!
//! `RULES` is the whole translation; what it makes of flags stands among the arguments, and what it makes of variables is
//! a layer below `PUNCHLINE_…`.

use std::{collections::BTreeMap, ffi::OsString};

use super::{Defaults, Given, SettingsError, Source};

const FLAG: &str = "--libp2p-";
const VARIABLE: &str = "KASPAD_LIBP2P_";

/// The port beside Kaspa's own, which the fork listens on; routers and firewalls of its operators let it through.
const PORT: u16 = 16112;

/// What becomes of one of their settings.
enum Rule {
    /// It is this flag of ours, with the same value.
    Is(&'static str),
    /// The port to listen on.
    Port,
    /// Relays, of which no more than `max-relays` says are taken.
    Candidates,
    /// How many of those.
    CandidatesMax,
    /// These values mean what holds anyway; any other is refused.
    Holds(&'static [&'static str], &'static str),
    /// It has no meaning here; what to do instead.
    Refused(&'static str),
}

const RULES: &[(&str, Rule)] = &[
    (
        "mode",
        Rule::Holds(
            &["bridge", "full"],
            "say bridge or full, or leave it out; to do without libp2p, do not start this program",
        ),
    ),
    (
        "role",
        Rule::Holds(
            &["private", "auto"],
            "say private or auto, or leave it out; a public node that others are relayed by is `punchline relay`",
        ),
    ),
    ("identity-path", Rule::Is("identity")),
    ("listen-port", Rule::Port),
    ("reservations", Rule::Is("relay")),
    ("relay-candidates", Rule::Candidates),
    ("max-relays", Rule::CandidatesMax),
    ("external-multiaddrs", Rule::Is("external")),
    (
        "advertise-addresses",
        Rule::Refused(
            "say --advertise IP:PORT, which `server` has; a node behind a NAT has none to tell",
        ),
    ),
    (
        "autonat-allow-private",
        Rule::Refused("say which ranges count as public, with --assume-global CIDR"),
    ),
    (
        "helper-listen",
        Rule::Refused(
            "leave it out: every node answers on a Unix socket, see --control and `punchline status`",
        ),
    ),
    ("relay-inbound-cap", Rule::Refused("say --max-streams-of-peers N")),
    ("relay-inbound-unknown-cap", Rule::Refused("say --max-streams-of-peers N")),
    ("inbound-cap-private", Rule::Refused("say --max-streams-of-peers N")),
    (
        "max-peers-per-relay",
        Rule::Refused("leave it out: a relay counts its own, see `punchline relay --help`"),
    ),
    ("relay-listen-port", Rule::Refused("run `punchline relay --listen ADDR`")),
    ("relay-advertise-capacity", Rule::Refused("run `punchline relay`, which has --max-reservations")),
    ("relay-advertise-ttl-ms", Rule::Refused("run `punchline relay`, which has --reservation-seconds")),
];

/// One of our settings, and which of theirs it comes from.
#[derive(Debug, PartialEq, Eq)]
struct Ours {
    flag: &'static str,
    value: String,
    theirs: &'static str,
}

/// Whether a command takes them.
pub(super) fn concerns(command: &str) -> bool {
    matches!(command, "server" | "run")
}

/// The arguments in our words, and what the variables give.
///
/// # Errors
/// If one of them has no meaning here.
pub(super) fn translate(
    arguments: &[OsString],
    environment: &impl Fn(&str) -> Option<String>,
) -> Result<(Vec<OsString>, Defaults), SettingsError> {
    let (mut arguments, flags) = take(arguments)?;
    let mut said = flags.clone();
    for (name, _) in RULES {
        let value = environment(&variable(name)).filter(|value| !value.trim().is_empty());
        if let Some(value) = value {
            said.entry((*name).to_owned()).or_insert(value);
        }
    }
    let is_flag = |name: &str| flags.contains_key(name);
    let spoken = |name: &str| match is_flag(name) {
        true => format!("{FLAG}{name}"),
        false => variable(name),
    };
    let refused = |(name, cause): (&str, String)| SettingsError::Foreign { name: spoken(name), cause };
    let mut given = Defaults::new();
    if !said.is_empty() {
        // Lowest of all: a file or a flag that says where to listen is heeded.
        let values = vec![listen(PORT)];
        given.insert("listen".to_owned(), Given { values, source: Source::Default });
    }
    for Ours { flag, value, theirs } in in_our_words(&said).map_err(refused)? {
        if is_flag(theirs) {
            arguments.push(format!("--{flag}={value}").into());
            continue;
        }
        let source = Source::Variable(variable(theirs));
        match given.get_mut(flag).filter(|known| known.source != Source::Default) {
            Some(known) => known.values.push(value),
            None => drop(given.insert(flag.to_owned(), Given { values: vec![value], source })),
        }
    }
    Ok((arguments, given))
}

fn variable(name: &str) -> String {
    format!("{VARIABLE}{}", name.replace('-', "_").to_uppercase())
}

/// Takes theirs out of the arguments. One that is said again adds to what was said before.
fn take(arguments: &[OsString]) -> Result<(Vec<OsString>, BTreeMap<String, String>), SettingsError> {
    let (mut rest, mut taken) = (Vec::new(), BTreeMap::<String, String>::new());
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        let Some(theirs) = argument.to_str().and_then(|text| text.strip_prefix(FLAG)) else {
            rest.push(argument.clone());
            continue;
        };
        let (name, value) = match theirs.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None if is_switch(theirs) => (theirs, Some("true".to_owned())),
            None => (theirs, arguments.next().map(|value| value.to_string_lossy().into_owned())),
        };
        let cause = |text: &str| SettingsError::Foreign {
            name: format!("{FLAG}{name}"),
            cause: text.to_owned(),
        };
        if !RULES.iter().any(|(known, _)| *known == name) {
            return Err(cause("it is none that is known here; `punchline server --help` lists ours"));
        }
        let value = value.ok_or_else(|| cause("it needs a value"))?;
        taken.entry(name.to_owned()).and_modify(|known| *known += &format!(",{value}")).or_insert(value);
    }
    Ok((rest, taken))
}

/// Their only flag without a value.
fn is_switch(name: &str) -> bool {
    name == "autonat-allow-private"
}

/// # Errors
/// With the name of the first that has no meaning here, and what to do.
fn in_our_words(said: &BTreeMap<String, String>) -> Result<Vec<Ours>, (&str, String)> {
    let mut ours = Vec::new();
    for (theirs, rule) in RULES {
        let Some((name, value)) = said.get_key_value(*theirs) else { continue };
        let name = name.as_str();
        let (flag, value) = match rule {
            Rule::Is(flag) => (*flag, value.clone()),
            Rule::Port => {
                let port = value.parse().map_err(|_| (name, format!("`{value}` is no port")))?;
                ("listen", listen(port))
            }
            Rule::Candidates => ("relay", candidates(said, value)?),
            Rule::Holds(same, _) if same.contains(&value.to_lowercase().as_str()) => continue,
            Rule::Holds(_, instead) => {
                return Err((name, format!("`{value}` is not done here; {instead}")));
            }
            Rule::CandidatesMax => continue,
            Rule::Refused(instead) => return Err((name, (*instead).to_owned())),
        };
        if !value.is_empty() {
            ours.push(Ours { flag, value, theirs });
        }
    }
    Ok(ours)
}

/// The first so many of these relays: all that are left are held at once.
fn candidates<'a>(said: &'a BTreeMap<String, String>, all: &str) -> Result<String, (&'a str, String)> {
    let all = all.split([',', ';']).map(str::trim).filter(|relay| !relay.is_empty());
    let max = match said.get_key_value("max-relays") {
        Some((name, value)) => {
            value.parse().map_err(|_| (name.as_str(), format!("`{value}` is no number of relays")))?
        }
        None => usize::MAX,
    };
    Ok(all.take(max).collect::<Vec<_>>().join(","))
}

/// As the fork: over IPv4; and over QUIC as well, at the same port.
fn listen(port: u16) -> String {
    format!("/ip4/0.0.0.0/tcp/{port},/ip4/0.0.0.0/udp/{port}/quic-v1")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn words(said: &[(&str, &str)]) -> Result<Vec<String>, String> {
        let said = said.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        match in_our_words(&said) {
            Ok(ours) => Ok(ours.iter().map(|ours| format!("--{} {}", ours.flag, ours.value)).collect()),
            Err((name, cause)) => Err(format!("{name}: {cause}")),
        }
    }

    #[test]
    fn what_has_a_meaning_here_is_said_in_our_words() {
        for (said, expected) in [
            (&[("mode", "bridge")][..], &[][..]),
            (&[("mode", "Full"), ("role", "auto")], &[]),
            (&[("role", "private")], &[]),
            (&[("identity-path", "/a/key")], &["--identity /a/key"]),
            (&[("listen-port", "99")], &["--listen /ip4/0.0.0.0/tcp/99,/ip4/0.0.0.0/udp/99/quic-v1"]),
            (&[("reservations", "a,b")], &["--relay a,b"]),
            (&[("external-multiaddrs", "a")], &["--external a"]),
            (&[("relay-candidates", "a; b,c")], &["--relay a,b,c"]),
            (&[("relay-candidates", "a,b,c"), ("max-relays", "2")], &["--relay a,b"]),
            (&[("relay-candidates", "a"), ("max-relays", "0")], &[]),
            (&[("reservations", "r"), ("relay-candidates", "a")], &["--relay r", "--relay a"]),
            (&[("max-relays", "2")], &[]),
        ] {
            assert_eq!(words(said).unwrap(), expected, "{said:?}");
        }
    }

    #[test]
    fn what_has_none_is_refused_with_what_to_say_instead() {
        for (name, value, hint) in [
            ("mode", "off", "do not start this program"),
            ("mode", "helper", "bridge or full"),
            ("role", "public", "punchline relay"),
            ("listen-port", "x", "no port"),
            ("listen-port", "70000", "no port"),
            ("advertise-addresses", "1.2.3.4:1", "--advertise"),
            ("autonat-allow-private", "true", "--assume-global"),
            ("helper-listen", "127.0.0.1:38080", "--control"),
            ("relay-inbound-cap", "4", "--max-streams-of-peers"),
            ("max-peers-per-relay", "1", "punchline relay"),
            ("relay-listen-port", "1", "punchline relay"),
        ] {
            let refused = words(&[(name, value)]).unwrap_err();
            assert!(refused.starts_with(name) && refused.contains(hint), "{refused}");
        }
        let refused = words(&[("relay-candidates", "a"), ("max-relays", "many")]).unwrap_err();
        assert!(refused.starts_with("max-relays"), "{refused}");
    }

    #[test]
    fn flags_become_ours_in_place_and_variables_a_layer_below() {
        let arguments =
            ["punchline", "server", "--libp2p-reservations", "a", "--libp2p-reservations=b", "-v"];
        let arguments: Vec<OsString> = arguments.map(OsString::from).into();
        let environment = |name: &str| match name {
            "KASPAD_LIBP2P_RESERVATIONS" => Some("not heard beside the flag".to_owned()),
            "KASPAD_LIBP2P_LISTEN_PORT" => Some("17".to_owned()),
            _ => None,
        };
        let (arguments, given) = translate(&arguments, &environment).unwrap();
        assert_eq!(arguments, ["punchline", "server", "-v", "--relay=a,b"]);
        assert_eq!(given.len(), 1);
        assert_eq!(given["listen"].values, [listen(17)]);
        assert_eq!(given["listen"].source, Source::Variable("KASPAD_LIBP2P_LISTEN_PORT".to_owned()));
    }

    #[test]
    fn whoever_uses_one_of_them_listens_where_the_fork_does_and_nobody_else() {
        let listens = |arguments: &[&str]| {
            let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
            translate(&arguments, &|_| None).unwrap().1.remove("listen").map(|given| given.values)
        };
        assert_eq!(listens(&["punchline", "server"]), None);
        assert_eq!(listens(&["punchline", "server", "--libp2p-mode=bridge"]), Some(vec![listen(16112)]));
    }

    #[test]
    fn what_is_unknown_or_lacks_its_value_is_named() {
        for (argument, hint) in
            [("--libp2p-frobs=1", "--libp2p-frobs"), ("--libp2p-mode", "needs a value")]
        {
            let arguments = vec![OsString::from(argument)];
            let refused = translate(&arguments, &|_| None).unwrap_err().to_string();
            assert!(refused.contains(hint), "{refused}");
        }
    }
}
