//! Which connections are kept, and how everything ends.

use super::*;
use crate::error::Refusal;

fn grace() -> (Duration, Duration) {
    let deadlines = Config::default().deadlines;
    (deadlines.relayed_grace, deadlines.direct_grace)
}

#[test]
fn an_unused_relayed_connection_is_closed_after_its_grace_and_the_reservation_stays() {
    let mut world = World::new();
    world.reserved(&relay(9));
    let circuit = world.connected(peer(1), relayed(&relay(9)), Transport::Tcp);
    assert_eq!(closes(&world.pass(grace().0 - MS)), []);
    assert_eq!(closes(&world.pass(MS)), [circuit]);
    world.closed(circuit);
    assert_eq!(closes(&world.pass(HOUR / 2)), [], "the link to the relay stays");
}

#[test]
fn the_grace_starts_when_the_last_stream_ends() {
    let mut world = World::new();
    let circuit = world.connected(peer(1), relayed(&relay(9)), Transport::Tcp);
    world.stream_on(circuit, peer(1));
    world.stream_on(circuit, peer(1));
    assert_eq!(closes(&world.pass(HOUR)), []);
    world.leg_ended(circuit);
    assert_eq!(closes(&world.pass(HOUR)), [], "one stream is left");
    world.leg_ended(circuit);
    let key = StreamKey { peer: peer(1), stream: StreamId::from_bytes([1; 16]) };
    world.tell(Input::StreamClosed { key });
    assert_eq!(closes(&world.pass(grace().0 - MS)), []);
    assert_eq!(closes(&world.pass(MS)), [circuit]);
}

#[test]
fn an_inbound_stream_keeps_its_connection() {
    let mut world = World::new();
    let connection = world.connected(peer(1), Path::Direct, Transport::Tcp);
    world.inbound(connection, FREE);
    assert_eq!(closes(&world.pass(HOUR)), []);
}

#[test]
fn an_unused_direct_connection_is_closed_after_its_own_longer_grace() {
    let mut world = World::new();
    let connection = world.connected(peer(1), Path::Direct, Transport::Tcp);
    assert_eq!(closes(&world.pass(grace().1 - MS)), []);
    assert_eq!(closes(&world.pass(MS)), [connection]);
    assert_eq!(closes(&world.pass(HOUR)), [], "asked for once");
}

#[test]
fn a_link_to_a_relay_stays_as_long_as_a_relayed_connection_runs_through_it() {
    let mut world = World::new();
    let relay = relay(9);
    let link = world.connected(relay.peer(), Path::Direct, Transport::Tcp);
    let circuit = world.connected(peer(1), relayed(&relay), Transport::Tcp);
    world.stream_on(circuit, peer(1));
    assert_eq!(closes(&world.pass(HOUR)), []);
    world.closed(circuit);
    assert_eq!(closes(&world.pass(grace().1)), [link]);
}

#[test]
fn the_close_of_a_connection_names_our_reason_if_it_was_ours() {
    let mut world = World::new();
    let connection = world.connected(peer(1), Path::Direct, Transport::Tcp);
    world.pass(grace().1);
    world.events();
    world.closed(connection);
    assert!(matches!(world.events()[..], [Event::ConnectionClosed { cause: CloseCause::Unused, .. }]));
}

#[test]
fn an_unresponsive_connection_is_closed() {
    let mut world = World::new();
    let connection = world.connected(peer(1), Path::Direct, Transport::Tcp);
    world.stream_on(connection, peer(1));
    assert_eq!(closes(&world.tell(Input::Unresponsive { connection })), [connection]);
    assert_eq!(closes(&world.tell(Input::Unresponsive { connection })), []);
}

#[test]
fn shutdown_fails_the_opens_closes_the_connections_and_ends_with_the_last_one() {
    let mut world = World::new();
    let connection = world.reserved(&relay(9));
    world.learn(peer(1), &[direct(1)]);
    let (open, _) = world.open(peer(1));
    let actions = world.tell(Input::Shutdown);
    assert!(matches!(failures(&actions)[..], [(failed, OpenError::Shutdown)] if failed == open));
    assert_eq!(closes(&actions), [connection]);
    let (_, actions) = world.open(peer(1));
    assert!(matches!(failures(&actions)[..], [(_, OpenError::Shutdown)]));
    assert!(matches!(
        world.inbound(connection, FREE)[..],
        [Action::Refuse { refusal: Refusal::Shutdown, .. }]
    ));
    assert!(!world.engine.is_stopped());
    assert_eq!(dials(&world.closed(connection)), [], "a lost relay is not dialled any more");
    assert!(world.engine.is_stopped());
    assert!(matches!(world.events().last(), Some(Event::Stopped {})));
}

#[test]
fn shutdown_lets_the_streams_tell_their_peers_before_any_connection_closes() {
    let mut world = World::new();
    let link = world.reserved(&relay(9));
    let connection = world.connected(peer(1), Path::Direct, Transport::Tcp);
    world.stream_on(connection, peer(1));
    assert_eq!(closes(&world.tell(Input::Shutdown)), []);
    assert_eq!(closes(&world.leg_ended(connection)), [link, connection]);
}

#[test]
fn shutdown_waits_for_no_stream_longer_than_for_its_parting() {
    let mut world = World::new();
    let connection = world.connected(peer(1), Path::Direct, Transport::Tcp);
    world.stream_on(connection, peer(1));
    world.tell(Input::Shutdown);
    let parting = Config::default().deadlines.parting;
    assert_eq!(closes(&world.pass(parting - MS)), []);
    assert_eq!(closes(&world.pass(MS)), [connection]);
}

#[test]
fn shutdown_does_not_wait_longer_than_its_deadline() {
    let mut world = World::new();
    world.connected(peer(1), Path::Direct, Transport::Tcp);
    world.tell(Input::Shutdown);
    let deadline = Config::default().deadlines.shutdown;
    world.pass(deadline - MS);
    assert!(!world.engine.is_stopped());
    world.pass(MS);
    assert!(world.engine.is_stopped());
    let stopped = |event: &Event| matches!(event, Event::Stopped {});
    assert_eq!(world.events().iter().filter(|event| stopped(event)).count(), 1);
}

#[test]
fn a_connection_that_comes_up_during_shutdown_is_closed() {
    let mut world = World::new();
    world.connected(peer(1), Path::Direct, Transport::Tcp);
    world.tell(Input::Shutdown);
    let (late, actions) =
        world.established(peer(2), Path::Direct, Transport::Tcp, None, Direction::Inbound);
    assert_eq!(closes(&actions), [late]);
}
