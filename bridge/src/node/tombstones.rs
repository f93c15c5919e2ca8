//! What is remembered of streams that are over: their one answer to a late HELLO or MOVE.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use libp2p::PeerId;

use crate::stream::{StreamKey, machine::Farewell};

/// Longest that an answer is kept, however long streams wait for a path. A peer that comes back later hears
/// that the stream is unknown.
pub(super) const KEPT_MAX: Duration = Duration::from_secs(4 * 3600);

/// Answers by stream, in a bounded table. Where there is no room the oldest goes: first of the same peer, if
/// that has its share already, else of all.
pub(super) struct Tombstones {
    all_max: usize,
    per_peer_max: usize,
    /// Oldest first.
    order: VecDeque<StreamKey>,
    answers: HashMap<StreamKey, Answer>,
    of_peer: HashMap<PeerId, usize>,
}

struct Answer {
    farewell: Farewell,
    until: Instant,
}

impl Tombstones {
    pub(super) fn new(all_max: usize, per_peer_max: usize) -> Self {
        let (order, answers, of_peer) = (VecDeque::new(), HashMap::new(), HashMap::new());
        Self { all_max, per_peer_max, order, answers, of_peer }
    }

    /// Remembers an answer for `keep`, at most for [`KEPT_MAX`].
    pub(super) fn insert(&mut self, key: StreamKey, farewell: Farewell, keep: Duration, now: Instant) {
        let answer = Answer { farewell, until: now + keep.min(KEPT_MAX) };
        if self.answers.insert(key, answer).is_some() {
            return;
        }
        if self.of_peer.get(&key.peer).is_some_and(|stones| *stones >= self.per_peer_max) {
            self.forget_first(|other| other.peer == key.peer);
        }
        let over = |stone: &Answer| stone.until <= now;
        while self.order.front().and_then(|oldest| self.answers.get(oldest)).is_some_and(over)
            || self.order.len() >= self.all_max
        {
            self.forget_first(|_| true);
        }
        self.order.push_back(key);
        *self.of_peer.entry(key.peer).or_default() += 1;
    }

    /// The answer for a stream, if it is remembered.
    pub(super) fn get(&self, key: StreamKey, now: Instant) -> Option<Farewell> {
        self.answers.get(&key).filter(|answer| now < answer.until).map(|answer| answer.farewell)
    }

    fn forget_first(&mut self, is: impl Fn(&StreamKey) -> bool) {
        let Some(key) = self.order.iter().position(is).and_then(|at| self.order.remove(at)) else {
            return;
        };
        self.answers.remove(&key);
        if let Some(stones) = self.of_peer.get_mut(&key.peer) {
            *stones -= 1;
            if *stones == 0 {
                self.of_peer.remove(&key.peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::StreamId;

    const KEEP: Duration = Duration::from_secs(120);

    fn peers() -> [PeerId; 2] {
        [PeerId::random(), PeerId::random()]
    }

    fn key(peer: PeerId, number: u8) -> StreamKey {
        StreamKey { peer, stream: StreamId::from_bytes([number; 16]) }
    }

    #[test]
    fn an_answer_is_kept_for_its_time_and_hours_are_capped() {
        let ([peer, _], now) = (peers(), Instant::now());
        let mut stones = Tombstones::new(10, 10);
        stones.insert(key(peer, 1), Farewell::Done, KEEP, now);
        stones.insert(key(peer, 2), Farewell::Done, Duration::from_secs(1 << 20), now);
        let known = |stones: &Tombstones, number, after| stones.get(key(peer, number), now + after);
        assert_eq!(known(&stones, 1, KEEP - Duration::from_secs(1)), Some(Farewell::Done));
        assert_eq!(known(&stones, 1, KEEP), None);
        assert_eq!(known(&stones, 2, KEPT_MAX - Duration::from_secs(1)), Some(Farewell::Done));
        assert_eq!(known(&stones, 2, KEPT_MAX), None);
    }

    #[test]
    fn a_peer_with_many_ended_streams_pushes_out_its_own_first() {
        let ([quiet, busy], now) = (peers(), Instant::now());
        let mut stones = Tombstones::new(8, 4);
        stones.insert(key(quiet, 0), Farewell::Done, KEEP, now);
        (0..100).for_each(|number| stones.insert(key(busy, number), Farewell::Done, KEEP, now));
        assert_eq!(stones.get(key(quiet, 0), now), Some(Farewell::Done));
        let kept = (0..100).filter(|number| stones.get(key(busy, *number), now).is_some());
        assert_eq!(kept.collect::<Vec<_>>(), [96, 97, 98, 99]);
        assert_eq!((stones.order.len(), stones.answers.len()), (5, 5));
    }

    #[test]
    fn the_table_never_holds_more_than_its_bound() {
        let now = Instant::now();
        let mut stones = Tombstones::new(8, 4);
        for number in 0..100 {
            stones.insert(key(PeerId::random(), number), Farewell::Done, KEEP, now);
            assert!(stones.order.len() <= 8 && stones.answers.len() <= 8 && stones.of_peer.len() <= 8);
        }
    }
}
