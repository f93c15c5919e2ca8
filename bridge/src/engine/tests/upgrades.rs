//! What is said about the way from a relayed to a direct connection.

use super::*;
use crate::error::UpgradeFailure;

fn upgrades(world: &mut World) -> Vec<Event> {
    let of_upgrade =
        |event: &Event| matches!(event, Event::UpgradeSucceeded { .. } | Event::UpgradeFailed { .. });
    world.events().into_iter().filter(of_upgrade).collect()
}

#[test]
fn an_upgrade_says_how_long_it_took_and_how_many_punches() {
    let mut world = World::new();
    world.connected(peer(1), relayed(&relay(9)), Transport::Tcp);
    world.pass(300 * MS);
    world.tell(Input::PunchFailed { peer: peer(1) });
    world.pass(200 * MS);
    let connection = world.connected(peer(1), Path::Direct, Transport::Quic);
    let events = upgrades(&mut world);
    let [Event::UpgradeSucceeded { connection: id, transport, took_ms, attempts, .. }] = &events[..]
    else {
        panic!("{events:?}");
    };
    assert_eq!((*id, *transport, *took_ms, *attempts), (connection, Transport::Quic, 500, 2));
}

#[test]
fn a_second_direct_connection_is_no_second_upgrade() {
    let mut world = World::new();
    world.connected(peer(1), relayed(&relay(9)), Transport::Tcp);
    world.connected(peer(1), Path::Direct, Transport::Quic);
    world.connected(peer(1), Path::Direct, Transport::Quic);
    assert_eq!(upgrades(&mut world).len(), 1);
    world.tell(Input::PunchFailed { peer: peer(1) });
    world.tell(Input::UpgradeFailed { peer: peer(1), reason: UpgradeFailure::NoCandidate });
    assert_eq!(upgrades(&mut world).len(), 0, "what fails afterwards is of no account");
}

#[test]
fn a_direct_connection_from_the_start_is_no_upgrade() {
    let mut world = World::new();
    world.connected(peer(1), Path::Direct, Transport::Tcp);
    world.connected(peer(1), relayed(&relay(9)), Transport::Tcp);
    assert_eq!(upgrades(&mut world).len(), 0);
}

#[test]
fn the_third_punch_that_fails_is_a_failed_upgrade_said_once() {
    let mut world = World::new();
    world.connected(peer(1), relayed(&relay(9)), Transport::Tcp);
    for _ in 0..2 {
        world.tell(Input::PunchFailed { peer: peer(1) });
    }
    assert_eq!(upgrades(&mut world).len(), 0);
    for _ in 0..2 {
        world.tell(Input::PunchFailed { peer: peer(1) });
    }
    assert!(matches!(
        upgrades(&mut world)[..],
        [Event::UpgradeFailed { reason: UpgradeFailure::PunchFailed, attempts: 3, .. }]
    ));
}

#[test]
fn a_new_relayed_connection_counts_its_punches_from_none() {
    let mut world = World::new();
    let circuit = world.connected(peer(1), relayed(&relay(9)), Transport::Tcp);
    for _ in 0..3 {
        world.tell(Input::PunchFailed { peer: peer(1) });
    }
    world.closed(circuit);
    world.connected(peer(1), relayed(&relay(9)), Transport::Tcp);
    world.events();
    for _ in 0..3 {
        world.tell(Input::PunchFailed { peer: peer(1) });
    }
    assert_eq!(upgrades(&mut world).len(), 1);
}

#[test]
fn a_dial_that_fails_for_a_peer_without_a_relayed_connection_is_no_punch() {
    let mut world = World::new();
    for _ in 0..3 {
        world.tell(Input::PunchFailed { peer: peer(1) });
    }
    assert_eq!(upgrades(&mut world).len(), 0);
}
