//! `punchline dht`: a node of the 160-bit network, for others to join at, or to store and find something.

use std::net::SocketAddrV4;

use punchline_discovery::mainline::{Failed, Id, Item, Mainline, MainlineEvent, Node, RoutingTable};
use serde_json::{Value, json};
use tokio::{sync::broadcast::error::RecvError, time::timeout};

use crate::{
    Unusable,
    cli::mainline::{self as cli, What},
    plain::one_line,
    shapes::{self, versioned},
    stop,
};

/// Whether the settings are usable.
///
/// # Errors
/// If the text is too long.
pub(crate) fn check(dht: &cli::Dht) -> anyhow::Result<()> {
    if let What::Store(store) = &dht.what {
        item(&store.text)?;
    }
    crate::usable()
}

/// Starts a node, and does with it what is asked.
///
/// # Errors
/// If its port cannot be used, nobody answers, or nothing is found.
pub(crate) async fn run(dht: cli::Dht) -> anyhow::Result<()> {
    let settings = dht.what.node();
    let mut config = settings.network.config();
    let starts = matches!(dht.what, What::Start(_));
    // Whoever begins a network alone asks nobody.
    config.serves = starts;
    if !starts && !settings.network.is_named() {
        return Err(Unusable(
            "nobody to ask; say --mainline-bootstrap HOST:PORT, or --mainline-public".to_owned(),
        )
        .into());
    }
    let node = Mainline::start(config).await?;
    let done = async {
        match &dht.what {
            What::Start(_) => serve(&node, settings.json).await,
            what => ask(&node, what).await,
        }
    };
    let outcome = tokio::select! {
        outcome = done => outcome,
        () = stop::told() => Ok(()),
    };
    node.stop().await;
    outcome
}

/// Says what happens, until it is told to stop.
async fn serve(node: &Mainline, json: bool) -> anyhow::Result<()> {
    let mut events = node.events();
    let table = node.routing_table().await?;
    say(json, started(node.local_address(), &table))?;
    loop {
        match events.recv().await {
            Ok(event) => say(json, happened(&event))?,
            Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return Ok(()),
        }
    }
}

async fn ask(node: &Mainline, what: &What) -> anyhow::Result<()> {
    let json = what.node().json;
    let answer = match what {
        What::Start(_) => return Ok(()),
        What::FindNode(find) => {
            join(node, &find.joins).await?;
            nodes(&node.find_node(find.id, None).await?)
        }
        What::Store(store) => {
            join(node, &store.joins).await?;
            let item = item(&store.text)?;
            stored(item.target(), kept(node.store(item).await)?)
        }
        What::FindValue(find) => {
            join(node, &find.joins).await?;
            let found = node.find_value(find.key, find.salt.as_bytes()).await?;
            value(
                find.key,
                &found.ok_or_else(|| anyhow::anyhow!("nothing is stored under {}", find.key))?,
            )
        }
        What::Announce(announce) => {
            join(node, &announce.joins).await?;
            announced(announce.hash, kept(node.announce(announce.hash, announce.port).await)?)
        }
        What::FindPeers(find) => {
            join(node, &find.joins).await?;
            peers(&node.find_peers(find.hash).await?)
        }
    };
    say(json, answer)
}

/// Until somebody answered.
async fn join(node: &Mainline, joins: &cli::Joins) -> anyhow::Result<()> {
    let mut events = node.events();
    let joined = async {
        while node.routing_table().await?.nodes == 0 {
            let _ = events.recv().await;
        }
        Ok(())
    };
    match timeout(joins.timeout.duration(), joined).await {
        Ok(joined) => joined,
        Err(_) => anyhow::bail!(
            "nobody answered; see that a node is at the --mainline-bootstrap address, and that UDP passes to it and back"
        ),
    }
}

fn item(text: &str) -> anyhow::Result<Item> {
    Item::immutable(text.as_bytes()).map_err(|error| Unusable(error.to_string()).into())
}

fn kept(nodes: Result<usize, Failed>) -> anyhow::Result<usize> {
    match nodes? {
        0 => anyhow::bail!("no node keeps it; the nodes of this network may only ask, or have no room"),
        nodes => Ok(nodes),
    }
}

