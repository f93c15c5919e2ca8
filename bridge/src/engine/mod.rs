//! The engine decides: which connection a stream opens on, whom to dial, when to reserve, what to offer
//! as a candidate, what to close.
//!
//! It is pure. [`Engine::handle`] takes one [`Input`] and the time; [`Engine::poll_action`] says what
//! the driver must do, [`Engine::poll_event`] what the world may know, [`Engine::poll_timeout`] when to
//! call [`Engine::handle_timeout`]. No clock, no channel, no I/O object: those wait in the driver
//! under an id. One sub-machine per question:
//!
//! - [`connections`]: which are up, which is the best, which is unused;
//! - [`opens`]: who waits for a stream;
//! - [`dials`]: where is a peer, and what have we tried;
//! - [`relays`]: links and reservations;
//! - [`candidates`]: how the outside sees us;
//! - [`upgrades`]: who is reached only through a relay;
//! - [`moves`]: which of our streams should run elsewhere.

mod candidates;
mod connections;
mod dials;
pub(crate) mod input;
mod moves;
mod opens;
mod relays;
#[cfg(test)]
mod tests;
mod upgrades;

use std::{collections::VecDeque, time::Instant};

use libp2p::{Multiaddr, PeerId};

use self::{
    candidates::Candidates,
    connections::{Connections, Grace},
    dials::{Dials, Way},
    input::{Action, CircuitLimit, DialId, Input, OpenFailure, OpenId, Opened, Queue, SubstreamFailure},
    moves::{Moves, Standing},
    opens::{CONNECTIONS_TRIED_MAX, Opens, PendingOpen},
    relays::{Lost, Relays, Step},
    upgrades::Upgrades,
};
use crate::{
    addr::RelayAddr,
    config::Config,
    error::{CloseCause, DialFailureReason, OpenError, Refusal},
    event::{Asked, CandidateSource, Event},
    path::{ConnectionId, Direction},
    service::Service,
    stream::StreamKey,
};

pub(crate) struct Engine {
    local: PeerId,
    config: Config,
    connections: Connections,
    opens: Opens,
    dials: Dials,
    relays: Relays,
    candidates: Candidates,
    upgrades: Upgrades,
    moves: Moves,
    stopping: Option<Instant>,
    stopped: bool,
    next_dial: u64,
    actions: VecDeque<Action>,
    events: VecDeque<Event>,
}

impl Engine {
    pub(crate) fn new(local: PeerId, config: Config, seed: u64) -> Self {
        let limits = &config.limits;
        Self {
            local,
            connections: Connections::new(config.transports),
            opens: Opens::default(),
            dials: Dials::new(limits.known_peers, limits.addresses_per_peer),
            relays: Relays::new(
                config.deadlines.clone(),
                limits.relays,
                limits.addresses_per_peer,
                seed,
            ),
            candidates: Candidates::new(config.global.clone()),
            upgrades: Upgrades::default(),
            moves: Moves::default(),
            stopping: None,
            stopped: false,
            next_dial: 0,
            actions: VecDeque::new(),
            events: VecDeque::new(),
            config,
        }
    }

