//! From "a stream to this peer" to a substream on its best connection; and the streams of others.
//!
//! - [`opens`]: who waits for a stream; [`requests`]: which streams of peers nobody has decided on;
//! - [`sought`]: peers whom somebody else is to find, since no way to them is known;
//! - [`moves`]: our streams, and which of them should run elsewhere; [`placing`] moves them;
//! - [`guests`]: the streams of peers, and which of them nobody will move any more.

pub(in crate::engine) mod guests;
pub(in crate::engine) mod moves;
pub(in crate::engine) mod opens;
pub(in crate::engine) mod placing;
pub(in crate::engine) mod requests;
pub(in crate::engine) mod sought;

use std::time::Instant;

use libp2p::PeerId;

use super::{
    Engine,
    input::{Action, InboundId, OpenId, Queue, SubstreamFailure},
    paths::{
        connections::User,
        places::{Full, Origin},
    },
    streams::opens::{CONNECTIONS_TRIED_MAX, PendingOpen},
};
use crate::{
    error::{OpenError, OpenStage, Refusal},
    event::{Asked, Event, LimitOwner},
    path::{ConnectionId, Direction, Path},
    service::Service,
    stream::{PROTOCOL_NAME, StreamId, StreamKey, machine::LegId},
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
            self.actions.push_back(Action::FailOpen { open, error });
            return;
        }
        self.meet(peer, now);
        let deadline = now + self.config.deadlines.open;
        let pending = PendingOpen::new(peer, service, deadline);
        self.opens.insert(open, PendingOpen { lookup: self.sought.lookup(now), ..pending });
        self.advance(open, now);
        self.wait_begins(peer, true, now);
    }

    /// Opens on the best connection, or reaches for one. Where the peer has as many streams as it may, the open
    /// waits for one of them to end.
    pub(super) fn advance(&mut self, open: OpenId, now: Instant) {
        let Some(pending) = self.opens.get(open) else { return };
        let (peer, service) = (pending.peer, pending.service.clone());
        let best = match pending.direct_only {
            true => self.connections.best_direct(peer, &pending.tried),
            false => self.connections.best(peer, &pending.tried),
        };
        if let Some(connection) = best {
            if self.streams_of(peer) >= self.config.limits.streams_per_peer {
                return;
            }
            self.opens.begin(open, connection);
            self.connections.add_user(connection, User::Open(open));
            self.actions.push_back(Action::OpenSubstream { open, peer, connection, service });
        } else if !self.is_introduced(peer) && !self.reach(peer, now) {
            self.no_way(open, &[], now);
        }
    }

    /// A stream of the peer has ended: an open that waited for that goes on.
    fn admit_waiting(&mut self, peer: PeerId, now: Instant) {
        for open in self.opens.connecting_to(peer) {
            self.advance(open, now);
        }
    }

    /// Streams of a peer, both directions: live, being opened, and asked for.
    pub(super) fn streams_of(&self, peer: PeerId) -> usize {
        self.moves.services_of(peer).count()
            + self.guests.services_of(peer).count()
            + self.requests.services_of(peer).count()
            + self.opens.negotiating_with(peer)
    }

    pub(super) fn fail(&mut self, open: OpenId, error: OpenError, now: Instant) {
        let Some(pending) = self.opens.remove(open) else { return };
        self.forget_introduction(pending.peer);
        if let Some(connection) = pending.on {
            self.connections.remove_user(connection, User::Open(open), now);
            self.admit_waiting(pending.peer, now);
        }
        self.actions.push_back(Action::FailOpen { open, error });
        self.wait_may_end(pending.peer);
    }

    pub(super) fn open_overdue(&mut self, open: OpenId, now: Instant) {
        let Some(pending) = self.opens.get(open) else { return };
        let (peer, stage, direct_only) = (pending.peer, pending.stage(), pending.direct_only);
        let (connected, failed) =
            (self.connections.best(peer, &pending.tried).is_some(), pending.failed.clone());
        if stage == OpenStage::Connecting && self.only_looked_for(open) {
            return self.no_way(open, &[], now);
        }
        let barred = direct_only || !connected;
        let not_direct = || self.not_direct(peer).filter(|_| stage == OpenStage::Connecting && barred);
        let error = if stage == OpenStage::Connecting && connected && !direct_only {
            OpenError::StreamsOfPeer { peer, limit: self.config.limits.streams_per_peer }
        } else {
            let deadline = self.config.deadlines.open;
            let tried = match stage {
                OpenStage::Connecting => [failed, self.dials.tried(peer, deadline)].concat(),
                OpenStage::Negotiating => Vec::new(),
            };
            not_direct().unwrap_or(OpenError::Deadline { peer, deadline, stage, tried })
        };
        self.fail(open, error, now);
    }

    /// The peer accepted. Its connection may be gone by now, and a better one may have come.
    pub(super) fn stream_opened(
        &mut self,
        open: OpenId,
        key: StreamKey,
        connection: ConnectionId,
        path: Path,
        now: Instant,
    ) {
        let Some(pending) = self.opens.remove(open) else { return };
        let (peer, service) = (pending.peer, pending.service);
        self.wait_may_end(peer);
        self.connections.remove_user(connection, User::Open(open), now);
        let live = self.connections.get(connection).is_some();
        self.moves.opened(key, service.clone(), live.then_some(connection), now);
        self.events.push_back(Event::StreamOpened {
            peer,
            stream: key.stream,
            service,
            path,
            relay: path.relay(),
            direction: Direction::Outbound,
        });
        self.place(key, now);
        self.consider_spare(peer, now);
    }

    /// An open came to nothing on its connection, and goes on over the next; unless it was answered, or has
    /// tried enough of them.
    pub(super) fn substream_failed(&mut self, open: OpenId, failure: SubstreamFailure, now: Instant) {
        let Some(pending) = self.opens.get(open) else { return };
        let (peer, service) = (pending.peer, pending.service.clone());
        let failure = match failure {
            // A substream that ends while the protocol is agreed on looks like one whose protocol is not spoken.
            SubstreamFailure::Unsupported if self.connections.has_carried(peer) => {
                SubstreamFailure::Lost("the peer closed the connection".to_owned())
            }
            other => other,
        };
        let error = match failure {
            SubstreamFailure::Refused(Refusal::DirectOnly) if self.wait_for_direct(open, now) => return,
            SubstreamFailure::Refused(reason) => {
                let (asked, direction) = (service.clone(), Direction::Outbound);
                let refused = Event::StreamRefused { peer, service: asked, reason, direction };
                self.events.push_back(refused);
                OpenError::Refused { peer, service, reason }
            }
            SubstreamFailure::Unsupported => OpenError::Unsupported { peer, protocol: PROTOCOL_NAME },
            SubstreamFailure::Over(cause) => OpenError::ConnectionLost { peer, cause },
            SubstreamFailure::Deadline | SubstreamFailure::Lost(_) if self.try_next(open, now) => return,
            SubstreamFailure::Deadline => OpenError::Deadline {
                peer,
                deadline: self.config.deadlines.negotiate,
                stage: OpenStage::Negotiating,
                tried: Vec::new(),
            },
            SubstreamFailure::Lost(cause) => OpenError::ConnectionLost { peer, cause },
        };
        self.fail(open, error, now);
        self.admit_waiting(peer, now);
    }

    /// Leaves the connection that an open negotiates on, for the next one. False if it has tried enough of them.
    fn try_next(&mut self, open: OpenId, now: Instant) -> bool {
        // Without a connection it is looking for one already.
        let Some((pending, connection)) = self.opens.give_up(open) else { return true };
        let again = pending.tried.len() < CONNECTIONS_TRIED_MAX;
        self.connections.remove_user(connection, User::Open(open), now);
        if again {
            self.advance(open, now);
        }
        again
    }

    pub(super) fn inbound_stream(
        &mut self,
        inbound: InboundId,
        connection: ConnectionId,
        stream: StreamId,
        service: Service,
        queue: Queue,
        now: Instant,
    ) {
        let asker = self.connections.get(connection).map(|found| (found.peer, found.origin));
        let peer = asker.map(|(peer, _)| peer);
        let barred = !self.takes_streams(connection);
        let barred = barred.then_some(Turned { reason: Refusal::DirectOnly, counted: None });
        match barred.or_else(|| self.refusal(asker, &service, queue)) {
            Some(Turned { reason, counted }) => {
                if let Some((what, full)) = counted {
                    self.refused_by(peer, what, full);
                } else if let Some(peer) = peer {
                    let direction = Direction::Inbound;
                    self.events.push_back(Event::StreamRefused { peer, service, reason, direction });
                }
                self.actions.push_back(Action::Refuse { inbound, refusal: reason });
            }
            None => {
                let Some((peer, origin)) = asker else { return };
                self.stream_places.asked(inbound, origin, self.standing(peer));
                let deadline = now + self.config.deadlines.negotiate;
                self.requests.insert(inbound, peer, connection, service, deadline);
                self.connections.add_user(connection, User::Request(inbound));
                let ask = matches!(queue, Queue::Free { ask: true, .. });
                let key = StreamKey { peer, stream };
                self.actions.push_back(if ask {
                    Action::Ask { inbound }
                } else {
                    Action::Accept { inbound, key }
                });
            }
        }
    }

    /// Why a peer's stream is turned away at once, if it is.
    fn refusal(
        &self,
        asker: Option<(PeerId, Origin)>,
        service: &Service,
        queue: Queue,
    ) -> Option<Turned> {
        let (Some((peer, origin)), None) = (asker, self.stopping) else {
            return Some(Turned { reason: Refusal::Shutdown, counted: None });
        };
        match queue {
            Queue::NotServed => Some(Turned { reason: Refusal::NotServed, counted: None }),
            Queue::Full { limit } => Some(Turned::busy(Asked::Stream, LimitOwner::Service, limit)),
            Queue::Free { services, .. } if !self.has_room(peer, service, services) => {
                let limit = self.config.limits.streams_per_peer;
                Some(Turned::busy(Asked::StreamOfPeer, LimitOwner::Peer, limit))
            }
            Queue::Free { .. } => {
                let Full { whose, limit } =
                    self.stream_places.fits(origin, self.standing(peer)).err()?;
                Some(Turned::busy(Asked::Stream, whose, limit))
            }
        }
    }

    /// Whether a peer may have one more stream of a service, of which this node has so many. Each has an equal
    /// share for certain, and what no other service's share needs.
    fn has_room(&self, peer: PeerId, service: &Service, services: usize) -> bool {
        let limit = self.config.limits.streams_per_peer;
        let total = self.streams_of(peer);
        if total >= limit {
            return false;
        }
        let share = limit / services.max(1);
        let mut counts = std::collections::BTreeMap::new();
        let inbound = self.guests.services_of(peer).chain(self.requests.services_of(peer));
        for used in inbound {
            *counts.entry(used).or_insert(0_usize) += 1;
        }
        if counts.get(service).copied().unwrap_or_default() < share {
            return true;
        }
        let others = counts.iter().filter(|(other, _)| **other != service);
        let used_of_shares: usize = others.map(|(_, count)| (*count).min(share)).sum();
        let kept_free = (share * services.saturating_sub(1)).saturating_sub(used_of_shares);
        total + kept_free < limit
    }

    pub(super) fn stream_accepted(
        &mut self,
        inbound: InboundId,
        key: StreamKey,
        service: Service,
        path: Path,
        now: Instant,
    ) {
        self.stream_places.accepted(inbound, key);
        self.request_ended(inbound, now);
        self.guests.accepted(key, service.clone());
        let (peer, stream, direction) = (key.peer, key.stream, Direction::Inbound);
        self.meet(peer, now);
        let relay = path.relay();
        self.events.push_back(Event::StreamOpened { peer, stream, service, path, relay, direction });
        self.consider_spare(peer, now);
    }

    pub(super) fn request_moved(&mut self, inbound: InboundId, to: ConnectionId, now: Instant) {
        if let Some(before) = self.requests.moved(inbound, to) {
            self.connections.remove_user(before, User::Request(inbound), now);
            self.connections.add_user(to, User::Request(inbound));
        }
    }

    /// Nobody waits for a decision any more.
    pub(super) fn request_ended(&mut self, inbound: InboundId, now: Instant) {
        self.stream_places.ended(inbound);
        if let Some(asked) = self.requests.remove(inbound) {
            self.connections.remove_user(asked.connection, User::Request(inbound), now);
            self.admit_waiting(asked.peer, now);
        }
    }

    pub(super) fn request_overdue(&mut self, inbound: InboundId, now: Instant) {
        self.request_ended(inbound, now);
        self.actions.push_back(Action::Refuse { inbound, refusal: Refusal::Busy });
    }

    pub(super) fn leg_started(
        &mut self,
        key: StreamKey,
        connection: ConnectionId,
        leg: LegId,
        now: Instant,
    ) {
        self.connections.add_user(connection, User::Leg(leg));
        self.connections.remove_user(connection, User::Move(key), now);
    }

    pub(super) fn stream_closed(&mut self, key: StreamKey, now: Instant) {
        if let Some(connection) = self.moves.target(key) {
            self.connections.remove_user(connection, User::Move(key), now);
        }
        self.moves.closed(key);
        self.guests.closed(key);
        self.stream_places.closed(key);
        self.departures.settled(key);
        self.admit_waiting(key.peer, now);
    }
}

/// Why a stream is turned away, and the limit that it would exceed.
struct Turned {
    reason: Refusal,
    counted: Option<(Asked, Full)>,
}

impl Turned {
    fn busy(what: Asked, whose: LimitOwner, limit: usize) -> Self {
        Self { reason: Refusal::Busy, counted: Some((what, Full { whose, limit })) }
    }
}
