//! What upgrades came to: by which way, and how often.

use std::net::SocketAddr;

use super::{
    rounds::row_fails,
    upgrades::{RTT, TIMED_OUT, at, public, punches, reasons},
    *,
};
use crate::{
    engine::{
        input::Offer,
        paths::upgrades::schedule::{ROUND_WAIT, ROUNDS_MAX},
    },
    error::{SeenOver, UpgradeFailure},
    event::{MappingProtocol, Rung, UpgradeCount},
    nat::{Filtering, Mapping, NatClass, NatKind, NatKinds},
};

fn patient() -> World {
    World::seen_with(|config| config.deadlines.relayed_grace = HOUR)
}

fn full_cone() -> NatKind {
    NatKind {
        mapping: Some(Mapping::EndpointIndependent),
        filtering: Some(Filtering::EndpointIndependent),
    }
}

fn full_cones() -> NatKinds {
    NatKinds { v4: full_cone(), ..NatKinds::default() }
}

/// By a usual dial of ours to a public address.
fn becomes_direct(world: &mut World, peer: PeerId, transport: Transport) {
    opened(world, peer, (None, Direction::Outbound), transport, public(7));
}

/// A direct connection is there; of ours, by that dial.
fn opened(
    world: &mut World,
    peer: PeerId,
    (dial, direction): (Option<DialId>, Direction),
    transport: Transport,
    address: Multiaddr,
) {
    let connection = ConnectionId(libp2p::swarm::ConnectionId::new_unchecked(world.id() as usize));
    world.tell(Input::ConnectionOpened(Opened {
        connection,
        dial,
        peer,
        path: Path::Direct,
        direction,
        transport,
        address,
        limit: None,
    }));
}

/// How upgrades came about.
fn taken(world: &mut World) -> Vec<Rung> {
    let pick = |event| match event {
        Event::UpgradeSucceeded { rung, .. } => Some(rung),
        _ => None,
    };
    world.events().into_iter().filter_map(pick).collect()
}

/// As what dials are told of.
fn attempted(world: &mut World) -> Vec<Rung> {
    let pick = |event| match event {
        Event::UpgradeAttempted { rung, .. } => Some(rung),
        _ => None,
    };
    world.events().into_iter().filter_map(pick).collect()
}

/// What is told at the end.
fn told(world: &mut World) -> Vec<UpgradeCount> {
    let pick = |event| match event {
        Event::UpgradesCounted(count) => Some(count),
        _ => None,
    };
    world.events().into_iter().filter_map(pick).collect()
}

#[test]
fn each_verdict_is_counted_once_by_both_nats_the_transport_and_the_rung_and_told_at_the_end() {
    let mut world = patient();
    let (circuit, _) = world.visited(peer(1));
    row_fails(&mut world, circuit);
    let again = Config::default().deadlines.upgrade_again;
    world.pass(again);
    world.round_fails(circuit, TIMED_OUT);
    for seed in [1, 2, 3] {
        let peer = peer(seed);
        let circuit = if seed == 1 { circuit } else { world.visited(peer).0 };
        world.pass(again);
        let offer = Offer { candidates: vec![public(seed)], nat: full_cones(), ..Offer::default() };
        world.answer_with(circuit, offer, false);
        becomes_direct(&mut world, peer, Transport::Quic);
    }
    let row = |remote_nat, transport, rung, count| UpgradeCount {
        local_nat: NatClass::Unknown,
        remote_nat,
        transport,
        rung,
        count,
    };
    let expected = [
        row(NatClass::Unknown, Transport::Tcp, Rung::Relay, 1),
        row(NatClass::FullCone, Transport::Quic, Rung::Known, 3),
    ];
    assert_eq!(world.engine.upgrade_counts().collect::<Vec<_>>(), expected);
    assert_eq!(told(&mut world), [], "the node goes on");
    world.tell(Input::Shutdown);
    world.pass(HOUR);
    assert_eq!(told(&mut world), expected);
}

