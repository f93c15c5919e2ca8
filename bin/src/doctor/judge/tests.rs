#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;

use punchline_bridge::event::MappingProtocol;

use super::*;
use crate::control::proto::External;
use crate::doctor::findings::{
    Foreign, IdentityFinding, Layer, ListenFinding, Listens, NodeFinding, ProxyFinding, StateFinding,
    Taken, Unwritable,
};

const RELAY: &str = "12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp";
const OTHER: &str = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";

const PORT_RESTRICTED: NatKind = NatKind {
    mapping: Some(Mapping::EndpointIndependent),
    filtering: Some(Filtering::AddressAndPortDependent),
};
const ADDRESS_RESTRICTED: NatKind =
    NatKind { filtering: Some(Filtering::AddressDependent), ..PORT_RESTRICTED };
const FULL_CONE: NatKind = NatKind {
    mapping: Some(Mapping::EndpointIndependent),
    filtering: Some(Filtering::EndpointIndependent),
};

fn at() -> SocketAddr {
    "203.0.113.7:4001".parse().unwrap()
}

fn relay(address: &str, reached: Result<(), Fault>) -> RelayFinding {
    let address = format!("{address}/p2p/{RELAY}").parse().unwrap();
    RelayFinding {
        relay: RELAY.parse().unwrap(),
        transport: crate::doctor::probe::transport_of(&address),
        port: crate::doctor::probe::port_of(&address),
        proxied: false,
        reached,
        address,
    }
}

fn tcp(reached: Result<(), Fault>) -> RelayFinding {
    relay("/ip4/203.0.113.7/tcp/4001", reached)
}

fn quic(reached: Result<(), Fault>) -> RelayFinding {
    relay("/ip4/203.0.113.7/udp/4001/quic-v1", reached)
}

fn web(reached: Result<(), Fault>) -> RelayFinding {
    relay("/dns4/relay.example/tcp/443/tls/ws", reached)
}

/// A home with IPv4 behind an ordinary router, and a relay that is reached.
fn home() -> Findings {
    Findings {
        relays: vec![tcp(Ok(())), quic(Ok(()))],
        v4: Some("192.168.1.7".parse().unwrap()),
        node: NodeFinding {
            nat_v4: PORT_RESTRICTED,
            clocks: [(RELAY.parse().unwrap(), 0)].into(),
            ..NodeFinding::default()
        },
        hairpin: Some(Hairpin::Fails),
        state: Some(StateFinding { directory: "/state".into(), writable: Ok(()), has_identity: true }),
        open_files: Some(4096),
        mtu_v4: Some(1500),
        ..Findings::default()
    }
}

fn judged(found: &Findings) -> Diagnosis {
    judge(found, &GlobalScope::default(), Duration::ZERO)
}

/// The verdict on the first check of this name, and all that it says.
fn of(found: &Findings, name: &str) -> (Verdict, String) {
    let diagnosis = judged(found);
    let check = diagnosis.checks.iter().find(|check| check.check == name).unwrap();
    (check.verdict, crate::doctor::screen::sentence(check))
}

#[track_caller]
fn says(found: &Findings, name: &str, verdict: Verdict, words: &str) {
    let (judged, said) = of(found, name);
    assert_eq!(judged, verdict, "{name}: {said}");
    assert!(said.contains(words), "`{words}` is missing in: {said}");
}

const SILENT_UDP: fn() -> Fault = || Fault::UdpSilent { at: at(), seconds: 3 };
const SILENT_TCP: fn() -> Fault = || Fault::TcpTimeout { at: at(), seconds: 4 };

#[test]
fn at_home_nothing_is_bad_and_most_peers_are_reached_directly() {
    let diagnosis = judged(&home());
    assert_eq!((diagnosis.bad, diagnosis.expect), (0, Expectation::DirectWithMost));
    for check in &diagnosis.checks {
        assert!(
            matches!(check.verdict, Verdict::Ok | Verdict::Skipped) || check.check == "ipv6",
            "{check:?}"
        );
    }
}

