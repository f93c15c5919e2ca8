//! Connections that come and go, and the relays among them.

use std::time::{Instant, SystemTime};

use libp2p::{Multiaddr, PeerId};

use crate::{
    addr::{RelayAddr, transport_of},
    engine::{
        Engine,
        input::{Action, Grant, Opened, ReserveId},
        liveness::departures::End,
        paths::{connections::Connection, dials::Way},
        relays::{Held, Lost, Refused, Step, health::Changed},
    },
    error::{CloseCause, DialFailureReason, RelayFailure, ReserveFailure},
    event::{Asked, CandidateSource, Event},
    path::{ConnectionId, Direction, Transport},
};

impl Engine {
    pub(in crate::engine) fn connection_opened(&mut self, mut opened: Opened, now: Instant) {
        opened.transport = self.carrier(&opened);
        let Opened { connection, peer, path, direction, transport, ref address, limit, .. } = opened;
        self.connections.opened(&opened, now);
        if path.is_direct() {
            self.contacts.note(address);
        }
        self.events.push_back(Event::ConnectionOpened {
            peer,
            connection,
            path,
            relay: path.relay(),
            direction,
            transport,
            address: address.clone(),
            circuit_bytes_max: limit.and_then(|limit| limit.bytes),
            circuit_seconds_max: limit.and_then(|limit| limit.duration).map(|time| time.as_secs()),
        });
        if let Some(dial) = opened.dial {
            self.spares.dialled(dial);
            self.dials.succeeded(dial, &opened.address, now);
            self.bans.reached(peer, &opened.address);
        }
        if path.is_direct() {
            self.introductions.over(peer);
            if let Some(dial) = opened.dial.filter(|_| self.relays.contains(peer)) {
                self.note_open(dial, transport);
            }
            if self.relays.is_outdated(peer, opened.dial) {
                self.close(connection, CloseCause::Unused);
            } else if self.relays.connection_opened(peer, connection, now) {
                self.refusals.forget(peer);
                self.note_blocked(&opened);
            }
            self.upgraded(&opened, now);
        } else if self.connections.is_only_relayed(peer) {
            self.relayed(peer, now);
        }
        for open in self.opens.connecting_to(peer) {
            self.advance(open, now);
        }
        self.holds.connected(peer, now);
        self.wait_may_end(peer);
        self.departures.connected(peer, now);
        self.moves.end_waits(peer);
        self.guests.connected(peer, now);
        self.place_all(peer, now);
        self.tell_of_hold(peer);
        self.consider_spare(peer, now);
        if self.stopping.is_some() {
            self.close(connection, CloseCause::Shutdown);
        }
    }

    /// What carries a connection. The address of a circuit names one way to its relay, and the link may run over another.
    fn carrier(&self, opened: &Opened) -> Transport {
        let link = opened.path.relay().and_then(|relay| self.relays.link(relay));
        let link = link.and_then(|link| self.connections.get(link));
        link.map_or(opened.transport, |link| link.transport)
    }

    pub(in crate::engine) fn connection_closed(
        &mut self,
        id: ConnectionId,
        cause: CloseCause,
        now: Instant,
    ) {
        let Some((connection, ours)) = self.connections.closed(id) else { return };
        self.nat.closed(id);
        self.confirmed.gone(id);
        let asked = ours.is_some();
        let cause = ours.unwrap_or(cause);
        if let Some(lost) = self.relays.connection_closed(id, now) {
            self.link_lost(lost, &cause, now);
        }
        let (peer, path) = (connection.peer, connection.path);
        let end = match cause {
            CloseCause::System | CloseCause::Reset => Some(End::System),
            CloseCause::Peer => Some(End::InOrder),
            _ => None,
        };
        // Strangers who come and go are not to fill what is remembered.
        let matters = !asked && path.is_direct() && self.streams_with(peer);
        if let Some(end) = end.filter(|_| matters) {
            let others = self.connections.of(peer).any(|(_, found)| found.path.is_direct());
            self.departures.closed(peer, id, end, connection.is_fresh(now), others, now);
        } else {
            self.departures.unexplained(id);
        }
        if let Some(relay) = path.relay() {
            self.connections.touch(relay, now);
        }
        if path.is_direct() && self.connections.is_only_relayed(peer) {
            self.relayed(peer, now);
        }
        self.upgrades.circuit_closed(peer, id, now);
        if self.connections.of(peer).next().is_none() {
            self.upgrades.unneeded(peer);
            self.forget_introduction(peer);
            self.guests.disconnected(peer);
            self.hold_lost(peer, now);
        }
        self.events.push_back(Event::ConnectionClosed { peer, connection: id, path, cause });
        self.beats.closed(id);
        self.moves.waive_waits(peer);
        if !path.is_direct() {
            self.introduction_lost(peer, now);
        }
        self.place_all(peer, now);
        self.tell_of_hold(peer);
        self.consider_spare(peer, now);
    }

    pub(in crate::engine) fn link_lost(&mut self, lost: Lost, cause: &CloseCause, now: Instant) {
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
        self.wait_begins(relay, false, now);
        // No name stands for it any more, and it was kept for its link alone.
        self.wait_may_end(relay);
    }

