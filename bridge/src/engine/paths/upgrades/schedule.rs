//! When the next round of punches begins.

use std::time::{Duration, Instant};

/// Rounds in a row. By field studies 97 % of the punches that succeed do so at the first; the rest lost a race.
pub(crate) const ROUNDS_MAX: u32 = 4;

/// After the first round that failed; twice and three times as long after the next ones.
pub(crate) const ROUND_WAIT: Duration = Duration::from_millis(500);

/// After the row, single rounds follow at this distance, in multiples of the first one, while the row began less
/// than so many of them ago. With 30 s: every 30 s for 5 min, every 2 min up to half an hour, then every 10 min.
const LATER: [(u32, u32); 2] = [(10, 1), (60, 4)];
const LATER_LONGEST: u32 = 20;

/// The rounds since something last changed that makes another outcome likely.
#[derive(Clone, Copy, Debug)]
pub(super) struct Schedule {
    anew: Instant,
    /// When the latest round began.
    began: Instant,
    rounds: u32,
}

/// When a round follows one that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// As part of the row.
    Soon(Instant),
    /// The row is over.
    Later(Instant),
}

impl Schedule {
    pub(super) fn new(now: Instant) -> Self {
        Self { anew: now, began: now, rounds: 0 }
    }

    pub(super) fn round_begins(&mut self, now: Instant) {
        self.rounds = self.rounds.saturating_add(1);
        self.began = now;
    }

    /// What seemed to be a round was none.
    pub(super) fn take_back(&mut self) {
        self.rounds = self.rounds.saturating_sub(1);
    }

    /// No further round of this row is of any use.
    pub(super) fn end_row(&mut self) {
        self.rounds = self.rounds.max(ROUNDS_MAX);
    }

    /// `first`: the distance of the first rounds after the row.
    pub(super) fn next(&self, first: Duration, now: Instant) -> Next {
        if self.rounds < ROUNDS_MAX {
            return Next::Soon(now + ROUND_WAIT * self.rounds.max(1));
        }
        let age = now.saturating_duration_since(self.anew);
        let young = |(while_younger, _): &&(u32, u32)| age < first * *while_younger;
        let times = LATER.iter().find(young).map_or(LATER_LONGEST, |(_, times)| *times);
        // From the beginning of the round: how long its dials take must not make the pause longer.
        Next::Later((self.began + first * times).max(now + ROUND_WAIT))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_secs(30);
    /// How long the dials of a round take.
    const ROUND: Duration = Duration::from_secs(4);

    #[test]
    fn four_rounds_follow_each_other_and_then_single_ones_ever_more_rarely() {
        let start = Instant::now();
        let (mut schedule, mut now, mut begins) = (Schedule::new(start), start, Vec::new());
        while now < start + Duration::from_secs(7200) {
            schedule.round_begins(now);
            begins.push((now - start).as_secs_f32());
            now = match schedule.next(FIRST, now + ROUND) {
                Next::Soon(at) | Next::Later(at) => at,
            };
        }
        assert_eq!(begins[..4], [0.0, 4.5, 9.5, 15.0]);
        let gaps: Vec<f32> = begins.windows(2).map(|pair| pair[1] - pair[0]).skip(3).collect();
        assert!(gaps.is_sorted(), "{gaps:?}");
        for (gap, count) in [(30.0, 9), (120.0, 13)] {
            let found = gaps.iter().filter(|found| **found == gap).count();
            assert!(found.abs_diff(count) <= 1, "{gap} s: {found} times");
        }
        assert_eq!(gaps.last(), Some(&600.0));
    }

    #[test]
    fn a_round_whose_dials_take_long_does_not_put_the_next_one_off() {
        let start = Instant::now();
        let mut schedule = Schedule::new(start);
        schedule.end_row();
        schedule.round_begins(start);
        let late = start + Duration::from_secs(45);
        assert_eq!(schedule.next(FIRST, late), Next::Later(late + ROUND_WAIT));
        assert_eq!(schedule.next(FIRST, start + ROUND), Next::Later(start + FIRST));
    }
}