#[test]
fn an_address_that_the_operator_states_is_bad_where_a_relay_found_nobody() {
    let stated = |state: &str| External {
        address: "/ip4/198.51.100.4/tcp/7000".to_owned(),
        state: state.to_owned(),
        relay: Some(RELAY.to_owned()),
        listener: Some("/ip4/192.168.1.7/tcp/4001".to_owned()),
    };
    let found = |state| Findings { external: vec![stated(state)], ..home() };
    says(&found("confirmed"), "external", Verdict::Ok, "/ip4/198.51.100.4/tcp/7000: a relay reached");
    says(&found("unchecked"), "external", Verdict::Skipped, "--relay");
    says(
        &found("unanswered"),
        "external",
        Verdict::Bad,
        "TCP port 7000 to this host, 192.168.1.7, port 4001",
    );
    assert!(judged(&home()).checks.iter().all(|check| check.check != "external"));
}

#[test]
fn without_a_relay_it_says_which_checks_need_one() {
    let found = Findings { relays: Vec::new(), hairpin: None, node: NodeFinding::default(), ..home() };
    for name in ["udp", "tcp", "nat", "hairpin"] {
        says(&found, name, Verdict::Skipped, "--relay");
    }
    assert_eq!((judged(&found).bad, judged(&found).expect), (0, Expectation::NotKnown));
}

#[test]
fn a_host_without_any_way_out_is_bad_and_one_without_ipv6_is_not() {
    says(&home(), "ipv6", Verdict::Warning, "no route out over IPv6");
    let v6 = Findings { v4: None, v6: "2a00::7".parse().ok(), ..home() };
    says(&v6, "ipv4", Verdict::Warning, "no route out over IPv4");
    says(&v6, "ipv6", Verdict::Ok, "2a00::7");
    let local = Findings { v6: "fd00::7".parse().ok(), ..home() };
    says(&local, "ipv6", Verdict::Warning, "not public");
    let none = Findings { v4: None, ..home() };
    says(&none, "ipv4", Verdict::Bad, "neither over IPv4 nor over IPv6");
}

#[test]
fn a_name_that_cannot_be_looked_up_is_bad_unless_a_proxy_does_that() {
    let failed = || ("relay.example".to_owned(), Err("no answer within 3 s".to_owned()));
    let found = Findings { names: vec![failed()], relays: vec![web(Ok(()))], ..home() };
    says(
        &found,
        "dns",
        Verdict::Bad,
        "relay.example: it cannot be looked up (no answer within 3 s); see whether",
    );
    let mut proxied = Findings { names: vec![failed()], relays: vec![web(Ok(()))], ..home() };
    proxied.relays[0].proxied = true;
    says(&proxied, "dns", Verdict::Skipped, "the proxy does that");
    let answered = vec![("relay.example".to_owned(), Ok(vec![at().ip()]))];
    says(&Findings { names: answered, ..home() }, "dns", Verdict::Ok, "it is 203.0.113.7");
    says(&home(), "dns", Verdict::Skipped, "no relay is given by a name");
}

