//! When a relay is dialled again.

use std::time::{Duration, Instant};

use libp2p::PeerId;
use rand::{RngExt, rngs::StdRng};

use super::{Link, Relays};

/// Of the time for which a relay was not heard, one such part at most passes until it is dialled again: with the rest of a dial
/// that was too early, 2 s over QUIC, a place is held again within 5 s of one that was away for a minute.
const SILENT_PARTS: u32 = 24;

/// The least and the most of that. Any wait in between is as likely: all clients of a relay lost it at the same moment.
const PROMPT: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(300);

/// A link that ends sooner was of no use.
const SHORT: Duration = Duration::from_secs(10);

/// Links to one relay that ended soon.
#[derive(Debug, Default)]
pub(super) struct Redial {
    /// In a row.
    short: u32,
}

impl Redial {
    /// The first redial is immediate: the relay may just have been restarted. One that lets us in and hangs up again and
    /// again is not to be dialled without a pause.
    pub(super) fn after_lost_link(
        &mut self,
        lasted: Duration,
        bounds: (Duration, Duration),
        jitter: &mut StdRng,
    ) -> Duration {
        self.short = if lasted < SHORT { self.short.saturating_add(1) } else { 0 };
        self.short.checked_sub(2).map_or(Duration::ZERO, |more| backoff(more, bounds, jitter))
    }
}

/// The wait after a dial that failed. `silent`: for how long the relay was not heard; `failures`: in a row, before this one.
pub(super) fn after_failed_dial(
    silent: Duration,
    failures: u32,
    bounds: (Duration, Duration),
    jitter: &mut StdRng,
) -> Duration {
    let part = silent / SILENT_PARTS;
    match part > bounds.1 {
        true => jitter.random_range(part.min(PROMPT)..=part.min(RETRY_MAX)),
        false => backoff(failures, bounds, jitter),
    }
}

/// Doubles from the first to the longest wait; the last quarter is random, so that a relay's clients
/// do not all come back in the same millisecond.
pub(super) fn backoff(
    failures: u32,
    (first, longest): (Duration, Duration),
    jitter: &mut StdRng,
) -> Duration {
    let wait = first.saturating_mul(1 << failures.min(16)).min(longest);
    wait.mul_f64(jitter.random_range(0.75..=1.0))
}

impl Relays {
    /// Those that are dialled, or asked for a place that they refused, only after a wait.
    pub(crate) fn resting(&self, now: Instant) -> Vec<PeerId> {
        let waits = |relay: &super::Relay| match relay.link {
            Link::Down { retry } => retry.is_some_and(|retry| retry > now),
            Link::Ready { .. } => relay.reserve && relay.reservation.is_put_off(now),
            Link::Dialling { .. } | Link::Identifying { .. } => false,
        };
        self.all.iter().filter(|(_, relay)| waits(relay)).map(|(peer, _)| *peer).collect()
    }

    /// Such a one does not wait.
    pub(crate) fn retry(&mut self, peer: PeerId, now: Instant) {
        let Some(relay) = self.all.get_mut(&peer) else { return };
        match &mut relay.link {
            Link::Down { retry } => *retry = Some(now),
            _ => relay.reservation.ask_now(now),
        }
    }
}
