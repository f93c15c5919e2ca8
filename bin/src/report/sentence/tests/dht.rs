//! One event of each kind that the DHT has.

use super::*;
use crate::finding::event::{DhtEvent, VerifiedStep};

pub(super) fn of_the_dht() -> Vec<(Event, Level, &'static str)> {
    use Level::{Debug, Info, Warn};
    let namespace = || "kaspa-mainnet".to_owned();
    let there = "/ip4/203.0.113.9/tcp/4001".parse().unwrap();
    let all = [
        (
            DhtEvent::DhtListening { address: own() },
            Debug,
            "nodes of the DHT are answered on /ip4/198.51.100.4",
        ),
        (
            DhtEvent::DhtJoined { table: 12, took_ms: 340 },
            Info,
            "in the DHT after 340 ms; nodes in the table: 12",
        ),
        (bootstrap("healthy", None), Info, "the bootstrap node at /ip4/198.51.100.4/tcp/41563 answers"),
        (
            bootstrap("degraded", None),
            Info,
            "the bootstrap node at /ip4/198.51.100.4/tcp/41563 does not answer in time; others",
        ),
        (
            bootstrap("down", Some(38_200)),
            Warn,
            "the bootstrap node at /ip4/198.51.100.4/tcp/41563 does not answer since 38 s",
        ),
        (
            DhtEvent::NodeDiscovered { peer: peer(), address: there },
            Debug,
            "12D3…c6iDEp is a node of the DHT",
        ),
        (DhtEvent::RoutingTableUpdated { table: 12 }, Debug, "12 nodes of the DHT are known"),
        (
            DhtEvent::LookupCompleted { lookup: "peer", found: false, took_ms: 85, requests: 21 },
            Debug,
            "a peer was looked for in the DHT and not found",
        ),
        (DhtEvent::DataStored { nodes: 20 }, Debug, "20 nodes of the DHT keep"),
        (
            DhtEvent::DensityAlarmRaised { expected: 0.7, nodes: 1043 },
            Warn,
            "20 nodes of the DHT crowd round the place of this node's address, where 0.7 of about 1043 are",
        ),
        (DhtEvent::DensityAlarmEnded, Info, "nodes of the DHT no longer crowd"),
        (
            DhtEvent::MemberFound { namespace: namespace(), peer: peer() },
            Debug,
            "12D3…c6iDEp says that it is in",
        ),
        (
            DhtEvent::MemberLost { namespace: namespace(), peer: peer() },
            Debug,
            "12D3…c6iDEp is in `kaspa-mainnet` no more",
        ),
        (verified("pass"), Info, "discovery works: all six steps"),
        (
            verified("warn"),
            Info,
            "discovery works, with less than there could be: step 5 (directions): in relayed; open the port",
        ),
        (
            verified("fail"),
            Warn,
            "discovery does not work: step 5 (directions): in relayed; open the port",
        ),
    ];
    all.into_iter().map(|(event, level, says)| (event.into(), level, says)).collect()
}

fn verified(verdict: &'static str) -> DhtEvent {
    let step = |step, name, verdict| VerifiedStep {
        step,
        name,
        verdict,
        found: "in relayed".to_owned(),
        advice: Some("open the port".to_owned()),
    };
    let steps = vec![step(1, "table", "pass"), step(5, "directions", verdict)];
    DhtEvent::DiscoveryVerified { verdict, steps }
}

fn bootstrap(health: &'static str, silent_ms: Option<u64>) -> DhtEvent {
    DhtEvent::BootstrapChanged { address: own(), peer: Some(peer()), health, silent_ms }
}
