//! From "some connection to this peer" to dials, and what becomes of them.

use std::time::Instant;

use libp2p::{Multiaddr, PeerId};

use crate::{
    addr::{
        RefusedAddresses, RelayAddr,
        policy::{Acquaintance, HintSource, Source},
    },
    engine::{
        Engine,
        input::{Action, DialId},
        paths::{
            dials::{
                CIRCUIT_WAIT_MAX, Way,
                addresses::{Known, Place, place_of},
            },
            holds::Missed,
        },
    },
    error::{DialFailure, DialFailureReason, OpenError, TriedWay},
    event::{Asked, Event},
    path::ConnectionId,
    word::{WATCHED_MAX, Word},
};

impl Engine {
    /// Keeps a connection to a peer: reaches for it if there is none, or none that will last.
    pub(in crate::engine) fn hold(&mut self, peer: PeerId, now: Instant) {
        if self.stopping.is_some() {
            return;
        }
        if !self.holds.add(peer) {
            let limit = self.config.limits.holds as u64;
            return self.refused(Some(peer), Asked::Hold, limit);
        }
        self.meet(peer, now);
        if self.connections.of(peer).next().is_some() {
            self.holds.connected(peer, now);
        }
        self.wait_begins(peer, false, now);
        if self.best_is_shaky(peer) && !self.reach(peer, now) && !self.holds.awaits_hints(peer, now) {
            self.missed(peer, OpenError::NoAddress { peer }, now);
        }
        self.tell_of_hold(peer);
    }

    /// Keeps no connection to a peer any more, and tells it so.
    pub(in crate::engine) fn let_go(&mut self, peer: PeerId) {
        let told = self.holds.remove(peer);
        if let Some(connection) = told.filter(|id| self.connections.get(*id).is_some()) {
            self.actions.push_back(Action::Say { peer, connection, word: Word::Hold(false) });
        }
        self.wait_may_end(peer);
    }

    /// The last connection to a peer is gone.
    pub(in crate::engine) fn hold_lost(&mut self, peer: PeerId, now: Instant) {
        self.holds.disconnected(peer, now);
        self.wait_begins(peer, false, now);
    }

    /// Tells the peer which connection is kept, so that its end keeps it too.
    pub(in crate::engine) fn tell_of_hold(&mut self, peer: PeerId) {
        let best = self.connections.best(peer, &[]);
        let Some((before, best)) = self.holds.tell(peer, best) else { return };
        for (connection, held) in [(before, false), (Some(best), true)] {
            if let Some(connection) = connection.filter(|id| self.connections.get(*id).is_some()) {
                self.actions.push_back(Action::Say { peer, connection, word: Word::Hold(held) });
            }
        }
    }

    /// The other end of a connection said something. It is believed as far as `design/control.md` says.
    pub(in crate::engine) fn heard(&mut self, connection: ConnectionId, word: Word, now: Instant) {
        let Some(sender) = self.peer(connection) else { return };
        match word {
            Word::Hold(held) => {
                let standing = self.standing(sender);
                self.connections.held_by_peer(connection, held, standing, now);
            }
            Word::Leaving { .. } if self.relays.may_leave(sender, now) => {
                for circuit in self.connections.through(sender) {
                    self.nearly_spent(circuit, now);
                }
            }
            Word::Beat(number) => {
                let word = Word::Echo(number);
                self.actions.push_back(Action::Say { peer: sender, connection, word });
            }
            Word::Echo(number) => {
                self.pinged(connection, number, now);
                self.echo(connection, number, now);
            }
            Word::Present(peer) if self.may_know_of(sender, peer) => self.holds.heard_of(peer, now),
            Word::Absent { peer, closed }
                if self.may_know_of(sender, peer) && self.streams_with(peer) =>
            {
                if closed {
                    self.departures.told(peer, now);
                } else {
                    self.departures.parted(peer);
                }
            }
            Word::Stun { port } => self.stun_offered(connection, port, now),
            Word::PunchAgain | Word::PunchFailed(_) => self.peer_on_punches(sender, &word, now),
            // Only relays are asked to watch, and only relays may tell.
            Word::Leaving { .. } | Word::Watch(_) | Word::Present(_) | Word::Absent { .. } => {}
        }
    }

    /// Whether a relay is to know that we look for a peer, and is asked about it: the operator chose the relay, or it
    /// is said to lead to that peer. A relay that another peer named learns nothing.
    pub(in crate::engine) fn may_know_of(&self, relay: PeerId, peer: PeerId) -> bool {
        self.relays.is_chosen(relay)
            || (self.relays.contains(relay) && self.dials.is_through(peer, relay))
    }

    pub(in crate::engine) fn streams_with(&self, peer: PeerId) -> bool {
        self.moves.services_of(peer).chain(self.guests.services_of(peer)).next().is_some()
    }

