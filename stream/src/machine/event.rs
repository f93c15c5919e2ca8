//! What the machine tells its driver.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::{
    super::frame::{Code, Frame},
    error::{LossCause, StreamError},
};

/// A leg: one substream that carries the stream, named by the driver, never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LegId(pub u64);

/// Out of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Opener: the peer accepted the stream. If HELLO was said on more than one leg, [`Event::Moved`] comes before.
    Opened,
    /// There is something to read again, or the end of it.
    Readable,
    /// There is room to write again.
    Writable,
    /// The peer has everything, up to the FIN.
    Delivered,
    /// The stream lives on another leg now. Once at each end for each move that completes.
    Moved(Moved),
    /// Opener: a leg given to [`begin_move`](super::Machine::begin_move) was lost before it
    /// carried the stream.
    MoveFailed {
        /// The leg.
        leg: LegId,
        /// Why.
        cause: LossCause,
    },
    /// No leg is left. An opener must bring one; an acceptor can only make it easier.
    NeedPath {
        /// How the last leg was lost.
        cause: LossCause,
        /// When the stream gives up.
        until: Instant,
    },
    /// The leg is no longer used; forget it.
    DropLeg {
        /// The leg.
        leg: LegId,
        /// How.
        end: LegEnd,
    },
    /// Both ends have everything, and this one knows it. What was received stays readable.
    Finished,
    /// The stream failed; reads and writes say so from now on.
    Failed(StreamError),
    /// Nothing more will be said. The machine is kept only to be read from.
    Closed,
}

/// A completed move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moved {
    /// Where it was.
    pub from: LegId,
    /// Where it is.
    pub to: LegId,
    /// How long nothing could flow; `design/wire.md` says from when to when.
    pub gap: Duration,
    /// How the leg before was lost; `None` if it was alive.
    pub cause: Option<LossCause>,
}

/// How a driver ends a leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LegEnd {
    /// Write what was taken from the machine, close the substream, within a deadline.
    Flush,
    /// Drop it at once.
    Abort,
}

/// The last frame on a leg that does not carry a stream: the answer of a finished stream, and of
/// one that refuses a leg. An acceptor's driver keeps it as the stream's tombstone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Farewell {
    /// The stream finished; everything was received.
    Done,
    /// The stream, or the leg, is refused.
    Reset(Code),
}

impl Farewell {
    /// What to write before closing the leg.
    pub fn frame(self) -> Frame {
        match self {
            Self::Done => Frame::Done,
            Self::Reset(code) => Frame::Reset { code },
        }
    }
}
