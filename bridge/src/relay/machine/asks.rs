//! The order in which a request meets the limits: its own rate, its own count, its address's, its
//! destination's, and the relay's last. Nothing is charged before all of them have been asked.

use std::time::{Duration, Instant};

use ipnet::IpNet;
use libp2p::PeerId;

use super::{
    Action, Answer, AskId, Limited, Machine, Refusal,
    circuits::{Circuit, Circuits, Stage},
    rates::{Allowance, Rates},
    timers::Due,
};
use crate::{
    addr::place::Place,
    event::{Asked, Event, LimitOwner},
    net::circuit::wire::Status,
    path::ConnectionId,
    relay::{Rate, RelayConfig},
    word::Word,
};

/// How much more often a network may ask than a host.
const NETWORK_FACTOR: u32 = 4;

/// How often peers, hosts and networks may ask for one kind of thing.
#[derive(Debug)]
struct Paces {
    peers: Rates<PeerId>,
    hosts: Rates<IpNet>,
    networks: Rates<IpNet>,
}

impl Paces {
    fn new(peer: Rate, ip: Rate) -> Self {
        let network = Allowance {
            burst: ip.per_hour.get().saturating_mul(NETWORK_FACTOR),
            interval: ip.interval() / NETWORK_FACTOR,
        };
        Self {
            peers: Rates::new(allowance(peer)),
            hosts: Rates::new(allowance(ip)),
            networks: Rates::new(network),
        }
    }

    fn check(&self, peer: PeerId, place: Place, now: Instant) -> Result<(), Limited> {
        self.check_peer(peer, now)?;
        limited(LimitOwner::Address, &self.hosts, place.host, now)?;
        limited(LimitOwner::Address, &self.networks, place.network, now)
    }

    fn check_peer(&self, peer: PeerId, now: Instant) -> Result<(), Limited> {
        limited(LimitOwner::Peer, &self.peers, peer, now)
    }

    fn charge(&mut self, peer: PeerId, place: Place, now: Instant) {
        self.peers.charge(peer, now);
        self.hosts.charge(place.host, now);
        self.networks.charge(place.network, now);
    }
}

fn allowance(rate: Rate) -> Allowance {
    Allowance { burst: rate.per_hour.get(), interval: rate.interval() }
}

fn limited<K: Copy + Ord>(
    whose: LimitOwner,
    rates: &Rates<K>,
    asker: K,
    now: Instant,
) -> Result<(), Limited> {
    let limited = |retry_after| Limited { whose, limit: rates.burst(), retry_after };
    rates.check(asker, now).map_err(limited)
}

/// How often anybody may ask for anything.
#[derive(Debug)]
pub(super) struct Allowances {
    reservations: Paces,
    circuits: Paces,
    /// Requests for a peer that holds no place, and peers that somebody wants to be told of. They cost their asker
    /// nothing else, so this is generous.
    lookups: Rates<IpNet>,
}

impl Allowances {
    pub(super) fn new(config: &RelayConfig) -> Self {
        Self {
            reservations: Paces::new(config.requests_per_peer, config.requests_per_ip),
            circuits: Paces::new(config.requests_per_peer, config.requests_per_ip),
            lookups: Rates::new(allowance(config.lookups_per_ip)),
        }
    }

    /// Charges the question whether one peer is there.
    ///
    /// # Errors
    /// If the address has asked too often; then nothing is charged.
    pub(super) fn look_up(&mut self, place: Place, now: Instant) -> Result<(), Limited> {
        limited(LimitOwner::Address, &self.lookups, place.host, now)?;
        self.lookups.charge(place.host, now);
        Ok(())
    }
}

impl Machine {
    pub(super) fn reserve(&mut self, ask: AskId, connection: ConnectionId, now: Instant) {
        let Some(link) = self.connections.link(connection) else {
            return self.actions.push_back(Action::Forget { ask });
        };
        let (peer, place) = (link.peer, link.place);
        let decided = match self.reservations.is_held(connection) {
            true => self.renew(connection, peer, now),
            false => self.take_place(connection, peer, place, now),
        };
        match decided {
            Ok(renewed) => {
                self.actions.push_back(Action::Grant { ask });
                self.events.push_back(Event::ReservationAccepted { peer, renewed });
            }
            Err((what, limited)) => {
                let status = match self.leaving.is_some() || what == Asked::Takeover {
                    true => Status::ReservationRefused,
                    false => Status::ResourceLimitExceeded,
                };
                self.note(Some(peer), what, limited, now);
                self.refuse(ask, status, Some(limited));
            }
        }
    }