#[test]
fn each_fault_of_a_relay_names_its_layer_and_what_to_do() {
    let text = || "cause".to_owned();
    let (wanted, obtained) = (RELAY.parse().unwrap(), OTHER.parse().unwrap());
    for (fault, layer, words) in [
        (Fault::Unresolved { name: text(), cause: text() }, Layer::Name, "name servers"),
        (Fault::TcpRefused { at: at() }, Layer::Tcp, "refuses connections"),
        (SILENT_TCP(), Layer::Tcp, "within 4 s"),
        (Fault::TcpUnreachable { at: at(), cause: text() }, Layer::Tcp, "no way"),
        (Fault::UdpRefused { at: at() }, Layer::Quic, "nothing listens"),
        (SILENT_UDP(), Layer::Quic, "drops UDP"),
        (Fault::Websocket { cause: text() }, Layer::Websocket, "cause"),
        (Fault::Silent { seconds: 3 }, Layer::Security, "says nothing for 3 s"),
        (Fault::HungUp, Layer::Security, "closes them at once"),
        (Fault::Handshake { cause: text() }, Layer::Security, "handshake failed"),
        (Fault::WrongPeer { wanted, obtained }, Layer::Identity, OTHER),
        (Fault::Foreign(Foreign::Http), Layer::Protocol, "an HTTP server answers there"),
        (Fault::Foreign(Foreign::Tls), Layer::Protocol, "/tls/ws"),
        (Fault::NoPlace { cause: text() }, Layer::Protocol, "keeps no place"),
        (Fault::NotOurs, Layer::Protocol, "neither punchline's streams"),
        (Fault::Deadline { layer: Layer::Tcp, seconds: 9 }, Layer::Tcp, "within 9 s"),
    ] {
        let found = Findings { relays: vec![tcp(Err(fault))], ..home() };
        says(&found, "relay", Verdict::Bad, words);
        says(&found, "relay", Verdict::Bad, &format!("{} fails: ", layer.name()));
        assert_eq!(
            judged(&found).checks.iter().find(|check| check.check == "relay").unwrap().layer,
            Some(layer)
        );
        assert_eq!(judged(&found).expect, Expectation::Nobody);
    }
}

#[test]
fn one_address_of_a_relay_that_fails_is_a_warning_and_a_wrong_identity_is_bad() {
    let found =
        Findings { relays: vec![tcp(Err(Fault::TcpRefused { at: at() })), quic(Ok(()))], ..home() };
    says(&found, "relay", Verdict::Warning, "refuses");
    let wrong = Fault::WrongPeer { wanted: RELAY.parse().unwrap(), obtained: OTHER.parse().unwrap() };
    let found = Findings { relays: vec![tcp(Err(wrong)), quic(Ok(()))], ..home() };
    says(&found, "relay", Verdict::Bad, "was wanted");
}

#[test]
fn where_udp_is_blocked_it_is_said_and_peers_are_reached_over_tcp() {
    let nat_v4 = NatKind { mapping: Some(Mapping::EndpointIndependent), filtering: None };
    let node = NodeFinding { nat_v4, ..NodeFinding::default() };
    let relays = || vec![tcp(Ok(())), quic(Err(SILENT_UDP()))];
    let found = Findings { relays: relays(), node, hairpin: Some(Hairpin::Unknown), ..home() };
    says(&found, "udp", Verdict::Warning, "blocks UDP");
    assert_eq!(judged(&found).expect, Expectation::DirectOverTcp);
    let node = NodeFinding::default();
    let unknown = Findings { node, hairpin: Some(Hairpin::Unknown), relays: relays(), ..home() };
    assert_eq!(judged(&unknown).expect, Expectation::DirectOverTcp, "the kind is found out over UDP");
    let alone =
        Findings { relays: vec![quic(Err(SILENT_UDP()))], node: NodeFinding::default(), ..found };
    says(&alone, "udp", Verdict::Bad, "over nothing else");
    let blamed = says_nothing_else(&Findings { relays: relays(), ..unknown });
    assert_eq!(blamed, ["ipv6", "udp"], "neither the relay's address over QUIC nor the router");
}

#[test]
fn a_relay_that_is_down_is_no_verdict_on_udp_or_tcp() {
    let relays =
        vec![tcp(Err(Fault::TcpRefused { at: at() })), quic(Err(Fault::UdpRefused { at: at() }))];
    let found =
        Findings { relays, hairpin: Some(Hairpin::Unknown), node: NodeFinding::default(), ..home() };
    says(&found, "udp", Verdict::Skipped, "no relay was reached");
    says(&found, "tcp", Verdict::Skipped, "no relay was reached");
    says(&found, "nat", Verdict::Skipped, "nobody answered");
}

