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
