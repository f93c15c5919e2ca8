//! Where peers may be found, and the dials under way to find them.
//!
//! A *reach* is one attempt to get any connection to a peer: its direct addresses in one dial, and one
//! circuit through each relay it is known behind. It ends when the last of them has failed. [`addresses`]
//! keeps where peers may be found.

pub(crate) mod addresses;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use libp2p::{Multiaddr, PeerId};
use rand::{RngExt, SeedableRng, rngs::StdRng};

use self::addresses::{Addresses, Known, Place};
use crate::{
    addr::{
        RefusedAddresses, RelayAddr, RelayName, names,
        policy::{Source, without_peer},
    },
    engine::input::DialId,
    error::{DialFailure, DialFailureReason, TriedWay},
    event::Awaited,
};

/// Times that a circuit which failed just now is dialled again. A relay and a peer negotiate only some
/// circuits at once and turn the others away; twelve more tries take about ten seconds, which outlasts
/// a rush of hundreds.
pub(crate) const CIRCUIT_RETRIES_MAX: u32 = 12;

/// The first and the longest wait before one of them.
pub(crate) const CIRCUIT_RETRY: (Duration, Duration) =
    (Duration::from_millis(100), Duration::from_millis(1600));

/// Whoever waits for a peer waits for a relay that names a later time no longer than this: with nothing to do
/// before, an error that says so is worth more.
pub(crate) const CIRCUIT_WAIT_MAX: Duration = Duration::from_secs(10);

/// A dial that may be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Direct(Vec<Multiaddr>),
    Circuit(RelayAddr),
}

#[derive(Debug, Default)]
struct Reach {
    /// Ways that [`Dials::begin`] named and nobody has taken yet.
    untaken: usize,
    dialling: BTreeMap<DialId, Way>,
    awaiting: BTreeMap<PeerId, RelayAddr>,
    retrying: Vec<(Instant, RelayAddr)>,
    retried: BTreeMap<PeerId, u32>,
    /// Names of relays that are being looked up.
    resolving: BTreeSet<RelayName>,
    failures: Vec<DialFailure>,
}

/// The addresses we know and the reaches under way.
#[derive(Debug)]
pub(crate) struct Dials {
    addresses: Addresses,
    reaches: BTreeMap<PeerId, Reach>,
    owners: BTreeMap<DialId, PeerId>,
    /// Ways that failed since they were taken; the engine does so after each.
    failed: Vec<(PeerId, DialFailure)>,
    jitter: StdRng,
}

impl Dials {
    pub(crate) fn new(peers_max: usize, addresses_max: usize, seed: u64) -> Self {
        Self {
            addresses: Addresses::new(peers_max, addresses_max),
            reaches: BTreeMap::new(),
            owners: BTreeMap::new(),
            failed: Vec::new(),
            jitter: StdRng::seed_from_u64(seed),
        }
    }

    /// Remembers addresses of a peer, up to the limits; a circuit address names a relay it is behind. Of
    /// the other peers, those `kept` or reached for are not forgotten for it. False if there is no room.
    pub(crate) fn learn(
        &mut self,
        peer: PeerId,
        addresses: Vec<Multiaddr>,
        source: Source,
        kept: impl Fn(PeerId) -> bool,
        now: Instant,
    ) -> bool {
        let Self { addresses: all, reaches, .. } = self;
        all.learn(peer, addresses, source, |other| reaches.contains_key(&other) || kept(other), now)
    }

    /// Whether a relay is said to lead to a peer.
    pub(crate) fn is_through(&self, peer: PeerId, relay: PeerId) -> bool {
        self.addresses.is_through(peer, relay)
    }

    /// What is known of a peer, best first.
    pub(crate) fn known(&self, peer: PeerId) -> Vec<Known> {
        self.addresses.of(peer)
    }

    /// These of the addresses that a peer named last were not remembered.
    pub(crate) fn not_remembered(&mut self, peer: PeerId, refused: RefusedAddresses) {
        self.addresses.refused(peer, refused);
    }

    pub(crate) fn refused(&self, peer: PeerId) -> RefusedAddresses {
        self.addresses.refused_of(peer)
    }

