//! From a relayed connection to a direct one: when to punch, how often, when to give up and why.
//!
//! Source: libp2p's specification `relay/DCUtR.md`. The acceptor of a relayed connection begins. Both ends
//! name addresses, the beginner says when, and both dial at the same moment. Success is any direct
//! connection, however it came about.
//!
//! ```text
//! beginner:  resting --due--> asked --answer--> waiting --half a round trip--> dialling --failed--.
//!               ^                '-------------- failed -----------------------------------.      |
//!               '------------------------ the next round ------------------------------- v ---- v
//! other end: resting --offer--> answered --sync--> dialling --failed--> resting, until it is clear that
//!                         no further offer comes
//! ```
//! A row of rounds follows each other; then the reason is said, and single rounds follow ever more rarely
//! ([`schedule`]). What makes another outcome likely (a new address of either end, another NAT, the peer became
//! familiar) begins a row anew at once.

pub(in crate::engine) mod counts;
mod due;
mod roles;
pub(in crate::engine) mod schedule;
mod standing;
mod upgrade;
mod verdict;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use libp2p::{Multiaddr, PeerId};

use self::{
    schedule::Next,
    upgrade::{Phase, Upgrade},
    verdict::Findings,
};
use crate::{
    engine::input::{DialId, Exchange, Offer, Role},
    error::{SeenOver, Tried, UpgradeFailure},
    path::ConnectionId,
};

#[cfg(test)]
pub(crate) use self::upgrade::CALL_WAIT;
pub(crate) use self::{
    due::Due,
    standing::Resting,
    verdict::{Claims, GaveUp, RuledOut, Upgraded},
};

/// The longest wait between saying when and dialling: no path of use takes longer.
pub(crate) const SYNC_WAIT_MAX: Duration = Duration::from_secs(2);

/// The end that does not begin takes it that no further offer comes, after so long without one. Longer than
/// the beginner's longest dial and wait. A beginner of ours says so before.
pub(crate) const OFFER_WAIT: Duration = Duration::from_secs(20);

/// The peer's answer is waited for so long before it is asked on another circuit, if there is one: circuits die
/// unnoticed.
pub(crate) const ASK_PATIENCE: Duration = Duration::from_secs(2);

/// Offers of one peer that are answered in [`OFFERS_TIME`]: three rows and some.
pub(crate) const OFFERS_MAX: u32 = 16;
pub(crate) const OFFERS_TIME: Duration = Duration::from_secs(60);

/// A peer that says again and again that another outcome is likely is believed so often in [`AGAIN_TIME`]: it may learn
/// of an address, a mapped port and the kind of its NAT one after the other.
pub(crate) const AGAIN_MAX: u32 = 4;
pub(crate) const AGAIN_TIME: Duration = Duration::from_secs(10);

/// So long a dial on the local network goes first. Not longer: whoever is on that network can have us dial in vain.
pub(crate) const NEARBY_FIRST: Duration = Duration::from_millis(500);

/// A dial that is under way.
#[derive(Debug)]
struct Dialled {
    peer: PeerId,
    addresses: Vec<Multiaddr>,
    role: Role,
}

/// By peer: those that are reached only through relays. Bounded by the connections.
#[derive(Debug)]
pub(crate) struct Upgrades {
    peers: BTreeMap<PeerId, Upgrade>,
    dials: BTreeMap<DialId, Dialled>,
    exchanges: u64,
    allowed: bool,
    again: Duration,
}

impl Upgrades {
    /// `allowed`: from the start. `again`: between the first rounds after the row has failed.
    pub(crate) fn new(allowed: bool, again: Duration) -> Self {
        Self { peers: BTreeMap::new(), dials: BTreeMap::new(), exchanges: 0, allowed, again }
    }

    /// The peer is reached only through relays. `begins`: this end accepted such a connection.
    pub(crate) fn relayed(&mut self, peer: PeerId, begins: bool, now: Instant) {
        let upgrade = self.peers.entry(peer).or_insert_with(|| Upgrade::new(now));
        if begins && !std::mem::replace(&mut upgrade.begins, true) {
            upgrade.begin_anew(now);
        }
    }

