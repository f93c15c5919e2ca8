//! How far away a peer is on one of its connections, by the pings on it.

use std::time::Duration;

/// Before so many pings, nobody knows: the first may have waited for a busy host.
const MEASURED: u32 = 3;

/// A stream moves for a way that is at most half as long, and shorter by this: less, a program hardly notices.
const WORTH: Duration = Duration::from_millis(20);

/// The first step of [`Distance`]; each following one goes twice as far. So a way that is half as long is always a
/// step nearer.
const STEP: Duration = Duration::from_millis(10);

/// The least round trip of a connection.
///
/// Pings wait behind what streams send, so the latest says how busy a way is, not how long. The least can only
/// fall. Hence streams do not go to and fro: to be moved back, the way that was left must prove to be half as
/// long as the one taken.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RoundTrip {
    pings: u32,
    least: Option<Duration>,
}

/// A round trip in coarse steps; what was not measured is far.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Distance(u32);

impl RoundTrip {
    /// A ping took so long. True if streams may have a reason to move.
    pub(super) fn note(&mut self, took: Duration) -> bool {
        let before = self.known();
        self.pings = self.pings.saturating_add(1);
        self.least = Some(self.least.map_or(took, |least| least.min(took)));
        self.known() != before
    }

    fn known(&self) -> Option<Duration> {
        self.least.filter(|_| self.pings >= MEASURED)
    }

    pub(super) fn is_much_nearer_than(&self, other: &Self) -> bool {
        let known = self.known().zip(other.known());
        known.is_some_and(|(ours, other)| ours.saturating_mul(2).max(ours + WORTH) <= other)
    }

    pub(super) fn distance(&self) -> Distance {
        let steps = |took: Duration| (took.as_millis() / STEP.as_millis()).checked_ilog2();
        Distance(self.known().map_or(u32::MAX, |took| steps(took).map_or(0, |step| step + 1)))
    }
}