    /// What the reach for a peer waits for, if there is one: each of its ways.
    pub(crate) fn under_way(&self, peer: PeerId, now: Instant) -> Vec<Awaited> {
        let Some(reach) = self.reaches.get(&peer) else { return Vec::new() };
        let dialled = reach.dialling.values().map(|way| match way {
            Way::Direct(addresses) => Awaited::Dial {
                addresses: addresses.len(),
                names: addresses.iter().flat_map(names).collect(),
            },
            Way::Circuit(relay) => Awaited::Circuit { relay: relay.peer() },
        });
        let links = reach.awaiting.keys();
        let links = links.map(|relay| Awaited::RelayLink { relay: *relay, names: Vec::new() });
        let again = reach.retrying.iter().map(|(at, relay)| Awaited::CircuitAgain {
            relay: relay.peer(),
            in_ms: at.saturating_duration_since(now).as_millis() as u64,
        });
        let names = reach.resolving.iter().map(|name| Awaited::Name { name: name.to_string() });
        dialled.chain(links).chain(again).chain(names).collect()
    }

    /// Each way of the reach for a peer, for whoever waited so long: those that failed, and those that have not answered.
    pub(crate) fn tried(&self, peer: PeerId, waited: Duration) -> Vec<DialFailure> {
        let Some(reach) = self.reaches.get(&peer) else { return Vec::new() };
        let dialled = reach.dialling.values().map(|way| match way {
            Way::Direct(addresses) => TriedWay::Direct(addresses.clone()),
            Way::Circuit(relay) => TriedWay::Relay(relay.clone()),
        });
        let relays = reach.awaiting.values().chain(reach.retrying.iter().map(|(_, relay)| relay));
        let names = reach.resolving.iter().cloned().map(TriedWay::RelayName);
        let silent = dialled.chain(relays.cloned().map(TriedWay::Relay)).chain(names);
        let reason = DialFailureReason::Deadline { deadline: waited };
        let silent = silent.map(|way| DialFailure { way, reason: reason.clone() });
        reach.failures.iter().cloned().chain(silent).collect()
    }

    pub(crate) fn is_reaching(&self, peer: PeerId) -> bool {
        self.reaches.contains_key(&peer)
    }

    /// Starts a reach by these addresses, and by the relays that these names stand for once that is known: the ways to
    /// take. `failures` are of those that may not be dialled. Nothing begins if there is neither.
    pub(crate) fn begin(
        &mut self,
        peer: PeerId,
        places: Vec<Place>,
        names: &[RelayName],
        failures: Vec<DialFailure>,
    ) -> Vec<Way> {
        let ways = ways_to(places);
        if !ways.is_empty() || !names.is_empty() {
            let (untaken, resolving) = (ways.len(), names.iter().cloned().collect());
            self.reaches.insert(peer, Reach { untaken, resolving, failures, ..Reach::default() });
        }
        ways
    }

    /// As [`Dials::begin`], but a reach that is under way goes on by these as well: the ways to take, without those that
    /// are being dialled.
    pub(crate) fn extend(&mut self, peer: PeerId, mut places: Vec<Place>) -> Vec<Way> {
        let Some(reach) = self.reaches.get_mut(&peer) else {
            return self.begin(peer, places, &[], Vec::new());
        };
        places.retain(|place| !reach.is_dialling(place));
        let ways = ways_to(places);
        reach.untaken += ways.len();
        ways
    }

    pub(crate) fn dialling(&mut self, peer: PeerId, dial: DialId, way: Way) {
        if let Some(reach) = self.reaches.get_mut(&peer) {
            reach.untaken = reach.untaken.saturating_sub(1);
            reach.dialling.insert(dial, way);
            self.owners.insert(dial, peer);
        }
    }

    /// Where a peer is being dialled, but for relays.
    pub(crate) fn directly_at(&self, peer: PeerId) -> impl Iterator<Item = &Multiaddr> {
        let ways = self.reaches.get(&peer).into_iter().flat_map(|reach| reach.dialling.values());
        ways.flat_map(|way| match way {
            Way::Direct(addresses) => addresses.as_slice(),
            Way::Circuit(_) => &[],
        })
    }

    /// Whether this reach dials a circuit through that relay already.
    pub(crate) fn is_dialling_through(&self, peer: PeerId, relay: PeerId) -> bool {
        let through = |way: &Way| matches!(way, Way::Circuit(address) if address.peer() == relay);
        self.reaches.get(&peer).is_some_and(|reach| reach.dialling.values().any(through))
    }

    /// The peer that a dialled circuit leads to, and the relay.
    pub(crate) fn circuit(&self, dial: DialId) -> Option<(PeerId, PeerId)> {
        let peer = self.owners.get(&dial)?;
        match self.reaches.get(peer)?.dialling.get(&dial)? {
            Way::Circuit(relay) => Some((*peer, relay.peer())),
            Way::Direct(_) => None,
        }
    }

    /// A circuit that is not taken before `until`.
    pub(crate) fn postpone(&mut self, peer: PeerId, relay: RelayAddr, until: Instant) {
        if let Some(reach) = self.reaches.get_mut(&peer) {
            reach.untaken = reach.untaken.saturating_sub(1);
            reach.retrying.push((until, relay));
        }
    }

