//! From "some connection to this peer" to dials, and what becomes of them.

use std::time::Instant;

use libp2p::{Multiaddr, PeerId};

use super::{
    Engine,
    dials::Way,
    holds::Missed,
    input::{Action, DialId},
};
use crate::{
    addr::RelayAddr,
    error::{DialFailure, DialFailureReason, OpenError},
    event::{Asked, Event},
};

impl Engine {
    /// Keeps a connection to a peer: reaches for it if there is none.
    pub(super) fn hold(&mut self, peer: PeerId, now: Instant) {
        if self.stopping.is_some() {
            return;
        }
        if !self.holds.add(peer) {
            let limit = self.config.limits.holds as u64;
            return self.refused(Some(peer), Asked::Hold, limit);
        }
        let connected = self.connections.best(peer, &[]).is_some();
        if !connected && !self.reach(peer, now) {
            self.missed(peer, OpenError::NoAddress { peer }.to_string(), now);
        }
    }

    fn missed(&mut self, peer: PeerId, reason: String, now: Instant) {
        if let Some(Missed { failures, retry_in }) = self.holds.missed(peer, now) {
            let retry_in_ms = retry_in.as_millis() as u64;
            self.events.push_back(Event::PeerUnreachable { peer, reason, failures, retry_in_ms });
        }
    }

    /// Whether somebody still looks for any connection to a peer.
    fn is_wanted(&self, peer: PeerId) -> bool {
        let held = self.holds.contains(peer) && self.connections.of(peer).next().is_none();
        let stranded = self.moves.awaits(peer, |on| self.connections.is_suspect(on));
        held || stranded || !self.opens.connecting_to(peer).is_empty()
    }

    /// Dials the peer by every way that is known. False if none is.
    pub(super) fn reach(&mut self, peer: PeerId, now: Instant) -> bool {
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

    pub(super) fn take(&mut self, peer: PeerId, way: Way, now: Instant) {
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

    pub(super) fn dial_circuit(&mut self, peer: PeerId, relay: RelayAddr, now: Instant) {
        self.connections.touch(relay.peer(), now);
        let address = relay.circuit_to(peer);
        self.dial(peer, Way::Circuit(relay), vec![address]);
    }

    pub(super) fn dial(&mut self, peer: PeerId, way: Way, addresses: Vec<Multiaddr>) {
        let dial = self.next_dial();
        self.dials.dialling(peer, dial, way);
        self.actions.push_back(Action::Dial { dial, peer, addresses });
    }

    pub(super) fn next_dial(&mut self) -> DialId {
        self.next_dial += 1;
        DialId(self.next_dial)
    }

    pub(super) fn dial_failed(&mut self, dial: DialId, reason: DialFailureReason, now: Instant) {
        if let Some(relay) = self.relays.dial_failed(dial, now) {
            self.circuits_failed(relay, &reason, now);
            self.reservation_failed(relay, reason.to_string());
        } else {
            let ended = self.dials.failed(dial, reason, now);
            self.unreachable(ended, now);
        }
    }

    /// Dials a circuit again if somebody still waits for the peer.
    pub(super) fn retry(&mut self, peer: PeerId, relay: RelayAddr, now: Instant) {
        if self.is_wanted(peer) {
            self.take(peer, Way::Circuit(relay), now);
        } else {
            self.dials.skip(peer);
        }
    }

    /// Fails the circuits that wait for this relay's link.
    pub(super) fn circuits_failed(&mut self, relay: PeerId, reason: &DialFailureReason, now: Instant) {
        for (peer, address) in self.dials.take_awaiting(relay) {
            let ended = self.dials.way_failed(peer, &Way::Circuit(address), reason.clone());
            self.unreachable(ended, now);
        }
    }

    pub(super) fn unreachable(&mut self, ended: Option<(PeerId, Vec<DialFailure>)>, now: Instant) {
        let Some((peer, causes)) = ended else { return };
        self.moves.unreachable(peer, |on| self.connections.is_suspect(on), now);
        if self.connections.of(peer).next().is_none() {
            let reasons: Vec<String> = causes.iter().map(ToString::to_string).collect();
            self.missed(peer, reasons.join("; "), now);
        }
        for open in self.opens.connecting_to(peer) {
            let causes = causes.clone();
            self.fail(open, OpenError::Unreachable { peer, causes }, now);
        }
    }
}
