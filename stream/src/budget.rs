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
#[derive(Debug)]
pub struct Budget {
    limit: u64,
    used: AtomicU64,
}

/// A part of a [`Budget`], returned to it when dropped.
#[derive(Debug)]
pub(super) struct Grant {
    budget: Arc<Budget>,
    bytes: u64,
}

impl Budget {
    /// A budget of `limit` bytes.
    pub fn new(limit: u64) -> Arc<Self> {
        Arc::new(Self { limit, used: AtomicU64::new(0) })
    }

    /// Bytes granted and not yet returned.
    pub fn used(&self) -> u64 {
        self.used.load(Relaxed)
    }

    /// Bytes that may be granted at most.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    fn take(&self, bytes: u64) -> bool {
        let within = |used: u64| used.checked_add(bytes).filter(|sum| *sum <= self.limit);
        self.used.fetch_update(Relaxed, Relaxed, within).is_ok()
    }
}

impl Grant {
    pub(super) fn empty(budget: &Arc<Budget>) -> Self {
        Self { budget: Arc::clone(budget), bytes: 0 }
    }

    /// Adds `bytes` if the budget has them, all or nothing.
    pub(super) fn grow(&mut self, bytes: u64) -> bool {
        let granted = self.budget.take(bytes);
        if granted {
            self.bytes += bytes;
        }
        granted
    }

    /// Returns everything.
    pub(super) fn release(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Relaxed);
        self.bytes = 0;
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
        assert_eq!(budget.used(), 0);
    }
}
