//! Why bytes are not a record.

use std::time::Duration;

use libp2p::PeerId;

use super::{
    ADDRESS_BYTES_MAX, ADDRESSES_MAX, AGENT_BYTES_MAX, AHEAD_MAX, LIFETIME_MAX, NAME_BYTES_MAX,
    SERVICE_BYTES_MAX, SERVICES_MAX, VALUE_BYTES_MAX,
};

/// Why [`accept`](super::accept) refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// More bytes than a record of this kind has.
    #[error("{bytes} bytes, and at most {limit} are allowed")]
    TooLarge {
        /// How many there are.
        bytes: usize,
        /// How many there may be.
        limit: usize,
    },
    /// Not an envelope with a record in it.
    #[error("not a signed record")]
    Malformed,
    /// The same could be said by other bytes, or these say more than is understood.
    #[error("not in the only form that this record has")]
    NotCanonical,
    /// Signed by somebody else, for something else, or changed since.
    #[error("the signature is not good")]
    Signature,
    /// The one who signed is not the one that the key or the record itself names.
    #[error("signed by {signer}, which is not whose record it is")]
    ForeignSigner {
        /// Who signed.
        signer: PeerId,
    },
    /// Not of the kind, or not of the name, that the key says.
    #[error("the key belongs to another record")]
    ForeignKey,
    /// Of another network.
    #[error("of the network `{network}`")]
    ForeignNetwork {
        /// As it says, at most 32 characters.
        network: String,
    },
    /// Issued too far in the future. One of two clocks is wrong.
    #[error("issued {} s in the future, and {} are believed", ahead.as_secs(), AHEAD_MAX.as_secs())]
    Future {
        /// How far, by our clock.
        ahead: Duration,
    },
    /// It does not hold any more.
    #[error("expired {} s ago", ago.as_secs())]
    Expired {
        /// How long ago, by our clock.
        ago: Duration,
    },
    /// It wants to hold longer than records do, or ends before it begins.
    #[error("it would hold for {} s, and records do for at most {}", lasts.as_secs(), LIFETIME_MAX.as_secs())]
    Lifetime {
        /// For how long; zero if it ends before it begins.
        lasts: Duration,
    },
    /// An older one than the one that is held.
    #[error("its number is {sequence}, and {held} is held")]
    Replayed {
        /// Its number.
        sequence: u64,
        /// That of the one that is held.
        held: u64,
    },
    /// Its signer gave one number to two records.
    #[error("another record has the same number {sequence}")]
    Equivocation {
        /// The number.
        sequence: u64,
    },
    /// More addresses than a peer may have.
    #[error("{count} addresses, and at most {ADDRESSES_MAX} are allowed")]
    Addresses {
        /// How many.
        count: usize,
    },
    /// No address, too long a one, or one that leads to another peer.
    #[error(
        "address {index} makes no sense, has more than {ADDRESS_BYTES_MAX} bytes, or leads to another peer"
    )]
    Address {
        /// Which of them, from zero.
        index: usize,
    },
    /// Too many services, or one that is not a name.
    #[error(
        "more than {SERVICES_MAX} services, or one without a name of 1 to {SERVICE_BYTES_MAX} bytes"
    )]
    Services,
    /// Too long a name of a program, or control characters in it.
    #[error("the program's name has more than {AGENT_BYTES_MAX} bytes, or cannot be printed")]
    Agent,
    /// No peer is delegated to.
    #[error("the peer that is delegated to makes no sense")]
    Delegate,
    /// A value that is too large, or whose name is.
    #[error("a value has at most {VALUE_BYTES_MAX} bytes, and {NAME_BYTES_MAX} in its name")]
    Value,
    /// The key is the hash of other bytes.
    #[error("not the bytes that the key is the hash of")]
    Hash,
}

impl Refusal {
    /// Its name in metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "too_large",
            Self::Malformed => "malformed",
            Self::NotCanonical => "not_canonical",
            Self::Signature => "signature",
            Self::ForeignSigner { .. } => "foreign_signer",
            Self::ForeignKey => "foreign_key",
            Self::ForeignNetwork { .. } => "foreign_network",
            Self::Future { .. } => "future",
            Self::Expired { .. } => "expired",
            Self::Lifetime { .. } => "lifetime",
            Self::Replayed { .. } => "replayed",
            Self::Equivocation { .. } => "equivocation",
            Self::Addresses { .. } => "addresses",
            Self::Address { .. } => "address",
            Self::Services => "services",
            Self::Agent => "agent",
            Self::Delegate => "delegate",
            Self::Value => "value",
            Self::Hash => "hash",
        }
    }

    /// Whether an honest peer may send it: its clock or ours is wrong, or a newer record has not reached it. All else
    /// counts against whoever sent it.
    pub fn is_innocent(&self) -> bool {
        matches!(self, Self::Future { .. } | Self::Expired { .. } | Self::Replayed { .. })
    }
}
