//! The addresses of peers: who named them, when, and how they fared.
//!
//! There is room for so many peers, and for so many addresses of one. What comes displaces the worst, not
//! nobody; what our operator gave is displaced only by what our operator gives. Hints have places of their own, so that
//! whoever gives many displaces nothing but hints.

use std::{cmp::Reverse, collections::BTreeMap, time::Instant};

use libp2p::{Multiaddr, PeerId};

use crate::addr::{
    RefusedAddresses, RelayAddr,
    policy::{CANDIDATES_MAX, Source, without_peer},
    split_circuit,
};

/// Where a peer may be found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Direct(Multiaddr),
    /// Behind a relay.
    Circuit(RelayAddr),
}

impl Place {
    pub(crate) fn direct(&self) -> Option<&Multiaddr> {
        match self {
            Self::Direct(address) => Some(address),
            Self::Circuit(_) => None,
        }
    }
}

/// One address of a peer.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) place: Place,
    pub(crate) source: Source,
    /// When it was last named, or last led to the peer.
    seen: Instant,
    /// Dials that failed since it last led to the peer.
    failures: u32,
    /// Whether it ever did.
    proven: bool,
}

/// The order of addresses; the least is the best.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Score {
    learnt: bool,
    failures: u32,
    unproven: bool,
    source: Source,
    age: Reverse<Instant>,
}

impl Known {
    pub(crate) fn score(&self) -> Score {
        Score {
            learnt: self.source != Source::Operator,
            failures: self.failures,
            unproven: !self.proven,
            source: self.source,
            age: Reverse(self.seen),
        }
    }
}

/// What is known of one peer.
#[derive(Debug, Default)]
struct Found {
    known: Vec<Known>,
    /// What it named last and was not worth remembering.
    refused: RefusedAddresses,
}

/// By peer.
#[derive(Debug)]
pub(crate) struct Addresses {
    all: BTreeMap<PeerId, Found>,
    peers_max: usize,
    addresses_max: usize,
}

impl Addresses {
    pub(crate) fn new(peers_max: usize, addresses_max: usize) -> Self {
        Self { all: BTreeMap::new(), peers_max, addresses_max }
    }

    /// Remembers addresses of a peer. A peer that is not `kept` makes room for a new one; false if there
    /// is none.
    pub(crate) fn learn(
        &mut self,
        peer: PeerId,
        addresses: Vec<Multiaddr>,
        source: Source,
        kept: impl Fn(PeerId) -> bool,
        now: Instant,
    ) -> bool {
        if !self.all.contains_key(&peer) && self.all.len() >= self.peers_max {
            let Some(worst) = self.worst_peer(kept) else { return false };
            self.all.remove(&worst);
        }
        let max = self.addresses_max;
        let known = &mut self.all.entry(peer).or_default().known;
        for place in addresses.iter().filter_map(place_of) {
            match known.iter_mut().find(|known| known.place == place) {
                Some(known) => {
                    known.seen = now;
                    known.source = known.source.min(source);
                }
                None => {
                    let max = if is_hint(source) { HINTED_MAX } else { max };
                    insert(known, Known { place, source, seen: now, failures: 0, proven: false }, max)
                }
            }
        }
        true
    }

    /// These of the addresses that a peer named were not remembered.
    pub(crate) fn refused(&mut self, peer: PeerId, refused: RefusedAddresses) {
        if let Some(found) = self.all.get_mut(&peer) {
            found.refused = refused;
        }
    }

    /// What was not remembered of a peer's addresses when it named them last.
    pub(crate) fn refused_of(&self, peer: PeerId) -> RefusedAddresses {
        self.all.get(&peer).map(|found| found.refused).unwrap_or_default()
    }

    /// A peer's addresses, best first.
    pub(crate) fn of(&self, peer: PeerId) -> Vec<Known> {
        let mut known = self.all.get(&peer).map(|found| found.known.clone()).unwrap_or_default();
        known.sort_by_key(Known::score);
        known
    }

    /// Whether a circuit through this relay is said to lead to the peer.
    pub(crate) fn is_through(&self, peer: PeerId, relay: PeerId) -> bool {
        let leads = |known: &Known| matches!(&known.place, Place::Circuit(by) if by.peer() == relay);
        self.all.get(&peer).is_some_and(|found| found.known.iter().any(leads))
    }

