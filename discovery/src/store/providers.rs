//! Who provides what: members of namespaces, and who has what content.
//!
//! Of addresses nothing is kept. Whoever provides something names addresses that nobody can verify, libp2p would hand
//! them on, and those who ask would dial them. Where a provider is, its signed contact says. But libp2p leaves
//! providers without any address out of its answers, so each has one that says no more than its id.

use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use libp2p::{
    Multiaddr, PeerId,
    kad::{ProviderRecord, RecordKey},
    multiaddr::Protocol,
};

use super::{
    clamp,
    pool::{Lot, Lots, earlier},
};
use crate::keys::{MEMBER_KEY_BYTES, PROVIDERS_ANSWERED_MAX, short};

/// Providers of one key that are kept. An answer has room for 20 of them, and the next one for others.
pub const PROVIDERS_PER_KEY_MAX: usize = 128;

/// Keys that one peer provides here: a few namespaces, each with its shards and epochs, and some content.
pub const PROVIDERS_PER_PEER_MAX: usize = 64;

/// Providers of all keys together: about 4 MB.
pub const PROVIDERS_MAX: usize = 8192;

/// Keys that this node itself provides.
pub const OWN_KEYS_MAX: usize = 1024;

/// Longest time that a provider is kept: one that announces itself every hour may be late twice.
pub const PROVIDER_LIFETIME_MAX: Duration = Duration::from_secs(150 * 60);

/// Keys of which it is told how many providers they have.
const TOLD_MAX: usize = 32;

/// Why a provider is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProvideRefusal {
    /// Not a key of members or content: these have 32 bytes.
    #[error("not a key of members or content")]
    Key,
    /// The peer provides as many keys here as it may.
    #[error("{PROVIDERS_PER_PEER_MAX} keys of {peer} are kept already")]
    Peer {
        /// Who.
        peer: PeerId,
    },
    /// This node provides as many keys as it may.
    #[error("this node provides {OWN_KEYS_MAX} keys already")]
    Own,
    /// All places of the key, or all of this node, are taken, and it drew a bad lot.
    #[error("all places are taken")]
    Full,
}

impl ProvideRefusal {
    /// Its name in metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Key => "provider_key",
            Self::Peer { .. } => "provider_quota",
            Self::Own => "provider_own_quota",
            Self::Full => "provider_full",
        }
    }
}

/// A key under which others announce themselves: a part of a namespace, or content. Nobody can tell which.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announced {
    /// The key, shortened as [`Namespace::hash`](crate::keys::Namespace::hash).
    pub hash: String,
    /// How many do.
    pub peers: usize,
}

#[derive(Debug)]
pub(super) struct Providers {
    local: PeerId,
    lots: Lots,
    own: BTreeMap<Vec<u8>, ProviderRecord>,
    keys: BTreeMap<Vec<u8>, Places>,
    by_peer: BTreeMap<PeerId, usize>,
    all: BTreeSet<Place>,
    /// None expires before.
    expires: Option<Instant>,
}

/// The providers of one key. Who has the highest lot goes first.
#[derive(Debug, Default)]
struct Places {
    kept: BTreeMap<(Lot, PeerId), ProviderRecord>,
    /// Where the next answer begins, so that answers together tell of all.
    turn: Cell<usize>,
}

type Place = (Lot, PeerId, Vec<u8>);

impl Providers {
    pub(super) fn new(local: PeerId, lots: Lots) -> Self {
        let (own, keys, by_peer) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { local, lots, own, keys, by_peer, all: BTreeSet::new(), expires: None }
    }

    pub(super) fn count(&self) -> usize {
        self.all.len()
    }

    pub(super) fn own_count(&self) -> usize {
        self.own.len()
    }

    /// The keys with the most providers, the fullest first.
    pub(super) fn fullest(&self) -> Vec<Announced> {
        let mut keys: Vec<_> = self.keys.iter().map(|(key, places)| (places.kept.len(), key)).collect();
        keys.sort_unstable_by(|one, other| other.cmp(one));
        let told = |(peers, key): (usize, &Vec<u8>)| Announced { hash: short(key), peers };
        keys.into_iter().take(TOLD_MAX).map(told).collect()
    }

    pub(super) fn own(&self) -> impl Iterator<Item = &ProviderRecord> {
        self.own.values()
    }