    /// A way that needs not be taken any more.
    pub(crate) fn skip(&mut self, peer: PeerId) {
        if let Some(reach) = self.reaches.get_mut(&peer) {
            reach.untaken = reach.untaken.saturating_sub(1);
            self.finish(peer);
        }
    }

    /// The circuit is dialled once the relay is ready.
    pub(crate) fn await_relay(&mut self, peer: PeerId, relay: RelayAddr) {
        if let Some(reach) = self.reaches.get_mut(&peer) {
            reach.untaken = reach.untaken.saturating_sub(1);
            reach.awaiting.insert(relay.peer(), relay);
        }
    }

    /// The reaches that waited for this name: for each, one way is to be taken or to fail.
    pub(crate) fn take_resolving(&mut self, name: &RelayName) -> Vec<PeerId> {
        let take = |(peer, reach): (&PeerId, &mut Reach)| {
            let waited = reach.resolving.remove(name);
            reach.untaken += usize::from(waited);
            waited.then_some(*peer)
        };
        self.reaches.iter_mut().filter_map(take).collect()
    }

    /// So many ways are to be taken in place of one.
    pub(crate) fn also_take(&mut self, peer: PeerId, ways: usize) {
        if let Some(reach) = self.reaches.get_mut(&peer) {
            reach.untaken = reach.untaken.saturating_sub(1) + ways;
        }
    }

    /// A way that led to no dial came to nothing; when it was the last, returns the peer and all failures.
    pub(crate) fn untaken_failed(
        &mut self,
        peer: PeerId,
        way: TriedWay,
        reason: DialFailureReason,
    ) -> Option<(PeerId, Vec<DialFailure>)> {
        let reach = self.reaches.get_mut(&peer)?;
        reach.untaken = reach.untaken.saturating_sub(1);
        let failure = DialFailure { way, reason };
        self.failed.push((peer, failure.clone()));
        reach.failures.push(failure);
        self.finish(peer).map(|failures| (peer, failures))
    }

    /// Circuits through these relays do not lead to the peer any more.
    pub(crate) fn forget_circuits(&mut self, peer: PeerId, relays: &[RelayAddr]) {
        self.addresses.forget_circuits(peer, relays);
    }

    /// The circuits that waited for this relay, by the peer they lead to; each must be taken again.
    pub(crate) fn take_awaiting(&mut self, relay: PeerId) -> Vec<(PeerId, RelayAddr)> {
        let take = |(peer, reach): (&PeerId, &mut Reach)| {
            let address = reach.awaiting.remove(&relay)?;
            reach.untaken += 1;
            Some((*peer, address))
        };
        self.reaches.iter_mut().filter_map(take).collect()
    }

    /// A dial became a connection at this address.
    pub(crate) fn succeeded(&mut self, dial: DialId, address: &Multiaddr, now: Instant) {
        if let Some(peer) = self.owners.remove(&dial)
            && let Some(reach) = self.reaches.get_mut(&peer)
        {
            let way = reach.dialling.remove(&dial);
            self.finish(peer);
            let place = match way {
                Some(Way::Circuit(relay)) => Place::Circuit(relay),
                Some(Way::Direct(_)) | None => Place::Direct(without_peer(address)),
            };
            self.addresses.succeeded(peer, &place, now);
        }
    }

    /// Circuits whose wait is over, by the peer they lead to; each must be taken again.
    pub(crate) fn due(&mut self, now: Instant) -> Vec<(PeerId, RelayAddr)> {
        let mut due = Vec::new();
        for (peer, reach) in &mut self.reaches {
            let over = reach.retrying.extract_if(.., |(at, _)| *at <= now);
            let before = due.len();
            due.extend(over.map(|(_, relay)| (*peer, relay)));
            reach.untaken += due.len() - before;
        }
        due
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.reaches.values().flat_map(|reach| &reach.retrying).map(|(at, _)| *at).min()
    }

    /// Notes a failure; when it was the last way, returns the peer and all failures.
    pub(crate) fn failed(
        &mut self,
        dial: DialId,
        reason: DialFailureReason,
        now: Instant,
    ) -> Option<(PeerId, Vec<DialFailure>)> {
        let peer = self.owners.remove(&dial)?;
        let reach = self.reaches.get_mut(&peer)?;
        let way = reach.dialling.remove(&dial)?;
        let told = reason.retry_after().unwrap_or_default();
        if let Way::Circuit(relay) = &way
            && reason.is_transient()
            && told <= CIRCUIT_WAIT_MAX
            && let Some(wait) = reach.next_wait(relay.peer(), &mut self.jitter)
        {
            reach.retrying.push((now + wait, relay.clone()));
            return None;
        }
        reach.untaken += 1;
        self.way_failed(peer, &way, reason)
    }

