//! Peers whose process is gone, as far as one can tell.
//!
//! A path that goes silent may come back, and a stream waits for that with patience. A direct connection
//! that answered a moment ago and was then closed or reset is another matter: networks and NATs mostly drop
//! what they do not know, the peer's system closes or resets, and it does so when the process is killed. A
//! peer that lives is back within a few round trips; one that is not is gone, and whoever talks to it
//! should know soon. The same is said by a circuit that ends while our link to its relay stands, if the
//! relay is one of ours: it has no other reason.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use libp2p::PeerId;

use crate::{path::ConnectionId, stream::StreamKey};

/// An answer is fresh for this long: more than two intervals between pings.
const FRESH: Duration = Duration::from_secs(4);

#[derive(Debug)]
struct Departure {
    peer: PeerId,
    until: Instant,
    /// The link to the relay, if it was a circuit. Without it the departure proves nothing.
    link: Option<ConnectionId>,
}

/// Connections that their peers closed, and the streams without a path.
#[derive(Debug)]
pub(crate) struct Absences {
    departures: HashMap<ConnectionId, Departure>,
    lost: HashMap<StreamKey, ConnectionId>,
    grace: Duration,
}

impl Absences {
    pub(crate) fn new(grace: Duration) -> Self {
        Self { departures: HashMap::new(), lost: HashMap::new(), grace }
    }

    /// A stream lost its last path, which was this connection.
    pub(crate) fn detached(&mut self, key: StreamKey, connection: ConnectionId) {
        self.lost.insert(key, connection);
    }

    /// A stream has a path again, or has ended.
    pub(crate) fn settled(&mut self, key: StreamKey) {
        self.lost.remove(&key);
    }

    /// A connection ended in a way that only the peer's end explains, unless it was a circuit and
    /// `link` ends too. The peer had last answered at `answered`.
    pub(crate) fn departed(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        link: Option<ConnectionId>,
        answered: Instant,
        now: Instant,
    ) {
        if now.saturating_duration_since(answered) <= FRESH {
            self.departures.insert(connection, Departure { peer, until: now + self.grace, link });
        }
    }

    /// A connection is gone, and with it what circuits over it seemed to prove.
    pub(crate) fn closed(&mut self, connection: ConnectionId) {
        self.departures.retain(|_, departure| departure.link != Some(connection));
    }

    /// The peer is back, or its next process is: whichever it is shows soon.
    pub(crate) fn connected(&mut self, peer: PeerId, now: Instant) {
        for departure in self.departures.values_mut().filter(|departure| departure.peer == peer) {
            departure.until = now + self.grace;
        }
    }

    /// The streams to give up; each is said once.
    pub(crate) fn take_due(&mut self, now: Instant) -> Vec<StreamKey> {
        let mut due = Vec::new();
        let over = self.departures.extract_if(|_, departure| departure.until <= now);
        for (connection, _) in over {
            due.extend(self.lost.extract_if(|_, lost| *lost == connection).map(|(key, _)| key));
        }
        due
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.departures.values().map(|departure| departure.until).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::StreamId;

    const GRACE: Duration = Duration::from_millis(1500);

    fn world() -> (Absences, StreamKey, ConnectionId, Instant) {
        let key = StreamKey { peer: PeerId::random(), stream: StreamId::from_bytes([1; 16]) };
        let connection = ConnectionId(libp2p::swarm::ConnectionId::new_unchecked(1));
        (Absences::new(GRACE), key, connection, Instant::now())
    }

    #[test]
    fn streams_of_a_connection_that_its_peer_closed_are_given_up_unless_they_have_a_path() {
        let (mut absences, key, connection, now) = world();
        let other = StreamKey { stream: StreamId::from_bytes([2; 16]), ..key };
        absences.detached(key, connection);
        absences.detached(other, connection);
        absences.departed(key.peer, connection, None, now, now);
        absences.settled(other);
        assert_eq!(absences.take_due(now + GRACE / 2), []);
        assert_eq!(absences.take_due(now + GRACE), [key]);
        assert_eq!(absences.take_due(now + GRACE), []);
    }

    #[test]
    fn a_peer_that_is_back_has_the_time_again_to_carry_its_streams_on() {
        let (mut absences, key, connection, now) = world();
        absences.departed(key.peer, connection, None, now, now);
        absences.detached(key, connection);
        absences.connected(key.peer, now + GRACE / 2);
        assert_eq!(absences.take_due(now + GRACE), []);
        assert_eq!(absences.take_due(now + GRACE / 2 + GRACE), [key]);
    }

    #[test]
    fn the_end_of_a_connection_that_had_gone_silent_proves_nothing() {
        let (mut absences, key, connection, now) = world();
        absences.detached(key, connection);
        absences.departed(key.peer, connection, None, now, now + FRESH + GRACE);
        assert_eq!(absences.next_deadline(), None);
    }

    #[test]
    fn the_end_of_a_circuit_proves_nothing_if_the_link_to_its_relay_ends_too() {
        let (mut absences, key, connection, now) = world();
        let link = ConnectionId(libp2p::swarm::ConnectionId::new_unchecked(2));
        absences.detached(key, connection);
        absences.departed(key.peer, connection, Some(link), now, now);
        absences.closed(link);
        assert_eq!(absences.take_due(now + GRACE), []);
    }
}