    /// All providers of a key: this node first, then others, beginning where the last answer ended.
    pub(super) fn of(&self, key: &RecordKey) -> Vec<ProviderRecord> {
        let own = self.own.get(key.as_ref()).into_iter();
        let Some(places) = self.keys.get(key.as_ref()) else { return own.cloned().collect() };
        let count = places.kept.len();
        let begin = places.turn.get() % count.max(1);
        places.turn.set(begin + PROVIDERS_ANSWERED_MAX - own.len());
        let turned = places.kept.values().cycle().skip(begin).take(count);
        own.chain(turned).cloned().collect()
    }

    pub(super) fn add(&mut self, record: ProviderRecord, now: Instant) -> Result<(), ProvideRefusal> {
        let key = record.key.to_vec();
        if key.len() != MEMBER_KEY_BYTES {
            return Err(ProvideRefusal::Key);
        }
        let (peer, addresses) = (record.provider, vec![Multiaddr::from(Protocol::P2p(record.provider))]);
        if peer == self.local {
            if self.own.len() >= OWN_KEYS_MAX && !self.own.contains_key(&key) {
                return Err(ProvideRefusal::Own);
            }
            self.own.insert(key, ProviderRecord { addresses, ..record });
            return Ok(());
        }
        let expires = Some(clamp(record.expires, now + PROVIDER_LIFETIME_MAX));
        self.expires = earlier(self.expires, expires);
        let record = ProviderRecord { expires, addresses, ..record };
        let lot = self.lots.draw(&key, &peer.to_bytes());
        let known = self.keys.get_mut(&key).and_then(|places| places.kept.get_mut(&(lot, peer)));
        if let Some(known) = known {
            *known = record;
            return Ok(());
        }
        self.make_room((lot, peer, key.clone()), now)?;
        *self.by_peer.entry(peer).or_default() += 1;
        self.keys.entry(key.clone()).or_default().kept.insert((lot, peer), record);
        self.all.insert((lot, peer, key));
        Ok(())
    }

    fn make_room(&mut self, place: Place, now: Instant) -> Result<(), ProvideRefusal> {
        if self.lacks_room(&place) {
            self.sweep(now);
        }
        let (lot, peer, key) = &place;
        if self.has_all(peer) {
            return Err(ProvideRefusal::Peer { peer: *peer });
        }
        let of_key = self.keys.get(key).filter(|places| places.kept.len() >= PROVIDERS_PER_KEY_MAX);
        let highest = of_key.and_then(|places| places.kept.last_key_value());
        let of_key = highest.map(|((lot, peer), _)| (*lot, *peer, key.clone()));
        let of_all = if self.all.len() >= PROVIDERS_MAX { self.all.last().cloned() } else { None };
        let Some(loser) = of_key.or(of_all) else { return Ok(()) };
        if loser.0 <= *lot {
            return Err(ProvideRefusal::Full);
        }
        self.forget(&loser);
        Ok(())
    }

    fn lacks_room(&self, (_, peer, key): &Place) -> bool {
        let of_key = self.keys.get(key).map_or(0, |places| places.kept.len());
        self.has_all(peer) || of_key >= PROVIDERS_PER_KEY_MAX || self.all.len() >= PROVIDERS_MAX
    }

    fn has_all(&self, peer: &PeerId) -> bool {
        self.by_peer.get(peer).is_some_and(|count| *count >= PROVIDERS_PER_PEER_MAX)
    }

    pub(super) fn remove(&mut self, key: &[u8], peer: &PeerId) {
        if *peer == self.local {
            self.own.remove(key);
        } else {
            self.forget(&(self.lots.draw(key, &peer.to_bytes()), *peer, key.to_vec()));
        }
    }

    pub(super) fn sweep(&mut self, now: Instant) {
        if self.expires.is_none_or(|earliest| now < earliest) {
            return;
        }
        let kept =
            self.keys.iter().flat_map(|(key, places)| places.kept.iter().map(move |kept| (key, kept)));
        let expired = kept.filter(|(_, (_, record))| record.is_expired(now));
        let expired: Vec<Place> =
            expired.map(|(key, ((lot, peer), _))| (*lot, *peer, key.clone())).collect();
        expired.iter().for_each(|place| self.forget(place));
        let kept = self.keys.values().flat_map(|places| places.kept.values());
        self.expires = kept.filter_map(|record| record.expires).min();
    }

    fn forget(&mut self, place: &Place) {
        if !self.all.remove(place) {
            return;
        }
        let (lot, peer, key) = place;
        if let Some(places) = self.keys.get_mut(key) {
            places.kept.remove(&(*lot, *peer));
            if places.kept.is_empty() {
                self.keys.remove(key);
            }
        }
        if let Some(count) = self.by_peer.get_mut(peer) {
            *count -= 1;
            if *count == 0 {
                self.by_peer.remove(peer);
            }
        }
    }
}
