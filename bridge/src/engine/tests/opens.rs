//! From "a stream to this peer" to a substream, an error, or a deadline.

use super::*;
use crate::{
    engine::paths::dials::{CIRCUIT_RETRIES_MAX, CIRCUIT_RETRY},
    error::{CircuitFault, OpenStage, Refusal, TriedWay},
    event::Asked,
};

fn busy_with(world: &mut World, target: PeerId) -> (OpenId, DialId) {
    world.learn(target, &[direct(1)]);
    let (open, actions) = world.open(target);
    (open, dials(&actions)[0].0)
}

#[test]
fn a_direct_connection_is_preferred_to_a_relayed_one() {
    let mut world = World::new();
    world.connected(peer(1), relayed(&relay(9)), Transport::Tcp);
    let best = world.connected(peer(1), Path::Direct, Transport::Quic);
    assert_eq!(opens_on(&world.open(peer(1)).1), [best]);
}

#[test]
fn among_direct_connections_the_configured_transport_wins_and_then_the_older_one() {
    for transports in [[Transport::Tcp, Transport::Quic], [Transport::Quic, Transport::Tcp]] {
        let mut world = World::with(|config| config.transports = transports);
        world.connected(peer(1), Path::Direct, transports[1]);
        let older = world.connected(peer(1), Path::Direct, transports[0]);
        world.connected(peer(1), Path::Direct, transports[0]);
        assert_eq!(opens_on(&world.open(peer(1)).1), [older]);
    }
}

#[test]
fn a_thousand_of_a_thousand_streams_open_on_the_direct_connection() {
    let mut world = World::with(|config| config.limits.streams_per_peer = 1000);
    world.connected(peer(1), relayed(&relay(9)), Transport::Tcp);
    let best = world.connected(peer(1), Path::Direct, Transport::Tcp);
    for _ in 0..1000 {
        world.stream_on(best, peer(1));
    }
}

#[test]
fn a_connection_that_is_closing_is_not_used() {
    let mut world = World::new();
    let closing = world.connected(peer(1), Path::Direct, Transport::Tcp);
    let other = world.connected(peer(1), relayed(&relay(9)), Transport::Tcp);
    assert_eq!(closes(&world.tell(Input::Unresponsive { connection: closing })), [closing]);
    assert_eq!(opens_on(&world.open(peer(1)).1), [other]);
}

#[test]
fn a_peer_that_had_streams_and_ends_a_substream_as_it_leaves_is_not_told_to_speak_another_protocol() {
    let unsupported = |open| Input::SubstreamFailed { open, failure: SubstreamFailure::Unsupported };
    let mut world = World::new();
    let connection = world.connected(peer(1), Path::Direct, Transport::Tcp);
    let (open, _) = world.open(peer(1));
    let actions = world.tell(unsupported(open));
    let failed = failures(&actions);
    assert!(matches!(failed[..], [(_, OpenError::Unsupported { .. })]), "{failed:?}");
    world.stream_on(connection, peer(1));
    let other = world.connected(peer(1), relayed(&relay(9)), Transport::Tcp);
    let (open, _) = world.open(peer(1));
    assert_eq!(opens_on(&world.tell(unsupported(open))), [other]);
}

#[test]
fn without_an_address_an_open_fails_at_once() {
    let mut world = World::new();
    let (open, actions) = world.open(peer(1));
    assert!(matches!(failures(&actions)[..], [(failed, OpenError::NoAddress { .. })] if failed == open));
}

#[test]
fn a_stream_to_oneself_is_refused() {
    let (_, actions) = World::new().open(peer(0));
    assert!(matches!(failures(&actions)[..], [(_, OpenError::Myself { .. })]));
}

#[test]
fn a_circuit_is_dialled_only_after_the_relay_told_how_it_sees_us() {
    let mut world = World::new();
    let relay = relay(9);
    world.learn(peer(1), &[relay.circuit_to(peer(1))]);
    let (_, actions) = world.open(peer(1));
    let link = dials(&actions);
    assert_eq!((link[0].1, &link[0].2), (relay.peer(), &vec![relay.address().clone()]));
    let (connection, actions) = world.dialled(relay.peer(), link[0].0);
    assert_eq!(dials(&actions), []);
    let actions = world.identified(connection);
    let circuit = &dials(&actions)[0];
    assert_eq!((circuit.1, &circuit.2), (peer(1), &vec![relay.circuit_to(peer(1))]));
}

