//! What others store at this node. Pure: `now` is an argument.
//!
//! Whoever has an address can write as much as that address may. What is nearest to this node is its task: where all
//! places are taken, the farthest makes room.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddrV4},
    time::{Duration, Instant},
};

use rand::{Rng, seq::IteratorRandom as _};

use super::{
    id::Id,
    item::{Item, SALT_BYTES_MAX},
    message::{PEERS_MAX, Refusal},
};

/// Values, of 1,000 bytes each.
pub(super) const VALUES_MAX: usize = 1000;

/// Values that one address stores. A value that its owner renews from elsewhere is the new address's.
pub(super) const VALUES_PER_IP: usize = 64;

/// A value is kept so long after it was written last; whoever means it writes it again each hour.
pub(super) const VALUE_LASTS: Duration = Duration::from_secs(2 * 3600);

/// Hashes that peers are announced for, peers of one hash, and announcements from one address.
pub(super) const HASHES_MAX: usize = 1000;
pub(super) const PEERS_PER_HASH: usize = 100;
pub(super) const ANNOUNCED_PER_IP: usize = 64;

/// An announcement is kept so long; clients repeat it after half an hour.
pub(super) const PEER_LASTS: Duration = Duration::from_secs(45 * 60);

struct Stored {
    item: Item,
    by: Ipv4Addr,
    expires: Instant,
}

pub(super) struct Store {
    values: BTreeMap<Id, Stored>,
    peers: BTreeMap<Id, BTreeMap<SocketAddrV4, Instant>>,
    /// How much each address has of both.
    values_of: BTreeMap<Ipv4Addr, usize>,
    announced_of: BTreeMap<Ipv4Addr, usize>,
}

impl Store {
    pub(super) fn new() -> Self {
        let (values, peers) = Default::default();
        Self { values, peers, values_of: BTreeMap::new(), announced_of: BTreeMap::new() }
    }

    pub(super) fn value(&self, target: Id) -> Option<&Item> {
        self.values.get(&target).map(|stored| &stored.item)
    }

    /// Some of the peers, by chance, as many as fit in an answer.
    pub(super) fn peers(&self, hash: Id, random: &mut impl Rng) -> Vec<SocketAddrV4> {
        let peers = self.peers.get(&hash).into_iter().flatten();
        peers.map(|(peer, _)| *peer).sample(random, PEERS_MAX)
    }

    pub(super) fn values_len(&self) -> usize {
        self.values.len()
    }

    pub(super) fn hashes_len(&self) -> usize {
        self.peers.len()
    }

    /// Stores a value that `by` brings. `own`: this node's id.
    pub(super) fn put(
        &mut self,
        own: Id,
        item: Item,
        replaces: Option<i64>,
        by: Ipv4Addr,
        now: Instant,
    ) -> Result<Id, Refusal> {
        if item.mutable().is_some_and(|mutable| mutable.salt.len() > SALT_BYTES_MAX) {
            return Err(Refusal::SaltTooLong);
        }
        let target = item.target();
        self.allows(&item, replaces, target)?;
        let before = self.values.get(&target).map(|stored| stored.by);
        if before != Some(by) && count(&self.values_of, by) >= VALUES_PER_IP {
            return Err(Refusal::Other);
        }
        if before.is_none() && self.values.len() >= VALUES_MAX {
            let farthest = farthest(self.values.keys(), own);
            let farther = farthest.filter(|farthest| own.distance(farthest) > own.distance(&target));
            self.forget_value(farther.ok_or(Refusal::Other)?);
        }
        // Last, since it costs most.
        if !item.belongs(target) {
            return Err(Refusal::Signature);
        }
        self.forget_value(target);
        *self.values_of.entry(by).or_default() += 1;
        self.values.insert(target, Stored { item, by, expires: now + VALUE_LASTS });
        Ok(target)
    }

    fn allows(&self, item: &Item, replaces: Option<i64>, target: Id) -> Result<(), Refusal> {
        let Some(Stored { item: stored, .. }) = self.values.get(&target) else { return Ok(()) };
        if replaces.is_some_and(|replaces| replaces != stored.seq()) {
            return Err(Refusal::Changed);
        }
        let differs = item.seq() == stored.seq() && item.value() != stored.value();
        if item.seq() < stored.seq() || differs { Err(Refusal::Older) } else { Ok(()) }
    }

    /// Remembers that a peer is there.
    pub(super) fn announce(
        &mut self,
        own: Id,
        hash: Id,
        peer: SocketAddrV4,
        now: Instant,
    ) -> Result<(), Refusal> {
        let expires = now + PEER_LASTS;
        if let Some(known) = self.peers.get_mut(&hash).and_then(|peers| peers.get_mut(&peer)) {
            *known = expires;
            return Ok(());
        }
        if count(&self.announced_of, *peer.ip()) >= ANNOUNCED_PER_IP {
            return Err(Refusal::Other);
        }
        if !self.peers.contains_key(&hash) && self.peers.len() >= HASHES_MAX {
            let farthest = farthest(self.peers.keys(), own);
            let farther = farthest.filter(|farthest| own.distance(farthest) > own.distance(&hash));
            self.forget_peers(farther.ok_or(Refusal::Other)?);
        }
        let peers = self.peers.entry(hash).or_default();
        if peers.len() >= PEERS_PER_HASH {
            return Err(Refusal::Other);
        }
        peers.insert(peer, expires);
        *self.announced_of.entry(*peer.ip()).or_default() += 1;
        Ok(())
    }

    /// Forgets what was not written again.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        let over = |(target, stored): (&Id, &Stored)| (stored.expires <= now).then_some(*target);
        let values: Vec<Id> = self.values.iter().filter_map(over).collect();
        values.into_iter().for_each(|target| self.forget_value(target));
        for peers in self.peers.values_mut() {
            peers.retain(|peer, expires| {
                let keep = *expires > now;
                if !keep {
                    lower(&mut self.announced_of, *peer.ip());
                }
                keep
            });
        }
        self.peers.retain(|_, peers| !peers.is_empty());
    }

    fn forget_value(&mut self, target: Id) {
        if let Some(stored) = self.values.remove(&target) {
            lower(&mut self.values_of, stored.by);
        }
    }

    fn forget_peers(&mut self, hash: Id) {
        for peer in self.peers.remove(&hash).into_iter().flatten() {
            lower(&mut self.announced_of, *peer.0.ip());
        }
    }
}

fn count(of: &BTreeMap<Ipv4Addr, usize>, ip: Ipv4Addr) -> usize {
    of.get(&ip).copied().unwrap_or(0)
}

fn lower(of: &mut BTreeMap<Ipv4Addr, usize>, ip: Ipv4Addr) {
    if let Some(left) = of.get_mut(&ip) {
        *left -= 1;
        if *left == 0 {
            of.remove(&ip);
        }
    }
}

fn farthest<'a>(ids: impl Iterator<Item = &'a Id>, own: Id) -> Option<Id> {
    ids.max_by_key(|id| own.distance(id)).copied()
}

#[cfg(test)]
mod tests;
