//! Peers whose process is gone, as far as one can tell.
//!
//! A path that goes silent may come back, and a stream waits for that with patience. A direct connection
//! that answered a moment ago and was then closed or reset is another matter: networks and NATs mostly drop
//! what they do not know, the peer's system closes or resets, and it does so when the process is killed. The
//! same is known of a peer whose link to a relay its system closed, if the relay says so. A peer that lives is
//! back within a few round trips; one that is not is gone, and whoever talks to it should know soon.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use libp2p::PeerId;

use super::liveness::FRESH;
use crate::{path::ConnectionId, stream::StreamKey};

/// Peers that left and have not been given up yet; more at once are a network that goes, not processes.
const DEPARTED_MAX: usize = 1024;

#[derive(Debug)]
struct Departure {
    /// When the streams end that have no path by then.
    until: Option<Instant>,
    /// When it is forgotten.
    forget: Instant,
    /// Streams that ran here end; none: all whose loss nothing else explains.
    connection: Option<ConnectionId>,
}

/// What a stream without a path lost.
#[derive(Clone, Copy, Debug)]
struct Lost {
    connection: ConnectionId,
    /// It fell silent, or its relay ended it: that alone says nothing about the peer.
    unexplained: bool,
}

/// Peers that closed their connections, and the streams without a path.
#[derive(Debug)]
pub(crate) struct Departures {
    all: BTreeMap<PeerId, Departure>,
    lost: BTreeMap<StreamKey, Lost>,
    grace: Duration,
}

impl Departures {
    pub(crate) fn new(grace: Duration) -> Self {
        Self { all: BTreeMap::new(), lost: BTreeMap::new(), grace }
    }

    /// A stream lost its last path, which was this connection.
    pub(crate) fn detached(
        &mut self,
        key: StreamKey,
        connection: ConnectionId,
        unexplained: bool,
        now: Instant,
    ) {
        self.lost.insert(key, Lost { connection, unexplained });
        if let Some(told) = self.all.get_mut(&key.peer).filter(|found| found.connection.is_none()) {
            told.until = Some(now + self.grace);
        }
    }

    /// A stream has a path again, or has ended.
    pub(crate) fn settled(&mut self, key: StreamKey) {
        self.lost.remove(&key);
    }

    /// The peer's system ended a direct connection; the peer had last answered on it at `answered`.
    pub(crate) fn closed(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        answered: Instant,
        now: Instant,
    ) {
        if now.saturating_duration_since(answered) <= FRESH {
            self.note(peer, Some(connection), self.grace, now);
        }
    }

    /// A relay says that the peer's system closed its link.
    pub(crate) fn told(&mut self, peer: PeerId, now: Instant) {
        self.note(peer, None, TOLD, now);
    }

    fn note(&mut self, peer: PeerId, connection: Option<ConnectionId>, keep: Duration, now: Instant) {
        if self.all.len() < DEPARTED_MAX || self.all.contains_key(&peer) {
            let (until, forget) = (Some(now + self.grace), now + keep);
            self.all.insert(peer, Departure { until, forget, connection });
        }
    }

    /// The peer is back, or its next process is: whichever it is shows soon.
    pub(crate) fn connected(&mut self, peer: PeerId, now: Instant) {
        if let Some(departure) = self.all.get_mut(&peer) {
            departure.until = Some(now + self.grace);
            departure.forget = now + self.grace;
        }
    }

    /// The streams to give up; each is said once.
    pub(crate) fn take_due(&mut self, now: Instant) -> Vec<StreamKey> {
        let mut due = Vec::new();
        for (peer, departure) in &mut self.all {
            if departure.until.take_if(|until| *until <= now).is_some() {
                let ends = |key: &StreamKey, lost: &mut Lost| {
                    let here = |connection| lost.connection == connection;
                    key.peer == *peer && departure.connection.map_or(lost.unexplained, here)
                };
                due.extend(self.lost.extract_if(.., ends).map(|(key, _)| key));
            }
        }
        self.all.retain(|_, departure| departure.forget > now);
        due
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.all.values().map(|found| found.until.unwrap_or(found.forget)).min()
    }
}

/// What a relay says is worth something for so long: a stream over another path notices its silence within it.
const TOLD: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::StreamId;

    const GRACE: Duration = Duration::from_millis(1500);

    fn world() -> (Departures, StreamKey, ConnectionId, Instant) {
        let key = StreamKey { peer: PeerId::random(), stream: StreamId::from_bytes([1; 16]) };
        let connection = ConnectionId(libp2p::swarm::ConnectionId::new_unchecked(1));
        (Departures::new(GRACE), key, connection, Instant::now())
    }

    #[test]
    fn streams_of_a_connection_that_its_peer_closed_are_given_up_unless_they_have_a_path() {
        let (mut departures, key, connection, now) = world();
        let other = StreamKey { stream: StreamId::from_bytes([2; 16]), ..key };
        departures.detached(key, connection, false, now);
        departures.detached(other, connection, false, now);
        departures.closed(key.peer, connection, now, now);
        departures.settled(other);
        assert_eq!(departures.take_due(now + GRACE / 2), []);
        assert_eq!(departures.take_due(now + GRACE), [key]);
        assert_eq!(departures.take_due(now + GRACE), []);
    }

    #[test]
    fn a_peer_that_is_back_has_the_time_again_to_carry_its_streams_on() {
        let (mut departures, key, connection, now) = world();
        departures.closed(key.peer, connection, now, now);
        departures.detached(key, connection, false, now);
        departures.connected(key.peer, now + GRACE / 2);
        assert_eq!(departures.take_due(now + GRACE), []);
        assert_eq!(departures.take_due(now + GRACE / 2 + GRACE), [key]);
    }

    #[test]
    fn the_end_of_a_connection_that_had_gone_silent_proves_nothing() {
        let (mut departures, key, connection, now) = world();
        departures.detached(key, connection, false, now);
        departures.closed(key.peer, connection, now, now + FRESH + GRACE);
        assert_eq!(departures.next_deadline(), None);
    }

    #[test]
    fn what_a_relay_says_of_a_peer_ends_streams_whose_loss_nothing_else_explains() {
        let (mut departures, key, connection, now) = world();
        let direct = StreamKey { stream: StreamId::from_bytes([2; 16]), ..key };
        departures.detached(key, connection, true, now);
        departures.detached(direct, connection, false, now);
        departures.told(key.peer, now);
        assert_eq!(departures.take_due(now + GRACE), [key]);
    }

    #[test]
    fn a_stream_that_notices_its_silence_after_the_relay_spoke_ends_too_but_not_long_after() {
        for (seconds, ends) in [(3, true), (11, false)] {
            let (mut departures, key, connection, now) = world();
            departures.told(key.peer, now);
            let later = now + Duration::from_secs(seconds);
            assert_eq!(departures.take_due(later), []);
            departures.detached(key, connection, true, later);
            assert_eq!(departures.take_due(later + GRACE) == [key], ends);
        }
    }

    #[test]
    fn a_crowd_that_leaves_at_once_is_remembered_only_in_part() {
        let (mut departures, _, _, now) = world();
        for _ in 0..=DEPARTED_MAX {
            departures.told(PeerId::random(), now);
        }
        assert_eq!(departures.all.len(), DEPARTED_MAX);
    }
}
