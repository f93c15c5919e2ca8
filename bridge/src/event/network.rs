//! What networks and routers do to a node.

use std::fmt::{self, Display};

use libp2p::PeerId;
use serde::{Deserialize, Serialize, Serializer};

use crate::path::Transport;

/// What a network seems to block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blocked {
    /// UDP.
    Udp,
    /// TCP, but to the port of a WebSocket.
    Tcp,
    /// Both.
    AllButWeb,
}

impl Blocked {
    pub(crate) fn of(transports: &[Transport]) -> Self {
        match (transports.contains(&Transport::Tcp), transports.contains(&Transport::Quic)) {
            (true, true) => Self::AllButWeb,
            (false, true) => Self::Udp,
            (_, false) => Self::Tcp,
        }
    }
}

impl Display for Blocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Udp => "UDP seems to be blocked, here or at the relay: nothing goes over QUIC",
            Self::Tcp => {
                "TCP to the relay's port seems to be blocked here: only what looks like the web gets through"
            }
            Self::AllButWeb => {
                "UDP, and TCP but to the web's port, seem to be blocked here: streams stay on the relay, unless the peer \
                 is in this network"
            }
        })
    }
}

impl Serialize for Blocked {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// How a router is asked to forward a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MappingProtocol {
    /// The Port Control Protocol, RFC 6887.
    Pcp,
    /// The NAT Port Mapping Protocol, RFC 6886.
    NatPmp,
    /// UPnP's Internet Gateway Device.
    Upnp,
}

/// Why nobody comes to an address that our router forwards to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MappingFault {
    /// The router's own address is private.
    #[error(
        "the router is behind another NAT, so only hosts between the two come there; ask the provider for a public address, or use a relay"
    )]
    BehindNat,
    /// The router names no address, or one that is nobody's.
    #[error("the router names no address of its own in the internet; see whether it is connected")]
    NoAddress,
}

impl Serialize for MappingFault {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Who told us of a candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "by", rename_all = "snake_case")]
pub enum CandidateSource {
    /// The relay sees our packets come from there.
    Relay {
        /// Which relay.
        relay: PeerId,
    },
    /// Our operator states it.
    Operator,
    /// Our router forwards it to us.
    Mapping {
        /// How it was asked to.
        protocol: MappingProtocol,
    },
}

/// Who gets in at an address, as far as a dial-back of a relay proves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LetsIn {
    /// Anybody.
    Anybody,
    /// Hosts that we spoke with, as that relay is; perhaps others too. Some NATs filter so.
    WhoWasSpokenTo,
}
