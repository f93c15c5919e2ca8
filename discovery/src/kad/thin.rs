//! Stand-in: keys, contacts and the store.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use libp2p::{Multiaddr, PeerId, core::SignedEnvelope, identity::Keypair, kad::RecordKey};
use sha2::{Digest as _, Sha256};

const DOMAIN: &str = "punchline-contact-v1";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contact {
    pub peer: PeerId,
    pub issued: u64,
    pub addresses: Vec<Multiaddr>,
}

pub fn contact_key(peer: &PeerId) -> RecordKey {
    RecordKey::from([b"/punchline/contact/v1/".as_slice(), &peer.to_bytes()].concat())
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Namespace(String);

impl<T: Into<String>> From<T> for Namespace {
    fn from(text: T) -> Self {
        Self(text.into())
    }
}

impl std::fmt::Display for Namespace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

use libp2p::kad::{ProviderRecord, Record, store::{MemoryStore, MemoryStoreConfig, RecordStore, Result}};

pub struct Store(MemoryStore);

pub fn open(local: PeerId) -> Store {
    let config = MemoryStoreConfig { max_providers_per_key: 128, max_provided_keys: 4096, ..Default::default() };
    Store(MemoryStore::with_config(local, config))
}

impl RecordStore for Store {
    type RecordsIter<'a> = <MemoryStore as RecordStore>::RecordsIter<'a>;
    type ProvidedIter<'a> = <MemoryStore as RecordStore>::ProvidedIter<'a>;

    fn get(&self, key: &RecordKey) -> Option<std::borrow::Cow<'_, Record>> {
        self.0.get(key)
    }

    fn put(&mut self, record: Record) -> Result<()> {
        self.0.put(record)
    }

    fn remove(&mut self, key: &RecordKey) {
        self.0.remove(key);
    }

    fn records(&self) -> Self::RecordsIter<'_> {
        self.0.records()
    }

    fn add_provider(&mut self, record: ProviderRecord) -> Result<()> {
        self.0.add_provider(record)
    }

    fn providers(&self, key: &RecordKey) -> Vec<ProviderRecord> {
        let mut all = self.0.providers(key);
        rand::seq::SliceRandom::shuffle(&mut all[..], &mut rand::rng());
        for provider in &mut all {
            if provider.addresses.is_empty() {
                provider.addresses = vec![Multiaddr::empty().with(libp2p::multiaddr::Protocol::P2p(provider.provider))];
            }
        }
        all
    }

    fn provided(&self) -> Self::ProvidedIter<'_> {
        self.0.provided()
    }

    fn remove_provider(&mut self, key: &RecordKey, provider: &PeerId) {
        self.0.remove_provider(key, provider);
    }
}

pub fn sweep(_: &mut Store, _: std::time::Instant) {}

pub fn records(store: &mut Store) -> usize {
    store.records().count()
}

pub fn shard_of(peer: &PeerId) -> u16 {
    u16::from(Sha256::digest(peer.to_bytes())[0] % super::spaces::SHARDS as u8)
}

pub fn member_key(network: &str, namespace: &Namespace, shard: Option<u16>) -> RecordKey {
    let mut hash = Sha256::new();
    hash.update(b"punchline-mem-v1");
    hash.update(network.as_bytes());
    hash.update([0]);
    hash.update(namespace.0.as_bytes());
    hash.update(shard.unwrap_or(u16::MAX).to_be_bytes());
    RecordKey::from(hash.finalize().to_vec())
}

pub fn sign(keypair: &Keypair, addresses: &[Multiaddr]) -> Option<Vec<u8>> {
    let issued = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_millis() as u64;
    let lines: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    let payload = format!("{issued}\n{}", lines.join("\n"));
    let envelope = SignedEnvelope::new(keypair, DOMAIN.to_owned(), b"/x".to_vec(), payload.into_bytes());
    Some(envelope.ok()?.into_protobuf_encoding())
}

pub fn accept(peer: PeerId, value: &[u8]) -> Option<Contact> {
    let envelope = SignedEnvelope::from_protobuf_encoding(value).ok()?;
    let (payload, key) = envelope.payload_and_signing_key(DOMAIN.to_owned(), b"/x").ok()?;
    let text = std::str::from_utf8(payload).ok()?;
    let mut lines = text.lines();
    let issued = lines.next()?.parse().ok()?;
    let addresses = lines.filter_map(|line| line.parse().ok()).collect();
    (key.to_peer_id() == peer).then_some(Contact { peer, issued, addresses })
}

impl Contact {
    pub fn age(&self) -> Duration {
        SystemTime::now().duration_since(UNIX_EPOCH + Duration::from_millis(self.issued)).unwrap_or_default()
    }
}
