//! `punchline network`: parts of what a node knows, one by one.

mod dht;

use libp2p::PeerId;
use serde_json::{Value, json};

use super::{ping, status::screen::round_trip, why};
use crate::{
    cli::{HolePunchTest, Ping, Plain, Question, TableSize, Why},
    control::{
        self,
        proto::{self, Found, FoundPeer, Relay, Status},
    },
    names::PeerRef,
    plain::{one_line, plain},
    shapes::{self, versioned},
    stop,
};

/// Pings of a test: a second apart, they take longer than a round of punches and the pause before the next.
const TEST_PINGS: u64 = 30;

/// Asks and prints.
///
/// # Errors
/// If no node answers, several do and none was named, or it does not know the peer.
pub(super) async fn run(question: Question) -> anyhow::Result<()> {
    match question {
        Question::NatStatus(plain) => print(plain, nat).await,
        Question::UpnpStatus(plain) => print(plain, mapped).await,
        Question::BootstrapHealth(plain) => print(plain, dht::health).await,
        Question::Peers(plain) => found(plain).await,
        Question::DhtStatus(plain) => print(plain, dht::status).await,
        Question::RoutingTableSize(TableSize { plain, buckets: false }) => {
            print(plain, dht::table).await
        }
        Question::RoutingTableSize(TableSize { plain, buckets: true }) => {
            print(plain, dht::buckets).await
        }
        Question::PeerInfo(asked) => why::run(asked).await,
        Question::HolePunchTest(test) => hole_punch_test(test).await,
    }
}

/// An answer for people, and the same for programs.
type Answer = (String, Value);

async fn print(asked: Plain, answer: fn(&Status) -> Answer) -> anyhow::Result<()> {
    let (text, json) = answer(&super::status(&asked.asking).await?);
    let json = versioned(shapes::NETWORK, json);
    crate::print_line(if asked.json { json.to_string() } else { plain(&text) }.trim_end())
}

/// # Errors
/// If no node answers, or several do and none was named.
async fn found(asked: Plain) -> anyhow::Result<()> {
    let mut node = control::ask(&asked.asking).await?;
    let answer = node.list_found(proto::ListFoundRequest {});
    let answer = tokio::select! {
        answer = answer => answer.map_err(|error| super::refused(&error))?.into_inner(),
        () = stop::told() => anyhow::bail!("told to stop before the node answered"),
    };
    let (text, json) = peers(&answer);
    let json = versioned(shapes::NETWORK, json);
    crate::print_line(if asked.json { json.to_string() } else { plain(&text) }.trim_end())
}

/// For programs.
pub(super) fn found_json(found: &Found) -> Value {
    versioned(shapes::NETWORK, peers(found).1)
}

fn peers(found: &Found) -> Answer {
    let line = |peer: &FoundPeer| {
        let name = peer.name.as_ref().map(|name| format!(" ({name})")).unwrap_or_default();
        let addresses = peer.addresses.iter().map(|address| format!("\n  {address}"));
        format!("{}{name}  {}{}", peer.peer, peer.sources.join(", "), addresses.collect::<String>())
    };
    let lines: Vec<String> = found.peers.iter().map(line).collect();
    let text = if lines.is_empty() { "this node knows no peer".to_owned() } else { lines.join("\n") };
    let of = |peer: &FoundPeer| {
        json!({
            "peer": peer.peer,
            "name": peer.name,
            "sources": peer.sources,
            "addresses": peer.addresses,
            "sought": peer.sought,
        })
    };
    (text, json!({ "peers": found.peers.iter().map(of).collect::<Vec<_>>() }))
}

#[cfg(test)]
pub(super) fn examples(status: &Status) -> Vec<(&'static str, u32, Value)> {
    let mapped_at = vec![proto::Candidate { source: "router".to_owned(), ..Default::default() }];
    let everything = FoundPeer {
        name: Some(String::new()),
        sources: vec![String::new()],
        addresses: vec![String::new()],
        ..FoundPeer::default()
    };
    let with_mapping = Status { candidates: mapped_at, ..Status::default() };
    let all = [
        ("network-nat-status", nat(status)),
        ("network-upnp-status", mapped(&with_mapping)),
        ("network-bootstrap-health", dht::health(status)),
        ("network-peers", peers(&Found { peers: vec![everything] })),
        ("network-dht-status", dht::status(status)),
        ("network-routing-table-size", dht::buckets(status)),
    ];
    let versioned = |(name, (_, json))| (name, shapes::NETWORK, versioned(shapes::NETWORK, json));
    all.into_iter().map(versioned).collect()
}

fn nat(status: &Status) -> Answer {
    let known = |nat: &str| if nat.is_empty() { "not known".to_owned() } else { nat.to_owned() };
    let mut lines =
        vec![format!("IPv4: {}", known(&status.nat)), format!("IPv6: {}", known(&status.nat_v6))];
    lines
        .extend(status.candidates.iter().map(|found| format!("  {} ({})", found.address, found.source)));
    let candidates: Vec<Value> = status.candidates.iter().map(candidate).collect();
    let json = json!({ "nat": status.nat, "nat_v6": status.nat_v6, "candidates": candidates });
    (lines.join("\n"), json)
}

