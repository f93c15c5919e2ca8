//! Streams that peers asked for and that were neither taken nor refused.

use std::{collections::HashMap, time::Duration};

use libp2p::PeerId;
use tokio::sync::{mpsc, oneshot};

use crate::{
    engine::input::InboundId,
    incoming::Arrival,
    path::ConnectionId,
    stream::{Stream, StreamKey, frame::Hello},
};

/// Requests that wait for a decision although the connection they came by is gone: their opener may ask
/// again by another one. Past it, such a request is over at once.
const WITHOUT_LEG_MAX: usize = 256;

/// One request. `L` is the substream that it came by.
pub(super) struct Request<L> {
    pub(super) hello: Box<Hello>,
    pub(super) peer: PeerId,
    /// Where its opener waits for the answer; none while it has no connection to us.
    pub(super) leg: Option<(ConnectionId, L)>,
    pub(super) place: Option<mpsc::OwnedPermit<Arrival>>,
    /// How long the stream will wait for a path; none: as the node's settings say.
    pub(super) patience: Option<Duration>,
    /// Whether the program was asked.
    pub(super) shown: bool,
    /// The program has accepted it while there was no leg to say so on; who gets the stream when there is.
    pub(super) accepted: Option<oneshot::Sender<Stream>>,
}

/// What a HELLO is that asks for a stream which does not exist.
pub(super) enum Asked<L> {
    /// A request of its own.
    First(Box<Hello>, L),
    /// Said again, because the leg before was lost: the request waits on the new leg from now on.
    Again { inbound: InboundId, accepted: Option<oneshot::Sender<Stream>> },
    /// Said on an older leg than the one that the request waits on.
    Stale(L),
}

/// All undecided requests. Bounded by the engine's limit of streams per peer and of connections, and by
/// [`WITHOUT_LEG_MAX`].
pub(super) struct Undecided<L> {
    all: HashMap<InboundId, Request<L>>,
    by_stream: HashMap<StreamKey, InboundId>,
    without_leg: usize,
}

impl<L> Request<L> {
    /// A request that nobody has seen. `place`: for it in the service's queue, if it got one.
    pub(super) fn new(
        hello: Box<Hello>,
        peer: PeerId,
        leg: (ConnectionId, L),
        place: Option<mpsc::OwnedPermit<Arrival>>,
        patience: Option<Duration>,
    ) -> Self {
        Self { hello, peer, leg: Some(leg), place, patience, shown: false, accepted: None }
    }

    pub(super) fn key(&self) -> StreamKey {
        StreamKey { peer: self.peer, stream: self.hello.stream }
    }

    pub(super) fn connection(&self) -> Option<ConnectionId> {
        self.leg.as_ref().map(|(connection, _)| *connection)
    }
}

impl<L> Default for Undecided<L> {
    fn default() -> Self {
        Self { all: HashMap::new(), by_stream: HashMap::new(), without_leg: 0 }
    }
}

impl<L> Undecided<L> {
    pub(super) fn insert(&mut self, inbound: InboundId, request: Request<L>) {
        self.by_stream.insert(request.key(), inbound);
        self.without_leg += usize::from(request.leg.is_none());
        self.all.insert(inbound, request);
    }

    pub(super) fn contains(&self, key: StreamKey) -> bool {
        self.by_stream.contains_key(&key)
    }

    pub(super) fn get_mut(&mut self, inbound: InboundId) -> Option<&mut Request<L>> {
        self.all.get_mut(&inbound)
    }

    pub(super) fn remove(&mut self, inbound: InboundId) -> Option<Request<L>> {
        let request = self.all.remove(&inbound)?;
        self.by_stream.remove(&request.key());
        self.without_leg -= usize::from(request.leg.is_none());
        Some(request)
    }

    /// Takes a HELLO. If it repeats one that waits, the request is the same, with its service and its ticket;
    /// it goes on from where this HELLO says.
    pub(super) fn hello(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        hello: Box<Hello>,
        io: L,
    ) -> Asked<L> {
        let key = StreamKey { peer, stream: hello.stream };
        let known = self.by_stream.get(&key).copied();
        let waits = known.and_then(|inbound| Some((inbound, self.all.get_mut(&inbound)?)));
        let Some((inbound, waits)) = waits else { return Asked::First(hello, io) };
        if hello.epoch <= waits.hello.epoch {
            return Asked::Stale(io);
        }
        let Hello { epoch, features, limit, .. } = *hello;
        (waits.hello.epoch, waits.hello.features, waits.hello.limit) = (epoch, features, limit);
        self.without_leg -= usize::from(waits.leg.is_none());
        waits.leg = Some((connection, io));
        Asked::Again { inbound, accepted: waits.accepted.take() }
    }