    pub(in crate::engine) fn identified(
        &mut self,
        id: ConnectionId,
        observed: &Multiaddr,
        now: Instant,
    ) {
        // One that we close leaves from a port or address that we shall not come from again.
        let open = |connection: &&Connection| !connection.is_closing();
        let Some(connection) = self.connections.get(id).filter(open) else { return };
        let relay = connection.peer;
        let dialled = connection.direction == Direction::Outbound && connection.path.is_direct();
        if !self.relays.contains(relay) {
            return;
        }
        if dialled && self.relays.may_tell_of_us(relay, now) {
            self.port_observed(id, relay, observed);
            if let Some(address) = self.candidates.observed(relay, observed, now) {
                let source = CandidateSource::Relay { relay };
                self.events.push_back(Event::CandidateFound { address, source });
                self.outlook_improved();
            }
        }
        if self.relays.identified(relay, id) {
            self.relay_ready(relay, now);
        }
    }

    pub(in crate::engine) fn relay_ready(&mut self, relay: PeerId, now: Instant) {
        self.watchers_changed = true;
        self.spares.link_ready(relay, now);
        for (peer, address) in self.dials.take_awaiting(relay) {
            self.take(peer, Way::Circuit(address), now);
        }
        self.relays_due(now);
    }

    pub(in crate::engine) fn relays_due(&mut self, now: Instant) {
        for (peer, step) in self.relays.poll(now) {
            self.relay_step(peer, step, now);
        }
        if self.stopping.is_none() {
            let said = |Changed { relay, health, was }| Event::RelayHealth { relay, health, was };
            self.events.extend(self.relays.take_health(now).into_iter().map(said));
        }
    }

    pub(in crate::engine) fn relay_step(&mut self, peer: PeerId, step: Step, now: Instant) {
        if self.stopping.is_some() {
            return;
        }
        match step {
            Step::Dial(relays) => {
                self.relay_names.dialled(peer, now);
                self.dial_relay(peer, &relays, now);
            }
            Step::Reserve { request, relay, connection } => {
                self.actions.push_back(Action::Reserve { request, relay, connection });
            }
            Step::Ready => self.relay_ready(peer, now),
            Step::Lapsed { connection, refused } => {
                let cause = match refused {
                    Some(failure) => format!("it ended, and was not renewed: {failure}"),
                    None => "it ended, and was not renewed in time".to_owned(),
                };
                self.actions.push_back(Action::Release { connection });
                self.events.push_back(Event::ReservationLost { relay: peer, cause });
                self.wait_begins(peer, false, now);
            }
            Step::Unanswered { connection, failure } => {
                self.reservation_failed(peer, failure.into());
                self.close(connection, CloseCause::Unresponsive);
            }
        }
    }

    pub(in crate::engine) fn dial_relay(&mut self, peer: PeerId, relays: &[RelayAddr], now: Instant) {
        let fit = |found: &Connection| found.path.is_direct() && !found.is_closing();
        let live = self.connections.of(peer).find(|(_, found)| fit(found));
        if let Some((connection, _)) = live {
            self.relays.connection_opened(peer, connection, now);
            return;
        }
        let dial = self.next_dial();
        self.relays.dialling(peer, dial);
        let mut addresses: Vec<Multiaddr> = relays.iter().map(|relay| relay.address().clone()).collect();
        addresses.sort_by_key(|address| transport_of(address).turn());
        self.actions.push_back(Action::Dial { dial, peer, addresses });
    }

    pub(in crate::engine) fn reserve(&mut self, relay: &RelayAddr, now: Instant) {
        if !self.uses_relays() {
            let cause = DialFailureReason::RelaysOff.to_string();
            let relay = relay.peer();
            return self.events.push_back(Event::ReservationFailed { relay, cause, failures: 1 });
        }
        if self.relays.add(relay, true, now).is_err() {
            let limit = self.config.limits.relays as u64;
            self.refused(Some(relay.peer()), Asked::Relay, limit);
        }
        self.wait_begins(relay.peer(), false, now);
        // One that was only used may now be asked about anybody.
        self.watchers_changed = true;
    }

    /// Said at the first failure and then ever more rarely: at the 2nd, 4th, 8th and so on.
    pub(in crate::engine) fn reservation_failed(&mut self, relay: PeerId, failure: RelayFailure) {
        let cause = failure.to_string();
        self.relays.note_error(relay, failure);
        let failures = self.relays.failures(relay).unwrap_or(0);
        if failures.is_power_of_two() {
            self.events.push_back(Event::ReservationFailed { relay, cause, failures });
        }
    }

    pub(in crate::engine) fn reserved(
        &mut self,
        request: ReserveId,
        grant: &Grant,
        at: SystemTime,
        now: Instant,
    ) {
        let Some(held) = self.relays.granted(request, grant, now, at) else { return };
        let Held { relay, address, expires, clock_ahead } = held;
        self.wait_may_end(relay);
        self.events.push_back(Event::ReservationHeld {
            relay,
            address: address.circuit_to(self.local),
            expires,
            circuit_bytes_max: grant.limit.bytes,
            circuit_seconds_max: grant.limit.duration.map(|duration| duration.as_secs()),
        });
        if let Some(seconds) = clock_ahead {
            self.events.push_back(Event::ClockDiffers { relay, seconds });
        }
    }

    pub(in crate::engine) fn reserve_failed(
        &mut self,
        request: ReserveId,
        failure: ReserveFailure,
        now: Instant,
    ) {
        let refused = self.relays.refused(request, failure.clone(), now);
        let Some(Refused { relay, held, close }) = refused else {
            return;
        };
        if !held {
            self.reservation_failed(relay, failure.into());
        }
        if let Some(connection) = close {
            self.close(connection, CloseCause::Unresponsive);
        }
    }
}
