//! Keys of records. Each says what is found under it and, but for content, who signed it: so nobody can put anything
//! under the key of another, and whoever reads needs no more than the key to judge what comes.

use libp2p::PeerId;

use super::sha256;
use crate::record::{CONTACT_BYTES_MAX, RECORD_BYTES_MAX, VALUE_BYTES_MAX};

const CONTACT: &[u8] = b"/punchline/contact/v1/";
const AUTHORITY: &[u8] = b"/punchline/authority/v1/";
const VALUE: &[u8] = b"/punchline/value/v1/";
const CONTENT: &[u8] = b"/punchline/content/v1/";

/// Under which key a record is found.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RecordKey {
    /// Where a peer is.
    Contact(PeerId),
    /// Who speaks for an authority; that is the id of its public key.
    Authority(PeerId),
    /// A value of an application.
    Value {
        /// Whose.
        signer: PeerId,
        /// SHA-256 of its name.
        name: [u8; 32],
    },
    /// Bytes whose SHA-256 this is.
    Content([u8; 32]),
}

impl RecordKey {
    /// Of a value that `signer` calls `name`.
    pub fn value(signer: PeerId, name: &[u8]) -> Self {
        Self::Value { signer, name: sha256([name]) }
    }

    /// Of these bytes.
    pub fn content(bytes: &[u8]) -> Self {
        Self::Content(sha256([bytes]))
    }

    /// As Kademlia knows it.
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Contact(peer) => [CONTACT, &peer.to_bytes()].concat(),
            Self::Authority(authority) => [AUTHORITY, &authority.to_bytes()].concat(),
            Self::Value { signer, name } => [VALUE, &signer.to_bytes(), name].concat(),
            Self::Content(hash) => [CONTENT, hash].concat(),
        }
    }

    /// From Kademlia; none if it is no key of ours.
    pub fn of_bytes(bytes: &[u8]) -> Option<Self> {
        let key = if let Some(peer) = bytes.strip_prefix(CONTACT) {
            Self::Contact(PeerId::from_bytes(peer).ok()?)
        } else if let Some(authority) = bytes.strip_prefix(AUTHORITY) {
            Self::Authority(PeerId::from_bytes(authority).ok()?)
        } else if let Some(rest) = bytes.strip_prefix(VALUE) {
            let (signer, name) = rest.split_last_chunk()?;
            Self::Value { signer: PeerId::from_bytes(signer).ok()?, name: *name }
        } else {
            Self::Content(bytes.strip_prefix(CONTENT)?.try_into().ok()?)
        };
        (key.to_bytes() == bytes).then_some(key)
    }

    /// Who must have signed what is found; nobody signs content.
    pub fn signer(&self) -> Option<PeerId> {
        match self {
            Self::Contact(peer) | Self::Authority(peer) | Self::Value { signer: peer, .. } => {
                Some(*peer)
            }
            Self::Content(_) => None,
        }
    }

    /// Most bytes that are found under it.
    pub fn bytes_max(&self) -> usize {
        match self {
            Self::Contact(_) | Self::Authority(_) => CONTACT_BYTES_MAX,
            Self::Value { .. } => RECORD_BYTES_MAX,
            Self::Content(_) => VALUE_BYTES_MAX,
        }
    }
}
