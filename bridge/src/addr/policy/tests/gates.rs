//! One table for all gates, and what must hold between them.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::*;
use crate::{
    engine::paths::{candidates::Candidates, stated::Stated},
    net::guard::Permits,
};

/// What the gates say of an address, without ranges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Shown to anybody, dialled for anybody.
    Public,
    /// Shown to familiar peers, remembered, dialled where it seems to be in our network.
    Inner,
    /// Not shown, not remembered, not dialled.
    Forbidden,
}

use Kind::{Forbidden, Inner, Public};

const TABLE: &[(Kind, &[&str])] = &[
    (Public, &["8.8.8.8", "172.32.0.1", "100.63.255.255", "100.128.0.1", "198.17.0.1", "2a00::8"]),
    // Loopback, private, carriers' NATs, unique-local.
    (Inner, &["127.0.0.1", "127.9.9.9", "::1"]),
    (Inner, &["10.0.0.1", "172.16.0.1", "192.168.9.9", "fd00:1::1"]),
    (Inner, &["100.64.0.1", "100.127.255.255"]),
    // Link-local, and metadata services outside of it.
    (Forbidden, &["169.254.1.1", "169.254.169.254", "fe80::1"]),
    (Forbidden, &["100.100.100.200", "168.63.129.16", "fd00:ec2::254", "fd20:ce::254"]),
    // Documentation, benchmarks, protocols, tunnels.
    (Forbidden, &["192.0.2.1", "198.51.100.1", "203.0.113.1", "2001:db8::1", "3fff::1"]),
    (Forbidden, &["198.18.0.1", "198.19.255.255", "192.0.0.8"]),
    (Forbidden, &["2002:808:808::1", "2001:0:808:808::1", "192.88.99.1"]),
    // Multicast, unspecified, reserved.
    (
        Forbidden,
        &["224.0.0.1", "239.255.255.255", "ff02::1", "0.0.0.0", "0.1.2.3", "::", "255.255.255.255"],
    ),
    (Forbidden, &["240.0.0.1", "fec0::1", "4000::1", "100::1"]),
    // IPv4 in IPv6: compatible and translated ones are nobody's; mapped and NAT64 ones are what is inside.
    (Forbidden, &["::8.8.8.8", "::10.0.0.1", "::ffff:0:8.8.8.8"]),
    (Public, &["::ffff:8.8.8.8", "64:ff9b::8.8.8.8", "64:ff9b:1:2::8.8.8.8"]),
    (Inner, &["::ffff:127.0.0.1", "64:ff9b::127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::10.0.0.1"]),
    (Inner, &["::ffff:100.64.0.1", "64:ff9b::100.64.0.1", "64:ff9b:1::10.0.0.1"]),
    (Forbidden, &["::ffff:169.254.169.254", "64:ff9b::169.254.169.254", "64:ff9b:1::169.254.169.254"]),
    (Forbidden, &["64:ff9b::203.0.113.1", "64:ff9b::0.0.0.0", "64:ff9b:1:a00:0:100::"]),
];

fn vectors() -> impl Iterator<Item = (Kind, IpAddr)> {
    TABLE.iter().flat_map(|(kind, ips)| ips.iter().map(|text| (*kind, ip(text))))
}

/// Every gate, for one address. The gates of `net` and of the candidates are asked as a node asks them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Verdicts {
    shown_to_strangers: bool,
    shown_to_familiars: bool,
    learnt: bool,
    /// As a relay's address that a circuit leads through.
    learnt_as_relay: bool,
    dialled_for_strangers: bool,
    dialled_as_relay: bool,
    /// For a familiar peer behind our router that proved to run on this host: whatever is dialled for anybody.
    dialled_for_friends: bool,
    /// When a peer's host name leads there.
    dialled_by_name: bool,
    /// When it was given by the operator.
    dialled_as_given: bool,
    answered: bool,
}

fn verdicts(ip: IpAddr, global: &GlobalScope, ranges: &Ranges) -> Verdicts {
    let policy = Policy::new(global.clone(), ranges.clone());
    let address = at(SocketAddr::new(ip, 4001), Transport::Tcp);
    let relay = RelayAddr::new(address.clone().with(Protocol::P2p(peer(9)))).unwrap();
    let mut candidates = Candidates::new(policy.clone(), Stated::new(&[]));
    candidates.listening(&address, Instant::now());
    let (by_name, given) =
        (Permits::new(global.clone(), ranges.clone()), Permits::new(global.clone(), ranges.clone()));
    given.dialling(std::slice::from_ref(&address));
    let local = "/ip4/0.0.0.0/tcp/1".parse().unwrap();
    let dialled =
        |known, same_router| policy.judge(&address, peer(1), known, same_router, &here()).is_ok();
    Verdicts {
        shown_to_strangers: candidates.offer(false).contains(&address),
        shown_to_familiars: candidates.offer(true).contains(&address),
        learnt: policy.learns(&address, peer(1)).is_ok(),
        learnt_as_relay: policy.learns(&relay.circuit_to(peer(1)), peer(1)).is_ok(),
        dialled_for_strangers: dialled(STRANGER, false),
        dialled_as_relay: policy.judge_relay(&relay, STRANGER, &here()).is_ok(),
        dialled_for_friends: dialled(HERE_TOO, true),
        dialled_by_name: by_name.dials(&address).is_ok(),
        dialled_as_given: given.dials(&address).is_ok(),
        answered: by_name.answers(&local, &address).is_ok(),
    }
}

