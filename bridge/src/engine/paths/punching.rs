//! How relayed connections become direct ones: what [`upgrades`](super::upgrades) decides, with the facts of the
//! other machines.

use std::time::{Duration, Instant};

use libp2p::{Multiaddr, PeerId};

use crate::{
    addr::{
        ip_of,
        policy::{Acquaintance, Selection},
        socket_of, transport_of,
    },
    engine::{
        Engine,
        input::{Action, DialId, Exchange, Offer, Opened, Role},
        paths::{
            familiar::Changed,
            places::Standing,
            upgrades::{Claims, Due, GaveUp, RuledOut, Upgraded, counts::Outcome},
        },
    },
    error::{CloseCause, Family, PunchVerdict, SeenOver, Tried, UpgradeFailure},
    event::{Asked, Event, Rung},
    nat::{Filtering, NatKind},
    path::{ConnectionId, Direction, Transport},
    service::Service,
    word::Word,
};

impl Engine {
    /// The peer is reached only through relays.
    pub(in crate::engine) fn relayed(&mut self, peer: PeerId, now: Instant) {
        let begins = self.accepted_circuit(peer).is_some();
        self.upgrades.relayed(peer, begins, now);
        self.let_nearby_dials_go_first(peer);
        self.be_seen_over_each_transport(now);
    }

    pub(in crate::engine) fn let_nearby_dials_go_first(&mut self, peer: PeerId) {
        let policy = self.candidates.policy();
        if self.dials.directly_at(peer).any(|address| !policy.is_public(address)) {
            self.upgrades.give_way(peer);
        }
    }

    /// A direct connection is up; if the peer was reached only through relays, that is an upgrade.
    pub(in crate::engine) fn upgraded(&mut self, opened: &Opened, now: Instant) {
        let Opened { peer, connection, transport, dial, .. } = *opened;
        let Some(upgraded) = self.upgrades.direct(peer, dial, now) else { return };
        let rung = self.rung_taken(opened, &upgraded);
        let family = ip_of(&opened.address).map_or(Family::V4, Family::of);
        let (local_nat, remote_nat) = (self.nat.kinds().of(family), upgraded.theirs.nat.of(family));
        self.events.push_back(Event::UpgradeSucceeded {
            peer,
            connection,
            transport,
            took_ms: upgraded.took.as_millis() as u64,
            attempts: upgraded.attempts,
            rung,
            local_nat,
            remote_nat,
        });
        self.count_upgrade((local_nat, remote_nat), transport, rung);
    }

    /// By which way a connection came, as far as this end knows.
    fn rung_taken(&self, opened: &Opened, upgraded: &Upgraded) -> Rung {
        let Opened { address, direction, .. } = opened;
        match (upgraded.role, direction) {
            (Some(role), _) => match self.rung_of(role, std::slice::from_ref(address), &upgraded.theirs)
            {
                // Both ends dialled at once and met on one connection: theirs went to what is mapped at our router.
                Rung::Punch if self.came_by_mapping(opened, upgraded.ours.as_ref()) => Rung::Mapped,
                rung => rung,
            },
            _ if !self.candidates.policy().is_public(address) => Rung::Lan,
            (None, Direction::Outbound) if upgraded.theirs.is_mapped(address) => Rung::Mapped,
            (None, Direction::Outbound) => Rung::Known,
            (None, Direction::Inbound) if self.came_by_mapping(opened, upgraded.ours.as_ref()) => {
                Rung::Mapped
            }
            (None, Direction::Inbound) => Rung::Inbound,
        }
    }

    /// Whether the peer can only have dialled what is mapped at our router: over this transport and family we offered
    /// no other public address. Whoever comes to a listener does not say which address it dialled.
    fn came_by_mapping(&self, opened: &Opened, ours: Option<&Offer>) -> bool {
        let Some(ours) = ours else { return false };
        let policy = self.candidates.policy();
        let kind = |address: &Multiaddr| {
            (transport_of(address), socket_of(address).map(|socket| socket.is_ipv6()))
        };
        let came = (opened.transport, kind(&opened.address).1);
        let alike = |address: &&Multiaddr| policy.is_public(address) && kind(address) == came;
        let mut offered = ours.candidates.iter().filter(alike).peekable();
        offered.peek().is_some() && offered.all(|address| ours.mapped.contains(address))
    }

