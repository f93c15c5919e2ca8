#![allow(clippy::unwrap_used)]
mod gates;

use super::*;

const STRANGER: Acquaintance = Acquaintance { familiar: false, same_host: false };
const FAMILIAR: Acquaintance = Acquaintance { familiar: true, same_host: false };
const HERE_TOO: Acquaintance = Acquaintance { familiar: true, same_host: true };

fn peer(seed: u8) -> PeerId {
    libp2p::identity::Keypair::ed25519_from_bytes([seed; 32]).unwrap().public().to_peer_id()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn tcp(ip: &str) -> Multiaddr {
    at(SocketAddr::new(ip.parse().unwrap(), 4001), Transport::Tcp)
}

/// A laptop at home, and on its company's network.
fn here() -> Here {
    Here {
        interfaces: vec![
            ip("127.0.0.1"),
            ip("192.168.1.7"),
            ip("10.20.30.40"),
            ip("fd00::7"),
            ip("2a00::7"),
        ],
        public: vec![ip("73.0.0.11"), ip("2a00::7")],
    }
}

fn judge(address: &Multiaddr, known: Acquaintance, same_router: bool) -> Result<Nearness, Refused> {
    let policy = Policy::new(GlobalScope::default(), Ranges::default());
    policy.judge(address, peer(1), known, same_router, &here()).map(|(_, nearness)| nearness)
}

#[test]
fn what_is_dialled_depends_on_the_range_and_on_who_named_it() {
    use Nearness::{Public, SameRouter, ThisHost, ThisNetwork};
    use Refused::{Forbidden, Private};
    // Address; for a stranger, a familiar peer elsewhere, one behind our router, one on this host.
    for (address, stranger, familiar, neighbour, same_host) in [
        ("8.8.8.8", Ok(Public), Ok(Public), Ok(Public), Ok(Public)),
        ("2a00::8", Ok(Public), Ok(Public), Ok(Public), Ok(Public)),
        ("73.0.0.11", Ok(Public), Ok(Public), Ok(Public), Ok(Public)),
        ("192.168.1.9", Err(Private), Ok(ThisNetwork), Ok(ThisNetwork), Ok(ThisNetwork)),
        ("10.20.30.1", Err(Private), Ok(ThisNetwork), Ok(ThisNetwork), Ok(ThisNetwork)),
        ("fd00::9", Err(Private), Ok(ThisNetwork), Ok(ThisNetwork), Ok(ThisNetwork)),
        ("192.168.2.9", Err(Private), Err(Private), Ok(SameRouter), Err(Private)),
        ("10.9.9.9", Err(Private), Err(Private), Ok(SameRouter), Err(Private)),
        ("172.16.0.1", Err(Private), Err(Private), Ok(SameRouter), Err(Private)),
        ("100.64.0.1", Err(Private), Err(Private), Ok(SameRouter), Err(Private)),
        ("fd01::1", Err(Private), Err(Private), Ok(SameRouter), Err(Private)),
        ("127.0.0.1", Err(Private), Err(Private), Err(Private), Ok(ThisHost)),
        ("127.0.0.2", Err(Private), Err(Private), Err(Private), Ok(ThisHost)),
        ("::1", Err(Private), Err(Private), Err(Private), Ok(ThisHost)),
        ("::ffff:127.0.0.1", Err(Private), Err(Private), Err(Private), Ok(ThisHost)),
        ("64:ff9b::192.168.1.9", Err(Private), Ok(ThisNetwork), Ok(ThisNetwork), Ok(ThisNetwork)),
        ("64:ff9b::192.168.1.7", Err(Private), Err(Private), Err(Private), Ok(ThisHost)),
        // Our own addresses lead to whatever listens here, whether they are public or not.
        ("192.168.1.7", Err(Private), Err(Private), Err(Private), Ok(ThisHost)),
        ("2a00::7", Err(Private), Err(Private), Err(Private), Ok(ThisHost)),
        ("169.254.169.254", Err(Forbidden), Err(Forbidden), Err(Forbidden), Err(Forbidden)),
        ("169.254.1.1", Err(Forbidden), Err(Forbidden), Err(Forbidden), Err(Forbidden)),
        ("fe80::1", Err(Forbidden), Err(Forbidden), Err(Forbidden), Err(Forbidden)),
        ("fd00:ec2::254", Err(Forbidden), Err(Forbidden), Err(Forbidden), Err(Forbidden)),
        ("0.0.0.0", Err(Forbidden), Err(Forbidden), Err(Forbidden), Err(Forbidden)),
        ("224.0.0.1", Err(Forbidden), Err(Forbidden), Err(Forbidden), Err(Forbidden)),
    ] {
        let address = tcp(address);
        assert_eq!(judge(&address, STRANGER, false), stranger, "stranger: {address}");
        assert_eq!(judge(&address, STRANGER, true), stranger, "stranger behind our router: {address}");
        assert_eq!(judge(&address, FAMILIAR, false), familiar, "familiar: {address}");
        assert_eq!(judge(&address, FAMILIAR, true), neighbour, "neighbour: {address}");
        assert_eq!(judge(&address, HERE_TOO, false), same_host, "same host: {address}");
    }
}

#[test]
fn only_plain_addresses_of_the_peer_are_dialled() {
    let (own, other) = (peer(1), peer(2));
    for (text, expected) in [
        ("/ip4/8.8.8.8/tcp/5".to_owned(), true),
        ("/ip4/8.8.8.8/udp/5/quic-v1".to_owned(), true),
        (format!("/ip4/8.8.8.8/tcp/5/p2p/{own}"), true),
        (format!("/ip4/8.8.8.8/tcp/5/p2p/{other}"), false),
        (format!("/ip4/8.8.8.8/tcp/5/p2p/{other}/p2p-circuit/p2p/{own}"), false),
        (format!("/ip4/8.8.8.8/tcp/5/p2p/{other}/p2p-circuit"), false),
        ("/ip4/8.8.8.8/tcp/0".to_owned(), false),
        ("/ip4/8.8.8.8/udp/5".to_owned(), false),
        ("/ip4/8.8.8.8/udp/5/quic".to_owned(), false),
        ("/ip4/8.8.8.8/udp/5/quic-v1/webtransport".to_owned(), false),
        ("/ip4/8.8.8.8/tcp/80/ws".to_owned(), false),
        ("/dns4/localhost/tcp/5".to_owned(), false),
        ("/ip6zone/eth0/ip6/fe80::1/tcp/5".to_owned(), false),
        ("/unix/%2Frun%2Fdocker.sock".to_owned(), false),
        ("/memory/1".to_owned(), false),
        (String::new(), false),
    ] {
        let verdict = judge(&text.parse().unwrap(), HERE_TOO, true);
        assert_eq!(verdict.is_ok(), expected, "{text}: {verdict:?}");
    }
}

#[test]
fn ranges_that_the_operator_takes_for_public_are_dialled_for_anybody_even_our_own() {
    let policy =
        Policy::new(GlobalScope::with_assumed(vec!["127.0.0.0/8".parse().unwrap()]), Ranges::default());
    let judge = |text| policy.judge(&tcp(text), peer(1), STRANGER, false, &here()).map(|(_, near)| near);
    assert_eq!(judge("127.0.0.1"), Ok(Nearness::Public));
    assert_eq!(judge("192.168.1.9"), Err(Refused::Private));
}

#[test]
fn of_many_addresses_the_eight_best_are_dialled_and_the_rest_is_counted() {
    let policy = Policy::new(GlobalScope::default(), Ranges::default());
    let mut named: Vec<Multiaddr> = (0..20).map(|host| tcp(&format!("8.8.8.{host}"))).collect();
    named.extend([tcp("192.168.1.9"), tcp("192.168.1.9"), tcp("10.9.9.9"), tcp("169.254.169.254")]);
    named.push("/dns4/example.org/tcp/1".parse().unwrap());
    let now = Instant::now();
    let stranger = policy.select(&named, peer(1), STRANGER, &here(), now);
    assert_eq!(stranger.chosen.len(), CANDIDATES_MAX);
    assert!(stranger.chosen.iter().all(|candidate| candidate.nearness == Nearness::Public));
    let expected = RefusedAddresses { unusable: 1, forbidden: 1, private: 3, surplus: 12, denied: 0 };
    assert_eq!(stranger.refused, expected);
    assert_eq!(stranger.refused.total(), 17);
    let familiar = policy.select(&named, peer(1), FAMILIAR, &here(), now);
    assert_eq!(familiar.chosen[0].address, tcp("192.168.1.9"), "the nearest first");
    assert_eq!(familiar.chosen.len(), CANDIDATES_MAX);
    assert_eq!(familiar.refused.private, 1);
}

#[test]
fn a_familiar_peer_with_our_public_address_is_sought_in_other_private_networks_too() {
    let policy = Policy::new(GlobalScope::default(), Ranges::default());
    let select = |named: &[Multiaddr], known| {
        let selection = policy.select(named, peer(1), known, &here(), Instant::now());
        selection.chosen.into_iter().map(|candidate| candidate.address).collect::<Vec<_>>()
    };
    let (public, private) = (tcp("73.0.0.11"), tcp("172.20.0.5"));
    let named = [private.clone(), public.clone()];
    assert_eq!(select(&named, FAMILIAR), [public.clone(), private]);
    assert_eq!(select(&named, STRANGER), [public]);
    assert_eq!(select(&[tcp("172.20.0.5"), tcp("73.0.0.12")], FAMILIAR), [tcp("73.0.0.12")]);
}

#[test]
fn the_newer_of_two_equal_candidates_is_better() {
    let now = Instant::now();
    let candidate =
        |nearness, seen| Candidate { address: tcp("8.8.8.8"), source: Source::Peer, nearness, seen };
    let later = now + std::time::Duration::from_secs(1);
    assert!(candidate(Nearness::Public, later).score() < candidate(Nearness::Public, now).score());
    assert!(candidate(Nearness::ThisNetwork, now).score() < candidate(Nearness::Public, later).score());
}

#[test]
fn only_the_reasons_that_there_are_are_told() {
    let refused = RefusedAddresses { private: 2, denied: 1, ..RefusedAddresses::default() };
    assert_eq!(refused.to_string(), "3 refused (2 private, 1 of ranges that are kept away)");
    assert_eq!(RefusedAddresses::default().to_string(), "none refused");
}