#[test]
fn a_relay_that_does_not_identify_holds_a_circuit_up_only_until_the_deadline() {
    let mut world = World::new();
    let relay = relay(9);
    world.learn(peer(1), &[relay.circuit_to(peer(1))]);
    let (_, actions) = world.open(peer(1));
    world.dialled(relay.peer(), dials(&actions)[0].0);
    let deadline = Config::default().deadlines.identify;
    assert_eq!(dials(&world.pass(deadline - MS)), []);
    assert_eq!(dials(&world.pass(MS))[0].1, peer(1));
}

#[test]
fn a_relay_that_is_ready_is_used_at_once() {
    let mut world = World::new();
    let relay = relay(9);
    world.reserved(&relay);
    world.learn(peer(1), &[relay.circuit_to(peer(1))]);
    assert_eq!(dials(&world.open(peer(1)).1)[0].2, [relay.circuit_to(peer(1))]);
}

#[test]
fn one_relay_under_two_addresses_makes_one_circuit() {
    let mut world = World::new();
    let relay = relay(9);
    world.reserved(&relay);
    let other = RelayAddr::new(direct(10).with_p2p(relay.peer()).unwrap()).unwrap();
    world.learn(peer(1), &[relay.circuit_to(peer(1)), other.circuit_to(peer(1))]);
    let (open, actions) = world.open(peer(1));
    assert_eq!(dials(&actions).len(), 1);
    let actions = world.dial_failed(dials(&actions)[0].0);
    assert!(matches!(failures(&actions)[..], [(failed, _)] if failed == open));
}

#[test]
fn when_every_way_failed_the_error_names_each_with_its_cause() {
    let mut world = World::new();
    let relay = relay(9);
    world.learn(peer(1), &[direct(1), relay.circuit_to(peer(1))]);
    let (open, actions) = world.open(peer(1));
    let asked = dials(&actions);
    let find = |target| asked.iter().find(|(_, peer, _)| *peer == target).unwrap().0;
    assert_eq!(world.dial_failed(find(peer(1))), []);
    let actions = world.dial_failed(find(relay.peer()));
    let [(failed, OpenError::NoRouteToDestination { tried: causes, .. })] = failures(&actions)[..]
    else {
        panic!("{actions:?}");
    };
    assert_eq!(failed, open);
    let ways: Vec<_> = causes.iter().map(|cause| cause.way.to_string()).collect();
    assert_eq!(ways, [format!("direct ({})", direct(1)), format!("through relay {relay}")]);
}

#[test]
fn a_relay_that_goes_away_before_it_identified_fails_the_circuits_that_waited_for_it() {
    let mut world = World::new();
    let relay = relay(9);
    world.learn(peer(1), &[relay.circuit_to(peer(1))]);
    let (open, actions) = world.open(peer(1));
    let (connection, _) = world.dialled(relay.peer(), dials(&actions)[0].0);
    let actions = world.closed(connection);
    assert!(matches!(
        failures(&actions)[..],
        [(failed, OpenError::NoRouteToDestination { .. })] if failed == open
    ));
    let (_, actions) = world.open(peer(1));
    assert_eq!(dials(&actions).len(), 1, "a later open starts anew: {actions:?}");
}

#[test]
fn opens_to_the_same_peer_share_one_dial() {
    let mut world = World::new();
    let (_, dial) = busy_with(&mut world, peer(1));
    let (_, actions) = world.open(peer(1));
    assert_eq!(dials(&actions), []);
    let (connection, actions) = world.dialled(peer(1), dial);
    assert_eq!(opens_on(&actions), [connection, connection]);
}

#[test]
fn an_inbound_connection_serves_an_open_that_waits() {
    let mut world = World::new();
    busy_with(&mut world, peer(1));
    let (connection, actions) =
        world.established(peer(1), Path::Direct, Transport::Tcp, None, Direction::Inbound);
    assert_eq!(opens_on(&actions), [connection]);
}

