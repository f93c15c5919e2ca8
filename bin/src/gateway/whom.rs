//! Whom a forward leads to: one peer, or any member of a namespace.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use libp2p::PeerId;
use punchline_bridge::Status;
#[cfg(feature = "kad")]
use punchline_discovery::keys::Namespace;

/// Members that a forward keeps a connection to. Of more, those that were found first.
#[cfg_attr(not(feature = "kad"), allow(dead_code))]
pub(super) const MEMBERS_MAX: usize = 8;

/// Whom a forward leads to.
#[derive(Clone, Debug)]
pub(super) enum Whom {
    /// One peer.
    Peer(PeerId),
    /// Whoever is in these, and answers.
    #[cfg(feature = "kad")]
    Members(Vec<Namespace>),
}

impl Whom {
    /// The peer, if it is one.
    pub(super) fn peer(&self) -> Option<PeerId> {
        match self {
            Self::Peer(peer) => Some(*peer),
            #[cfg(feature = "kad")]
            Self::Members(_) => None,
        }
    }
}

/// Those who may answer, and who did last.
#[derive(Debug, Default)]
pub(super) struct Candidates(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    all: Vec<PeerId>,
    last: Option<PeerId>,
    /// Who did not answer lately, and how often.
    failures: BTreeMap<PeerId, u32>,
}

impl Candidates {
    pub(super) fn new(peer: Option<PeerId>) -> Self {
        let all = peer.into_iter().collect();
        Self(Mutex::new(Known { all, last: peer, failures: BTreeMap::new() }))
    }

    /// One more; false if it is known, or there are enough.
    #[cfg_attr(not(feature = "kad"), allow(dead_code))]
    pub(super) fn add(&self, peer: PeerId) -> bool {
        let mut known = self.known();
        let new = !known.all.contains(&peer) && known.all.len() < MEMBERS_MAX;
        if new {
            known.all.push(peer);
            known.last.get_or_insert(peer);
        }
        new
    }

    /// Whoever answered last, or was found first.
    pub(super) fn last(&self) -> Option<PeerId> {
        self.known().last
    }

    pub(super) fn answered(&self, peer: PeerId) {
        let mut known = self.known();
        known.last = Some(peer);
        known.failures.remove(&peer);
    }

    pub(super) fn failed(&self, peer: PeerId) {
        *self.known().failures.entry(peer).or_default() += 1;
    }

    /// All of them, in the order in which they are to be tried: who answered before who failed, then who is connected,
    /// the nearest first.
    pub(super) fn in_order(&self, status: Option<&Status>) -> Vec<PeerId> {
        let known = self.known();
        let mut all = known.all.clone();
        let round_trip = |peer: &PeerId| -> Option<Duration> {
            let found = status?.peers.iter().find(|found| found.peer == *peer)?;
            let direct = found.connections.iter().filter(|connection| connection.path.is_direct());
            let of = |connection: &punchline_bridge::status::ConnectionStatus| connection.round_trip;
            direct.filter_map(of).min().or_else(|| found.connections.iter().filter_map(of).min())
        };
        all.sort_by_key(|peer| {
            let failures = known.failures.get(peer).copied().unwrap_or_default();
            (failures, round_trip(peer).unwrap_or(Duration::MAX))
        });
        all
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_failed_comes_after_who_did_not() {
        let (candidates, peers) = (Candidates::new(None), [(); 3].map(|()| PeerId::random()));
        assert_eq!(candidates.last(), None);
        assert!(peers.iter().all(|peer| candidates.add(*peer)));
        assert!(!candidates.add(peers[0]), "it is known");
        candidates.failed(peers[0]);
        assert_eq!(candidates.in_order(None), [peers[1], peers[2], peers[0]]);
        candidates.answered(peers[0]);
        assert_eq!((candidates.in_order(None)[0], candidates.last()), (peers[0], Some(peers[0])));
    }

    #[test]
    fn a_crowd_of_members_is_not_all_held() {
        let candidates = Candidates::new(None);
        let added = (0..100).filter(|_| candidates.add(PeerId::random())).count();
        assert_eq!(added, MEMBERS_MAX);
    }
}
