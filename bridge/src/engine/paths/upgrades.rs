//! From a relayed connection to a direct one: when to punch, how often, when to give up and why.
//!
//! Source: libp2p's specification `relay/DCUtR.md`. The acceptor of a relayed connection begins. Both ends
//! name addresses, the beginner says when, and both dial at the same moment. Success is any direct
//! connection, however it came about.
//!
//! ```text
//! beginner:  resting --due--> asked --answer--> waiting --half a round trip--> dialling --failed--.
//!               ^                '-------------- failed -----------------------------------.      |
//!               '------------------------ up to so many rounds --------------------------- v ---- v
//! other end: resting --offer--> answered --sync--> dialling --failed--> resting, until it is clear that
//!                         no further offer comes
//! ```
//! Whoever has used up its rounds rests for long. What makes another outcome likely (a new address of ours,
//! the peer became familiar) lets it begin anew at once.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use libp2p::{Multiaddr, PeerId};

use crate::{
    engine::input::{DialId, Exchange, Role},
    error::{DialFailures, UpgradeFailure},
    path::ConnectionId,
};

/// Punches in a row. By field studies 97 % of those that succeed do so at the first; the rest lost a race.
pub(crate) const ROUNDS_MAX: u32 = 3;

/// Before the second punch; doubled before the third. Long enough for the other end to see its dials fail.
pub(crate) const ROUND_WAIT: Duration = Duration::from_millis(250);

/// The longest wait between saying when and dialling: no path of use takes longer.
pub(crate) const SYNC_WAIT_MAX: Duration = Duration::from_secs(2);

/// The end that does not begin takes it that no further offer comes, after so long without one. Longer than
/// the beginner's longest dial and wait.
pub(crate) const OFFER_WAIT: Duration = Duration::from_secs(20);

/// Offers of one peer that are answered in [`OFFERS_TIME`]: two full upgrades and some.
pub(crate) const OFFERS_MAX: u32 = 8;
pub(crate) const OFFERS_TIME: Duration = Duration::from_secs(60);

#[derive(Debug)]
enum Phase {
    /// Until it is time to begin; or until the other end does.
    Resting { until: Option<Instant> },
    /// The peer was asked for its addresses.
    Asked { on: Exchange },
    /// The peer offers its addresses, and is not answered before upgrades are allowed.
    Held { on: Exchange, addresses: Vec<Multiaddr> },
    /// The peer's offer was answered; it will say when.
    Answered { on: Exchange, addresses: Vec<Multiaddr> },
    /// Both ends know when.
    Waiting { at: Instant, addresses: Vec<Multiaddr> },
    /// Both ends dial. The beginner may dial once more, as a usual dialler: a peer with a public address
    /// may have taken its dial for one, and waited for its first words.
    Dialling { dial: DialId, again: Vec<Multiaddr> },
}

#[derive(Debug)]
struct Upgrade {
    since: Instant,
    phase: Phase,
    /// Whether this end begins.
    begins: bool,
    /// Punches in the present row, and in all.
    rounds: u32,
    attempts: u32,
    /// When failure is said, unless another offer comes.
    settle: Option<Instant>,
    offers: (Instant, u32),
    /// Addresses of ours that the peer was told in the latest exchange.
    offered: Option<usize>,
    failures: DialFailures,
    /// Why the latest round failed, if not for its dials.
    reason: Option<UpgradeFailure>,
}

/// How an upgrade went.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Upgraded {
    pub(crate) took: Duration,
    pub(crate) attempts: u32,
}

/// What is due for a peer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// Ask for its addresses.
    Begin,
    /// Dial these as a listener would.
    Dial(Vec<Multiaddr>),
    /// Nothing more comes: say why.
    Settle,
}

/// An upgrade came to nothing.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct GaveUp {
    pub(crate) reason: UpgradeFailure,
    pub(crate) attempts: u32,
}

