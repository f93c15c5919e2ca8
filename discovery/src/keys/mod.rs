//! Under which keys things are found. `record` names the keys of records.

mod record;

use sha2::{Digest, Sha256};

#[cfg(feature = "kad")]
pub(crate) use self::record::KEY_BYTES_MAX;
pub use self::record::RecordKey;

/// Bytes of a key under which members or those who have content are found.
pub const MEMBER_KEY_BYTES: usize = 32;

/// Providers that libp2p's Kademlia puts in one answer.
pub const PROVIDERS_ANSWERED_MAX: usize = 20;

/// SHA-256 of the parts, one after the other.
pub(crate) fn sha256<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part);
    }
    hash.finalize().into()
}
