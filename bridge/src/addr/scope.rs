//! Which IP addresses are public, which only mean something in one network, and which are never dialled
//! because somebody else named them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::translated::readings;

/// Where an IP address means the same host. Declared from wide to narrow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Scope {
    /// Everywhere.
    Public,
    /// In one network: RFC 1918, carriers' NATs (RFC 6598), unique-local IPv6.
    Private,
    /// On one host.
    Loopback,
    /// Nowhere, or at a host that must not be bothered: link-local addresses, under which clouds hand out
    /// credentials, multicast, reserved ranges.
    Forbidden,
}

/// Which addresses count as public: the globally routable ones, and the ranges an operator adds.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct GlobalScope {
    assumed: Vec<IpNet>,
}

impl GlobalScope {
    /// Treats `assumed` as public too: labs and private networks. Link-local and multicast addresses and
    /// those of clouds' metadata services never are.
    pub fn with_assumed(assumed: Vec<IpNet>) -> Self {
        Self { assumed }
    }

    /// Whether `ip` may be offered to others as ours.
    pub fn contains(&self, ip: IpAddr) -> bool {
        self.scope(ip) == Scope::Public
    }

    /// Whether the operator said that `ip` is public.
    pub(crate) fn is_assumed(&self, ip: IpAddr) -> bool {
        readings(ip).all(|ip| self.assumes(ip))
    }

    fn assumes(&self, ip: IpAddr) -> bool {
        !is_never_dialled(ip) && self.assumed.iter().any(|net| net.contains(&ip))
    }

    pub(crate) fn scope(&self, ip: IpAddr) -> Scope {
        readings(ip).map(|ip| self.scope_of_plain(ip)).max().unwrap_or(Scope::Forbidden)
    }

    fn scope_of_plain(&self, ip: IpAddr) -> Scope {
        if is_never_dialled(ip) {
            return Scope::Forbidden;
        }
        if self.assumes(ip) {
            return Scope::Public;
        }
        match ip {
            IpAddr::V4(ip) => scope_v4(ip),
            IpAddr::V6(ip) => scope_v6(ip),
        }
    }
}

/// Addresses of clouds' metadata services outside of the link-local range: Alibaba, Azure, AWS, Google.
const METADATA: [IpAddr; 4] = [
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
];

fn is_never_dialled(ip: IpAddr) -> bool {
    let special = match ip {
        IpAddr::V4(ip) => ip.is_link_local() || ip.octets()[0] == 0 || ip.octets()[0] >= 240,
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    special || ip.is_multicast() || ip.is_unspecified() || METADATA.contains(&ip)
}

/// Source: the IANA IPv4 special-purpose registry (RFC 6890 and updates).
fn scope_v4(ip: Ipv4Addr) -> Scope {
    let [a, b, c, _] = ip.octets();
    let carrier = a == 100 && (64..128).contains(&b);
    let protocol = a == 192 && b == 0 && c == 0;
    let benchmark = a == 198 && (b == 18 || b == 19);
    let tunnel = a == 192 && b == 88 && c == 99;
    if ip.is_loopback() {
        Scope::Loopback
    } else if ip.is_private() || carrier {
        Scope::Private
    } else if ip.is_documentation() || protocol || benchmark || tunnel {
        Scope::Forbidden
    } else {
        Scope::Public
    }
}

/// Source: the IANA IPv6 special-purpose registry. Only 2000::/3 is handed out, less documentation, what
/// tunnels put IPv4 addresses in (2001::/23 with Teredo, 2002::/16), and identifiers that nobody routes.
fn scope_v6(ip: Ipv6Addr) -> Scope {
    let [first, second, ..] = ip.segments();
    let documentation = (first == 0x2001 && second == 0x0db8) || first == 0x3fff;
    let tunnel = (first == 0x2001 && second < 0x0200) || first == 0x2002;
    if ip.is_loopback() {
        Scope::Loopback
    } else if ip.is_unique_local() {
        Scope::Private
    } else if first & 0xe000 == 0x2000 && !documentation && !tunnel {
        Scope::Public
    } else {
        Scope::Forbidden
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn scope(ip: &str) -> Scope {
        GlobalScope::default().scope(ip.parse().unwrap())
    }

    #[test]
    fn every_range_has_its_scope() {
        for (expected, ips) in [
            (
                Scope::Public,
                &["73.0.0.1", "8.8.8.8", "172.32.0.1", "100.128.0.1", "2a00::1", "2001:200::1"][..],
            ),
            (
                Scope::Private,
                &["10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1", "fd00::1"],
            ),
            (Scope::Loopback, &["127.0.0.1", "127.9.9.9", "::1"]),
            (
                Scope::Forbidden,
                &[
                    "0.0.0.0",
                    "0.1.2.3",
                    "169.254.169.254",
                    "169.254.1.1",
                    "224.0.0.1",
                    "240.0.0.1",
                    "255.255.255.255",
                    "192.0.0.192",
                    "192.0.2.1",
                    "198.18.0.1",
                    "198.19.255.255",
                    "192.88.99.1",
                    "203.0.113.1",
                    "100.100.100.200",
                    "168.63.129.16",
                    "::",
                    "fe80::1",
                    "ff02::1",
                    "fd00:ec2::254",
                    "2001:db8::1",
                    "2001::1",
                    "2002:7f00:1::1",
                    "fec0::1",
                    "::8.8.8.8",
                    "::ffff:0:8.8.8.8",
                    "100::1",
                    "3fff::1",
                    "5f00::1",
                ],
            ),
        ] {
            for ip in ips {
                assert_eq!(scope(ip), expected, "{ip}");
            }
        }
    }

    #[test]
    fn an_ipv4_address_in_ipv6_clothes_is_what_it_is() {
        for clothes in ["::ffff:", "64:ff9b::", "64:ff9b:1::", "64:ff9b:1:7::"] {
            for (ip, expected) in [
                ("127.0.0.1", Scope::Loopback),
                ("10.0.0.1", Scope::Private),
                ("169.254.169.254", Scope::Forbidden),
                ("8.8.8.8", Scope::Public),
            ] {
                assert_eq!(scope(&format!("{clothes}{ip}")), expected, "{clothes}{ip}");
            }
        }
        assert_eq!(scope("64:ff9b:1:a00:0:100::"), Scope::Forbidden, "10.0.0.1, or 0.0.1.0");
        assert_eq!(scope("64:ff9b:1:808:8:800::"), Scope::Public, "8.8.8.8, or 8.8.8.0, or 8.8.0.0");
    }

    #[test]
    fn private_ranges_are_public_only_when_the_operator_says_so_and_metadata_never() {
        let lab = GlobalScope::with_assumed(vec!["10.0.0.0/8".parse().unwrap()]);
        assert!(lab.contains("10.0.0.1".parse().unwrap()));
        assert!(!lab.contains("192.168.1.1".parse().unwrap()));
        let all = GlobalScope::with_assumed(vec!["0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap()]);
        assert!(all.contains("127.0.0.1".parse().unwrap()));
        for never in ["169.254.169.254", "100.100.100.200", "fd00:ec2::254", "0.0.0.0", "224.0.0.1"] {
            assert!(!all.contains(never.parse().unwrap()), "{never}");
        }
    }
}
