//! The checks of the network.

use punchline_bridge::{
    addr::GlobalScope,
    error::Family,
    nat::{NatClass, NatKind},
    path::Transport,
    survey::{Hairpin, RouterAnswer},
};

use super::{check, lacks, mapped, reached, udp_answers, udp_is_lost};
use crate::{
    doctor::{
        diagnosis::{Check, Verdict},
        findings::{Fault, Findings, RelayFinding},
    },
    report::clocks_apart,
};

/// What a check says that takes somebody outside.
const NEEDS_RELAY: &str = "nobody outside was named to try it with";
const NAME_RELAY: &str = "name a relay with --relay ADDR";

/// Likewise, where whoever was asked may be away.
const NOBODY_REACHED: &str = "no relay was reached to try it with";

pub(super) fn ipv4(found: &Findings) -> Check {
    match (found.v4, found.v6) {
        (Some(ip), _) => check("ipv4", Verdict::Ok, format!("{ip} leads out")),
        (None, Some(_)) if lacks(found, Family::V4) => check(
            "ipv4",
            Verdict::Bad,
            "there is no route out over IPv4, and the relay is named by IPv4 addresses alone",
        )
        .advise("connect this host to a network with IPv4, or name an IPv6 address of the relay"),
        (None, Some(_)) => check("ipv4", Verdict::Warning, "there is no route out over IPv4")
            .advise("peers that have IPv4 alone are reached through a relay, or this network's NAT64"),
        (None, None) => {
            check("ipv4", Verdict::Bad, "there is no route out, neither over IPv4 nor over IPv6")
                .advise("connect this host to a network; `ip route` must show a default route")
        }
    }
}

pub(super) fn ipv6(found: &Findings, global: &GlobalScope) -> Check {
    match found.v6 {
        Some(ip) if global.contains(ip) => check("ipv6", Verdict::Ok, format!("{ip} leads out")),
        Some(ip) => check("ipv6", Verdict::Warning, format!("{ip} leads out, which is not public"))
            .advise(
                "direct paths rest on IPv4 and its NATs; a public IPv6 address would give another way",
            ),
        None if found.v4.is_none() => {
            check("ipv6", Verdict::Skipped, "there is no route out at all: see `ipv4`")
        }
        None if lacks(found, Family::V6) => check(
            "ipv6",
            Verdict::Bad,
            "there is no route out over IPv6, and the relay is named by IPv6 addresses alone",
        )
        .advise("connect this host to a network with IPv6, or name an IPv4 address of the relay"),
        None => check("ipv6", Verdict::Warning, "there is no route out over IPv6").advise(
            "direct paths rest on IPv4 and its NATs; ask the provider for IPv6 if they fail too often",
        ),
    }
}

pub(super) fn dns(found: &Findings) -> Vec<Check> {
    if found.names.is_empty() {
        let none = match found.relays.is_empty() {
            true => "no relay was named to look up",
            false => "no relay is given by a name, so none is needed",
        };
        return vec![check("dns", Verdict::Skipped, none)];
    }
    let each = found.names.iter().map(|(name, answer)| match answer {
        Ok(ips) if !ips.is_empty() => {
            let ips: Vec<String> = ips.iter().map(ToString::to_string).collect();
            check("dns", Verdict::Ok, format!("it is {}", ips.join(", "))).of(name)
        }
        // The proxy looks it up.
        _ if proxied_alone(found, name) => {
            check("dns", Verdict::Skipped, "it cannot be looked up here; the proxy does that").of(name)
        }
        Ok(_) => unresolved("it has no address").of(name),
        Err(cause) => unresolved(&format!("it cannot be looked up ({cause})")).of(name),
    });
    each.collect()
}

fn proxied_alone(found: &Findings, name: &str) -> bool {
    let mut named = found
        .relays
        .iter()
        .filter(|relay| crate::doctor::probe::name_of(&relay.address).as_deref() == Some(name))
        .peekable();
    named.peek().is_some() && named.all(|relay| relay.proxied)
}

