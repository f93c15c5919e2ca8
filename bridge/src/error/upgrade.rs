//! Why a relayed connection did not become direct.

use std::fmt;

use libp2p::Multiaddr;
use serde::{Deserialize, Serialize, Serializer};

use crate::{
    addr::{RefusedAddresses, socket_of, transport_of},
    nat::NatKind,
    path::Transport,
};

/// Why a peer that is reached over a relay could not be reached directly.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UpgradeFailure {
    /// This node has no address to offer to the peer.
    #[error(
        "no address of ours to offer: no relay has told this node a public address, and the peer is none that it shows its private ones to"
    )]
    NoCandidateHere,
    /// Relays are reached over WebSockets, and they tell no address of ours; nothing came of the private ones.
    #[error(
        "this node reaches its relays over WebSockets alone, and so none can tell it an address to punch to; where nothing but HTTPS gets out, streams stay on the relay unless the peer is in the same network"
    )]
    WebOnly,
    /// The peer named no address.
    #[error("the peer named no address to punch to")]
    NoCandidateThere,
    /// The peer named addresses, and none of them may be dialled.
    #[error("none of the addresses that the peer named may be dialled: {refused}")]
    AllRefused {
        /// How many, by reason.
        refused: RefusedAddresses,
    },
    /// Dials were made and none went through.
    #[error(
        "no hole punch went through ({failures}); a router in between may change ports per destination, or answer unexpected packets with a reset"
    )]
    PunchFailed {
        /// How the dials of all punches failed.
        failures: DialFailures,
    },
    /// Dials were made and none went through; the two ends' public addresses have no transport and family in common.
    #[error(
        "no hole punch went through: relays see this node over {ours} alone, and the peer over {theirs} alone. Give both ends the relays' addresses over TCP and over QUIC; if they have them, something is blocked at one end"
    )]
    NothingInCommon {
        /// What we offered.
        ours: SeenOver,
        /// What the peer named.
        theirs: SeenOver,
    },
    /// As many addresses that others named were dialled as may be in an hour.
    #[error("this node has dialled as many addresses that peers named as it may in an hour: {limit}")]
    Limit {
        /// How many.
        limit: u32,
    },
    /// Neither end can know from which port the other one will come.
    #[error(
        "no hole punch is possible between these NATs: ours is {ours}; the peer's is {theirs}. A mapped port at either end would help"
    )]
    PortsChange {
        /// What this node is behind.
        ours: NatKind,
        /// What the peer is behind, as it says.
        theirs: NatKind,
    },
    /// The peer, which begins the punches, has given up.
    #[error("the peer gave up: {verdict}")]
    AtPeer {
        /// Why, as it says.
        verdict: PunchVerdict,
    },
    /// The peer does not speak the protocol.
    #[error("the peer does not do hole punching")]
    Unsupported,
    /// The peers could not agree on a punch.
    #[error("the exchange about it failed: {cause}")]
    Exchange {
        /// What was seen.
        cause: String,
    },
}

impl UpgradeFailure {
    /// Whether another try soon is of no use.
    pub(crate) fn is_final(&self) -> bool {
        match self {
            Self::Unsupported | Self::PortsChange { .. } => true,
            Self::AtPeer { verdict } => *verdict == PunchVerdict::PortsChange,
            _ => false,
        }
    }
}

/// Over which transports and families of addresses a node has public addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenOver {
    /// TCP over IPv4.
    pub tcp_v4: bool,
    /// TCP over IPv6.
    pub tcp_v6: bool,
    /// QUIC over IPv4.
    pub quic_v4: bool,
    /// QUIC over IPv6.
    pub quic_v6: bool,
}

