//! The engine decides: which connection a stream opens on, whom to dial, when to reserve, what to offer
//! as a candidate, what to close.
//!
//! It is pure. [`Engine::handle`] takes one [`Input`] and the time; [`Engine::poll_action`] says what
//! the driver must do, [`Engine::poll_event`] what the world may know, [`Engine::poll_timeout`] when to
//! call [`Engine::handle_timeout`]. No clock, no channel, no I/O object: those wait in the driver
//! under an id. Its rooms, each with one sub-machine per question:
//!
//! - [`paths`]: which connections are up, and who may have one; where peers are; how a relayed connection becomes a
//!   direct one;
//! - [`streams`]: who waits for a stream, and on which connection each runs;
//! - [`relays`]: links, reservations, and when a relay may be asked again;
//! - [`liveness`]: what speaks for and against the life of a path and of a peer.
//!
//! [`retry`] is for whoever does not want to wait; `waits` says what programs wait for, where they wait longer than is usual.
//!
//! [`input`] is what it is told and what it answers, [`record`] the same as text, [`invariants`] what must hold after
//! every input.

pub(crate) mod input;
#[cfg(any(test, debug_assertions))]
mod invariants;
mod liveness;
pub(crate) mod paths;
pub(crate) mod record;
mod relays;
pub(crate) mod retry;
mod status;
mod streams;
#[cfg(test)]
mod tests;
mod waits;

use std::{collections::VecDeque, time::Instant};

use libp2p::{Multiaddr, PeerId};

pub(crate) use self::liveness::{GIVEN_UP, PING_INTERVAL, QUIET_AFTER, QUIET_PING_INTERVAL};
use self::{
    input::{Action, Input},
    liveness::{beats::Beats, departures::Departures, pings::Pings},
    paths::{
        allowance::Allowance,
        bans::Bans,
        candidates::Candidates,
        confirmed::{Confirmed, Contacts},
        connections::{Connections, Grace, Need, User},
        dials::Dials,
        familiar::Familiar,
        holds::Holds,
        introductions::Introductions,
        mapping::Mappings,
        nat::Nat,
        places::{Full, Places, StreamPlaces},
        stated::Stated,
        upgrades::{Upgrades, counts::UpgradeCounts},
    },
    relays::{
        Relays, blocked::Obstacles, names::RelayNames, refusals::Refusals, sights::Sights,
        spares::Spares,
    },
    streams::{guests::Guests, moves::Moves, opens::Opens, requests::Requests, sought::Sought},
    waits::Waits,
};
use crate::{
    addr::policy::{Policy, Source},
    config::Config,
    error::{CloseCause, OpenError},
    event::{Asked, Event, UpgradeCount},
    path::ConnectionId,
};

