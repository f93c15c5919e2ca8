//! How a relay does: what its answers to our pings say, and what fails.
//!
//! ```text
//! Unknown --answer--> Healthy --a failure, or silence for SUSPECT--> Degraded --FAILURES in a row, or silence for DEAD--> Down
//!                        ^--------------------------- answer ---------------------------------------------------'
//! ```
//!
//! One that answers and refuses this node a place is degraded, until it gives it one.
//!
//! Both ends of a link ping each other, so a relay that does well is heard each `PING_INTERVAL`. One that takes connections
//! and never answers is found out by its silence; so is one that was never heard at all, from its first failure on.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use libp2p::PeerId;

use super::Relays;
use crate::{
    engine::liveness::FRESH,
    status::{Health, HealthStatus},
};

/// Answers whose time is remembered, of each relay: a minute and a half of them.
const ANSWERS_MAX: usize = 64;

/// A relay whose last answer is older is degraded: two answers are missing.
const SUSPECT: Duration = FRESH;

/// Likewise, it is down. Less than the 45 s within which that is to be known.
const DEAD: Duration = Duration::from_secs(40);

/// A relay that fails so often in a row is down, though it may have been heard a moment ago.
const FAILURES: u32 = 3;

/// What was seen of one relay.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    /// As it was said last.
    said: Health,
    /// When it was heard last; before it ever was, since when that is waited for.
    heard: Option<Instant>,
    /// It was heard.
    ever: bool,
    /// Since it was heard.
    failures: u32,
    /// It refused this node a place, and has given it none since.
    refused: bool,
    /// How long its answers took, the latest last.
    took: VecDeque<Duration>,
}

impl Pulse {
    /// It did something that only a living relay does.
    pub(super) fn heard(&mut self, now: Instant) {
        (self.heard, self.ever, self.failures) = (Some(now), true, 0);
    }

    /// It answered a ping.
    fn answered(&mut self, took: Duration, now: Instant) {
        self.heard(now);
        if self.took.len() == ANSWERS_MAX {
            self.took.pop_front();
        }
        self.took.push_back(took);
    }

    /// It gave this node a place.
    pub(super) fn granted(&mut self, now: Instant) {
        self.heard(now);
        self.refused = false;
    }

    /// It gave none: it answers, and yet serves nobody here.
    pub(super) fn refused(&mut self) {
        self.refused = true;
    }

    /// In another network nothing is known of it yet.
    pub(super) fn begin_anew(&mut self, now: Instant) {
        (self.heard, self.ever, self.failures) = (Some(now), false, 0);
    }

    /// A dial or a link failed.
    pub(super) fn failed(&mut self) {
        self.failures = self.failures.saturating_add(1);
    }

    /// For how long it was not heard; before it ever was, for how long that was waited for.
    pub(super) fn silent(&self, now: Instant) -> Duration {
        self.heard.map_or(Duration::ZERO, |heard| now.saturating_duration_since(heard))
    }

    fn health(&self, now: Instant) -> Health {
        let silent = self.silent(now);
        if self.failures >= FAILURES || silent >= DEAD {
            Health::Down
        } else if !self.ever && self.failures == 0 && !self.refused {
            Health::Unknown
        } else if self.failures > 0 || self.refused || silent >= SUSPECT {
            Health::Degraded
        } else {
            Health::Healthy
        }
    }

    /// When time alone makes it another.
    fn next_deadline(&self) -> Option<Instant> {
        match self.said {
            Health::Healthy => Some(self.heard? + SUSPECT),
            Health::Unknown | Health::Degraded => Some(self.heard? + DEAD),
            Health::Down => None,
        }
    }

    pub(super) fn status(&self, now: Instant) -> HealthStatus {
        let mut took: Vec<_> = self.took.iter().copied().collect();
        took.sort_unstable();
        // The smallest that so many of a hundred do not exceed.
        let percentile =
            |percent: usize| took.get((took.len() * percent).div_ceil(100).max(1) - 1).copied();
        HealthStatus {
            health: self.health(now),
            heard: self.heard.filter(|_| self.ever).map(|heard| now.saturating_duration_since(heard)),
            failures: self.failures,
            median: percentile(50),
            p95: percentile(95),
        }
    }
}

/// A relay does better or worse than was said before.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Changed {
    pub(crate) relay: PeerId,
    pub(crate) health: Health,
    pub(crate) was: Health,
}