    /// A direct connection is up. `dial`: the one that it came from, if we dialled.
    pub(crate) fn direct(
        &mut self,
        peer: PeerId,
        dial: Option<DialId>,
        now: Instant,
    ) -> Option<Upgraded> {
        let role = dial.and_then(|dial| Some(self.dials.get(&dial)?.role));
        let upgrade = self.remove(peer)?;
        // The other end may have come by itself.
        let attempts = upgrade.attempts.max(1);
        let Findings { ours, theirs, .. } = upgrade.findings;
        Some(Upgraded { took: now - upgrade.since, attempts, role, ours, theirs })
    }

    /// The peer is being dialled nearby: that goes first, for a moment.
    pub(crate) fn give_way(&mut self, peer: PeerId) {
        if let Some(upgrade) = self.peers.get_mut(&peer) {
            upgrade.not_before = upgrade.since + NEARBY_FIRST;
        }
    }

    /// No connection to the peer is left, or a direct one that had fallen silent lives after all.
    pub(crate) fn unneeded(&mut self, peer: PeerId) {
        self.remove(peer);
    }

    fn remove(&mut self, peer: PeerId) -> Option<Upgrade> {
        self.dials.retain(|_, dialled| dialled.peer != peer);
        self.peers.remove(&peer)
    }

    /// A relayed connection closed: what was exchanged on it comes to nothing.
    pub(crate) fn circuit_closed(&mut self, peer: PeerId, closed: ConnectionId, now: Instant) {
        let again = self.again;
        let Some(upgrade) = self.peers.get_mut(&peer) else { return };
        if upgrade.exchange().is_some_and(|on| on.connection == closed) {
            let cause = "the relayed connection ended".to_owned();
            upgrade.findings.reason = Some(UpgradeFailure::Exchange { cause });
            upgrade.rest(again, now);
        }
    }

    /// Lets upgrades begin and be answered, or not any more. Returns those that wait with an offer.
    pub(crate) fn allow(&mut self, allowed: bool) -> Vec<(PeerId, Exchange)> {
        self.allowed = allowed;
        let held = |(peer, upgrade): (&PeerId, &Upgrade)| match &upgrade.phase {
            Phase::Held { on, .. } if allowed => Some((*peer, *on)),
            _ => None,
        };
        self.peers.iter().filter_map(held).collect()
    }

    /// Another outcome is likely now than before. False if it is not for this end to begin: then the peer is to
    /// be told.
    pub(crate) fn improved(&mut self, peer: PeerId, now: Instant) -> bool {
        let Some(upgrade) = self.peers.get_mut(&peer) else { return true };
        if upgrade.begins {
            upgrade.begin_anew(now);
        }
        upgrade.begins
    }

    /// As [`Upgrades::improved`], for all; an exchange that is under way is not broken off. Returns the peers that
    /// are to be told.
    pub(crate) fn all_improved(&mut self) -> Vec<PeerId> {
        let mut others = Vec::new();
        for (peer, upgrade) in &mut self.peers {
            match upgrade.begins {
                true => upgrade.again = true,
                false if upgrade.attempts > 0 => {
                    upgrade.findings.begin_anew();
                    others.push(*peer);
                }
                false => {}
            }
        }
        others
    }

    /// The peer says that another outcome is likely.
    pub(crate) fn told_again(&mut self, peer: PeerId, now: Instant) {
        let Some(upgrade) = self.peers.get_mut(&peer).filter(|upgrade| upgrade.begins) else { return };
        if now.saturating_duration_since(upgrade.told.0) >= AGAIN_TIME {
            upgrade.told = (now, 0);
        }
        upgrade.told.1 = upgrade.told.1.saturating_add(1);
        upgrade.again |= upgrade.told.1 <= AGAIN_MAX;
    }