pub(crate) struct Engine {
    local: PeerId,
    config: Config,
    connections: Connections,
    opens: Opens,
    sought: Sought,
    dials: Dials,
    bans: Bans,
    relays: Relays,
    relay_names: RelayNames,
    refusals: Refusals,
    sights: Sights,
    spares: Spares,
    candidates: Candidates,
    mappings: Mappings,
    nat: Nat,
    confirmed: Confirmed,
    contacts: Contacts,
    upgrades: Upgrades,
    upgrade_counts: UpgradeCounts,
    introductions: Introductions,
    familiar: Familiar,
    allowance: Allowance,
    hint_allowance: Allowance,
    moves: Moves,
    guests: Guests,
    requests: Requests,
    stream_places: StreamPlaces,
    departures: Departures,
    beats: Beats,
    pings: Pings,
    holds: Holds,
    waits: Waits,
    /// The missing peers that relays are asked to tell of.
    watched: Vec<PeerId>,
    /// Another relay may be asked about one of them, or one no longer.
    watchers_changed: bool,
    obstacles: Obstacles,
    /// When somebody last did not want to wait.
    retried: Option<Instant>,
    /// When a shutdown no longer waits: for the streams to tell their peers, and for the connections to close.
    stopping: Option<Stopping>,
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
            connections: Connections::new(
                config.transports,
                config.relay_mode.carries_streams(),
                Places::new(limits.held_by_peers, limits.sharing),
            ),
            opens: Opens::default(),
            sought: Sought::default(),
            bans: Bans::default(),
            dials: Dials::new(limits.known_peers, limits.addresses_per_peer, seed),
            relays: Relays::new(
                config.deadlines.clone(),
                limits.relays,
                limits.addresses_per_peer,
                seed,
            ),
            relay_names: RelayNames::new(config.deadlines.reserve_backoff, seed),
            refusals: Refusals::default(),
            sights: Sights::default(),
            spares: Spares::default(),
            candidates: Candidates::new(
                Policy::new(config.global.clone(), config.ranges.clone()),
                Stated::new(&config.external),
            ),
            mappings: Mappings::default(),
            nat: Nat::new(&config.stun_servers, config.global.clone()),
            confirmed: Confirmed::default(),
            contacts: Contacts::default(),
            upgrades: Upgrades::new(
                config.upgrades == crate::config::Upgrades::AtOnce,
                config.deadlines.upgrade_again,
            ),
            upgrade_counts: UpgradeCounts::default(),
            introductions: Introductions::default(),
            familiar: Familiar::new(limits.familiar_peers),
            allowance: Allowance::new(limits.dials.clone()),
            hint_allowance: Allowance::new(limits.dials.clone()),
            moves: Moves::default(),
            guests: Guests::default(),
            requests: Requests::default(),
            stream_places: StreamPlaces::new(Places::new(limits.streams_of_peers, limits.sharing)),
            departures: Departures::new(config.deadlines.absence),
            beats: Beats::default(),
            pings: Pings::default(),
            holds: Holds::new(limits.holds, config.deadlines.hold_backoff, config.deadlines.hold_pace),
            waits: Waits::default(),
            watched: Vec::new(),
            watchers_changed: false,
            obstacles: Obstacles::default(),
            retried: None,
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
            Input::Ping { ping, peer } => self.ping(ping, peer, now),
            Input::Hold { peer } => self.hold(peer, now),
            Input::LetGo { peer } => self.let_go(peer),
            Input::Learn { peer, addresses } => self.learn(peer, addresses, Source::Operator, now),
            Input::Hear { peer, addresses } => self.hear(peer, addresses, now),
            Input::Hint { peer, addresses, source } => self.hinted(peer, addresses, source, now),
            Input::Reserve { relay } => self.reserve(&relay, now),
            Input::ReserveAll(relays) => self.reserve_all(&relays, now),
            Input::RelaysResolved(resolved) => self.relays_resolved(resolved, now),
            Input::Retry(peer) => self.retry_now(peer, now),
            Input::Close { connection } => self.close(connection, CloseCause::Asked),
            Input::Shutdown => self.shutdown(now),
            Input::Listening { address } => self.listening(address, now),
            Input::ListeningEnded { address } => self.listening_ended(&address, now),
            Input::PortMapped { transport, external, by } => {
                self.port_mapped(transport, external, by, now);
            }
            Input::PortMappingLost { transport, family } => self.port_mapping_lost(transport, family),
            Input::ConnectionOpened(opened) => self.connection_opened(opened, now),
            Input::ConnectionClosed { connection, cause } => {
                self.connection_closed(connection, cause, now);
            }
            Input::ConnectionRefused { peer, full } => {
                self.refused_by(peer, Asked::Connection, full);
            }
            Input::DialFailed { dial, reason } => self.dial_failed(dial, reason, now),
            Input::SomebodyElse { dial, obtained, address } => {
                self.somebody_else(dial, obtained, &address, now);
            }
            Input::SoughtBy { sources, patience } => self.sought_by(sources, patience),
            Input::PunchFailed { dial, tried } => self.punch_failed(dial, tried, now),
            Input::PunchAnswered { exchange, offer, same_host, round_trip } => {
                self.punch_answered(exchange, &offer, same_host, round_trip, now);
            }
            Input::PunchOffered { exchange, offer, same_host } => {
                self.punch_offered(exchange, &offer, same_host, now);
            }
            Input::PunchSync { exchange } => self.punch_sync(exchange, now),
            Input::PunchExchangeFailed { exchange, reason } => {
                self.punch_exchange_failed(exchange, reason, now);
            }
            Input::KeepTo { ranges } => self.candidates.keep_to(ranges),
            Input::Barred { connection } => self.close(connection, CloseCause::Barred),
            Input::AllowUpgrades { allowed } => self.allow_upgrades(allowed, now),
            Input::Welcome { service, peers } => self.welcome(service, peers, now),
            Input::Identified { connection, observed } => self.identified(connection, &observed, now),
            Input::TestsOffered { connection } => self.tests_offered(connection, now),
            Input::AddressTested { test, outcome } => self.test_ended(test, outcome, now),
            Input::Unresponsive { connection } => self.close(connection, CloseCause::Unresponsive),
            Input::AddressGone { connection } => {
                self.departures.away(now);
                self.close(connection, CloseCause::AddressGone);
            }
            Input::NetworkChanged { begun } => {
                self.departures.away(now);
                self.network_changed(&begun, now);
            }
            Input::Slept { lasted } => self.slept(lasted, now),
            Input::Reserved { request, grant, at } => self.reserved(request, &grant, at, now),
            Input::ReserveFailed { request, failure } => self.reserve_failed(request, failure, now),
            Input::StreamOpened { open, key, connection, path } => {
                self.stream_opened(open, key, connection, path, now);
            }
            Input::SubstreamFailed { open, failure } => self.substream_failed(open, failure, now),
            Input::InboundStream { inbound, connection, stream, service, queue } => {
                self.inbound_stream(inbound, connection, stream, service, queue, now);
            }
            Input::StreamAccepted { inbound, key, service, path } => {
                self.stream_accepted(inbound, key, service, path, now);
            }
            Input::RequestMoved { inbound, connection } => {
                self.request_moved(inbound, connection, now);
            }
            Input::RequestEnded { inbound } => self.request_ended(inbound, now),
            Input::LegStarted { key, connection, leg } => self.leg_started(key, connection, leg, now),
            Input::LegEnded { connection, leg } => {
                self.connections.remove_user(connection, User::Leg(leg), now);
            }
            Input::StreamMoved { key, to } => self.stream_moved(key, to, now),
            Input::MoveFailed { key, connection, silent } => {
                self.move_failed(key, connection, silent, now);
            }
            Input::StreamDetached { key, connection, silent } => {
                self.stream_detached(key, connection, silent, now);
            }
            Input::StreamClosed { key } => self.stream_closed(key, now),
            Input::Heard { connection, word } => self.heard(connection, word, now),
            Input::NearlySpent { connection } => self.nearly_spent(connection, now),
            Input::Responsive { connection, round_trip, took } => {
                self.responsive(connection, round_trip, took, now);
            }
            Input::Asked { connection } => self.asked_on(connection, now),
            Input::Paced { connection, interval } => self.connections.paced(connection, interval, now),
            Input::Pulse { connection, last } => self.pulse_taken(connection, last, now),
            Input::StunAnswered { probe, from, mapped, other } => {
                self.nat.answered(probe, from, mapped, other, now);
            }
            Input::StunRefused { probe } => self.nat.refused(probe),
            Input::StunResolved { run, server, ips } => self.nat.resolved(run, &server, &ips, now),
        }
        self.handle_timeout(now);
        #[cfg(any(test, debug_assertions))]
        assert_eq!(self.broken_invariant(), None, "an invariant is broken");
    }

    /// Does everything that is due at `now`.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        for open in self.opens.overdue(now) {
            self.open_overdue(open, now);
        }
        for (peer, relay) in self.dials.due(now) {
            self.retry(peer, relay, now);
        }
        self.give_up_lookups(now);
        self.relays_due(now);
        for inbound in self.requests.overdue(now) {
            self.request_overdue(inbound, now);
        }
        for key in self.guests.take_due(now).into_iter().chain(self.departures.take_due(now)) {
            self.actions.push_back(Action::Forsake { key });
        }
        for peer in self.holds.take_due(now) {
            self.hold(peer, now);
        }
        for key in self.moves.take_due(now) {
            self.place(key, now);
        }
        for connection in self.connections.take_spent(now) {
            self.nearly_spent(connection, now);
        }
        for peer in self.connections.take_promoted(now) {
            self.place_all(peer, now);
        }
        self.watch_missing();
        self.make_spares(now);
        self.beats_due(now);
        self.check_quiet(now);
        self.observe_nat(now);
        self.upgrades_due(now);
        self.test_addresses(now);
        self.look_names_up(now);
        self.tell_waits(now);
        for id in self.connections.expired(self.grace(), self.needs(), now) {
            self.close(id, CloseCause::Unused);
        }
        self.stop(now);
        self.note_sought();
    }

    pub(crate) fn poll_action(&mut self) -> Option<Action> {
        let action = self.actions.pop_front()?;
        if let Action::Dial { addresses, .. } | Action::Punch { addresses, .. } = &action {
            addresses.iter().for_each(|address| self.contacts.note(address));
        }
        Some(action)
    }

    pub(crate) fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let all = [
            self.connections.next_expiry(self.grace(), self.needs()),
            self.connections.next_quiet(),
            self.connections.next_spent(),
            self.connections.next_promotion(),
            self.opens.next_deadline(),
            self.opens.next_lookup_end(),
            self.requests.next_deadline(),
            self.dials.next_deadline(),
            self.relays.next_deadline(),
            self.relay_names.next_deadline().filter(|_| self.stopping.is_none()),
            self.relays.health_deadline().filter(|_| self.stopping.is_none()),
            self.moves.next_deadline(),
            self.guests.next_deadline(),
            self.departures.next_deadline(),
            self.spares.next_deadline(),
            self.beats.next_deadline(),
            self.holds.next_deadline(),
            self.waits.next_deadline(),
            self.upgrades.next_deadline(),
            self.nat.next_deadline().filter(|_| self.stopping.is_none()),
            self.confirmed.next_deadline().filter(|_| self.stopping.is_none()),
            self.stopping.as_ref().map(|stopping| stopping.parted.unwrap_or(stopping.closed)),
        ];
        all.into_iter().flatten().min()
    }

    /// What upgrades came to since the start.
    pub(crate) fn upgrade_counts(&self) -> impl Iterator<Item = UpgradeCount> {
        self.upgrade_counts.rows()
    }

    /// Whether a shutdown is under way.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.is_some()
    }

    /// Whether everything is closed, or was given up on.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// The connection that a stream of ours is moving to.
    pub(crate) fn moves_to(&self, key: crate::stream::StreamKey) -> Option<ConnectionId> {
        self.moves.target(key)
    }

    /// A connection's facts, for whoever builds a stream on it.
    pub(crate) fn path(&self, connection: ConnectionId) -> Option<crate::path::Path> {
        Some(self.connections.get(connection)?.path)
    }

    /// What keeps a connection that no stream uses.
    fn needs(&self) -> impl Fn(PeerId) -> Need {
        let watching = |peer| self.watched.iter().any(|missing| self.may_know_of(peer, *missing));
        move |peer| Need {
            direct: self.relays.needs_link(peer) || watching(peer),
            best: self.holds.contains(peer),
            spares: self.runs_relayed(peer),
        }
    }

    /// Who is at the other end of a connection.
    pub(crate) fn peer(&self, connection: ConnectionId) -> Option<PeerId> {
        Some(self.connections.get(connection)?.peer)
    }

    /// Whether a peer is one of our relays.
    pub(crate) fn is_relay(&self, peer: PeerId) -> bool {
        self.relays.contains(peer)
    }

    fn grace(&self) -> Grace {
        let deadlines = &self.config.deadlines;
        Grace { relayed: deadlines.relayed_grace, direct: deadlines.direct_grace }
    }

    fn listening(&mut self, address: Multiaddr, now: Instant) {
        self.candidates.listening(&address, now);
        self.nat.network_changed(now);
        self.outlook_improved();
        self.map_ports();
        self.events.push_back(Event::Listening { address });
        self.begin_stated(now);
    }

    fn listening_ended(&mut self, address: &Multiaddr, now: Instant) {
        self.candidates.listening_ended(address);
        self.nat.network_changed(now);
        self.map_ports();
    }

    fn refused(&mut self, peer: Option<PeerId>, what: Asked, limit: u64) {
        self.events.push_back(Event::Refused { peer, what, limit, whose: None, count: 1 });
    }

    fn refused_by(&mut self, peer: Option<PeerId>, what: Asked, full: Full) {
        let Full { whose, limit } = full;
        let (whose, limit) = (Some(whose), limit as u64);
        self.events.push_back(Event::Refused { peer, what, limit, whose, count: 1 });
    }

    fn close(&mut self, connection: ConnectionId, cause: CloseCause) {
        let dead =
            matches!(cause, CloseCause::Unresponsive | CloseCause::AddressGone | CloseCause::Slept);
        if self.connections.begin_close(connection, cause) {
            self.actions.push_back(Action::CloseConnection { connection, dead });
        }
    }

    fn shutdown(&mut self, now: Instant) {
        if self.stopping.is_some() {
            return;
        }
        let deadlines = &self.config.deadlines;
        self.stopping =
            Some(Stopping { parted: Some(now + deadlines.parting), closed: now + deadlines.shutdown });
        for open in self.opens.ids() {
            self.fail(open, OpenError::Shutdown, now);
        }
        self.waits.clear();
        self.map_ports();
    }

    /// Carries a shutdown on: once no stream has anything to tell its peer, all connections close together, a
    /// circuit with the link to the relay that carries it; once they have, everything is over.
    fn stop(&mut self, now: Instant) {
        let Some(stopping) = self.stopping.as_mut().filter(|_| !self.stopped) else { return };
        let closed = stopping.closed <= now;
        if stopping.parted.is_some_and(|at| at <= now || !self.connections.any_used()) {
            stopping.parted = None;
            for connection in self.connections.ids() {
                self.close(connection, CloseCause::Shutdown);
            }
        }
        if closed || self.connections.is_empty() {
            self.stopped = true;
            self.events.extend(self.upgrade_counts.rows().map(Event::UpgradesCounted));
            self.events.push_back(Event::Stopped {});
        }
    }
}

/// A shutdown that is under way.
#[derive(Clone, Copy)]
struct Stopping {
    /// When the connections close though streams still tell their peers; none once they do.
    parted: Option<Instant>,
    /// When nobody waits for the connections any longer.
    closed: Instant,
}