    /// Whom a dial is to lead to.
    pub(crate) fn owner(&self, dial: DialId) -> Option<PeerId> {
        self.owners.get(&dial).copied()
    }

    /// One address of a dial led to somebody else, and the dial ended. Returns the others, which become the dial `next`;
    /// none if there are none.
    pub(crate) fn go_on_without(
        &mut self,
        dial: DialId,
        address: &Multiaddr,
        reason: &DialFailureReason,
        next: DialId,
    ) -> Option<(PeerId, Vec<Multiaddr>)> {
        let (peer, wrong) = (*self.owners.get(&dial)?, without_peer(address));
        let reach = self.reaches.get_mut(&peer)?;
        let Way::Direct(all) = reach.dialling.get(&dial)? else { return None };
        let others: Vec<Multiaddr> = all.iter().filter(|other| **other != wrong).cloned().collect();
        if others.is_empty() || others.len() == all.len() {
            return None;
        }
        reach.dialling.remove(&dial);
        reach.dialling.insert(next, Way::Direct(others.clone()));
        self.owners.remove(&dial);
        self.owners.insert(next, peer);
        let failure = DialFailure { way: TriedWay::Direct(vec![wrong.clone()]), reason: reason.clone() };
        reach.failures.push(failure.clone());
        self.failed.push((peer, failure));
        self.addresses.failed(peer, &Place::Direct(wrong));
        Some((peer, others))
    }

    /// As [`Dials::failed`], for a way that could not even be dialled.
    pub(crate) fn way_failed(
        &mut self,
        peer: PeerId,
        way: &Way,
        reason: DialFailureReason,
    ) -> Option<(PeerId, Vec<DialFailure>)> {
        match way {
            Way::Direct(direct) => {
                for address in direct {
                    self.addresses.failed(peer, &Place::Direct(address.clone()));
                }
            }
            Way::Circuit(relay) => self.addresses.failed(peer, &Place::Circuit(relay.clone())),
        }
        self.untaken_failed(peer, way.clone().into(), reason)
    }

    /// The ways that failed since this was asked.
    pub(crate) fn take_failed(&mut self) -> Vec<(PeerId, DialFailure)> {
        std::mem::take(&mut self.failed)
    }

    fn finish(&mut self, peer: PeerId) -> Option<Vec<DialFailure>> {
        let reach = self.reaches.get(&peer)?;
        if !reach.is_over() {
            return None;
        }
        self.reaches.remove(&peer).map(|reach| reach.failures)
    }
}

/// One circuit each, and one dial of all direct addresses.
fn ways_to(places: Vec<Place>) -> Vec<Way> {
    let (mut ways, mut direct) = (Vec::new(), Vec::new());
    for place in places {
        match place {
            Place::Circuit(relay) => ways.push(Way::Circuit(relay)),
            Place::Direct(address) => direct.push(address),
        }
    }
    if !direct.is_empty() {
        ways.push(Way::Direct(direct));
    }
    ways
}

impl Reach {
    fn is_dialling(&self, place: &Place) -> bool {
        self.dialling.values().any(|way| match (way, place) {
            (Way::Direct(addresses), Place::Direct(address)) => addresses.contains(address),
            (Way::Circuit(dialled), Place::Circuit(relay)) => dialled.peer() == relay.peer(),
            _ => false,
        })
    }

    fn is_over(&self) -> bool {
        let ways = self.untaken + self.dialling.len() + self.awaiting.len() + self.retrying.len();
        ways + self.resolving.len() == 0
    }

    /// How long to wait before a circuit through `relay` is dialled again; none if it was often enough.
    /// Doubles up to the longest; half of it is random, so that a rush does not come back as one.
    fn next_wait(&mut self, relay: PeerId, jitter: &mut StdRng) -> Option<Duration> {
        let retried = self.retried.entry(relay).or_default();
        if *retried >= CIRCUIT_RETRIES_MAX {
            return None;
        }
        let (first, longest) = CIRCUIT_RETRY;
        let wait = first.saturating_mul(1 << *retried).min(longest);
        *retried += 1;
        Some(wait.mul_f64(jitter.random_range(0.5..=1.0)))
    }
}

impl From<Way> for TriedWay {
    fn from(way: Way) -> Self {
        match way {
            Way::Direct(addresses) => Self::Direct(addresses),
            Way::Circuit(relay) => Self::Relay(relay),
        }
    }
}