    /// Asks every relay in use to tell what it knows of missing peers: first of those whose streams have lost their
    /// path, since these end if the peer's process did, and then of those that a connection is kept to.
    pub(in crate::engine) fn watch_missing(&mut self) {
        let mut missing: Vec<PeerId> = self.departures.missing().take(WATCHED_MAX).collect();
        let held = self.holds.missing().into_iter().filter(|held| !missing.contains(held));
        missing.extend(held.collect::<Vec<_>>());
        missing.truncate(WATCHED_MAX);
        let changed = std::mem::take(&mut self.watchers_changed);
        if missing == self.watched && !changed {
            return;
        }
        self.watched = missing;
        for (relay, connection) in self.relays.all_ready() {
            let may_know = |peer: &PeerId| self.may_know_of(relay, *peer);
            let peers: Vec<PeerId> = self.watched.iter().copied().filter(may_know).collect();
            if self.relays.is_news(relay, &peers) {
                let word = Word::Watch(peers);
                self.actions.push_back(Action::Say { peer: relay, connection, word });
            }
        }
    }

    fn missed(&mut self, peer: PeerId, reason: OpenError, now: Instant) {
        self.waits.failed(peer, &reason);
        if let Some(Missed { failures, retry_in }) = self.holds.missed(peer, now) {
            let retry_in_ms = retry_in.as_millis() as u64;
            self.events.push_back(Event::PeerUnreachable { peer, reason, failures, retry_in_ms });
        }
    }

    /// Whether somebody still looks for any connection to a peer.
    fn is_wanted(&self, peer: PeerId) -> bool {
        let shaky = |on| self.connections.is_shaky(on);
        let held = self.holds.contains(peer) && self.best_is_shaky(peer);
        held || self.moves.needs_path(peer, shaky) || !self.opens.connecting_to(peer).is_empty()
    }

    /// Dials the peer by every way that is known. False if none is.
    pub(in crate::engine) fn reach(&mut self, peer: PeerId, now: Instant) -> bool {
        if self.dials.is_reaching(peer) {
            return true;
        }
        let (places, mut failures) = self.allowed(peer, |_| true, now);
        let places = self.without_circuits(places, &mut failures);
        let names = match self.uses_relays() {
            true => self.relay_names.want_unresolved(peer, now),
            false => Vec::new(),
        };
        let ways = self.dials.begin(peer, places, &names, failures.clone());
        if ways.is_empty() && names.is_empty() {
            let known = !failures.is_empty();
            self.unreachable(known.then_some((peer, failures)), now);
            return known;
        }
        for way in ways {
            self.take(peer, way, now);
        }
        true
    }

    /// Remembers where a peer may be found, by its own word.
    pub(in crate::engine) fn hear(&mut self, peer: PeerId, mut addresses: Vec<Multiaddr>, now: Instant) {
        let (policy, mut refused) = (self.candidates.policy(), RefusedAddresses::default());
        addresses.retain(|address| {
            let learnt = policy.learns(address, peer);
            learnt.map_err(|reason| refused.count(reason)).is_ok()
        });
        self.learn(peer, addresses, Source::Peer, now);
        self.dials.not_remembered(peer, refused);
    }

    /// Somebody who need not be the peer says where it may be found. That matters only for a familiar peer; if a stream or
    /// a hold wants one that is not reached directly, it is dialled there at once, whatever else is tried meanwhile.
    pub(in crate::engine) fn hinted(
        &mut self,
        peer: PeerId,
        mut addresses: Vec<Multiaddr>,
        source: HintSource,
        now: Instant,
    ) {
        if self.stopping.is_some() || !self.familiar.contains(peer) {
            return;
        }
        let policy = self.candidates.policy();
        addresses.retain(|address| policy.learns(address, peer).is_ok());
        self.learn(peer, addresses.clone(), Source::Hinted(source), now);
        if !self.is_wanted_directly(peer) {
            return;
        }
        self.opens.hinted(peer);
        let only: Vec<Place> = addresses.iter().filter_map(place_of).collect();
        let (places, mut failures) = self.allowed(peer, |known| only.contains(&known.place), now);
        let places = self.without_circuits(places, &mut failures);
        for way in self.dials.extend(peer, places) {
            self.take(peer, way, now);
        }
        self.let_nearby_dials_go_first(peer);
    }

    /// Whether somebody uses a peer, or looks for it, that has no direct connection that lives.
    fn is_wanted_directly(&self, peer: PeerId) -> bool {
        let used = || self.holds.contains(peer) || self.streams_with(peer) || self.opens.is_wanted(peer);
        !self.connections.is_direct(peer) && used()
    }