impl Relays {
    /// A peer answered a ping; it may be a relay.
    pub(crate) fn answered(&mut self, peer: PeerId, took: Duration, now: Instant) {
        if let Some(relay) = self.all.get_mut(&peer) {
            relay.health.answered(took, now);
        }
    }

    /// A peer pinged us; it may be a relay.
    pub(crate) fn asked_by(&mut self, peer: PeerId, now: Instant) {
        if let Some(relay) = self.all.get_mut(&peer) {
            relay.health.heard(now);
        }
    }

    /// What is to be said. Each change is said once, and only of relays that are to hold a place for us: others come and
    /// go with the circuits that run through them.
    pub(crate) fn take_health(&mut self, now: Instant) -> Vec<Changed> {
        let mut changed = Vec::new();
        for (peer, relay) in self.all.iter_mut().filter(|(_, relay)| relay.reserve) {
            let pulse = &mut relay.health;
            pulse.heard.get_or_insert(now);
            let (health, was) = (pulse.health(now), pulse.said);
            if health != was {
                pulse.said = health;
                changed.push(Changed { relay: *peer, health, was });
            }
        }
        changed
    }

    pub(crate) fn health_deadline(&self) -> Option<Instant> {
        let wanted = self.all.values().filter(|relay| relay.reserve);
        wanted.filter_map(|relay| relay.health.next_deadline()).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn heard_once() -> (Pulse, Instant) {
        let (mut pulse, now) = (Pulse::default(), Instant::now());
        pulse.answered(20 * MS, now);
        (pulse, now)
    }

    #[test]
    fn nothing_is_known_of_a_relay_before_its_first_answer_or_failure() {
        let now = Instant::now();
        let mut pulse = Pulse { heard: Some(now), ..Pulse::default() };
        assert_eq!(pulse.health(now), Health::Unknown);
        pulse.failed();
        assert_eq!(pulse.health(now), Health::Degraded);
        pulse.answered(MS, now);
        assert_eq!(pulse.health(now), Health::Healthy);
    }

    #[test]
    fn a_relay_that_falls_silent_is_degraded_and_then_down_within_45_s() {
        let (pulse, now) = heard_once();
        assert_eq!(pulse.health(now + SUSPECT - MS), Health::Healthy);
        assert_eq!(pulse.health(now + SUSPECT), Health::Degraded);
        assert_eq!(pulse.health(now + Duration::from_secs(45)), Health::Down);
    }

    #[test]
    fn one_that_takes_connections_and_never_answers_is_down_within_45_s() {
        let now = Instant::now();
        let pulse = Pulse { heard: Some(now), ..Pulse::default() };
        assert_eq!(pulse.health(now + Duration::from_secs(45)), Health::Down);
        assert_eq!(pulse.status(now + Duration::from_secs(45)).heard, None);
    }

    #[test]
    fn a_row_of_failures_is_down_at_once_and_one_answer_makes_up_for_it() {
        let (mut pulse, now) = heard_once();
        for _ in 1..FAILURES {
            pulse.failed();
            assert_eq!(pulse.health(now), Health::Degraded);
        }
        pulse.failed();
        assert_eq!(pulse.health(now), Health::Down);
        pulse.answered(MS, now);
        assert_eq!((pulse.health(now), pulse.failures), (Health::Healthy, 0));
    }

    #[test]
    fn one_that_refuses_a_place_is_degraded_until_it_gives_one_however_often_it_answers() {
        let (mut pulse, now) = heard_once();
        for _ in 0..=FAILURES {
            pulse.refused();
            pulse.answered(MS, now);
            assert_eq!(pulse.health(now), Health::Degraded);
        }
        pulse.granted(now);
        assert_eq!(pulse.health(now), Health::Healthy);
    }

    #[test]
    fn percentiles_are_of_the_latest_answers_alone() {
        let (mut pulse, now) = heard_once();
        assert_eq!(pulse.status(now).median, Some(20 * MS));
        for took in 1..=1000 {
            pulse.answered(took * MS, now);
        }
        assert_eq!(pulse.took.len(), ANSWERS_MAX);
        let HealthStatus { median, p95, .. } = pulse.status(now);
        assert_eq!((median, p95), (Some(968 * MS), Some(997 * MS)));
        assert_eq!(Pulse::default().status(now).p95, None);
    }
}
