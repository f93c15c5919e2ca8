//! What can go wrong with a stream, and whose fault it is.

use std::{io, time::Duration};

use super::super::frame::{Code, FrameError, Kind};

/// Why a stream failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// The peer answered HELLO with a refusal.
    #[error("the peer refused the stream: {code:?}")]
    Refused {
        /// Its reason.
        code: Code,
    },
    /// The peer ended the stream.
    #[error("the peer reset the stream: {code:?}")]
    PeerReset {
        /// Its reason.
        code: Code,
    },
    /// This end ended the stream.
    #[error("the stream was reset here: {code:?}")]
    Reset {
        /// The reason given.
        code: Code,
    },
    /// The peer misbehaved, and the stream was reset for it.
    #[error("the peer broke the protocol: {0}")]
    Violation(#[from] Violation),
    /// No path came back in time.
    #[error("no path to the peer for {} s; the last one was lost: {cause}", waited.as_secs())]
    NoPath {
        /// How the last leg was lost.
        cause: LossCause,
        /// How long we waited: the patience.
        waited: Duration,
    },
    /// Written to after [`finish`](super::Machine::finish).
    #[error("the stream was finished here; nothing more can be written")]
    Finished,
}

/// How a leg was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LossCause {
    /// The substream ended without the words that end a stream.
    #[error("the substream ended")]
    Ended,
    /// The substream failed.
    #[error("the substream failed: {0}")]
    Io(io::ErrorKind),
    /// The connection under it was closed.
    #[error("the connection was closed")]
    ConnectionClosed,
    /// Something was unacknowledged and nothing at all came.
    #[error("nothing was heard for {} ms", waited.as_millis())]
    Silent {
        /// For how long.
        waited: Duration,
    },
    /// HELLO or MOVE was not answered.
    #[error("no answer for {} ms", waited.as_millis())]
    Unanswered {
        /// For how long.
        waited: Duration,
    },
    /// The peer refused the leg: [`Code::Stale`] or [`Code::Busy`].
    #[error("the peer refused the leg: {code:?}")]
    Refused {
        /// Its reason.
        code: Code,
    },
}

/// How a peer broke the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// What came is no frame.
    #[error(transparent)]
    Malformed(#[from] FrameError),
    /// A frame that must not be said here or now.
    #[error("{kind:?} must not be said here")]
    Unexpected {
        /// Its kind.
        kind: Kind,
    },
    /// DATA or FIN that leaves a hole.
    #[error("offset {offset} leaves a hole after {received}")]
    Hole {
        /// Where the frame starts.
        offset: u64,
        /// First offset not received.
        received: u64,
    },
    /// DATA beyond the limit.
    #[error("{length} bytes at {offset} are beyond the limit {limit}")]
    BeyondLimit {
        /// Where they start.
        offset: u64,
        /// How many.
        length: u64,
        /// The limit that was given.
        limit: u64,
    },
    /// FIN and payload, or two FINs, contradict each other.
    #[error("the size was {size} and is now {offset}")]
    FinalSize {
        /// The size that was said or received.
        size: u64,
        /// What the frame says.
        offset: u64,
    },
    /// An acknowledgement of what was never sent.
    #[error("{received} cannot be received: {sent} were sent")]
    Acknowledged {
        /// What the frame says.
        received: u64,
        /// What was ever sent.
        sent: u64,
    },
    /// A limit that cannot be: below what was received, or in BLOCKED above what was given.
    #[error("{limit} cannot be a limit here")]
    Limit {
        /// What the frame says.
        limit: u64,
    },
    /// An answer to another HELLO or MOVE.
    #[error("epoch {epoch} was answered, {expected} was asked")]
    Epoch {
        /// What the frame says.
        epoch: u32,
        /// What was asked.
        expected: u32,
    },
}

/// Why a stream does not move to a leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MoveError {
    /// Only the end that opened a stream moves it.
    #[error("only the opener of a stream may move it")]
    NotOpener,
    /// There is nothing left to carry.
    #[error("the stream is over")]
    Closed,
    /// It moved more than four billion times.
    #[error("the stream moved too often")]
    EpochsExhausted,
}

impl Violation {
    /// What the peer is told.
    pub fn code(&self) -> Code {
        match self {
            Self::Malformed(FrameError::Version(_)) => Code::VersionUnsupported,
            Self::BeyondLimit { .. } => Code::FlowControl,
            Self::FinalSize { .. } => Code::FinalSize,
            _ => Code::Protocol,
        }
    }
}