/// The checks that something is wrong with.
fn says_nothing_else(found: &Findings) -> Vec<&'static str> {
    let checks = judged(found).checks.into_iter();
    checks
        .filter(|check| matches!(check.verdict, Verdict::Bad | Verdict::Warning))
        .map(|check| check.check)
        .collect()
}

#[test]
fn what_fails_for_what_another_check_says_is_not_blamed() {
    let name = "relay.example".to_owned();
    let unresolved = Fault::Unresolved { name, cause: "no answer".to_owned() };
    let nobody = || Findings { hairpin: Some(Hairpin::Unknown), node: NodeFinding::default(), ..home() };
    let names = vec![("relay.example".to_owned(), Err("no answer".to_owned()))];
    let named = Findings { names, relays: vec![web(Err(unresolved))], ..nobody() };
    assert_eq!(says_nothing_else(&named), ["ipv6", "dns"]);
    // Whoever hangs is silent over UDP too.
    let relays = || vec![tcp(Err(Fault::Silent { seconds: 3 })), quic(Err(SILENT_UDP()))];
    let hung = Findings { relays: relays(), ..nobody() };
    assert_eq!(says_nothing_else(&hung), ["ipv6", "relay", "relay"]);
    let diagnosis = judged(&hung);
    let over_udp = diagnosis.checks.iter().find(|check| check.layer == Some(Layer::Quic)).unwrap();
    assert!(over_udp.advice.as_ref().unwrap().contains("it hangs"), "{over_udp:?}");
    // A relay whose host is away may be away: no network is to blame.
    let away = vec![tcp(Err(SILENT_TCP())), quic(Err(SILENT_UDP())), web(Err(SILENT_TCP()))];
    assert_eq!(
        says_nothing_else(&Findings { relays: away, ..nobody() }),
        ["ipv6", "relay", "relay", "relay"]
    );
    let v6 = || Fault::TcpUnreachable { at: "[2a00::1]:1".parse().unwrap(), cause: String::new() };
    let both = vec![tcp(Ok(())), relay("/ip6/2a00::1/tcp/1", Err(v6()))];
    assert_eq!(says_nothing_else(&Findings { relays: both, ..home() }), ["ipv6"]);
    let v6_alone = Findings { relays: vec![relay("/ip6/2a00::1/tcp/1", Err(v6()))], ..nobody() };
    says(&v6_alone, "ipv6", Verdict::Bad, "IPv6 addresses alone");
    assert_eq!(says_nothing_else(&v6_alone), ["ipv6"]);
}

#[test]
fn a_port_that_is_taken_is_bad_unless_the_node_here_has_it() {
    let with = |can| {
        let address = "/ip4/0.0.0.0/tcp/4001".parse().unwrap();
        Findings { listening: vec![ListenFinding { address, can }], ..home() }
    };
    says(&home(), "listen", Verdict::Ok, "any that is free");
    says(&with(Ok(Listens::Free)), "listen", Verdict::Ok, "/ip4/0.0.0.0/tcp/4001: it can be");
    says(&with(Ok(Listens::Already)), "listen", Verdict::Ok, "the node that runs here");
    let found = "TCP port 4001 is taken by nginx (process 12)".to_owned();
    says(&with(Err(Taken::Port { found })), "listen", Verdict::Bad, "nginx (process 12); stop it");
}

#[test]
fn where_only_https_gets_out_peers_stay_relayed() {
    let relays = vec![tcp(Err(SILENT_TCP())), quic(Err(SILENT_UDP())), web(Ok(()))];
    let node = NodeFinding::default();
    let found = Findings { relays, node, hairpin: Some(Hairpin::Unknown), ..home() };
    says(&found, "port_443", Verdict::Ok, "reached there");
    says(&found, "tcp", Verdict::Warning, "few ports out");
    assert_eq!((judged(&found).bad, judged(&found).expect), (0, Expectation::RelayedOverHttps));
    let relays = vec![web(Err(SILENT_TCP())), tcp(Ok(()))];
    says(&Findings { relays, ..home() }, "port_443", Verdict::Warning, "no relay is reached there");
    says(&home(), "port_443", Verdict::Skipped, "/tcp/443/tls/ws");
}

