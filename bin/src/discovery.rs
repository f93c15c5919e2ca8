//! `punchline discovery`: stores in the DHT and finds there, by a node that runs on this machine or by itself.

mod delegate;
mod through;

use std::{
    io::{self, IsTerminal as _, Read as _, Write as _},
    path::Path,
};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use self::through::Way;
use crate::{
    Context, Unusable,
    cli::{
        Common, Role,
        discovery::{self as cli, ContentHash, DiscoveryWhat},
    },
    control::proto::{self, get_request, put_request},
    names::PeerRef,
    plain::{one_line, plain},
    shapes::{self, versioned},
    stop,
};

/// Most bytes that are stored: as many as the DHT keeps under a key.
const STORED_BYTES_MAX: u64 = 8 * 1024;

/// Does what is asked.
///
/// # Errors
/// If no node answers, the DHT is not joined, or nothing is found.
pub(crate) async fn run(discovery: cli::Discovery, common: &Common) -> anyhow::Result<()> {
    let mut what = discovery.what;
    let through = what.through();
    through.asking.identity.clone_from(&common.identity);
    let json = through.json;
    let done = async {
        match what {
            DiscoveryWhat::Delegate(delegate) => delegate::run(delegate, common).await,
            DiscoveryWhat::Provide(provide) => self::provide(provide).await,
            what => say(json, answer(what, common).await?),
        }
    };
    tokio::select! {
        done = done => done,
        () = stop::told() => Ok(()),
    }
}

/// Whether the settings are usable.
///
/// # Errors
/// If a file cannot be read, or is too large.
pub(crate) fn check(discovery: &cli::Discovery, common: &Common) -> anyhow::Result<()> {
    match &discovery.what {
        DiscoveryWhat::Put(put) => drop(stored(put)?),
        DiscoveryWhat::Get(get) => drop(wanted(get, common)?),
        DiscoveryWhat::Provide(provide) => drop(hash_of(&provide.of)?),
        DiscoveryWhat::FindPeer(find) => drop(named(&find.peer, common)?),
        DiscoveryWhat::Delegate(delegate) => drop(named(&delegate.to, common)?),
        DiscoveryWhat::Providers(_) => {}
    }
    crate::usable()
}

async fn answer(what: DiscoveryWhat, common: &Common) -> anyhow::Result<Answer> {
    match what {
        DiscoveryWhat::Put(put) => {
            let what = stored(&put)?;
            // A value is signed by whom it is of.
            let mine = put.name.is_some() && !put.through.bootstrap.is_empty();
            let context = mine.then(|| Context::new(common, Role::Expose, "discovery")).transpose()?;
            let way = Way::to(&put.through, context.as_ref()).await?;
            let kept = way.put(proto::PutRequest { what: Some(what) }).await;
            way.stop().await;
            Ok(put_answer(put.name.as_deref(), &kept?))
        }
        DiscoveryWhat::Get(get) => {
            let what = wanted(&get, common)?;
            let way = Way::to(&get.through, None).await?;
            let got = way.get(proto::GetRequest { what: Some(what) }).await;
            way.stop().await;
            Ok(got_answer(got?))
        }
        DiscoveryWhat::Providers(cli::Providers { hash, through }) => {
            let way = Way::to(&through, None).await?;
            let found = way.providers(proto::ListProvidersRequest { hash: hash.to_string() }).await;
            way.stop().await;
            providers_answer(hash, &found?)
        }
        DiscoveryWhat::FindPeer(find) => {
            let peer = named(&find.peer, common)?.to_string();
            let way = Way::to(&find.through, None).await?;
            let found = way.find_peer(proto::FindPeerRequest { peer }).await;
            way.stop().await;
            Ok(contact_answer(&found?))
        }
        // They go on for as long as they run.
        DiscoveryWhat::Provide(_) | DiscoveryWhat::Delegate(_) => Ok((Vec::new(), json!({}))),
    }
}

/// What a node says holds for as long as it runs; by itself this command has to stay.
async fn provide(provide: cli::Provide) -> anyhow::Result<()> {
    let hash = hash_of(&provide.of)?;
    let way = Way::to(&provide.through, None).await?;
    way.provide(proto::ProvideRequest { hash: hash.to_string() }).await?;
    say(provide.through.json, provided_answer(hash))?;
    if way.is_own() {
        tracing::info!("others find this command by that hash until it is stopped");
        stop::told().await;
        way.stop().await;
    }
    Ok(())
}

