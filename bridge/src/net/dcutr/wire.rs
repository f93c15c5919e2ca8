//! The message of the exchange about a hole punch.
//!
//! Source: libp2p's specification `relay/DCUtR.md`. The fields from 1000 on are ours: protobuf lets whoever
//! does not know a field skip it, and a stock peer sends none of them.

use libp2p::Multiaddr;
use prost::Message;

use crate::{
    addr::policy::MAPPED_MAX,
    engine::input::Offer,
    nat::{Filtering, Mapping, NatKind, NatKinds},
};

/// Between the two ends of a relayed connection.
pub(crate) const PROTOCOL: libp2p::StreamProtocol = libp2p::StreamProtocol::new("/libp2p/dcutr");

/// CONNECT or SYNC.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct HolePunch {
    #[prost(enumeration = "Kind", required, tag = "1")]
    pub(crate) kind: i32,
    /// CONNECT: where the sender may be reached.
    #[prost(bytes = "vec", repeated, tag = "2")]
    pub(crate) obs_addrs: Vec<Vec<u8>>,
    /// CONNECT: proves to a peer on the same host that the sender runs there too.
    #[prost(bytes = "vec", optional, tag = "1000")]
    pub(crate) host: Option<Vec<u8>>,
    /// CONNECT: what the sender is behind over IPv4.
    #[prost(message, optional, tag = "1001")]
    pub(crate) nat: Option<Nat>,
    /// CONNECT: one of the addresses over IPv4 lets anybody in.
    #[prost(bool, optional, tag = "1002")]
    pub(crate) open: Option<bool>,
    /// CONNECT: what the sender is behind over IPv6.
    #[prost(message, optional, tag = "1003")]
    pub(crate) nat_v6: Option<Nat>,
    /// CONNECT: which of the addresses are mapped at the sender's router, by their places in the list, from 0.
    #[prost(uint32, repeated, tag = "1004")]
    pub(crate) mapped: Vec<u32>,
    /// CONNECT: one of the addresses over IPv6 lets anybody in.
    #[prost(bool, optional, tag = "1005")]
    pub(crate) open_v6: Option<bool>,
}

/// A kind of NAT; what is not known is left out.
#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct Nat {
    /// 1 none, 2 endpoint-independent, 3 destination-dependent.
    #[prost(uint32, optional, tag = "1")]
    mapping: Option<u32>,
    /// 1 endpoint-independent, 2 address-dependent, 3 address- and port-dependent.
    #[prost(uint32, optional, tag = "2")]
    filtering: Option<u32>,
}

impl From<NatKind> for Nat {
    fn from(kind: NatKind) -> Self {
        let mapping = kind.mapping.map(|mapping| match mapping {
            Mapping::None => 1,
            Mapping::EndpointIndependent => 2,
            Mapping::DestinationDependent => 3,
        });
        let filtering = kind.filtering.map(|filtering| match filtering {
            Filtering::EndpointIndependent => 1,
            Filtering::AddressDependent => 2,
            Filtering::AddressAndPortDependent => 3,
        });
        Self { mapping, filtering }
    }
}

