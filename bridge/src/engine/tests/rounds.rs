//! One round of punches after another, and what belongs to a round.

use super::{
    upgrades::{RTT, TIMED_OUT, asked, public, punches, reasons},
    *,
};
use crate::{
    engine::{
        input::{Offer, Role},
        paths::upgrades::schedule::{ROUND_WAIT, ROUNDS_MAX},
    },
    error::{DialFailures, DialOutcome, UpgradeFailure},
    nat::{Filtering, Mapping, NatKind, NatKinds},
};

/// Lets all rounds of a row fail.
pub(super) fn row_fails(world: &mut World, circuit: ConnectionId) {
    for round in 1..=ROUNDS_MAX {
        assert_eq!(reasons(world), []);
        world.round_fails(circuit, TIMED_OUT);
        if round < ROUNDS_MAX {
            assert_eq!(asked(&world.pass(ROUND_WAIT * round)).len(), 1, "{round}");
        }
    }
}

#[test]
fn the_end_that_does_not_begin_calls_at_a_mapped_address_from_another_port_if_its_punch_is_refused() {
    let mut world = World::seen_with(|config| config.deadlines.relayed_grace = HOUR);
    let circuit = world.reached(peer(1));
    world.offer_mapped(circuit, &[public(1)]);
    let actions = world.sync(circuit);
    let [(punch, _, Role::Dialer)] = punches(&actions)[..] else { panic!("{actions:?}") };
    let actions = world.punch_failed(punch, DialOutcome::Refused);
    assert!(matches!(punches(&actions)[..], [(_, _, Role::Caller)]), "{actions:?}");

    let circuit = world.reached(peer(2));
    world.offer(circuit, &[public(2)]);
    let actions = world.sync(circuit);
    world.punch_failed(punches(&actions)[0].0, DialOutcome::Refused);
    assert_eq!(punches(&world.pass(S)), [], "nobody is called where nothing is mapped");
}

#[test]
fn after_a_row_of_rounds_the_upgrade_failed_and_single_rounds_follow_in_which_nothing_is_said_again() {
    let mut world = World::seen_with(|config| config.deadlines.relayed_grace = HOUR);
    let (circuit, _) = world.visited(peer(1));
    row_fails(&mut world, circuit);
    let failures = DialFailures { timed_out: 2 * ROUNDS_MAX, ..DialFailures::default() };
    assert_eq!(reasons(&mut world), [(UpgradeFailure::PunchFailed { failures }, ROUNDS_MAX)]);
    let again = Config::default().deadlines.upgrade_again;
    for _ in 0..5 {
        assert_eq!(asked(&world.pass(again - RTT / 2 - MS)), []);
        assert_eq!(asked(&world.pass(MS)).len(), 1);
        world.round_fails(circuit, TIMED_OUT);
        assert_eq!(reasons(&mut world), [], "it is known");
    }
    assert_eq!(asked(&world.pass(again - RTT / 2)).len(), 1);
    for _ in 0..2 {
        world.answer(circuit, &[]);
    }
    let failed = reasons(&mut world);
    assert!(matches!(failed[..], [(UpgradeFailure::NoCandidateThere, _)]), "another reason: {failed:?}");
}

#[test]
fn the_third_round_of_a_row_turns_the_roles_with_peers_of_others_alone() {
    let mapping = Some(Mapping::EndpointIndependent);
    let ours = NatKinds { v4: NatKind { mapping, filtering: None }, ..NatKinds::default() };
    let (usual, turned) = (Role::Listener, Role::Dialer);
    for (nat, third) in [(NatKinds::default(), turned), (ours, usual)] {
        let mut world = World::seen();
        let (circuit, _) = world.visited(peer(1));
        let mut roles = Vec::new();
        for round in 1..=ROUNDS_MAX {
            let offer = Offer { candidates: vec![public(1)], nat, ..Offer::default() };
            world.answer_with(circuit, offer, false);
            let [(punch, _, role)] = punches(&world.pass(RTT / 2))[..] else { panic!("no punch") };
            roles.push(role);
            let actions = world.punch_failed(punch, TIMED_OUT);
            if let [(call, _, Role::Caller)] = punches(&actions)[..] {
                world.punch_failed(call, TIMED_OUT);
            }
            world.pass(ROUND_WAIT * round);
        }
        assert_eq!(roles, [usual, usual, third, usual], "{nat:?}");
    }
}

#[test]
fn the_third_round_of_a_row_turns_the_roles_also_where_the_peer_begins() {
    let mut world = World::seen();
    let circuit = world.reached(peer(1));
    let mut roles = Vec::new();
    for _ in 1..=ROUNDS_MAX {
        world.offer(circuit, &[public(1)]);
        let [(punch, _, role)] = punches(&world.sync(circuit))[..] else { panic!("no punch") };
        roles.push(role);
        world.punch_failed(punch, TIMED_OUT);
    }
    assert_eq!(roles, [Role::Dialer, Role::Dialer, Role::Listener, Role::Dialer]);
}

