//! How often somebody may ask.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

/// Askers that a rate remembers. When one more comes, the one that owes least is forgotten: it would have
/// its whole allowance back soonest anyway.
const ASKERS_MAX: usize = 65_536;

/// A burst at once, then one in each interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Allowance {
    pub(super) burst: u32,
    pub(super) interval: Duration,
}

/// What each asker has used of the same allowance.
#[derive(Debug)]
pub(super) struct Rates<K> {
    allowance: Allowance,
    /// When an asker would have its whole allowance back. Without an entry: it has it.
    whole: BTreeMap<K, Instant>,
    order: BTreeSet<(Instant, K)>,
}

impl<K: Copy + Ord> Rates<K> {
    pub(super) fn new(allowance: Allowance) -> Self {
        Self { allowance, whole: BTreeMap::new(), order: BTreeSet::new() }
    }

    pub(super) fn burst(&self) -> usize {
        self.allowance.burst as usize
    }

    /// Whether `asker` may ask now; nothing is charged.
    ///
    /// # Errors
    /// How long until it may.
    pub(super) fn check(&self, asker: K, now: Instant) -> Result<(), Duration> {
        let Some(whole) = self.whole.get(&asker) else { return Ok(()) };
        let owed = whole.saturating_duration_since(now);
        let most = self.allowance.interval * (self.allowance.burst - 1);
        if owed <= most { Ok(()) } else { Err(owed - most) }
    }

    /// Charges one request.
    pub(super) fn charge(&mut self, asker: K, now: Instant) {
        self.forget(now);
        let before = self.whole.remove(&asker);
        if let Some(before) = before {
            self.order.remove(&(before, asker));
        }
        let whole = before.map_or(now, |before| before.max(now)) + self.allowance.interval;
        self.whole.insert(asker, whole);
        self.order.insert((whole, asker));
    }

    fn forget(&mut self, now: Instant) {
        while let Some((whole, asker)) = self.order.first().copied() {
            if whole > now && self.order.len() < ASKERS_MAX {
                break;
            }
            self.order.remove(&(whole, asker));
            self.whole.remove(&asker);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn rates() -> Rates<u32> {
        Rates::new(Allowance { burst: 3, interval: SECOND })
    }

    /// Asks; whether it was allowed.
    fn ask(rates: &mut Rates<u32>, asker: u32, now: Instant) -> bool {
        let allowed = rates.check(asker, now).is_ok();
        if allowed {
            rates.charge(asker, now);
        }
        allowed
    }

    #[test]
    fn a_burst_at_once_then_one_in_each_interval_and_each_asker_for_itself() {
        let (mut rates, start) = (rates(), Instant::now());
        assert_eq!((0..10).filter(|_| ask(&mut rates, 1, start)).count(), 3);
        assert_eq!(rates.check(1, start), Err(SECOND), "when to come again");
        assert_eq!((0..10).filter(|_| ask(&mut rates, 2, start)).count(), 3);
        for step in 1..=5 {
            let now = start + SECOND * step;
            assert_eq!((0..10).filter(|_| ask(&mut rates, 1, now)).count(), 1, "{step}");
        }
        let later = start + SECOND * 60;
        assert_eq!((0..10).filter(|_| ask(&mut rates, 1, later)).count(), 3);
    }

    #[test]
    fn a_refused_request_costs_nothing() {
        let (mut rates, start) = (rates(), Instant::now());
        (0..3).for_each(|_| rates.charge(1, start));
        for _ in 0..1000 {
            assert_eq!(rates.check(1, start), Err(SECOND));
        }
        assert_eq!(rates.check(1, start + SECOND), Ok(()));
    }

    #[test]
    fn who_owes_nothing_is_forgotten_and_a_full_table_forgets_who_owes_least() {
        let (mut rates, start) = (rates(), Instant::now());
        (0..3).for_each(|_| rates.charge(0, start));
        for asker in 1..=ASKERS_MAX as u32 {
            rates.charge(asker, start);
        }
        assert_eq!((rates.whole.len(), rates.order.len()), (ASKERS_MAX, ASKERS_MAX));
        assert!(rates.check(0, start).is_err(), "who owes most is remembered");
        rates.charge(7, start + SECOND * 10);
        assert_eq!((rates.whole.len(), rates.order.len()), (1, 1));
    }
}
