//! Which words of a relay count, and how often: each makes us do something, and a relay may say it again and again.

use std::time::{Duration, Instant};

use libp2p::PeerId;

use super::{Relay, Relays};

/// A relay's word on where it sees us counts so often in [`SIGHTS_TIME`]: a node has two transports and two families of
/// addresses. Each other word would offer our peers something else, and begin their punches anew.
const SIGHTS_MAX: u32 = 8;
const SIGHTS_TIME: Duration = Duration::from_secs(10);

/// Between two times that one relay's leaving is followed.
const LEAVING_INTERVAL: Duration = Duration::from_secs(10);

impl Relays {
    /// Whether a relay that says it leaves is to be followed: it is one in use, and did not say so a moment ago, for
    /// each time makes us dial.
    pub(crate) fn may_leave(&mut self, peer: PeerId, now: Instant) -> bool {
        let Some(relay) = self.all.get_mut(&peer) else { return false };
        let again = relay.left.is_some_and(|at| now.saturating_duration_since(at) < LEAVING_INTERVAL);
        if !again {
            relay.left = Some(now);
        }
        !again
    }

    /// Whether a relay's word on where it sees us counts: it is in use, and does not say it again and again.
    pub(crate) fn may_tell_of_us(&mut self, peer: PeerId, now: Instant) -> bool {
        let Some(Relay { sights, .. }) = self.all.get_mut(&peer) else { return false };
        if now.saturating_duration_since(sights.0) >= SIGHTS_TIME {
            *sights = (now, 0);
        }
        sights.1 = sights.1.saturating_add(1);
        sights.1 <= SIGHTS_MAX
    }
}