    /// A connection is gone. Returns the requests that are over with it; the others wait for their opener to
    /// ask again.
    pub(super) fn connection_closed(&mut self, connection: ConnectionId) -> Vec<(InboundId, StreamKey)> {
        let on = |request: &Request<L>| request.connection() == Some(connection);
        let left: Vec<InboundId> =
            self.all.iter().filter(|(_, request)| on(request)).map(|(inbound, _)| *inbound).collect();
        let mut over = Vec::new();
        for inbound in left {
            if self.without_leg >= WITHOUT_LEG_MAX {
                over.extend(self.remove(inbound).map(|request| (inbound, request.key())));
            } else if let Some(request) = self.all.get_mut(&inbound) {
                request.leg = None;
                self.without_leg += 1;
            }
        }
        over
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use bytes::Bytes;

    use super::*;
    use crate::stream::StreamId;

    fn connection(number: usize) -> ConnectionId {
        ConnectionId(libp2p::swarm::ConnectionId::new_unchecked(number))
    }

    fn hello(stream: u16, epoch: u32) -> Box<Hello> {
        let mut id = [0; 16];
        id[..2].copy_from_slice(&stream.to_be_bytes());
        Box::new(Hello {
            stream: StreamId::from_bytes(id),
            epoch,
            features: 0,
            limit: 100 + u64::from(epoch),
            service: "grpc".parse().unwrap(),
            ticket: Bytes::from_static(b"once"),
        })
    }

    /// One request with epoch 1, on connection 1.
    fn waiting(peer: PeerId) -> Undecided<&'static str> {
        let mut undecided = Undecided::default();
        let leg = (connection(1), "first");
        undecided.insert(InboundId(1), Request::new(hello(1, 1), peer, leg, None, None));
        undecided
    }

    #[test]
    fn a_repeated_hello_takes_over_the_request_and_goes_on_from_where_it_says() {
        let peer = PeerId::random();
        let mut undecided = waiting(peer);
        let again = undecided.hello(peer, connection(2), hello(1, 2), "second");
        assert!(matches!(again, Asked::Again { inbound: InboundId(1), .. }));
        let request = undecided.remove(InboundId(1)).unwrap();
        assert_eq!((request.hello.epoch, request.hello.limit), (2, 102));
        assert_eq!(request.leg, Some((connection(2), "second")));
    }

    #[test]
    fn a_hello_that_is_not_newer_is_stale_and_one_of_another_peer_is_its_own() {
        let peer = PeerId::random();
        let mut undecided = waiting(peer);
        for epoch in [0, 1] {
            let asked = undecided.hello(peer, connection(2), hello(1, epoch), "late");
            assert!(matches!(asked, Asked::Stale("late")));
        }
        let asked = undecided.hello(PeerId::random(), connection(2), hello(1, 2), "other");
        assert!(matches!(asked, Asked::First(_, "other")));
        assert_eq!(undecided.remove(InboundId(1)).unwrap().leg, Some((connection(1), "first")));
    }

    #[test]
    fn a_request_outlives_its_connection_and_waits_on_the_next() {
        let peer = PeerId::random();
        let mut undecided = waiting(peer);
        assert_eq!(undecided.connection_closed(connection(1)), []);
        assert_eq!((undecided.get_mut(InboundId(1)).unwrap().leg, undecided.without_leg), (None, 1));
        let again = undecided.hello(peer, connection(2), hello(1, 2), "second");
        assert!(matches!(again, Asked::Again { inbound: InboundId(1), .. }));
        assert_eq!(undecided.without_leg, 0);
    }

    #[test]
    fn what_was_accepted_without_a_connection_is_handed_to_the_next_hello_once() {
        let peer = PeerId::random();
        let mut undecided = waiting(peer);
        undecided.connection_closed(connection(1));
        undecided.get_mut(InboundId(1)).unwrap().accepted = Some(oneshot::channel().0);
        for (epoch, handed) in [(2, true), (3, false)] {
            let again = undecided.hello(peer, connection(2), hello(1, epoch), "again");
            assert!(matches!(again, Asked::Again { accepted, .. } if accepted.is_some() == handed));
        }
    }

    #[test]
    fn requests_without_a_connection_are_bounded() {
        let peer = PeerId::random();
        let mut undecided = Undecided::default();
        for number in 0..=WITHOUT_LEG_MAX as u16 {
            let request = Request::new(hello(number, 0), peer, (connection(1), ()), None, None);
            undecided.insert(InboundId(u64::from(number)), request);
        }
        assert_eq!(undecided.connection_closed(connection(1)).len(), 1);
        assert_eq!((undecided.all.len(), undecided.by_stream.len()), (WITHOUT_LEG_MAX, WITHOUT_LEG_MAX));
    }
}
