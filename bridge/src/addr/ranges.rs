//! Ranges of addresses that the operator lets this node speak with, or does not.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

use super::translated::{inside, readings};

/// Ranges of other hosts that are neither dialled nor answered, and ranges outside of which none is. A circuit is
/// judged by its relay. An IPv4 address in IPv6 clothes is what it is.
///
/// Those that are denied beat those that are allowed. Where no range is allowed, all are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ranges {
    allow: Option<Set>,
    deny: Set,
}

/// Why a range keeps an address away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RangeFault {
    /// The operator denied it.
    #[error("in a range that --deny-net names")]
    Denied,
    /// The operator allowed others only.
    #[error("outside of the ranges that --allow-net names")]
    NotAllowed,
}

impl Ranges {
    /// Lets this node speak with `allow` only, or with everybody if that is empty; and never with `deny`.
    pub fn new(allow: Vec<IpNet>, deny: Vec<IpNet>) -> Self {
        Self { allow: (!allow.is_empty()).then(|| Set::new(allow)), deny: Set::new(deny) }
    }

    /// Whether an address may be spoken with. A relay that the operator named need not be in a range that is
    /// allowed.
    pub(crate) fn judge(&self, ip: IpAddr, named_relay: bool) -> Result<(), RangeFault> {
        if readings(ip).any(|ip| self.deny.contains(ip)) {
            return Err(RangeFault::Denied);
        }
        match &self.allow {
            Some(allow) if !named_relay && !readings(ip).all(|ip| allow.contains(ip)) => {
                Err(RangeFault::NotAllowed)
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn denies(&self, ip: IpAddr) -> bool {
        self.judge(ip, true).is_err()
    }
}

/// Ranges that do not overlap, in their order: lists of countries have tens of thousands, and each connection asks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Set(Vec<IpNet>);

impl Set {
    fn new(nets: Vec<IpNet>) -> Self {
        let nets = nets.into_iter().map(plain).collect();
        let mut nets = IpNet::aggregate(&nets);
        nets.sort_by_key(IpNet::network);
        Self(nets)
    }

    fn contains(&self, ip: IpAddr) -> bool {
        let after = self.0.partition_point(|net| net.network() <= ip);
        after.checked_sub(1).is_some_and(|last| self.0[last].contains(&ip))
    }
}

/// Addresses are judged by what is in them, so a range of IPv4 addresses in IPv6 clothes is one of IPv4 addresses.
fn plain(net: IpNet) -> IpNet {
    let net = net.trunc();
    match (net, inside(net.network())) {
        (IpNet::V6(clothed), IpAddr::V4(ip)) if is_whole(clothed) => {
            Ipv4Net::new(ip, clothed.prefix_len() - V4_FROM).map_or(net, IpNet::V4)
        }
        _ => net,
    }
}

/// The prefix of mapped addresses, and that of NAT64.
const V4_FROM: u8 = 96;

fn is_whole(net: Ipv6Net) -> bool {
    net.prefix_len() >= V4_FROM
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn nets(all: &[&str]) -> Vec<IpNet> {
        all.iter().map(|net| net.parse().unwrap()).collect()
    }

    fn judge(ranges: &Ranges, ip: &str) -> Result<(), RangeFault> {
        ranges.judge(ip.parse().unwrap(), false)
    }

    #[test]
    fn without_ranges_everybody_may_be_spoken_with() {
        for ip in ["8.8.8.8", "10.0.0.1", "2a00::1", "::1"] {
            assert_eq!(judge(&Ranges::default(), ip), Ok(()));
            assert_eq!(judge(&Ranges::new(Vec::new(), Vec::new()), ip), Ok(()));
        }
    }

    #[test]
    fn what_is_denied_beats_what_is_allowed_and_the_rest_is_not_allowed() {
        let ranges = Ranges::new(nets(&["10.0.0.0/8", "2a00::/16"]), nets(&["10.9.0.0/16"]));
        for (ip, expected) in [
            ("10.0.0.1", Ok(())),
            ("10.255.255.255", Ok(())),
            ("2a00:1::1", Ok(())),
            ("10.9.0.1", Err(RangeFault::Denied)),
            ("11.0.0.1", Err(RangeFault::NotAllowed)),
            ("2b00::1", Err(RangeFault::NotAllowed)),
            ("::ffff:10.0.0.1", Ok(())),
            ("64:ff9b::10.9.0.1", Err(RangeFault::Denied)),
            ("64:ff9b::11.0.0.1", Err(RangeFault::NotAllowed)),
        ] {
            assert_eq!(judge(&ranges, ip), expected, "{ip}");
        }
        assert_eq!(ranges.judge("11.0.0.1".parse().unwrap(), true), Ok(()), "a relay that was named");
        assert!(ranges.judge("10.9.0.1".parse().unwrap(), true).is_err(), "denied all the same");
    }

    #[test]
    fn a_range_in_ipv6_clothes_is_one_of_ipv4_and_all_of_ipv6_is_not() {
        for clothed in ["::ffff:10.0.0.0/104", "64:ff9b::10.0.0.0/104"] {
            let ranges = Ranges::new(Vec::new(), nets(&[clothed]));
            assert_eq!(judge(&ranges, "10.1.1.1"), Err(RangeFault::Denied), "{clothed}");
            assert_eq!(judge(&ranges, "11.1.1.1"), Ok(()));
        }
        let ranges = Ranges::new(Vec::new(), nets(&["::/0"]));
        assert_eq!(judge(&ranges, "2a00::1"), Err(RangeFault::Denied));
        assert_eq!(judge(&ranges, "64:ff9b::8.8.8.8"), Ok(()));
    }

    #[test]
    fn overlapping_ranges_and_single_addresses_are_found() {
        let all = nets(&["10.0.0.0/8", "10.1.0.0/16", "9.9.9.9/32", "10.0.0.7/8", "0.0.0.0/32"]);
        let ranges = Ranges::new(all, Vec::new());
        for ip in ["10.1.2.3", "10.255.0.1", "9.9.9.9", "0.0.0.0"] {
            assert_eq!(judge(&ranges, ip), Ok(()), "{ip}");
        }
        for ip in ["9.9.9.8", "9.9.9.10", "11.0.0.0", "::"] {
            assert_eq!(judge(&ranges, ip), Err(RangeFault::NotAllowed), "{ip}");
        }
    }
}
