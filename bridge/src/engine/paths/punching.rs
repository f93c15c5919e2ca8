//! How relayed connections become direct ones: what [`upgrades`](super::upgrades) decides, with the facts of the
//! other machines.

use std::time::{Duration, Instant};

use libp2p::{Multiaddr, PeerId};

use crate::{
    addr::policy::{Acquaintance, Selection},
    engine::{
        Engine,
        input::{Action, DialId, Exchange, Role},
        paths::{
            familiar::Changed,
            places::Standing,
            upgrades::{Due, Failed, GaveUp},
        },
    },
    error::{DialFailures, UpgradeFailure},
    event::{Asked, Event},
    path::{ConnectionId, Direction},
    service::Service,
};

impl Engine {
    /// The peer is reached only through relays.
    pub(in crate::engine) fn relayed(&mut self, peer: PeerId, now: Instant) {
        let begins = self.accepted_circuit(peer).is_some();
        self.upgrades.relayed(peer, begins, now);
    }

    /// A relayed connection that the peer made: its acceptor begins.
    fn accepted_circuit(&self, peer: PeerId) -> Option<ConnectionId> {
        let mut all = self.connections.of(peer);
        let accepted = all.find(|(_, found)| {
            found.direction == Direction::Inbound && !found.path.is_direct() && !found.is_closing()
        });
        accepted.map(|(connection, _)| connection)
    }

    pub(in crate::engine) fn upgrades_due(&mut self, now: Instant) {
        for (peer, due) in self.upgrades.take_due(now) {
            match due {
                Due::Begin => self.ask(peer),
                Due::Dial(addresses) => self.punch(peer, addresses, Role::Listener, now),
                Due::Settle => {
                    let gave_up = self.upgrades.settle(peer);
                    self.gave_up(peer, gave_up);
                }
            }
        }
    }

    fn ask(&mut self, peer: PeerId) {
        let Some(connection) = self.accepted_circuit(peer).filter(|_| self.stopping.is_none()) else {
            return self.upgrades.cannot_begin(peer);
        };
        let candidates = self.candidates.offer(self.familiar.contains(peer));
        let exchange = self.upgrades.asked(peer, connection, candidates.len());
        self.actions.push_back(Action::AskPunch { exchange, peer, candidates });
    }

    pub(in crate::engine) fn punch_answered(
        &mut self,
        exchange: Exchange,
        candidates: &[Multiaddr],
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
        let chosen = self.select(peer, candidates, same_host, now);
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
        candidates: &[Multiaddr],
        same_host: bool,
        now: Instant,
    ) {
        let Some(peer) = self.peer(exchange.connection) else { return };
        let first = self.local < peer;
        if self.stopping.is_some() || !self.upgrades.takes_offer(peer, first, now) {
            self.actions.push_back(Action::EndPunch { exchange, peer });
            return;
        }
        let addresses = self.select(peer, candidates, same_host, now);
        if self.upgrades.offered(peer, exchange, addresses) {
            self.answer(peer, exchange);
        }
    }

    /// Even if nothing may be dialled here: the peer's own dial may come through.
    fn answer(&mut self, peer: PeerId, exchange: Exchange) {
        let candidates = self.candidates.offer(self.familiar.contains(peer));
        self.upgrades.answered(peer, candidates.len());
        self.actions.push_back(Action::AnswerPunch { exchange, peer, candidates });
    }

    pub(in crate::engine) fn punch_sync(&mut self, exchange: Exchange, now: Instant) {
        let Some(peer) = self.peer(exchange.connection) else { return };
        let Some(addresses) = self.upgrades.synchronised(peer, exchange) else { return };
        match self.spend(peer, addresses, now) {
            Ok(addresses) => self.punch(peer, addresses, Role::Dialer, now),
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

    pub(in crate::engine) fn punch_failed(
        &mut self,
        dial: DialId,
        failures: DialFailures,
        now: Instant,
    ) {
        match self.upgrades.dial_failed(dial, failures, now) {
            None => {}
            Some((peer, Failed::GaveUp(gave_up))) => self.gave_up(peer, Some(gave_up)),
            Some((peer, Failed::Reverse(addresses))) => {
                let granted = self.spend(peer, addresses, now).unwrap_or_default();
                self.punch(peer, granted, Role::Dialer, now);
            }
        }
    }

    pub(in crate::engine) fn allow_upgrades(&mut self, allowed: bool) {
        for (peer, exchange) in self.upgrades.allow(allowed) {
            self.answer(peer, exchange);
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
            self.upgrades.improved(*peer, now);
        }
        for (peers, familiar) in [(changed.gone, false), (changed.new, true)] {
            if !peers.is_empty() {
                self.connections.acquainted(&peers, familiar);
                self.actions.push_back(Action::Acquainted { peers, familiar });
            }
        }
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
    fn punch(&mut self, peer: PeerId, addresses: Vec<Multiaddr>, role: Role, now: Instant) {
        if addresses.is_empty() {
            let gave_up = self.upgrades.nothing_dialled(peer, now);
            return self.gave_up(peer, gave_up);
        }
        let new = self.upgrades.not_under_way(peer, &addresses);
        if new.is_empty() {
            return self.upgrades.goes_on_dialling(peer);
        }
        let dial = self.next_dial();
        self.upgrades.dialling(peer, dial, role, new.clone());
        self.actions.push_back(Action::Punch { dial, peer, addresses: new, role });
    }

    fn gave_up(&mut self, peer: PeerId, gave_up: Option<GaveUp>) {
        if let Some(GaveUp { reason, attempts }) = gave_up {
            self.events.push_back(Event::UpgradeFailed { peer, reason, attempts });
        }
    }
}