impl From<Nat> for NatKind {
    /// Kinds of later versions are not known.
    fn from(nat: Nat) -> Self {
        let mapping = nat.mapping.and_then(|mapping| match mapping {
            1 => Some(Mapping::None),
            2 => Some(Mapping::EndpointIndependent),
            3 => Some(Mapping::DestinationDependent),
            _ => None,
        });
        let filtering = nat.filtering.and_then(|filtering| match filtering {
            1 => Some(Filtering::EndpointIndependent),
            2 => Some(Filtering::AddressDependent),
            3 => Some(Filtering::AddressAndPortDependent),
            _ => None,
        });
        Self { mapping, filtering }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub(crate) enum Kind {
    Connect = 100,
    Sync = 300,
}

impl HolePunch {
    /// What a stock peer would say if there is nothing to add.
    pub(crate) fn connect(offer: &Offer, host: Option<[u8; 32]>) -> Self {
        let known = |kind: NatKind| (kind != NatKind::default()).then(|| kind.into());
        Self {
            kind: Kind::Connect as i32,
            obs_addrs: offer.candidates.iter().map(Multiaddr::to_vec).collect(),
            host: host.map(Vec::from),
            nat: known(offer.nat.v4),
            open: offer.open.then_some(true),
            open_v6: offer.open_v6.then_some(true),
            nat_v6: known(offer.nat.v6),
            mapped: places_of(&offer.mapped, &offer.candidates),
        }
    }

    pub(crate) fn sync() -> Self {
        Self { kind: Kind::Sync as i32, ..Self::default() }
    }

    pub(crate) fn is(&self, kind: Kind) -> bool {
        self.kind == kind as i32
    }

    /// What the sender says of itself; what is no address is left out.
    pub(crate) fn offer(&self) -> Offer {
        let address = |bytes: &Vec<u8>| Multiaddr::try_from(bytes.clone()).ok();
        let kind = |said: Option<Nat>| said.map(NatKind::from).unwrap_or_default();
        let mapped = self.mapped.iter().filter_map(|place| self.obs_addrs.get(*place as usize));
        Offer {
            candidates: self.obs_addrs.iter().filter_map(address).collect(),
            nat: NatKinds { v4: kind(self.nat), v6: kind(self.nat_v6) },
            open: self.open.unwrap_or_default(),
            open_v6: self.open_v6.unwrap_or_default(),
            mapped: mapped.take(MAPPED_MAX).filter_map(address).collect(),
        }
    }
}

/// Where the `chosen` stand in the list of `all`.
fn places_of(chosen: &[Multiaddr], all: &[Multiaddr]) -> Vec<u32> {
    let is_chosen =
        |(place, address): (usize, &Multiaddr)| chosen.contains(address).then_some(place as u32);
    all.iter().enumerate().filter_map(is_chosen).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn offer(address: &str) -> Offer {
        Offer { candidates: vec![address.parse().unwrap()], ..Offer::default() }
    }

    #[test]
    fn a_message_is_what_the_specification_says() {
        let offer = offer("/ip4/1.2.3.4/tcp/5");
        let bytes = HolePunch::connect(&offer, None).encode_to_vec();
        assert_eq!(bytes, [8, 100, 18, 8, 4, 1, 2, 3, 4, 6, 0, 5]);
        assert_eq!(HolePunch::sync().encode_to_vec(), [8, 172, 2]);
        assert_eq!(HolePunch::decode(&bytes[..]).unwrap().offer(), offer);
    }

    #[test]
    fn every_kind_of_nat_is_read_back_and_those_of_later_versions_are_not_known() {
        let mappings = [Mapping::None, Mapping::EndpointIndependent, Mapping::DestinationDependent];
        let filterings = [
            Filtering::EndpointIndependent,
            Filtering::AddressDependent,
            Filtering::AddressAndPortDependent,
        ];
        let optional = |all: &[Mapping]| all.iter().copied().map(Some).chain([None]).collect::<Vec<_>>();
        for mapping in optional(&mappings) {
            for filtering in filterings.map(Some).into_iter().chain([None]) {
                let (v4, v6) = (NatKind { mapping, filtering }, NatKind::default());
                for nat in [NatKinds { v4, v6 }, NatKinds { v4: v6, v6: v4 }] {
                    for (open, open_v6) in [(true, false), (false, true)] {
                        let said = Offer { nat, open, open_v6, ..offer("/ip4/1.2.3.4/tcp/5") };
                        assert_eq!(HolePunch::connect(&said, None).offer(), said);
                    }
                }
            }
        }
        let later = Nat { mapping: Some(9), filtering: Some(0) };
        assert_eq!(NatKind::from(later), NatKind::default());
    }

    #[test]
    fn what_is_mapped_is_read_back_and_no_claim_adds_an_address_or_names_more_than_there_can_be() {
        let candidates: Vec<Multiaddr> =
            (1..=9).map(|host| format!("/ip4/1.2.3.{host}/tcp/5").parse().unwrap()).collect();
        let mapped = vec![candidates[1].clone(), candidates[3].clone()];
        let said = Offer { candidates: candidates.clone(), mapped, ..Offer::default() };
        let mut message = HolePunch::connect(&said, None);
        assert_eq!(message.mapped, [1, 3]);
        assert_eq!(HolePunch::decode(&message.encode_to_vec()[..]).unwrap().offer(), said);
        message.mapped = [9, u32::MAX, 2].into();
        assert_eq!(message.offer().mapped, candidates[2..3]);
        message.mapped = (0..9).collect();
        assert_eq!(message.offer().mapped, candidates[..MAPPED_MAX]);
        // Places count what is no address, too.
        message.obs_addrs[0] = vec![0xff; 9];
        message.mapped = vec![0, 1];
        assert_eq!(message.offer().mapped, candidates[1..2]);
    }

    #[test]
    fn what_is_no_address_is_left_out() {
        let mut message = HolePunch::connect(&offer("/ip4/1.2.3.4/tcp/5"), None);
        message.obs_addrs.insert(0, vec![0xff; 9]);
        assert_eq!(message.offer().candidates.len(), 1);
    }
}
