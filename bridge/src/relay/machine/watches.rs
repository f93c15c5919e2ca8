//! Who wants to be told when a peer takes a place.

use std::collections::{BTreeMap, BTreeSet};

use libp2p::PeerId;

use super::places::{Place, Shares};
use crate::{path::ConnectionId, word::WATCHED_MAX};

/// Peers that all clients together watch, counted for each client. One costs some hundred bytes.
const WATCHES_MAX: usize = 65_536;

/// What one host may have of them: a quarter.
const WATCHES_SHARE: usize = WATCHES_MAX / 4;

/// By client and by peer.
#[derive(Debug)]
pub(super) struct Watches {
    watched: BTreeMap<ConnectionId, (Place, BTreeSet<PeerId>)>,
    watchers: BTreeMap<PeerId, BTreeSet<ConnectionId>>,
    shares: Shares,
    count: usize,
}

impl Watches {
    pub(super) fn new() -> Self {
        Self {
            watched: BTreeMap::new(),
            watchers: BTreeMap::new(),
            shares: Shares::new(WATCHES_SHARE),
            count: 0,
        }
    }

    /// The client watches these peers instead of those before. What goes beyond a limit is not watched: it
    /// is a convenience, and whoever misses it asks again.
    pub(super) fn replace(&mut self, client: ConnectionId, place: Place, peers: &[PeerId]) {
        self.end(client);
        let mut watched = BTreeSet::new();
        for peer in peers.iter().take(WATCHED_MAX) {
            let room = self.count < WATCHES_MAX && self.shares.fits(place).is_ok();
            if room && watched.insert(*peer) {
                self.shares.take(place);
                self.count += 1;
                self.watchers.entry(*peer).or_default().insert(client);
            }
        }
        if !watched.is_empty() {
            self.watched.insert(client, (place, watched));
        }
    }

    /// The client watches nobody any more.
    pub(super) fn end(&mut self, client: ConnectionId) {
        let Some((place, peers)) = self.watched.remove(&client) else { return };
        for peer in peers {
            self.shares.give_back(place);
            self.count -= 1;
            if let Some(watchers) = self.watchers.get_mut(&peer) {
                watchers.remove(&client);
                if watchers.is_empty() {
                    self.watchers.remove(&peer);
                }
            }
        }
    }

    pub(super) fn of(&self, peer: PeerId) -> impl Iterator<Item = ConnectionId> {
        self.watchers.get(&peer).into_iter().flatten().copied()
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.count
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.watched.is_empty() && self.watchers.is_empty() && self.shares.is_empty() && self.count == 0
    }
}