    pub(crate) fn handle(&mut self, input: Input, now: Instant) {
        match input {
            Input::Open { open, peer, service } => self.open(open, peer, service, now),
            Input::Learn { peer, addresses } => self.dials.learn(peer, addresses),
            Input::Reserve { relay } => self.reserve(&relay, now),
            Input::Shutdown => self.shutdown(now),
            Input::Listening { address } => self.events.push_back(Event::Listening { address }),
            Input::ConnectionOpened(opened) => self.connection_opened(opened, now),
            Input::ConnectionClosed { connection, cause } => {
                self.connection_closed(connection, cause, now);
            }
            Input::ConnectionRefused { peer, limit } => {
                self.refused(peer, Asked::Connection, limit);
            }
            Input::DialFailed { dial, reason } => self.dial_failed(dial, reason, now),
            Input::PunchFailed { peer } => {
                if let Some(attempts) = self.upgrades.punch_failed(peer) {
                    let reason = crate::error::UpgradeFailure::PunchFailed;
                    self.events.push_back(Event::UpgradeFailed { peer, reason, attempts });
                }
            }
            Input::UpgradeFailed { peer, reason } => {
                if let Some(attempts) = self.upgrades.failed(peer) {
                    self.events.push_back(Event::UpgradeFailed { peer, reason, attempts });
                }
            }
            Input::Identified { connection, observed, reservation } => {
                self.identified(connection, &observed, reservation, now);
            }
            Input::Unresponsive { connection } => self.close(connection, CloseCause::Unresponsive),
            Input::ReservationAccepted { relay, limit, at } => {
                self.reservation_accepted(relay, limit, at);
            }
            Input::ReservationEnded { relay, cause } => {
                if self.relays.reservation_ended(relay, now) {
                    self.events.push_back(Event::ReservationLost { relay, cause });
                }
            }
            Input::SubstreamOpened { open, connection, stream } => {
                self.substream_opened(open, connection, stream);
            }
            Input::SubstreamFailed { open, failure } => self.substream_failed(open, failure, now),
            Input::InboundStream { inbound, connection, stream, service, queue } => {
                self.inbound_stream(inbound, connection, stream, service, queue);
            }
            Input::LegEnded { connection } => self.connections.remove_user(connection, now),
            Input::LegAttached { connection } => self.connections.add_user(connection),
            Input::StreamMoved { key, to } => {
                self.moves.moved(key, to);
                self.place(key, now);
            }
            Input::MoveFailed { key } => self.moves.failed(key, now),
            Input::StreamDetached { key, connection, silent } => {
                if let Some(connection) = connection.filter(|_| silent) {
                    self.connections.suspect(connection, true);
                }
                self.moves.detached(key);
                self.place(key, now);
            }
            Input::StreamClosed { key } => self.moves.closed(key),
            Input::Responsive { connection } => {
                if let Some(peer) = self.connections.suspect(connection, false) {
                    self.place_all(peer, now);
                }
            }
        }
        self.handle_timeout(now);
    }

    /// Does everything that is due at `now`.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        for open in self.opens.overdue(now) {
            self.open_overdue(open, now);
        }
        for (peer, step) in self.relays.poll(now) {
            self.relay_step(peer, step, now);
        }
        for key in self.moves.due(now) {
            self.moves.take_due(key);
            self.place(key, now);
        }
        let grace = self.grace();
        let relays = &self.relays;
        for id in self.connections.expired(grace, |peer| relays.needs_link(peer), now) {
            self.close(id, CloseCause::Unused);
        }
        if self.stopping.is_some_and(|at| at <= now || self.connections.is_empty()) && !self.stopped {
            self.stopped = true;
            self.events.push_back(Event::Stopped {});
        }
    }

    pub(crate) fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    pub(crate) fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let unused = self.connections.next_expiry(self.grace(), |peer| self.relays.needs_link(peer));
        [
            self.opens.next_deadline(),
            self.relays.next_deadline(),
            self.moves.next_deadline(),
            unused,
            self.stopping,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Whether a shutdown is under way.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.is_some()
    }

    /// Whether everything is closed, or was given up on.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// A connection's facts, for whoever builds a stream on it.
    pub(crate) fn path(&self, connection: ConnectionId) -> Option<crate::path::Path> {
        Some(self.connections.get(connection)?.path)
    }

    fn grace(&self) -> Grace {
        let deadlines = &self.config.deadlines;
        Grace { relayed: deadlines.relayed_grace, direct: deadlines.direct_grace }
    }

    fn refused(&mut self, peer: Option<PeerId>, what: Asked, limit: u64) {
        self.events.push_back(Event::Refused { peer, what, limit });
    }

    fn close(&mut self, connection: ConnectionId, cause: CloseCause) {
        if self.connections.begin_close(connection, cause) {
            self.actions.push_back(Action::CloseConnection { connection });
        }
    }

    fn shutdown(&mut self, now: Instant) {
        if self.stopping.is_some() {
            return;
        }
        self.stopping = Some(now + self.config.deadlines.shutdown);
        for open in self.opens.ids() {
            self.fail(open, OpenError::Shutdown, now);
        }
        for connection in self.connections.ids() {
            self.close(connection, CloseCause::Shutdown);
        }
    }
}