fn unresolved(found: &str) -> Check {
    check("dns", Verdict::Bad, found).advise(
        "see whether the name is right and the name servers in /etc/resolv.conf answer, or give the relay by its IP address",
    )
}

/// Whether a relay that is there over TCP shows that nothing comes back over UDP.
pub(super) fn udp_is_blocked(found: &Findings) -> bool {
    let tcp = reached(found, Transport::Tcp) || reached(found, Transport::Websocket);
    tcp && was_asked_over_udp(found) && !udp_answers(found)
}

fn was_asked_over_udp(found: &Findings) -> bool {
    found.hairpin.is_some() || found.relays.iter().any(|relay| relay.transport == Transport::Quic)
}

pub(super) fn udp(found: &Findings) -> Check {
    match () {
        () if udp_answers(found) => check("udp", Verdict::Ok, "it gets out, and answers come back"),
        () if !was_asked_over_udp(found) => {
            check("udp", Verdict::Skipped, NEEDS_RELAY).advise(NAME_RELAY)
        }
        () if udp_is_blocked(found) => check("udp", Verdict::Warning, "nothing comes back over UDP, while the relay is there over TCP").advise(
            "this network or the relay's firewall blocks UDP: peers are reached over TCP alone; let UDP out, and QUIC and \
             UDP ports 3478 and 3479 in at the relay",
        ),
        () if udp_is_lost(found) => {
            check("udp", Verdict::Bad, "nothing comes back over UDP, and the relay is named over nothing else")
                .advise("let UDP out, or name an address of the relay over TCP as well")
        }
        () => check("udp", Verdict::Skipped, NOBODY_REACHED),
    }
}

pub(super) fn tcp(found: &Findings) -> Check {
    let plain = |relay: &&RelayFinding| relay.transport == Transport::Tcp;
    let tried: Vec<&RelayFinding> = found.relays.iter().filter(plain).collect();
    // Whoever hangs or is somebody else was reached over TCP.
    let connects = |relay: &&RelayFinding| match &relay.reached {
        Ok(()) => true,
        // Who refuses may be a firewall on the way.
        Err(fault) => !matches!(
            fault,
            Fault::Unresolved { .. }
                | Fault::TcpRefused { .. }
                | Fault::TcpTimeout { .. }
                | Fault::TcpUnreachable { .. }
                | Fault::Deadline { .. }
        ),
    };
    let web = reached(found, Transport::Websocket);
    match () {
        () if tried.iter().any(connects) => check("tcp", Verdict::Ok, "it gets out to other ports than the web's"),
        () if found.relays.is_empty() => check("tcp", Verdict::Skipped, NEEDS_RELAY).advise(NAME_RELAY),
        () if tried.is_empty() && !web => check("tcp", Verdict::Skipped, "no relay was named by an address over TCP")
            .advise("name an address of a relay that ends in /tcp/<port>/p2p/<id>"),
        () if tried.is_empty() => check("tcp", Verdict::Skipped, "only WebSockets of relays were named")
            .advise("name an address of the relay that ends in /tcp/<port>/p2p/<id> as well"),
        () if web || reached(found, Transport::Quic) => {
            check("tcp", Verdict::Warning, "no relay is reached over TCP but by what looks like the web, or UDP").advise(
                "this network lets few ports out over TCP: hole punches over TCP will fail; ask its operator to let it out",
            )
        }
        // Something else of what was asked is there.
        () if udp_answers(found) => check("tcp", Verdict::Bad, "no relay is reached over TCP, while answers come over UDP").advise(
            "see the relays' verdicts; where only port 443 gets out, name an address that ends in /tcp/443/tls/ws",
        ),
        () => check("tcp", Verdict::Skipped, NOBODY_REACHED),
    }
}