    /// Circuits through these relays do not lead to the peer any more.
    pub(crate) fn forget_circuits(&mut self, peer: PeerId, relays: &[RelayAddr]) {
        if let Some(found) = self.all.get_mut(&peer) {
            let gone = |place: &Place| matches!(place, Place::Circuit(by) if relays.contains(by));
            found.known.retain(|known| !gone(&known.place));
        }
    }

    /// This address led to the peer.
    pub(crate) fn succeeded(&mut self, peer: PeerId, place: &Place, now: Instant) {
        if let Some(known) = self.find(peer, place) {
            (known.seen, known.failures, known.proven) = (now, 0, true);
        }
    }

    /// It did not. A hint that never did is forgotten if whoever gave it gives it again while it holds.
    pub(crate) fn failed(&mut self, peer: PeerId, place: &Place) {
        if let Some(known) = self.find(peer, place) {
            known.failures = known.failures.saturating_add(1);
        }
        if let Some(found) = self.all.get_mut(&peer) {
            let passing = |known: &Known| matches!(known.source, Source::Hinted(source) if source.repeats() && !known.proven);
            found.known.retain(|known| known.place != *place || !passing(known));
        }
    }

    fn find(&mut self, peer: PeerId, place: &Place) -> Option<&mut Known> {
        self.all.get_mut(&peer)?.known.iter_mut().find(|known| known.place == *place)
    }

    /// The peer whose best address is the worst, of those that nobody keeps.
    fn worst_peer(&self, kept: impl Fn(PeerId) -> bool) -> Option<PeerId> {
        let idle = self.all.iter().filter(|(peer, _)| !kept(**peer));
        let best = |known: &[Known]| known.iter().map(Known::score).min();
        // A peer without an address is worse than any.
        let worst = idle.max_by_key(|(_, found)| {
            best(&found.known).map_or((true, None), |best| (false, Some(best)))
        });
        worst.map(|(peer, _)| *peer)
    }
}

/// Hints about one peer that are remembered: as many as are dialled at once.
const HINTED_MAX: usize = CANDIDATES_MAX;

fn is_hint(source: Source) -> bool {
    matches!(source, Source::Hinted(_))
}

/// Puts one more address in; where there is no room among its like, the worst of these goes.
fn insert(all: &mut Vec<Known>, new: Known, max: usize) {
    let like = |known: &&mut Known| is_hint(known.source) == is_hint(new.source);
    if all.iter_mut().filter(like).count() < max {
        return all.push(new);
    }
    let worst = all.iter_mut().filter(like).max_by_key(|known| known.score());
    if let Some(worst) = worst.filter(|worst| displaces(&new, worst)) {
        *worst = new;
    }
}

/// A newcomer is given its chance before any that is older or has failed; those of the operator give way
/// only to their like. Of those named together the first stay: their order is a preference.
fn displaces(new: &Known, worst: &Known) -> bool {
    let may = worst.source != Source::Operator || new.source == Source::Operator;
    may && (worst.failures > 0 || worst.seen < new.seen)
}