#[test]
fn a_proxy_must_be_up_and_lead_to_a_relay() {
    let proxy = |answers| Some(ProxyFinding { proxy: "proxy:3128".to_owned(), answers });
    let through = |reached| {
        let mut relay = web(reached);
        relay.proxied = true;
        vec![relay]
    };
    says(&home(), "proxy", Verdict::Ok, "none is set");
    let down = Findings { proxy: proxy(Err("refused".to_owned())), ..home() };
    says(&down, "proxy", Verdict::Bad, "proxy:3128 takes no connection (refused)");
    says(&Findings { proxy: proxy(Ok(())), ..home() }, "proxy", Verdict::Warning, "/tls/ws alone");
    let reached = Findings { proxy: proxy(Ok(())), relays: through(Ok(())), ..home() };
    says(&reached, "proxy", Verdict::Ok, "through proxy:3128");
    let cause = "the proxy forbids it".to_owned();
    let refused =
        Findings { proxy: proxy(Ok(())), relays: through(Err(Fault::Websocket { cause })), ..home() };
    says(&refused, "proxy", Verdict::Bad, "no relay is reached through it");
}

#[test]
fn what_to_expect_follows_from_the_nat_a_mapped_port_and_ipv6() {
    let behind = |nat_v4| Findings { node: NodeFinding { nat_v4, ..NodeFinding::default() }, ..home() };
    let unknown = NatKind::default();
    for (nat, expect) in [
        (FULL_CONE, Expectation::DirectWithNearlyAll),
        (ADDRESS_RESTRICTED, Expectation::DirectWithNearlyAll),
        (PORT_RESTRICTED, Expectation::DirectWithMost),
        (SYMMETRIC, Expectation::DirectWithSome),
        (unknown, Expectation::RelayedAtLeast),
    ] {
        assert_eq!(judged(&behind(nat)).expect, expect, "{nat}");
    }
    says(&behind(SYMMETRIC), "nat", Verdict::Warning, "symmetric");
    let v6 = Findings { v6: "2a00::7".parse().ok(), ..behind(SYMMETRIC) };
    assert_eq!(judged(&v6).expect, Expectation::DirectOverIpv6);
    let mapped = Findings { mapping: Some(forwards("8.8.4.4:4001")), ..behind(SYMMETRIC) };
    assert_eq!(judged(&mapped).expect, Expectation::DirectWithNearlyAll);
    let private = Findings { mapping: Some(forwards("192.168.0.2:4001")), ..behind(SYMMETRIC) };
    assert_eq!(judged(&private).expect, Expectation::DirectWithSome);
}

fn forwards(at: &str) -> Vec<(MappingProtocol, RouterAnswer)> {
    let silent = (MappingProtocol::Pcp, RouterAnswer::Silent);
    vec![silent, (MappingProtocol::Upnp, RouterAnswer::Forwards(at.parse().unwrap()))]
}

#[test]
fn each_mapping_protocol_has_its_answer_told() {
    let node = NodeFinding::default();
    let silent = Some(vec![(MappingProtocol::Pcp, RouterAnswer::Silent)]);
    let unknown = Findings { mapping: silent, node, ..home() };
    says(&unknown, "port_mapping", Verdict::Skipped, "the kind of NAT is not");
    let mapped = Findings { mapping: Some(forwards("8.8.4.4:4001")), ..home() };
    says(&mapped, "port_mapping", Verdict::Ok, "PCP has no answer, UPnP forwards from 8.8.4.4");
    let private = Findings { mapping: Some(forwards("10.0.0.1:4001")), ..home() };
    says(&private, "port_mapping", Verdict::Warning, "behind another NAT");
    let cause = "not authorized".to_owned();
    let refuses = Some(vec![(MappingProtocol::NatPmp, RouterAnswer::Refuses { cause })]);
    says(
        &Findings { mapping: refuses.clone(), ..home() },
        "port_mapping",
        Verdict::Ok,
        "NAT-PMP refuses",
    );
    let node = NodeFinding { nat_v4: SYMMETRIC, ..NodeFinding::default() };
    says(
        &Findings { mapping: refuses, node, ..home() },
        "port_mapping",
        Verdict::Warning,
        "switch UPnP",
    );
}