/// Opens: from "a stream to this peer" to a substream on its best connection.
impl Engine {
    fn open(&mut self, open: OpenId, peer: PeerId, service: Service, now: Instant) {
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
    fn advance(&mut self, open: OpenId, now: Instant) {
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

    /// Dials the peer by every way that is known. False if none is.
    fn reach(&mut self, peer: PeerId, now: Instant) -> bool {
        if self.dials.is_reaching(peer) {
            return true;
        }
        let ways = self.dials.begin(peer);
        let known = !ways.is_empty();
        for way in ways {
            self.take(peer, way, now);
        }
        known
    }

    fn take(&mut self, peer: PeerId, way: Way, now: Instant) {
        match way {
            Way::Direct(addresses) => self.dial(peer, Way::Direct(addresses.clone()), addresses),
            // One relay known by several addresses is still one way.
            Way::Circuit(relay) if self.dials.is_dialling_through(peer, relay.peer()) => {
                self.dials.skip(peer);
            }
            Way::Circuit(relay) if self.relays.is_ready(relay.peer()) => {
                self.dial_circuit(peer, relay, now);
            }
            Way::Circuit(relay) => match self.relays.add(&relay, false, now) {
                Ok(()) => {
                    self.dials.await_relay(peer, relay.clone());
                    self.relays.want_link(relay.peer(), now);
                }
                Err(full) => {
                    let limit = format!("{} relays in use", full.limit);
                    let reason = DialFailureReason::Limit { limit };
                    let ended = self.dials.way_failed(peer, &Way::Circuit(relay), reason);
                    self.unreachable(ended, now);
                }
            },
        }
    }

    fn dial_circuit(&mut self, peer: PeerId, relay: RelayAddr, now: Instant) {
        self.connections.touch(relay.peer(), now);
        let address = relay.circuit_to(peer);
        self.dial(peer, Way::Circuit(relay), vec![address]);
    }

    fn dial(&mut self, peer: PeerId, way: Way, addresses: Vec<Multiaddr>) {
        let dial = self.next_dial();
        self.dials.dialling(peer, dial, way);
        self.actions.push_back(Action::Dial { dial, peer, addresses });
    }

    fn next_dial(&mut self) -> DialId {
        self.next_dial += 1;
        DialId(self.next_dial)
    }

    fn dial_failed(&mut self, dial: DialId, reason: DialFailureReason, now: Instant) {
        if let Some(relay) = self.relays.dial_failed(dial, now) {
            self.circuits_failed(relay, &reason, now);
        } else {
            let ended = self.dials.failed(dial, reason);
            self.unreachable(ended, now);
        }
    }

    /// Fails the circuits that wait for this relay's link.
    fn circuits_failed(&mut self, relay: PeerId, reason: &DialFailureReason, now: Instant) {
        for (peer, address) in self.dials.take_awaiting(relay) {
            let ended = self.dials.way_failed(peer, &Way::Circuit(address), reason.clone());
            self.unreachable(ended, now);
        }
    }

    fn unreachable(&mut self, ended: Option<(PeerId, Vec<crate::error::DialFailure>)>, now: Instant) {
        let Some((peer, causes)) = ended else { return };
        self.moves.unreachable(peer, now);
        for open in self.opens.connecting_to(peer) {
            let causes = causes.clone();
            self.fail(open, OpenError::Unreachable { peer, causes }, now);
        }
    }

    fn fail(&mut self, open: OpenId, error: OpenError, now: Instant) {
        let Some(pending) = self.opens.remove(open) else { return };
        if let Some(connection) = pending.on {
            self.connections.remove_user(connection, now);
        }
        self.actions.push_back(Action::FailOpen { open, error: OpenFailure(error) });
    }

    fn open_overdue(&mut self, open: OpenId, now: Instant) {
        let Some(pending) = self.opens.get_mut(open) else { return };
        let (peer, stage) = (pending.peer, pending.stage());
        let deadline = self.config.deadlines.open;
        self.fail(open, OpenError::Deadline { peer, deadline, stage }, now);
    }

    /// The stream takes over the place that the open had on the connection.
    fn substream_opened(
        &mut self,
        open: OpenId,
        connection: ConnectionId,
        stream: crate::stream::StreamId,
    ) {
        let Some(pending) = self.opens.remove(open) else { return };
        let Some(path) = self.path(connection) else { return };
        let key = StreamKey { peer: pending.peer, stream };
        self.moves.opened(key, connection);
        self.events.push_back(Event::StreamOpened {
            peer: pending.peer,
            stream,
            service: pending.service,
            path,
            direction: Direction::Outbound,
        });
    }

    fn substream_failed(&mut self, open: OpenId, failure: SubstreamFailure, now: Instant) {
        let Some(pending) = self.opens.get_mut(open) else { return };
        let peer = pending.peer;
        let service = pending.service.clone();
        if let Some(connection) = pending.on.take() {
            pending.tried.push(connection);
            self.connections.remove_user(connection, now);
        }
        let tried = self.opens.get_mut(open).map_or(0, |pending| pending.tried.len());
        let error = match failure {
            SubstreamFailure::Refused(reason) => OpenError::Refused { peer, service, reason },
            SubstreamFailure::Unsupported => {
                OpenError::Unsupported { peer, protocol: crate::stream::PROTOCOL_NAME }
            }
            _ if tried < CONNECTIONS_TRIED_MAX => return self.advance(open, now),
            SubstreamFailure::Deadline => OpenError::Deadline {
                peer,
                deadline: self.config.deadlines.negotiate,
                stage: crate::error::OpenStage::Negotiating,
            },
            SubstreamFailure::Lost(cause) => OpenError::ConnectionLost { peer, cause },
        };
        self.fail(open, error, now);
    }

    fn inbound_stream(
        &mut self,
        inbound: input::InboundId,
        connection: ConnectionId,
        stream: crate::stream::StreamId,
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
            (Some((peer, _)), Queue::Free) if self.connections.users_of(peer) >= per_peer => {
                Some((Refusal::Busy, Some((Asked::StreamOfPeer, per_peer))))
            }
            _ => None,
        };
        if let Some((refusal, counted)) = refusal {
            if let Some((what, limit)) = counted {
                self.refused(facts.map(|(peer, _)| peer), what, limit as u64);
            }
            self.actions.push_back(Action::Refuse { inbound, refusal });
        } else if let Some((peer, path)) = facts {
            self.connections.add_user(connection);
            let direction = Direction::Inbound;
            self.events.push_back(Event::StreamOpened { peer, stream, service, path, direction });
            self.actions.push_back(Action::Accept { inbound });
        }
    }
}

/// Moves: every stream of ours on the best connection to its peer.
impl Engine {
    fn place_all(&mut self, peer: PeerId, now: Instant) {
        for key in self.moves.of(peer) {
            self.place(key, now);
        }
    }