    /// A renewal is refused for nothing but the peer's own haste.
    fn renew(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        now: Instant,
    ) -> Result<bool, (Asked, Limited)> {
        let pace = &mut self.allowances.reservations;
        pace.check_peer(peer, now).map_err(|limited| (Asked::Reservation, limited))?;
        pace.peers.charge(peer, now);
        if let Some((before, lapses)) = self.reservations.renew(connection, now) {
            self.timers.clear(Due::Lapse(connection), before);
            self.timers.set(Due::Lapse(connection), lapses);
        }
        Ok(true)
    }

    /// Whether the peer had a place already, by another connection.
    fn take_place(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        place: Place,
        now: Instant,
    ) -> Result<bool, (Asked, Limited)> {
        let refused = |limited| (Asked::Reservation, limited);
        if self.leaving.is_some() {
            return Err(refused(self.leaving_limit(now)));
        }
        let replaced = self.left_over(peer, connection);
        if !replaced.is_empty() {
            let takeover = |limited| (Asked::Takeover, limited);
            self.reservations.may_take_over(peer, now).map_err(takeover)?;
        }
        self.allowances.reservations.check(peer, place, now).map_err(refused)?;
        self.reservations.room(peer, place, &replaced).map_err(refused)?;
        self.allowances.reservations.charge(peer, place, now);
        if !replaced.is_empty() {
            self.reservations.took_over(peer, now);
        }
        let held = self.reservations.newest(peer).is_some();
        for old in replaced {
            self.take_away(old, now);
        }
        let (lapses, kept_until) = self.reservations.take(connection, peer, place, now);
        if let Some(until) = kept_until {
            self.timers.clear(Due::Unkept(peer), until);
        }
        self.timers.set(Due::Lapse(connection), lapses);
        self.actions.push_back(Action::Keep { peer, connection, keep: true });
        let watchers: Vec<ConnectionId> = self.watches.of(peer).collect();
        for client in watchers {
            self.say(client, Word::Present(peer));
        }
        Ok(held)
    }

    pub(super) fn connect(
        &mut self,
        ask: AskId,
        connection: ConnectionId,
        destination: PeerId,
        now: Instant,
    ) {
        let Some(link) = self.connections.link(connection) else {
            return self.actions.push_back(Action::Forget { ask });
        };
        let (source, place) = (link.peer, link.place);
        let Some(to) = self.reservations.newest(destination) else {
            return self.look_up_in_vain(ask, source, place, now);
        };
        if let Err(limited) = self.may_connect(source, place, to, now) {
            self.note(Some(source), Asked::Circuit, limited, now);
            return self.refuse(ask, Status::ResourceLimitExceeded, Some(limited));
        }
        self.allowances.circuits.charge(source, place, now);
        let stage = Stage::Waiting { until: now };
        let circuit = Circuit { source, from: connection, place, destination, to, stage };
        let until = self.circuits.wait(ask, circuit, now);
        self.timers.set(Due::Unanswered(ask), until);
        self.take_turns(to, now);
    }

    fn may_connect(
        &mut self,
        source: PeerId,
        place: Place,
        to: ConnectionId,
        now: Instant,
    ) -> Result<(), Limited> {
        if self.leaving.is_some() {
            return Err(self.leaving_limit(now));
        }
        self.allowances.circuits.check(source, place, now)?;
        self.circuits.room(source, place)?;
        let displaced = self.circuits.turn(to, place)?;
        if displaced.is_none() {
            self.circuits.room_in_all()?;
        }
        if let Some(displaced) = displaced {
            self.circuit_failed(displaced, Status::ResourceLimitExceeded, Some(Circuits::waited()));
        }
        Ok(())
    }

