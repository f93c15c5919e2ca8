//! Records: own ones, signed ones of others, and content of others.

use std::{collections::BTreeMap, time::Instant};

use libp2p::{PeerId, kad};

use super::{
    Now, Usage, clamp,
    pool::{Kept, Lots, Pool},
};
use crate::{
    keys::RecordKey,
    record::{Accepted, LIFETIME_MAX, Refusal, Rules, accept},
};

/// Signed records of others. An honest network asks each node to keep about twenty for each of its nodes.
pub const RECORDS_MAX: usize = 4096;

/// Bytes of these.
pub const RECORDS_BYTES_MAX: usize = 8 << 20;

/// Records of one signer: its contact and a few values.
pub const RECORDS_PER_SIGNER_MAX: usize = 16;

/// Content of others. Nobody signs it, so it has fewer places, and takes none from what is signed.
pub const CONTENT_MAX: usize = 256;

/// Bytes of that.
pub const CONTENT_BYTES_MAX: usize = 1 << 20;

/// Own records: contact, delegations and values of this node's program.
pub const OWN_RECORDS_MAX: usize = 64;

/// Why a record is not kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PutRefusal {
    /// Not a key of records.
    #[error("not a key of records")]
    Key,
    /// It is no good record, or no news.
    #[error("{0}")]
    Record(#[from] Refusal),
    /// This node publishes that record itself, and knows best what it says.
    #[error("this node publishes the record itself")]
    Ours,
    /// Its signer has as many as it may have.
    #[error("{RECORDS_PER_SIGNER_MAX} records of {signer} are kept already")]
    Signer {
        /// Who.
        signer: PeerId,
    },
    /// There are as many own ones as there may be.
    #[error("{OWN_RECORDS_MAX} own records are kept already")]
    Own,
    /// All places are taken, and it drew a bad lot.
    #[error("all places are taken")]
    Full,
}

impl PutRefusal {
    /// Its name in metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Record(refusal) => refusal.name(),
            Self::Ours => "ours",
            Self::Signer { .. } => "signer_quota",
            Self::Own => "own_quota",
            Self::Full => "full",
        }
    }

    pub(super) fn is_too_large(&self) -> bool {
        matches!(self, Self::Record(Refusal::TooLarge { .. }))
    }
}

#[derive(Debug)]
pub(super) struct Records {
    local: PeerId,
    lots: Lots,
    own: Pool,
    signed: Pool,
    content: Pool,
    pub(super) by_signer: BTreeMap<PeerId, usize>,
}

impl Records {
    pub(super) fn new(local: PeerId, lots: Lots) -> Self {
        Self {
            local,
            lots,
            // Their number bounds their bytes: none is larger than a record may be.
            own: Pool::new(OWN_RECORDS_MAX, usize::MAX),
            signed: Pool::new(RECORDS_MAX, RECORDS_BYTES_MAX),
            content: Pool::new(CONTENT_MAX, CONTENT_BYTES_MAX),
            by_signer: BTreeMap::new(),
        }
    }

    pub(super) fn usage(&self) -> Usage {
        Usage {
            records: self.signed.count(),
            records_bytes: self.signed.bytes(),
            content: self.content.count(),
            content_bytes: self.content.bytes(),
            own_records: self.own.count(),
            ..Usage::default()
        }
    }

