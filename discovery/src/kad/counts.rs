//! How much is asked and answered, and how long that takes. Pure: `now` is an argument.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// Latest lookups, and latest answers to pings, of which percentiles are told: some minutes of a busy node.
const SAMPLES_MAX: usize = 256;

/// Requests a second are told of the last minute.
const SPAN: Duration = Duration::from_secs(60);

/// And counted in so many parts of it.
const PARTS: u32 = 12;

/// What passes between this node and others.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Traffic {
    /// Requests of this node to others since its start: each lookup takes several.
    pub sent: u64,
    /// Requests of others that it answered.
    pub received: u64,
    /// Requests of its own, a second, in the last minute.
    pub sent_per_second: f64,
    /// And of others.
    pub received_per_second: f64,
    /// Dials that led to nobody, or to somebody else, since its start.
    pub dials_failed: u64,
    /// How long its latest lookups took; none if there was none.
    pub lookup: Option<Percentiles>,
    /// How long other nodes took to answer pings lately; none if there was none.
    pub round_trip: Option<Percentiles>,
}

/// What half, 95 and 99 of a hundred do not exceed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Percentiles {
    /// Half.
    pub median: Duration,
    /// 95 of a hundred.
    pub p95: Duration,
    /// 99 of a hundred.
    pub p99: Duration,
}

/// Counts.
#[derive(Debug, Default)]
pub(super) struct Counts {
    sent: Paced,
    received: Paced,
    dials_failed: u64,
    lookups: Samples,
    round_trips: Samples,
}

impl Counts {
    /// A query of ours is over.
    pub(super) fn asked(&mut self, requests: u32, now: Instant) {
        self.sent.add(requests.into(), now);
    }

    /// Somebody asked.
    pub(super) fn was_asked(&mut self, now: Instant) {
        self.received.add(1, now);
    }

    /// Nobody was reached.
    pub(super) fn missed(&mut self) {
        self.dials_failed += 1;
    }

    /// Something was looked for.
    pub(super) fn looked(&mut self, took: Duration) {
        self.lookups.add(took);
    }

    /// A ping was answered.
    pub(super) fn answered(&mut self, round_trip: Duration) {
        self.round_trips.add(round_trip);
    }

    /// All of it. `begun`: when this node did.
    pub(super) fn traffic(&self, begun: Instant, now: Instant) -> Traffic {
        let since = now.saturating_duration_since(begun);
        Traffic {
            sent: self.sent.total,
            received: self.received.total,
            sent_per_second: self.sent.per_second(since, now),
            received_per_second: self.received.per_second(since, now),
            dials_failed: self.dials_failed,
            lookup: self.lookups.percentiles(),
            round_trip: self.round_trips.percentiles(),
        }
    }
}

/// How often something was lately, and in all.
#[derive(Debug, Default)]
struct Paced {
    total: u64,
    /// The oldest first, each from its moment on for a part of the span.
    parts: VecDeque<(Instant, u64)>,
}

impl Paced {
    fn add(&mut self, count: u64, now: Instant) {
        self.total += count;
        match self.parts.back_mut() {
            Some((from, counted)) if now.saturating_duration_since(*from) < SPAN / PARTS => {
                *counted += count;
            }
            _ => self.parts.push_back((now, count)),
        }
        if self.parts.len() > PARTS as usize {
            self.parts.pop_front();
        }
    }

    fn per_second(&self, since: Duration, now: Instant) -> f64 {
        let is_late = |(from, _): &&(Instant, u64)| now.saturating_duration_since(*from) < SPAN;
        let count: u64 = self.parts.iter().filter(is_late).map(|(_, count)| count).sum();
        // At the start there was no minute yet.
        count as f64 / since.clamp(SPAN / PARTS, SPAN).as_secs_f64()
    }
}

/// The latest of what was measured.
#[derive(Debug, Default)]
struct Samples(VecDeque<Duration>);

impl Samples {
    fn add(&mut self, sample: Duration) {
        if self.0.len() >= SAMPLES_MAX {
            self.0.pop_front();
        }
        self.0.push_back(sample);
    }

    /// By nearest rank: each is one that was measured.
    fn percentiles(&self) -> Option<Percentiles> {
        let mut sorted: Vec<Duration> = self.0.iter().copied().collect();
        sorted.sort_unstable();
        let rank = |percent: usize| {
            let rank = (sorted.len() * percent).div_ceil(100).max(1);
            sorted.get(rank - 1).copied()
        };
        Some(Percentiles { median: rank(50)?, p95: rank(95)?, p99: rank(99)? })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn percentiles_are_of_the_latest_and_each_was_measured() {
        let (mut counts, now) = (Counts::default(), Instant::now());
        assert_eq!(counts.traffic(now, now).lookup, None);
        (0..SAMPLES_MAX).for_each(|_| counts.looked(1000 * MS));
        (1..=SAMPLES_MAX as u32).for_each(|ms| counts.looked(ms * MS));
        let found = counts.traffic(now, now).lookup.unwrap();
        assert_eq!(found, Percentiles { median: 128 * MS, p95: 244 * MS, p99: 254 * MS });
        assert_eq!(counts.lookups.0.len(), SAMPLES_MAX);
        counts.answered(7 * MS);
        let one = counts.traffic(now, now).round_trip.unwrap();
        assert_eq!((one.median, one.p99), (7 * MS, 7 * MS));
    }

    #[test]
    fn requests_a_second_are_those_of_the_last_minute_and_fill_no_memory() {
        let (mut counts, begun) = (Counts::default(), Instant::now());
        for second in 0..600 {
            counts.asked(2, begun + second * 1000 * MS);
            counts.was_asked(begun + second * 1000 * MS);
        }
        let now = begun + 599_000 * MS;
        let told = counts.traffic(begun, now);
        assert_eq!((told.sent, told.received), (1200, 600));
        assert!((1.8..=2.2).contains(&told.sent_per_second), "{told:?}");
        assert!(counts.sent.parts.len() <= PARTS as usize);
        let later = counts.traffic(begun, now + 2 * SPAN);
        assert!(later.sent_per_second.abs() < 1e-9 && later.sent == 1200, "{later:?}");
    }

    #[test]
    fn at_the_start_the_minute_is_no_longer_than_the_node_has_run() {
        let (mut counts, begun) = (Counts::default(), Instant::now());
        counts.asked(30, begun);
        let told = counts.traffic(begun, begun + 10_000 * MS);
        assert!((told.sent_per_second - 3.0).abs() < 0.1, "{told:?}");
    }
}
