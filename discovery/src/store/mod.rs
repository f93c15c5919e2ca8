//! What this node keeps for others, and what it keeps of its own: the record store of Kademlia.
//!
//! libp2p's own store takes whatever comes first, from whomever, until it is full, and then refuses everybody, its own
//! node included. This one takes what [`accept`](crate::record::accept) accepts, and bounds what one signer, and what
//! all strangers together can have. Own records and own keys have places that nobody else can take.
//!
//! *When places run out* each that wants one draws a lot: a keyed hash of what it is. Higher lots go. The key is
//! this node's secret, so nobody can choose identities that win here, and nodes draw differently: who floods all of them
//! with ten times as many identities as there are honest ones leaves every honest one a tenth of its places. First come,
//! first kept would leave it none, and so would last come.
//!
//! A record that is refused is an error of `put`, so that the writer is told that it failed. For that `StoreInserts` must be `Unfiltered`. ADD_PROVIDER has no answer at all; whoever refuses it can only
//! count.
//!
//! `records` and `providers` hold; `pool` draws the lots.

mod pool;
mod providers;
mod records;

#[cfg(test)]
mod tests;

use std::{borrow::Cow, collections::BTreeMap, fmt, time::Instant};

use libp2p::{
    PeerId,
    kad::{self, ProviderRecord, store::RecordStore},
};

use self::{pool::Lots, providers::Providers, records::Records};
pub use self::{
    providers::{
        Announced, OWN_KEYS_MAX, PROVIDER_LIFETIME_MAX, PROVIDERS_MAX, PROVIDERS_PER_KEY_MAX,
        PROVIDERS_PER_PEER_MAX, ProvideRefusal,
    },
    records::{
        CONTENT_BYTES_MAX, CONTENT_MAX, OWN_RECORDS_MAX, PutRefusal, RECORDS_BYTES_MAX, RECORDS_MAX,
        RECORDS_PER_SIGNER_MAX,
    },
};
use crate::{moment::UnixTime, record::Rules};

/// What time it is, on this host's own clock and on everybody's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// By the clock that never steps.
    pub instant: Instant,
    /// By the clock that records speak of.
    pub unix: UnixTime,
}

/// Tells the time: libp2p puts records without saying when.
pub trait Clock: Send {
    /// The present.
    fn now(&self) -> Now;
}

impl<F: Fn() -> Now + Send> Clock for F {
    fn now(&self) -> Now {
        self()
    }
}

/// How much is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Signed records of others, and their bytes.
    pub records: usize,
    /// Bytes of these.
    pub records_bytes: usize,
    /// Content of others, which nobody signed.
    pub content: usize,
    /// Bytes of it.
    pub content_bytes: usize,
    /// Own records.
    pub own_records: usize,
    /// Others that provide something, once for each key.
    pub providers: usize,
    /// Keys that this node provides.
    pub own_keys: usize,
}

/// The record store of a node.
pub struct Store {
    rules: Rules,
    clock: Box<dyn Clock>,
    records: Records,
    providers: Providers,
    refusals: BTreeMap<&'static str, u64>,
    put_refusal: Option<PutRefusal>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("usage", &self.usage()).finish_non_exhaustive()
    }
}

impl Store {
    /// An empty one of the node `local`. `seed`: 16 random bytes that nobody else knows; they decide who keeps his place.
    pub fn new(local: PeerId, rules: Rules, seed: [u8; 16], clock: impl Clock + 'static) -> Self {
        let lots = Lots::new(seed);
        Self {
            rules,
            clock: Box::new(clock),
            records: Records::new(local, lots),
            providers: Providers::new(local, lots),
            refusals: BTreeMap::new(),
            put_refusal: None,
        }
    }

    /// How much is kept.
    pub fn usage(&self) -> Usage {
        let mut usage = self.records.usage();
        (usage.providers, usage.own_keys) = (self.providers.count(), self.providers.own_count());
        usage
    }

    /// The keys that most others announce themselves under.
    pub(crate) fn announced(&self) -> Vec<Announced> {
        self.providers.fullest()
    }

    /// How often what was refused, by the names of [`PutRefusal::name`] and [`ProvideRefusal::name`].
    pub fn refusals(&self) -> &BTreeMap<&'static str, u64> {
        &self.refusals
    }

    /// Why the last record was refused; none once one was taken after it. libp2p's error does not say.
    pub fn put_refusal(&self) -> Option<&PutRefusal> {
        self.put_refusal.as_ref()
    }

    /// Forgets what has expired. Every minute is often enough: it is not given to anybody in the meantime.
    pub fn sweep(&mut self) {
        let now = self.clock.now().instant;
        self.records.sweep(now);
        self.providers.sweep(now);
    }
}

impl RecordStore for Store {
    type RecordsIter<'a> = Box<dyn Iterator<Item = Cow<'a, kad::Record>> + 'a>;
    type ProvidedIter<'a> = Box<dyn Iterator<Item = Cow<'a, ProviderRecord>> + 'a>;

    fn get(&self, key: &kad::RecordKey) -> Option<Cow<'_, kad::Record>> {
        self.records.get(key.as_ref()).map(Cow::Borrowed)
    }

    fn put(&mut self, record: kad::Record) -> kad::store::Result<()> {
        self.put_refusal = self.records.put(record, &self.rules, self.clock.now()).err();
        let Some(refusal) = &self.put_refusal else { return Ok(()) };
        *self.refusals.entry(refusal.name()).or_default() += 1;
        Err(if refusal.is_too_large() {
            kad::store::Error::ValueTooLarge
        } else {
            kad::store::Error::MaxRecords
        })
    }

    fn remove(&mut self, key: &kad::RecordKey) {
        self.records.remove(key.as_ref());
    }

    fn records(&self) -> Self::RecordsIter<'_> {
        Box::new(self.records.iter().map(Cow::Borrowed))
    }

    fn add_provider(&mut self, record: ProviderRecord) -> kad::store::Result<()> {
        let provided = self.providers.add(record, self.clock.now().instant);
        provided.map_err(|refusal| {
            *self.refusals.entry(refusal.name()).or_default() += 1;
            kad::store::Error::MaxProvidedKeys
        })
    }

    fn providers(&self, key: &kad::RecordKey) -> Vec<ProviderRecord> {
        self.providers.of(key)
    }

    fn provided(&self) -> Self::ProvidedIter<'_> {
        Box::new(self.providers.own().map(Cow::Borrowed))
    }

    fn remove_provider(&mut self, key: &kad::RecordKey, provider: &PeerId) {
        self.providers.remove(key.as_ref(), provider);
    }
}

/// Until when something is kept, if it is asked for until then and may be until `latest`.
fn clamp(asked: Option<Instant>, latest: Instant) -> Instant {
    asked.map_or(latest, |asked| asked.min(latest))
}
