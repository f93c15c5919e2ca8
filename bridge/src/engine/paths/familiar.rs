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

/// Who became familiar, and who is not any more.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Changed {
    pub(crate) new: Vec<PeerId>,
    pub(crate) gone: Vec<PeerId>,
}

impl Familiar {
    pub(crate) fn new(max: usize) -> Self {
        Self { met: BTreeMap::new(), welcome: BTreeMap::new(), max }
    }

    /// Our program uses the peer, or let it in. The one met longest ago makes room.
    pub(crate) fn meet(&mut self, peer: PeerId, now: Instant) -> Changed {
        let mut changed = Changed::default();
        changed.new.extend(Some(peer).filter(|peer| !self.contains(*peer)));
        if self.met.len() >= self.max && !self.met.contains_key(&peer) {
            let oldest = self.met.iter().min_by_key(|(_, at)| **at).map(|(peer, _)| *peer);
            if let Some(oldest) = oldest {
                self.met.remove(&oldest);
                changed.gone.extend(Some(oldest).filter(|peer| !self.contains(*peer)));
            }
        }
        self.met.insert(peer, now);
        changed
    }

    /// A service would let these in, and no others any more. None if that would be more than there is room
    /// for: then nothing changes.
    pub(crate) fn welcome(&mut self, service: Service, peers: Vec<PeerId>) -> Option<Changed> {
        let others = self.welcome.iter().filter(|(other, _)| **other != service);
        let peers: BTreeSet<PeerId> = peers.into_iter().collect();
        if others.map(|(_, peers)| peers.len()).sum::<usize>() + peers.len() > self.max {
            return None;
        }
        let new = peers.iter().copied().filter(|peer| !self.contains(*peer)).collect();
        let before = if peers.is_empty() {
            self.welcome.remove(&service)
        } else {
            self.welcome.insert(service, peers)
        };
        let gone = before.into_iter().flatten().filter(|peer| !self.contains(*peer)).collect();
        Some(Changed { new, gone })
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

    fn changed(new: &[PeerId], gone: &[PeerId]) -> Changed {
        Changed { new: new.to_vec(), gone: gone.to_vec() }
    }

    fn service(name: &str) -> Service {
        name.parse().unwrap()
    }

    #[test]
    fn who_is_used_is_familiar_and_the_one_met_longest_ago_makes_room() {
        let (mut familiar, now) = (Familiar::new(2), Instant::now());
        let peers: Vec<PeerId> = (0..3).map(|_| PeerId::random()).collect();
        assert_eq!(familiar.meet(peers[0], now).new, [peers[0]]);
        assert_eq!(familiar.meet(peers[1], now + Duration::from_secs(1)).new, [peers[1]]);
        let again = familiar.meet(peers[0], now + Duration::from_secs(2));
        assert_eq!(again, Changed::default(), "as familiar as before");
        let third = familiar.meet(peers[2], now + Duration::from_secs(3));
        assert_eq!((third.new, third.gone), (vec![peers[2]], vec![peers[1]]));
        assert!(
            familiar.contains(peers[0]) && !familiar.contains(peers[1]) && familiar.contains(peers[2])
        );
    }

    #[test]
    fn a_service_says_anew_whom_it_would_let_in() {
        let mut familiar = Familiar::new(2);
        let (a, b) = (PeerId::random(), PeerId::random());
        assert_eq!(familiar.welcome(service("x"), vec![a]), Some(changed(&[a], &[])));
        assert_eq!(familiar.welcome(service("y"), vec![a, b]), None, "three are too many");
        assert!(!familiar.contains(b));
        assert_eq!(familiar.welcome(service("x"), vec![b]), Some(changed(&[b], &[a])));
        assert!(!familiar.contains(a) && familiar.contains(b));
        familiar.welcome(service("x"), Vec::new()).unwrap();
        assert!(!familiar.contains(b));
    }
}
