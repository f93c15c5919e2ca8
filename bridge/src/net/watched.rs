//! Relays that lead to us or to others: their silence must be noticed soon, since streams whose direct path broke go back to them.
//!
//! A transport is not told what a connection is for; so whoever asks a relay for a place or a circuit says it here.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use libp2p::PeerId;

/// All clones are the same. No more than there are connections.
#[derive(Clone, Debug, Default)]
pub(crate) struct Watched(Arc<Mutex<HashSet<PeerId>>>);

impl Watched {
    /// Nothing panics while it holds the lock.
    fn lock(&self) -> MutexGuard<'_, HashSet<PeerId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn add(&self, relay: PeerId) {
        self.lock().insert(relay);
    }

    pub(crate) fn remove(&self, relay: &PeerId) {
        self.lock().remove(relay);
    }

    pub(crate) fn contains(&self, peer: &PeerId) -> bool {
        self.lock().contains(peer)
    }
}