/// What follows from the failure of a dial.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Failed {
    /// Dial these once more, in the usual way.
    Reverse(Vec<Multiaddr>),
    GaveUp(GaveUp),
}

/// By peer: those that are reached only through relays. Bounded by the connections.
#[derive(Debug)]
pub(crate) struct Upgrades {
    peers: BTreeMap<PeerId, Upgrade>,
    /// Those under way: to whom, at which addresses.
    dials: BTreeMap<DialId, (PeerId, Vec<Multiaddr>)>,
    exchanges: u64,
    allowed: bool,
    again: Duration,
}

impl Upgrades {
    /// `allowed`: from the start. `again`: how long to rest after all rounds failed.
    pub(crate) fn new(allowed: bool, again: Duration) -> Self {
        Self { peers: BTreeMap::new(), dials: BTreeMap::new(), exchanges: 0, allowed, again }
    }

    /// The peer is reached only through relays. `begins`: this end accepted such a connection.
    pub(crate) fn relayed(&mut self, peer: PeerId, begins: bool, now: Instant) {
        let upgrade = self.peers.entry(peer).or_insert(Upgrade {
            since: now,
            phase: Phase::Resting { until: None },
            begins: false,
            rounds: 0,
            attempts: 0,
            settle: None,
            offers: (now, 0),
            offered: None,
            failures: DialFailures::default(),
            reason: None,
        });
        if begins && !std::mem::replace(&mut upgrade.begins, true) {
            upgrade.begin_anew(now);
        }
    }

    pub(crate) fn direct(&mut self, peer: PeerId, now: Instant) -> Option<Upgraded> {
        let upgrade = self.remove(peer)?;
        // The other end may have come by itself.
        let attempts = upgrade.attempts.max(1);
        Some(Upgraded { took: now - upgrade.since, attempts })
    }

    /// No connection to the peer is left.
    pub(crate) fn disconnected(&mut self, peer: PeerId) {
        self.remove(peer);
    }

    fn remove(&mut self, peer: PeerId) -> Option<Upgrade> {
        self.dials.retain(|_, (owner, _)| *owner != peer);
        self.peers.remove(&peer)
    }