/// Which place an address leads to; none if it leads nowhere.
pub(crate) fn place_of(address: &Multiaddr) -> Option<Place> {
    match split_circuit(address) {
        Ok(Some((relay, _))) => Some(Place::Circuit(relay)),
        Ok(None) => Some(Place::Direct(without_peer(address))),
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Duration;

    use super::*;

    fn peer(seed: u8) -> PeerId {
        libp2p::identity::Keypair::ed25519_from_bytes([seed; 32]).unwrap().public().to_peer_id()
    }

    fn address(port: u16) -> Multiaddr {
        format!("/ip4/8.8.8.8/tcp/{port}").parse().unwrap()
    }

    fn place(port: u16) -> Place {
        Place::Direct(address(port))
    }

    /// Room for two peers with three addresses each.
    fn addresses() -> (Addresses, Instant) {
        (Addresses::new(2, 3), Instant::now())
    }

    fn learn(all: &mut Addresses, seed: u8, port: u16, source: Source, now: Instant) {
        assert!(all.learn(peer(seed), vec![address(port)], source, |_| false, now));
    }

    fn places(all: &Addresses, seed: u8) -> Vec<Place> {
        all.of(peer(seed)).into_iter().map(|known| known.place).collect()
    }

    #[test]
    fn a_new_address_displaces_the_worst_not_nobody() {
        let (mut all, start) = addresses();
        for port in 1..=3 {
            learn(&mut all, 1, port, Source::Peer, start + Duration::from_secs(port.into()));
        }
        all.failed(peer(1), &place(2));
        all.succeeded(peer(1), &place(1), start + Duration::from_secs(4));
        learn(&mut all, 1, 4, Source::Peer, start + Duration::from_secs(5));
        assert_eq!(places(&all, 1), [place(1), place(4), place(3)], "the one that failed is gone");
        learn(&mut all, 1, 5, Source::Peer, start + Duration::from_secs(6));
        assert_eq!(places(&all, 1), [place(1), place(5), place(4)], "then the oldest unproven one");
    }

    #[test]
    fn what_the_operator_gave_is_displaced_only_by_what_the_operator_gives() {
        let (mut all, start) = addresses();
        for port in 1..=3 {
            learn(&mut all, 1, port, Source::Operator, start + Duration::from_secs(port.into()));
            all.failed(peer(1), &place(port));
        }
        learn(&mut all, 1, 4, Source::Peer, start + Duration::from_secs(4));
        assert!(!places(&all, 1).contains(&place(4)));
        learn(&mut all, 1, 5, Source::Operator, start + Duration::from_secs(5));
        assert_eq!(places(&all, 1), [place(5), place(3), place(2)]);
    }

    #[test]
    fn hints_displace_nothing_but_hints() {
        let (mut all, start) = addresses();
        learn(&mut all, 1, 1, Source::Peer, start);
        for port in 2..=40 {
            learn(&mut all, 1, port, HINT, start + Duration::from_secs(port.into()));
        }
        assert_eq!(all.of(peer(1)).len(), 1 + HINTED_MAX);
        all.failed(peer(1), &place(1));
        learn(&mut all, 1, 41, HINT, start + Duration::from_secs(41));
        assert!(places(&all, 1).contains(&place(1)));
        learn(&mut all, 1, 42, Source::Peer, start);
        learn(&mut all, 1, 43, Source::Peer, start);
        assert_eq!(all.of(peer(1)).len(), 3 + HINTED_MAX, "nor are they displaced by others");
    }

    const HINT: Source = Source::Hinted(crate::addr::HintSource::LocalNetwork);

    #[test]
    fn a_success_raises_an_address_and_failures_lower_it() {
        let (mut all, now) = addresses();
        for port in 1..=3 {
            learn(&mut all, 1, port, Source::Peer, now);
        }
        all.failed(peer(1), &place(1));
        all.failed(peer(1), &place(1));
        all.failed(peer(1), &place(2));
        assert_eq!(places(&all, 1), [place(3), place(2), place(1)]);
        all.succeeded(peer(1), &place(1), now);
        assert_eq!(places(&all, 1)[0], place(1));
    }

    #[test]
    fn an_address_that_is_named_again_is_the_same_and_keeps_its_best_source() {
        let (mut all, now) = addresses();
        learn(&mut all, 1, 1, Source::Operator, now);
        let again = address(1).with_p2p(peer(1)).unwrap();
        assert!(all.learn(peer(1), vec![again], Source::Peer, |_| false, now));
        let known = all.of(peer(1));
        assert_eq!((known.len(), known[0].source), (1, Source::Operator));
    }

    #[test]
    fn a_peer_that_is_kept_is_never_forgotten_for_another() {
        let (mut all, start) = addresses();
        learn(&mut all, 1, 1, Source::Peer, start);
        learn(&mut all, 2, 2, Source::Operator, start);
        let kept = |kept: PeerId| kept == peer(1);
        assert!(all.learn(peer(3), vec![address(3)], Source::Peer, kept, start));
        assert!(places(&all, 2).is_empty() && !places(&all, 1).is_empty());
        assert!(!all.learn(peer(4), vec![address(4)], Source::Operator, |_| true, start));
        assert_eq!(places(&all, 3), [place(3)]);
    }

    #[test]
    fn of_those_that_nobody_keeps_the_peer_with_the_worst_addresses_is_forgotten() {
        let (mut all, start) = addresses();
        learn(&mut all, 1, 1, Source::Operator, start);
        learn(&mut all, 2, 2, Source::Peer, start + Duration::from_secs(1));
        learn(&mut all, 3, 3, Source::Peer, start + Duration::from_secs(2));
        assert!(places(&all, 2).is_empty(), "what the operator gave outlives what others said");
    }
}