    /// What is due. Each is said once, and must be answered by what it asks for.
    pub(crate) fn take_due(&mut self, now: Instant) -> Vec<(PeerId, Due)> {
        let mut due = Vec::new();
        for (peer, upgrade) in &mut self.peers {
            let begins = self.allowed && upgrade.not_before <= now;
            match &mut upgrade.phase {
                Phase::Resting { until }
                    if begins && !upgrade.again && until.is_some_and(|at| at <= now) =>
                {
                    *until = None;
                    due.push((*peer, Due::Begin));
                }
                Phase::Held { on, .. } if begins => due.push((*peer, Due::Answer(*on))),
                Phase::Asked { on, patience } => {
                    let late = patience.take_if(|at| *at <= now);
                    due.extend(late.map(|_| (*peer, Due::Elsewhere(on.connection))));
                }
                Phase::Waiting { at, addresses, round_trip } if *at <= now => {
                    let (addresses, round_trip) = (std::mem::take(addresses), *round_trip);
                    upgrade.call_later(addresses.clone(), round_trip, now);
                    due.push((*peer, Due::Dial(addresses)));
                }
                Phase::Dialling { call } => {
                    if let Some((_, addresses)) = call.take_if(|(at, _)| *at <= now) {
                        due.push((*peer, Due::Call(addresses)));
                    }
                }
                _ => {}
            }
            if upgrade.is_again() && upgrade.not_before <= now {
                upgrade.begin_anew(now);
                if self.allowed {
                    upgrade.phase = Phase::Resting { until: None };
                    due.push((*peer, Due::Begin));
                }
            }
            if upgrade.settle.take_if(|settle| *settle <= now).is_some() {
                due.push((*peer, Due::Settle));
            }
        }
        due
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let of = |upgrade: &Upgrade| {
            let phase = match upgrade.phase {
                Phase::Resting { until } if self.allowed => until.map(|at| at.max(upgrade.not_before)),
                Phase::Held { .. } if self.allowed => Some(upgrade.not_before),
                Phase::Asked { patience, .. } => patience,
                Phase::Waiting { at, .. } => Some(at),
                Phase::Dialling { ref call } => call.as_ref().map(|(at, _)| *at),
                _ => None,
            };
            let again = upgrade.is_again().then_some(upgrade.not_before);
            [phase, upgrade.settle, again].into_iter().flatten().min()
        };
        self.peers.values().filter_map(of).min()
    }

    /// The peer is asked on this connection, with what we offer. Returns the exchange.
    pub(crate) fn asked(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        ours: &Offer,
        now: Instant,
    ) -> Exchange {
        self.exchanges += 1;
        let on = Exchange { connection, number: self.exchanges };
        if let Some(upgrade) = self.peers.get_mut(&peer) {
            upgrade.forget_exchange();
            upgrade.begin_round(ours, now);
            upgrade.phase = Phase::Asked { on, patience: Some(now + ASK_PATIENCE) };
        }
        on
    }

    /// Over what the two ends have public addresses.
    pub(crate) fn seen_over(&mut self, peer: PeerId, ours: SeenOver, theirs: SeenOver) {
        if let Some(upgrade) = self.peers.get_mut(&peer) {
            upgrade.findings.apart = ours.is_apart_from(theirs).then_some((ours, theirs));
        }
    }

    /// Whether relays could tell us no address for this round, since all are reached over WebSockets.
    pub(crate) fn over_web(&mut self, peer: PeerId, web_only: bool) {
        if let Some(upgrade) = self.peers.get_mut(&peer) {
            upgrade.findings.web_only = web_only;
        }
    }

    /// Nobody can be asked at present: no relayed connection that this end accepted is left.
    pub(crate) fn cannot_begin(&mut self, peer: PeerId) {
        if let Some(upgrade) = self.peers.get_mut(&peer) {
            upgrade.begins = false;
        }
    }

    /// Whether the peer was asked in this exchange, the latest, and has not answered.
    pub(crate) fn is_asked(&self, peer: PeerId, exchange: Exchange) -> bool {
        let phase = self.peers.get(&peer).map(|upgrade| &upgrade.phase);
        matches!(phase, Some(Phase::Asked { on, .. }) if *on == exchange)
    }

