//! What happens in the DHT, for logs, reports and tests.

use libp2p::{Multiaddr, PeerId};
use punchline_discovery::kad;
use serde::Serialize;
use tokio::sync::broadcast::{self, error::RecvError};

use crate::report::{self, Reporter};

/// What happened in the DHT. `design/events.md` shows one example of each.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum DhtEvent {
    /// It is listened on for other nodes of the DHT.
    DhtListening {
        /// Where, with the real port.
        address: Multiaddr,
    },
    /// This node has found its neighbourhood in the DHT, and says there where it is.
    DhtJoined {
        /// Peers in its table.
        table: usize,
        /// Milliseconds since it began.
        took_ms: u64,
    },
    /// A node that the DHT was joined at does otherwise than before.
    BootstrapChanged {
        /// Where it is.
        address: Multiaddr,
        /// Who it is, once that is known.
        #[serde(skip_serializing_if = "Option::is_none")]
        peer: Option<PeerId>,
        /// How it does now: `healthy`, `degraded` or `down`.
        health: &'static str,
        /// Milliseconds since it last answered a question.
        #[serde(skip_serializing_if = "Option::is_none")]
        silent_ms: Option<u64>,
    },
    /// A node of the DHT that this one did not know.
    NodeDiscovered {
        /// Who.
        peer: PeerId,
        /// Where it was reached.
        address: Multiaddr,
    },
    /// The table of nodes has another size.
    RoutingTableUpdated {
        /// How many are in it.
        table: usize,
    },
    /// A lookup is over.
    LookupCompleted {
        /// Of what: `peer`, `namespace`, `closest` or `value`.
        lookup: &'static str,
        /// Whether it was found.
        found: bool,
        /// How long it took, in milliseconds.
        took_ms: u64,
        /// Requests that it took.
        requests: u32,
    },
    /// Other nodes keep what this one says.
    DataStored {
        /// How many.
        nodes: usize,
    },
    /// The 20 nodes nearest to where others keep this node's address lie nearer than chance allows. Others are told as well.
    DensityAlarmRaised {
        /// Nodes that are expected where these 20 are.
        expected: f64,
        /// In a network of about so many.
        nodes: u64,
    },
    /// They do not any more.
    DensityAlarmEnded,
    /// Somebody says that it is a member of a namespace.
    MemberFound {
        /// Of which.
        namespace: String,
        /// Who.
        peer: PeerId,
    },
    /// Discovery was verified for the first time, or a step of it has another verdict than before.
    DiscoveryVerified {
        /// The worst of the steps: `pass`, `warn`, `fail`.
        verdict: &'static str,
        /// All six.
        steps: Vec<VerifiedStep>,
    },
    /// Nobody says so any more.
    MemberLost {
        /// Of which.
        namespace: String,
        /// Who.
        peer: PeerId,
    },
}

/// What came of a step of a verification.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VerifiedStep {
    /// From 1 to 6.
    pub step: u8,
    /// `table`, `publish`, `read`, `peers`, `directions`, `members`.
    pub name: &'static str,
    /// `pass`, `warn`, `fail`.
    pub verdict: &'static str,
    /// What was found: a sentence.
    pub found: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

/// Reports all that happens until it ends.
pub(crate) async fn tell_all(mut events: broadcast::Receiver<kad::Event>, reporter: Reporter) {
    loop {
        match events.recv().await {
            Ok(event) => reporter.report(DhtEvent::from(event)),
            // Each tells of itself; what is the case is in the status.
            Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return,
        }
    }
}

impl From<DhtEvent> for report::Event {
    fn from(event: DhtEvent) -> Self {
        Self::Dht(event)
    }
}