#[test]
fn an_upgrade_tells_what_both_ends_are_behind() {
    let mut world = patient();
    let (circuit, _) = world.visited(peer(1));
    let offer = Offer { candidates: vec![public(1)], nat: full_cones(), ..Offer::default() };
    world.answer_with(circuit, offer, false);
    becomes_direct(&mut world, peer(1), Transport::Tcp);
    let told = world.events().into_iter().find_map(|event| match event {
        Event::UpgradeSucceeded { local_nat, remote_nat, .. } => Some((local_nat, remote_nat)),
        _ => None,
    });
    assert_eq!(told, Some((NatKind::default(), full_cone())));
}

const NOT_DIALLED: (Option<DialId>, Direction) = (None, Direction::Inbound);

/// A node whose router forwards these ports to it.
fn mapped(ports: &[(Transport, u16)]) -> World {
    let mut world = patient();
    for (transport, port) in ports {
        let external = SocketAddr::from(([8, 8, 8, 8], *port));
        let by = MappingProtocol::Pcp;
        world.tell(Input::PortMapped { transport: *transport, external, by });
    }
    world
}

#[test]
fn a_dial_to_an_address_that_the_peer_says_is_mapped_is_told_as_one_in_whatever_role() {
    let candidates = vec![public(1), public(2)];
    for (dialled, rung) in [(1, Rung::Punch), (2, Rung::Mapped)] {
        let mut world = patient();
        let (circuit, _) = world.visited(peer(1));
        let mapped = vec![public(2)];
        let offer = Offer { candidates: candidates.clone(), mapped, ..Offer::default() };
        world.answer_with(circuit, offer, false);
        let dial = punches(&world.pass(RTT))[0].0;
        assert_eq!(attempted(&mut world), [Rung::Punch], "one of the two is not mapped");
        let dial = (Some(dial), Direction::Outbound);
        opened(&mut world, peer(1), dial, Transport::Tcp, public(dialled));
        assert_eq!(taken(&mut world), [rung]);
    }
    let mut world = patient();
    let (circuit, _) = world.visited(peer(1));
    let offer = || vec![public(2)];
    let offer = Offer { candidates: offer(), mapped: offer(), ..Offer::default() };
    world.answer_with(circuit, offer, false);
    let made = punches(&world.pass(S));
    assert_eq!(attempted(&mut world), [Rung::Mapped; 2], "as a listener and as a caller");
    let with_id = public(2).with_p2p(peer(1)).unwrap();
    opened(&mut world, peer(1), (Some(made[1].0), Direction::Outbound), Transport::Tcp, with_id);
    assert_eq!(taken(&mut world), [Rung::Mapped]);
}

#[test]
fn who_was_dialled_says_mapped_only_if_the_peer_knew_no_other_address_over_that_transport() {
    for (ports, transport, rung) in [
        // The relay sees the port that is mapped.
        (&[(Transport::Tcp, 4001)][..], Transport::Tcp, Rung::Mapped),
        // The relay sees another port, which may have been dialled as well.
        (&[(Transport::Tcp, 5000)][..], Transport::Tcp, Rung::Inbound),
        (&[(Transport::Tcp, 4001)][..], Transport::Quic, Rung::Inbound),
        (&[(Transport::Tcp, 4001), (Transport::Quic, 5000)][..], Transport::Quic, Rung::Mapped),
        (&[][..], Transport::Tcp, Rung::Inbound),
    ] {
        let mut world = mapped(ports);
        let (circuit, _) = world.visited(peer(1));
        world.answer(circuit, &[public(1)]);
        opened(&mut world, peer(1), NOT_DIALLED, transport, public(1));
        assert_eq!(taken(&mut world), [rung], "{ports:?} {transport}");
    }
}

#[test]
fn two_dials_that_met_on_one_connection_went_to_what_is_mapped_at_either_end() {
    for (ports, rung) in [(&[(Transport::Tcp, 4001)][..], Rung::Mapped), (&[][..], Rung::Punch)] {
        let mut world = mapped(ports);
        let (circuit, _) = world.visited(peer(1));
        world.answer(circuit, &[public(1)]);
        let dial = punches(&world.pass(RTT))[0].0;
        opened(&mut world, peer(1), (Some(dial), Direction::Outbound), Transport::Tcp, public(1));
        assert_eq!(taken(&mut world), [rung], "{ports:?}");
    }
}

