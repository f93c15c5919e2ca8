//! Streams that peers opened to us: we count them, and give up those that nobody will move any more.
//!
//! Only the opener moves a stream, and it does so as soon as it is connected again. A peer that is
//! connected and does not has forgotten the stream: it was restarted. Without this, its old streams
//! would outlive it by the whole patience, and a Kaspa node would take its next session for a duplicate.

use std::{collections::BTreeMap, time::Instant};

use libp2p::PeerId;

use crate::{
    engine::liveness::ORPHANED,
    path::ConnectionId,
    service::Service,
    stream::{StreamId, StreamKey},
};

#[derive(Debug)]
struct Guest {
    service: Service,
    path: Standing,
}

/// What carries a peer's stream.
#[derive(Debug, PartialEq, Eq)]
enum Standing {
    /// This connection, once it has moved; before that, whichever it came on.
    Attached(Option<ConnectionId>),
    /// Nothing, and its opener is away.
    Waiting,
    /// Nothing, and its opener has until then.
    Due(Instant),
}

/// The peers' streams.
#[derive(Debug, Default)]
pub(crate) struct Guests {
    all: BTreeMap<StreamKey, Guest>,
}

impl Guests {
    pub(crate) fn accepted(&mut self, key: StreamKey, service: Service) {
        self.all.insert(key, Guest { service, path: Standing::Attached(None) });
    }

    /// The last path is lost. `connected`: the peer has come back since.
    pub(crate) fn detached(&mut self, key: StreamKey, connected: bool, now: Instant) {
        if let Some(guest) = self.all.get_mut(&key) {
            guest.path = if connected { Standing::Due(now + ORPHANED) } else { Standing::Waiting };
        }
    }

    /// Its opener has moved it here.
    pub(crate) fn moved(&mut self, key: StreamKey, to: ConnectionId) {
        if let Some(guest) = self.all.get_mut(&key) {
            guest.path = Standing::Attached(Some(to));
        }
    }

    /// Whether any of a peer's streams runs on this connection, as far as is known.
    pub(crate) fn may_be_on(&self, peer: PeerId, connection: ConnectionId) -> bool {
        let there = |guest: &Guest| match guest.path {
            Standing::Attached(on) => on.is_none_or(|on| on == connection),
            Standing::Waiting | Standing::Due(_) => false,
        };
        self.all.range(of(peer)).any(|(_, guest)| there(guest))
    }

    #[cfg(test)]
    pub(crate) fn contains(&self, key: StreamKey) -> bool {
        self.all.contains_key(&key)
    }

    pub(crate) fn closed(&mut self, key: StreamKey) {
        self.all.remove(&key);
    }

    pub(crate) fn connected(&mut self, peer: PeerId, now: Instant) {
        for guest in self.of_mut(peer).filter(|guest| guest.path == Standing::Waiting) {
            guest.path = Standing::Due(now + ORPHANED);
        }
    }

    pub(crate) fn disconnected(&mut self, peer: PeerId) {
        for guest in self.of_mut(peer).filter(|guest| !matches!(guest.path, Standing::Attached(_))) {
            guest.path = Standing::Waiting;
        }
    }

    /// The services of a peer's streams, one entry a stream.
    pub(crate) fn services_of(&self, peer: PeerId) -> impl Iterator<Item = &Service> {
        self.all.range(of(peer)).map(|(_, guest)| &guest.service)
    }

    /// Those whose openers had their time; each is said once.
    pub(crate) fn take_due(&mut self, now: Instant) -> Vec<StreamKey> {
        let mut due = Vec::new();
        for (key, guest) in &mut self.all {
            if matches!(guest.path, Standing::Due(until) if until <= now) {
                guest.path = Standing::Waiting;
                due.push(*key);
            }
        }
        due
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let due = |guest: &Guest| match guest.path {
            Standing::Due(until) => Some(until),
            Standing::Attached(_) | Standing::Waiting => None,
        };
        self.all.values().filter_map(due).min()
    }

    fn of_mut(&mut self, peer: PeerId) -> impl Iterator<Item = &mut Guest> {
        self.all.range_mut(of(peer)).map(|(_, guest)| guest)
    }
}

/// The keys of a peer's streams.
pub(in crate::engine) fn of(peer: PeerId) -> std::ops::RangeInclusive<StreamKey> {
    let key = |byte| StreamKey { peer, stream: StreamId::from_bytes([byte; 16]) };
    key(0)..=key(0xff)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn world() -> (Guests, StreamKey, Instant) {
        let key = StreamKey { peer: PeerId::random(), stream: StreamId::from_bytes([1; 16]) };
        let mut guests = Guests::default();
        guests.accepted(key, "echo".parse().unwrap());
        (guests, key, Instant::now())
    }

    #[test]
    fn a_stream_whose_opener_is_away_waits_and_one_whose_opener_is_back_does_not() {
        let (mut guests, key, now) = world();
        guests.detached(key, false, now);
        assert_eq!(guests.next_deadline(), None);
        guests.connected(key.peer, now);
        assert_eq!(guests.take_due(now + ORPHANED / 2), []);
        assert_eq!(guests.take_due(now + ORPHANED), [key]);
        assert_eq!(guests.take_due(now + ORPHANED), []);
    }

    #[test]
    fn a_stream_that_is_moved_in_time_or_whose_opener_leaves_again_is_left_alone() {
        let (mut guests, key, now) = world();
        guests.detached(key, true, now);
        guests.disconnected(key.peer);
        assert_eq!(guests.take_due(now + ORPHANED), []);
        guests.connected(key.peer, now);
        guests.moved(key, ConnectionId(libp2p::swarm::ConnectionId::new_unchecked(1)));
        assert_eq!(guests.take_due(now + ORPHANED), []);
    }

    #[test]
    fn the_streams_of_one_peer_are_counted_and_no_others() {
        let (mut guests, key, _) = world();
        let other = StreamKey { peer: PeerId::random(), ..key };
        guests.accepted(other, "echo".parse().unwrap());
        for byte in [0, 0xff] {
            let stream = StreamId::from_bytes([byte; 16]);
            guests.accepted(StreamKey { stream, ..key }, "echo".parse().unwrap());
        }
        assert_eq!(guests.services_of(key.peer).count(), 3);
        guests.closed(key);
        assert_eq!(guests.services_of(key.peer).count(), 2);
    }
}