    fn count_upgrade(&mut self, (ours, theirs): (NatKind, NatKind), transport: Transport, rung: Rung) {
        let (local_nat, remote_nat) = (ours.class(), theirs.class());
        self.upgrade_counts.count(Outcome { local_nat, remote_nat, transport, rung });
    }

    /// The best relayed connection that the peer made, or the newest of those: its acceptor begins.
    fn accepted_circuit(&self, peer: PeerId) -> Option<ConnectionId> {
        let accepted = self.connections.of(peer).filter(|(_, found)| {
            found.direction == Direction::Inbound && !found.path.is_direct() && !found.is_closing()
        });
        let best = accepted.max_by_key(|(id, _)| (!self.connections.is_shaky(*id), *id));
        best.map(|(connection, _)| connection)
    }

    pub(in crate::engine) fn upgrades_due(&mut self, now: Instant) {
        for (peer, due) in self.upgrades.take_due(now) {
            match due {
                Due::Begin => self.ask(peer, now),
                Due::Answer(exchange) => self.answer(peer, exchange, now),
                Due::Dial(addresses) => self.punch(peer, &addresses, Role::Listener, now),
                Due::Call(addresses) => self.call(peer, &addresses, now),
                Due::Elsewhere(than) => {
                    if self.accepted_circuit(peer).is_some_and(|best| best != than) {
                        self.ask(peer, now);
                    }
                }
                Due::Settle => {
                    let gave_up = self.upgrades.settle(peer);
                    self.gave_up(peer, gave_up);
                }
            }
        }
    }

    fn ask(&mut self, peer: PeerId, now: Instant) {
        let Some(connection) = self.accepted_circuit(peer).filter(|_| self.stopping.is_none()) else {
            return self.upgrades.cannot_begin(peer);
        };
        let offer = self.our_offer(peer);
        let exchange = self.upgrades.asked(peer, connection, &offer, now);
        self.upgrades.over_web(peer, self.is_web_only());
        self.actions.push_back(Action::AskPunch { exchange, peer, offer });
    }

    pub(in crate::engine) fn punch_answered(
        &mut self,
        exchange: Exchange,
        theirs: &Offer,
        same_host: bool,
        round_trip: Duration,
        now: Instant,
    ) {
        let Some(found) = self.connections.get(exchange.connection) else { return };
        // Whoever lets us wait for its answer seems far away; pings know better.
        let (peer, round_trip) =
            (found.peer, found.took().map_or(round_trip, |took| took.min(round_trip)));
        if !self.upgrades.is_asked(peer, exchange) {
            return;
        }
        let chosen = self.choose(peer, theirs, same_host, now);
        match chosen.and_then(|addresses| self.spend(peer, addresses, now)) {
            Ok(addresses) => {
                self.actions.push_back(Action::SyncPunch { exchange, peer });
                self.upgrades.agreed(peer, addresses, round_trip, now);
            }
            Err(reason) => {
                self.actions.push_back(Action::EndPunch { exchange, peer });
                self.punch_exchange_failed(exchange, reason, now);
            }
        }
    }

    pub(in crate::engine) fn punch_offered(
        &mut self,
        exchange: Exchange,
        theirs: &Offer,
        same_host: bool,
        now: Instant,
    ) {
        let Some(peer) = self.peer(exchange.connection) else { return };
        let first = self.local < peer;
        if self.stopping.is_some() || !self.upgrades.takes_offer(peer, first, now) {
            self.actions.push_back(Action::EndPunch { exchange, peer });
            return;
        }
        let addresses = self.choose(peer, theirs, same_host, now);
        if self.upgrades.offered(peer, exchange, addresses, now) {
            self.answer(peer, exchange, now);
        }
    }

    /// Even if nothing may be dialled here: the peer's own dial may come through.
    fn answer(&mut self, peer: PeerId, exchange: Exchange, now: Instant) {
        let offer = self.our_offer(peer);
        self.upgrades.answered(peer, &offer, now);
        self.upgrades.over_web(peer, self.is_web_only());
        self.actions.push_back(Action::AnswerPunch { exchange, peer, offer });
    }

    /// Whether every relay is reached over a WebSocket and this node knows no public address of its own.
    fn is_web_only(&self) -> bool {
        let links = self.relays.all_ready();
        let over_web =
            |link| self.connections.get(link).is_some_and(|link| link.transport == Transport::Websocket);
        let all = links.iter().all(|(_, link)| over_web(*link));
        !links.is_empty() && all && self.candidates.offer(false).is_empty()
    }