    /// Moves a stream if there is reason to. From direct to direct there is none.
    fn place(&mut self, key: StreamKey, now: Instant) {
        if self.stopping.is_some() {
            return;
        }
        let best = self.connections.best(key.peer, &[]).filter(|id| !self.connections.is_suspect(*id));
        let direct = |id: ConnectionId| self.path(id).is_some_and(|path| path.is_direct());
        let target = match self.moves.standing(key, now) {
            Some(Standing::Detached) => match best {
                None => {
                    if !self.reach(key.peer, now) {
                        self.moves.failed(key, now);
                    }
                    return;
                }
                found => found,
            },
            Some(Standing::On(on)) if !direct(on) => best.filter(|best| direct(*best)),
            _ => None,
        };
        if let Some(connection) = target {
            self.moves.moving(key, connection);
            self.connections.add_user(connection);
            self.actions.push_back(Action::MoveStream { key, connection });
        }
    }
}

/// Connections and relays.
impl Engine {
    fn connection_opened(&mut self, opened: Opened, now: Instant) {
        let Opened { connection, peer, path, direction, transport, ref address, .. } = opened;
        self.connections.opened(&opened, now);
        self.events.push_back(Event::ConnectionOpened {
            peer,
            connection,
            path,
            relay: path.relay(),
            direction,
            transport,
            address: address.clone(),
        });
        if let Some(dial) = opened.dial {
            self.dials.succeeded(dial);
        }
        if path.is_direct() {
            self.relays.connection_opened(peer, connection, now);
            if let Some(upgraded) = self.upgrades.direct(peer, now) {
                let took_ms = upgraded.took.as_millis() as u64;
                let attempts = upgraded.attempts;
                self.events.push_back(Event::UpgradeSucceeded {
                    peer,
                    connection,
                    transport,
                    took_ms,
                    attempts,
                });
            }
        } else if !self.connections.has_direct(peer) {
            self.upgrades.relayed(peer, now);
        }
        for open in self.opens.connecting_to(peer) {
            self.advance(open, now);
        }
        self.moves.hope(peer);
        self.place_all(peer, now);
        if self.stopping.is_some() {
            self.close(connection, CloseCause::Shutdown);
        }
    }

