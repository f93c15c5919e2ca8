//! How long a reservation holds, and what the relay's clock shows. Pure: both clocks are arguments.

use std::time::{Duration, SystemTime};

use crate::engine::input::Grant;

/// What an ordinary relay grants at most. By the specification it names the end of a reservation by its own
/// clock only, and libp2p's implementations all grant an hour.
const USUAL: Duration = Duration::from_secs(3600);

/// An end that is nearer than this, or past, is no duration that such a relay would grant: the clocks differ.
const USUAL_SHORTEST: Duration = Duration::from_secs(120);

/// Taken for the duration when the clocks differ so much that it cannot be told: asking again twelve times an
/// hour is what ordinary relays allow, and a relay that forgot us sooner knows us again soon.
const UNKNOWN: Duration = Duration::from_secs(600);

/// A relay's word is bounded: less would make us ask without pause, more would make us ask hardly ever.
const BOUNDS: (Duration, Duration) = (Duration::from_secs(4), Duration::from_secs(24 * 3600));

/// Clocks that differ by more are worth a warning: tickets and certificates go by them. What lies below may
/// be the time that the answer took.
const CLOCKS_DIFFER: Duration = Duration::from_secs(90);

/// How long a reservation holds from the moment it was granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Term {
    pub(crate) lasts: Duration,
    /// Whether the relay said so, or we assume it.
    pub(crate) is_known: bool,
    /// Seconds that the relay's clock is ahead of ours, or behind if negative; none if about as ours, or
    /// unknown.
    pub(crate) clock_ahead: Option<i64>,
}

impl Term {
    /// Of a reservation that was granted at `now` by our clock.
    pub(crate) fn new(grant: &Grant, now: SystemTime) -> Self {
        let ours = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let Some(said) = grant.lasts else { return Self::assumed(grant.expire, ours) };
        let theirs = i128::from(grant.expire) - i128::from(said.as_secs());
        let ahead = theirs - i128::from(ours);
        let differs = ahead.unsigned_abs() > u128::from(CLOCKS_DIFFER.as_secs());
        let bounded = ahead.clamp(i64::MIN.into(), i64::MAX.into()) as i64;
        let (shortest, longest) = BOUNDS;
        Self {
            lasts: said.clamp(shortest, longest),
            is_known: true,
            clock_ahead: differs.then_some(bounded),
        }
    }

    /// Of a relay that names only the end, by its own clock.
    fn assumed(expire: u64, ours: u64) -> Self {
        let left = Duration::from_secs(expire.saturating_sub(ours));
        let is_known = (USUAL_SHORTEST..=USUAL).contains(&left);
        let lasts = match left {
            left if left < USUAL_SHORTEST => UNKNOWN,
            left => left.min(USUAL),
        };
        Self { lasts, is_known, clock_ahead: None }
    }

    /// When to ask again: after half of it, so that a relay may be away, or full, for as long again before anything is
    /// lost.
    pub(crate) fn renew_after(&self) -> Duration {
        self.lasts / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::input::CircuitLimit;

    const HOUR: Duration = Duration::from_secs(3600);

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn grant(expire: u64, lasts: Option<u64>) -> Grant {
        Grant { expire, lasts: lasts.map(Duration::from_secs), limit: CircuitLimit::default() }
    }

    #[test]
    fn a_duration_that_the_relay_says_holds_whatever_the_clocks_show() {
        let relay = 1_000_000;
        for (ours, ahead) in [
            (relay, None),
            (relay + 60, None),
            (relay + 3600, Some(-3600)),
            (relay - 3600, Some(3600)),
            (relay + 100 * 3600, Some(-360_000)),
        ] {
            let term = Term::new(&grant(relay + 3600, Some(3600)), at(ours));
            assert_eq!(term, Term { lasts: HOUR, is_known: true, clock_ahead: ahead }, "{ours}");
            assert_eq!(term.renew_after(), HOUR / 2);
        }
    }

    #[test]
    fn an_end_in_the_past_with_a_duration_of_an_hour_holds_for_an_hour() {
        let term = Term::new(&grant(1, Some(3600)), at(1_000_000));
        assert_eq!((term.lasts, term.clock_ahead), (HOUR, Some(1 - 3600 - 1_000_000)));
    }

    #[test]
    fn an_ordinary_relays_end_is_believed_where_it_can_be() {
        let ours = 1_000_000;
        for (left, lasts, is_known) in [
            (3600, 3600, true),
            (1800, 1800, true),
            (120, 120, true),
            // Our clock is behind by an hour, or it grants two: an hour is safe.
            (7200, 3600, false),
            (u64::MAX - ours, 3600, false),
            // Our clock is ahead.
            (119, 600, false),
            (0, 600, false),
        ] {
            let term = Term::new(&grant(ours + left, None), at(ours));
            let lasts = Duration::from_secs(lasts);
            assert_eq!(term, Term { lasts, is_known, clock_ahead: None }, "{left}");
        }
        let past = Term::new(&grant(ours - 3600, None), at(ours));
        assert_eq!(past.lasts, UNKNOWN);
    }

    #[test]
    fn absurd_words_are_bounded() {
        let day = Duration::from_secs(24 * 3600);
        for (expire, said, lasts) in
            [(u64::MAX, u64::MAX, day), (0, u64::MAX, day), (u64::MAX, 0, Duration::from_secs(4))]
        {
            let term = Term::new(&grant(expire, Some(said)), at(1_000_000));
            assert_eq!(term.lasts, lasts);
        }
        let before_time = SystemTime::UNIX_EPOCH - HOUR;
        assert_eq!(Term::new(&grant(3600, Some(3600)), before_time).clock_ahead, None);
    }
}