    fn our_offer(&self, peer: PeerId) -> Offer {
        let candidates = self.candidates.offer(self.familiar.contains(peer));
        let mapped = self.candidates.mapped_of(&candidates);
        let [open, open_v6] = [Family::V4, Family::V6].map(|family| self.candidates.is_open(family));
        Offer { candidates, nat: self.nat.kinds(), open, open_v6, mapped }
    }

    pub(in crate::engine) fn punch_sync(&mut self, exchange: Exchange, now: Instant) {
        let Some(peer) = self.peer(exchange.connection) else { return };
        let Some(addresses) = self.upgrades.synchronised(peer, exchange) else { return };
        match self.spend(peer, addresses, now) {
            Ok(addresses) => {
                self.call_where_mapped(peer, exchange.connection, &addresses, now);
                self.punch(peer, &addresses, Role::Dialer, now);
            }
            Err(reason) => self.punch_exchange_failed(exchange, reason, now),
        }
    }

    pub(in crate::engine) fn punch_exchange_failed(
        &mut self,
        exchange: Exchange,
        reason: UpgradeFailure,
        now: Instant,
    ) {
        let Some(peer) = self.peer(exchange.connection) else { return };
        let gave_up = self.upgrades.exchange_failed(peer, exchange, reason, now);
        self.gave_up(peer, gave_up);
    }

    pub(in crate::engine) fn punch_failed(&mut self, dial: DialId, tried: Vec<Tried>, now: Instant) {
        if let Some((peer, gave_up)) = self.upgrades.dial_failed(dial, tried, now) {
            self.gave_up(peer, Some(gave_up));
        }
    }

    /// The other end of a relayed connection says how its punches went, or that others may go better.
    pub(in crate::engine) fn peer_on_punches(&mut self, peer: PeerId, word: &Word, now: Instant) {
        match word {
            Word::PunchAgain => self.upgrades.told_again(peer, now),
            Word::PunchFailed(verdict) => {
                let why = UpgradeFailure::AtPeer { verdict: *verdict };
                let gave_up = self.upgrades.peer_gave_up(peer, why);
                self.gave_up(peer, gave_up);
            }
            _ => {}
        }
    }

    /// Something changed that makes another outcome of all punches likely.
    pub(in crate::engine) fn outlook_improved(&mut self) {
        for peer in self.upgrades.all_improved() {
            self.say_of_punches(peer, Word::PunchAgain);
        }
    }

    pub(in crate::engine) fn say_of_punches(&mut self, peer: PeerId, word: Word) {
        let relayed = self.connections.of(peer).find(|(_, found)| !found.path.is_direct());
        if let Some((connection, _)) = relayed {
            self.actions.push_back(Action::Say { peer, connection, word });
        }
    }

    pub(in crate::engine) fn allow_upgrades(&mut self, allowed: bool, now: Instant) {
        for (peer, exchange) in self.upgrades.allow(allowed) {
            self.answer(peer, exchange, now);
        }
    }

    pub(in crate::engine) fn welcome(&mut self, service: Service, peers: Vec<PeerId>, now: Instant) {
        let Some(changed) = self.familiar.welcome(service, peers) else {
            let limit = self.config.limits.familiar_peers as u64;
            return self.refused(None, Asked::WelcomedPeer, limit);
        };
        self.acquainted(changed, now);
    }

    /// Our program uses the peer, or lets it in.
    pub(in crate::engine) fn meet(&mut self, peer: PeerId, now: Instant) {
        let changed = self.familiar.meet(peer, now);
        self.acquainted(changed, now);
    }

    /// As what a peer counts where places are scarce.
    pub(in crate::engine) fn standing(&self, peer: PeerId) -> Standing {
        if self.familiar.contains(peer) { Standing::Familiar } else { Standing::Stranger }
    }

    fn acquainted(&mut self, changed: Changed, now: Instant) {
        for peer in &changed.new {
            if !self.upgrades.improved(*peer, now) {
                self.say_of_punches(*peer, Word::PunchAgain);
            }
        }
        for (peers, familiar) in [(changed.gone, false), (changed.new, true)] {
            if !peers.is_empty() {
                self.connections.acquainted(&peers, familiar);
                self.actions.push_back(Action::Acquainted { peers, familiar });
            }
        }
    }

