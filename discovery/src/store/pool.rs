//! Places, and who keeps one when there are too few.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::Hasher,
    time::Instant,
};

use libp2p::kad;
use siphasher::sip::SipHasher24;

use crate::record::Version;

/// Lower ones keep their places.
pub(super) type Lot = u64;

/// Draws lots: a hash that only this node can compute.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lots(SipHasher24);

impl Lots {
    pub(super) fn new(seed: [u8; 16]) -> Self {
        Self(SipHasher24::new_with_key(&seed))
    }

    pub(super) fn draw(&self, what: &[u8], whose: &[u8]) -> Lot {
        let mut hasher = self.0;
        hasher.write(&(what.len() as u64).to_le_bytes());
        hasher.write(what);
        hasher.write(whose);
        hasher.finish()
    }
}

/// A record that is kept.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    pub(super) record: kad::Record,
    /// None for content.
    pub(super) version: Option<Version>,
    /// It may be kept until then.
    pub(super) latest: Instant,
}

/// Records of one sort, by key.
#[derive(Debug)]
pub(super) struct Pool {
    count_max: usize,
    bytes_max: usize,
    kept: BTreeMap<Vec<u8>, (Lot, Kept)>,
    lots: BTreeSet<(Lot, Vec<u8>)>,
    bytes: usize,
    /// Nothing expires before.
    expires: Option<Instant>,
}

impl Pool {
    pub(super) fn new(count_max: usize, bytes_max: usize) -> Self {
        Self {
            count_max,
            bytes_max,
            kept: BTreeMap::new(),
            lots: BTreeSet::new(),
            bytes: 0,
            expires: None,
        }
    }

    pub(super) fn count(&self) -> usize {
        self.kept.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn get(&self, key: &[u8]) -> Option<&Kept> {
        self.kept.get(key).map(|(_, kept)| kept)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Kept> {
        self.kept.values().map(|(_, kept)| kept)
    }

    pub(super) fn remove(&mut self, key: &[u8]) -> Option<Kept> {
        let (lot, kept) = self.kept.remove(key)?;
        self.lots.remove(&(lot, key.to_vec()));
        self.bytes -= size(&kept);
        Some(kept)
    }

    /// Keeps one in the place of the one with its key, or in a free place, or in those of others with higher lots: these
    /// are returned. None, and nothing is changed, if there are too few.
    pub(super) fn keep(&mut self, kept: Kept, lot: Lot) -> Option<Vec<Kept>> {
        let key = kept.record.key.to_vec();
        let losers = self.losers(&key, size(&kept), lot)?;
        let displaced = losers.iter().filter_map(|key| self.remove(key)).collect();
        self.remove(&key);
        self.bytes += size(&kept);
        self.expires = earlier(self.expires, kept.record.expires);
        self.lots.insert((lot, key.clone()));
        self.kept.insert(key, (lot, kept));
        Some(displaced)
    }

    /// Who must go for one more of so many bytes.
    fn losers(&self, key: &[u8], bytes: usize, lot: Lot) -> Option<Vec<Vec<u8>>> {
        let replaced = self.get(key);
        let mut count = self.kept.len() + 1 - usize::from(replaced.is_some());
        let mut total = self.bytes + bytes - replaced.map_or(0, size);
        let mut losers = Vec::new();
        let mut others = self.lots.iter().rev().filter(|(_, other)| other != key);
        while count > self.count_max || total > self.bytes_max {
            let (theirs, loser) = others.next()?;
            if *theirs <= lot {
                return None;
            }
            count -= 1;
            total -= self.get(loser).map_or(0, size);
            losers.push(loser.clone());
        }
        Some(losers)
    }

    /// Forgets what has expired, and returns it. Looks only when there is something.
    pub(super) fn sweep(&mut self, now: Instant) -> Vec<Kept> {
        if self.expires.is_none_or(|earliest| now < earliest) {
            return Vec::new();
        }
        let expired = self.kept.iter().filter(|(_, (_, kept))| kept.record.is_expired(now));
        let expired: Vec<Vec<u8>> = expired.map(|(key, _)| key.clone()).collect();
        let expired = expired.iter().filter_map(|key| self.remove(key)).collect();
        self.expires = self.iter().filter_map(|kept| kept.record.expires).min();
        expired
    }
}

/// The earlier of two moments that may never come.
pub(super) fn earlier(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    a.into_iter().chain(b).min()
}

/// Bytes of a record that its owner chose.
fn size(kept: &Kept) -> usize {
    kept.record.key.as_ref().len() + kept.record.value.len()
}
