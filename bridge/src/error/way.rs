//! The ways to a peer that were tried.

use std::fmt;

use libp2p::Multiaddr;

use crate::addr::{RelayAddr, RelayName};

/// One way to a peer, for whoever asks which ones failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TriedWay {
    /// To these addresses.
    Direct(Vec<Multiaddr>),
    /// Through a relay.
    Relay(RelayAddr),
    /// Through the relays that this name stands for.
    RelayName(RelayName),
    /// To addresses that the peer or others named, before they were judged.
    Named,
    /// Through whatever relays.
    Relays,
    /// Where these would have said that it is: the sources of whoever finds peers.
    Lookup(Vec<String>),
}

impl fmt::Display for TriedWay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Direct(addresses) => {
                let texts: Vec<_> = addresses.iter().map(ToString::to_string).collect();
                write!(f, "direct ({})", texts.join(", "))
            }
            Self::Relay(relay) => write!(f, "through relay {relay}"),
            Self::RelayName(name) => write!(f, "through the relays named {name}"),
            Self::Named => f.write_str("addresses that the peer named"),
            Self::Relays => f.write_str("through relays"),
            Self::Lookup(by) => write!(f, "looked for by {}", by.join(", ")),
        }
    }
}