impl From<kad::Event> for DhtEvent {
    fn from(event: kad::Event) -> Self {
        let ms = |took: std::time::Duration| took.as_millis() as u64;
        match event {
            kad::Event::Listening { address } => Self::DhtListening { address },
            kad::Event::Joined { table, took } => Self::DhtJoined { table, took_ms: ms(took) },
            kad::Event::BootstrapChanged { address, peer, health, silent } => {
                let (health, silent_ms) = (health.name(), silent.map(ms));
                Self::BootstrapChanged { address, peer, health, silent_ms }
            }
            kad::Event::NodeDiscovered { peer, address } => Self::NodeDiscovered { peer, address },
            kad::Event::RoutingTableUpdated { table } => Self::RoutingTableUpdated { table },
            kad::Event::LookupCompleted { lookup, found, took, requests } => {
                Self::LookupCompleted { lookup: lookup.name(), found, took_ms: ms(took), requests }
            }
            kad::Event::DataStored { nodes } => Self::DataStored { nodes },
            kad::Event::DensityAlarmRaised { expected, nodes } => {
                // A digit behind the point is more than is known.
                Self::DensityAlarmRaised { expected: (expected * 10.0).round() / 10.0, nodes }
            }
            kad::Event::DensityAlarmEnded => Self::DensityAlarmEnded,
            kad::Event::MemberFound { namespace, peer } => {
                Self::MemberFound { namespace: namespace.name().to_owned(), peer }
            }
            kad::Event::MemberLost { namespace, peer } => {
                Self::MemberLost { namespace: namespace.name().to_owned(), peer }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::Value;

    use super::*;

    const PEER: &str = "12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp";

    fn examples() -> [DhtEvent; 12] {
        let (peer, namespace): (PeerId, _) = (PEER.parse().unwrap(), || "kaspa-mainnet".to_owned());
        let address: Multiaddr = "/ip4/203.0.113.7/tcp/4001".parse().unwrap();
        [
            DhtEvent::DhtListening { address: address.clone() },
            DhtEvent::DhtJoined { table: 12, took_ms: 340 },
            DhtEvent::BootstrapChanged {
                address: address.clone(),
                peer: Some(peer),
                health: "down",
                silent_ms: Some(38_200),
            },
            DhtEvent::NodeDiscovered { peer, address },
            DhtEvent::RoutingTableUpdated { table: 12 },
            DhtEvent::LookupCompleted { lookup: "peer", found: true, took_ms: 85, requests: 21 },
            DhtEvent::DataStored { nodes: 20 },
            DhtEvent::DensityAlarmRaised { expected: 0.7, nodes: 1043 },
            DhtEvent::DensityAlarmEnded,
            DhtEvent::MemberFound { namespace: namespace(), peer },
            DhtEvent::MemberLost { namespace: namespace(), peer },
            DhtEvent::DiscoveryVerified { verdict: "warn", steps: steps() },
        ]
    }

    fn steps() -> Vec<VerifiedStep> {
        let pass = |step, name, found: &str| {
            let found = found.to_owned();
            VerifiedStep { step, name, verdict: "pass", found, advice: None }
        };
        let directions = VerifiedStep {
            verdict: "warn",
            advice: Some("nobody is told an address that leads here directly".to_owned()),
            ..pass(5, "directions", "out direct, in relayed")
        };
        vec![
            pass(1, "table", "5 nodes in the table, 5 answered"),
            pass(2, "publish", "5 nodes keep what this node says, 5 where it is"),
            pass(3, "read", "a stranger reads the same bytes from 5 nodes"),
            pass(4, "peers", "6 peers: 1 by connected, 5 by kad"),
            directions,
            pass(
                6,
                "members",
                "a stranger finds this node in a namespace of its own, for the trial: 5 of 5 nodes tell of it",
            ),
        ]
    }

    #[test]
    fn every_event_of_the_dht_stands_in_the_document_as_it_is_written() {
        let document = include_str!("../../../design/events.md");
        let documented = document.lines().filter(|line| line.starts_with('{'));
        let documented: Vec<Value> = documented
            .map(|line| {
                let mut value: Value = serde_json::from_str(line).unwrap();
                value.as_object_mut().unwrap().remove("ts");
                value
            })
            .collect();
        for event in examples() {
            let written = serde_json::to_value(&event).unwrap();
            assert!(documented.contains(&written), "not in design/events.md: {written}");
        }
    }
}
