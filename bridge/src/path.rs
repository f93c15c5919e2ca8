//! Connections and the path they take: facts that never change during a connection's life.
//!
//! Read next: [`crate::addr`], where a path is read off a multiaddr.

use std::fmt;

use libp2p::PeerId;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

pub use punchline_stream::Direction;

/// One secured, multiplexed libp2p link of this node. Unique within the process, never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub(crate) libp2p::swarm::ConnectionId);

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for ConnectionId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ConnectionId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = String::deserialize(deserializer)?.parse().map_err(D::Error::custom)?;
        Ok(Self(libp2p::swarm::ConnectionId::new_unchecked(number)))
    }
}

/// How a connection reaches the peer. Declared best first, so the minimum is the best.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Path {
    /// Nobody in between but routers.
    Direct,
    /// Through a circuit of this relay, which sees the size and time of what is sent, not its content.
    Relayed {
        /// The relay that forwards.
        relay: PeerId,
    },
}

impl Path {
    /// Whether nobody forwards for us.
    pub fn is_direct(&self) -> bool {
        *self == Self::Direct
    }

    /// The relay in the middle, if there is one.
    pub fn relay(&self) -> Option<PeerId> {
        match self {
            Self::Direct => None,
            Self::Relayed { relay } => Some(*relay),
        }
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Direct => "direct",
            Self::Relayed { .. } => "relayed",
        })
    }
}

impl Serialize for Path {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What carries a connection's packets. For a relayed one: what carries our link to the relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    /// TCP with TLS (or Noise) and Yamux.
    Tcp,
    /// QUIC version 1 over UDP.
    Quic,
    /// A WebSocket, over TLS or not, with TLS (or Noise) and Yamux in it; only to relays.
    Websocket,
}

impl Transport {
    /// The order in which the addresses of a relay are dialled: what gets through everywhere costs most.
    pub(crate) const TO_RELAYS: [Self; 3] = [Self::Tcp, Self::Quic, Self::Websocket];

    /// The place in that order.
    pub(crate) fn turn(self) -> usize {
        Self::TO_RELAYS.iter().take_while(|other| **other != self).count()
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Quic => "quic",
            Self::Websocket => "websocket",
        })
    }
}
