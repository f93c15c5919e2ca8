//! Groups of peers that find each other by a name, which never travels.

use std::{fmt, sync::Arc, time::Duration};

use hkdf::Hkdf;
use icu_normalizer::ComposingNormalizerBorrowed;
use libp2p::PeerId;
use sha2::Sha256;

use super::{LEVEL_MAX, MEMBER_KEY_BYTES, Shard, salt, sha256};
use crate::{moment::UnixTime, network::Network};

/// Longest name of a namespace, in bytes.
pub const NAMESPACE_BYTES_MAX: usize = 255;

/// Shortest secret, in bytes. Whoever stores our keys can try secrets as fast as he can hash.
pub const SECRET_BYTES_MIN: usize = 16;

/// Longest secret, in bytes.
pub const SECRET_BYTES_MAX: usize = 1024;

/// For so long a secret namespace has the same keys. Whoever saw them cannot follow it into the next day.
pub const EPOCH: Duration = Duration::from_secs(86_400);

const LABEL: &[u8] = b"punchline-ns-v1";

/// A group of peers. Names are compared in Unicode's composed form, without white space around them.
#[derive(Clone)]
pub struct Namespace {
    network: Network,
    name: Arc<str>,
    secret: Option<Arc<[u8]>>,
}

/// Why there is no such namespace.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NamespaceError {
    /// No name, or too long a one.
    #[error("a namespace has 1 to {NAMESPACE_BYTES_MAX} bytes, this one has {length}")]
    Length {
        /// How many bytes are left of it, in composed form and without white space around.
        length: usize,
    },
    /// A secret that is easy to guess, or too long.
    #[error("a secret has {SECRET_BYTES_MIN} to {SECRET_BYTES_MAX} bytes, this one has {length}")]
    Secret {
        /// How many bytes were given.
        length: usize,
    },
}

/// What a namespace is called in a network: tells nothing about its name.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NamespaceId([u8; 32]);

impl Namespace {
    /// One that everybody finds who knows its name.
    ///
    /// # Errors
    /// If there is no such name.
    pub fn public(network: &Network, name: &str) -> Result<Self, NamespaceError> {
        let name = ComposingNormalizerBorrowed::new_nfc().normalize(name.trim());
        // Composed, it may begin or end otherwise than before.
        let (name, length) = (name.trim(), name.trim().len());
        if length == 0 || length > NAMESPACE_BYTES_MAX {
            return Err(NamespaceError::Length { length });
        }
        Ok(Self { network: network.clone(), name: name.into(), secret: None })
    }

    /// One that those find who know its secret as well. Each day it has other keys.
    ///
    /// # Errors
    /// If there is no such name, or the secret is too short or too long.
    pub fn secret(network: &Network, name: &str, secret: &[u8]) -> Result<Self, NamespaceError> {
        let length = secret.len();
        if !(SECRET_BYTES_MIN..=SECRET_BYTES_MAX).contains(&length) {
            return Err(NamespaceError::Secret { length });
        }
        Ok(Self { secret: Some(secret.into()), ..Self::public(network, name)? })
    }

    /// Its name, as it is compared.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it is called now: members announce themselves under all of these, and whoever looks for them looks under all.
    /// A secret one is called as today and as yesterday: so clocks may differ, and midnight is no gap.
    pub fn ids(&self, now: UnixTime) -> Vec<NamespaceId> {
        let salt = salt(&self.network);
        let Some(secret) = &self.secret else {
            return vec![NamespaceId(sha256([LABEL, salt.as_bytes(), &[0], self.name.as_bytes()]))];
        };
        let hkdf = Hkdf::<Sha256>::new(Some(salt.as_bytes()), secret);
        let today = now.since(UnixTime::default()).as_secs() / EPOCH.as_secs();
        let days = [Some(today), today.checked_sub(1)].into_iter().flatten();
        days.map(|day| self.on_day(&hkdf, day)).collect()
    }

    /// What whoever knows it sees of it: the first 8 bytes of the key under which all its members are found today, in
    /// hexadecimal. Two who see the same mean the same namespace, in the same network, with the same secret.
    pub fn hash(&self, now: UnixTime) -> String {
        self.ids(now).first().map(|id| short(&id.key(Shard::ALL))).unwrap_or_default()
    }

    fn on_day(&self, hkdf: &Hkdf<Sha256>, day: u64) -> NamespaceId {
        let mut id = [0; 32];
        hkdf.expand_multi_info(&[LABEL, self.name.as_bytes(), &day.to_be_bytes()], &mut id)
            .expect("32 bytes are less than the most that HKDF gives, 255 times 32");
        NamespaceId(id)
    }
}

impl fmt::Debug for Namespace {
    /// Without name and secret: logs are read by others.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Namespace").field("network", &self.network).finish_non_exhaustive()
    }
}

impl NamespaceId {
    /// The key under which members of a shard are found.
    pub fn key(&self, shard: Shard) -> [u8; MEMBER_KEY_BYTES] {
        let (level, index) = (shard.level(), shard.index());
        sha256([b"punchline-mem-v1", &self.0[..], &[level], &index.to_be_bytes()])
    }

    /// The shards of a peer, that of all members first.
    pub fn shards_of(&self, peer: PeerId) -> [Shard; LEVEL_MAX as usize + 1] {
        let hash = sha256([b"punchline-shard-v1", &self.0[..], &peer.to_bytes()]);
        std::array::from_fn(|level| Shard::of(u16::from_be_bytes([hash[0], hash[1]]), level as u8))
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for NamespaceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&short(&self.0))
    }
}

/// The first 8 bytes: enough for two operators to compare.
pub(crate) fn short(key: &[u8]) -> String {
    key.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

impl fmt::Debug for NamespaceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NamespaceId({self})")
    }
}
