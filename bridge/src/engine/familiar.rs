//! Which peers are familiar: our program uses them, a service would let them in, or let them in already.
//! Only with these this node speaks about private networks.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use libp2p::PeerId;

use crate::service::Service;

/// By peer.
#[derive(Debug)]
pub(crate) struct Familiar {
    /// Peers that our program used or let in, and when last.
    met: BTreeMap<PeerId, Instant>,
    /// Peers that a service would let in.
    welcome: BTreeMap<Service, BTreeSet<PeerId>>,
    max: usize,
}

impl Familiar {
    pub(crate) fn new(max: usize) -> Self {
        Self { met: BTreeMap::new(), welcome: BTreeMap::new(), max }
    }

    /// Our program uses the peer, or let it in. The one met longest ago makes room. True if it was not
    /// familiar before.
    pub(crate) fn meet(&mut self, peer: PeerId, now: Instant) -> bool {
        let new = !self.contains(peer);
        if self.met.len() >= self.max && !self.met.contains_key(&peer) {
            let oldest = self.met.iter().min_by_key(|(_, at)| **at).map(|(peer, _)| *peer);
            if let Some(oldest) = oldest {
                self.met.remove(&oldest);
            }
        }
        self.met.insert(peer, now);
        new
    }

    /// A service would let these in, and no others any more. Returns those that were not familiar before,
    /// or none if that would be more than there is room for: then nothing changes.
    pub(crate) fn welcome(&mut self, service: Service, peers: Vec<PeerId>) -> Option<Vec<PeerId>> {
        let others = self.welcome.iter().filter(|(other, _)| **other != service);
        let peers: BTreeSet<PeerId> = peers.into_iter().collect();
        if others.map(|(_, peers)| peers.len()).sum::<usize>() + peers.len() > self.max {
            return None;
        }
        let new = peers.iter().copied().filter(|peer| !self.contains(*peer)).collect();
        if peers.is_empty() {
            self.welcome.remove(&service);
        } else {
            self.welcome.insert(service, peers);
        }
        Some(new)
    }

    pub(crate) fn contains(&self, peer: PeerId) -> bool {
        self.met.contains_key(&peer) || self.welcome.values().any(|peers| peers.contains(&peer))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Duration;

    use super::*;

    fn service(name: &str) -> Service {
        name.parse().unwrap()
    }

    #[test]
    fn who_is_used_is_familiar_and_the_one_met_longest_ago_makes_room() {
        let (mut familiar, now) = (Familiar::new(2), Instant::now());
        let peers: Vec<PeerId> = (0..3).map(|_| PeerId::random()).collect();
        assert!(familiar.meet(peers[0], now));
        assert!(familiar.meet(peers[1], now + Duration::from_secs(1)));
        assert!(!familiar.meet(peers[0], now + Duration::from_secs(2)), "as familiar as before");
        familiar.meet(peers[2], now + Duration::from_secs(3));
        assert!(
            familiar.contains(peers[0]) && !familiar.contains(peers[1]) && familiar.contains(peers[2])
        );
    }

    #[test]
    fn a_service_says_anew_whom_it_would_let_in() {
        let mut familiar = Familiar::new(2);
        let (a, b) = (PeerId::random(), PeerId::random());
        assert_eq!(familiar.welcome(service("x"), vec![a]), Some(vec![a]));
        assert_eq!(familiar.welcome(service("y"), vec![a, b]), None, "three are too many");
        assert!(!familiar.contains(b));
        assert_eq!(familiar.welcome(service("x"), vec![b]), Some(vec![b]));
        assert!(!familiar.contains(a) && familiar.contains(b));
        familiar.welcome(service("x"), Vec::new()).unwrap();
        assert!(!familiar.contains(b));
    }
}