pub(super) fn port_443(found: &Findings) -> Check {
    let at = |relay: &&RelayFinding| relay.port == Some(443) && relay.transport != Transport::Quic;
    let mut tried = found.relays.iter().filter(at).peekable();
    if tried.peek().is_none() {
        return check("port_443", Verdict::Skipped, "no relay address at TCP port 443 was named").advise(
            "a relay that listens on /tcp/443/tls/ws is reached from networks where little else gets out",
        );
    }
    match tried.any(|relay| relay.reached.is_ok()) {
        true => check("port_443", Verdict::Ok, "the relay is reached there"),
        false if found.relays.iter().all(|relay| relay.reached.is_err()) => {
            check("port_443", Verdict::Skipped, NOBODY_REACHED)
        }
        false => check("port_443", Verdict::Warning, "no relay is reached there")
            .advise("see the relay's verdict; networks that are strict let out nothing else"),
    }
}

pub(super) fn proxy(found: &Findings) -> Check {
    let Some(proxy) = &found.proxy else {
        return check("proxy", Verdict::Ok, "none is set, and none is used");
    };
    let name = &proxy.proxy;
    let through: Vec<&RelayFinding> = found.relays.iter().filter(|relay| relay.proxied).collect();
    match &proxy.answers {
        Err(cause) => check("proxy", Verdict::Bad, format!("{name} takes no connection ({cause})"))
            .advise("see whether it is up and --proxy or HTTPS_PROXY is right, or say --proxy off"),
        Ok(()) if through.is_empty() => check(
            "proxy",
            Verdict::Warning,
            format!("{name} is up, and no relay is reached through it"),
        )
        .advise(
            "a proxy is used for relay addresses that end in /tls/ws alone: name one, at port 443 best",
        ),
        Ok(()) if through.iter().any(|relay| relay.reached.is_ok()) => {
            check("proxy", Verdict::Ok, format!("the relay is reached through {name}"))
        }
        Ok(()) => {
            check("proxy", Verdict::Bad, format!("{name} is up, and no relay is reached through it"))
                .advise("see the relay's verdict for what the proxy said")
        }
    }
}

pub(super) fn nat(found: &Findings) -> Check {
    let (v4, v6) = (found.node.nat_v4, found.node.nat_v6);
    if let Some(cause) = &found.node.start {
        return check("nat", Verdict::Bad, format!("no node can listen here ({cause})"))
            .advise("let this user open sockets");
    }
    if (v4, v6) == Default::default() {
        let asked = !found.relays.is_empty() || found.hairpin.is_some();
        return match asked {
            true => {
                check("nat", Verdict::Skipped, "nobody answered who could tell how others see this host")
                    .advise(
                        "name a relay that is reached, or a STUN server with --stun-server HOST:PORT",
                    )
            }
            false => check("nat", Verdict::Skipped, NEEDS_RELAY)
                .advise("name a relay with --relay ADDR, or a STUN server with --stun-server HOST:PORT"),
        };
    }
    let words =
        |nat: NatKind, family: &str| (nat != NatKind::default()).then(|| format!("{family}: {nat}"));
    let found =
        [words(v4, "IPv4"), words(v6, "IPv6")].into_iter().flatten().collect::<Vec<_>>().join("; ");
    match (v4.class(), v6.class()) {
        (NatClass::Symmetric, _) => check("nat", Verdict::Warning, found).advise(
            "hole punches fail with most NATs at the other end; let the router forward a port (UPnP, NAT-PMP or PCP), or \
             use IPv6",
        ),
        _ => check("nat", Verdict::Ok, found),
    }
}

pub(super) fn hairpin(found: &Findings) -> Check {
    match found.hairpin {
        None => check("hairpin", Verdict::Skipped, NEEDS_RELAY)
            .advise("name a relay with --relay ADDR, or a STUN server with --stun-server HOST:PORT"),
        Some(Hairpin::Unknown) => check("hairpin", Verdict::Skipped, "no STUN server answered")
            .advise("name one with --stun-server HOST:PORT"),
        Some(Hairpin::NotPublic) => check(
            "hairpin",
            Verdict::Skipped,
            "the STUN server does not see this host at one public address, and nothing was sent where it says",
        ),
        Some(Hairpin::NoNat) => check("hairpin", Verdict::Ok, "there is no NAT to go through twice"),
        Some(Hairpin::Works) => {
            check("hairpin", Verdict::Ok, "the router sends back what goes to its own public address")
        }
        Some(Hairpin::Fails) => check(
            "hairpin",
            Verdict::Ok,
            "nothing that this host sends to its own public address comes back from the router; peers in this network are \
             reached at their own addresses",
        ),
    }
}

