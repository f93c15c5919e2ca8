//! Reservations: asked for, held, lost, asked for again; and what relays tell us about ourselves.

use super::*;
use crate::{addr::GlobalScope, event::CandidateSource};

fn lost_events(events: &[Event]) -> usize {
    events.iter().filter(|event| matches!(event, Event::ReservationLost { .. })).count()
}

#[test]
fn a_reservation_takes_a_dial_an_identify_and_a_request_in_this_order() {
    let mut world = World::new();
    let relay = relay(9);
    let actions = world.tell(Input::Reserve { relay: relay.clone() });
    let asked = dials(&actions);
    assert_eq!((actions.len(), asked[0].1), (1, relay.peer()));
    let (connection, actions) = world.dialled(relay.peer(), asked[0].0);
    assert_eq!(actions, []);
    assert_eq!(reserves(&world.identified(connection)), 1);
    world.events();
    world.accepted(relay.peer());
    let events = world.events();
    let [Event::ReservationHeld { address, expires, circuit_bytes_max, circuit_seconds_max, .. }] =
        &events[..]
    else {
        panic!("{events:?}");
    };
    assert_eq!(*address, relay.circuit_to(peer(0)));
    assert_eq!(*expires, Some(SystemTime::UNIX_EPOCH + HOUR));
    assert_eq!((*circuit_bytes_max, *circuit_seconds_max), (Some(1 << 30), Some(3600)));
}

#[test]
fn a_relay_that_does_not_identify_is_asked_after_the_deadline() {
    let mut world = World::new();
    let actions = world.tell(Input::Reserve { relay: relay(9) });
    world.dialled(relay(9).peer(), dials(&actions)[0].0);
    let deadline = Config::default().deadlines.identify;
    assert_eq!(reserves(&world.pass(deadline - MS)), 0);
    assert_eq!(reserves(&world.pass(MS)), 1);
}

#[test]
fn a_lost_link_is_said_once_and_dialled_again_at_once() {
    let mut world = World::new();
    let relay = relay(9);
    let connection = world.reserved(&relay);
    world.events();
    let actions = world.closed(connection);
    assert_eq!(dials(&actions)[0].1, relay.peer());
    let cause = "the connection to the relay ended".to_owned();
    world.tell(Input::ReservationEnded { relay: relay.peer(), cause });
    assert_eq!(lost_events(&world.events()), 1);
    let (connection, _) = world.dialled(relay.peer(), dials(&actions)[0].0);
    assert_eq!(reserves(&world.identified(connection)), 1);
}

#[test]
fn the_wait_between_redials_doubles_to_its_longest_and_keeps_within_its_jitter() {
    let mut world = World::new();
    let (first, longest) = Config::default().deadlines.reserve_backoff;
    let mut actions = world.tell(Input::Reserve { relay: relay(9) });
    for attempt in 0..20 {
        let failed_at = world.now;
        assert_eq!(world.dial_failed(dials(&actions)[0].0), []);
        let full = first.saturating_mul(1 << attempt.min(10)).min(longest);
        let next = world.engine.poll_timeout().unwrap();
        let wait = next - failed_at;
        assert!(wait >= full.mul_f64(0.75) && wait <= full, "attempt {attempt}: {wait:?} of {full:?}");
        assert!(wait <= 2 * S, "a relay that is back must be found again soon");
        actions = world.pass(wait);
        assert_eq!(dials(&actions).len(), 1);
    }
}

#[test]
fn a_reservation_that_is_held_starts_the_backoff_anew() {
    let mut world = World::new();
    let mut actions = world.tell(Input::Reserve { relay: relay(9) });
    for _ in 0..10 {
        world.dial_failed(dials(&actions)[0].0);
        actions = world.pass(2 * S);
    }
    let (connection, _) = world.dialled(relay(9).peer(), dials(&actions)[0].0);
    world.identified(connection);
    world.accepted(relay(9).peer());
    let actions = world.closed(connection);
    world.dial_failed(dials(&actions)[0].0);
    assert!(world.engine.poll_timeout().unwrap() - world.now <= Duration::from_millis(250));
}

#[test]
fn a_refused_request_is_repeated_with_backoff_on_the_same_connection() {
    let mut world = World::new();
    let actions = world.tell(Input::Reserve { relay: relay(9) });
    let (connection, _) = world.dialled(relay(9).peer(), dials(&actions)[0].0);
    world.identified(connection);
    for _ in 0..10 {
        let cause = "resource limit".to_owned();
        let actions = world.tell(Input::ReservationEnded { relay: relay(9).peer(), cause });
        assert_eq!(reserves(&actions), 0, "not without a wait");
        assert_eq!(reserves(&world.pass(2 * S)), 1);
    }
}

