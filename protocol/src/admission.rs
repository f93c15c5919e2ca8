//! Who may come in: places for handshakes in progress, and one place per live peer.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{
    handshake::PeerClaim,
    identity::{Origin, PeerKey, Remote},
    reject::RejectReason,
};

/// Which bound refused an inbound call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AdmissionLimit {
    /// Inbound handshakes and sessions not yet taken by the owner, of all peers.
    Pending {
        /// The bound.
        limit: usize,
    },
    /// Inbound handshakes of one peer.
    PendingPerPeer {
        /// The bound.
        limit: usize,
    },
}

impl fmt::Display for AdmissionLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pending { limit } => write!(f, "{limit} pending handshakes"),
            Self::PendingPerPeer { limit } => {
                write!(f, "{limit} pending handshakes of one peer")
            }
        }
    }
}

/// Handshakes in progress, by where they come from.
#[derive(Debug)]
pub(crate) struct PendingHandshakes {
    by_origin: Mutex<HashMap<Origin, usize>>,
    per_peer_max: usize,
}

impl PendingHandshakes {
    pub(crate) fn new(per_peer_max: usize) -> Arc<Self> {
        Arc::new(Self { by_origin: Mutex::default(), per_peer_max })
    }

    pub(crate) fn admit(self: &Arc<Self>, remote: &Remote) -> Result<Pending, AdmissionLimit> {
        let origin = remote.origin();
        let mut by_origin = lock(&self.by_origin);
        let count = by_origin.get(&origin).copied().unwrap_or(0);
        if count >= self.per_peer_max {
            let limit = self.per_peer_max;
            return Err(AdmissionLimit::PendingPerPeer { limit });
        }
        by_origin.insert(origin.clone(), count + 1);
        Ok(Pending { all: Arc::clone(self), origin })
    }
}

/// One handshake in progress; dropping it gives the place back.
#[derive(Debug)]
pub(crate) struct Pending {
    all: Arc<PendingHandshakes>,
    origin: Origin,
}

impl Drop for Pending {
    fn drop(&mut self) {
        let mut by_origin = lock(&self.all.by_origin);
        match by_origin.get_mut(&self.origin) {
            Some(count) if *count > 1 => *count -= 1,
            _ => {
                by_origin.remove(&self.origin);
            }
        }
    }
}

/// The peers that have a session or are past the duplicate check of their handshake.
#[derive(Debug)]
pub(crate) struct LivePeers {
    keys: Mutex<HashSet<PeerKey>>,
    limit: usize,
}

impl LivePeers {
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { keys: Mutex::default(), limit })
    }

    pub(crate) fn claim(self: &Arc<Self>, claim: PeerClaim) -> Result<LivePeer, RejectReason> {
        let mut keys = lock(&self.keys);
        if keys.contains(&claim.0) {
            return Err(RejectReason::Duplicate);
        }
        if keys.len() >= self.limit {
            return Err(RejectReason::Full);
        }
        keys.insert(claim.0.clone());
        Ok(LivePeer { all: Arc::clone(self), key: claim.0 })
    }

    pub(crate) fn len(&self) -> usize {
        lock(&self.keys).len()
    }
}

/// A peer's one place; dropping it lets the peer come again.
#[derive(Debug)]
pub(crate) struct LivePeer {
    all: Arc<LivePeers>,
    key: PeerKey,
}

impl Drop for LivePeer {
    fn drop(&mut self) {
        lock(&self.all.keys).remove(&self.key);
    }
}

/// Every critical section here is one insertion or removal; a panic leaves nothing half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use uuid::Uuid;

    use super::*;

    fn remote(peer: u8) -> Remote {
        Remote { peer_id_bytes: Some(vec![peer]), address: "203.0.113.1:1".parse().unwrap() }
    }

    fn claim(peer: u8) -> PeerClaim {
        PeerClaim(PeerKey { id: Uuid::nil(), origin: remote(peer).origin() })
    }

    #[test]
    fn one_pending_handshake_too_many_of_a_peer_is_refused_until_one_ends() {
        let pending = PendingHandshakes::new(2);
        let first = pending.admit(&remote(1)).unwrap();
        let _second = pending.admit(&remote(1)).unwrap();
        let limit = AdmissionLimit::PendingPerPeer { limit: 2 };
        assert_eq!(pending.admit(&remote(1)).map(|_| ()), Err(limit));
        assert!(pending.admit(&remote(2)).is_ok());
        drop(first);
        assert!(pending.admit(&remote(1)).is_ok());
    }

    #[test]
    fn a_live_peer_has_one_place_until_its_session_ends() {
        let live = LivePeers::new(8);
        let first = live.claim(claim(1)).unwrap();
        let second = live.claim(claim(1)).map(|_| ());
        assert_eq!(second, Err(RejectReason::Duplicate));
        drop(first);
        assert!(live.claim(claim(1)).is_ok());
    }

    #[test]
    fn one_live_peer_too_many_is_refused() {
        let live = LivePeers::new(1);
        let _first = live.claim(claim(1)).unwrap();
        assert_eq!(live.claim(claim(2)).map(|_| ()), Err(RejectReason::Full));
        assert_eq!(live.len(), 1);
    }
}