    /// Remembers where a peer may be found.
    pub(in crate::engine) fn learn(
        &mut self,
        peer: PeerId,
        mut addresses: Vec<Multiaddr>,
        source: Source,
        now: Instant,
    ) {
        self.seek_behind_names(peer, &mut addresses, source);
        let Self { holds, connections, opens, moves, .. } = self;
        let kept = |other: PeerId| {
            let streams = || {
                connections.of(other).any(|(_, found)| found.is_used()) || !moves.of(other).is_empty()
            };
            holds.contains(other) || streams() || opens.is_wanted(other)
        };
        // A relay that is said to lead to a missing peer is asked about it, and one that no longer does is not.
        self.watchers_changed |= self.watched.contains(&peer);
        if !self.dials.learn(peer, addresses, source, kept, now) {
            let limit = self.config.limits.known_peers as u64;
            self.refused(Some(peer), Asked::KnownPeer, limit);
        }
        self.consider_spare(peer, now);
    }

    /// Where a peer may be sought of what is known, best first. What others said is judged, and dialled only so often;
    /// hints are counted apart, so that whoever gives many uses up only what hints have.
    fn allowed(
        &mut self,
        peer: PeerId,
        asked: impl Fn(&Known) -> bool,
        now: Instant,
    ) -> (Vec<Place>, Vec<DialFailure>) {
        let known = self.dials.known(peer);
        let familiar = self.familiar.contains(peer);
        let acquaintance = Acquaintance { familiar, same_host: false };
        let (policy, here) = (self.candidates.policy(), self.candidates.here());
        let said: Vec<Multiaddr> =
            known.iter().filter_map(|known| known.place.direct().cloned()).collect();
        let same_router = policy.is_behind_our_router(&said, here);
        let (mut places, mut refused) = (Vec::new(), self.dials.refused(peer));
        let (mut heard, mut hinted, mut banned) = (Vec::new(), Vec::new(), Vec::new());
        for Known { place, source, .. } in known.into_iter().filter(asked) {
            if source == Source::Operator {
                places.push(place);
                continue;
            }
            if let Some(failure) = self.banned(peer, &place, now) {
                banned.push(failure);
                continue;
            }
            let judged = match (&place, source) {
                (Place::Direct(address), Source::Hinted(source)) => {
                    policy.judge_hint(address, peer, acquaintance, source, here)
                }
                (Place::Direct(address), _) => {
                    policy.judge(address, peer, acquaintance, same_router, here)
                }
                (Place::Circuit(relay), _) => policy.judge_relay(relay, acquaintance, here),
            };
            match (judged, source) {
                (Ok(_), Source::Hinted(_)) => hinted.push(place),
                (Ok(_), _) => heard.push(place),
                (Err(reason), _) => refused.count(reason),
            }
        }
        let (all, wanted) = (heard.len() + hinted.len(), places.len());
        let granted = self.allowance.take(peer, familiar, heard.len(), now);
        places.extend(heard.into_iter().take(granted));
        let granted = self.hint_allowance.take(peer, familiar, hinted.len(), now);
        places.extend(hinted.into_iter().take(granted));
        refused.surplus += (wanted + all - places.len()) as u32;
        let reason = DialFailureReason::NotAllowed { refused };
        let way = TriedWay::Named;
        let failures = (refused.total() > 0).then_some(DialFailure { way, reason });
        (places, banned.into_iter().chain(failures).collect())
    }

    /// Where no relay is used, circuits are no way.
    fn without_circuits(&self, mut places: Vec<Place>, failures: &mut Vec<DialFailure>) -> Vec<Place> {
        let all = places.len();
        if !self.uses_relays() {
            places.retain(|place| place.direct().is_some());
        }
        if places.len() < all {
            let reason = DialFailureReason::RelaysOff;
            failures.push(DialFailure { way: TriedWay::Relays, reason });
        }
        places
    }

    pub(in crate::engine) fn take(&mut self, peer: PeerId, way: Way, now: Instant) {
        match way {
            Way::Direct(addresses) => self.dial(peer, Way::Direct(addresses.clone()), addresses),
            // One relay known by several addresses is still one way.
            Way::Circuit(relay) if self.dials.is_dialling_through(peer, relay.peer()) => {
                self.dials.skip(peer);
            }
            Way::Circuit(relay) => match self.relays.link(relay.peer()) {
                Some(link) => self.dial_circuit(peer, relay, link, now),
                None => self.await_relay(peer, relay, now),
            },
        }
    }

    fn await_relay(&mut self, peer: PeerId, relay: RelayAddr, now: Instant) {
        match self.relays.add(&relay, false, now) {
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
        }
    }