    /// The peer says what NATs it is behind, and so over which families of addresses no punch with it can succeed.
    pub(crate) fn compare(&mut self, peer: PeerId, theirs: &Offer) -> RuledOut {
        self.peers.get_mut(&peer).map(|upgrade| upgrade.findings.compare(theirs)).unwrap_or_default()
    }

    /// Both ends know when: half a round trip from now.
    pub(crate) fn agreed(
        &mut self,
        peer: PeerId,
        addresses: Vec<Multiaddr>,
        round_trip: Duration,
        now: Instant,
    ) {
        if let Some(upgrade) = self.peers.get_mut(&peer) {
            let at = now + (round_trip / 2).min(SYNC_WAIT_MAX);
            let round_trip = round_trip.min(SYNC_WAIT_MAX);
            upgrade.phase = Phase::Waiting { at, addresses, round_trip };
        }
    }

    /// Whether an offer of the peer is to be looked at. Of two ends that both begin, each on its own relayed
    /// connection, the one that is `first` goes on.
    pub(crate) fn takes_offer(&mut self, peer: PeerId, first: bool, now: Instant) -> bool {
        let Some(upgrade) = self.peers.get_mut(&peer) else { return false };
        let begun = matches!(upgrade.phase, Phase::Asked { .. } | Phase::Waiting { .. });
        if now.saturating_duration_since(upgrade.offers.0) >= OFFERS_TIME {
            upgrade.offers = (now, 0);
        }
        upgrade.offers.1 = upgrade.offers.1.saturating_add(1);
        upgrade.offers.1 <= OFFERS_MAX && !(begun && first)
    }

    /// The peer made an offer in this exchange, of which these addresses may be dialled, or none for a
    /// reason. True if it is to be answered; else it waits until upgrades are allowed, and this one is due.
    pub(crate) fn offered(
        &mut self,
        peer: PeerId,
        on: Exchange,
        addresses: Result<Vec<Multiaddr>, UpgradeFailure>,
        now: Instant,
    ) -> bool {
        let Some(upgrade) = self.peers.get_mut(&peer) else { return false };
        upgrade.settle = None;
        upgrade.forget_exchange();
        let addresses = addresses.unwrap_or_else(|reason| {
            upgrade.findings.reason = Some(reason);
            Vec::new()
        });
        upgrade.phase = Phase::Held { on, addresses };
        self.allowed && upgrade.not_before <= now
    }

    /// The peer's offer is answered, with what we offer.
    pub(crate) fn answered(&mut self, peer: PeerId, ours: &Offer, now: Instant) {
        let Some(upgrade) = self.peers.get_mut(&peer) else { return };
        if let Phase::Held { on, addresses } = &mut upgrade.phase {
            upgrade.phase = Phase::Answered { on: *on, addresses: std::mem::take(addresses) };
            upgrade.begin_round(ours, now);
        }
    }

    /// The peer says: now. Returns what to dial.
    pub(crate) fn synchronised(&mut self, peer: PeerId, exchange: Exchange) -> Option<Vec<Multiaddr>> {
        match &mut self.peers.get_mut(&peer)?.phase {
            Phase::Answered { on, addresses } if *on == exchange => Some(std::mem::take(addresses)),
            _ => None,
        }
    }

    /// Those of the addresses at which the peer is not being dialled in this role already.
    pub(crate) fn not_under_way(
        &self,
        peer: PeerId,
        role: Role,
        addresses: &[Multiaddr],
    ) -> Vec<Multiaddr> {
        // Two dials from one port to one address are one to the network.
        let alike = |other: Role| (other == Role::Caller) == (role == Role::Caller);
        let under_way = |address: &&Multiaddr| {
            self.dials.values().any(|dialled| {
                dialled.peer == peer && alike(dialled.role) && dialled.addresses.contains(address)
            })
        };
        addresses.iter().filter(|address| !under_way(address)).cloned().collect()
    }

    /// Punches to the peer so far.
    pub(crate) fn attempts_to(&self, peer: PeerId) -> u32 {
        self.peers.get(&peer).map(|upgrade| upgrade.attempts).unwrap_or_default()
    }

