//! How long acknowledgements take.

use std::time::{Duration, Instant};

/// A round trip this far above twice the shortest is queueing, not distance: a larger window
/// would lengthen the queue. The pause between the acknowledgements of the peer, and what it takes to
/// be scheduled.
const QUEUEING_SLACK: Duration = Duration::from_millis(13);

/// One sample of the time to acknowledge at a time, on the current leg.
#[derive(Debug, Default)]
pub(super) struct RoundTrip {
    probe: Option<(u64, Instant)>,
    last: Duration,
    pub(super) shortest: Option<Duration>,
}

impl RoundTrip {
    pub(super) fn sent(&mut self, end: u64, now: impl Fn() -> Instant) {
        self.probe.get_or_insert_with(|| (end, now()));
    }

    pub(super) fn acknowledged(&mut self, received: u64, now: Instant) {
        if let Some((end, at)) = self.probe
            && received >= end
        {
            self.probe = None;
            self.last = now.saturating_duration_since(at);
            self.shortest = Some(self.shortest.map_or(self.last, |s| s.min(self.last)));
        }
    }

    pub(super) fn is_queueing(&self) -> bool {
        self.shortest.is_some_and(|shortest| self.last > shortest * 2 + QUEUEING_SLACK)
    }
}