    /// Nobody is there. That costs the asker nothing of what it may ask for, but it is not for free.
    fn look_up_in_vain(&mut self, ask: AskId, source: PeerId, place: Place, now: Instant) {
        match self.allowances.look_up(place, now) {
            Ok(()) => self.refuse(ask, Status::NoReservation, None),
            Err(limited) => {
                self.note(Some(source), Asked::Circuit, limited, now);
                self.refuse(ask, Status::ResourceLimitExceeded, Some(limited));
            }
        }
    }

    /// Asks a destination about as many circuits as it may be asked about at once.
    pub(super) fn take_turns(&mut self, to: ConnectionId, now: Instant) {
        while let Some(ask) = self.circuits.next_turn(to) {
            let Some((waited, until)) = self.circuits.ask(ask, now) else { return };
            self.timers.clear(Due::Unanswered(ask), waited);
            self.timers.set(Due::Unanswered(ask), until);
            let Some(circuit) = self.circuits.get(ask) else { return };
            let (source, destination) = (circuit.source, circuit.destination);
            self.actions.push_back(Action::AskDestination { ask, connection: to, destination, source });
        }
    }

    pub(super) fn answered(&mut self, ask: AskId, answer: Answer, now: Instant) {
        let Some(circuit) = self.circuits.get(ask) else { return };
        let (source, destination, to) = (circuit.source, circuit.destination, circuit.to);
        match answer {
            Answer::Accepted => {
                let Some(until) = self.circuits.open(ask) else { return };
                self.timers.clear(Due::Unanswered(ask), until);
                self.actions.push_back(Action::Forward { ask });
                self.events.push_back(Event::CircuitOpened { source, destination });
            }
            Answer::Full => {
                let retry_after = Duration::from_secs(1);
                let limited = Limited { whose: LimitOwner::Destination, limit: 0, retry_after };
                self.circuit_failed(ask, Status::ResourceLimitExceeded, Some(limited));
            }
            Answer::Denied => self.circuit_failed(ask, Status::PermissionDenied, None),
            Answer::Failed => self.circuit_failed(ask, Status::ConnectionFailed, None),
        }
        self.take_turns(to, now);
    }

    /// A circuit has waited for its turn or for the answer, and in vain.
    pub(super) fn unanswered(&mut self, ask: AskId, now: Instant) {
        let Some(circuit) = self.circuits.get(ask) else { return };
        let (source, to) = (circuit.source, circuit.to);
        if matches!(circuit.stage, Stage::Waiting { .. }) {
            let limited = Circuits::waited();
            self.note(Some(source), Asked::Circuit, limited, now);
            self.circuit_failed(ask, Status::ResourceLimitExceeded, Some(limited));
        } else {
            self.circuit_failed(ask, Status::ConnectionFailed, None);
        }
        self.take_turns(to, now);
    }

    /// A circuit that was not opened is refused.
    pub(super) fn circuit_failed(&mut self, ask: AskId, status: Status, limited: Option<Limited>) {
        self.end_unopened(ask);
        self.refuse(ask, status, limited);
    }

    pub(super) fn end_unopened(&mut self, ask: AskId) {
        let Some(circuit) = self.circuits.remove(ask) else { return };
        if let Stage::Waiting { until } | Stage::Asked { until } = circuit.stage {
            self.timers.clear(Due::Unanswered(ask), until);
        }
    }

    /// Bytes are no longer forwarded.
    pub(super) fn ended(&mut self, ask: AskId, cause: Option<String>, bytes: u64) {
        let Some(circuit) = self.circuits.remove(ask) else { return };
        let Circuit { source, destination, .. } = circuit;
        self.events.push_back(Event::CircuitClosed { source, destination, cause, bytes });
        if let Some(at) = self.leaving.filter(|_| self.circuits.is_empty()) {
            self.timers.clear(Due::Left, at);
            self.actions.push_back(Action::Left);
        }
    }

    fn refuse(&mut self, ask: AskId, status: Status, limited: Option<Limited>) {
        self.actions.push_back(Action::Refuse { ask, refusal: Refusal { status, limited } });
    }
}
