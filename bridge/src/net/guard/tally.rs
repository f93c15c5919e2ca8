//! Counts those who are not answered, and says so at a pace: refusing must not cost more than asking. Pure.

use std::time::{Duration, Instant};

/// Between two times that it is said.
const INTERVAL: Duration = Duration::from_secs(1);

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct Tally {
    said: Option<Instant>,
    unsaid: u64,
}

impl Tally {
    pub(super) fn count(&mut self) {
        self.unsaid += 1;
    }

    /// When [`take`](Self::take) gives something next, if anything is counted.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        (self.unsaid > 0).then(|| self.said.map_or(now, |said| said + INTERVAL))
    }

    /// How many there were since it was said last, if it is to be said now.
    pub(super) fn take(&mut self, now: Instant) -> Option<u64> {
        self.due(now).filter(|due| *due <= now)?;
        self.said = Some(now);
        Some(std::mem::take(&mut self.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_said_at_once_and_a_crowd_once_a_second_and_none_is_lost() {
        let (mut tally, start) = (Tally::default(), Instant::now());
        assert_eq!((tally.due(start), tally.take(start)), (None, None));
        let mut said = Vec::new();
        for step in 0..100_000 {
            tally.count();
            said.extend(tally.take(start + Duration::from_micros(100) * step));
        }
        assert_eq!(said[0], 1);
        let end = start + Duration::from_secs(10);
        assert_eq!(tally.due(end), Some(end));
        said.extend(tally.take(end));
        assert_eq!((said.len(), said.iter().sum::<u64>()), (11, 100_000));
    }
}