fn candidate(found: &proto::Candidate) -> Value {
    json!({ "address": found.address, "source": found.source })
}

fn mapped(status: &Status) -> Answer {
    let mapped = status.candidates.iter().filter(|found| found.source == "router");
    let mapped: Vec<&str> = mapped.map(|found| found.address.as_str()).collect();
    let text = match mapped.is_empty() {
        true => "no port is forwarded: the router speaks neither UPnP nor NAT-PMP nor PCP, there is none, or \
                 --port-mapping is off"
            .to_owned(),
        false => format!("the router forwards {}", mapped.join(", ")),
    };
    (text, json!({ "mapped": mapped }))
}

fn relays(status: &Status) -> Answer {
    let line = |relay: &Relay| {
        let ping = relay.round_trip_ms.map(|ms| format!(", {}", round_trip(ms))).unwrap_or_default();
        let error = relay.last_error.as_ref().map(|error| format!(", last error: {}", one_line(error)));
        format!("{}  {}, {}{ping}{}", relay.relay, relay.health, relay.state, error.unwrap_or_default())
    };
    let lines: Vec<String> = status.relays.iter().map(line).collect();
    let text = if lines.is_empty() { "this node uses no relay".to_owned() } else { lines.join("\n") };
    let of = |relay: &Relay| {
        json!({
            "relay": relay.relay,
            "health": relay.health,
            "state": relay.state,
            "round_trip_ms": relay.round_trip_ms,
            "last_error": relay.last_error,
        })
    };
    (text, json!({ "relays": status.relays.iter().map(of).collect::<Vec<_>>() }))
}

/// # Errors
/// If the peer is not reached directly in time; the story was printed then.
async fn hole_punch_test(test: HolePunchTest) -> anyhow::Result<()> {
    let HolePunchTest { peer, asking } = test;
    let peer = match peer {
        Some(peer) => peer,
        None => PeerRef::Id(only(&super::status(&asking).await?)?),
    };
    let ping = Ping {
        peer: peer.clone(),
        asking: asking.clone(),
        count: TEST_PINGS,
        until_direct: true,
        json: false,
    };
    let outcome = ping::run(ping).await;
    why::run(Why { peer, asking, json: false }).await?;
    outcome
}

/// The peer that is meant where none is named.
fn only(status: &Status) -> anyhow::Result<PeerId> {
    let peers = |relayed: bool| {
        let peers = status.peers.iter().filter(move |peer| !relayed || peer.path == "relayed");
        peers.map(|peer| peer.peer.as_str()).collect::<Vec<_>>()
    };
    match (&peers(true)[..], &peers(false)[..]) {
        ([one], _) | (_, [one]) => Ok(one.parse()?),
        (_, []) => {
            anyhow::bail!("no peer is connected; reach one first, with `punchline forward` or `client`")
        }
        (_, several) => anyhow::bail!("say which peer: {}", several.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::control::proto::{Candidate, Peer};

    const PEERS: [&str; 2] = [
        "12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp",
        "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN",
    ];

    fn status(paths: &[&str]) -> Status {
        let peer = |(path, peer): (&&str, &str)| Peer {
            peer: peer.to_owned(),
            path: (*path).to_owned(),
            ..Peer::default()
        };
        Status { peers: paths.iter().zip(PEERS).map(peer).collect(), ..Status::default() }
    }

    #[test]
    fn the_peer_that_is_tested_is_the_only_one_or_the_only_relayed_one_or_is_asked_for() {
        assert_eq!(only(&status(&["direct"])).unwrap().to_string(), PEERS[0]);
        assert_eq!(only(&status(&["direct", "relayed"])).unwrap().to_string(), PEERS[1]);
        let both = only(&status(&["direct", "direct"])).unwrap_err().to_string();
        assert!(both.contains(PEERS[0]) && both.contains(PEERS[1]), "{both}");
        assert!(only(&status(&[])).unwrap_err().to_string().contains("no peer is connected"));
    }

    #[test]
    fn each_part_is_told_for_people_and_for_programs() {
        let mapped_at =
            Candidate { address: "/ip4/198.51.100.4/tcp/41563".to_owned(), source: "router".to_owned() };
        let relay = Relay {
            relay: PEERS[1].to_owned(),
            state: "reserved".to_owned(),
            health: "healthy".to_owned(),
            round_trip_ms: Some(20.0),
            ..Relay::default()
        };
        let status = Status {
            nat: "one port for each destination (symmetric)".to_owned(),
            candidates: vec![mapped_at],
            relays: vec![relay],
            ..Status::default()
        };
        for (answer, text, pointer, value) in [
            (nat(&status), "IPv4: one port for each", "/candidates/0/source", json!("router")),
            (
                mapped(&status),
                "forwards /ip4/198.51.100.4",
                "/mapped/0",
                json!("/ip4/198.51.100.4/tcp/41563"),
            ),
            (relays(&status), "healthy, reserved, 20 ms", "/relays/0/round_trip_ms", json!(20.0)),
        ] {
            assert!(answer.0.contains(text), "{}", answer.0);
            assert_eq!(answer.1.pointer(pointer), Some(&value));
        }
        assert!(mapped(&Status::default()).0.starts_with("no port is forwarded"));
        assert_eq!(relays(&Status::default()).0, "this node uses no relay");
    }
}