    /// A relayed connection closed: what was exchanged on it comes to nothing.
    pub(crate) fn circuit_closed(&mut self, peer: PeerId, closed: ConnectionId, now: Instant) {
        let Some(upgrade) = self.peers.get_mut(&peer) else { return };
        let on = match upgrade.phase {
            Phase::Asked { on } | Phase::Held { on, .. } | Phase::Answered { on, .. } => on,
            _ => return,
        };
        if on.connection == closed {
            let cause = "the relayed connection ended".to_owned();
            upgrade.reason = Some(UpgradeFailure::Exchange { cause });
            upgrade.rest(now);
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

    /// Another outcome is likely now than before.
    pub(crate) fn improved(&mut self, peer: PeerId, now: Instant) {
        if let Some(upgrade) = self.peers.get_mut(&peer)
            && upgrade.begins
        {
            upgrade.begin_anew(now);
        }
    }

    /// As [`Upgrades::improved`], for all that rest.
    pub(crate) fn all_improved(&mut self, now: Instant) {
        for upgrade in self.peers.values_mut() {
            if upgrade.begins && matches!(upgrade.phase, Phase::Resting { .. }) {
                upgrade.begin_anew(now);
            }
        }
    }

    /// What is due. Each is said once, and must be answered by what it asks for.
    pub(crate) fn take_due(&mut self, now: Instant) -> Vec<(PeerId, Due)> {
        let mut due = Vec::new();
        for (peer, upgrade) in &mut self.peers {
            match &mut upgrade.phase {
                Phase::Resting { until } if self.allowed && until.is_some_and(|until| until <= now) => {
                    *until = None;
                    due.push((*peer, Due::Begin));
                }
                Phase::Waiting { at, addresses } if *at <= now => {
                    due.push((*peer, Due::Dial(std::mem::take(addresses))));
                }
                _ => {}
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
                Phase::Resting { until } if self.allowed => until,
                Phase::Waiting { at, .. } => Some(at),
                _ => None,
            };
            [phase, upgrade.settle].into_iter().flatten().min()
        };
        self.peers.values().filter_map(of).min()
    }

    /// The peer is asked on this connection; so many addresses were offered to it. Returns the exchange.
    pub(crate) fn asked(&mut self, peer: PeerId, connection: ConnectionId, offered: usize) -> Exchange {
        self.exchanges += 1;
        let on = Exchange { connection, number: self.exchanges };
        if let Some(upgrade) = self.peers.get_mut(&peer) {
            upgrade.rounds += 1;
            upgrade.attempts += 1;
            upgrade.offered = Some(offered);
            upgrade.phase = Phase::Asked { on };
        }
        on
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
        matches!(phase, Some(Phase::Asked { on }) if *on == exchange)
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
            upgrade.phase = Phase::Waiting { at, addresses };
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
    /// reason. True if it is to be answered; else it waits until upgrades are allowed.
    pub(crate) fn offered(
        &mut self,
        peer: PeerId,
        on: Exchange,
        addresses: Result<Vec<Multiaddr>, UpgradeFailure>,
    ) -> bool {
        let Some(upgrade) = self.peers.get_mut(&peer) else { return false };
        upgrade.settle = None;
        upgrade.forget_exchange();
        let addresses = addresses.unwrap_or_else(|reason| {
            upgrade.reason = Some(reason);
            Vec::new()
        });
        upgrade.phase = Phase::Held { on, addresses };
        self.allowed
    }

    /// The peer's offer is answered, with so many addresses of ours.
    pub(crate) fn answered(&mut self, peer: PeerId, offered: usize) {
        let Some(upgrade) = self.peers.get_mut(&peer) else { return };
        if let Phase::Held { on, addresses } = &mut upgrade.phase {
            upgrade.phase = Phase::Answered { on: *on, addresses: std::mem::take(addresses) };
            upgrade.rounds += 1;
            upgrade.attempts += 1;
            upgrade.offered = Some(offered);
        }
    }

    /// The peer says: now. Returns what to dial.
    pub(crate) fn synchronised(&mut self, peer: PeerId, exchange: Exchange) -> Option<Vec<Multiaddr>> {
        match &mut self.peers.get_mut(&peer)?.phase {
            Phase::Answered { on, addresses } if *on == exchange => Some(std::mem::take(addresses)),
            _ => None,
        }
    }

    /// Those of the addresses at which the peer is not being dialled already.
    pub(crate) fn not_under_way(&self, peer: PeerId, addresses: &[Multiaddr]) -> Vec<Multiaddr> {
        let under_way = |address: &&Multiaddr| {
            self.dials.values().any(|(owner, at)| *owner == peer && at.contains(address))
        };
        addresses.iter().filter(|address| !under_way(address)).cloned().collect()
    }

    /// An earlier round's dial is this round's: it goes to the same addresses.
    pub(crate) fn goes_on_dialling(&mut self, peer: PeerId) {
        let latest = self.dials.iter().rev().find(|(_, (owner, _))| *owner == peer);
        if let (Some((&dial, _)), Some(upgrade)) = (latest, self.peers.get_mut(&peer)) {
            upgrade.phase = Phase::Dialling { dial, again: Vec::new() };
        }
    }

    /// The dial is made.
    pub(crate) fn dialling(
        &mut self,
        peer: PeerId,
        dial: DialId,
        role: Role,
        addresses: Vec<Multiaddr>,
    ) {
        let Some(upgrade) = self.peers.get_mut(&peer) else { return };
        let reversible = role == Role::Listener && upgrade.rounds == 1;
        let again = if reversible { addresses.clone() } else { Vec::new() };
        self.dials.insert(dial, (peer, addresses));
        upgrade.phase = Phase::Dialling { dial, again };
    }

    /// A dial failed. None if it was not of an upgrade that is still wanted, or another round follows.
    pub(crate) fn dial_failed(
        &mut self,
        dial: DialId,
        failures: DialFailures,
        now: Instant,
    ) -> Option<(PeerId, Failed)> {
        let (peer, _) = self.dials.remove(&dial)?;
        let upgrade = self.peers.get_mut(&peer)?;
        upgrade.failures.add(failures);
        let Phase::Dialling { dial: current, again } = &mut upgrade.phase else { return None };
        if *current != dial {
            return None;
        }
        // Where everything was refused at once, nobody waits for our first words.
        let unclear = failures.timed_out + failures.other > 0;
        let again = std::mem::take(again);
        if unclear && !again.is_empty() {
            return Some((peer, Failed::Reverse(again)));
        }
        upgrade.reason = None;
        let gave_up = self.round_failed(peer, now)?;
        Some((peer, Failed::GaveUp(gave_up)))
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
        let on = match upgrade.phase {
            Phase::Asked { on } | Phase::Held { on, .. } | Phase::Answered { on, .. } => on,
            _ => return None,
        };
        if on != exchange {
            return None;
        }
        if reason == UpgradeFailure::Unsupported {
            upgrade.rounds = ROUNDS_MAX;
        }
        upgrade.reason = Some(reason);
        self.round_failed(peer, now)
    }

    /// There was nothing to dial, and the peer's own dial did not come yet.
    pub(crate) fn nothing_dialled(&mut self, peer: PeerId, now: Instant) -> Option<GaveUp> {
        self.round_failed(peer, now)
    }

    /// What came of the rounds so far, if the peer has not begun another.
    pub(crate) fn settle(&mut self, peer: PeerId) -> Option<GaveUp> {
        let upgrade = self.peers.get_mut(&peer)?;
        Some(upgrade.give_up(None))
    }

    fn round_failed(&mut self, peer: PeerId, now: Instant) -> Option<GaveUp> {
        let again = now + self.again;
        let upgrade = self.peers.get_mut(&peer)?;
        if upgrade.rounds >= ROUNDS_MAX {
            let begins = upgrade.begins;
            return Some(upgrade.give_up(begins.then_some(again)));
        }
        upgrade.rest(now);
        None
    }
}

impl Upgrade {
    fn begin_anew(&mut self, now: Instant) {
        self.forget_exchange();
        self.rounds = 0;
        self.phase = Phase::Resting { until: Some(now) };
    }

    /// Another exchange takes the place of one in which nobody was told to dial: that was no punch.
    fn forget_exchange(&mut self) {
        if let Phase::Asked { .. } | Phase::Answered { .. } = self.phase {
            self.rounds = self.rounds.saturating_sub(1);
            self.attempts = self.attempts.saturating_sub(1);
        }
    }

    /// Until the next round of this row.
    fn rest(&mut self, now: Instant) {
        let wait = ROUND_WAIT * (1 << self.rounds.saturating_sub(1).min(4));
        self.phase = Phase::Resting { until: self.begins.then(|| now + wait) };
        self.settle = (!self.begins).then(|| now + OFFER_WAIT);
    }

    fn give_up(&mut self, again: Option<Instant>) -> GaveUp {
        self.phase = Phase::Resting { until: again };
        (self.rounds, self.settle) = (0, None);
        let failures = std::mem::take(&mut self.failures);
        let reason = self.reason.take().unwrap_or(UpgradeFailure::PunchFailed { failures });
        // Others end an exchange in which nothing is offered to them; and a dial alone is no punch.
        let for_want =
            matches!(reason, UpgradeFailure::Exchange { .. } | UpgradeFailure::PunchFailed { .. });
        let reason = match self.offered {
            Some(0) if for_want => UpgradeFailure::NoCandidateHere,
            _ => reason,
        };
        GaveUp { reason, attempts: self.attempts }
    }
}
