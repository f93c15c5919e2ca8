//! Why an open failed, in one word: to count by.

use super::OpenError;

/// Why no stream to a peer could be opened, without the details.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OpenFailure {
    /// Nobody told us where the peer is.
    NoAddress,
    /// The peer is this node.
    Myself,
    /// Every way to the peer failed.
    Unreachable,
    /// The peer does not speak our protocol.
    Unsupported,
    /// The peer turned the stream away.
    Refused,
    /// The connection ended meanwhile.
    ConnectionLost,
    /// Nothing came of it in time.
    Deadline,
    /// A limit of this node: opens under way, or streams of one peer.
    Limit,
    /// The ticket is too long.
    Ticket,
    /// The peer was reached through a relay only, which is not to carry streams.
    NotDirect,
    /// The node has ended.
    Shutdown,
}

impl OpenError {
    /// The kind of it.
    pub fn kind(&self) -> OpenFailure {
        match self {
            Self::NoAddress { .. } => OpenFailure::NoAddress,
            Self::Myself { .. } => OpenFailure::Myself,
            Self::NoRouteToDestination { .. } => OpenFailure::Unreachable,
            Self::Unsupported { .. } => OpenFailure::Unsupported,
            Self::Refused { .. } => OpenFailure::Refused,
            Self::ConnectionLost { .. } => OpenFailure::ConnectionLost,
            Self::Deadline { .. } => OpenFailure::Deadline,
            Self::Busy { .. } | Self::StreamsOfPeer { .. } => OpenFailure::Limit,
            Self::Ticket { .. } => OpenFailure::Ticket,
            Self::NotDirect { .. } => OpenFailure::NotDirect,
            Self::Shutdown => OpenFailure::Shutdown,
        }
    }
}
