//! What is said about refusals: for each kind at most one event a second, with a count.
//!
//! Refusing must not cost more than asking. A crowd of sockets that say nothing would else fill the disk
//! with events.

use std::time::{Duration, Instant};

use libp2p::PeerId;

use crate::event::{Asked, Event, LimitOwner};

/// Between two events of one kind.
const INTERVAL: Duration = Duration::from_secs(1);

/// Two processes with one identity take the place from each other for as long as they run.
const TAKEOVER_INTERVAL: Duration = Duration::from_secs(600);

/// Who was refused, and by which limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) peer: Option<PeerId>,
    pub(super) what: Asked,
    pub(super) limit: u64,
    pub(super) whose: LimitOwner,
}

#[derive(Debug)]
struct Tally {
    said: Instant,
    last: Refused,
    unsaid: u64,
}

/// One tally for each kind of request; there are a handful.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    tallies: Vec<Tally>,
}

impl Refusals {
    /// Counts one. The event, if it is to be said now; else it is part of a later one.
    pub(super) fn note(&mut self, refused: Refused, now: Instant) -> Option<Event> {
        let Some(tally) = self.tallies.iter_mut().find(|tally| tally.last.what == refused.what) else {
            self.tallies.push(Tally { said: now, last: refused, unsaid: 0 });
            return Some(event(refused, 1));
        };
        tally.last = refused;
        tally.unsaid += 1;
        tally.say(now)
    }

    /// When something that was not said yet is to be.
    pub(super) fn due(&self) -> Option<Instant> {
        let waiting = self.tallies.iter().filter(|tally| tally.unsaid > 0);
        waiting.map(|tally| tally.due()).min()
    }

    /// What is to be said now.
    pub(super) fn summaries(&mut self, now: Instant) -> Vec<Event> {
        self.tallies.iter_mut().filter_map(|tally| tally.say(now)).collect()
    }
}

impl Tally {
    fn due(&self) -> Instant {
        self.said
            + match self.last.what {
                Asked::Takeover => TAKEOVER_INTERVAL,
                _ => INTERVAL,
            }
    }

    fn say(&mut self, now: Instant) -> Option<Event> {
        let due = self.unsaid > 0 && now >= self.due();
        if !due {
            return None;
        }
        self.said = now;
        Some(event(self.last, std::mem::take(&mut self.unsaid)))
    }
}

fn event(refused: Refused, count: u64) -> Event {
    let Refused { peer, what, limit, whose } = refused;
    Event::Refused { peer, what, limit, whose: Some(whose), count }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(what: Asked, limit: u64) -> Refused {
        Refused { peer: None, what, limit, whose: LimitOwner::Address }
    }

    fn count(event: &Event) -> u64 {
        match event {
            Event::Refused { count, .. } => *count,
            _ => 0,
        }
    }

    #[test]
    fn half_a_million_refusals_in_ten_seconds_are_ten_events_and_none_is_lost() {
        let (mut refusals, start) = (Refusals::default(), Instant::now());
        let mut events = Vec::new();
        for step in 0..500_000 {
            let now = start + Duration::from_micros(20) * step;
            events.extend(refusals.note(refused(Asked::Connection, 256), now));
        }
        let due = refusals.due().into_iter();
        events.extend(due.flat_map(|due| refusals.summaries(due)));
        assert_eq!(events.len(), 11);
        assert_eq!(events.iter().map(count).sum::<u64>(), 500_000);
        assert_eq!(refusals.due(), None);
    }

    #[test]
    fn the_first_refusal_of_each_kind_is_said_at_once() {
        let (mut refusals, now) = (Refusals::default(), Instant::now());
        assert!(refusals.note(refused(Asked::Connection, 1), now).is_some());
        assert!(refusals.note(refused(Asked::Circuit, 1), now).is_some());
        assert!(refusals.note(refused(Asked::Circuit, 1), now).is_none());
        assert_eq!(refusals.due(), Some(now + INTERVAL));
    }
}