#[test]
fn every_gate_judges_every_kind_of_address() {
    for (kind, ip) in vectors() {
        let found = verdicts(ip, &GlobalScope::default(), &Ranges::default());
        let (public, known) = (kind == Public, kind != Forbidden);
        let expected = Verdicts {
            shown_to_strangers: public,
            shown_to_familiars: known,
            learnt: known,
            learnt_as_relay: known,
            dialled_for_strangers: public,
            dialled_as_relay: public,
            dialled_for_friends: known,
            dialled_by_name: public,
            dialled_as_given: true,
            answered: true,
        };
        assert_eq!(found, expected, "{ip}");
    }
}

#[test]
fn what_is_denied_passes_no_gate_and_what_is_not_allowed_none_that_leads_to_a_peer() {
    let all: Vec<IpNet> = vec!["0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap()];
    let denied = Ranges::new(Vec::new(), all.clone()).unwrap();
    let elsewhere = Ranges::new(vec!["7.7.7.7/32".parse().unwrap()], Vec::new()).unwrap();
    for (kind, ip) in vectors() {
        let nothing = Verdicts {
            shown_to_strangers: false,
            shown_to_familiars: false,
            learnt: false,
            learnt_as_relay: false,
            dialled_for_strangers: false,
            dialled_as_relay: false,
            dialled_for_friends: false,
            dialled_by_name: false,
            dialled_as_given: false,
            answered: false,
        };
        assert_eq!(verdicts(ip, &GlobalScope::default(), &denied), nothing, "{ip}");
        let shown = Verdicts {
            shown_to_strangers: kind == Public,
            shown_to_familiars: kind != Forbidden,
            ..nothing
        };
        assert_eq!(verdicts(ip, &GlobalScope::default(), &elsewhere), shown, "{ip}");
    }
}

/// An address of any range, more often of one that means something.
fn any_ip(rng: &mut fastrand::Rng) -> IpAddr {
    let special: Vec<(Kind, IpAddr)> = vectors().collect();
    match rng.u8(0..4) {
        0 => Ipv4Addr::from(rng.u32(..)).into(),
        1 => Ipv6Addr::from(rng.u128(..)).into(),
        2 => special[rng.usize(..special.len())].1,
        // Beside one of the table.
        _ => match special[rng.usize(..special.len())].1 {
            IpAddr::V4(ip) => Ipv4Addr::from(ip.to_bits() ^ (1 << rng.u32(0..32))).into(),
            IpAddr::V6(ip) => Ipv6Addr::from(ip.to_bits() ^ (1 << rng.u32(0..128))).into(),
        },
    }
}

fn any_nets(rng: &mut fastrand::Rng) -> Vec<IpNet> {
    let one = |rng: &mut fastrand::Rng| {
        let ip = any_ip(rng);
        let bits = if ip.is_ipv4() { rng.u8(0..=32) } else { rng.u8(0..=128) };
        IpNet::new(ip, bits).unwrap()
    };
    (0..rng.usize(0..4)).map(|_| one(rng)).collect()
}

/// Addresses, ranges and what counts as public, all at random; said in the failure, so that it can be looked into.
fn at_random(mut check: impl FnMut(IpAddr, &GlobalScope, &Ranges, &str)) {
    for seed in 0..4_000 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let (ip, assumed) = (any_ip(&mut rng), any_nets(&mut rng));
        let (allow, deny) = (any_nets(&mut rng), any_nets(&mut rng));
        let case = format!("{ip}, assumed {assumed:?}, allow {allow:?}, deny {deny:?}");
        let Ok(ranges) = Ranges::new(allow, deny) else { continue };
        check(ip, &GlobalScope::with_assumed(assumed), &ranges, &case);
    }
}

