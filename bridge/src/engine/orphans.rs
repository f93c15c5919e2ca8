//! Streams of peers that lost their path and that nobody will move any more.
//!
//! Only the opener moves a stream, and it does so as soon as it is connected again. A peer that is
//! connected and does not has forgotten the stream: it was restarted. Without this, its old streams
//! would outlive it by the whole patience, and a Kaspa node would take its next session for a duplicate.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use libp2p::PeerId;

use crate::stream::StreamKey;

/// For an opener that is connected to move its stream: a failed move or two included, on a machine that
/// is busy. That its process is gone mostly shows sooner: see `absences`.
const GRACE: Duration = Duration::from_secs(6);

/// The peers' streams without a path, and since when their openers could have moved them.
#[derive(Debug, Default)]
pub(crate) struct Orphans {
    all: HashMap<StreamKey, Option<Instant>>,
}

impl Orphans {
    pub(crate) fn detached(&mut self, key: StreamKey, connected: bool, now: Instant) {
        self.all.insert(key, connected.then_some(now + GRACE));
    }

    pub(crate) fn attached(&mut self, key: StreamKey) {
        self.all.remove(&key);
    }

    pub(crate) fn connected(&mut self, peer: PeerId, now: Instant) {
        for (_, until) in self.all.iter_mut().filter(|(key, _)| key.peer == peer) {
            until.get_or_insert(now + GRACE);
        }
    }

    pub(crate) fn disconnected(&mut self, peer: PeerId) {
        for (_, until) in self.all.iter_mut().filter(|(key, _)| key.peer == peer) {
            *until = None;
        }
    }

    /// Those whose openers had their time; each is said once.
    pub(crate) fn take_due(&mut self, now: Instant) -> Vec<StreamKey> {
        let due = |until: &Option<Instant>| until.is_some_and(|until| until <= now);
        let keys: Vec<_> =
            self.all.iter().filter(|(_, until)| due(until)).map(|(key, _)| *key).collect();
        for key in &keys {
            self.all.remove(key);
        }
        keys
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.all.values().flatten().min().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::StreamId;

    fn key() -> StreamKey {
        StreamKey { peer: PeerId::random(), stream: StreamId::from_bytes([1; 16]) }
    }

    #[test]
    fn a_stream_whose_opener_is_away_waits_and_one_whose_opener_is_back_does_not() {
        let (mut orphans, key, now) = (Orphans::default(), key(), Instant::now());
        orphans.detached(key, false, now);
        assert_eq!(orphans.next_deadline(), None);
        orphans.connected(key.peer, now);
        assert_eq!(orphans.take_due(now + GRACE / 2), []);
        assert_eq!(orphans.take_due(now + GRACE), [key]);
        assert_eq!(orphans.take_due(now + GRACE), []);
    }

    #[test]
    fn a_stream_that_is_moved_in_time_or_whose_opener_leaves_again_is_left_alone() {
        let (mut orphans, key, now) = (Orphans::default(), key(), Instant::now());
        orphans.detached(key, true, now);
        orphans.disconnected(key.peer);
        assert_eq!(orphans.take_due(now + GRACE), []);
        orphans.connected(key.peer, now);
        orphans.attached(key);
        assert_eq!(orphans.take_due(now + GRACE), []);
    }
}
