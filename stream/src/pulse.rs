//! When anything was last heard on a connection, on whichever of its streams, and whether streams use it.

use std::{
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use futures::task::AtomicWaker;

/// Pulses count from here.
static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Shared by all streams of one connection. A stream that waits its turn behind a hundred others
/// hears nothing for long, and its path is alive all the same.
#[derive(Clone, Debug, Default)]
pub struct Pulse(Arc<Beats>);

#[derive(Debug, Default)]
struct Beats {
    heard: Beat,
    used: Beat,
    rests: AtomicWaker,
}

/// A moment, to the millisecond; 0: never.
#[derive(Debug, Default)]
struct Beat(AtomicU64);

impl Pulse {
    /// Something was heard now, to the millisecond.
    pub fn beat(&self, now: Instant) {
        self.0.heard.now(now);
    }

    /// A stream heard something now, which is a beat too. Whoever waits in [`Pulse::poll_used`] is woken.
    pub fn used(&self, now: Instant) {
        self.0.heard.now(now);
        self.0.used.now(now);
        self.0.rests.wake();
    }

    /// When something was last heard; none if never.
    pub fn last(&self) -> Option<Instant> {
        self.0.heard.last()
    }

    /// When a stream last heard something; none if none has.
    pub fn last_used(&self) -> Option<Instant> {
        self.0.used.last()
    }

    /// Waits until a stream has heard something after `since`. One task at a time.
    pub fn poll_used(&self, cx: &Context<'_>, since: Instant) -> Poll<()> {
        self.0.rests.register(cx.waker());
        match self.last_used() {
            Some(used) if used > since => Poll::Ready(()),
            _ => Poll::Pending,
        }
    }
}

impl Beat {
    fn now(&self, now: Instant) {
        let since = now.saturating_duration_since(*BEGAN);
        let millis = since.as_secs() * 1000 + u64::from(since.subsec_millis());
        if millis > self.0.load(Relaxed) {
            self.0.fetch_max(millis, Relaxed);
        }
    }

    fn last(&self) -> Option<Instant> {
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
    use std::task::{Wake, Waker};

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

    #[test]
    fn whoever_waits_for_use_is_woken_by_a_stream_and_not_by_a_ping() {
        let (pulse, wakes) = (Pulse::default(), Arc::new(Wakes::default()));
        let waker = Waker::from(Arc::clone(&wakes));
        let (cx, now) = (Context::from_waker(&waker), *BEGAN + Duration::from_secs(5));
        assert!(pulse.poll_used(&cx, now).is_pending());
        let later = now + Duration::from_secs(1);
        pulse.beat(later);
        assert_eq!((wakes.0.load(Relaxed), pulse.last_used()), (0, None));
        pulse.used(later);
        assert_eq!(
            (wakes.0.load(Relaxed), pulse.last_used(), pulse.last()),
            (1, Some(later), Some(later))
        );
        assert!(pulse.poll_used(&cx, now).is_ready());
        assert!(pulse.poll_used(&cx, later).is_pending(), "what was before does not count");
    }

    #[derive(Default)]
    struct Wakes(AtomicU64);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }
}
