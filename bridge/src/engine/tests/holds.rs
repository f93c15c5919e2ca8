//! Peers that a connection is kept to, and streams that the program decides on.

use super::*;
use crate::event::Asked;

fn unreachable(events: &[Event]) -> Vec<(u32, u64)> {
    let pick = |event: &Event| match event {
        Event::PeerUnreachable { failures, retry_in_ms, .. } => Some((*failures, *retry_in_ms)),
        _ => None,
    };
    events.iter().filter_map(pick).collect()
}

#[test]
fn a_held_peer_is_reached_for_again_and_again_with_backoff() {
    let mut world = World::new();
    world.learn(peer(1), &[direct(1)]);
    let mut actions = world.tell(Input::Hold { peer: peer(1) });
    for (failures, wait) in [(1, 500), (2, 1000), (3, 2000), (4, 4000), (5, 4000)] {
        world.dial_failed(dials(&actions)[0].0);
        assert_eq!(unreachable(&world.events()), [(failures, wait)]);
        assert_eq!(dials(&world.pass(Duration::from_millis(wait) - MS)), []);
        actions = world.pass(MS);
        assert_eq!(dials(&actions).len(), 1);
    }
}

#[test]
fn the_best_connection_to_a_held_peer_stays_and_a_lost_one_is_made_again() {
    let mut world = World::new();
    world.learn(peer(1), &[direct(1)]);
    let actions = world.tell(Input::Hold { peer: peer(1) });
    let (held, _) = world.dialled(peer(1), dials(&actions)[0].0);
    let circuit = world.connected(peer(1), relayed(&relay(9)), Transport::Tcp);
    assert_eq!(closes(&world.pass(HOUR)), [circuit]);
    world.closed(circuit);
    assert_eq!(dials(&world.closed(held)).len(), 1);
}

#[test]
fn a_held_peer_without_an_address_is_said_to_be_unreachable() {
    let mut world = World::new();
    world.tell(Input::Hold { peer: peer(1) });
    assert_eq!(unreachable(&world.events()), [(1, 500)]);
}

#[test]
fn one_held_peer_too_many_is_refused() {
    let mut world = World::with(|config| config.limits.holds = 1);
    world.tell(Input::Hold { peer: peer(1) });
    world.tell(Input::Hold { peer: peer(2) });
    let refused = |event: &Event| matches!(event, Event::Refused { what: Asked::Hold, limit: 1, .. });
    assert!(world.events().iter().any(refused));
}

#[test]
fn a_request_counts_as_a_stream_of_its_peer_and_is_said_to_be_open_when_it_is_accepted() {
    let mut world = World::with(|config| config.limits.streams_per_peer = 1);
    let connection = world.connected(peer(1), Path::Direct, Transport::Tcp);
    world.events();
    assert!(matches!(world.inbound(connection, Queue::Free { ask: true })[..], [Action::Ask { .. }]));
    assert!(matches!(
        world.inbound(connection, Queue::Free { ask: true })[..],
        [Action::Refuse { refusal: crate::error::Refusal::Busy, .. }]
    ));
    let opened = |event: &Event| matches!(event, Event::StreamOpened { .. });
    assert!(!world.events().iter().any(opened));
    let stream = StreamId::from_bytes([2; 16]);
    world.tell(Input::RequestAccepted { connection, stream, service: service() });
    assert!(world.events().iter().any(opened));
    world.tell(Input::LegEnded { connection });
    assert!(matches!(world.inbound(connection, Queue::Free { ask: true })[..], [Action::Ask { .. }]));
}
