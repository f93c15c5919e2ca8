//! The number of a record.

use crate::moment::UnixTime;

/// Numbers the records that a node signs: each is higher than the one before, whatever the clock does.
///
/// The number is the time in milliseconds, or one more than the last if the clock has not moved on. So a node that lost
/// its last number is still above what it signed before, unless its clock was set back as well; then its records are
/// refused until its old ones have expired.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sequence {
    last: u64,
}

impl Sequence {
    /// Goes on after `last`, the last number that may have been used; 0 for a node that never signed.
    pub fn after(last: u64) -> Self {
        Self { last }
    }

    /// The number of the next record. Whoever signs with it must first have written it down, and begins with it after a
    /// restart. None once there is no higher one.
    pub fn next(&mut self, now: UnixTime) -> Option<u64> {
        self.last = self.last.checked_add(1)?.max(now.millis());
        Some(self.last)
    }

    /// The last number that was used.
    pub fn last(&self) -> u64 {
        self.last
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const NOON: u64 = 1_800_000_000_000;

    #[test]
    fn a_clock_that_steps_back_or_stands_still_does_not_lower_the_number() {
        let mut sequence = Sequence::default();
        let clock = [NOON, NOON, NOON - 3_600_000, NOON + 5];
        let numbers = clock.map(|now| sequence.next(UnixTime::from_millis(now)).unwrap());
        assert_eq!(numbers, [NOON, NOON + 1, NOON + 2, NOON + 5]);
    }

    #[test]
    fn a_restart_with_a_clock_set_back_goes_on_above_what_was_written_down() {
        let mut before = Sequence::default();
        let last = before.next(UnixTime::from_millis(NOON)).unwrap();
        let mut after = Sequence::after(last);
        assert_eq!(after.next(UnixTime::from_millis(0)), Some(NOON + 1));
    }

    #[test]
    fn the_highest_number_is_not_used_twice() {
        let mut sequence = Sequence::after(u64::MAX - 1);
        assert_eq!(sequence.next(UnixTime::default()), Some(u64::MAX));
        assert_eq!(sequence.next(UnixTime::default()), None);
    }
}