pub(super) fn port_mapping(found: &Findings, global: &GlobalScope) -> Check {
    const CHECK: &str = "port_mapping";
    let Some(answers) = &found.mapping else {
        return check(CHECK, Verdict::Skipped, "no router was asked");
    };
    let say = |(by, answer): &(_, RouterAnswer)| match answer {
        RouterAnswer::Forwards(at) => format!("{by} forwards from {}", at.ip()),
        RouterAnswer::Refuses { cause } => format!("{by} refuses ({cause})"),
        RouterAnswer::Silent => format!("{by} has no answer"),
    };
    let all = answers.iter().map(say).collect::<Vec<_>>().join(", ");
    let forwards = answers.iter().any(|(_, answer)| matches!(answer, RouterAnswer::Forwards(_)));
    let class = found.node.nat_v4.class();
    let punched = !matches!(class, NatClass::Unknown | NatClass::Symmetric);
    match (mapped(found, global), forwards) {
        (true, _) => check(CHECK, Verdict::Ok, all),
        (false, true) => check(CHECK, Verdict::Warning, format!("{all}, which is not public")).advise(
            "the router is behind another NAT, so only hosts between the two come in; ask the provider for a public address",
        ),
        (false, false) if punched => {
            check(CHECK, Verdict::Ok, format!("{all}; hole punches do without here"))
        }
        (false, false) if class == NatClass::Unknown => check(
            CHECK,
            Verdict::Skipped,
            format!("{all}; whether that is needed is not known, since the kind of NAT is not"),
        ),
        (false, false) => check(CHECK, Verdict::Warning, all)
            .advise("switch UPnP, NAT-PMP or PCP on in the router, if hole punches fail"),
    }
}

/// One relay alone may be the one that is wrong; where others agree with this host, it is.
pub(super) fn clock(found: &Findings) -> Check {
    let clocks = &found.node.clocks;
    let agree = clocks.values().filter(|ahead| **ahead == 0).count();
    let Some((relay, ahead)) = clocks.iter().find(|(_, ahead)| **ahead != 0) else {
        return match agree {
            0 => check("clock", Verdict::Skipped, "no relay told the time to compare with"),
            _ => check("clock", Verdict::Ok, "it agrees with the relay's to a minute and a half"),
        };
    };
    let (apart, off) = (clocks_apart(*ahead), if *ahead > 0 { "behind" } else { "ahead of" });
    match agree {
        0 => check("clock", Verdict::Warning, format!("this host is {apart} {off} the relay")).advise(
            "set the clock (NTP) here or there: tickets expire by it, and logs cannot be compared",
        ),
        _ => check(
            "clock",
            Verdict::Warning,
            format!("this host is {apart} {off} the relay {relay}, and agrees with {agree} other"),
        )
        .advise("tell the operator of that relay that its clock is wrong"),
    }
}

/// QUIC's smallest datagram with the headers of IPv6 and UDP.
const MTU_LEAST: u32 = 1248;

pub(super) fn mtu(found: &Findings) -> Check {
    let named = [(found.mtu_v4, "IPv4"), (found.mtu_v6, "IPv6")];
    let known: Vec<(u32, &str)> =
        named.into_iter().filter_map(|(mtu, family)| Some((mtu?, family))).collect();
    if known.is_empty() {
        return check("mtu", Verdict::Skipped, "nothing leads out whose packets could be measured");
    }
    let words = known
        .iter()
        .map(|(mtu, family)| format!("{mtu} bytes over {family}"))
        .collect::<Vec<_>>()
        .join(", ");
    match known.iter().all(|(mtu, _)| *mtu >= MTU_LEAST) {
        true => check("mtu", Verdict::Ok, words),
        false => check("mtu", Verdict::Warning, words).advise(format!(
            "QUIC needs packets of {MTU_LEAST} bytes, so peers are reached over TCP alone; raise the MTU of the interface \
             or tunnel that leads out"
        )),
    }
}