#[test]
fn a_lost_substream_is_tried_again_on_the_next_best_connection() {
    let mut world = World::new();
    let best = world.connected(peer(1), Path::Direct, Transport::Tcp);
    let next = world.connected(peer(1), Path::Direct, Transport::Quic);
    let last = world.connected(peer(1), relayed(&relay(9)), Transport::Tcp);
    world.connected(peer(1), relayed(&relay(9)), Transport::Tcp);
    let (open, actions) = world.open(peer(1));
    assert_eq!(opens_on(&actions), [best]);
    assert_eq!(opens_on(&world.lost(open)), [next]);
    assert_eq!(opens_on(&world.lost(open)), [last]);
    let actions = world.lost(open);
    assert_eq!(opens_on(&actions), [], "three are enough");
    assert!(matches!(failures(&actions)[..], [(_, OpenError::ConnectionLost { .. })]));
}

#[test]
fn an_open_whose_leg_died_before_the_answer_goes_on_over_another_connection_until_its_deadline() {
    let deadline = Config::default().deadlines.open;
    let mut world = World::new();
    world.learn(peer(1), &[direct(1)]);
    let first = world.connected(peer(1), Path::Direct, Transport::Tcp);
    let (open, _) = world.open(peer(1));
    world.pass(deadline / 2);
    world.closed(first);
    let dialled = dials(&world.lost(open));
    let (second, actions) = world.dialled(peer(1), dialled[0].0);
    let again = Action::OpenSubstream { open, peer: peer(1), connection: second, service: service() };
    assert!(actions.contains(&again), "{actions:?}");
    assert!(failures(&world.pass(deadline / 2 - MS)).is_empty());
    assert!(matches!(
        failures(&world.pass(MS))[..],
        [(failed, OpenError::Deadline { stage: OpenStage::Negotiating, .. })] if failed == open
    ));
}

#[test]
fn an_open_whose_stream_is_over_asks_for_no_other_on_whatever_connection_it_was() {
    for looking in [false, true] {
        let mut world = World::new();
        world.learn(peer(1), &[direct(1)]);
        world.connected(peer(1), Path::Direct, Transport::Tcp);
        let (open, _) = world.open(peer(1));
        if looking {
            assert_eq!(dials(&world.lost(open)).len(), 1);
        }
        let failure = SubstreamFailure::Over("the peer answered Cancelled".to_owned());
        let actions = world.tell(Input::SubstreamFailed { open, failure });
        assert!(matches!(
            failures(&actions)[..],
            [(failed, OpenError::ConnectionLost { .. })] if failed == open
        ));
        assert_eq!(opens_on(&actions), []);
        let (path, outbound) = (Path::Direct, Direction::Outbound);
        let (_, actions) = world.established(peer(1), path, Transport::Quic, None, outbound);
        assert_eq!(opens_on(&actions), []);
    }
}

#[test]
fn after_the_last_connection_failed_the_peer_is_dialled_again() {
    let mut world = World::new();
    world.learn(peer(1), &[direct(1)]);
    world.connected(peer(1), Path::Direct, Transport::Tcp);
    let (open, _) = world.open(peer(1));
    assert_eq!(dials(&world.lost(open)).len(), 1);
}

#[test]
fn a_refusal_is_final_and_names_its_reason() {
    for reason in [Refusal::NotServed, Refusal::Busy, Refusal::Shutdown] {
        let mut world = World::new();
        world.connected(peer(1), Path::Direct, Transport::Tcp);
        world.connected(peer(1), Path::Direct, Transport::Tcp);
        let (open, _) = world.open(peer(1));
        let failure = SubstreamFailure::Refused(reason);
        let actions = world.tell(Input::SubstreamFailed { open, failure });
        assert!(matches!(
            failures(&actions)[..],
            [(_, OpenError::Refused { reason: found, .. })] if *found == reason
        ));
    }
}

#[test]
fn an_open_ends_at_its_deadline_in_each_stage() {
    let deadline = Config::default().deadlines.open;
    let mut world = World::new();
    let (open, _) = busy_with(&mut world, peer(1));
    assert!(failures(&world.pass(deadline - MS)).is_empty());
    let actions = world.pass(MS);
    assert!(matches!(
        failures(&actions)[..],
        [(failed, OpenError::Deadline { stage: OpenStage::Connecting, .. })] if failed == open
    ));

    let mut world = World::new();
    world.connected(peer(1), Path::Direct, Transport::Tcp);
    world.open(peer(1));
    let actions = world.pass(deadline);
    assert!(matches!(
        failures(&actions)[..],
        [(_, OpenError::Deadline { stage: OpenStage::Negotiating, .. })]
    ));
}

