//! What somebody waits for who waits for a peer, or for a place at a relay.

use std::fmt;

use libp2p::PeerId;
use serde::Serialize;

use super::written::{text_of_some, ways};
use crate::{
    error::{OpenError, RelayFailure, UpgradeFailure},
    path::Path,
    service::Service,
};

/// A program of ours waits for a peer, or this node for a place at a relay, longer than is usual.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Waiting {
    /// The peer, or the relay.
    pub peer: PeerId,
    /// For so long, in milliseconds.
    pub waited_ms: u64,
    /// What for: each way that is being tried.
    pub awaits: Vec<Awaited>,
}

/// How far it is, and what comes next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "stage", rename_all = "snake_case")]
pub enum Awaited {
    /// Our link to a relay, which is dialled or has not said who it is.
    RelayLink {
        /// Which relay.
        relay: PeerId,
        /// Names in its addresses, which are looked up first.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        names: Vec<String>,
    },
    /// DNS, which is asked for the relays that a name stands for.
    Name {
        /// Which name.
        name: String,
    },
    /// The answer of a relay that was asked for a place.
    Reservation {
        /// Which relay.
        relay: PeerId,
    },
    /// The time to dial a relay, or to ask it for a place, again.
    RelayAgain {
        /// Which relay.
        relay: PeerId,
        /// Milliseconds until then.
        in_ms: u64,
        /// What failed last.
        #[serde(skip_serializing_if = "Option::is_none", serialize_with = "text_of_some")]
        cause: Option<RelayFailure>,
    },
    /// The answer of the peer's own addresses, which are dialled.
    Dial {
        /// How many.
        addresses: usize,
        /// Names in them, which are looked up first.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        names: Vec<String>,
    },
    /// A relay's word that it has connected us with the peer, and the peer's handshake.
    Circuit {
        /// Which relay.
        relay: PeerId,
    },
    /// The time to ask a relay for a circuit again: it could make none just now.
    CircuitAgain {
        /// Which relay.
        relay: PeerId,
        /// Milliseconds until then.
        in_ms: u64,
    },
    /// The word of somebody who knows where the peer is: it is looked for.
    Lookup {
        /// By what: `mdns`, `kad`, `mainline` and so on.
        by: Vec<String>,
    },
    /// The time to look for the peer again.
    NextAttempt {
        /// Milliseconds until then.
        in_ms: u64,
        /// Why the last attempt found nobody.
        #[serde(skip_serializing_if = "Option::is_none", serialize_with = "last_ways")]
        cause: Option<OpenError>,
    },
    /// The peer's answer for a stream: it is connected. It answers once the program behind the service does.
    Answer {
        /// What the stream is for.
        service: Service,
        /// How the peer is connected.
        path: Path,
    },
    /// The end of another stream with the peer.
    Room {
        /// How many there may be.
        limit: usize,
    },
    /// A direct path: the peer is reached through a relay, which is to carry no streams.
    DirectPath {
        /// How the latest attempt failed.
        #[serde(skip_serializing_if = "Option::is_none", serialize_with = "text_of_some")]
        why: Option<UpgradeFailure>,
    },
}

fn last_ways<S: serde::Serializer>(cause: &Option<OpenError>, serializer: S) -> Result<S::Ok, S::Error> {
    match cause {
        Some(error) => ways(error, serializer),
        None => serializer.serialize_none(),
    }
}

/// A clause, as in "still waiting for alice: relay bob does not answer yet".
impl fmt::Display for Awaited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RelayLink { relay, names } => {
                write!(f, "relay {relay} does not answer yet{}", looked_up(names))
            }
            Self::Name { name } => write!(f, "DNS has not answered for the relays of {name} yet"),
            Self::Reservation { relay } => {
                write!(f, "relay {relay} has not given this node a place yet")
            }
            Self::RelayAgain { relay, in_ms, cause } => {
                write!(f, "relay {relay} is tried again {}{}", soon(*in_ms), last(cause.as_ref()))
            }
            Self::Dial { addresses: 1, names } => {
                write!(f, "its address is dialled and does not answer yet{}", looked_up(names))
            }
            Self::Dial { addresses, names } => {
                write!(
                    f,
                    "its {addresses} addresses are dialled and do not answer yet{}",
                    looked_up(names)
                )
            }
            Self::Circuit { relay } => write!(f, "relay {relay} has not connected it yet"),
            Self::CircuitAgain { relay, in_ms } => {
                write!(
                    f,
                    "relay {relay} could not connect it just now and is asked again {}",
                    soon(*in_ms)
                )
            }
            Self::Lookup { by } => write!(f, "it is looked for by {}", by.join(", ")),
            Self::NextAttempt { in_ms, cause } => {
                write!(f, "it is looked for again {}{}", soon(*in_ms), last(cause.as_ref()))
            }
            Self::Answer { service, path } => write!(
                f,
                "it is connected ({path}) and has not answered for `{service}` yet; the program behind it may be slow"
            ),
            Self::Room { limit } => {
                write!(f, "all {limit} streams with it are in use, and one has to end")
            }
            Self::DirectPath { why } => write!(
                f,
                "relays are to carry no streams, and there is no direct path yet{}",
                last(why.as_ref())
            ),
        }
    }
}

fn looked_up(names: &[String]) -> String {
    match names {
        [] => String::new(),
        names => format!(" (DNS is asked for {} first)", names.join(", ")),
    }
}

fn soon(ms: u64) -> String {
    format!("in {} s", ms.div_ceil(1000))
}

fn last(cause: Option<&impl fmt::Display>) -> String {
    cause.map(|cause| format!(" (the last time: {cause})")).unwrap_or_default()
}
