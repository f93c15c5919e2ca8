//! What a peer signs of itself, so that anybody may carry and keep it: where it is ([`Contact`]), whom an authority
//! lets speak for it ([`Delegation`]), what an application wants to be found ([`Value`]).
//!
//! A record is a libp2p `SignedEnvelope` of ours: its own domain and payload type, so that no other signature of the
//! same key can be taken for one. Inside are the network, the signer, a number that rises with every record
//! ([`Sequence`]), when it was issued and until when it holds.
//!
//! [`accept`] is the only way from bytes to a [`Record`], wherever the bytes come from: a peer that wants them stored,
//! an answer to a question, a file of this host. Read on in `accept`; `sign` is the way back.

mod accept;
mod contact;
mod refusal;
mod sequence;
mod sign;
mod wire;

#[cfg(test)]
mod tests;

use std::time::Duration;

use libp2p::PeerId;

pub use self::{
    accept::{Accepted, AddressPolicy, Rules, accept},
    contact::{Capabilities, Contact, Mapping, Nat, Reach},
    refusal::Refusal,
    sequence::Sequence,
    sign::{SignError, Statement, sign},
};
use crate::{keys::RecordKey, moment::UnixTime};

/// What signatures of records are made for; nothing else is signed with it.
pub const DOMAIN: &str = "punchline-record-v1";

/// What the envelope says is in it.
pub const PAYLOAD_TYPE: &[u8] = b"/punchline/record/1";

/// Longest time that a record holds. Whoever is gone is forgotten after it, and whoever stays signs again after half.
pub const LIFETIME_MAX: Duration = Duration::from_secs(2 * 60 * 60);

/// Clocks of hosts differ. A record that was issued this far in the future is believed, one further is not.
pub const AHEAD_MAX: Duration = Duration::from_secs(5 * 60);

/// Largest contact or delegation, with its signature, in bytes: 16 addresses and all services fit.
pub const CONTACT_BYTES_MAX: usize = 2048;

/// Largest value of an application, in bytes. It is repeated whole in the answer, in packets of 16 KiB.
pub const VALUE_BYTES_MAX: usize = 8 * 1024;

/// Largest record of any kind, with its signature, in bytes.
pub const RECORD_BYTES_MAX: usize = VALUE_BYTES_MAX + 512;

/// Addresses of one peer: a few of each family and transport, and a few relays.
pub const ADDRESSES_MAX: usize = 16;

/// Longest address, in bytes: a circuit through a relay with a long host name fits.
pub const ADDRESS_BYTES_MAX: usize = 256;

/// Services that a peer names.
pub const SERVICES_MAX: usize = 8;

/// Longest name of a service, in bytes, as in streams.
pub const SERVICE_BYTES_MAX: usize = 64;

/// Longest name of the program, in bytes.
pub const AGENT_BYTES_MAX: usize = 64;

/// Longest name of a value, in bytes.
pub const NAME_BYTES_MAX: usize = 255;

/// A record whose signature, times and content were found good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    signer: PeerId,
    version: Version,
    issued: UnixTime,
    expires: UnixTime,
    body: Body,
    bytes: Vec<u8>,
}

/// Which of a signer's records under one key this is. Two with one number and different content are the signer's lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Version {
    /// Rises with every record that the peer signs.
    pub sequence: u64,
    /// SHA-256 of what is signed.
    pub digest: [u8; 32],
}

/// What a record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// Where the signer is.
    Contact(Contact),
    /// Who speaks for the signer.
    Delegation(Delegation),
    /// What an application of the signer says.
    Value(Value),
}

/// An authority, whose key may lie in a safe, says which peer answers for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delegation {
    /// The peer to look for.
    pub to: PeerId,
}

/// Bytes of an application, under a name of its own. At most [`VALUE_BYTES_MAX`] and [`NAME_BYTES_MAX`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    /// Its name among the signer's values.
    pub name: Vec<u8>,
    /// The bytes.
    pub bytes: Vec<u8>,
}

impl Record {
    /// Who signed it.
    pub fn signer(&self) -> PeerId {
        self.signer
    }

    /// Which of the signer's it is.
    pub fn version(&self) -> Version {
        self.version
    }

    /// When it was signed, by the signer's clock.
    pub fn issued(&self) -> UnixTime {
        self.issued
    }

    /// From when on it does not hold.
    pub fn expires(&self) -> UnixTime {
        self.expires
    }

    /// What it says.
    pub fn body(&self) -> &Body {
        &self.body
    }

    /// Where the signer is, if it says that.
    pub fn contact(&self) -> Option<&Contact> {
        match &self.body {
            Body::Contact(contact) => Some(contact),
            Body::Delegation(_) | Body::Value(_) => None,
        }
    }

    /// The key under which it is found.
    pub fn key(&self) -> RecordKey {
        self.body.key(self.signer)
    }

    /// As it travels.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl Body {
    /// The key under which it is found if `signer` signs it.
    pub fn key(&self, signer: PeerId) -> RecordKey {
        match self {
            Self::Contact(_) => RecordKey::Contact(signer),
            Self::Delegation(_) => RecordKey::Authority(signer),
            Self::Value(value) => RecordKey::value(signer, &value.name),
        }
    }
}
