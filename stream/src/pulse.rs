//! When anything was last heard on a connection, on whichever of its streams.

use std::{
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

/// Pulses count from here.
static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Shared by all streams of one connection. A stream that waits its turn behind a hundred others
/// hears nothing for long, and its path is alive all the same.
#[derive(Clone, Debug, Default)]
pub struct Pulse(Arc<AtomicU64>);

impl Pulse {
    /// Something was heard now, to the millisecond.
    pub fn beat(&self, now: Instant) {
        let since = now.saturating_duration_since(*BEGAN);
        let millis = since.as_secs() * 1000 + u64::from(since.subsec_millis());
        if millis > self.0.load(Relaxed) {
            self.0.fetch_max(millis, Relaxed);
        }
    }

    /// When something was last heard; none if never.
    pub fn last(&self) -> Option<Instant> {
        let millis = self.0.load(Relaxed);
        (millis > 0).then(|| *BEGAN + Duration::from_millis(millis))
    }
}

/// Two descriptions of a connection do not differ for what was heard on it.
impl PartialEq for Pulse {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Pulse {}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_pulse_is_shared_and_never_goes_back() {
        let pulse = Pulse::default();
        assert_eq!(pulse.last(), None);
        let now = *BEGAN + Duration::from_secs(5);
        pulse.clone().beat(now);
        pulse.beat(now - Duration::from_secs(1));
        assert_eq!(pulse.last(), Some(now));
    }
}