fn stored(put: &cli::Put) -> anyhow::Result<put_request::What> {
    let bytes = match (&put.text, &put.file) {
        (Some(text), _) => text.clone().into_bytes(),
        (None, Some(file)) => read(file)?,
        (None, None) => {
            return Err(Unusable("say what to store: TEXT, or --file FILE".to_owned()).into());
        }
    };
    if bytes.len() as u64 > STORED_BYTES_MAX {
        let remedy =
            "larger content stays where it is: `punchline discovery provide FILE` says who has it";
        return Err(Unusable(format!("at most {STORED_BYTES_MAX} bytes are stored; {remedy}")).into());
    }
    Ok(match &put.name {
        Some(name) => {
            put_request::What::Value(proto::OwnValue { name: name.clone(), bytes: bytes.into() })
        }
        None => put_request::What::Content(bytes.into()),
    })
}

fn read(file: &Path) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let opened = std::fs::File::open(file);
    let read = opened.and_then(|opened| opened.take(STORED_BYTES_MAX + 1).read_to_end(&mut bytes));
    read.map(|_| bytes).map_err(|error| Unusable(format!("--file {}: {error}", file.display())).into())
}

fn wanted(get: &cli::Get, common: &Common) -> anyhow::Result<get_request::What> {
    let Some(name) = &get.name else {
        let hash: ContentHash = get
            .of
            .parse()
            .map_err(|error| Unusable(format!("{error}; or name a peer, and its value with --name")))?;
        return Ok(get_request::What::Content(hash.to_string()));
    };
    let peer = get.of.parse().map_err(|error| Unusable(format!("`{}` is {error}", get.of)))?;
    match named(&peer, common)? {
        PeerRef::Authority(_) => Err(Unusable(format!(
            "{peer}: say the peer itself, as `discovery find-peer {peer}` prints it"
        ))
        .into()),
        peer => {
            let (peer, name) = (peer.to_string(), name.clone());
            Ok(get_request::What::Value(proto::ValueOf { peer, name }))
        }
    }
}

/// Names are those of this machine's user, and not of whichever node is asked.
fn named(peer: &PeerRef, common: &Common) -> Result<PeerRef, Unusable> {
    match peer {
        PeerRef::Name(_) => {
            let found = crate::names_file(common)?.resolve(peer);
            found.map(PeerRef::Id).map_err(|error| Unusable(error.to_string()))
        }
        peer => Ok(peer.clone()),
    }
}

/// Of a file, or as it is said.
fn hash_of(of: &Path) -> Result<ContentHash, Unusable> {
    if let Some(Ok(hash)) = of.to_str().map(str::parse) {
        return Ok(hash);
    }
    let mut hash = Sha256::new();
    let hashed =
        std::fs::File::open(of).and_then(|mut file| io::copy(&mut file, &mut Hashed(&mut hash)));
    hashed.map_err(|error| {
        Unusable(format!(
            "{}: {error}; say a file, or the 64 hexadecimal digits of a SHA-256",
            of.display()
        ))
    })?;
    Ok(ContentHash(hash.finalize().into()))
}

/// A hash as something that is written to.
struct Hashed<'a>(&'a mut Sha256);

impl io::Write for Hashed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// For people, and for programs.
type Answer = (Vec<u8>, Value);

fn say(json: bool, (text, value): Answer) -> anyhow::Result<()> {
    if json {
        return crate::print_line(&versioned(shapes::DISCOVERY, value).to_string());
    }
    // What others wrote is for a terminal only as far as it is text.
    let text = match io::stdout().is_terminal() {
        true => plain(&String::from_utf8_lossy(&text)).into_bytes(),
        false => text,
    };
    let line = if text.ends_with(b"\n") { text } else { [&text[..], b"\n"].concat() };
    io::stdout().write_all(&line).map_err(|cause| anyhow::anyhow!("cannot print the answer: {cause}"))
}

fn nodes(count: u32) -> String {
    format!("{count} {}", if count == 1 { "node" } else { "nodes" })
}