#[test]
fn no_gate_lets_through_what_another_one_forbids() {
    at_random(|ip, global, ranges, case| {
        let it = verdicts(ip, global, ranges);
        let implied = |from: bool, to: bool, what: &str| assert!(!from || to, "{what}: {case}: {it:?}");
        implied(it.shown_to_strangers, it.shown_to_familiars, "strangers are shown no more");
        implied(it.dialled_for_strangers, it.dialled_for_friends, "nor are more dialled for them");
        implied(it.dialled_for_friends, it.learnt, "what is dialled is remembered");
        implied(it.dialled_as_relay, it.learnt_as_relay, "likewise of relays");
        implied(it.learnt, it.dialled_as_given, "what is remembered may be dialled");
        implied(it.dialled_by_name, it.learnt && it.dialled_as_relay, "a name leads nowhere else");
        assert_eq!(it.learnt, it.learnt_as_relay, "a circuit is judged by its relay: {case}");
        assert_eq!(it.dialled_as_given, it.answered, "who may be dialled is answered: {case}");
        implied(it.learnt, it.answered && it.shown_to_familiars, "{case}");
        if global.scope(ip) == Scope::Forbidden {
            let named =
                it.shown_to_familiars || it.learnt || it.dialled_for_friends || it.dialled_by_name;
            assert!(!named, "{case}: {it:?}");
        }
        if ranges.denies(ip) {
            assert!(
                !it.shown_to_familiars && !it.learnt && !it.dialled_as_given && !it.answered,
                "{case}"
            );
        }
    });
}

#[test]
fn mapped_and_nat64_addresses_are_judged_as_what_is_inside() {
    at_random(|ip, global, ranges, case| {
        let IpAddr::V4(ip) = ip else { return };
        let plain = verdicts(ip.into(), global, ranges);
        for clothes in ["::ffff:", "64:ff9b::"] {
            let clothed: IpAddr = format!("{clothes}{ip}").parse().unwrap();
            assert_eq!(verdicts(clothed, global, ranges), plain, "{clothes}: {case}");
        }
        // Read in several ways, an address passes only where each of them does.
        let local: IpAddr = format!("64:ff9b:1::{ip}").parse().unwrap();
        let local = verdicts(local, global, ranges);
        assert!(plain.learnt || !local.learnt || ip.is_unspecified(), "{case}");
        assert!(plain.answered || !local.answered || ip.is_unspecified(), "{case}");
    });
}

#[test]
fn circuits_and_names_are_judged_by_what_they_lead_to() {
    let ranges = Ranges::new(Vec::new(), vec!["8.8.0.0/16".parse().unwrap()]).unwrap();
    let global = GlobalScope::default();
    let policy = Policy::new(global.clone(), ranges.clone());
    let relay =
        |address: &str| RelayAddr::new(format!("{address}/p2p/{}", peer(9)).parse().unwrap()).unwrap();
    let own = |address: &str| policy.learns(&relay(address).circuit_to(peer(1)), peer(1));
    assert_eq!(own("/ip4/9.9.9.9/tcp/1"), Ok(()));
    assert_eq!(own("/ip4/8.8.9.9/tcp/1"), Err(Refused::Range(RangeFault::Denied)));
    assert_eq!(own("/ip4/169.254.169.254/tcp/1"), Err(Refused::Forbidden));
    assert_eq!(own("/ip4/9.9.9.9/tcp/80/ws/p2p-webrtc-direct"), Err(Refused::Unusable));
    // A WebSocket is where its TCP socket is.
    assert_eq!(own("/ip4/9.9.9.9/tcp/443/tls/ws"), Ok(()));
    assert_eq!(own("/ip4/8.8.9.9/tcp/443/tls/ws"), Err(Refused::Range(RangeFault::Denied)));
    assert_eq!(own("/ip4/169.254.169.254/tcp/443/wss"), Err(Refused::Forbidden));
    let here = Here::default();
    let judged = |address: &str| policy.judge_relay(&relay(address), Acquaintance::default(), &here);
    assert_eq!(judged("/ip4/8.8.9.9/tcp/443/tls/ws"), Err(Refused::Range(RangeFault::Denied)));
    assert_eq!(judged("/ip4/10.0.0.1/tcp/443/tls/ws"), Err(Refused::Private));
    let web: Multiaddr = "/ip4/9.9.9.9/tcp/443/tls/ws".parse().unwrap();
    assert_eq!(judged("/ip4/9.9.9.9/tcp/443/tls/ws"), Ok((web.clone(), Nearness::Public)));
    assert_eq!(policy.learns(&web, peer(1)), Err(Refused::Unusable), "a peer that is no relay has none");
    let another = relay("/ip4/9.9.9.9/tcp/1").circuit_to(peer(2));
    assert_eq!(policy.learns(&another, peer(1)), Err(Refused::Unusable), "it leads to somebody else");
    // A name is remembered, and what it leads to is judged.
    assert_eq!(own("/dns4/relay.example/tcp/1"), Ok(()));
    let permits = Permits::new(global, ranges);
    for (found, passes) in
        [("9.9.9.9", true), ("8.8.9.9", false), ("10.0.0.1", false), ("127.0.0.1", false)]
    {
        assert_eq!(permits.dials(&tcp(found)).is_ok(), passes, "{found}");
    }
}
