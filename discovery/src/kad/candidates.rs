//! Whom a lookup may ask of those that others name. Pure.
//!
//! Identities are free, so the peers nearest to a key may all be one attacker's. Their networks are not free: of one small
//! network (IPv4 /24, IPv6 /48) a lookup asks [`SMALL_MAX`] peers that others name, of a large one [`LARGE_MAX`]. Since what
//! is published goes to those that a lookup found, no network has more copies, either. Who cannot be reached makes room: else
//! somebody could keep a network out by inventing peers in it.
//!
//! In a small network of nodes this would keep honest ones out, so it holds above [`TABLE_MIN`] only, as for the table.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    hash::Hash,
    net::IpAddr,
};

use ipnet::IpNet;
use libp2p::{Multiaddr, PeerId};

pub(super) use crate::admission::groups::TABLE_MIN;
use crate::admission::groups::{ip_of, is_small, networks};

/// Peers of one small network that a lookup asks.
pub(super) const SMALL_MAX: usize = 2;

/// Peers of one large network that a lookup asks.
pub(super) const LARGE_MAX: usize = 8;

/// Networks that one lookup counts. Peers of one more are passed over.
const NETWORKS_MAX: usize = 512;

/// The lookups under way. `Q`: by which one is known.
#[derive(Debug)]
pub(super) struct Candidates<Q>(HashMap<Q, BTreeMap<IpNet, BTreeSet<PeerId>>>);

impl<Q: Eq + Hash> Candidates<Q> {
    pub(super) fn new() -> Self {
        Self(HashMap::new())
    }

    /// Whether the lookup may ask a peer that is at these addresses. `counts`: whether an address belongs to a network that is
    /// counted.
    pub(super) fn admits(
        &mut self,
        lookup: Q,
        peer: PeerId,
        addresses: &[Multiaddr],
        counts: impl Fn(IpAddr) -> bool,
    ) -> bool {
        let of = self.0.entry(lookup).or_default();
        let ips = addresses.iter().filter_map(ip_of).filter(|ip| counts(*ip));
        let all: BTreeSet<IpNet> = ips.flat_map(networks).collect();
        let is_full = |network: &IpNet| match of.get(network) {
            Some(peers) if peers.contains(&peer) => false,
            Some(peers) => peers.len() >= if is_small(network) { SMALL_MAX } else { LARGE_MAX },
            None => of.len() >= NETWORKS_MAX,
        };
        if all.iter().any(is_full) {
            return false;
        }
        for network in all {
            of.entry(network).or_default().insert(peer);
        }
        true
    }

    /// A peer is not where it was said to be.
    pub(super) fn unreached(&mut self, peer: &PeerId) {
        for of in self.0.values_mut() {
            of.retain(|_, peers| {
                peers.remove(peer);
                !peers.is_empty()
            });
        }
    }

    /// A lookup is over.
    pub(super) fn end(&mut self, lookup: &Q) {
        self.0.remove(lookup);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn at(ip: &str) -> Vec<Multiaddr> {
        let family = if ip.contains(':') { "ip6" } else { "ip4" };
        vec![format!("/{family}/{ip}/tcp/4001").parse().unwrap()]
    }

    fn asks(candidates: &mut Candidates<u8>, lookup: u8, ip: &str) -> Option<PeerId> {
        let peer = PeerId::random();
        candidates.admits(lookup, peer, &at(ip), |_| true).then_some(peer)
    }

    #[test]
    fn a_lookup_asks_two_of_a_small_network_and_eight_of_a_large_one_whoever_names_them() {
        let mut candidates = Candidates::new();
        let asked: Vec<PeerId> =
            (1..100).filter_map(|host| asks(&mut candidates, 1, &format!("203.0.113.{host}"))).collect();
        assert_eq!(asked.len(), SMALL_MAX);
        assert!(candidates.admits(1, asked[0], &at("203.0.113.1"), |_| true), "it is one of them");
        let of_large = (0..100).filter_map(|part| asks(&mut candidates, 1, &format!("198.51.{part}.1")));
        assert_eq!(of_large.count(), LARGE_MAX);
        let of_site =
            (1..100).filter_map(|site| asks(&mut candidates, 1, &format!("2001:db8:1:{site}::1")));
        assert_eq!(of_site.count(), SMALL_MAX);
        assert!(asks(&mut candidates, 2, "203.0.113.9").is_some(), "another lookup");
        candidates.end(&1);
        assert!(asks(&mut candidates, 1, "203.0.113.9").is_some());
    }

    #[test]
    fn whoever_invents_peers_of_a_network_keeps_nobody_of_it_out_for_long() {
        let mut candidates = Candidates::new();
        let invented: Vec<PeerId> =
            (0..SMALL_MAX).filter_map(|_| asks(&mut candidates, 1, "203.0.113.7")).collect();
        assert_eq!(asks(&mut candidates, 1, "203.0.113.8"), None);
        candidates.unreached(&invented[0]);
        assert!(asks(&mut candidates, 1, "203.0.113.8").is_some());
    }

    #[test]
    fn a_peer_in_several_networks_counts_in_each_and_what_is_no_part_of_the_internet_in_none() {
        let mut candidates = Candidates::new();
        let both = [at("203.0.113.7"), at("198.51.100.7")].concat();
        (0..SMALL_MAX).for_each(|_| assert!(candidates.admits(1, PeerId::random(), &both, |_| true)));
        assert_eq!(asks(&mut candidates, 1, "203.0.113.8"), None);
        assert_eq!(asks(&mut candidates, 1, "198.51.100.8"), None);
        for _ in 0..100 {
            assert!(candidates.admits(1, PeerId::random(), &at("10.0.0.1"), |_| false));
            let memory = ["/memory/7".parse().unwrap()];
            assert!(candidates.admits(1, PeerId::random(), &memory, |_| true));
        }
    }

    #[test]
    fn what_one_lookup_counts_is_bounded() {
        let mut candidates = Candidates::new();
        let ip = |number: u32| format!("{}.{}.0.1", 1 + number / 200, number % 200);
        let asked = (0..2000).filter_map(|number| asks(&mut candidates, 1, &ip(number))).count();
        assert_eq!(asked, NETWORKS_MAX / 2, "each is in a small and in a large network");
    }
}
