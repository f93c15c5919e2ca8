//! How long a peer may be silent.
//!
//! QUIC's own idle timeout ends a connection on which nobody has anything to say, unless keep-alives pass in a fraction of it; what
//! notices a dead path in two seconds that way costs each quiet peer several packets a second. Here the peer is given up where it
//! was sent something that it has to acknowledge and nothing came back. Where nothing is said, nothing is lost either.

use std::time::{Duration, Instant};

/// A peer that was sent something is given up after this. A NAT that maps anew breaks the direct path and the link to the relay at
/// once and without a word, and so streams are back within 3 s.
const SILENCE_MAX: Duration = Duration::from_secs(2);

/// On a slow path it is so many round trips, if that is longer.
const ROUND_TRIPS: u32 = 9;

/// A relay that leads to us or to others is asked for a word after this, so that its death is noticed within 2.4 s though nobody
/// says anything.
const ASK_AFTER: Duration = Duration::from_millis(400);

/// Whoever looks so much later than was due had no time to hear either.
const LATE: Duration = Duration::from_millis(250);

/// What was said and heard on one connection.
pub(super) struct Silence {
    heard: Instant,
    /// What the peer has to acknowledge, first after it was heard.
    said: Option<Instant>,
}

/// What to do about it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Waits,
    /// Have the peer say a word.
    Ask,
    /// The connection is dead.
    Dead,
}

impl Silence {
    pub(super) fn new(now: Instant) -> Self {
        Self { heard: now, said: None }
    }

    pub(super) fn heard(&mut self, now: Instant) {
        (self.heard, self.said) = (now, None);
    }

    /// Something was sent that the peer has to acknowledge.
    pub(super) fn said(&mut self, now: Instant) {
        self.said.get_or_insert(now);
    }

    /// Whether the peer has to acknowledge something.
    pub(super) fn is_owed(&self) -> bool {
        self.said.is_some()
    }

    /// When to look next. `watched`: the peer is a relay that leads to us or to others.
    pub(super) fn due(&self, round_trip: Duration, watched: bool) -> Option<Instant> {
        let asks = || watched.then(|| self.heard + ASK_AFTER);
        self.said.map(|said| said + limit(round_trip)).or_else(asks)
    }

    /// Looks.
    pub(super) fn verdict(&mut self, round_trip: Duration, watched: bool, now: Instant) -> Verdict {
        match self.due(round_trip, watched).filter(|due| *due <= now) {
            None => Verdict::Waits,
            Some(_) if self.said.is_none() => Verdict::Ask,
            Some(due) if now - due > LATE => {
                self.said = Some(now + LATE - limit(round_trip));
                Verdict::Waits
            }
            Some(_) => Verdict::Dead,
        }
    }
}

fn limit(round_trip: Duration) -> Duration {
    SILENCE_MAX.max(round_trip * ROUND_TRIPS)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn silence() -> (Silence, Instant) {
        let now = Instant::now() + 10 * SILENCE_MAX;
        (Silence::new(now), now)
    }

    #[test]
    fn a_peer_that_nothing_is_said_to_may_be_silent_for_ever() {
        let (mut silence, now) = silence();
        assert_eq!(silence.due(MS, false), None);
        assert_eq!(silence.verdict(MS, false, now + 1000 * SILENCE_MAX), Verdict::Waits);
    }

    #[test]
    fn a_peer_that_does_not_acknowledge_is_given_up_counted_from_the_first_thing_it_was_sent() {
        let (mut silence, now) = silence();
        for at in [0, 500, 1999] {
            silence.said(now + at * MS);
            assert_eq!(silence.verdict(MS, false, now + at * MS), Verdict::Waits);
        }
        assert_eq!(silence.due(MS, false), Some(now + SILENCE_MAX));
        assert_eq!(silence.verdict(MS, false, now + SILENCE_MAX), Verdict::Dead);
    }

    #[test]
    fn whatever_is_heard_begins_anew() {
        let (mut silence, now) = silence();
        silence.said(now);
        silence.heard(now + SILENCE_MAX - MS);
        assert_eq!(silence.verdict(MS, false, now + SILENCE_MAX), Verdict::Waits);
        silence.said(now + SILENCE_MAX);
        assert_eq!(silence.due(MS, false), Some(now + 2 * SILENCE_MAX));
    }

    #[test]
    fn a_relay_that_is_watched_is_asked_and_given_up_if_it_does_not_answer() {
        let (mut silence, now) = silence();
        assert_eq!(silence.verdict(MS, true, now + ASK_AFTER - MS), Verdict::Waits);
        assert_eq!(silence.verdict(MS, true, now + ASK_AFTER), Verdict::Ask);
        silence.said(now + ASK_AFTER);
        assert_eq!(silence.verdict(MS, true, now + SILENCE_MAX), Verdict::Waits);
        assert_eq!(silence.verdict(MS, true, now + ASK_AFTER + SILENCE_MAX), Verdict::Dead);
    }

    #[test]
    fn a_slow_path_has_the_time_of_some_round_trips() {
        let (mut silence, now) = silence();
        silence.said(now);
        assert_eq!(silence.verdict(500 * MS, false, now + 4499 * MS), Verdict::Waits);
        assert_eq!(silence.verdict(500 * MS, false, now + 4500 * MS), Verdict::Dead);
    }

    #[test]
    fn whoever_was_too_busy_to_look_listens_a_little_longer_and_only_once() {
        let (mut silence, now) = silence();
        silence.said(now);
        let late = now + SILENCE_MAX + 2 * LATE;
        assert_eq!(silence.verdict(MS, false, late), Verdict::Waits);
        assert_eq!(silence.verdict(MS, false, late + LATE - MS), Verdict::Waits);
        assert_eq!(silence.verdict(MS, false, late + LATE), Verdict::Dead);
    }
}
