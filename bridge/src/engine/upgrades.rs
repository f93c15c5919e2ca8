//! Peers that are reached only through a relay, and what became of the attempts to change that.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use libp2p::PeerId;

/// Punches that libp2p makes on one relayed connection before it gives up.
const PUNCHES_MAX: u32 = 3;

#[derive(Debug)]
struct Waiting {
    since: Instant,
    failed: u32,
}

/// How an upgrade went.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Upgraded {
    pub(crate) took: Duration,
    pub(crate) attempts: u32,
}

/// By peer: since when it is reached only through a relay.
#[derive(Debug, Default)]
pub(crate) struct Upgrades {
    waiting: HashMap<PeerId, Waiting>,
}

impl Upgrades {
    pub(crate) fn relayed(&mut self, peer: PeerId, now: Instant) {
        self.waiting.entry(peer).or_insert(Waiting { since: now, failed: 0 });
    }

    pub(crate) fn direct(&mut self, peer: PeerId, now: Instant) -> Option<Upgraded> {
        let waiting = self.waiting.remove(&peer)?;
        Some(Upgraded { took: now - waiting.since, attempts: waiting.failed + 1 })
    }

    /// Counts a punch that failed; tells when it was the last one.
    pub(crate) fn punch_failed(&mut self, peer: PeerId) -> Option<u32> {
        let waiting = self.waiting.get_mut(&peer)?;
        waiting.failed += 1;
        (waiting.failed == PUNCHES_MAX).then_some(waiting.failed)
    }

    /// Punches that failed so far, if the peer is still reached only through a relay.
    pub(crate) fn failed(&self, peer: PeerId) -> Option<u32> {
        Some(self.waiting.get(&peer)?.failed)
    }

    pub(crate) fn disconnected(&mut self, peer: PeerId) {
        self.waiting.remove(&peer);
    }
}