#[test]
fn an_open_that_is_over_before_any_way_answered_names_each_that_was_tried_and_what_became_of_it() {
    let mut world = World::with(|config| config.deadlines.open = Duration::from_secs(5));
    let (silent, gone) = (relay(8), relay(9));
    world.learn(peer(1), &[direct(1), silent.circuit_to(peer(1)), gone.circuit_to(peer(1))]);
    let (_, actions) = world.open(peer(1));
    let dialled = dials(&actions);
    let to_gone = dialled.iter().find(|(_, peer, _)| *peer == gone.peer()).unwrap().0;
    let cause = DialFailureReason::Network { cause: "no route".to_owned() };
    world.tell(Input::DialFailed { dial: to_gone, reason: cause.clone() });
    let actions = world.pass(Duration::from_secs(5));
    let [(_, error)] = failures(&actions)[..] else { panic!("{actions:?}") };
    let OpenError::Deadline { tried, .. } = error else { panic!("{error}") };
    let late = DialFailureReason::Deadline { deadline: Duration::from_secs(5) };
    let of =
        |way: TriedWay| tried.iter().find(|tried| tried.way == way).map(|tried| tried.reason.clone());
    assert_eq!(of(TriedWay::Direct(vec![direct(1)])), Some(late.clone()));
    assert_eq!(of(TriedWay::Relay(silent)), Some(late));
    assert_eq!(of(TriedWay::Relay(gone)), Some(cause));
    assert_eq!(tried.len(), 3);
    let begin =
        format!("connection timeout: no stream to {} within 5 s (no connection to it yet): ", peer(1));
    assert!(error.to_string().starts_with(&begin), "{error}");
}

#[test]
fn a_substream_that_opens_after_the_deadline_leaves_nothing_behind() {
    let mut world = World::new();
    let connection = world.connected(peer(1), Path::Direct, Transport::Tcp);
    let (open, _) = world.open(peer(1));
    world.pass(Config::default().deadlines.open);
    world.events();
    world.substream_opened(open, connection);
    world.leg_ended(connection);
    assert!(world.events().is_empty());
    assert_eq!(closes(&world.pass(Config::default().deadlines.direct_grace)), [connection]);
}

#[test]
fn one_open_more_than_the_limit_is_refused() {
    let mut world = World::with(|config| config.limits.opens = 2);
    busy_with(&mut world, peer(1));
    world.open(peer(1));
    let (_, actions) = world.open(peer(1));
    assert!(matches!(failures(&actions)[..], [(_, OpenError::Busy { limit: 2 })]));
}

#[test]
fn of_one_stream_more_than_a_peer_may_have_ours_waits_and_the_peers_is_refused() {
    let mut world = World::with(|config| config.limits.streams_per_peer = 2);
    let connection = world.connected(peer(1), Path::Direct, Transport::Tcp);
    world.stream_on(connection, peer(1));
    assert!(matches!(world.inbound(connection, FREE)[..], [Action::Accept { .. }]));
    world.events();
    assert!(matches!(
        world.inbound(connection, FREE)[..],
        [Action::Refuse { refusal: Refusal::Busy, .. }]
    ));
    assert!(matches!(world.events()[..], [Event::Refused { what: Asked::StreamOfPeer, limit: 2, .. }]));
    let (_, actions) = world.open(peer(1));
    assert_eq!(actions, []);
    let key = StreamKey { peer: peer(1), stream: StreamId::from_bytes([1; 16]) };
    assert_eq!(opens_on(&world.tell(Input::StreamClosed { key })), [connection]);
}

#[test]
fn an_open_that_waits_for_another_stream_to_end_says_so_at_its_deadline() {
    let mut world = World::with(|config| config.limits.streams_per_peer = 1);
    let connection = world.connected(peer(1), Path::Direct, Transport::Tcp);
    world.stream_on(connection, peer(1));
    world.open(peer(1));
    let actions = world.pass(Config::default().deadlines.open);
    assert!(matches!(failures(&actions)[..], [(_, OpenError::StreamsOfPeer { limit: 1, .. })]));
}