    pub(super) fn get(&self, key: &[u8]) -> Option<&kad::Record> {
        self.kept(key).map(|kept| &kept.record)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &kad::Record> {
        let all = [&self.own, &self.signed, &self.content];
        all.into_iter().flat_map(|pool| pool.iter().map(|kept| &kept.record))
    }

    pub(super) fn put(
        &mut self,
        record: kad::Record,
        rules: &Rules,
        now: Now,
    ) -> Result<(), PutRefusal> {
        // libp2p takes no record from others that names this node as its publisher.
        let own = record.publisher == Some(self.local);
        let key = RecordKey::of_bytes(record.key.as_ref()).ok_or(PutRefusal::Key)?;
        let ours = self.own.get(record.key.as_ref()).is_some();
        let held = self.kept(record.key.as_ref());
        let mut same = held;
        let (version, latest) =
            match accept(rules, &key, &record.value, held.and_then(|held| held.version), now.unix)? {
                Accepted::New(_) if ours && !own => return Err(PutRefusal::Ours),
                Accepted::New(good) => {
                    same = None;
                    (Some(good.version()), now.instant + good.expires().since(now.unix))
                }
                Accepted::Held | Accepted::Content if ours && !own => return Ok(()),
                Accepted::Held => held.map_or((None, now.instant), |held| (held.version, held.latest)),
                Accepted::Content => (None, now.instant + LIFETIME_MAX),
            };
        // Whoever brings again what is kept may ask for more time, and takes none away.
        let kept_until = same.and_then(|same| same.record.expires);
        let expires = Some(clamp(record.expires, latest)).max(kept_until);
        let publisher = if own { Some(self.local) } else { key.signer() };
        let kept = Kept { record: kad::Record { expires, publisher, ..record }, version, latest };
        if own { self.keep_own(kept) } else { self.keep(kept, key.signer(), now.instant) }
    }

    fn keep_own(&mut self, kept: Kept) -> Result<(), PutRefusal> {
        let key = kept.record.key.to_vec();
        self.own.keep(kept, 0).ok_or(PutRefusal::Own)?;
        self.forget(&key);
        Ok(())
    }

    fn keep(&mut self, kept: Kept, signer: Option<PeerId>, now: Instant) -> Result<(), PutRefusal> {
        let lot = self.lots.draw(kept.record.key.as_ref(), &[]);
        let Some(signer) = signer else {
            self.content.sweep(now);
            return self.content.keep(kept, lot).map(drop).ok_or(PutRefusal::Full);
        };
        if self.signed.get(kept.record.key.as_ref()).is_none() {
            self.make_room(signer, now)?;
            *self.by_signer.entry(signer).or_default() += 1;
        }
        match self.signed.keep(kept, lot) {
            Some(displaced) => {
                displaced.iter().for_each(|kept| self.release(kept));
                Ok(())
            }
            None => {
                self.release_one(signer);
                Err(PutRefusal::Full)
            }
        }
    }

    /// Whether the signer may have one more. What has expired is looked for only when it matters.
    fn make_room(&mut self, signer: PeerId, now: Instant) -> Result<(), PutRefusal> {
        let has_all = |this: &Self| {
            this.by_signer.get(&signer).is_some_and(|count| *count >= RECORDS_PER_SIGNER_MAX)
        };
        if has_all(self) || self.signed.count() >= RECORDS_MAX {
            self.sweep(now);
        }
        if has_all(self) { Err(PutRefusal::Signer { signer }) } else { Ok(()) }
    }

    pub(super) fn remove(&mut self, key: &[u8]) {
        self.own.remove(key);
        self.forget(key);
    }

    pub(super) fn sweep(&mut self, now: Instant) {
        self.own.sweep(now);
        self.content.sweep(now);
        let expired = self.signed.sweep(now);
        expired.iter().for_each(|kept| self.release(kept));
    }

    fn kept(&self, key: &[u8]) -> Option<&Kept> {
        [&self.own, &self.signed, &self.content].into_iter().find_map(|pool| pool.get(key))
    }

    /// A record of others.
    fn forget(&mut self, key: &[u8]) {
        self.content.remove(key);
        if let Some(kept) = self.signed.remove(key) {
            self.release(&kept);
        }
    }

    fn release(&mut self, kept: &Kept) {
        if let Some(signer) = kept.record.publisher {
            self.release_one(signer);
        }
    }

    fn release_one(&mut self, signer: PeerId) {
        if let Some(count) = self.by_signer.get_mut(&signer) {
            *count -= 1;
            if *count == 0 {
                self.by_signer.remove(&signer);
            }
        }
    }
}
