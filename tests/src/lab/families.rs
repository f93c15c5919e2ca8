//! Which families of addresses machines have, who has which IPv6 address, and what routers do with IPv6 packets.
//!
//! No router translates IPv6 addresses: hosts have global ones behind a firewall that lets in what belongs to a flow
//! of theirs, and what IPv6 cannot do without; all of it behind [`Nat::Open`].

use std::fmt::Write as _;
use std::net::Ipv6Addr;

use super::nat::Nat;
use super::rules::{direct_counter, egress_rules, syn_rule};
use super::spec::RouterSpec;
use super::{Lab, LabError};

/// Which families of addresses a machine has.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Families {
    /// IPv4 alone.
    #[default]
    V4,
    /// IPv4 and IPv6.
    Both,
    /// IPv6 alone.
    V6,
}

impl Families {
    /// Whether IPv4 is among them.
    pub fn has_v4(self) -> bool {
        self != Self::V6
    }

    /// Whether IPv6 is among them.
    pub fn has_v6(self) -> bool {
        self != Self::V4
    }
}

/// The machine that is the internet.
pub(super) const INTERNET_V6: Ipv6Addr = internet(1);

/// The relay.
pub(super) const RELAY_V6: Ipv6Addr = internet(2);

/// Router `index` on the internet.
pub(super) fn public_v6(index: usize) -> Ipv6Addr {
    internet(0x11 + word(index))
}

/// Carrier `index` on the internet.
pub(super) fn carrier_v6(index: usize) -> Ipv6Addr {
    internet(0x101 + word(index))
}

/// Carrier `carrier` in the network of its customers.
pub(super) fn carrier_gateway_v6(carrier: usize) -> Ipv6Addr {
    Ipv6Addr::new(PREFIX, 0, 1, 1 + word(carrier), 0, 0, 0, 1)
}

/// Router `index` in the network of its carrier.
pub(super) fn customer_v6(carrier: usize, index: usize) -> Ipv6Addr {
    Ipv6Addr::new(PREFIX, 0, 1, 1 + word(carrier), 0, 0, 0, 0x11 + word(index))
}

/// The network of the hosts behind router `index`, as `ip` and `nft` write it.
pub(super) fn network_v6(index: usize) -> String {
    format!("{}/64", home(index, 0))
}

/// Router `index` in the network of its hosts.
pub(super) fn gateway_v6(index: usize) -> Ipv6Addr {
    home(index, 1)
}

/// The host behind router `index`.
pub(super) fn host_v6(index: usize) -> Ipv6Addr {
    home(index, 2)
}

/// The other host behind router `index`.
pub(super) fn neighbour_v6(index: usize) -> Ipv6Addr {
    home(index, 3)
}

/// The host behind router `host` in the network of router `index`, where it is a guest.
pub(super) fn guest_v6(index: usize, host: usize) -> Ipv6Addr {
    home(index, 0x11 + word(host))
}

/// The translator of NAT64 on router `index`.
pub(super) fn translator_v6(index: usize) -> Ipv6Addr {
    home(index, 0x64)
}

const fn internet(machine: u16) -> Ipv6Addr {
    Ipv6Addr::new(PREFIX, 0, 0, 0, 0, 0, 0, machine)
}

fn home(index: usize, machine: u16) -> Ipv6Addr {
    Ipv6Addr::new(PREFIX, 0, 0, 1 + word(index), 0, 0, 0, machine)
}

fn word(index: usize) -> u16 {
    u16::try_from(index).expect("indices below ROUTERS_MAX fit")
}

impl Lab {
    /// As [`Lab::renumber`], with an IPv6 address of the same network.
    ///
    /// # Errors
    ///
    /// If `ip` refuses, as it does where the machine has no IPv6 address.
    pub fn renumber_v6(&self, index: usize, address: Ipv6Addr) -> Result<(), LabError> {
        let host = self.host(index);
        let old = host.addresses_on("eth0", "-6")?;
        let removed: String = old.iter().map(|old| format!("addr del {old}/64 dev eth0\n")).collect();
        host.configure(&format!(
            "{removed}addr add {address}/64 dev eth0 nodad\nroute replace default via {}\n",
            gateway_v6(index)
        ))
    }
}

/// Of addresses that every peer takes for global.
const PREFIX: u16 = 0x2600;

/// The rules for IPv6, as `nft -f` reads them, of a router in a lab with routers of the indices `others`.
///
/// What comes from the translator of NAT64 is let in: it answers what a host began.
pub(super) fn ruleset(spec: &RouterSpec, others: &[usize]) -> String {
    let (syn, egress) = (syn_rule(spec), egress_rules(spec));
    let admit = if spec.nat == Nat::Open { r#"iifname "wan" accept"# } else { "" };
    let (mut counters, mut measure) = (String::new(), String::new());
    for &other in others {
        let (name, network) = (direct_counter(other), network_v6(other));
        let _ = writeln!(counters, "    counter {name} {{ }}");
        for direction in ["daddr", "saddr"] {
            let _ = writeln!(measure, "        ip6 {direction} {network} counter name {name}");
        }
    }
    format!(
        r#"
table ip6 lab
delete table ip6 lab
table ip6 lab {{
    set blocked {{ type ipv6_addr; }}
{counters}
    chain input {{
        type filter hook input priority filter; policy accept;
        {syn}
        ct state established,related accept
        meta l4proto icmpv6 accept
        iifname "wan" drop
    }}
    chain forward {{
        type filter hook forward priority filter; policy drop;
        ip6 saddr @blocked drop
        ip6 daddr @blocked drop
        {syn}
{egress}
        ct state established,related accept
        meta l4proto icmpv6 accept
        iifname {{ "lan", "nat64" }} oifname {{ "wan", "lan", "nat64" }} accept
        {admit}
    }}
    chain measure {{
        type filter hook forward priority filter + 10; policy accept;
{measure}
    }}
}}
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_router_without_a_firewall_lets_in_what_no_host_asked_for() {
        let admits = |nat| ruleset(&RouterSpec::new(nat), &[]).contains(r#"iifname "wan" accept"#);
        assert_eq!(Nat::ALL.into_iter().filter(|nat| admits(*nat)).collect::<Vec<_>>(), [Nat::Open]);
    }

    #[test]
    fn each_other_network_is_counted_by_name() {
        let rules = ruleset(&RouterSpec::new(Nat::Firewall), &[1]);
        assert!(rules.contains("ip6 saddr 2600:0:0:2::/64 counter name direct1"), "{rules}");
    }
}
