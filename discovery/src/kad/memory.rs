//! Nodes of the DHT that were reached before, so that a start needs no bootstrap node.

use std::{path::PathBuf, time::Instant};

use libp2p::{Multiaddr, PeerId};

#[cfg(feature = "cache")]
use crate::cache;

/// Those that are dialled at once.
#[cfg(feature = "cache")]
const SOME: usize = 16;

/// On disk, or nowhere.
pub(super) struct Memory {
    #[cfg(feature = "cache")]
    kept: Option<cache::Memory>,
}

impl Memory {
    #[cfg_attr(not(feature = "cache"), allow(unused_variables, clippy::needless_pass_by_value))]
    pub(super) fn open(path: Option<PathBuf>) -> Self {
        Self {
            #[cfg(feature = "cache")]
            kept: path.map(|path| cache::open(path).1),
        }
    }

    /// A node in the table was reached there.
    #[cfg_attr(not(feature = "cache"), allow(unused_variables, clippy::unused_self))]
    pub(super) fn reached(&mut self, peer: PeerId, address: &Multiaddr) {
        #[cfg(feature = "cache")]
        if let Some(kept) = &mut self.kept {
            kept.reached(peer, address.clone(), Instant::now());
        }
    }

    /// Some of those that were reached last.
    #[cfg_attr(not(feature = "cache"), allow(clippy::unused_self))]
    pub(super) fn some(&self) -> Vec<(PeerId, Vec<Multiaddr>)> {
        #[cfg(feature = "cache")]
        let some = self.kept.as_ref().map(|kept| kept.latest(SOME)).unwrap_or_default();
        #[cfg(not(feature = "cache"))]
        let some = Vec::new();
        some
    }

    #[cfg_attr(not(feature = "cache"), allow(clippy::unused_self))]
    pub(super) fn due(&self) -> Option<Instant> {
        #[cfg(feature = "cache")]
        let due = self.kept.as_ref().and_then(cache::Memory::due);
        #[cfg(not(feature = "cache"))]
        let due = None;
        due
    }

    /// Begins to write down what is due.
    #[cfg_attr(not(feature = "cache"), allow(clippy::unused_self, unused_variables))]
    pub(super) fn save(&mut self, now: Instant) {
        #[cfg(feature = "cache")]
        if let Some(kept) = self.kept.as_mut().filter(|kept| kept.due().is_some_and(|at| at <= now)) {
            kept.save(now);
        }
    }

    /// Writes down what is not yet, and returns when it is.
    #[cfg_attr(not(feature = "cache"), allow(clippy::unused_async, clippy::unused_self))]
    pub(super) async fn finish(&mut self) {
        #[cfg(feature = "cache")]
        if let Some(kept) = &mut self.kept {
            kept.finish().await;
        }
    }
}
