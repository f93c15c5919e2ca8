//! Peers that may not speak TLS. Whoever is dialled is spoken with in TLS at once, since to agree first takes a round trip;
//! who did not answer in TLS is asked first the next time.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use libp2p::PeerId;

/// Peers that are remembered. One that is forgotten costs a second dial.
const PEERS_MAX: usize = 256;

/// The latest one last.
#[derive(Clone, Debug, Default)]
pub(super) struct Doubted(Arc<Mutex<VecDeque<PeerId>>>);

impl Doubted {
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
        let doubted = Doubted::default();
        let peers: Vec<PeerId> = (0..PEERS_MAX + 2).map(|_| PeerId::random()).collect();
        doubted.insert(peers[0]);
        doubted.insert(peers[1]);
        doubted.insert(peers[0]);
        peers[2..].iter().for_each(|peer| doubted.insert(*peer));
        assert_eq!(doubted.lock().len(), PEERS_MAX);
        assert!(!doubted.contains(&peers[1]), "seen the longest ago");
        assert!(doubted.contains(&peers[PEERS_MAX + 1]));
        doubted.remove(&peers[PEERS_MAX + 1]);
        assert!(!doubted.contains(&peers[PEERS_MAX + 1]));
    }
}
