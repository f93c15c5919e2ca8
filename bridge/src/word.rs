//! What the two ends of a connection tell each other beside their streams.

use std::time::Duration;

use libp2p::PeerId;
use serde::{Deserialize, Serialize};

use crate::error::PunchVerdict;

/// Peers that one [`Word::Watch`] names at most; they fit into a message.
pub(crate) const WATCHED_MAX: usize = 64;

/// Beats with this number or a higher one are pings that somebody asked for.
pub(crate) const FIRST_PING: u64 = 1 << 63;

/// One thing that a node or a relay tells the other end of a connection. Every word is a wish or a claim of
/// the one who says it; `design/control.md` says what the other end does about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Word {
    /// Keep this connection although nothing uses it, or no longer.
    Hold(bool),
    /// A relay ends its circuits within this time: make other ones.
    Leaving { within: Duration },
    /// Answer this at once, with its number.
    Beat(u64),
    /// The answer.
    Echo(u64),
    /// To a relay: tell me when one of these peers reserves a place, and if one has just left. Replaces what was said
    /// before.
    Watch(Vec<PeerId>),
    /// From a relay: this peer has a place here.
    Present(PeerId),
    /// From a relay: this peer's link to it is gone.
    Absent {
        peer: PeerId,
        /// Its system closed or reset the link, as it does when a process ends; otherwise it went silent.
        closed: bool,
    },
    /// Begin the punches anew: another outcome is likely now.
    PunchAgain,
    /// From the end that begins the punches: it has given up for now.
    PunchFailed(PunchVerdict),
    /// From a relay: it answers STUN at this UDP port, of the address that this connection leads to.
    Stun { port: u16 },
}