    /// Over our link to the relay; unless the relay has said when to come again, and it is not time yet.
    fn dial_circuit(&mut self, peer: PeerId, relay: RelayAddr, link: ConnectionId, now: Instant) {
        if let Some((until, limit)) = self.refusals.holding(relay.peer(), peer, now) {
            if until <= now + CIRCUIT_WAIT_MAX {
                return self.dials.postpone(peer, relay, until);
            }
            let reason = DialFailureReason::RelayFull(limit);
            let ended = self.dials.way_failed(peer, &Way::Circuit(relay), reason);
            return self.unreachable(ended, now);
        }
        self.connections.touch(relay.peer(), now);
        let dial = self.next_dial();
        self.dials.dialling(peer, dial, Way::Circuit(relay.clone()));
        self.actions.push_back(Action::DialCircuit { dial, peer, relay, link });
    }

    pub(in crate::engine) fn dial(&mut self, peer: PeerId, way: Way, addresses: Vec<Multiaddr>) {
        let dial = self.next_dial();
        self.dials.dialling(peer, dial, way);
        self.actions.push_back(Action::Dial { dial, peer, addresses });
    }

    pub(in crate::engine) fn next_dial(&mut self) -> DialId {
        self.next_dial += 1;
        DialId(self.next_dial)
    }

    pub(in crate::engine) fn dial_failed(
        &mut self,
        dial: DialId,
        reason: DialFailureReason,
        now: Instant,
    ) {
        self.look_failed(dial);
        if let Some(relay) = self.relays.dial_failed(dial, now) {
            self.circuits_failed(relay, &reason, now);
            self.reservation_failed(relay, reason.into());
        } else if !self.spare_failed(dial, &reason, now) {
            if let DialFailureReason::RelayFull(limit) = &reason
                && let Some((peer, relay)) = self.dials.circuit(dial)
            {
                self.refusals.refused(relay, peer, *limit, now);
            }
            let ended = self.dials.failed(dial, reason, now);
            self.unreachable(ended, now);
        }
    }

    /// Somebody else answered at an address where the peer was to be. That is the address's fault, not the peer's: the
    /// others of the dial, which had no time to answer, are dialled again without it.
    pub(in crate::engine) fn somebody_else(
        &mut self,
        dial: DialId,
        obtained: PeerId,
        address: &Multiaddr,
        now: Instant,
    ) {
        let reason = DialFailureReason::WrongPeer { obtained };
        let next = DialId(self.next_dial + 1);
        if let Some(peer) = self.dials.owner(dial) {
            self.bans.wrong_identity(peer, address, now);
        }
        match self.dials.go_on_without(dial, address, &reason, next) {
            Some((peer, addresses)) => {
                self.next_dial = next.0;
                self.look_failed(dial);
                self.actions.push_back(Action::Dial { dial: next, peer, addresses });
            }
            None => self.dial_failed(dial, reason, now),
        }
    }

    /// Why an address that others named is not dialled, if somebody else answered there.
    fn banned(&self, peer: PeerId, place: &Place, now: Instant) -> Option<DialFailure> {
        let address = place.direct()?;
        let again = self.bans.lasts(peer, address, now)?;
        let way = TriedWay::Direct(vec![address.clone()]);
        Some(DialFailure { way, reason: DialFailureReason::Banned { again } })
    }

    /// Dials a circuit again if somebody still waits for the peer.
    pub(in crate::engine) fn retry(&mut self, peer: PeerId, relay: RelayAddr, now: Instant) {
        if self.is_wanted(peer) {
            self.take(peer, Way::Circuit(relay), now);
        } else {
            self.dials.skip(peer);
        }
    }

    /// Fails the circuits that wait for this relay's link.
    pub(in crate::engine) fn circuits_failed(
        &mut self,
        relay: PeerId,
        reason: &DialFailureReason,
        now: Instant,
    ) {
        for (peer, address) in self.dials.take_awaiting(relay) {
            let ended = self.dials.way_failed(peer, &Way::Circuit(address), reason.clone());
            self.unreachable(ended, now);
        }
    }

    pub(in crate::engine) fn unreachable(
        &mut self,
        ended: Option<(PeerId, Vec<DialFailure>)>,
        now: Instant,
    ) {
        self.tell_failed_ways(ended.as_ref().map(|(peer, _)| *peer));
        let Some((peer, causes)) = ended else { return };
        self.moves.unreachable(peer, |on| self.connections.is_shaky(on), now);
        if self.connections.of(peer).next().is_none() {
            let causes = causes.clone();
            self.missed(peer, OpenError::NoRouteToDestination { peer, tried: causes }, now);
        }
        for open in self.opens.connecting_to(peer) {
            self.no_way(open, &causes, now);
        }
    }

    /// Where no way led to a peer, all of them are told together.
    fn tell_failed_ways(&mut self, unreachable: Option<PeerId>) {
        for (peer, DialFailure { way, reason }) in self.dials.take_failed() {
            if unreachable != Some(peer) || self.connections.of(peer).next().is_some() {
                self.events.push_back(Event::WayFailed { peer, way, reason });
            }
        }
    }
}
