//! One reservation: asked for, held, renewed in time, lapsed.
//!
//! ```text
//! ask:   At(time) --due, link ready--> Sent --granted--> At(half of the term)
//!            ^------------------------- refused (backoff, or what the relay says)
//! held:  None --granted--> until the term is over --not granted again by then--> None
//! ```

use std::time::{Duration, Instant};

use super::term::Term;
use crate::{engine::input::ReserveId, error::ReserveFailure};

/// A relay may say when to come again; an absurd time of its must not keep us away for ever.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(600);

/// The longest wait after a relay refused and did not say when to come again: it allows a few requests an
/// hour, and its places are freed at any time.
const REFUSED_WAIT_MAX: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(super) struct Reservation {
    held: Option<Held>,
    ask: Ask,
    /// Since it was last granted, those of the link included.
    failures: u32,
    /// Since it was last granted or the link came up.
    refusals: u32,
}

#[derive(Debug)]
struct Held {
    until: Instant,
    /// Why it was not renewed, so far.
    refused: Option<ReserveFailure>,
}

#[derive(Debug, PartialEq, Eq)]
enum Ask {
    At(Instant),
    Sent { request: ReserveId, deadline: Instant },
}

/// What is due.
#[derive(Debug)]
pub(super) enum Due {
    Ask,
    /// It is over. Why it was not renewed, if the relay said.
    Lapsed(Option<ReserveFailure>),
    /// Nobody answered, and nothing is held that would be lost with the link.
    Unanswered,
}

impl Reservation {
    /// None is held, and the first one is asked for as soon as the link is ready.
    pub(super) fn new(now: Instant) -> Self {
        Self { held: None, ask: Ask::At(now), failures: 0, refusals: 0 }
    }

    pub(super) fn is_held(&self) -> bool {
        self.held.is_some()
    }

    /// When it is asked for again; none while an answer is awaited.
    pub(super) fn asked_at(&self) -> Option<Instant> {
        match self.ask {
            Ask::At(at) => Some(at),
            Ask::Sent { .. } => None,
        }
    }

    /// When what is held ends, unless it is renewed.
    pub(super) fn until(&self) -> Option<Instant> {
        Some(self.held.as_ref()?.until)
    }

    /// Failures since it was last granted.
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    /// One more failure, of the link.
    pub(super) fn failed(&mut self) {
        self.failures = self.failures.saturating_add(1);
    }

    /// Failures so far were those of another network.
    pub(super) fn network_changed(&mut self) {
        self.failures = 0;
    }

    pub(super) fn is_answer(&self, to: ReserveId) -> bool {
        matches!(self.ask, Ask::Sent { request, .. } if request == to)
    }

    /// The link is gone, and what was held with it. Returns whether anything was.
    pub(super) fn link_lost(&mut self, now: Instant) -> bool {
        self.ask = Ask::At(now);
        self.refusals = 0;
        self.held.take().is_some()
    }

    pub(super) fn sent(&mut self, request: ReserveId, deadline: Instant) {
        self.ask = Ask::Sent { request, deadline };
    }

    pub(super) fn granted(&mut self, term: &Term, now: Instant) {
        self.held = Some(Held { until: now + term.lasts, refused: None });
        self.ask = Ask::At(now + term.renew_after());
        self.failures = 0;
        self.refusals = 0;
    }

    /// Asks again after the relay's time or ours, whichever is longer; `backoff` turns the longest wait into
    /// the next one.
    pub(super) fn refused(
        &mut self,
        failure: ReserveFailure,
        backoff: impl FnOnce(u32, Duration) -> Duration,
        now: Instant,
    ) {
        let told = failure.retry_after().unwrap_or_default().min(RETRY_AFTER_MAX);
        let wait = backoff(self.refusals, REFUSED_WAIT_MAX).max(told);
        self.refusals = self.refusals.saturating_add(1);
        self.failures = self.failures.saturating_add(1);
        self.ask = Ask::At(now + wait);
        if let Some(held) = &mut self.held {
            held.refused = Some(failure);
        }
    }

    /// Whether none is held, and the next is asked for only after a wait.
    pub(super) fn is_put_off(&self, now: Instant) -> bool {
        self.held.is_none() && matches!(self.ask, Ask::At(at) if at > now)
    }

    pub(super) fn ask_now(&mut self, now: Instant) {
        if self.is_put_off(now) {
            self.ask = Ask::At(now);
        }
    }

    /// What is due at `now`, with the link ready. Each thing is said once.
    pub(super) fn poll(&mut self, deadline: Duration, now: Instant) -> Option<Due> {
        if let Some(held) = self.held.take_if(|held| held.until <= now) {
            return Some(Due::Lapsed(held.refused));
        }
        match self.ask {
            Ask::At(at) if at <= now => Some(Due::Ask),
            Ask::Sent { request, deadline: over } if over <= now && self.held.is_none() => {
                self.ask = Ask::Sent { request, deadline: now + deadline };
                self.failed();
                Some(Due::Unanswered)
            }
            _ => None,
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let lapse = self.held.as_ref().map(|held| held.until);
        let ask = match self.ask {
            Ask::At(at) => Some(at),
            // While one is held it is its end that counts.
            Ask::Sent { deadline, .. } => lapse.is_none().then_some(deadline),
        };
        lapse.into_iter().chain(ask).min()
    }
}