    /// What to dial of the addresses that a peer named; an error where that is of no use.
    fn choose(
        &mut self,
        peer: PeerId,
        theirs: &Offer,
        same_host: bool,
        now: Instant,
    ) -> Result<Vec<Multiaddr>, UpgradeFailure> {
        let ruled_out = self.upgrades.compare(peer, theirs);
        let policy = self.candidates.policy();
        let public = theirs.candidates.iter().filter(|address| policy.is_public(address));
        let (ours, theirs_over) = (SeenOver::of(&self.candidates.offer(false)), SeenOver::of(public));
        self.upgrades.seen_over(peer, ours, theirs_over);
        let chosen = self.select(peer, &theirs.candidates, same_host, now)?;
        let possible = self.not_ruled_out(chosen.clone(), &ruled_out);
        match ruled_out.reason() {
            None => Ok(chosen),
            Some(reason) if possible.is_empty() => Err(reason),
            Some(_) => Ok(possible),
        }
    }

    /// What is left where the NATs rule out a punch over some family of addresses: in one network no NAT is in the way,
    /// and over the other family the two may meet if this end has an address of it as well.
    fn not_ruled_out(&self, mut chosen: Vec<Multiaddr>, ruled_out: &RuledOut) -> Vec<Multiaddr> {
        let family = |address: &Multiaddr| ip_of(address).map(Family::of);
        let ours: Vec<_> = self.candidates.offer(false).iter().filter_map(family).collect();
        let policy = self.candidates.policy();
        chosen.retain(|address| {
            let meets = |family| ours.contains(&family) && !ruled_out.is(family);
            !policy.is_public(address) || family(address).is_some_and(meets)
        });
        chosen
    }

    /// What may be dialled of the addresses that a peer named; what may not is told.
    fn select(
        &mut self,
        peer: PeerId,
        candidates: &[Multiaddr],
        same_host: bool,
        now: Instant,
    ) -> Result<Vec<Multiaddr>, UpgradeFailure> {
        let known = Acquaintance { familiar: self.familiar.contains(peer), same_host };
        let (policy, here) = (self.candidates.policy(), self.candidates.here());
        let Selection { chosen, refused } = policy.select(candidates, peer, known, here, now);
        if refused.total() > 0 {
            let allowed = chosen.len() as u32;
            self.events.push_back(Event::CandidatesRefused { peer, allowed, refused });
        }
        match chosen.is_empty() {
            true if candidates.is_empty() => Err(UpgradeFailure::NoCandidateThere),
            true => Err(UpgradeFailure::AllRefused { refused }),
            false => Ok(chosen.into_iter().map(|candidate| candidate.address).collect()),
        }
    }

    /// As many of the addresses as may be dialled this hour; an error if that is none of some.
    fn spend(
        &mut self,
        peer: PeerId,
        mut addresses: Vec<Multiaddr>,
        now: Instant,
    ) -> Result<Vec<Multiaddr>, UpgradeFailure> {
        let familiar = self.familiar.contains(peer);
        let granted = self.allowance.take(peer, familiar, addresses.len(), now);
        if granted == 0 && !addresses.is_empty() {
            return Err(UpgradeFailure::Limit { limit: self.allowance.limit_of(familiar) });
        }
        addresses.truncate(granted);
        Ok(addresses)
    }

    /// Dials; where nothing may be dialled, only the peer's dial can come through.
    fn punch(&mut self, peer: PeerId, addresses: &[Multiaddr], role: Role, now: Instant) {
        // What fell silent may hold the port that the punch leaves from.
        let runs_there = |id| self.moves.may_be_on(peer, id) || self.guests.may_be_on(peer, id);
        for silent in self.connections.silent_direct(peer, runs_there) {
            self.close(silent, CloseCause::Unresponsive);
        }
        self.dial_as(self.upgrades.role_in_turn(peer, role), peer, addresses);
        self.round_is_over_if_nothing_is_dialled(peer, now);
    }

    fn round_is_over_if_nothing_is_dialled(&mut self, peer: PeerId, now: Instant) {
        if !self.upgrades.goes_on_dialling(peer) {
            let gave_up = self.upgrades.nothing_dialled(peer, now);
            self.gave_up(peer, gave_up);
        }
    }