#[test]
fn a_full_queue_and_an_unknown_service_are_refused_and_only_the_first_is_counted() {
    let mut world = World::new();
    let connection = world.connected(peer(1), Path::Direct, Transport::Tcp);
    world.events();
    let actions = world.inbound(connection, Queue::Full { limit: 5 });
    assert!(matches!(actions[..], [Action::Refuse { refusal: Refusal::Busy, .. }]));
    assert!(matches!(world.events()[..], [Event::Refused { what: Asked::Stream, limit: 5, .. }]));
    let actions = world.inbound(connection, Queue::NotServed);
    assert!(matches!(actions[..], [Action::Refuse { refusal: Refusal::NotServed, .. }]));
    assert!(matches!(world.events()[..], [Event::StreamRefused { reason: Refusal::NotServed, .. }]));
}

#[test]
fn of_more_addresses_than_the_limit_the_first_are_kept() {
    let mut world = World::with(|config| config.limits.addresses_per_peer = 2);
    world.learn(peer(1), &[direct(1), direct(2), direct(3)]);
    world.learn(peer(1), &[direct(4)]);
    assert_eq!(dials(&world.open(peer(1)).1)[0].2, [direct(1), direct(2)]);
}

#[test]
fn one_peer_more_than_the_limit_takes_the_place_of_one_that_nobody_reaches_for() {
    let mut world = World::with(|config| config.limits.known_peers = 2);
    busy_with(&mut world, peer(1));
    world.learn(peer(2), &[direct(2)]);
    world.learn(peer(3), &[direct(3)]);
    assert_eq!(dials(&world.open(peer(3)).1).len(), 1);
    let (_, actions) = world.open(peer(2));
    assert!(matches!(failures(&actions)[..], [(_, OpenError::NoAddress { .. })]));
}

#[test]
fn one_relay_more_than_the_limit_is_refused() {
    let mut world = World::with(|config| config.limits.relays = 1);
    world.reserved(&relay(9));
    world.events();
    assert_eq!(world.tell(Input::Reserve { relay: relay(8) }), []);
    assert!(matches!(world.events()[..], [Event::Refused { what: Asked::Relay, limit: 1, .. }]));
    world.learn(peer(1), &[relay(8).circuit_to(peer(1))]);
    let (_, actions) = world.open(peer(1));
    let [(_, OpenError::NoRouteToDestination { tried: causes, .. })] = failures(&actions)[..] else {
        panic!("{actions:?}");
    };
    assert!(matches!(causes[0].reason, DialFailureReason::Limit { .. }));
}

/// The dial fails for a reason that passes.
fn failed_just_now(world: &mut World, dial: DialId) -> Vec<Action> {
    let reason = DialFailureReason::CircuitFailed { reason: CircuitFault::PeerUnreachable };
    world.tell(Input::DialFailed { dial, reason })
}

#[test]
fn a_circuit_that_failed_just_now_is_dialled_again_with_growing_waits_but_not_for_ever() {
    let mut world = World::new();
    world.reserved(&relay(9));
    world.learn(peer(1), &[relay(9).circuit_to(peer(1))]);
    let (open, mut actions) = world.open(peer(1));
    let mut full = CIRCUIT_RETRY.0;
    for _ in 0..CIRCUIT_RETRIES_MAX {
        assert_eq!(failed_just_now(&mut world, dials(&actions)[0].0), []);
        assert_eq!(dials(&world.pass(full / 2 - MS)), []);
        actions = world.pass(full / 2 + MS);
        assert_eq!(dials(&actions)[0].2, [relay(9).circuit_to(peer(1))]);
        full = (2 * full).min(CIRCUIT_RETRY.1);
    }
    let actions = failed_just_now(&mut world, dials(&actions)[0].0);
    assert!(matches!(
        failures(&actions)[..],
        [(failed, OpenError::NoRouteToDestination { .. })] if failed == open
    ));
}

#[test]
fn a_circuit_is_not_dialled_again_once_nobody_waits_for_it() {
    let mut world = World::new();
    world.reserved(&relay(9));
    world.learn(peer(1), &[relay(9).circuit_to(peer(1))]);
    let (_, actions) = world.open(peer(1));
    failed_just_now(&mut world, dials(&actions)[0].0);
    world.connected(peer(1), Path::Direct, Transport::Tcp);
    assert_eq!(dials(&world.pass(10 * S)), []);
}
