//! Kinds of NAT, and the nftables rules that make a Linux router behave like them.
//!
//! The words are those of RFC 4787: a *mapping* says from which public port a flow leaves, a
//! *filtering* which packets may come in. Every router here filters by address and port.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

use super::public_address;

/// How a router maps the flows of its host.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Nat {
    /// The usual home router: flows keep their source port, towards every destination.
    PortPreserving,
    /// Every UDP and every TCP flow leaves from `port`, towards every destination. A destination
    /// can therefore be reached by one flow per protocol only.
    PortChanging {
        /// The public port.
        port: u16,
    },
}

/// What a router answers to a TCP SYN from outside that it does not expect.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum UnexpectedSyn {
    /// Nothing, as RFC 5382 (REQ-4) asks, so that simultaneous open works.
    Drop,
    /// A RST, to every SYN from outside, even to one that crosses a SYN from inside (against
    /// RFC 5382, REQ-2), so that simultaneous open fails whatever its timing.
    Reset,
}

/// One router.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RouterSpec {
    /// How it maps.
    pub nat: Nat,
    /// What it does with SYNs from outside.
    pub unexpected_syn: UnexpectedSyn,
    /// Whether a second host is in its network. Only heeded when the lab is built.
    pub neighbour: bool,
}

impl RouterSpec {
    /// A router with one host that maps as given and drops unexpected SYNs.
    pub fn new(nat: Nat) -> Self {
        Self { nat, unexpected_syn: UnexpectedSyn::Drop, neighbour: false }
    }
}

/// The counter of what a router forwards to and from the public address of router `index`.
pub(super) fn direct_counter(index: usize) -> String {
    format!("direct{index}")
}

/// The rules, as `nft -f` reads them, of a router with the address `public` in a lab with the
/// `others`; they replace what the router had.
///
/// Dropping new flows at the router's own input is what lets early packets of a punch vanish
/// instead of being answered with a RST or an ICMP error. Counting happens after filtering. Where the kernel
/// shows bridged packets to these rules, hosts of one network may talk.
pub(super) fn ruleset(spec: &RouterSpec, public: Ipv4Addr, others: &[usize]) -> String {
    let syn = match spec.unexpected_syn {
        UnexpectedSyn::Drop => "",
        UnexpectedSyn::Reset => r#"iifname "wan" tcp flags & (syn | ack) == syn reject with tcp reset"#,
    };
    let mapping = match spec.nat {
        Nat::PortPreserving => r#"oifname "wan" masquerade"#.to_owned(),
        Nat::PortChanging { port } => {
            format!(r#"oifname "wan" meta l4proto {{ tcp, udp }} snat to {public}:{port}"#)
        }
    };
    let (counters, measure) = direct_counters(others);
    format!(
        r#"
table ip lab
delete table ip lab
table ip lab {{
    set blocked {{ type ipv4_addr; }}
{counters}
    chain input {{
        type filter hook input priority filter; policy accept;
        {syn}
        ct state established,related accept
        iifname "wan" drop
    }}
    chain forward {{
        type filter hook forward priority filter; policy drop;
        ip saddr @blocked drop
        ip daddr @blocked drop
        {syn}
        ct state established,related accept
        iifname "lan" oifname {{ "wan", "lan" }} accept
    }}
    chain measure {{
        type filter hook forward priority filter + 10; policy accept;
{measure}
    }}
    chain prerouting {{
        type nat hook prerouting priority dstnat; policy accept;
    }}
    chain postrouting {{
        type nat hook postrouting priority srcnat; policy accept;
        {mapping}
    }}
}}
"#
    )
}

/// Declarations of the counters, and the rules that move them.
fn direct_counters(others: &[usize]) -> (String, String) {
    let (mut counters, mut rules) = (String::new(), String::new());
    for &other in others {
        let (name, address) = (direct_counter(other), public_address(other));
        let _ = writeln!(counters, "    counter {name} {{ }}");
        let _ = writeln!(rules, "        ip daddr {address} counter name {name}");
        let _ = writeln!(rules, "        ip saddr {address} counter name {name}");
    }
    (counters, rules)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PUBLIC: Ipv4Addr = Ipv4Addr::new(73, 0, 0, 11);

    #[test]
    fn a_port_changing_router_rewrites_to_its_port() {
        let spec = RouterSpec::new(Nat::PortChanging { port: 35000 });
        assert!(ruleset(&spec, PUBLIC, &[]).contains("snat to 73.0.0.11:35000"));
    }

    #[test]
    fn only_a_resetting_router_answers_a_syn() {
        let mut spec = RouterSpec::new(Nat::PortPreserving);
        assert!(!ruleset(&spec, PUBLIC, &[]).contains("reject"));
        spec.unexpected_syn = UnexpectedSyn::Reset;
        assert!(ruleset(&spec, PUBLIC, &[]).contains("reject with tcp reset"));
    }

    #[test]
    fn each_other_router_is_counted_by_name() {
        let rules = ruleset(&RouterSpec::new(Nat::PortPreserving), PUBLIC, &[1, 2]);
        assert!(rules.contains("ip saddr 73.0.0.12 counter name direct1"));
        assert!(rules.contains("ip daddr 73.0.0.13 counter name direct2"));
    }
}
