//! IPv4 addresses in IPv6 clothes. Whoever judges an address judges the one that packets reach.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::Ipv6Net;

/// NAT64 translators of the internet (RFC 6052, section 2.1): the IPv4 address is the last four bytes.
const WELL_KNOWN: [u16; 6] = [0x64, 0xff9b, 0, 0, 0, 0];

/// NAT64 translators of one network (RFC 8215).
const LOCAL: [u16; 3] = [0x64, 0xff9b, 1];

/// Addresses that lead to IPv4 ones: mapped, and those of the two kinds of translators.
pub(crate) const PREFIXES: [Ipv6Net; 3] = [
    Ipv6Net::new_assert(Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96),
    Ipv6Net::new_assert(Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96),
    Ipv6Net::new_assert(Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, 0, 0), 48),
];

/// Where a translator with a prefix of 48, 56, 64 or 96 bits has the bytes of the IPv4 address (RFC 6052, section
/// 2.2). What follows them is zero, and so is byte 8.
const LAYOUTS: [[usize; 4]; 4] = [[6, 7, 9, 10], [7, 9, 10, 11], [9, 10, 11, 12], [12, 13, 14, 15]];

/// Every address that `ip` may lead to: itself, or the IPv4 addresses that may be in it. How many bits the prefix of a
/// network's own translator has is known only there, so an address of such a prefix may be read in several ways, and
/// is as bad as the worst of them. At least one.
pub(crate) fn readings(ip: IpAddr) -> impl Iterator<Item = IpAddr> {
    let mut found = [None; LAYOUTS.len()];
    match ip.to_canonical() {
        IpAddr::V6(ip) if ip.segments().starts_with(&WELL_KNOWN) => {
            found[0] = Some(read(ip, LAYOUTS[3]).into());
        }
        IpAddr::V6(ip) if ip.segments().starts_with(&LOCAL) => {
            for (found, layout) in found.iter_mut().zip(LAYOUTS) {
                *found = fits(ip, layout).then(|| read(ip, layout).into());
            }
        }
        ip => found[0] = Some(ip),
    }
    // One that fits no layout leads nowhere, and is judged as what it is.
    let itself = found.iter().all(Option::is_none).then_some(ip);
    found.into_iter().flatten().chain(itself)
}

/// The address that `ip` leads to, where that is certain; else `ip`.
pub(crate) fn inside(ip: IpAddr) -> IpAddr {
    let mut readings = readings(ip);
    match (readings.next(), readings.next()) {
        (Some(only), None) => only,
        _ => ip,
    }
}

/// The prefix of a NAT64 translator: IPv6 addresses that begin with it lead to IPv4 ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Prefix {
    /// With the bytes of an IPv4 address, which are zero here.
    base: Ipv6Addr,
    layout: [usize; 4],
}

impl Prefix {
    /// That of translators which have no other (RFC 6052, section 2.1).
    pub(crate) const WELL_KNOWN: Self =
        Self { base: Ipv6Addr::new(WELL_KNOWN[0], WELL_KNOWN[1], 0, 0, 0, 0, 0, 0), layout: LAYOUTS[3] };

    /// The prefix of the translator whose name server gives `ip` for a name that stands for `known` alone, an IPv4
    /// address (RFC 7050, section 3).
    pub(crate) fn discovered(ip: Ipv6Addr, known: Ipv4Addr) -> Option<Self> {
        let layouts = [[4, 5, 6, 7], [5, 6, 7, 9]].into_iter().chain(LAYOUTS);
        // Of several ways to read it the longest prefix: what is left of one that is too short would not be zero.
        let layout = layouts.rev().find(|layout| read(ip, *layout) == known)?;
        let mut octets = ip.octets();
        // What follows the address belongs to nobody.
        layout.iter().for_each(|byte| octets[*byte] = 0);
        octets.iter_mut().skip(layout[3]).for_each(|byte| *byte = 0);
        Some(Self { base: octets.into(), layout })
    }

    /// The address that leads to `ip` (RFC 6052, section 2.2).
    pub(crate) fn address_of(self, ip: Ipv4Addr) -> Ipv6Addr {
        let mut octets = self.base.octets();
        for (place, byte) in self.layout.into_iter().zip(ip.octets()) {
            octets[place] = byte;
        }
        octets.into()
    }
}

fn read(ip: Ipv6Addr, layout: [usize; 4]) -> Ipv4Addr {
    Ipv4Addr::from(layout.map(|byte| ip.octets()[byte]))
}

/// No translator leads to 0.0.0.0, so an address that reads as this is to be read otherwise.
fn fits(ip: Ipv6Addr, layout: [usize; 4]) -> bool {
    let octets = ip.octets();
    octets[8] == 0
        && octets[layout[3] + 1..].iter().all(|byte| *byte == 0)
        && !read(ip, layout).is_unspecified()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_prefix_is_known_by_one_address_and_leads_to_every_other() {
        // The examples of RFC 6052, section 2.4.
        for of_known in [
            "2001:db8:c000:221::",
            "2001:db8:1c0:2:21::",
            "2001:db8:122:c000:2:2100::",
            "2001:db8:122:3c0:0:221::",
            "2001:db8:122:344:c0:2:2100::",
            "2001:db8:122:344::192.0.2.33",
            "64:ff9b::192.0.2.33",
        ] {
            let (of_known, known) = (of_known.parse().unwrap(), "192.0.2.33".parse().unwrap());
            let prefix = Prefix::discovered(of_known, known).unwrap();
            assert_eq!(prefix.address_of(known), of_known);
            let other = Ipv4Addr::new(73, 0, 0, 2);
            assert_eq!(Prefix::discovered(prefix.address_of(other), other), Some(prefix), "{of_known}");
        }
        assert_eq!(
            Prefix::WELL_KNOWN.address_of("73.0.0.2".parse().unwrap()).to_string(),
            "64:ff9b::4900:2"
        );
        assert_eq!(Prefix::discovered("2a00::1".parse().unwrap(), "192.0.0.170".parse().unwrap()), None);
    }

    #[test]
    fn an_address_is_read_in_every_way_that_its_prefix_may_mean() {
        for (ip, expected) in [
            ("8.8.8.8", &["8.8.8.8"][..]),
            ("2a00::1", &["2a00::1"]),
            ("::ffff:10.0.0.1", &["10.0.0.1"]),
            ("64:ff9b::10.0.0.1", &["10.0.0.1"]),
            // RFC 6052, section 2.4, has these examples for its prefixes.
            ("64:ff9b:1:fffe::192.0.2.33", &["192.0.2.33"]),
            ("64:ff9b:1:c000:2:2100::", &["192.0.2.33", "0.2.33.0", "2.33.0.0"]),
            ("64:ff9b:1:ab00:c0:2:2100:0", &["192.0.2.33", "33.0.0.0"]),
            // Byte 8 is not zero.
            ("64:ff9b:1:0:100::1", &["64:ff9b:1:0:100::1"]),
            ("64:ff9b:1::", &["64:ff9b:1::"]),
        ] {
            let read: Vec<_> = readings(ip.parse().unwrap()).map(|ip| ip.to_string()).collect();
            assert_eq!(read, expected, "{ip}");
        }
    }
}
