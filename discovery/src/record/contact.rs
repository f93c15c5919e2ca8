//! Where a peer is, and what it does for others.

use libp2p::Multiaddr;

/// Where a peer is. It says so itself; only a dial proves it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contact {
    /// Best first, without the peer's id at the end. At most [`ADDRESSES_MAX`](super::ADDRESSES_MAX). Of a contact that
    /// was read, those that the policy admits: with none of them the peer is known, and cannot be reached.
    pub addresses: Vec<Multiaddr>,
    /// What it does for others.
    pub capabilities: Capabilities,
    /// What stands between it and the internet.
    pub nat: Nat,
    /// What it answers for. At most [`SERVICES_MAX`](super::SERVICES_MAX); anybody can read them.
    pub services: Vec<String>,
    /// Its program; empty if it does not say.
    pub agent: String,
}

/// What a peer does for others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Capabilities {
    /// Stores records and answers questions.
    pub dht_server: bool,
    /// Forwards circuits.
    pub relay: bool,
    /// Tells others whether they can be reached.
    pub autonat: bool,
}

/// What stands between a peer and the internet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Nat {
    /// Whether others reach it unasked.
    pub reach: Reach,
    /// How its router translates.
    pub mapping: Mapping,
}

/// Whether others reach a peer unasked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Reach {
    /// It does not know.
    #[default]
    Unknown,
    /// They do.
    Public,
    /// They do not.
    Private,
}

/// How a router translates, in the words of RFC 4787.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Mapping {
    /// Not known, or nothing is translated.
    #[default]
    Unknown,
    /// One public port whoever is talked to: holes can be punched.
    EndpointIndependent,
    /// Another public port for everybody: they mostly cannot.
    EndpointDependent,
}

impl Capabilities {
    const DHT_SERVER: u32 = 1;
    const RELAY: u32 = 2;
    const AUTONAT: u32 = 4;

    pub(super) fn bits(self) -> u32 {
        let Self { dht_server, relay, autonat } = self;
        let bit = |does, bit| if does { bit } else { 0 };
        bit(dht_server, Self::DHT_SERVER) | bit(relay, Self::RELAY) | bit(autonat, Self::AUTONAT)
    }

    /// Bits that are not known mean nothing.
    pub(super) fn of_bits(bits: u32) -> Self {
        let is = |bit| bits & bit != 0;
        Self { dht_server: is(Self::DHT_SERVER), relay: is(Self::RELAY), autonat: is(Self::AUTONAT) }
    }
}

impl Reach {
    pub(super) fn number(self) -> u32 {
        match self {
            Self::Unknown => 0,
            Self::Public => 1,
            Self::Private => 2,
        }
    }

    pub(super) fn of_number(number: u32) -> Self {
        match number {
            1 => Self::Public,
            2 => Self::Private,
            _ => Self::Unknown,
        }
    }
}

impl Mapping {
    pub(super) fn number(self) -> u32 {
        match self {
            Self::Unknown => 0,
            Self::EndpointIndependent => 1,
            Self::EndpointDependent => 2,
        }
    }

    pub(super) fn of_number(number: u32) -> Self {
        match number {
            1 => Self::EndpointIndependent,
            2 => Self::EndpointDependent,
            _ => Self::Unknown,
        }
    }
}
