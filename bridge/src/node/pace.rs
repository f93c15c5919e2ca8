//! How fast one peer is refused: whoever asks on and on for what it does not get waits for each answer, and cannot
//! take the time that others need.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use libp2p::PeerId;

/// Refusals of one peer that are answered at once: what a forward with many local connections may meet.
const AT_ONCE: u32 = 64;

/// Between two answers beyond that: 200 a second. A refusal costs about 0.1 ms of a core.
const INTERVAL: Duration = Duration::from_millis(5);

/// Answers to one peer that wait for their time, as many as a node of ours opens streams at once. A peer that asks
/// for more of them is not answered.
const WAITING_MAX: u32 = 128;

/// Peers remembered; beyond, those that were refused longest ago are forgotten first.
const PEERS_MAX: usize = 4096;

/// By peer: until when the answers to it are spread. A peer that has been at rest has none.
#[derive(Debug, Default)]
pub(super) struct Pace {
    until: BTreeMap<PeerId, Instant>,
}

impl Pace {
    /// The peer is to be refused: how long its answer waits; none if it is not to be answered.
    pub(super) fn wait(&mut self, peer: PeerId, now: Instant) -> Option<Duration> {
        if self.until.len() >= PEERS_MAX && !self.until.contains_key(&peer) {
            self.make_room(now);
        }
        let until = self.until.entry(peer).or_insert(now);
        let spread = until.saturating_duration_since(now);
        let wait = spread.saturating_sub(INTERVAL * AT_ONCE);
        if wait >= INTERVAL * WAITING_MAX {
            return None;
        }
        *until = (*until).max(now) + INTERVAL;
        Some(wait)
    }

    fn make_room(&mut self, now: Instant) {
        self.until.retain(|_, until| *until > now);
        if self.until.len() >= PEERS_MAX {
            let first = self.until.iter().min_by_key(|(_, until)| **until).map(|(peer, _)| *peer);
            first.map(|peer| self.until.remove(&peer));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_peer_is_refused_at_once_then_slowly_then_not_at_all_and_others_as_before() {
        let (mut pace, now) = (Pace::default(), Instant::now());
        let (loud, quiet) = (PeerId::random(), PeerId::random());
        let waits: Vec<_> = (0..AT_ONCE + WAITING_MAX + 1).map(|_| pace.wait(loud, now)).collect();
        assert!(waits[..=AT_ONCE as usize].iter().all(|wait| *wait == Some(Duration::ZERO)));
        assert_eq!(waits[AT_ONCE as usize + 1], Some(INTERVAL));
        assert_eq!(waits.last(), Some(&None));
        assert_eq!(pace.wait(quiet, now), Some(Duration::ZERO));
        let rested = now + INTERVAL * (AT_ONCE + WAITING_MAX);
        assert_eq!(pace.wait(loud, rested), Some(Duration::ZERO));
    }

    #[test]
    fn in_the_long_run_a_peer_is_refused_two_hundred_times_a_second() {
        let (mut pace, start, peer) = (Pace::default(), Instant::now(), PeerId::random());
        let answered = (0..10_000)
            .filter(|tenth| pace.wait(peer, start + Duration::from_micros(100) * *tenth).is_some());
        assert_eq!(answered.count() as u32, 200 + AT_ONCE + WAITING_MAX);
    }

    #[test]
    fn no_more_peers_than_there_may_be_are_remembered() {
        let (mut pace, now) = (Pace::default(), Instant::now());
        for _ in 0..PEERS_MAX + 10 {
            assert_eq!(pace.wait(PeerId::random(), now), Some(Duration::ZERO));
        }
        assert_eq!(pace.until.len(), PEERS_MAX);
    }
}
