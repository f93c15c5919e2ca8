//! What happened on the way to a peer.

use std::time::Duration;

use libp2p::{Multiaddr, PeerId};
use punchline_bridge::{
    Event as BridgeEvent, Path,
    addr::RefusedAddresses,
    error::{CloseCause, DialFailureReason, Tried, TriedWay, UpgradeFailure},
    event::Rung,
    nat::NatKind,
    path::{Direction, Transport},
};

use crate::report::Failure;

/// One step, as far as this end saw it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Step {
    /// A connection came up.
    Connected { path: Path, direction: Direction, transport: Transport, address: Multiaddr },
    /// A connection ended.
    Disconnected { path: Path, cause: CloseCause },
    /// This end dialled a peer that it reaches only through relays.
    Dialled { rung: Rung, attempt: u32, addresses: Vec<Multiaddr> },
    /// No direct path was had.
    StayedRelayed { reason: UpgradeFailure, tried: Vec<Tried>, theirs: NatKind },
    /// A direct path was had.
    BecameDirect { transport: Transport, took: Duration, rung: Rung, theirs: NatKind },
    /// The peer named addresses that this node does not dial.
    AddressesRefused { allowed: u32, refused: RefusedAddresses },
    /// One way to the peer failed, and others did not.
    WayFailed { way: TriedWay, reason: DialFailureReason },
    /// No way led to the peer, or no stream came about.
    NotReached { failure: Failure, retry: Option<Duration> },
    /// A stream changed its path.
    Moved { from: Path, to: Path, gap_ms: f64, cause: Option<String> },
}

/// Kinds of steps that do not displace each other.
pub(crate) const TOPICS: usize = 4;

impl Step {
    pub(super) fn of(event: &BridgeEvent) -> Option<(PeerId, Self)> {
        Some(match event.clone() {
            BridgeEvent::ConnectionOpened { peer, path, direction, transport, address, .. } => {
                (peer, Self::Connected { path, direction, transport, address })
            }
            BridgeEvent::ConnectionClosed { peer, path, cause, .. } => {
                (peer, Self::Disconnected { path, cause })
            }
            BridgeEvent::UpgradeAttempted { peer, rung, attempt, addresses } => {
                (peer, Self::Dialled { rung, attempt, addresses })
            }
            BridgeEvent::UpgradeFailed { peer, reason, tried, remote_nat, .. } => {
                (peer, Self::StayedRelayed { reason, tried, theirs: remote_nat })
            }
            BridgeEvent::UpgradeSucceeded { peer, transport, took_ms, rung, remote_nat, .. } => {
                let took = Duration::from_millis(took_ms);
                (peer, Self::BecameDirect { transport, took, rung, theirs: remote_nat })
            }
            BridgeEvent::CandidatesRefused { peer, allowed, refused } => {
                (peer, Self::AddressesRefused { allowed, refused })
            }
            BridgeEvent::WayFailed { peer, way, reason } => (peer, Self::WayFailed { way, reason }),
            BridgeEvent::StreamMoved { peer, from, to, gap_ms, cause, .. } => {
                (peer, Self::Moved { from, to, gap_ms, cause })
            }
            _ => return None,
        })
    }

    pub(super) fn topic(&self) -> usize {
        match self {
            Self::Connected { .. } | Self::Disconnected { .. } => 0,
            Self::Dialled { .. }
            | Self::StayedRelayed { .. }
            | Self::BecameDirect { .. }
            | Self::AddressesRefused { .. } => 1,
            Self::WayFailed { .. } | Self::NotReached { .. } => 2,
            Self::Moved { .. } => 3,
        }
    }

    /// What the peer is behind, if this tells.
    pub(super) fn nat(&self) -> Option<NatKind> {
        match self {
            Self::StayedRelayed { theirs, .. } | Self::BecameDirect { theirs, .. } => Some(*theirs),
            _ => None,
        }
    }

    /// Whether the two are one thing that happened twice.
    pub(super) fn is_repeated_by(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::NotReached { failure, .. }, Self::NotReached { failure: other, .. }) => {
                let late = |failure: &Failure| matches!(failure, Failure::Late { .. });
                failure == other || (late(failure) && late(other))
            }
            (
                Self::Moved { from, to, cause, .. },
                Self::Moved { from: other_from, to: other_to, cause: other_cause, .. },
            ) => (from, to, cause) == (other_from, other_to, other_cause),
            (Self::WayFailed { .. } | Self::AddressesRefused { .. }, _) => self == other,
            _ => false,
        }
    }

    /// The same happened again: the longest gap counts, and the latest word on the next attempt and on what was awaited.
    pub(super) fn repeat(&mut self, other: Self) {
        match (self, other) {
            (Self::Moved { gap_ms, .. }, Self::Moved { gap_ms: other, .. }) => {
                *gap_ms = gap_ms.max(other);
            }
            (
                Self::NotReached { retry, failure },
                Self::NotReached { retry: later, failure: latest },
            ) => (*retry, *failure) = (later, latest),
            _ => {}
        }
    }
}
