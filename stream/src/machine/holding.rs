//! How long a stream keeps what it holds of the budget.
//!
//! A window or send buffer that has grown is looked at once in a while. It falls back when nothing came of it
//! for long, and under pressure (somebody with less than a fair share was refused) when it is above its own
//! fair share. Where that does not help in time, the stream is ended: it holds what others need.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::super::budget::{Budget, Grant};

/// How often what is held is looked at: a newcomer has its share a few looks after it was refused.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How long a refusal counts as pressure: a stream that wants more asks again within this time.
const PRESSURE: Duration = Duration::from_secs(5);

/// What has not been used for this long is given back, without and with pressure. If this were shorter, a
/// stream that is used in bursts would begin each burst with a small window.
const IDLE_MAX: Duration = Duration::from_secs(30);
const IDLE_UNDER_PRESSURE_MAX: Duration = Duration::from_secs(2);

/// How long a stream may be above its fair share under pressure. A reader that takes half a megabyte a
/// second has read the largest window by then.
const HOARD_MAX: Duration = Duration::from_secs(30);

/// What is held of the budget for one direction of a stream.
#[derive(Debug)]
pub(super) struct Holding {
    grant: Grant,
    /// Boxed, since most streams never hold any.
    watch: Option<Box<Watch>>,
}

/// What was seen at the last look.
#[derive(Debug)]
struct Watch {
    look_at: Instant,
    /// How far the stream was when it was seen to get on last, and when that was.
    got_to: Option<u64>,
    got_on: Instant,
    refusals: u64,
    /// When somebody was refused.
    pressed: Option<Instant>,
    over_since: Option<Instant>,
}

/// What is to become of what is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// It stays.
    Keep,
    /// So much may stay; more only as long as it is in use.
    FallTo(u64),
    /// It is above its share for too long.
    Hoards,
}

impl Holding {
    pub(super) fn new(budget: &Arc<Budget>) -> Self {
        Self { grant: Grant::empty(budget), watch: None }
    }

    /// Adds `bytes` if the budget has them, all or nothing.
    pub(super) fn grow(&mut self, bytes: u64) -> bool {
        self.grant.grow(bytes)
    }

    /// Whether more than `bytes` is held.
    pub(super) fn is_above(&self, bytes: u64) -> bool {
        self.grant.bytes() > bytes
    }

    /// Returns what is held beyond `bytes`; with 0, also the claim to a share.
    pub(super) fn shrink_to(&mut self, bytes: u64) {
        self.grant.shrink_to(bytes);
        if !self.grant.holds() {
            self.watch = None;
        }
    }

    /// When [`Holding::look`] is to be called; none while nothing is held or wanted.
    pub(super) fn look_at(&self) -> Option<Instant> {
        self.watch.as_ref().map(|watch| watch.look_at)
    }

    /// To be called after everything that may have made it grow.
    pub(super) fn arm(&mut self, now: Instant) {
        if self.grant.holds() && self.watch.is_none() {
            self.watch = Some(Box::new(Watch {
                look_at: now + LOOK_EVERY,
                got_to: None,
                got_on: now,
                refusals: self.grant.refusals(),
                pressed: None,
                over_since: None,
            }));
        }
    }

    /// Decides, once a look is due. `position` tells whether the stream gets on: bytes read, or acknowledged.
    pub(super) fn look(&mut self, position: u64, now: Instant) -> Look {
        let (fair, refusals) = (self.grant.fair_share(), self.grant.refusals());
        let held = self.grant.bytes();
        let Some(watch) = self.watch.as_mut().filter(|watch| watch.look_at <= now) else {
            return Look::Keep;
        };
        let look = watch.look(position, held, fair, refusals, now);
        if look == Look::FallTo(0) && held == 0 {
            // It wanted some, and does not use what it has.
            self.shrink_to(0);
            return Look::Keep;
        }
        look
    }
}

impl Watch {
    fn look(&mut self, position: u64, held: u64, fair: u64, refusals: u64, now: Instant) -> Look {
        self.look_at = now + LOOK_EVERY;
        if self.got_to.replace(position) != Some(position) {
            self.got_on = now;
        }
        if std::mem::replace(&mut self.refusals, refusals) != refusals {
            self.pressed = Some(now);
        }
        let since = |at: Instant| now.saturating_duration_since(at);
        let pressed = self.pressed.is_some_and(|at| since(at) < PRESSURE);
        let over = pressed && held > fair;
        self.over_since = self.over_since.or(Some(now)).filter(|_| over);
        let idle_max = if pressed { IDLE_UNDER_PRESSURE_MAX } else { IDLE_MAX };
        if self.over_since.is_some_and(|at| since(at) >= HOARD_MAX) {
            Look::Hoards
        } else if since(self.got_on) >= idle_max {
            Look::FallTo(0)
        } else if over {
            Look::FallTo(fair)
        } else {
            Look::Keep
        }
    }
}