    fn connection_closed(&mut self, id: ConnectionId, cause: CloseCause, now: Instant) {
        let Some((connection, ours)) = self.connections.closed(id) else { return };
        let cause = ours.unwrap_or(cause);
        if let Some(lost) = self.relays.connection_closed(id, now) {
            self.link_lost(lost, &cause, now);
        }
        let (peer, path) = (connection.peer, connection.path);
        if let Some(relay) = path.relay() {
            self.connections.touch(relay, now);
        }
        if self.connections.of(peer).next().is_none() {
            self.upgrades.disconnected(peer);
        }
        self.events.push_back(Event::ConnectionClosed { peer, connection: id, path, cause });
    }

    fn link_lost(&mut self, lost: Lost, cause: &CloseCause, now: Instant) {
        let Lost { relay, held } = lost;
        let cause = cause.to_string();
        if !self.relays.contains(relay) {
            // It only served to dial circuits and nobody dials it again, so none of them can come.
            let reason = DialFailureReason::Network { cause: cause.clone() };
            self.circuits_failed(relay, &reason, now);
        }
        if held {
            self.events.push_back(Event::ReservationLost { relay, cause });
        }
    }

    fn identified(
        &mut self,
        id: ConnectionId,
        observed: &Multiaddr,
        reservation: Option<std::time::Duration>,
        now: Instant,
    ) {
        let Some(connection) = self.connections.get(id) else { return };
        let relay = connection.peer;
        let dialled = connection.direction == Direction::Outbound && connection.path.is_direct();
        if !self.relays.contains(relay) {
            return;
        }
        if dialled && let Some(address) = self.candidates.observed(relay, observed) {
            let source = CandidateSource::Relay { relay };
            self.events.push_back(Event::CandidateFound { address: address.clone(), source });
            self.actions.push_back(Action::AddCandidate { address });
        }
        if self.relays.identified(relay, id, reservation) {
            self.relay_ready(relay, now);
        }
    }

    fn relay_ready(&mut self, relay: PeerId, now: Instant) {
        for (peer, address) in self.dials.take_awaiting(relay) {
            self.dial_circuit(peer, address, now);
        }
        for (peer, step) in self.relays.poll(now) {
            self.relay_step(peer, step, now);
        }
    }

    fn relay_step(&mut self, peer: PeerId, step: Step, now: Instant) {
        if self.stopping.is_some() {
            return;
        }
        match step {
            Step::Dial(relays) => self.dial_relay(peer, &relays, now),
            Step::Reserve(relay) => self.actions.push_back(Action::ListenOnCircuit { relay }),
            Step::Ready => self.relay_ready(peer, now),
            Step::Close(connection) => self.close(connection, CloseCause::Unresponsive),
        }
    }

    fn dial_relay(&mut self, peer: PeerId, relays: &[RelayAddr], now: Instant) {
        let live = self.connections.of(peer).find(|(_, found)| found.path.is_direct());
        if let Some((connection, _)) = live {
            self.relays.connection_opened(peer, connection, now);
            return;
        }
        let dial = self.next_dial();
        self.relays.dialling(peer, dial);
        let addresses = relays.iter().map(|relay| relay.address().clone()).collect();
        self.actions.push_back(Action::Dial { dial, peer, addresses });
    }

    fn reserve(&mut self, relay: &RelayAddr, now: Instant) {
        if self.relays.add(relay, true, now).is_err() {
            let limit = self.config.limits.relays as u64;
            self.refused(Some(relay.peer()), Asked::Relay, limit);
        }
    }

    fn reservation_accepted(&mut self, relay: PeerId, limit: CircuitLimit, at: std::time::SystemTime) {
        if !self.relays.reservation_accepted(relay) {
            return;
        }
        let Some(address) = self.relays.address(relay) else { return };
        self.events.push_back(Event::ReservationHeld {
            relay,
            address: address.circuit_to(self.local),
            expires: self.relays.announced(relay).map(|duration| at + duration),
            circuit_bytes_max: limit.bytes,
            circuit_seconds_max: limit.duration.map(|duration| duration.as_secs()),
        });
    }
}