#[test]
fn who_was_dialled_in_one_network_or_before_it_offered_anything_says_nothing_of_a_mapping() {
    let mut world = mapped(&[(Transport::Tcp, 4001)]);
    world.visited(peer(1));
    opened(&mut world, peer(1), NOT_DIALLED, Transport::Tcp, at("192.168.1.9"));
    world.reached(peer(2));
    opened(&mut world, peer(2), NOT_DIALLED, Transport::Tcp, public(2));
    assert_eq!(taken(&mut world), [Rung::Lan, Rung::Inbound]);
}

#[test]
fn a_claim_about_mapped_addresses_changes_nothing_that_is_done() {
    let dialled = |mapped| {
        let mut world = patient();
        let (circuit, _) = world.visited(peer(1));
        let candidates = vec![public(1), at("192.168.1.9")];
        world.answer_with(circuit, Offer { candidates, mapped, ..Offer::default() }, false);
        punches(&world.pass(S))
    };
    let everything: Vec<Multiaddr> = (1..=200).map(public).chain([at("192.168.1.9")]).collect();
    assert_eq!(dialled(everything), dialled(vec![]));
}

#[test]
fn a_known_address_that_fails_while_a_relay_leads_to_the_peer_is_told_with_the_reason() {
    let mut world = World::seen();
    world.learn(peer(1), &[direct(1), relay(9).circuit_to(peer(1))]);
    let (_, actions) = world.open(peer(1));
    let direct_dial = actions.iter().find_map(|action| match action {
        Action::Dial { dial, .. } => Some(*dial),
        _ => None,
    });
    world.reached(peer(1));
    world.dial_failed(direct_dial.unwrap());
    let told = world.events().into_iter().find_map(|event| match event {
        Event::WayFailed { peer, way, reason } => Some((peer, way.to_string(), reason.to_string())),
        _ => None,
    });
    assert_eq!(told, Some((peer(1), format!("direct ({})", direct(1)), "refused".to_owned())));
}

#[test]
fn where_no_way_leads_to_a_peer_each_is_told_once() {
    let mut world = World::new();
    world.learn(peer(1), &[direct(1)]);
    let (_, actions) = world.open(peer(1));
    world.dial_failed(dials(&actions)[0].0);
    let told = world.events().iter().any(|event| matches!(event, Event::WayFailed { .. }));
    assert!(!told, "whoever asked is told all");
}

#[test]
fn where_the_two_are_seen_over_nothing_in_common_that_is_why_no_punch_went_through() {
    let quic: Multiaddr = "/ip4/8.8.8.1/udp/4001/quic-v1".parse().unwrap();
    let over_v6: Multiaddr = "/ip6/2a00::1/tcp/4001".parse().unwrap();
    let ours = SeenOver { tcp_v4: true, ..SeenOver::default() };
    let quic_v4 = SeenOver { quic_v4: true, ..SeenOver::default() };
    for (named, apart) in [
        (vec![quic.clone()], Some(quic_v4)),
        (vec![quic.clone(), over_v6], Some(SeenOver { tcp_v6: true, ..quic_v4 })),
        (vec![quic, public(1)], None),
    ] {
        let mut world = patient();
        let (circuit, _) = world.visited(peer(1));
        for round in 1..=ROUNDS_MAX {
            world.answer(circuit, &named);
            let mut made = punches(&world.pass(RTT / 2));
            while let Some((dial, ..)) = made.pop() {
                made.extend(punches(&world.punch_failed(dial, TIMED_OUT)));
            }
            if round < ROUNDS_MAX {
                world.pass(ROUND_WAIT * round);
            }
        }
        let reasons = reasons(&mut world);
        match (apart, &reasons[..]) {
            (Some(theirs), [(reason, _)]) => {
                assert_eq!(*reason, UpgradeFailure::NothingInCommon { ours, theirs }, "{named:?}");
            }
            (None, [(UpgradeFailure::PunchFailed { .. }, _)]) => {}
            _ => panic!("{named:?}: {reasons:?}"),
        }
    }
}
