//! The addresses of this host, and which of them a connection leaves from.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket},
};

use libp2p::Multiaddr;

use crate::{addr::ip_of, error::Family};

/// Addresses that only a default route leads to, to ask by which address this host would go there.
const FAR: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
];

/// The address of this host that the system routes from to the host of `remote`. Nothing is sent.
pub(crate) fn source_towards(remote: &Multiaddr) -> Option<IpAddr> {
    source_of_route(ip_of(remote)?)
}

/// The address of this host that the system routes from to the internet. Nothing is sent.
pub(crate) fn source_of_default_route(family: Family) -> Option<IpAddr> {
    source_of_route(match family {
        Family::V4 => FAR[0],
        Family::V6 => FAR[1],
    })
}

fn source_of_route(remote: IpAddr) -> Option<IpAddr> {
    let any: IpAddr = match remote {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    // Any port will do: connecting a datagram socket only looks up the route.
    socket.connect((remote, 9)).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

/// The addresses of the interfaces as far as they are known without asking the kernel over netlink,
/// which sandboxes deny: what Linux lists below `/proc`, or else the addresses that routes leave from.
pub(crate) fn addresses() -> BTreeSet<IpAddr> {
    let v4 = read(FIB_TRIE).map(|table| ipv4_of(&table));
    let v6 = read(IF_INET6).map(|table| ipv6_of(&table));
    let mut found: BTreeSet<IpAddr> = v4.into_iter().flatten().map(IpAddr::from).collect();
    found.extend(v6.into_iter().flatten().map(IpAddr::from));
    let loopback = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    let routes = FAR.into_iter().chain(loopback).filter_map(source_of_route);
    found.extend(routes);
    found
}

/// Whether any interface has an address of this family; none if the system does not tell.
pub(crate) fn has(family: Family) -> Option<bool> {
    match family {
        Family::V4 => Some(!ipv4_of(&read(FIB_TRIE)?).is_empty()),
        // Where the kernel has no IPv6, it has no such file, but the other one.
        Family::V6 => match read(IF_INET6) {
            Some(table) => Some(!table.trim().is_empty()),
            None => read(FIB_TRIE).map(|_| false),
        },
    }
}

const FIB_TRIE: &str = "/proc/net/fib_trie";
const IF_INET6: &str = "/proc/net/if_inet6";

fn read(path: &str) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

/// The host's own addresses in Linux's table of routes: those with `/32 host LOCAL` somewhere below them.
fn ipv4_of(fib_trie: &str) -> BTreeSet<Ipv4Addr> {
    let (mut found, mut leaf) = (BTreeSet::new(), None::<Ipv4Addr>);
    for line in fib_trie.lines().map(str::trim) {
        match line.strip_prefix("|-- ") {
            Some(address) => leaf = address.parse().ok(),
            None if line == "/32 host LOCAL" => found.extend(leaf),
            None => {}
        }
    }
    found
}

/// The addresses in Linux's list of IPv6 addresses, less those that are valid on one link only: they
/// cannot be used without naming the link.
fn ipv6_of(if_inet6: &str) -> BTreeSet<Ipv6Addr> {
    let digits = if_inet6.lines().filter_map(|line| line.split(' ').next());
    let parsed =
        digits.filter_map(|digits| Some(Ipv6Addr::from(u128::from_str_radix(digits, 16).ok()?)));
    parsed.filter(|ip| !ip.is_unicast_link_local()).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_goes_to_loopback_leaves_from_loopback() {
        let remote = "/ip4/127.0.0.1/tcp/4001".parse().unwrap();
        assert_eq!(source_towards(&remote), Some(Ipv4Addr::LOCALHOST.into()));
        assert_eq!(source_towards(&"/dns4/relay.example/tcp/1".parse().unwrap()), None);
    }

    #[test]
    fn loopback_is_among_the_addresses_of_this_host() {
        assert!(addresses().contains(&Ipv4Addr::LOCALHOST.into()));
    }

    #[test]
    fn only_the_hosts_own_addresses_are_read_from_the_table_of_routes() {
        let table = "Local:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n     \
                     +-- 10.0.2.0/24 2 0 2\n        |-- 10.0.2.0\n           /24 link UNICAST\n        \
                     |-- 10.0.2.15\n           /24 link UNICAST\n           /32 host LOCAL\n        |-- 10.0.2.255\n           \
                     /32 link BROADCAST\n     |-- 127.0.0.1\n           /32 host LOCAL\n";
        let found: Vec<_> = ipv4_of(table).into_iter().collect();
        assert_eq!(found, [Ipv4Addr::new(10, 0, 2, 15), Ipv4Addr::LOCALHOST]);
    }

    #[test]
    fn an_address_of_one_link_is_passed_over() {
        let table = "00000000000000000000000000000001 01 80 10 80       lo\n\
                     fe800000000000000000000000000001 02 40 20 80     eth0\n\
                     20010db8000000000000000000000007 02 40 00 80     eth0\n";
        let found: Vec<_> = ipv6_of(table).into_iter().collect();
        assert_eq!(found, [Ipv6Addr::LOCALHOST, "2001:db8::7".parse().unwrap()]);
    }
}
