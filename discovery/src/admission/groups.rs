//! Parts of the internet, and how many peers of the table may be in one.
//!
//! An address of IPv4 is dear, a network of them dearer; an attacker has many identities in few networks. So of one
//! network of 256 addresses there are at most three in the table and two in one bucket, and eight of one of 65,536. In
//! IPv6, where a site gets a /48 and a provider a /32, these are the networks.
//!
//! In a small table this would keep honest peers out, so it is applied above [`TABLE_MIN`] only.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};

use crate::keys::sha256;

/// Up to so many peers anybody is let in: as many as one bucket has, so that a small network is not kept apart.
pub const TABLE_MIN: usize = 20;

/// Peers of one small network (/24, /48) in one bucket.
pub const SMALL_PER_BUCKET_MAX: usize = 2;

/// Peers of one small network (/24, /48) in the table.
pub const SMALL_PER_TABLE_MAX: usize = 3;

/// Peers of one large network (/16, /32) in the table.
pub const LARGE_PER_TABLE_MAX: usize = 8;

/// As many peers of a network are in the table as may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{limit} peers of {network} are there already")]
pub struct Crowd {
    /// The network.
    pub network: IpNet,
    /// How many may be.
    pub limit: usize,
}

/// The bucket of a peer: the highest bit in which its key differs from ours, as in libp2p's Kademlia.
pub(super) type Bucket = u8;

/// Who is where.
#[derive(Debug)]
pub(super) struct Groups {
    local: [u8; 32],
    /// By network, small and large ones.
    members: BTreeMap<IpNet, BTreeMap<PeerId, Bucket>>,
    networks: BTreeMap<PeerId, BTreeSet<IpNet>>,
}

impl Groups {
    pub(super) fn new(local: PeerId) -> Self {
        Self { local: key(&local), members: BTreeMap::new(), networks: BTreeMap::new() }
    }

    pub(super) fn insert(&mut self, peer: PeerId, ip: IpAddr) {
        let bucket = self.bucket(&peer);
        for network in networks(ip) {
            self.members.entry(network).or_default().insert(peer, bucket);
            self.networks.entry(peer).or_default().insert(network);
        }
    }

    pub(super) fn remove(&mut self, peer: &PeerId) {
        for network in self.networks.remove(peer).unwrap_or_default() {
            let Some(members) = self.members.get_mut(&network) else { continue };
            members.remove(peer);
            if members.is_empty() {
                self.members.remove(&network);
            }
        }
    }

    /// Whether a peer is, or would be, one too many there.
    pub(super) fn crowd(&self, peer: &PeerId, ip: IpAddr) -> Option<Crowd> {
        networks(ip).into_iter().find_map(|network| self.crowd_in(network, peer))
    }

    /// Whether a peer that is there would not be let in.
    pub(super) fn is_surplus(&self, peer: &PeerId) -> bool {
        let mut networks = self.networks.get(peer).into_iter().flatten();
        networks.any(|network| self.crowd_in(*network, peer).is_some())
    }

    fn crowd_in(&self, network: IpNet, peer: &PeerId) -> Option<Crowd> {
        let members = self.members.get(&network)?;
        let others = || members.iter().filter(|(member, _)| *member != peer);
        let crowd = |count: usize, limit| (count >= limit).then_some(Crowd { network, limit });
        if !is_small(&network) {
            return crowd(others().count(), LARGE_PER_TABLE_MAX);
        }
        let bucket = self.bucket(peer);
        let of_bucket = others().filter(|(_, theirs)| **theirs == bucket).count();
        crowd(of_bucket, SMALL_PER_BUCKET_MAX).or_else(|| crowd(others().count(), SMALL_PER_TABLE_MAX))
    }

    pub(super) fn bucket(&self, peer: &PeerId) -> Bucket {
        let differ = self.local.iter().zip(key(peer)).map(|(ours, theirs)| ours ^ theirs);
        let (at, byte) = differ.enumerate().find(|(_, byte)| *byte != 0).unwrap_or((31, 1));
        (8 * (31 - at) as u32 + byte.ilog2()) as u8
    }
}

fn key(peer: &PeerId) -> [u8; 32] {
    sha256([&peer.to_bytes()[..]])
}

/// The small and the large network of an address.
pub(crate) fn networks(ip: IpAddr) -> [IpNet; 2] {
    match ip {
        IpAddr::V4(ip) => [24, 16].map(|bits| Ipv4Net::new_assert(ip, bits).trunc().into()),
        IpAddr::V6(ip) => [48, 32].map(|bits| Ipv6Net::new_assert(ip, bits).trunc().into()),
    }
}

pub(crate) fn is_small(network: &IpNet) -> bool {
    matches!(network.prefix_len(), 24 | 48)
}

/// The IP address that a multiaddr begins with.
pub(crate) fn ip_of(address: &Multiaddr) -> Option<IpAddr> {
    match address.iter().next()? {
        Protocol::Ip4(ip) => Some(ip.into()),
        Protocol::Ip6(ip) => Some(ip.to_canonical()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use libp2p::kad::KBucketKey;

    use super::*;

    #[test]
    fn buckets_are_those_of_libp2p() {
        for _ in 0..100 {
            let (local, peer) = (PeerId::random(), PeerId::random());
            let distance = KBucketKey::from(local).distance(&KBucketKey::from(peer));
            assert_eq!(u32::from(Groups::new(local).bucket(&peer)), distance.ilog2().unwrap());
        }
    }

    #[test]
    fn of_a_small_network_two_are_in_one_bucket_and_three_in_the_table() {
        let (mut groups, ip) = (Groups::new(PeerId::random()), "198.51.100.7".parse().unwrap());
        let crowd = |limit| Some(Crowd { network: "198.51.100.0/24".parse().unwrap(), limit });
        let mut peers: Vec<PeerId> = (0..200).map(|_| PeerId::random()).collect();
        peers.sort_by_key(|peer| std::cmp::Reverse(groups.bucket(peer)));
        let (near, far) = (peers[peers.len() - 1], peers[3]);
        for peer in &peers[..2] {
            assert_eq!(groups.crowd(peer, ip), None);
            groups.insert(*peer, ip);
        }
        assert_eq!(groups.bucket(&peers[2]), 255, "half of all peers are in the farthest bucket");
        assert_eq!(groups.crowd(&peers[2], ip), crowd(SMALL_PER_BUCKET_MAX));
        assert_eq!(groups.crowd(&near, ip), None);
        groups.insert(near, ip);
        assert_eq!(groups.crowd(&far, "198.51.100.99".parse().unwrap()), crowd(SMALL_PER_BUCKET_MAX));
        let other = peers.iter().rev().skip(1).find(|peer| groups.bucket(peer) != groups.bucket(&near));
        assert_eq!(groups.crowd(other.unwrap(), ip), crowd(SMALL_PER_TABLE_MAX));
        groups.remove(&near);
        assert_eq!(groups.crowd(&near, ip), None);
    }
}
