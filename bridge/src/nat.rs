//! What kind of NAT a node is behind, in the words of RFC 4787, with the old names (RFC 3489) beside them.
//!
//! Measured over UDP. Routers treat TCP alike in all but rare cases, so what is said here is taken for both.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::Family;

/// From which public port what leaves a host comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mapping {
    /// There is no NAT: the host has the public address itself.
    None,
    /// From one port, whatever the destination.
    EndpointIndependent,
    /// From another port for each destination (address-dependent, or address- and port-dependent): *symmetric*.
    DestinationDependent,
}

/// What is let in to a port that something left from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Filtering {
    /// Anybody: *full cone*.
    EndpointIndependent,
    /// Those addresses that something was sent to, from any port: *address-restricted*. Also said where it is not known
    /// whether others are let in, since that takes an observer with two addresses to tell.
    AddressDependent,
    /// Those addresses and ports that something was sent to: *port-restricted*.
    AddressAndPortDependent,
}

/// From where a STUN server's answer is to come: what a NAT lets in of it tells how the NAT filters (RFC 5780).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum AnswerFrom {
    /// From where the question went.
    #[default]
    Here,
    /// From another port of the same address.
    OtherPort,
    /// From another address.
    OtherAddress,
}

/// What is known of the NAT that a node is behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct NatKind {
    /// None: not known.
    pub mapping: Option<Mapping>,
    /// None: not known.
    pub filtering: Option<Filtering>,
}

impl NatKind {
    /// Whether nobody can know from which port this node will reach a destination that it never spoke to.
    pub fn changes_ports(self) -> bool {
        self.mapping == Some(Mapping::DestinationDependent)
    }

    /// Whether a peer whose port nobody knows can come in, once something was sent to its address.
    fn lets_in_any_port(self) -> bool {
        matches!(self.filtering, Some(Filtering::EndpointIndependent | Filtering::AddressDependent))
    }

    /// Whether a hole punch between these two cannot succeed, as far as is known. Where one end changes ports, the
    /// other must let it in from any.
    pub fn rules_out_punch(self, other: Self) -> bool {
        let hopeless = |hard: Self, other: Self| {
            hard.changes_ports()
                && (other.changes_ports() || other.filtering.is_some())
                && !other.lets_in_any_port()
        };
        hopeless(self, other) || hopeless(other, self)
    }

    /// The kind in one word.
    pub fn class(self) -> NatClass {
        use Filtering::{AddressAndPortDependent, AddressDependent, EndpointIndependent};
        match (self.mapping, self.filtering) {
            (None, None) => NatClass::Unknown,
            (Some(Mapping::None), Some(EndpointIndependent)) => NatClass::Public,
            (Some(Mapping::None), Some(AddressAndPortDependent)) => NatClass::Firewall,
            (Some(Mapping::None), _) => NatClass::NoNat,
            (Some(Mapping::DestinationDependent), _) => NatClass::Symmetric,
            (_, Some(EndpointIndependent)) => NatClass::FullCone,
            (_, Some(AddressDependent)) => NatClass::AddressRestricted,
            (_, Some(AddressAndPortDependent)) => NatClass::PortRestricted,
            (Some(Mapping::EndpointIndependent), None) => NatClass::OnePort,
        }
    }
}

/// What is known of the NATs that a node is behind, by family of addresses: what one does with IPv4 says nothing about
/// IPv6.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct NatKinds {
    #[serde(flatten)]
    pub(crate) v4: NatKind,
    #[serde(default)]
    pub(crate) v6: NatKind,
}

impl NatKinds {
    pub(crate) fn of(self, family: Family) -> NatKind {
        match family {
            Family::V4 => self.v4,
            Family::V6 => self.v6,
        }
    }

    /// Where one kind is asked for: the one for IPv4, which nearly every network has, or else of what stands between
    /// the node and the others over IPv6.
    pub(crate) fn main(self) -> NatKind {
        if self.v4 == NatKind::default() { self.v6 } else { self.v4 }
    }
}

impl fmt::Display for NatKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.class().fmt(f)
    }
}

/// Kinds of NAT by their old names: what outcomes are counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NatClass {
    /// Nothing is known.
    Unknown,
    /// No NAT, and anybody is let in.
    Public,
    /// No NAT, but a firewall.
    Firewall,
    /// No NAT; perhaps a firewall.
    NoNat,
    /// One port, open to all.
    FullCone,
    /// One port, filtered by address.
    AddressRestricted,
    /// One port, filtered by port.
    PortRestricted,
    /// One port; how it filters is not known.
    OnePort,
    /// One port for each destination.
    Symmetric,
}

impl fmt::Display for NatClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "unknown",
            Self::Public => "none: the address is public",
            Self::Firewall => "none, but a firewall",
            Self::NoNat => "none, perhaps a firewall",
            Self::FullCone => "one port, open to all (full cone)",
            Self::AddressRestricted => "one port, filtered by address (address-restricted)",
            Self::PortRestricted => "one port, filtered by port (port-restricted)",
            Self::OnePort => "one port for all destinations",
            Self::Symmetric => "one port for each destination (symmetric)",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn kind(mapping: Mapping, filtering: Filtering) -> NatKind {
        NatKind { mapping: Some(mapping), filtering: Some(filtering) }
    }

    const FULL: NatKind = kind(Mapping::EndpointIndependent, Filtering::EndpointIndependent);
    const ADDRESS: NatKind = kind(Mapping::EndpointIndependent, Filtering::AddressDependent);
    const PORT: NatKind = kind(Mapping::EndpointIndependent, Filtering::AddressAndPortDependent);
    const SYMMETRIC: NatKind = kind(Mapping::DestinationDependent, Filtering::AddressAndPortDependent);
    const SYMMETRIC_BY_MAPPING: NatKind =
        NatKind { mapping: Some(Mapping::DestinationDependent), filtering: None };

    #[test]
    fn a_punch_is_ruled_out_just_where_nobody_can_know_the_port() {
        for (one, other, ruled_out) in [
            (FULL, SYMMETRIC, false),
            (ADDRESS, SYMMETRIC, false),
            (PORT, SYMMETRIC, true),
            (SYMMETRIC, SYMMETRIC, true),
            (SYMMETRIC_BY_MAPPING, SYMMETRIC_BY_MAPPING, true),
            (PORT, PORT, false),
            (FULL, FULL, false),
        ] {
            assert_eq!(one.rules_out_punch(other), ruled_out, "{one} and {other}");
            assert_eq!(other.rules_out_punch(one), ruled_out, "{other} and {one}");
        }
    }

    #[test]
    fn what_is_not_known_rules_nothing_out() {
        for known in [FULL, ADDRESS, PORT, SYMMETRIC] {
            assert!(!known.rules_out_punch(NatKind::default()), "{known}");
        }
    }
}
