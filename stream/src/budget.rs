//! What all streams of a process may hold together, beyond their initial windows.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

/// Default size of a [`Budget`], in bytes: sixteen streams of the largest window in one direction.
/// Less, and a few fast transfers starve the rest; more, and a small machine runs out of memory
/// before it runs out of budget.
pub const BUDGET_BYTES_DEFAULT: u64 = 256 << 20;

/// Bytes that the streams of a process share for growing their windows and send buffers.
///
/// The initial window and send buffer of a stream are not charged here: the number of streams
/// bounds those. The bound on payload memory is
/// `streams × 2 × window_initial + budget`.
///
/// Nobody gets more than a fair share: the budget divided by those who hold or want some of it. A share of
/// the budget ([`Budget::share`]) counts as one of those, however many streams it has: one for each peer, and a
/// peer with many streams has no more than a peer with one.
#[derive(Debug)]
pub struct Budget {
    limit: u64,
    used: AtomicU64,
    /// Grants, and shares in use, that hold or want some.
    holders: AtomicU64,
    /// Times that somebody with less than a fair share was refused for want of room.
    refusals: AtomicU64,
    /// The budget that this one is a share of.
    whole: Option<Arc<Budget>>,
}

/// A part of a [`Budget`], returned to it when dropped.
#[derive(Debug)]
pub(crate) struct Grant {
    budget: Arc<Budget>,
    bytes: u64,
    /// Whether it is among the budget's holders.
    holds: bool,
}

impl Budget {
    /// A budget of `limit` bytes.
    pub fn new(limit: u64) -> Arc<Self> {
        Self::part(limit, None)
    }

    /// A share of this budget, for instance a peer's: at most `limit` bytes of it.
    pub fn share(self: &Arc<Self>, limit: u64) -> Arc<Self> {
        Self::part(limit, Some(Arc::clone(self)))
    }

    fn part(limit: u64, whole: Option<Arc<Self>>) -> Arc<Self> {
        let [used, holders, refusals] = std::array::from_fn(|_| AtomicU64::new(0));
        Arc::new(Self { limit, used, holders, refusals, whole })
    }

    /// Bytes granted and not yet returned.
    pub fn used(&self) -> u64 {
        self.used.load(Relaxed)
    }

    /// Bytes that may be granted at most.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// What each of those who hold or want some may have, in bytes.
    fn fair_share(&self) -> u64 {
        let all = self.whole.as_ref().map_or(self.limit, |whole| whole.fair_share().min(self.limit));
        all / self.holders.load(Relaxed).max(1)
    }

    fn take(&self, bytes: u64) -> bool {
        let within = |used: u64| used.checked_add(bytes).filter(|sum| *sum <= self.limit);
        let room = self.used.fetch_update(Relaxed, Relaxed, within).is_ok();
        if !room {
            self.refusals.fetch_add(1, Relaxed);
            return false;
        }
        let granted = self.whole.as_ref().is_none_or(|whole| whole.take(bytes));
        if !granted {
            self.used.fetch_sub(bytes, Relaxed);
        }
        granted
    }

    fn give_back(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Relaxed);
        self.whole.iter().for_each(|whole| whole.give_back(bytes));
    }

    fn enter(&self) {
        if self.holders.fetch_add(1, Relaxed) == 0 {
            self.whole.iter().for_each(|whole| whole.enter());
        }
    }

    fn leave(&self) {
        if self.holders.fetch_sub(1, Relaxed) == 1 {
            self.whole.iter().for_each(|whole| whole.leave());
        }
    }

    fn refusals(&self) -> u64 {
        let whole = self.whole.as_ref().map_or(0, |whole| whole.refusals());
        whole.wrapping_add(self.refusals.load(Relaxed))
    }
}

impl Grant {
    pub(crate) fn empty(budget: &Arc<Budget>) -> Self {
        Self { budget: Arc::clone(budget), bytes: 0, holds: false }
    }

    /// Adds `bytes` if the budget has them and they are within a fair share, all or nothing.
    pub(crate) fn grow(&mut self, bytes: u64) -> bool {
        if !std::mem::replace(&mut self.holds, true) {
            self.budget.enter();
        }
        let fair = self.bytes.checked_add(bytes).is_some_and(|sum| sum <= self.budget.fair_share());
        let granted = fair && self.budget.take(bytes);
        if granted {
            self.bytes += bytes;
        }
        granted
    }

    /// Bytes held.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether some was asked for, granted or not, and not all of it returned.
    pub(crate) fn holds(&self) -> bool {
        self.holds
    }

    /// What may be held at most for as long as others want some, in bytes.
    pub(crate) fn fair_share(&self) -> u64 {
        self.budget.fair_share()
    }

    /// Changes whenever somebody was refused for want of room.
    pub(crate) fn refusals(&self) -> u64 {
        self.budget.refusals()
    }

    /// Returns what is held beyond `bytes`.
    pub(crate) fn shrink_to(&mut self, bytes: u64) {
        if bytes == 0 {
            return self.release();
        }
        let more = self.bytes.saturating_sub(bytes);
        self.budget.give_back(more);
        self.bytes -= more;
    }

    /// Returns everything.
    pub(crate) fn release(&mut self) {
        self.budget.give_back(std::mem::take(&mut self.bytes));
        if std::mem::take(&mut self.holds) {
            self.budget.leave();
        }
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        self.release();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_beyond_the_limit_is_refused_and_takes_nothing() {
        let budget = Budget::new(10);
        let mut first = Grant::empty(&budget);
        let mut second = Grant::empty(&budget);
        assert!(first.grow(7));
        assert!(!second.grow(4));
        assert!(!second.grow(u64::MAX));
        assert_eq!(budget.used(), 7);
    }

    #[test]
    fn a_dropped_grant_is_returned() {
        let budget = Budget::new(10);
        let mut grant = Grant::empty(&budget);
        assert!(grant.grow(10));
        drop(grant);
        assert_eq!((budget.used(), budget.fair_share()), (0, 10));
    }

    #[test]
    fn whoever_wants_some_has_a_share_of_it_and_nobody_gets_more() {
        let budget = Budget::new(100);
        let [mut greedy, mut late] = [0; 2].map(|_| Grant::empty(&budget));
        assert!(greedy.grow(100), "alone it may have all");
        assert!(!late.grow(10));
        assert_eq!((late.fair_share(), late.refusals()), (50, 1));
        greedy.shrink_to(50);
        assert!(late.grow(50) && !late.grow(1));
        assert_eq!((budget.used(), late.refusals()), (100, 1), "more than a share is nobody's loss");
        late.release();
        assert!(greedy.grow(50));
    }

    #[test]
    fn a_peer_with_many_streams_has_no_more_than_a_peer_with_one() {
        let budget = Budget::new(100);
        let [many, one] = [0; 2].map(|_| budget.share(60));
        let mut streams: Vec<_> = (0..9).map(|_| Grant::empty(&many)).collect();
        assert!(streams[0].grow(60) && !streams[0].grow(1), "a share has a limit of its own");
        streams[0].release();
        let mut alone = Grant::empty(&one);
        assert!(alone.grow(10));
        streams.iter_mut().for_each(|stream| assert!(stream.grow(5)));
        assert!(!streams[0].grow(1));
        assert!(alone.grow(40));
        assert_eq!((many.used(), one.used(), budget.used()), (45, 50, 95));
        drop((streams, alone));
        assert_eq!((budget.used(), budget.fair_share()), (0, 100));
    }
}
