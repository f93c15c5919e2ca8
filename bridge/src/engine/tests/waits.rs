//! Whoever waits for a peer longer than 10 s is told what for, in each stage.

use super::*;
use crate::{
    error::{CircuitFault, RelayFailure},
    event::{Awaited, Waiting},
};

const SAID: Duration = Duration::from_secs(9);

/// What is said to be waited for within this time, and for whom.
fn told(world: &mut World, time: Duration) -> Vec<Waiting> {
    world.all_events();
    world.pass(time);
    let said = |event| match event {
        Event::Waiting(waiting) => Some(waiting),
        _ => None,
    };
    world.all_events().into_iter().filter_map(said).collect()
}

/// Likewise the one after 10 s, and not before.
fn after_ten_seconds(world: &mut World) -> Waiting {
    let early = told(world, SAID - Duration::from_millis(1));
    assert_eq!(early, [], "not before 9 s");
    let mut said = told(world, Duration::from_millis(1));
    assert_eq!(said.len(), 1, "{said:?}");
    said.remove(0)
}

fn held_behind(relay: &RelayAddr) -> World {
    let mut world = World::new();
    world.learn(peer(1), &[relay.circuit_to(peer(1))]);
    world
}

#[test]
fn an_open_whose_addresses_do_not_answer_says_before_ten_seconds_that_they_are_dialled() {
    let mut world = World::new();
    let named: Multiaddr = "/dns4/alice.example.org/tcp/4001".parse().unwrap();
    world.learn(peer(1), &[direct(1), named]);
    world.open(peer(1));
    let waiting = after_ten_seconds(&mut world);
    let names = vec!["alice.example.org".to_owned()];
    let awaits = vec![Awaited::Dial { addresses: 2, names }];
    assert_eq!(waiting, Waiting { peer: peer(1), waited_ms: 9_000, awaits });
}

#[test]
fn a_relay_that_is_not_reached_is_named_with_the_name_that_is_looked_up() {
    let address = format!("/dns4/relay.example.org/tcp/4001/p2p/{}", peer(9));
    let relay: RelayAddr = address.parse().unwrap();
    let mut world = held_behind(&relay);
    world.open(peer(1));
    let names = vec!["relay.example.org".to_owned()];
    let awaits = vec![Awaited::RelayLink { relay: relay.peer(), names }];
    assert_eq!(after_ten_seconds(&mut world).awaits, awaits);
}

#[test]
fn a_relay_that_does_not_connect_the_peer_is_named() {
    let relay = relay(9);
    let mut world = held_behind(&relay);
    world.reserved(&relay);
    world.open(peer(1));
    assert_eq!(after_ten_seconds(&mut world).awaits, [Awaited::Circuit { relay: relay.peer() }]);
}

#[test]
fn a_peer_that_holds_no_place_at_the_relay_is_waited_for_until_the_next_attempt() {
    let relay = relay(9);
    let mut world = held_behind(&relay);
    world.reserved(&relay);
    let mut dialled = dials(&world.tell(Input::Hold { peer: peer(1) }));
    let (mut said, deadline) = (Vec::new(), world.now + SAID);
    while world.now < deadline {
        for (dial, ..) in dialled.drain(..) {
            world.tell(Input::DialFailed { dial, reason: DialFailureReason::NoReservation });
        }
        dialled = dials(&world.pass(Duration::from_millis(500)));
        said.extend(world.all_events());
    }
    let waits = said.into_iter().filter_map(|event| match event {
        Event::Waiting(waiting) => Some(waiting),
        _ => None,
    });
    let waits: Vec<Waiting> = waits.collect();
    let [Waiting { awaits, .. }] = waits.as_slice() else { panic!("{waits:?}") };
    let [
        Awaited::NextAttempt {
            cause: Some(OpenError::NoRouteToDestination { tried: causes, .. }), ..
        },
    ] = awaits.as_slice()
    else {
        panic!("{awaits:?}")
    };
    assert_eq!(causes[0].reason, DialFailureReason::NoReservation);
}

#[test]
fn a_peer_that_is_connected_and_does_not_answer_for_the_stream_is_told_with_its_service() {
    let mut world = World::with(|config| config.deadlines.negotiate = Duration::from_secs(60));
    world.connected(peer(1), Path::Direct, Transport::Tcp);
    world.open(peer(1));
    let awaits = vec![Awaited::Answer { service: service(), path: Path::Direct }];
    assert_eq!(after_ten_seconds(&mut world).awaits, awaits);
}

#[test]
fn a_relay_that_gives_no_place_is_told_with_its_stage() {
    let mut world = World::new();
    let relay = relay(9);
    world.tell(Input::Reserve { relay: relay.clone() });
    let awaits = vec![Awaited::RelayLink { relay: relay.peer(), names: Vec::new() }];
    let waiting = after_ten_seconds(&mut world);
    assert_eq!((waiting.peer, waiting.awaits), (relay.peer(), awaits));
    let dial = DialId(1);
    let reason = DialFailureReason::Network { cause: "connection refused".to_owned() };
    world.tell(Input::DialFailed { dial, reason: reason.clone() });
    let status = world.engine.status(world.now);
    let [Awaited::RelayAgain { cause, .. }] = status.waits[0].awaits.as_slice() else {
        panic!("{status:?}")
    };
    assert_eq!(cause, &Some(RelayFailure::Dial(reason)));
}

#[test]
fn what_is_still_waited_for_is_said_ever_more_rarely() {
    let mut world = World::new();
    world.learn(peer(1), &[direct(1)]);
    world.tell(Input::Hold { peer: peer(1) });
    let seconds: Vec<u64> = told(&mut world, Duration::from_secs(3600))
        .into_iter()
        .map(|waiting| waiting.waited_ms / 1000)
        .collect();
    assert_eq!(seconds, [9, 27, 63, 135, 279, 567, 1143, 1743, 2343, 2943, 3543]);
}

#[test]
fn nobody_is_told_of_a_wait_that_is_over() {
    let mut world = World::new();
    world.learn(peer(1), &[direct(1)]);
    world.tell(Input::Hold { peer: peer(1) });
    world.open(peer(2));
    world.pass(Duration::from_secs(5));
    world.connected(peer(1), Path::Direct, Transport::Tcp);
    assert_eq!(told(&mut world, Duration::from_secs(3600)), []);
    assert!(world.engine.status(world.now).waits.is_empty());
}

#[test]
fn whoever_opens_while_a_peer_is_long_missing_is_told_within_ten_seconds_too() {
    let mut world = World::new();
    world.learn(peer(1), &[direct(1)]);
    world.tell(Input::Hold { peer: peer(1) });
    told(&mut world, Duration::from_secs(700));
    world.open(peer(1));
    let waiting = after_ten_seconds(&mut world);
    assert_eq!(waiting.waited_ms / 1000, 709);
}

#[test]
fn a_circuit_that_is_asked_for_again_is_told_so() {
    let relay = relay(9);
    let mut world = held_behind(&relay);
    world.reserved(&relay);
    let (_, actions) = world.open(peer(1));
    let reason = DialFailureReason::CircuitFailed { reason: CircuitFault::PeerUnreachable };
    world.tell(Input::DialFailed { dial: dials(&actions)[0].0, reason });
    let status = world.engine.status(world.now);
    let awaits = status.waits[0].awaits.as_slice();
    assert!(matches!(awaits, [Awaited::CircuitAgain { .. }]), "{awaits:?}");
}
