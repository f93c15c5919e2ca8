//! The nftables rules that make a Linux router behave like a [`Nat`].

use std::fmt::Write as _;

use super::addresses::{public_address, public_network};
use super::nat::{Filtering, Mapping, Nat, RouterSpec, UnexpectedSyn};

/// The counter of what a router forwards to and from the host of router `index`.
pub(super) fn direct_counter(index: usize) -> String {
    format!("direct{index}")
}

/// The rules, as `nft -f` reads them, of a router in a lab with the `others`; they replace what the
/// router had, and what it remembered of its hosts' flows beside the kernel's own table.
///
/// Dropping new flows at the router's own input is what lets early packets of a punch vanish
/// instead of being answered with a RST or an ICMP error. Counting happens after filtering. Where the kernel
/// shows bridged packets to these rules, hosts of one network may talk.
pub(super) fn ruleset(spec: &RouterSpec, others: &[usize]) -> String {
    let syn = match spec.unexpected_syn {
        UnexpectedSyn::Drop => "",
        UnexpectedSyn::Reset => r#"iifname "wan" tcp flags & (syn | ack) == syn reject with tcp reset"#,
    };
    let (counters, measure) = direct_counters(others);
    let Words { remember, admit, redirect, translate } = words(spec.nat);
    format!(
        r#"
table ip lab
delete table ip lab
table ip lab {{
    set blocked {{ type ipv4_addr; }}
{MEMORY}
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
{remember}
        ct state established,related accept
        iifname "lan" oifname {{ "wan", "lan" }} accept
        {admit}
    }}
    chain measure {{
        type filter hook forward priority filter + 10; policy accept;
{measure}
    }}
    chain prerouting {{
        type nat hook prerouting priority dstnat; policy accept;
{redirect}
    }}
    chain postrouting {{
        type nat hook postrouting priority srcnat; policy accept;
        {translate}
    }}
}}
"#
    )
}

/// What differs from one kind of router to another.
struct Words {
    /// Notes what hosts send, where the kernel's own table of flows does not say enough.
    remember: &'static str,
    /// Lets in what belongs to no flow that a host began.
    admit: &'static str,
    /// Sends what comes in to the host that sent from that port.
    redirect: &'static str,
    /// Says from where flows leave.
    translate: String,
}

fn words(nat: Nat) -> Words {
    let strict = nat.filtering() == Filtering::AddressAndPortDependent;
    let (remember, redirect) = match nat.translates() && !strict {
        true => (REMEMBER, REDIRECT),
        false => ("", ""),
    };
    let admit = match (nat.filtering(), nat.translates()) {
        // A port from which no host has sent leads nowhere: nothing is there to translate to.
        (Filtering::EndpointIndependent, true) => r#"iifname "wan" ct status dnat accept"#,
        (Filtering::EndpointIndependent, false) => r#"iifname "wan" accept"#,
        (Filtering::AddressDependent, _) => {
            r#"iifname "wan" meta l4proto . th dport . ip saddr @contacted accept"#
        }
        (Filtering::AddressAndPortDependent, _) => "",
    };
    let translate = match (nat, nat.mapping()) {
        (Nat::PortChanging { port }, _) => {
            format!(r#"oifname "wan" meta l4proto {{ tcp, udp }} masquerade to :{port}"#)
        }
        (_, Mapping::EndpointDependent) => r#"oifname "wan" masquerade fully-random"#.to_owned(),
        _ if nat.translates() => r#"oifname "wan" masquerade"#.to_owned(),
        _ => String::new(),
    };
    Words { remember, admit, redirect, translate }
}

/// From which port which host sent, and to whom. Ports are those of the host, which are the public ones
/// as well: two hosts of one network must not use the same.
const MEMORY: &str = "    map udp_mapped {
        type inet_service : ipv4_addr . inet_service; flags dynamic,timeout; timeout 300s;
    }
    map tcp_mapped {
        type inet_service : ipv4_addr . inet_service; flags dynamic,timeout; timeout 300s;
    }
    set contacted {
        type inet_proto . inet_service . ipv4_addr; flags dynamic,timeout; timeout 300s;
    }";

/// Empties that memory.
pub(super) const FORGET: &str =
    "flush map ip lab udp_mapped\nflush map ip lab tcp_mapped\nflush set ip lab contacted\n";

const REMEMBER: &str = r#"        iifname "lan" oifname "wan" update @udp_mapped { udp sport : ip saddr . udp sport }
        iifname "lan" oifname "wan" update @tcp_mapped { tcp sport : ip saddr . tcp sport }
        iifname "lan" oifname "wan" meta l4proto { tcp, udp } update @contacted { meta l4proto . th sport . ip daddr }"#;

const REDIRECT: &str = r#"        iifname "wan" meta l4proto udp dnat to udp dport map @udp_mapped
        iifname "wan" meta l4proto tcp dnat to tcp dport map @tcp_mapped"#;

/// Declarations of the counters, and the rules that move them.
fn direct_counters(others: &[usize]) -> (String, String) {
    let (mut counters, mut rules) = (String::new(), String::new());
    for &other in others {
        let name = direct_counter(other);
        let (router, hosts) = (public_address(other), public_network(other));
        let _ = writeln!(counters, "    counter {name} {{ }}");
        for direction in ["daddr", "saddr"] {
            let _ =
                writeln!(rules, "        ip {direction} {{ {router}, {hosts} }} counter name {name}");
        }
    }
    (counters, rules)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_changing_router_rewrites_to_its_port() {
        let spec = RouterSpec::new(Nat::PortChanging { port: 35000 });
        assert!(ruleset(&spec, &[]).contains("masquerade to :35000"));
    }

    #[test]
    fn only_a_resetting_router_answers_a_syn() {
        let mut spec = RouterSpec::new(Nat::PortPreserving);
        assert!(!ruleset(&spec, &[]).contains("reject"));
        spec.unexpected_syn = UnexpectedSyn::Reset;
        assert!(ruleset(&spec, &[]).contains("reject with tcp reset"));
    }

    #[test]
    fn only_routers_that_let_strangers_in_remember_who_sent() {
        let remembers = |nat: &Nat| ruleset(&RouterSpec::new(*nat), &[]).contains("update @udp_mapped");
        let remembering: Vec<_> = Nat::ALL.into_iter().filter(remembers).collect();
        assert_eq!(remembering, [Nat::FullCone, Nat::AddressRestricted]);
    }

    #[test]
    fn each_other_router_is_counted_by_name() {
        let rules = ruleset(&RouterSpec::new(Nat::PortPreserving), &[1, 2]);
        assert!(rules.contains("ip saddr { 73.0.0.12, 74.0.2.0/24 } counter name direct1"));
        assert!(rules.contains("ip daddr { 73.0.0.13, 74.0.3.0/24 } counter name direct2"));
    }
}
