//! Kinds of NAT.
//!
//! The words are those of RFC 4787: a *mapping* says from which public port a flow leaves, a
//! *filtering* which packets may come in. `rules` turns both into nftables rules.

use std::fmt;
use std::str::FromStr;

/// What a router does with the flows of its host. TCP and UDP are treated alike.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Nat {
    /// Flows keep their source port, and once a host has sent from a port, anybody may send to it
    /// (endpoint-independent mapping and filtering).
    FullCone,
    /// Flows keep their source port, and addresses that a host has sent to from a port may send to that
    /// port from any of theirs (address-dependent filtering).
    AddressRestricted,
    /// The usual home router, port-restricted: flows keep their source port, and only what a host has sent
    /// to may answer.
    PortPreserving,
    /// As [`Nat::PortPreserving`], but flows leave from one of the public ports that begin with `first`. All flows of
    /// one port of a host leave from the same one, towards every destination. As many flows as there are public
    /// ports can lead to one destination.
    PortChanging {
        /// The first public port.
        first: u16,
        /// How many there are, at least one.
        count: u16,
    },
    /// Every flow leaves from a random port, another one for every destination, and only what a host has
    /// sent to may answer.
    Symmetric,
    /// No NAT: the hosts have global addresses, and only what they have sent to may answer.
    Firewall,
    /// No NAT and no filter: the hosts have global addresses, and anybody may send to them.
    Open,
}

/// How the public port of a flow depends on where the flow goes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mapping {
    /// Not at all: what one observer sees is where all others may send to.
    EndpointIndependent,
    /// It is another one for each address and port.
    EndpointDependent,
}

/// Who may send to a port from which a host has sent.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Filtering {
    /// Anybody.
    EndpointIndependent,
    /// Those whose address the host has sent to.
    AddressDependent,
    /// Those whose address and port the host has sent to.
    AddressAndPortDependent,
}

impl Nat {
    /// All of them, the five classic ones first.
    pub const ALL: [Self; 7] = [
        Self::FullCone,
        Self::AddressRestricted,
        Self::PortPreserving,
        Self::PORT_CHANGING,
        Self::Symmetric,
        Self::Firewall,
        Self::Open,
    ];

    /// Those that every study of hole punching names.
    pub const CLASSIC: [Self; 5] = [
        Self::FullCone,
        Self::AddressRestricted,
        Self::PortPreserving,
        Self::PORT_CHANGING,
        Self::Symmetric,
    ];

    /// A router that changes ports, where the ports do not matter: none that systems hand out, which would stay as they are.
    pub const PORT_CHANGING: Self = Self::PortChanging { first: 25_000, count: 1_000 };

    /// How it maps.
    pub fn mapping(self) -> Mapping {
        match self {
            Self::Symmetric => Mapping::EndpointDependent,
            _ => Mapping::EndpointIndependent,
        }
    }

    /// What it lets in.
    pub fn filtering(self) -> Filtering {
        match self {
            Self::FullCone | Self::Open => Filtering::EndpointIndependent,
            Self::AddressRestricted => Filtering::AddressDependent,
            Self::PortPreserving | Self::PortChanging { .. } | Self::Symmetric | Self::Firewall => {
                Filtering::AddressAndPortDependent
            }
        }
    }

    /// Whether the hosts behind it have private addresses, which it translates.
    pub fn translates(self) -> bool {
        !matches!(self, Self::Firewall | Self::Open)
    }

    /// The word for it on a command line and in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::FullCone => "full",
            Self::AddressRestricted => "address",
            Self::PortPreserving => "port",
            Self::PortChanging { .. } => "changing",
            Self::Symmetric => "sym",
            Self::Firewall => "firewall",
            Self::Open => "none",
        }
    }
}

impl fmt::Display for Nat {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

/// No kind of NAT has the name asked for.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("`{0}` is no NAT: say full, address, port, changing, sym, firewall or none")]
pub struct UnknownNat(String);

impl FromStr for Nat {
    type Err = UnknownNat;

    fn from_str(name: &str) -> Result<Self, UnknownNat> {
        Self::ALL.into_iter().find(|nat| nat.name() == name).ok_or_else(|| UnknownNat(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_known_by_its_name() {
        for nat in Nat::ALL {
            assert_eq!(nat.name().parse(), Ok(nat));
        }
        assert!("cone".parse::<Nat>().is_err());
    }
}
