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
pub(crate) struct Pulse(Arc<AtomicU64>);

impl Pulse {
    /// Something was heard now.
    pub(crate) fn beat(&self, now: Instant) {
        let micros = now.saturating_duration_since(*BEGAN).as_micros() as u64;
        self.0.fetch_max(micros, Relaxed);
    }

    /// When something was last heard; none if never.
    pub(crate) fn last(&self) -> Option<Instant> {
        let micros = self.0.load(Relaxed);
        (micros > 0).then(|| *BEGAN + Duration::from_micros(micros))
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
