//! Who speaks TLS. Two ends that have to agree first lose a round trip; with a peer that is known to speak it, the first
//! message goes at once.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use libp2p::PeerId;

/// Peers that are remembered. One that is forgotten costs a round trip.
const PEERS_MAX: usize = 256;

/// The latest to be seen last.
#[derive(Clone, Debug, Default)]
pub(super) struct Known(Arc<Mutex<VecDeque<PeerId>>>);

impl Known {
    fn lock(&self) -> MutexGuard<'_, VecDeque<PeerId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn contains(&self, peer: &PeerId) -> bool {
        self.lock().contains(peer)
    }

    pub(super) fn insert(&self, peer: PeerId) {
        let mut peers = self.lock();
        peers.retain(|other| *other != peer);
        peers.push_back(peer);
        if peers.len() > PEERS_MAX {
            peers.pop_front();
        }
    }

    pub(super) fn remove(&self, peer: &PeerId) {
        self.lock().retain(|other| other != peer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_peers_are_remembered_and_no_more_than_the_limit() {
        let known = Known::default();
        let peers: Vec<PeerId> = (0..PEERS_MAX + 2).map(|_| PeerId::random()).collect();
        known.insert(peers[0]);
        known.insert(peers[1]);
        known.insert(peers[0]);
        peers[2..].iter().for_each(|peer| known.insert(*peer));
        assert_eq!(known.lock().len(), PEERS_MAX);
        assert!(!known.contains(&peers[1]), "seen the longest ago");
        assert!(known.contains(&peers[PEERS_MAX + 1]));
        known.remove(&peers[PEERS_MAX + 1]);
        assert!(!known.contains(&peers[PEERS_MAX + 1]));
    }
}
