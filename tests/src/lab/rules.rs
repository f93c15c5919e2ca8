//! The nftables rules that make a Linux router behave like a [`Nat`].

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::time::Duration;

use super::nat::{Filtering, Mapping, Nat};
use super::spec::{Egress, RouterSpec, UnexpectedSyn};

/// The counter of what a router forwards to and from the host of router `index`.
pub(super) fn direct_counter(index: usize) -> String {
    format!("direct{index}")
}

/// A router elsewhere in the lab: its index, and where its hosts are seen, as nftables writes a set of addresses.
pub(super) type Other = (usize, String);

/// The rules, as `nft -f` reads them, of a router with the address `public` in a lab with the `others`; they
/// replace what the router had, and what it remembered of its hosts' flows beside the kernel's own table.
///
/// Dropping new flows at the router's own input is what lets early packets of a punch vanish
/// instead of being answered with a RST or an ICMP error. Counting happens after filtering. Where the kernel
/// shows bridged packets to these rules, hosts of one network may talk.
pub(super) fn ruleset(spec: &RouterSpec, public: Ipv4Addr, others: &[Other]) -> String {
    let (syn, egress) = (syn_rule(spec), egress_rules(spec));
    let (counters, measure) = direct_counters(others);
    let memory = memory(spec);
    let Words { remember, admit, redirect, translate } = words(spec, public);
    format!(
        r#"
table ip lab
delete table ip lab
table ip lab {{
    set blocked {{ type ipv4_addr; }}
{memory}
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
{egress}
{remember}
        ct state established,related accept
        iifname {{ "lan", "nat64" }} oifname {{ "wan", "lan", "nat64" }} accept
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

/// What a router does with SYNs from outside before it looks at anything else.
pub(super) fn syn_rule(spec: &RouterSpec) -> &'static str {
    match spec.unexpected_syn {
        UnexpectedSyn::Drop => "",
        UnexpectedSyn::Reset => r#"iifname "wan" tcp flags & (syn | ack) == syn reject with tcp reset"#,
    }
}

/// What a router keeps its hosts from sending.
pub(super) fn egress_rules(spec: &RouterSpec) -> String {
    match spec.egress {
        Egress::All => String::new(),
        Egress::NoUdp => neither_way("udp"),
        Egress::NoTcp => neither_way("tcp"),
        Egress::Https => NOT_HTTPS.to_owned(),
    }
}

/// What differs from one kind of router to another.
struct Words {
    /// Notes what hosts send, where the kernel's own table of flows does not say enough.
    remember: &'static str,
    /// Lets in what belongs to no flow that a host began.
    admit: &'static str,
    /// Sends what comes to the public address to the host that sent from that port.
    redirect: String,
    /// Says from where flows leave.
    translate: String,
}

fn words(spec: &RouterSpec, public: Ipv4Addr) -> Words {
    let nat = spec.nat;
    let admits_strangers = nat.filtering() != Filtering::AddressAndPortDependent;
    let (mut redirect, mut translate) = (String::new(), String::new());
    if nat.translates() && admits_strangers {
        redirect += &to_mapped(r#"iifname "wan""#);
    }
    if spec.hairpin {
        redirect += &to_mapped(&format!(r#"iifname "lan" ip daddr {public}"#));
        translate += &format!("        oifname \"lan\" ct status dnat snat to {public}\n");
    }
    let remember = if redirect.is_empty() { "" } else { REMEMBER };
    let admit = match (nat.filtering(), nat.translates()) {
        // A port from which no host has sent leads nowhere: nothing is there to translate to.
        (Filtering::EndpointIndependent, true) => r#"iifname "wan" ct status dnat accept"#,
        (Filtering::EndpointIndependent, false) => r#"iifname "wan" accept"#,
        (Filtering::AddressDependent, _) => {
            r#"iifname "wan" meta l4proto . th dport . ip saddr @contacted accept"#
        }
        (Filtering::AddressAndPortDependent, _) => "",
    };
    translate += &match (nat, nat.mapping()) {
        (Nat::PortChanging { first, count }, _) => {
            let last = first.saturating_add(count.saturating_sub(1));
            // nftables refuses a range of one.
            let ports = if last == first { first.to_string() } else { format!("{first}-{last}") };
            format!(r#"        oifname "wan" meta l4proto {{ tcp, udp }} masquerade to :{ports}"#)
        }
        (_, Mapping::EndpointDependent) => r#"        oifname "wan" masquerade fully-random"#.to_owned(),
        _ if nat.translates() => r#"        oifname "wan" masquerade"#.to_owned(),
        _ => String::new(),
    };
    Words { remember, admit, redirect, translate }
}

/// Sends on what `selected` describes, to whoever sent from the port that it is for.
fn to_mapped(selected: &str) -> String {
    let to = |protocol: &str| {
        let map = format!("{protocol} dport map @{protocol}_mapped");
        format!("        {selected} meta l4proto {protocol} dnat to {map}\n")
    };
    to("udp") + &to("tcp")
}

/// From which port which host sent, and to whom. Ports are those of the host, which are the public ones
/// as well: two hosts of one network must not use the same.
fn memory(spec: &RouterSpec) -> String {
    let udp = spec.udp_timeout.unwrap_or(REMEMBERED).as_secs();
    let tcp = REMEMBERED.as_secs();
    let map = "type inet_service : ipv4_addr . inet_service; flags dynamic,timeout;";
    format!(
        "    map udp_mapped {{ {map} timeout {udp}s; }}
    map tcp_mapped {{ {map} timeout {tcp}s; }}
    set contacted {{
        type inet_proto . inet_service . ipv4_addr; flags dynamic,timeout; timeout {udp}s;
    }}"
    )
}

/// Empties that memory.
pub(super) const FORGET: &str =
    "flush map ip lab udp_mapped\nflush map ip lab tcp_mapped\nflush set ip lab contacted\n";

/// How long a port from which nothing is sent any more stays open, where nothing else is asked for.
const REMEMBERED: Duration = Duration::from_secs(300);

const REMEMBER: &str = r#"        iifname { "lan", "nat64" } oifname "wan" update @udp_mapped { udp sport : ip saddr . udp sport }
        iifname { "lan", "nat64" } oifname "wan" update @tcp_mapped { tcp sport : ip saddr . tcp sport }
        iifname { "lan", "nat64" } oifname "wan" meta l4proto { tcp, udp } update @contacted { meta l4proto . th sport . ip daddr }"#;

const NOT_HTTPS: &str = r#"        oifname "wan" meta l4proto != tcp drop
        iifname "wan" meta l4proto udp drop
        iifname { "lan", "nat64" } oifname "wan" ct state new tcp dport != 443 drop"#;

fn neither_way(protocol: &str) -> String {
    format!(
        r#"        oifname "wan" meta l4proto {protocol} drop
        iifname "wan" meta l4proto {protocol} drop"#
    )
}

/// Declarations of the counters, and the rules that move them.
fn direct_counters(others: &[Other]) -> (String, String) {
    let (mut counters, mut rules) = (String::new(), String::new());
    for (other, seen) in others {
        let name = direct_counter(*other);
        let _ = writeln!(counters, "    counter {name} {{ }}");
        for direction in ["daddr", "saddr"] {
            let _ = writeln!(rules, "        ip {direction} {{ {seen} }} counter name {name}");
        }
    }
    (counters, rules)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PUBLIC: Ipv4Addr = Ipv4Addr::new(73, 0, 0, 11);

    #[test]
    fn a_port_changing_router_rewrites_to_its_ports() {
        let spec = RouterSpec::new(Nat::PortChanging { first: 35000, count: 10 });
        assert!(ruleset(&spec, PUBLIC, &[]).contains("masquerade to :35000-35009\n"));
        let spec = RouterSpec::new(Nat::PortChanging { first: 35000, count: 1 });
        assert!(ruleset(&spec, PUBLIC, &[]).contains("masquerade to :35000\n"));
    }

    #[test]
    fn only_a_resetting_router_answers_a_syn() {
        let mut spec = RouterSpec::new(Nat::PortPreserving);
        assert!(!ruleset(&spec, PUBLIC, &[]).contains("reject"));
        spec.unexpected_syn = UnexpectedSyn::Reset;
        assert!(ruleset(&spec, PUBLIC, &[]).contains("reject with tcp reset"));
    }

    #[test]
    fn only_routers_that_let_strangers_in_remember_who_sent() {
        let remembers =
            |nat: &Nat| ruleset(&RouterSpec::new(*nat), PUBLIC, &[]).contains("update @udp_mapped");
        let remembering: Vec<_> = Nat::ALL.into_iter().filter(remembers).collect();
        assert_eq!(remembering, [Nat::FullCone, Nat::AddressRestricted]);
    }

    #[test]
    fn each_other_router_is_counted_by_name() {
        let others = [(1, "73.0.0.12, 74.0.2.0/24".to_owned()), (2, "73.0.0.13".to_owned())];
        let rules = ruleset(&RouterSpec::new(Nat::PortPreserving), PUBLIC, &others);
        assert!(rules.contains("ip saddr { 73.0.0.12, 74.0.2.0/24 } counter name direct1"));
        assert!(rules.contains("ip daddr { 73.0.0.13 } counter name direct2"));
    }
}