#[test]
fn a_round_fails_when_all_of_its_dials_have() {
    let mut world = World::seen();
    let (circuit, _) = world.visited(peer(1));
    let punch = world.punch(circuit, &[public(1)]);
    let call = punches(&world.pass(S))[0].0;
    world.punch_failed(punch, TIMED_OUT);
    assert_eq!(asked(&world.pass(S)), [], "the call is under way");
    world.punch_failed(call, TIMED_OUT);
    assert_eq!(asked(&world.pass(ROUND_WAIT)).len(), 1);
}

#[test]
fn only_over_tcp_and_only_a_peer_that_may_let_it_in_is_called() {
    let quic: Multiaddr = "/ip4/8.8.8.1/udp/4001/quic-v1".parse().unwrap();
    let by_port = Filtering::AddressAndPortDependent;
    let kind = |filtering| NatKind { mapping: Some(Mapping::EndpointIndependent), filtering };
    for (filtering, open, calls) in [
        (None, false, true),
        (Some(Filtering::AddressDependent), false, true),
        (Some(Filtering::EndpointIndependent), false, true),
        (Some(by_port), false, false),
        (Some(by_port), true, true),
    ] {
        let mut world = World::seen();
        let (circuit, _) = world.visited(peer(1));
        let candidates = vec![public(1), quic.clone()];
        world.answer_with(
            circuit,
            Offer {
                candidates,
                nat: NatKinds { v4: kind(filtering), ..NatKinds::default() },
                open,
                ..Offer::default()
            },
            false,
        );
        let made = punches(&world.pass(S));
        let called: Vec<_> =
            made.iter().filter(|(.., role)| *role == Role::Caller).map(|made| &made.1[..]).collect();
        let expected = [public(1)];
        let expected = if calls { vec![&expected[..]] } else { vec![] };
        assert_eq!(called, expected, "{filtering:?}, open: {open}");
        assert_eq!(made[0].1.len(), 2);
    }
}

#[test]
fn a_relay_is_dialled_by_the_other_transport_when_a_punch_may_need_what_it_sees_there() {
    let mut world = World::new();
    let quic: Multiaddr = "/ip4/1.2.3.9/udp/4001/quic-v1".parse().unwrap();
    let over_quic = RelayAddr::new(quic.clone().with_p2p(peer(9)).unwrap()).unwrap();
    world.reserved(&relay(9));
    world.tell(Input::Reserve { relay: over_quic });
    for listening in ["/ip4/192.168.1.7/tcp/4001", "/ip4/192.168.1.7/udp/4001/quic-v1"] {
        world.tell(Input::Listening { address: listening.parse().unwrap() });
    }
    let (circuit, actions) = world.visited(peer(1));
    let made = dials(&actions);
    assert_eq!((made.len(), made[0].1, &made[0].2[..]), (1, peer(9), &[quic][..]));
    assert_eq!(asked(&actions)[0].1.len(), 1, "nobody waits for it");
    world.punch(circuit, &[public(1)]);
    let dial = Some(made[0].0);
    let (link, _) = world.established(peer(9), Path::Direct, Transport::Quic, dial, Direction::Outbound);
    let seen: Multiaddr = "/ip4/8.8.8.8/udp/35000/quic-v1".parse().unwrap();
    let asked_again = asked(&world.observed(link, seen.clone()));
    assert!(
        asked_again[0].1.contains(&seen),
        "another round begins, with the new address: {asked_again:?}"
    );
    assert_eq!(dials(&world.visited(peer(2)).1), [], "it is seen by both");
}

#[test]
fn a_relay_that_does_not_answer_over_the_other_transport_is_dialled_there_once_in_30_s() {
    let mut world = World::new();
    let quic: Multiaddr = "/ip4/1.2.3.9/udp/4001/quic-v1".parse().unwrap();
    world.reserved(&relay(9));
    world.tell(Input::Reserve { relay: RelayAddr::new(quic.with_p2p(peer(9)).unwrap()).unwrap() });
    world.tell(Input::Listening { address: "/ip4/192.168.1.7/udp/4001/quic-v1".parse().unwrap() });
    let mut made = 0;
    for seed in 20..80 {
        for (dial, ..) in dials(&world.visited(peer(seed)).1) {
            made += 1;
            world.dial_failed(dial);
        }
        world.pass(S);
    }
    assert_eq!(made, 2);
}