#[test]
fn the_clock_is_judged_by_a_relay_that_tells_the_time() {
    let with = |clocks: &[(&str, i64)]| {
        let clocks = clocks.iter().map(|(relay, ahead)| (relay.parse().unwrap(), *ahead)).collect();
        let node = NodeFinding { clocks, nat_v4: PORT_RESTRICTED, ..NodeFinding::default() };
        Findings { node, ..home() }
    };
    says(&with(&[(RELAY, 7200)]), "clock", Verdict::Warning, "2 h behind the relay");
    says(&with(&[(RELAY, -100)]), "clock", Verdict::Warning, "2 min ahead of the relay");
    says(&with(&[(RELAY, 0)]), "clock", Verdict::Ok, "agrees");
    says(&with(&[]), "clock", Verdict::Skipped, "no relay told the time");
    let one_is_wrong = with(&[(RELAY, 0), (OTHER, 7200)]);
    says(&one_is_wrong, "clock", Verdict::Warning, &format!("{OTHER}, and agrees with 1 other; tell"));
}

#[test]
fn hairpin_and_mtu_are_told() {
    for (hairpin, verdict, words) in [
        (None, Verdict::Skipped, "--stun-server"),
        (Some(Hairpin::Unknown), Verdict::Skipped, "no STUN server answered"),
        (Some(Hairpin::NoNat), Verdict::Ok, "no NAT"),
        (Some(Hairpin::Works), Verdict::Ok, "sends back"),
        (Some(Hairpin::Fails), Verdict::Ok, "at their own addresses"),
    ] {
        says(&Findings { hairpin, ..home() }, "hairpin", verdict, words);
    }
    says(&Findings { mtu_v4: Some(1200), ..home() }, "mtu", Verdict::Warning, "raise the MTU");
    says(&Findings { mtu_v4: Some(1248), ..home() }, "mtu", Verdict::Ok, "1248 bytes over IPv4");
    says(&Findings { mtu_v4: None, ..home() }, "mtu", Verdict::Skipped, "nothing leads out");
}

#[test]
fn files_and_limits_are_judged() {
    let state = |writable, has_identity| {
        let state = StateFinding { directory: "/state".into(), writable, has_identity };
        Findings { state: Some(state), ..home() }
    };
    let refused = || Err(Unwritable::Refused { cause: "read-only".to_owned() });
    says(
        &state(Err(Unwritable::Full), true),
        "state_directory",
        Verdict::Bad,
        "/state: the disk is full",
    );
    says(&state(refused(), false), "state_directory", Verdict::Bad, "read-only");
    says(&state(refused(), true), "state_directory", Verdict::Warning, "can be used");
    let identity = |found| {
        let identities = vec![IdentityFinding { path: "/state/identity".into(), found }];
        Findings { identities, ..home() }
    };
    says(&identity(Ok(true)), "identity", Verdict::Ok, "its owner alone");
    says(&identity(Ok(false)), "identity", Verdict::Ok, "first start makes it");
    says(&identity(Err("run: chmod 600".to_owned())), "identity", Verdict::Bad, "chmod 600");
    for (open_files, verdict) in [
        (None, Verdict::Ok),
        (Some(1024), Verdict::Ok),
        (Some(256), Verdict::Warning),
        (Some(64), Verdict::Bad),
    ] {
        assert_eq!(of(&Findings { open_files, ..home() }, "open_files").0, verdict, "{open_files:?}");
    }
}