    /// How well the peer can be reached, as far as it said.
    pub(crate) fn claims_of(&self, peer: PeerId) -> Option<&Claims> {
        self.peers.get(&peer).map(|upgrade| &upgrade.findings.theirs)
    }

    /// The dial is made.
    pub(crate) fn dialling(
        &mut self,
        peer: PeerId,
        dial: DialId,
        role: Role,
        addresses: Vec<Multiaddr>,
    ) {
        if let Some(upgrade) = self.peers.get_mut(&peer) {
            self.dials.insert(dial, Dialled { peer, addresses, role });
            upgrade.dials_go_on();
        }
    }

    /// Whether any dial to the peer is under way, of this round or an earlier one, or will follow.
    pub(crate) fn goes_on_dialling(&mut self, peer: PeerId) -> bool {
        let under_way = self.is_dialling(peer);
        let Some(upgrade) = self.peers.get_mut(&peer) else { return false };
        if under_way {
            upgrade.dials_go_on();
        }
        under_way || matches!(upgrade.phase, Phase::Dialling { call: Some(_) })
    }

    fn is_dialling(&self, peer: PeerId) -> bool {
        self.dials.values().any(|dialled| dialled.peer == peer)
    }

    /// A dial failed. None if it was not the last of an upgrade that is still wanted, or another round
    /// follows.
    pub(crate) fn dial_failed(
        &mut self,
        dial: DialId,
        tried: Vec<Tried>,
        now: Instant,
    ) -> Option<(PeerId, GaveUp)> {
        let peer = self.dials.remove(&dial)?.peer;
        let upgrade = self.peers.get_mut(&peer)?;
        upgrade.findings.add(tried);
        if self.is_dialling(peer) {
            return None;
        }
        let upgrade = self.peers.get_mut(&peer)?;
        let Phase::Dialling { call } = &mut upgrade.phase else { return None };
        if let Some((at, _)) = call {
            *at = now;
            return None;
        }
        upgrade.findings.reason = None;
        Some((peer, self.round_failed(peer, now)?))
    }

    /// An exchange, or what the peer named there, came to nothing. None if another round
    /// follows, or nobody waits for it any more.
    pub(crate) fn exchange_failed(
        &mut self,
        peer: PeerId,
        exchange: Exchange,
        reason: UpgradeFailure,
        now: Instant,
    ) -> Option<GaveUp> {
        let upgrade = self.peers.get_mut(&peer)?;
        if upgrade.exchange() != Some(exchange) {
            return None;
        }
        if reason.is_final() {
            upgrade.schedule.end_row();
        }
        upgrade.findings.reason = Some(reason);
        self.round_failed(peer, now)
    }

    /// There was nothing to dial, and the peer's own dial did not come yet.
    pub(crate) fn nothing_dialled(&mut self, peer: PeerId, now: Instant) -> Option<GaveUp> {
        self.round_failed(peer, now)
    }

    /// What came of the rounds so far, if the peer has not begun another.
    pub(crate) fn settle(&mut self, peer: PeerId) -> Option<GaveUp> {
        let upgrade = self.peers.get_mut(&peer)?;
        upgrade.phase = Phase::Resting { until: None };
        Some(upgrade.give_up(None))
    }

    /// The peer, which begins, says that it has given up for now.
    pub(crate) fn peer_gave_up(&mut self, peer: PeerId, why: UpgradeFailure) -> Option<GaveUp> {
        let upgrade = self.peers.get_mut(&peer).filter(|upgrade| !upgrade.begins)?;
        upgrade.settle = None;
        upgrade.findings.peer_failed(why);
        Some(upgrade.give_up(None))
    }

    fn round_failed(&mut self, peer: PeerId, now: Instant) -> Option<GaveUp> {
        let again = self.again;
        let upgrade = self.peers.get_mut(&peer)?;
        match upgrade.rest(again, now) {
            Next::Later(at) if upgrade.begins => Some(upgrade.give_up(Some(at.duration_since(now)))),
            _ => None,
        }
    }
}