#[test]
fn a_node_that_does_not_listen_over_a_transport_is_not_to_be_seen_over_it() {
    let mut world = World::new();
    let quic: Multiaddr = "/ip4/1.2.3.9/udp/4001/quic-v1".parse().unwrap();
    world.reserved(&relay(9));
    world.tell(Input::Reserve { relay: RelayAddr::new(quic.with_p2p(peer(9)).unwrap()).unwrap() });
    world.tell(Input::Listening { address: "/ip4/192.168.1.7/tcp/4001".parse().unwrap() });
    assert_eq!(dials(&world.visited(peer(1)).1), []);
}

/// A relay with these addresses over QUIC beside the one that the node is linked to it by, TCP over IPv4; and what it is
/// dialled at once somebody is to be punched, by a node that listens on these.
fn dialled_to_be_seen(relay_at: &[&str], listening: &[&str]) -> Vec<Vec<String>> {
    let mut world = World::new();
    world.reserved(&relay(9));
    for address in relay_at {
        let address: Multiaddr = address.parse().unwrap();
        let relay = RelayAddr::new(address.with_p2p(peer(9)).unwrap()).unwrap();
        world.tell(Input::Reserve { relay });
    }
    for address in listening {
        world.tell(Input::Listening { address: address.parse().unwrap() });
    }
    let made = dials(&world.visited(peer(1)).1);
    made.iter().map(|(_, _, addresses)| addresses.iter().map(Multiaddr::to_string).collect()).collect()
}

const V4: &str = "/ip4/192.168.1.7/udp/4001/quic-v1";
const ULA: &str = "/ip6/fd00::7/udp/4001/quic-v1";
const PUBLIC_V6: &str = "/ip6/2a00::7/udp/4001/quic-v1";

#[test]
fn a_relay_is_dialled_over_each_family_over_which_only_it_can_tell_our_address() {
    let [v6, v4] = ["/ip6/2a00::9/udp/4001/quic-v1", "/ip4/1.2.3.9/udp/4001/quic-v1"];
    let made = |listening: &[&str]| dialled_to_be_seen(&[v6, v4], listening);
    assert_eq!(made(&[V4]), [[v4]], "no IPv6 here");
    assert_eq!(made(&[V4, ULA]), [[v4], [v6]]);
    assert_eq!(made(&[V4, ULA, PUBLIC_V6]), [[v4]], "ours over IPv6 is known");
    assert_eq!(made(&[PUBLIC_V6]), <[[&str; 1]; 0]>::default());
}

#[test]
fn a_relay_by_name_is_looked_up_for_the_family_that_it_is_to_see_us_over() {
    let name = "/dns/relay.example/udp/4001/quic-v1";
    let made = dialled_to_be_seen(&[name], &[V4, ULA]);
    let of = |family: &str| vec![name.replace("/dns/", &format!("/{family}/"))];
    assert_eq!(made, [of("dns4"), of("dns6")]);
}

#[test]
fn a_relay_that_sees_us_over_ipv6_by_its_name_is_dialled_over_ipv4_as_well() {
    for (seen, dialled) in [("/ip6/2a00::7/tcp/4001", 1), ("/ip4/8.8.8.8/tcp/4001", 0)] {
        let mut world = World::new();
        let by_name: Multiaddr = "/dns/relay.example/tcp/4001".parse().unwrap();
        let relay = RelayAddr::new(by_name.with_p2p(peer(9)).unwrap()).unwrap();
        let dial = dials(&world.tell(Input::Reserve { relay: relay.clone() }))[0].0;
        let connection = ConnectionId(libp2p::swarm::ConnectionId::new_unchecked(1000));
        world.tell(Input::ConnectionOpened(Opened {
            connection,
            dial: Some(dial),
            peer: peer(9),
            path: Path::Direct,
            direction: Direction::Outbound,
            transport: Transport::Tcp,
            address: relay.address().clone(),
            limit: None,
        }));
        let request = reserve(&world.observed(connection, seen.parse().unwrap()));
        world.granted(request);
        world.tell(Input::Listening { address: "/ip4/192.168.1.7/tcp/4001".parse().unwrap() });
        assert_eq!(dials(&world.visited(peer(1)).1).len(), dialled, "{seen}");
    }
}

#[test]
fn a_node_that_stops_is_not_to_be_seen() {
    let mut world = World::new();
    let quic: Multiaddr = "/ip4/1.2.3.9/udp/4001/quic-v1".parse().unwrap();
    world.reserved(&relay(9));
    world.tell(Input::Reserve { relay: RelayAddr::new(quic.with_p2p(peer(9)).unwrap()).unwrap() });
    world.tell(Input::Listening { address: "/ip4/192.168.1.7/udp/4001/quic-v1".parse().unwrap() });
    world.tell(Input::Shutdown);
    assert_eq!(dials(&world.visited(peer(1)).1), []);
}
