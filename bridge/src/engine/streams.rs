//! From "a stream to this peer" to a substream on its best connection; and the streams of others.

use std::time::Instant;

use libp2p::PeerId;

use super::{
    Engine,
    input::{Action, InboundId, OpenFailure, OpenId, Queue, SubstreamFailure},
    opens::{CONNECTIONS_TRIED_MAX, PendingOpen},
};
use crate::{
    error::{OpenError, OpenStage, Refusal},
    event::{Asked, Event},
    path::{ConnectionId, Direction},
    service::Service,
    stream::{PROTOCOL_NAME, StreamId, StreamKey},
};

impl Engine {
    pub(super) fn open(&mut self, open: OpenId, peer: PeerId, service: Service, now: Instant) {
        let limit = self.config.limits.opens;
        let unfit = if self.stopping.is_some() {
            Some(OpenError::Shutdown)
        } else if peer == self.local {
            Some(OpenError::Myself { peer })
        } else if self.opens.len() >= limit {
            Some(OpenError::Busy { limit })
        } else {
            None
        };
        if let Some(error) = unfit {
            self.actions.push_back(Action::FailOpen { open, error: OpenFailure(error) });
            return;
        }
        let deadline = now + self.config.deadlines.open;
        let tried = Vec::new();
        self.opens.insert(open, PendingOpen { peer, service, deadline, on: None, tried });
        self.advance(open, now);
    }

    /// Opens on the best connection, or reaches for one.
    pub(super) fn advance(&mut self, open: OpenId, now: Instant) {
        let Some(pending) = self.opens.get_mut(open) else { return };
        let peer = pending.peer;
        let limit = self.config.limits.streams_per_peer;
        if self.connections.users_of(peer) >= limit {
            self.fail(open, OpenError::StreamsOfPeer { peer, limit }, now);
        } else if let Some(connection) = self.connections.best(peer, &pending.tried) {
            pending.on = Some(connection);
            let service = pending.service.clone();
            self.connections.add_user(connection);
            self.actions.push_back(Action::OpenSubstream { open, peer, connection, service });
        } else if !self.reach(peer, now) {
            self.fail(open, OpenError::NoAddress { peer }, now);
        }
    }

    pub(super) fn fail(&mut self, open: OpenId, error: OpenError, now: Instant) {
        let Some(pending) = self.opens.remove(open) else { return };
        if let Some(connection) = pending.on {
            self.connections.remove_user(connection, now);
        }
        self.actions.push_back(Action::FailOpen { open, error: OpenFailure(error) });
    }

    pub(super) fn open_overdue(&mut self, open: OpenId, now: Instant) {
        let Some(pending) = self.opens.get_mut(open) else { return };
        let (peer, stage) = (pending.peer, pending.stage());
        let deadline = self.config.deadlines.open;
        self.fail(open, OpenError::Deadline { peer, deadline, stage }, now);
    }

    /// The stream takes over the place that the open had on the connection. A better connection may
    /// have come while the peer was asked.
    pub(super) fn substream_opened(
        &mut self,
        open: OpenId,
        connection: ConnectionId,
        stream: StreamId,
        now: Instant,
    ) {
        let Some(pending) = self.opens.remove(open) else { return };
        let Some(path) = self.path(connection) else { return };
        let key = StreamKey { peer: pending.peer, stream };
        self.moves.opened(key, connection);
        self.place(key, now);
        self.events.push_back(Event::StreamOpened {
            peer: pending.peer,
            stream,
            service: pending.service,
            path,
            direction: Direction::Outbound,
        });
    }

    pub(super) fn substream_failed(&mut self, open: OpenId, failure: SubstreamFailure, now: Instant) {
        let Some(pending) = self.opens.get_mut(open) else { return };
        let peer = pending.peer;
        let service = pending.service.clone();
        if let Some(connection) = pending.on.take() {
            pending.tried.push(connection);
            self.connections.remove_user(connection, now);
        }
        let tried = self.opens.get_mut(open).map_or(0, |pending| pending.tried.len());
        let error = match failure {
            SubstreamFailure::Refused(reason) => {
                let (asked, direction) = (service.clone(), Direction::Outbound);
                let refused = Event::StreamRefused { peer, service: asked, reason, direction };
                self.events.push_back(refused);
                OpenError::Refused { peer, service, reason }
            }
            SubstreamFailure::Unsupported => OpenError::Unsupported { peer, protocol: PROTOCOL_NAME },
            _ if tried < CONNECTIONS_TRIED_MAX => return self.advance(open, now),
            SubstreamFailure::Deadline => OpenError::Deadline {
                peer,
                deadline: self.config.deadlines.negotiate,
                stage: OpenStage::Negotiating,
            },
            SubstreamFailure::Lost(cause) => OpenError::ConnectionLost { peer, cause },
        };
        self.fail(open, error, now);
    }

    pub(super) fn inbound_stream(
        &mut self,
        inbound: InboundId,
        connection: ConnectionId,
        stream: StreamId,
        service: Service,
        queue: Queue,
    ) {
        let facts = self.connections.get(connection).map(|found| (found.peer, found.path));
        let per_peer = self.config.limits.streams_per_peer;
        let refusal = match (facts, queue) {
            (None, _) => Some((Refusal::Shutdown, None)),
            _ if self.stopping.is_some() => Some((Refusal::Shutdown, None)),
            (_, Queue::NotServed) => Some((Refusal::NotServed, None)),
            (_, Queue::Full { limit }) => Some((Refusal::Busy, Some((Asked::Stream, limit)))),
            (Some((peer, _)), Queue::Free { .. }) if self.connections.users_of(peer) >= per_peer => {
                Some((Refusal::Busy, Some((Asked::StreamOfPeer, per_peer))))
            }
            _ => None,
        };
        if let Some((reason, counted)) = refusal {
            if let Some((what, limit)) = counted {
                self.refused(facts.map(|(peer, _)| peer), what, limit as u64);
            } else if let Some((peer, _)) = facts {
                let direction = Direction::Inbound;
                self.events.push_back(Event::StreamRefused { peer, service, reason, direction });
            }
            self.actions.push_back(Action::Refuse { inbound, refusal: reason });
            return;
        }
        self.connections.add_user(connection);
        if matches!(queue, Queue::Free { ask: true }) {
            self.actions.push_back(Action::Ask { inbound });
        } else {
            self.stream_accepted(connection, stream, service);
            self.actions.push_back(Action::Accept { inbound });
        }
    }

    pub(super) fn stream_accepted(
        &mut self,
        connection: ConnectionId,
        stream: StreamId,
        service: Service,
    ) {
        let Some(found) = self.connections.get(connection) else { return };
        let (peer, path, direction) = (found.peer, found.path, Direction::Inbound);
        self.events.push_back(Event::StreamOpened { peer, stream, service, path, direction });
    }
}