#[test]
fn a_reservation_that_ends_while_the_link_lives_is_asked_for_again() {
    let mut world = World::new();
    world.reserved(&relay(9));
    world.events();
    let cause = "lapsed".to_owned();
    world.tell(Input::ReservationEnded { relay: relay(9).peer(), cause });
    assert_eq!(lost_events(&world.events()), 1);
    assert_eq!(reserves(&world.pass(2 * S)), 1);
}

#[test]
fn a_renewal_is_said_again_and_asks_for_nothing() {
    let mut world = World::new();
    world.reserved(&relay(9));
    world.events();
    world.accepted(relay(9).peer());
    assert!(matches!(world.events()[..], [Event::ReservationHeld { .. }]));
    let actions = world.pass(HOUR);
    assert_eq!((dials(&actions), reserves(&actions), closes(&actions)), (vec![], 0, vec![]));
}

#[test]
fn a_request_that_nobody_answers_closes_the_connection_and_starts_over() {
    let mut world = World::new();
    let actions = world.tell(Input::Reserve { relay: relay(9) });
    let (connection, _) = world.dialled(relay(9).peer(), dials(&actions)[0].0);
    assert_eq!(reserves(&world.identified(connection)), 1);
    let deadline = Config::default().deadlines.reserve;
    assert_eq!(world.pass(deadline - MS), []);
    assert_eq!(closes(&world.pass(MS)), [connection]);
    assert_eq!(dials(&world.closed(connection)).len(), 1);
}

#[test]
fn reserving_at_a_relay_that_is_connected_already_needs_no_dial() {
    let mut world = World::new();
    let connection = world.connected(relay(9).peer(), Path::Direct, Transport::Tcp);
    let actions = world.tell(Input::Reserve { relay: relay(9) });
    assert_eq!(dials(&actions), []);
    assert_eq!(reserves(&world.identified(connection)), 1);
}

/// The candidates that were found, and the relays that saw them.
fn found(events: &[Event]) -> Vec<(Multiaddr, PeerId)> {
    let pick = |event: &Event| match event {
        Event::CandidateFound { address, source: CandidateSource::Relay { relay } } => {
            Some((address.clone(), *relay))
        }
        _ => None,
    };
    events.iter().filter_map(pick).collect()
}

#[test]
fn the_raw_observed_port_is_offered_and_the_same_one_only_once() {
    let mut world = World::new();
    let actions = world.tell(Input::Reserve { relay: relay(9) });
    let (connection, _) = world.dialled(relay(9).peer(), dials(&actions)[0].0);
    world.events();
    let seen: Multiaddr = "/ip4/8.8.4.4/tcp/61234".parse().unwrap();
    world.observed(connection, seen.clone().with_p2p(peer(0)).unwrap());
    assert_eq!(found(&world.events()), [(seen.clone(), relay(9).peer())]);
    world.observed(connection, seen);
    assert_eq!(found(&world.events()), []);
}

#[test]
fn a_private_address_is_a_candidate_only_where_the_operator_says_so() {
    let private: Multiaddr = "/ip4/10.1.2.3/tcp/4001".parse().unwrap();
    let lab = GlobalScope::with_assumed(vec!["10.0.0.0/8".parse().unwrap()]);
    for (scope, offered) in [(GlobalScope::default(), 0), (lab, 1)] {
        let mut world = World::with(|config| config.global = scope);
        let actions = world.tell(Input::Reserve { relay: relay(9) });
        let (connection, _) = world.dialled(relay(9).peer(), dials(&actions)[0].0);
        world.observed(connection, private.clone());
        assert_eq!(found(&world.events()).len(), offered);
    }
}

#[test]
fn what_is_observed_on_an_inbound_or_relayed_connection_or_by_another_peer_is_not_offered() {
    let mut world = World::new();
    let relay_peer = relay(9).peer();
    world.reserved(&relay(9));
    world.events();
    let seen: Multiaddr = "/ip4/8.8.4.4/tcp/1".parse().unwrap();
    for (peer, path, direction) in [
        (relay_peer, Path::Direct, Direction::Inbound),
        (relay_peer, relayed(&relay(8)), Direction::Outbound),
        (peer(1), Path::Direct, Direction::Outbound),
    ] {
        let (connection, _) = world.established(peer, path, Transport::Tcp, None, direction);
        world.observed(connection, seen.clone());
        assert_eq!(found(&world.events()), [], "{path} {direction:?}");
    }
}
