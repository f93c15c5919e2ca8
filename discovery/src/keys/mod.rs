//! Under which keys things are found. `record` names the keys of records, `namespace` those of groups of peers, and
//! `shards` says how more members of one are found than fit into an answer.

mod namespace;
mod record;
mod shards;

#[cfg(test)]
mod tests;

use sha2::{Digest, Sha256};

#[cfg(feature = "kad")]
pub(crate) use self::namespace::short;
pub use self::{
    namespace::{
        EPOCH, NAMESPACE_BYTES_MAX, Namespace, NamespaceError, NamespaceId, SECRET_BYTES_MAX,
        SECRET_BYTES_MIN,
    },
    record::RecordKey,
    shards::{CROWDED, Depth, LEVEL_MAX, MEMBERS_MAX, READS_MAX, SHARDS_BELOW, Shard, Walk},
};
use crate::network::Network;

/// Bytes of a key under which members or those who have content are found.
pub const MEMBER_KEY_BYTES: usize = 32;

/// Providers that libp2p's Kademlia puts in one answer.
pub const PROVIDERS_ANSWERED_MAX: usize = 20;

/// The key under which those announce themselves who have the content with this SHA-256.
pub fn content_key(network: &Network, content: &[u8; 32]) -> [u8; MEMBER_KEY_BYTES] {
    sha256([b"punchline-content-v1", salt(network).as_bytes(), content])
}

/// What every network has of its own.
fn salt(network: &Network) -> String {
    format!("punchline/{network}")
}

/// SHA-256 of the parts, one after the other.
pub(crate) fn sha256<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part);
    }
    hash.finalize().into()
}