impl SeenOver {
    pub(crate) fn of<'a>(addresses: impl IntoIterator<Item = &'a Multiaddr>) -> Self {
        let mut seen = Self::default();
        for address in addresses {
            let Some(socket) = socket_of(address) else { continue };
            match (transport_of(address), socket.is_ipv6()) {
                (Transport::Tcp, false) => seen.tcp_v4 = true,
                (Transport::Tcp, true) => seen.tcp_v6 = true,
                (Transport::Quic, false) => seen.quic_v4 = true,
                (Transport::Quic, true) => seen.quic_v6 = true,
                (Transport::Websocket, _) => {}
            }
        }
        seen
    }

    fn each(self) -> [(bool, &'static str); 4] {
        [
            (self.tcp_v4, "TCP over IPv4"),
            (self.quic_v4, "QUIC over IPv4"),
            (self.tcp_v6, "TCP over IPv6"),
            (self.quic_v6, "QUIC over IPv6"),
        ]
    }

    /// Whether both are seen over something, and over nothing that both are.
    pub(crate) fn is_apart_from(self, other: Self) -> bool {
        let neither = self == Self::default() || other == Self::default();
        let alike = self.each().iter().zip(other.each()).any(|((ours, _), (theirs, _))| *ours && theirs);
        !neither && !alike
    }
}

impl fmt::Display for SeenOver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = self.each().into_iter().filter(|(is, _)| *is).map(|(_, word)| word);
        f.write_str(&words.collect::<Vec<_>>().join(" and "))
    }
}

/// An address that was dialled in vain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tried {
    /// Where.
    pub address: Multiaddr,
    /// How the dial failed.
    pub outcome: DialOutcome,
}

/// How a dial failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DialOutcome {
    /// Nobody answered in time.
    TimedOut,
    /// Refused or reset by the host, or a router.
    Refused,
    /// No route there.
    Unreachable,
    /// Anything else, such as that somebody else answered.
    Other,
}

/// How dials to several addresses failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DialFailures {
    /// Nobody answered in time.
    pub timed_out: u32,
    /// Refused or reset by the host, or a router.
    pub refused: u32,
    /// No route there.
    pub unreachable: u32,
    /// Anything else, such as that somebody else answered.
    pub other: u32,
}

impl DialFailures {
    /// All of them together.
    pub fn total(&self) -> u32 {
        self.timed_out + self.refused + self.unreachable + self.other
    }

    pub(crate) fn count(&mut self, outcome: DialOutcome) {
        match outcome {
            DialOutcome::TimedOut => self.timed_out += 1,
            DialOutcome::Refused => self.refused += 1,
            DialOutcome::Unreachable => self.unreachable += 1,
            DialOutcome::Other => self.other += 1,
        }
    }
}

impl fmt::Display for DialFailures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { timed_out, refused, unreachable, other } = self;
        write!(
            f,
            "of {} dials {timed_out} timed out, {refused} were refused, {unreachable} found no route, {other} failed otherwise",
            self.total()
        )
    }
}

impl Serialize for UpgradeFailure {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Why the end that begins the punches has given up, as it tells the other one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum PunchVerdict {
    /// It cannot be reached, or named nothing that may be dialled.
    #[error("one of the two named no address to punch to")]
    NoCandidate,
    /// It does not dial what was named to it.
    #[error("none of the addresses that were named to it may be dialled")]
    AllRefused,
    /// No dial went through.
    #[error("no hole punch went through")]
    PunchFailed,
    /// It has dialled as much as it may.
    #[error("it has dialled as many addresses that peers named as it may in an hour")]
    Limit,
    /// The two NATs rule it out.
    #[error("no hole punch is possible between these NATs")]
    PortsChange,
    /// Anything else.
    #[error("the two could not agree on a punch")]
    Other,
}

impl PunchVerdict {
    pub(crate) fn of(reason: &UpgradeFailure) -> Self {
        match reason {
            UpgradeFailure::NoCandidateHere
            | UpgradeFailure::NoCandidateThere
            | UpgradeFailure::WebOnly => Self::NoCandidate,
            UpgradeFailure::AllRefused { .. } => Self::AllRefused,
            UpgradeFailure::PunchFailed { .. } | UpgradeFailure::NothingInCommon { .. } => {
                Self::PunchFailed
            }
            UpgradeFailure::Limit { .. } => Self::Limit,
            UpgradeFailure::PortsChange { .. } => Self::PortsChange,
            UpgradeFailure::AtPeer { .. }
            | UpgradeFailure::Unsupported
            | UpgradeFailure::Exchange { .. } => Self::Other,
        }
    }
}