/// For people, and for programs.
type Answer = (String, Value);

fn say(json: bool, (text, value): Answer) -> anyhow::Result<()> {
    let text = if json { versioned(shapes::DHT, value).to_string() } else { text };
    match text.trim_end() {
        "" => Ok(()),
        text => crate::print_line(text),
    }
}

fn started(address: SocketAddrV4, table: &RoutingTable) -> Answer {
    let id = table.id.to_string();
    let text = format!("node {id} at {address} over UDP\n");
    (text, json!({ "event": "started", "address": address.to_string(), "id": id }))
}

fn happened(event: &MainlineEvent) -> Answer {
    match event {
        MainlineEvent::NodeDiscovered { node: Node { id, address } } => (
            format!("found node {id} at {address}\n"),
            json!({ "event": "node_discovered", "id": id.to_string(), "address": address.to_string() }),
        ),
        MainlineEvent::LookupCompleted { target, asked, answered, took } => (
            String::new(),
            json!({
                "event": "lookup_completed", "target": target.to_string(), "asked": asked, "answered": answered,
                "took_ms": took.as_millis() as u64,
            }),
        ),
        MainlineEvent::DataStored { target, nodes } => {
            let value = json!({ "event": "data_stored", "target": target.to_string(), "nodes": nodes });
            (format!("keeps something under {target}\n"), value)
        }
        MainlineEvent::RoutingTableUpdated { nodes } => (
            format!("knows {nodes} others\n"),
            json!({ "event": "routing_table_updated", "nodes": nodes }),
        ),
        // Whatever else happens is for programs that know it.
        _ => (String::new(), json!({ "event": "other" })),
    }
}

fn stored(key: Id, kept: usize) -> Answer {
    (format!("{key}\n"), json!({ "key": key.to_string(), "nodes": kept }))
}

fn value(key: Id, found: &Item) -> Answer {
    let text = String::from_utf8_lossy(found.bytes().unwrap_or(found.value()));
    (format!("{}\n", one_line(&text)), json!({ "key": key.to_string(), "value": text }))
}

fn announced(hash: Id, kept: usize) -> Answer {
    let nodes = if kept == 1 { "node" } else { "nodes" };
    (format!("announced at {kept} {nodes}\n"), json!({ "hash": hash.to_string(), "nodes": kept }))
}

fn nodes(nodes: &[Node]) -> Answer {
    let text = nodes.iter().map(|node| format!("{} {}\n", node.id, node.address)).collect();
    let node = |node: &Node| json!({ "id": node.id.to_string(), "address": node.address.to_string() });
    (text, json!({ "nodes": nodes.iter().map(node).collect::<Vec<_>>() }))
}

fn peers(peers: &[SocketAddrV4]) -> Answer {
    let text = peers.iter().map(|peer| format!("{peer}\n")).collect();
    (text, json!({ "peers": peers.iter().map(ToString::to_string).collect::<Vec<_>>() }))
}

/// One of each of the objects that are printed, with its version.
#[cfg(test)]
pub(crate) fn examples() -> Vec<(&'static str, u32, Value)> {
    let (id, address) = (Id::new([0; 20]), SocketAddrV4::new([127, 0, 0, 1].into(), 6881));
    let found = Item::Immutable { value: b"0:".to_vec() };
    let event = MainlineEvent::RoutingTableUpdated { nodes: 1 };
    let all = [
        ("dht-event", happened(&event)),
        ("dht-find-node", nodes(&[Node { id, address }])),
        ("dht-store", stored(id, 1)),
        ("dht-find-value", value(id, &found)),
        ("dht-announce", announced(id, 1)),
        ("dht-find-peers", peers(&[address])),
    ];
    all.map(|(name, (_, value))| (name, shapes::DHT, versioned(shapes::DHT, value))).into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_text_that_is_too_long_is_refused_before_anybody_is_asked() {
        assert!(item(&"x".repeat(996)).is_ok());
        assert!(item(&"x".repeat(997)).unwrap_err().is::<Unusable>());
    }
}
