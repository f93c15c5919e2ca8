//! Under which keys things are found. `record` names the keys of records.

mod record;

use sha2::{Digest, Sha256};

pub use self::record::RecordKey;

/// SHA-256 of the parts, one after the other.
pub(crate) fn sha256<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part);
    }
    hash.finalize().into()
}
