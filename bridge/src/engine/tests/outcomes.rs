//! What upgrades came to: by which way, and how often.

use super::{
    rounds::row_fails,
    upgrades::{TIMED_OUT, public},
    *,
};
use crate::{
    engine::input::Offer,
    event::{Rung, UpgradeCount},
    nat::{Filtering, Mapping, NatClass, NatKind},
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

/// By a dial of ours to a public address.
fn becomes_direct(world: &mut World, peer: PeerId, transport: Transport) {
    let connection = ConnectionId(libp2p::swarm::ConnectionId::new_unchecked(world.id() as usize));
    world.tell(Input::ConnectionOpened(Opened {
        connection,
        dial: None,
        peer,
        path: Path::Direct,
        direction: Direction::Outbound,
        transport,
        address: public(7),
        limit: None,
    }));
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
        let offer = Offer { candidates: vec![public(seed)], nat: full_cone(), ..Offer::default() };
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
    let offer = Offer { candidates: vec![public(1)], nat: full_cone(), ..Offer::default() };
    world.answer_with(circuit, offer, false);
    becomes_direct(&mut world, peer(1), Transport::Tcp);
    let told = world.events().into_iter().find_map(|event| match event {
        Event::UpgradeSucceeded { local_nat, remote_nat, .. } => Some((local_nat, remote_nat)),
        _ => None,
    });
    assert_eq!(told, Some((NatKind::default(), full_cone())));
}
