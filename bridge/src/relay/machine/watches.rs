//! Who wants to be told when a peer takes a place.

use std::collections::{BTreeMap, BTreeSet};

use libp2p::PeerId;

use super::Limited;
use crate::{
    addr::place::{Place, Shares},
    path::ConnectionId,
    word::WATCHED_MAX,
};

/// Peers that all clients together watch, counted for each client. One costs some hundred bytes.
const WATCHES_MAX: usize = 65_536;

/// What one host may have of them: a quarter.
const WATCHES_SHARE: usize = WATCHES_MAX / 4;

/// By client and by peer.
#[derive(Debug)]
pub(super) struct Watches {
    /// No peer twice.
    watched: BTreeMap<ConnectionId, (Place, Vec<PeerId>)>,
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

    /// The client watches these peers instead of those before, as far as there is room and it can `pay` for
    /// each. Returns those, in the order they were named, and the limit that kept it from paying. What goes
    /// beyond a limit is not watched: it is a convenience, and whoever misses it asks again.
    pub(super) fn replace(
        &mut self,
        client: ConnectionId,
        place: Place,
        peers: &[PeerId],
        mut pay: impl FnMut() -> Result<(), Limited>,
    ) -> (Vec<PeerId>, Option<Limited>) {
        self.end(client);
        let (mut named, mut watched, mut unpaid) = (BTreeSet::new(), Vec::new(), None);
        for peer in peers.iter().take(WATCHED_MAX).filter(|peer| named.insert(**peer)) {
            if self.count >= WATCHES_MAX || self.shares.fits(place).is_err() {
                break;
            }
            if let Err(limited) = pay() {
                unpaid = Some(limited);
                break;
            }
            self.shares.take(place);
            self.count += 1;
            self.watchers.entry(*peer).or_default().insert(client);
            watched.push(*peer);
        }
        if !watched.is_empty() {
            self.watched.insert(client, (place, watched.clone()));
        }
        (watched, unpaid)
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
