//! How long packets wait on a line, and which are lost: decided here, without a clock.

use std::collections::VecDeque;
use std::num::NonZeroU64;
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
    /// How many bytes a second the line takes, frames whole; none for any number. What comes faster waits in a queue, up
    /// to 100 ms of that rate, or 32 KiB if that is more; what does not fit is lost.
    pub rate: Option<NonZeroU64>,
}

impl Line {
    /// How long the line is busy with so many bytes.
    fn busy_with(&self, bytes: usize) -> Duration {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let nanos = |rate: NonZeroU64| bytes.saturating_mul(1_000_000_000) / rate;
        self.rate.map(nanos).map_or(Duration::ZERO, Duration::from_nanos)
    }

    /// How long a frame waits at most until the line is free for it.
    fn queue(&self) -> Duration {
        self.busy_with(QUEUE_BYTES_MIN).max(QUEUE_TIME)
    }
}

/// What is under way in one direction of a line.
#[derive(Debug)]
pub(super) struct Direction {
    line: Line,
    random: StdRng,
    /// When the line has taken all frames that have come so far; none before the first.
    free: Option<Instant>,
    under_way: VecDeque<(Instant, Vec<u8>)>,
}

impl Direction {
    /// A direction on which nothing is under way; `seed` decides what will be lost.
    pub(super) fn new(line: Line, seed: u64) -> Self {
        Self { line, random: StdRng::seed_from_u64(seed), free: None, under_way: VecDeque::new() }
    }

    /// Takes a frame that enters the line `now`; loses it where it must, where the queue is full, or where too many are
    /// under way.
    pub(super) fn enter(&mut self, frame: Vec<u8>, now: Instant) {
        let lost = self.random.random_range(0..1000) < self.line.loss_permille;
        let jitter = self.random.random_range(Duration::ZERO..=self.line.jitter);
        if lost || self.under_way.len() >= FRAMES_MAX {
            return;
        }
        let begins = self.free.map_or(now, |free| free.max(now));
        let taken = begins + self.line.busy_with(frame.len());
        // What no other frame is before never waits, however slow the line is.
        if begins > now && taken - now > self.line.queue() {
            return;
        }
        self.free = Some(taken);
        let due = taken + self.line.delay + jitter;
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

/// What waits for a line with a rate: as in a usual home router, a tenth of a second, and some twenty frames at least,
/// or a slow line would lose most of what two machines say at once.
const QUEUE_TIME: Duration = Duration::from_millis(100);
const QUEUE_BYTES_MIN: usize = 32 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn line(delay: u64, jitter: u64, loss_permille: u16) -> Direction {
        let (delay, jitter) = (Duration::from_millis(delay), Duration::from_millis(jitter));
        Direction::new(Line { delay, jitter, loss_permille, rate: None }, 7)
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

    /// A line that takes so many bytes a second, and delays by 20 ms.
    fn slow(rate: u64) -> Direction {
        let delay = Duration::from_millis(20);
        Direction::new(Line { delay, rate: NonZeroU64::new(rate), ..Line::default() }, 7)
    }

    /// How many milliseconds after `start` frames leave.
    fn departures(line: &mut Direction, start: Instant) -> Vec<u128> {
        let mut departures = Vec::new();
        while let Some(due) = line.next_due() {
            departures.push((due - start).as_millis());
            line.leave(due);
        }
        departures
    }

    #[test]
    fn frames_leave_no_faster_than_the_rate_and_an_idle_line_saves_nothing_up() {
        let start = Instant::now();
        let mut line = slow(100_000);
        (0..3).for_each(|_| line.enter(vec![0; 1_000], start));
        assert_eq!(departures(&mut line, start), [30, 40, 50]);
        let later = start + Duration::from_secs(60);
        (0..3).for_each(|_| line.enter(vec![0; 500], later));
        assert_eq!(departures(&mut line, later), [25, 30, 35]);
    }

    #[test]
    fn what_does_not_fit_into_the_queue_is_lost_and_room_comes_back_at_the_rate() {
        let start = Instant::now();
        // 100 ms of it are 100 frames.
        let mut line = slow(1_000_000);
        (0..150).for_each(|_| line.enter(vec![0; 1_000], start));
        assert_eq!(line.under_way.len(), 100);
        let later = start + Duration::from_millis(10);
        (0..150).for_each(|_| line.enter(vec![0; 1_000], later));
        assert_eq!(line.under_way.len(), 110);
    }

    #[test]
    fn a_slow_line_has_room_for_32_kib_and_the_slowest_still_carries_one_frame_after_another() {
        let start = Instant::now();
        let mut line = slow(1_000);
        (0..150).for_each(|_| line.enter(vec![0; 1_024], start));
        assert_eq!(line.under_way.len(), 32);
        let mut line = slow(1);
        line.enter(vec![0; 65_536], start);
        assert_eq!(line.under_way.len(), 1);
    }

    #[test]
    fn frames_beyond_the_limit_are_lost() {
        let start = Instant::now();
        let mut line = line(20, 0, 0);
        (0..=FRAMES_MAX).for_each(|_| line.enter(Vec::new(), start));
        assert_eq!(std::iter::from_fn(|| line.leave(start + line.line.delay)).count(), FRAMES_MAX);
    }
}
