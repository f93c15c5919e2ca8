//! How long packets wait on a line, and which are lost: decided here, without a clock.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

/// A router's line to the internet, alike in both directions. The default one does nothing to a packet.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Line {
    /// How long every packet takes.
    pub delay: Duration,
    /// How much longer a packet may take, at random. Packets do not overtake each other.
    pub jitter: Duration,
    /// How many packets of a thousand are lost, at random.
    pub loss_permille: u16,
}

/// What is under way in one direction of a line.
#[derive(Debug)]
pub(super) struct Direction {
    line: Line,
    random: StdRng,
    under_way: VecDeque<(Instant, Vec<u8>)>,
}

impl Direction {
    /// A direction on which nothing is under way; `seed` decides what will be lost.
    pub(super) fn new(line: Line, seed: u64) -> Self {
        Self { line, random: StdRng::seed_from_u64(seed), under_way: VecDeque::new() }
    }

    /// Takes a frame that enters the line `now`; loses it where it must, or where too many are under way.
    pub(super) fn enter(&mut self, frame: Vec<u8>, now: Instant) {
        let lost = self.random.random_range(0..1000) < self.line.loss_permille;
        let jitter = self.random.random_range(Duration::ZERO..=self.line.jitter);
        if lost || self.under_way.len() >= FRAMES_MAX {
            return;
        }
        let due = now + self.line.delay + jitter;
        let last = self.under_way.back().map_or(due, |(last, _)| *last);
        self.under_way.push_back((due.max(last), frame));
    }

    /// When the next frame leaves the line.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.under_way.front().map(|(due, _)| *due)
    }

    /// A frame that has left the line by `now`.
    pub(super) fn leave(&mut self, now: Instant) -> Option<Vec<u8>> {
        self.next_due().filter(|due| *due <= now)?;
        self.under_way.pop_front().map(|(_, frame)| frame)
    }
}

/// The most frames under way in one direction, as in a router with a large buffer: 100 Mbit/s for 500 ms.
const FRAMES_MAX: usize = 4_096;

#[cfg(test)]
mod tests {
    use super::*;

    fn line(delay: u64, jitter: u64, loss_permille: u16) -> Direction {
        let (delay, jitter) = (Duration::from_millis(delay), Duration::from_millis(jitter));
        Direction::new(Line { delay, jitter, loss_permille }, 7)
    }

    #[test]
    fn a_frame_leaves_after_the_delay_and_not_before() {
        let start = Instant::now();
        let mut line = line(20, 0, 0);
        line.enter(vec![1], start);
        assert_eq!(line.leave(start + Duration::from_micros(19_999)), None);
        assert_eq!(line.next_due(), Some(start + Duration::from_millis(20)));
        assert_eq!(line.leave(start + Duration::from_millis(20)), Some(vec![1]));
        assert_eq!(line.next_due(), None);
    }

    #[test]
    fn jitter_varies_the_delay_and_keeps_the_order() {
        let start = Instant::now();
        let mut line = line(20, 10, 0);
        (0..100).for_each(|frame| line.enter(vec![frame], start));
        let first = line.next_due().map(|due| due - start);
        assert!(first.is_some_and(|first| first >= Duration::from_millis(20)));
        let end = start + Duration::from_millis(30);
        let order: Vec<_> = std::iter::from_fn(|| line.leave(end)).flatten().collect();
        assert_eq!(order, (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn about_as_many_are_lost_as_were_to_be() {
        let start = Instant::now();
        let mut line = line(0, 0, 100);
        (0..2_000).for_each(|_| line.enter(Vec::new(), start));
        let arrived = std::iter::from_fn(|| line.leave(start)).count();
        assert!((1_700..1_900).contains(&arrived), "{arrived}");
    }

    #[test]
    fn frames_beyond_the_limit_are_lost() {
        let start = Instant::now();
        let mut line = line(20, 0, 0);
        (0..=FRAMES_MAX).for_each(|_| line.enter(Vec::new(), start));
        assert_eq!(std::iter::from_fn(|| line.leave(start + line.line.delay)).count(), FRAMES_MAX);
    }
}