fn put_answer(name: Option<&str>, stored: &proto::Stored) -> Answer {
    let text = match (&stored.hash, name) {
        (Some(hash), _) => hash.clone(),
        (None, name) => format!("kept as `{}` by {}", name.unwrap_or_default(), nodes(stored.nodes)),
    };
    (text.into_bytes(), json!({ "nodes": stored.nodes, "hash": stored.hash }))
}

fn got_answer(got: proto::Got) -> Answer {
    let text = std::str::from_utf8(&got.value).ok();
    let hex = || got.value.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let value = json!({
        "value": text,
        "hex": text.is_none().then(hex),
        "signer": got.signer,
        "expires_seconds": got.expires_seconds,
    });
    (got.value.to_vec(), value)
}

fn provided_answer(hash: ContentHash) -> Answer {
    (hash.to_string().into_bytes(), json!({ "hash": hash.to_string() }))
}

fn providers_answer(hash: ContentHash, found: &proto::Providers) -> anyhow::Result<Answer> {
    if found.peers.is_empty() {
        anyhow::bail!("nobody says that it has what {hash} is of");
    }
    let text = found.peers.join("\n");
    Ok((text.into_bytes(), json!({ "hash": hash.to_string(), "peers": found.peers })))
}

fn contact_answer(contact: &proto::Contact) -> Answer {
    let mut text = contact.peer.clone();
    if let Some(authority) = &contact.authority {
        text += &format!(" answers for authority:{authority}");
    }
    for address in &contact.addresses {
        text += &format!("\n  {address}");
    }
    if !contact.services.is_empty() {
        text += &format!("\n  answers for {}", one_line(&contact.services.join(", ")));
    }
    if contact.addresses.is_empty() {
        text += "\n  it says no address that others reach: it is behind a router, and holds no place at a relay";
    }
    text += &format!(
        "\n  said {:.0} s ago, for {:.0} more minutes",
        contact.age_seconds,
        contact.expires_seconds / 60.0
    );
    let value = json!({
        "peer": contact.peer,
        "authority": contact.authority,
        "addresses": contact.addresses,
        "services": contact.services,
        "reach": contact.reach,
        "agent": contact.agent,
        "age_seconds": contact.age_seconds,
        "expires_seconds": contact.expires_seconds,
    });
    (text.into_bytes(), value)
}

/// One of each of the objects that are printed, with its version.
#[cfg(test)]
pub(crate) fn examples() -> Vec<(&'static str, u32, Value)> {
    let hash = ContentHash([0; 32]);
    let contact = proto::Contact {
        addresses: vec![String::new()],
        services: vec![String::new()],
        ..proto::Contact::default()
    };
    let found = proto::Providers { peers: vec![String::new()] };
    let all = [
        ("discovery-put", put_answer(Some("x"), &proto::Stored::default())),
        ("discovery-get", got_answer(proto::Got::default())),
        ("discovery-provide", provided_answer(hash)),
        ("discovery-providers", (Vec::new(), json!({ "hash": hash.to_string(), "peers": found.peers }))),
        ("discovery-find-peer", contact_answer(&contact)),
        ("discovery-delegate", delegate::answer(hash.to_string(), "", 1)),
    ];
    all.map(|(name, (_, value))| (name, shapes::DISCOVERY, versioned(shapes::DISCOVERY, value))).into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_file_is_hashed_as_others_hash_it() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"abc").unwrap();
        let hash = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hash_of(file.path()).unwrap().to_string(), hash);
        assert_eq!(hash_of(Path::new(hash)).unwrap().to_string(), hash);
        assert!(hash_of(Path::new("/nowhere")).unwrap_err().0.contains("say a file"));
    }

    #[test]
    fn what_is_no_text_is_told_in_digits() {
        let (text, value) = got_answer(proto::Got { value: vec![0xff, 0].into(), ..Default::default() });
        assert_eq!(
            (text, &value["value"], &value["hex"]),
            (vec![0xff, 0], &Value::Null, &"ff00".into())
        );
        let (_, value) = got_answer(proto::Got { value: "text".into(), ..Default::default() });
        assert_eq!((&value["value"], &value["hex"]), (&"text".into(), &Value::Null));
    }
}
