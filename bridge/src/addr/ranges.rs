//! Ranges of addresses that the operator lets this node speak with, or does not.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

use super::translated::{PREFIXES, inside, readings};

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
    #[error("in a range that --deny-net or --net-file denies")]
    Denied,
    /// The operator allowed others only.
    #[error("outside of the ranges that --allow-net or --net-file allows")]
    NotAllowed,
}

/// A range that would match nothing, since its addresses are judged by the IPv4 addresses in them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the range {0} has IPv6 addresses that lead to IPv4 ones (NAT64, mapped) and are judged by these; name the range of \
     IPv4 addresses instead"
)]
pub struct UnclearRange(pub IpNet);

impl Ranges {
    /// Lets this node speak with `allow` only, or with everybody if that is empty; and never with `deny`.
    ///
    /// # Errors
    /// If a range is not clear: see [`UnclearRange`].
    pub fn new(allow: Vec<IpNet>, deny: Vec<IpNet>) -> Result<Self, UnclearRange> {
        let allow = if allow.is_empty() { None } else { Some(Set::new(allow)?) };
        Ok(Self { allow, deny: Set::new(deny)? })
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

    /// Whether an address that anybody names may be spoken with.
    pub fn lets(&self, ip: IpAddr) -> bool {
        self.judge(ip, false).is_ok()
    }

    /// Whether an address is kept away, though the operator named the relay or server that has it.
    pub fn denies(&self, ip: IpAddr) -> bool {
        self.judge(ip, true).is_err()
    }
}

/// Ranges that do not overlap, in their order: lists of countries have tens of thousands, and each connection asks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Set(Vec<IpNet>);

impl Set {
    fn new(nets: Vec<IpNet>) -> Result<Self, UnclearRange> {
        let nets = nets.into_iter().map(plain).collect::<Result<_, _>>()?;
        let mut nets = IpNet::aggregate(&nets);
        nets.sort_by_key(IpNet::network);
        Ok(Self(nets))
    }

    fn contains(&self, ip: IpAddr) -> bool {
        let after = self.0.partition_point(|net| net.network() <= ip);
        after.checked_sub(1).is_some_and(|last| self.0[last].contains(&ip))
    }
}

/// Addresses are judged by what is in them, so a range of IPv4 addresses in IPv6 clothes is one of IPv4 addresses.
fn plain(net: IpNet) -> Result<IpNet, UnclearRange> {
    let IpNet::V6(clothed) = net.trunc() else { return Ok(net.trunc()) };
    let bits = clothed.prefix_len().checked_sub(V4_FROM);
    match (inside(clothed.network().into()), bits) {
        (IpAddr::V4(ip), Some(bits)) => {
            Ipv4Net::new(ip, bits).map(IpNet::V4).map_err(|_| UnclearRange(net))
        }
        _ if is_unclear(clothed) => Err(UnclearRange(net)),
        _ => Ok(clothed.into()),
    }
}

/// The prefix of mapped addresses, and that of NAT64.
const V4_FROM: u8 = 96;

/// Whether a range is about addresses that lead to IPv4 ones.
fn is_unclear(net: Ipv6Net) -> bool {
    net.prefix_len() > LARGE_BITS_MAX
        && PREFIXES.iter().any(|prefix| prefix.contains(&net) || net.contains(prefix))
}

/// Ranges with no more bits, such as `::/0` and `::/8`, are about addresses that are nothing but IPv6.
const LARGE_BITS_MAX: u8 = 16;

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
            assert_eq!(judge(&Ranges::new(Vec::new(), Vec::new()).unwrap(), ip), Ok(()));
        }
    }

    #[test]
    fn what_is_denied_beats_what_is_allowed_and_the_rest_is_not_allowed() {
        let ranges = Ranges::new(nets(&["10.0.0.0/8", "2a00::/16"]), nets(&["10.9.0.0/16"])).unwrap();
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
            let ranges = Ranges::new(Vec::new(), nets(&[clothed])).unwrap();
            assert_eq!(judge(&ranges, "10.1.1.1"), Err(RangeFault::Denied), "{clothed}");
            assert_eq!(judge(&ranges, "11.1.1.1"), Ok(()));
        }
        let ranges = Ranges::new(Vec::new(), nets(&["::/0"])).unwrap();
        assert_eq!(judge(&ranges, "2a00::1"), Err(RangeFault::Denied));
        assert_eq!(judge(&ranges, "64:ff9b::8.8.8.8"), Ok(()));
    }

    #[test]
    fn a_range_that_would_match_nothing_is_refused_with_its_name() {
        for unclear in [
            "64:ff9b:1::/48",
            "64:ff9b:1:2::/64",
            "64:ff9b:1::/96",
            "64:ff9b:1:c000:2:2100::/128",
            "64:ff9b::/64",
            "64:ff9b::/32",
            "::ffff:0:0/95",
            "::/64",
        ] {
            let [net] = nets(&[unclear])[..] else { unreachable!("one") };
            assert_eq!(Ranges::new(Vec::new(), vec![net]), Err(UnclearRange(net)), "{unclear}");
            assert_eq!(Ranges::new(vec![net], Vec::new()), Err(UnclearRange(net)), "{unclear}");
            assert!(UnclearRange(net).to_string().contains(&net.to_string()));
        }
        for clear in ["::/0", "::/8", "64::/16", "64:ff9a::/32", "2001:db8::/32", "::1/128", "fc00::/7"]
        {
            assert!(Ranges::new(nets(&[clear]), nets(&[clear])).is_ok(), "{clear}");
        }
    }

    #[test]
    fn overlapping_ranges_and_single_addresses_are_found() {
        let all = nets(&["10.0.0.0/8", "10.1.0.0/16", "9.9.9.9/32", "10.0.0.7/8", "0.0.0.0/32"]);
        let ranges = Ranges::new(all, Vec::new()).unwrap();
        for ip in ["10.1.2.3", "10.255.0.1", "9.9.9.9", "0.0.0.0"] {
            assert_eq!(judge(&ranges, ip), Ok(()), "{ip}");
        }
        for ip in ["9.9.9.8", "9.9.9.10", "11.0.0.0", "::"] {
            assert_eq!(judge(&ranges, ip), Err(RangeFault::NotAllowed), "{ip}");
        }
    }
}