    fn dial_as(&mut self, role: Role, peer: PeerId, addresses: &[Multiaddr]) {
        let addresses = self.upgrades.not_under_way(peer, role, addresses);
        if !addresses.is_empty() {
            let dial = self.next_dial();
            self.upgrades.dialling(peer, dial, role, addresses.clone());
            let theirs = self.upgrades.claims_of(peer).cloned().unwrap_or_default();
            self.events.push_back(Event::UpgradeAttempted {
                peer,
                rung: self.rung_of(role, &addresses, &theirs),
                attempt: self.upgrades.attempts_to(peer),
                addresses: addresses.clone(),
            });
            self.actions.push_back(Action::Punch { dial, peer, addresses, role });
        }
    }

    /// Of a dial to these addresses. A mapped one lets in whoever calls, whatever else was dialled at that moment.
    fn rung_of(&self, role: Role, addresses: &[Multiaddr], theirs: &Claims) -> Rung {
        let policy = self.candidates.policy();
        let mut public = addresses.iter().filter(|address| policy.is_public(address)).peekable();
        match role {
            _ if public.peek().is_none() => Rung::Lan,
            _ if public.all(|address| theirs.is_mapped(address)) => Rung::Mapped,
            Role::Caller => Rung::Reversal,
            Role::Dialer | Role::Listener => Rung::Punch,
        }
    }

    /// A peer that lets in whoever calls takes the beginner's dial for a call, and waits for its first words,
    /// as the beginner does. So the beginner calls as well.
    fn call(&mut self, peer: PeerId, addresses: &[Multiaddr], now: Instant) {
        let callable = self.callable(peer, addresses);
        let granted = self.spend(peer, callable, now).unwrap_or_default();
        self.dial_as(Role::Caller, peer, &granted);
        self.round_is_over_if_nothing_is_dialled(peer, now);
    }

    /// At an address that is mapped this end calls as well, if its punch fails or takes long: a router that answered the
    /// peer's own punch with a reset may have nothing more let through between the two ports of the punch.
    fn call_where_mapped(
        &mut self,
        peer: PeerId,
        circuit: ConnectionId,
        addresses: &[Multiaddr],
        now: Instant,
    ) {
        let Some(theirs) = self.upgrades.claims_of(peer) else { return };
        let mapped = addresses.iter().filter(|address| theirs.is_mapped(address)).cloned().collect();
        let round_trip = self.connections.get(circuit).and_then(|found| found.took());
        self.upgrades.call_later(peer, mapped, round_trip.unwrap_or_default(), now);
    }

    /// Over QUIC the one who dials always speaks first; and a peer that filters by port lets nobody in.
    fn callable(&self, peer: PeerId, addresses: &[Multiaddr]) -> Vec<Multiaddr> {
        let theirs = self.upgrades.claims_of(peer);
        let lets_in = |address: &Multiaddr| {
            let Some(theirs) = theirs else { return true };
            let Some(family) = ip_of(address).map(Family::of) else { return true };
            let filtering = theirs.nat.of(family).filtering;
            theirs.is_open(family) || filtering != Some(Filtering::AddressAndPortDependent)
        };
        let tcp = |address: &Multiaddr| transport_of(address) == Transport::Tcp;
        addresses.iter().filter(|address| tcp(address) && lets_in(address)).cloned().collect()
    }

    /// Of the best relayed connection to the peer.
    fn relayed_transport(&self, peer: PeerId) -> Option<Transport> {
        let best = self.connections.best(peer, &[])?;
        Some(self.connections.get(best)?.transport)
    }

    fn gave_up(&mut self, peer: PeerId, gave_up: Option<GaveUp>) {
        let Some(GaveUp { reason, attempts, theirs, tried, again, is_news }) = gave_up else { return };
        self.introductions.failed(peer, &reason);
        if !is_news {
            return;
        }
        if again.is_some() {
            self.say_of_punches(peer, Word::PunchFailed(PunchVerdict::of(&reason)));
        }
        // Upgrades are of peers with a relayed connection.
        if let Some(transport) = self.relayed_transport(peer) {
            self.count_upgrade((self.nat.kinds().main(), theirs), transport, Rung::Relay);
        }
        self.events.push_back(Event::UpgradeFailed {
            peer,
            reason,
            attempts,
            local_nat: self.nat.kinds().main(),
            remote_nat: theirs,
            tried,
            again_seconds: again.map(|again| again.as_secs()),
        });
    }
}
