//! Reservations: asked for, held, lost, asked for again; and what relays tell us about ourselves.

use super::*;
use crate::status::Health;
use crate::{
    addr::GlobalScope,
    error::{LimitOwner, RelayLimit},
    event::CandidateSource,
};

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
    let request = reserve(&world.identified(connection));
    world.events();
    world.granted(request);
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
    assert_eq!(reserves(&world.pass(deadline - MS)), []);
    reserve(&world.pass(MS));
}

#[test]
fn a_lost_link_is_said_once_and_dialled_again_at_once() {
    let mut world = World::new();
    let relay = relay(9);
    let connection = world.reserved(&relay);
    world.events();
    let actions = world.closed(connection);
    assert_eq!(dials(&actions)[0].1, relay.peer());
    assert_eq!(lost_events(&world.events()), 1);
    let (connection, _) = world.dialled(relay.peer(), dials(&actions)[0].0);
    reserve(&world.identified(connection));
}

#[test]
fn the_wait_between_redials_doubles_to_its_longest_and_keeps_within_its_jitter() {
    let mut world = World::new();
    let (first, longest) = Config::default().deadlines.reserve_backoff;
    let mut actions = world.tell(Input::Reserve { relay: relay(9) });
    for attempt in 0..10 {
        let failed_at = world.now;
        assert_eq!(world.dial_failed(dials(&actions)[0].0), []);
        let full = first.saturating_mul(1 << attempt.min(10)).min(longest);
        let next = world.engine.relays.next_deadline().unwrap();
        let wait = next - failed_at;
        assert!(wait >= full.mul_f64(0.75) && wait <= full, "attempt {attempt}: {wait:?} of {full:?}");
        assert!(wait <= 2 * S, "a relay that is back must be found again soon");
        actions = world.pass(wait);
        assert_eq!(dials(&actions).len(), 1);
    }
}

#[test]
fn a_relay_that_is_gone_for_long_is_dialled_ever_more_rarely_and_never_given_up() {
    let mut world = World::new();
    let mut actions = world.tell(Input::Reserve { relay: relay(9) });
    let (began, mut dialled) = (world.now, 0);
    while world.now - began < 24 * 3600 * S {
        let silent = world.now - began;
        world.dial_failed(dials(&actions)[0].0);
        let longest = (silent / 24).clamp(2 * S, 300 * S);
        actions = world.pass(longest);
        assert_eq!(dials(&actions).len(), 1, "after {silent:?}");
        dialled += 1;
    }
    assert!((288..800).contains(&dialled), "{dialled} in a day");
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
    let request = reserve(&world.identified(connection));
    world.granted(request);
    let actions = world.closed(connection);
    world.dial_failed(dials(&actions)[0].0);
    assert!(world.engine.poll_timeout().unwrap() - world.now <= Duration::from_millis(250));
}

#[test]
fn a_refused_request_is_repeated_with_growing_waits_on_the_same_connection() {
    let mut world = World::new();
    let (connection, mut request) = world.asked(&relay(9));
    let first = Config::default().deadlines.reserve_backoff.0;
    for attempt in 0..20 {
        assert_eq!(world.refused(request, ReserveFailure::Refused), []);
        let full = first.saturating_mul(1 << attempt.min(10)).min(30 * S);
        assert_eq!(reserves(&world.pass(full.mul_f64(0.74))), [], "attempt {attempt}");
        let actions = world.pass(full.mul_f64(0.27));
        request = reserve(&actions);
        let relay = relay(9);
        assert_eq!(actions, [Action::Reserve { request, relay, connection }]);
    }
}

fn full(retry_after: Duration) -> ReserveFailure {
    let limit = RelayLimit { owner: LimitOwner::Relay, limit: Some(8), retry_after: Some(retry_after) };
    ReserveFailure::Full(limit)
}

#[test]
fn a_refused_request_is_repeated_when_the_relay_said_within_bounds() {
    let mut world = World::new();
    let (_, mut request) = world.asked(&relay(9));
    for (said, wait) in [(90 * S, 90 * S), (Duration::MAX, 600 * S), (600 * S, 600 * S)] {
        world.refused(request, full(said));
        assert_eq!(reserves(&world.pass(wait - MS)), []);
        request = reserve(&world.pass(MS));
    }
    // One that says "at once" is not asked without a pause.
    world.refused(request, full(Duration::ZERO));
    assert_eq!(reserves(&world.pass(S)), []);
}

#[test]
fn a_reservation_is_renewed_after_half_of_its_time_whatever_the_clocks_show() {
    for (ahead, said) in [(0, None), (3600, Some(3600)), (-3600, Some(-3600)), (80, None)] {
        let mut world = World::new();
        let (connection, request) = world.asked(&relay(9));
        world.events();
        let ours: i64 = 1_000_000;
        let grant = Grant { expire: (ours + ahead + 3600) as u64, ..grant() };
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(ours as u64);
        world.tell(Input::Reserved { request, grant, at });
        let events = world.events();
        let Event::ReservationHeld { expires, .. } = events[0] else { panic!("{events:?}") };
        assert_eq!(expires, Some(at + HOUR));
        let differs = |event: &Event| match event {
            Event::ClockDiffers { seconds, .. } => Some(*seconds),
            _ => None,
        };
        assert_eq!(events.iter().find_map(differs), said);
        assert_eq!(world.pass(HOUR / 2 - MS), []);
        let actions = world.pass(MS);
        let relay = relay(9);
        assert_eq!(actions, [Action::Reserve { request: reserve(&actions), relay, connection }]);
    }
}

#[test]
fn a_difference_of_the_clocks_is_said_once_and_again_when_it_has_become_another() {
    let mut world = World::new();
    let (_, mut request) = world.asked(&relay(9));
    world.events();
    let mut said = Vec::new();
    for ahead in [3600, 3601, 3570, 0, 3600, 7200] {
        let grant = Grant { expire: 1_000_000 + ahead, ..grant() };
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 - 3600);
        world.tell(Input::Reserved { request, grant, at });
        said.extend(world.events().into_iter().filter_map(|event| match event {
            Event::ClockDiffers { seconds, .. } => Some(seconds),
            _ => None,
        }));
        request = reserve(&world.pass(HOUR / 2));
    }
    assert_eq!(said, [3600, 7200]);
}

#[test]
fn a_relay_stands_with_a_clock_that_differs_for_as_long_as_it_says_so_and_keeps_a_place() {
    let mut world = World::new();
    let (connection, mut request) = world.asked(&relay(9));
    for (ahead, stands) in [(3600, Some(3600)), (3601, Some(3601)), (0, None), (-3600, Some(-3600))] {
        let grant = Grant { expire: (1_000_000_i64 + 3600 + ahead) as u64, ..grant() };
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        world.tell(Input::Reserved { request, grant, at });
        assert_eq!(world.engine.status(world.now).relays[0].clock_ahead, stands, "{ahead}");
        request = reserve(&world.pass(HOUR / 2));
    }
    world.closed(connection);
    assert_eq!(world.engine.status(world.now).relays[0].clock_ahead, None);
}

#[test]
fn an_end_in_the_past_with_a_duration_holds() {
    let mut world = World::new();
    let (_, request) = world.asked(&relay(9));
    world.events();
    let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
    world.tell(Input::Reserved { request, grant: Grant { expire: 7, ..grant() }, at });
    assert!(matches!(world.events()[0], Event::ReservationHeld { .. }));
    world.pass(HOUR - MS);
    assert_eq!(lost_events(&world.events()), 0);
}

#[test]
fn an_ordinary_relay_that_names_only_an_end_is_asked_again_in_time_by_a_clock_that_is_wrong() {
    let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
    for (left, renewed_after, is_known) in
        [(3600, 1800, true), (0, 300, false), (-3600, 300, false), (7200, 1800, false)]
    {
        let mut world = World::new();
        let (_, request) = world.asked(&relay(9));
        let grant = Grant { expire: (1_000_000 + left) as u64, lasts: None, ..grant() };
        world.events();
        world.tell(Input::Reserved { request, grant, at });
        let events = world.events();
        let [Event::ReservationHeld { expires, .. }] = events[..] else { panic!("{events:?}") };
        assert_eq!(expires.is_some(), is_known, "{left}");
        let renewed_after = Duration::from_secs(renewed_after);
        assert_eq!(reserves(&world.pass(renewed_after - MS)), [], "{left}");
        reserve(&world.pass(MS));
    }
}

#[test]
fn a_refused_renewal_costs_nothing_before_the_end_and_at_the_end_the_loss_is_said_with_its_cause() {
    let mut world = World::new();
    let (connection, request) = world.asked(&relay(9));
    world.granted(request);
    world.events();
    let renewal = reserve(&world.pass(HOUR / 2));
    world.refused(renewal, full(400 * S));
    assert_eq!(world.pass(400 * S - MS), []);
    let mut renewal = reserve(&world.pass(MS));
    for _ in 0..2 {
        world.refused(renewal, full(600 * S));
        renewal = reserve(&world.pass(600 * S));
    }
    world.refused(renewal, full(600 * S));
    assert!(world.events().is_empty());
    let actions = world.pass(HOUR / 2 - 1600 * S);
    assert_eq!(actions, [Action::Release { connection }]);
    let events = world.events();
    let [Event::ReservationLost { cause, .. }] = &events[..] else { panic!("{events:?}") };
    assert!(cause.contains("its own limit for all clients"), "{cause}");
    // It goes on asking, and holds again.
    let renewal = reserve(&world.pass(400 * S));
    world.granted(renewal);
    assert!(matches!(world.events()[..], [Event::ReservationHeld { .. }]));
}

#[test]
fn a_renewal_that_nobody_answers_leaves_the_link_alone_until_the_reservation_ends() {
    let mut world = World::new();
    let (connection, request) = world.asked(&relay(9));
    world.granted(request);
    let deadline = Config::default().deadlines.reserve;
    let mut actions = world.pass(HOUR / 2);
    let end = world.now + HOUR / 2;
    while world.now < end {
        if let [request] = reserves(&actions)[..] {
            actions = world.refused(request, ReserveFailure::Deadline { deadline });
        } else {
            let next = world.engine.poll_timeout().unwrap().min(end) - world.now;
            actions = world.pass(next);
        }
        assert_eq!(closes(&actions), [], "circuits run over it");
    }
    assert!(actions.contains(&Action::Release { connection }));
    assert_eq!(lost_events(&world.events()), 1);
}

#[test]
fn a_renewal_is_said_again_and_dials_nobody() {
    let mut world = World::new();
    let (_, request) = world.asked(&relay(9));
    world.granted(request);
    world.events();
    let actions = world.pass(HOUR / 2);
    assert_eq!((dials(&actions), closes(&actions)), (vec![], vec![]));
    world.granted(reserve(&actions));
    assert!(matches!(world.events()[..], [Event::ReservationHeld { .. }]));
}

#[test]
fn an_answer_to_an_earlier_request_changes_nothing() {
    let mut world = World::new();
    let (connection, early) = world.asked(&relay(9));
    let actions = world.closed(connection);
    let (connection, _) = world.dialled(relay(9).peer(), dials(&actions)[0].0);
    let request = reserve(&world.identified(connection));
    world.events();
    assert_eq!(world.granted(early), []);
    assert_eq!(world.refused(early, ReserveFailure::Refused), []);
    assert!(world.events().is_empty());
    world.granted(request);
    assert!(matches!(world.events()[..], [Event::ReservationHeld { .. }]));
    assert_eq!(world.refused(request, ReserveFailure::Refused), []);
    assert!(world.events().is_empty(), "it was answered already");
}

#[test]
fn a_request_that_nobody_answers_closes_the_connection_and_starts_over() {
    for told in [false, true] {
        let mut world = World::new();
        let (connection, request) = world.asked(&relay(9));
        let deadline = Config::default().deadlines.reserve;
        assert_eq!(world.pass(deadline - MS), []);
        world.events();
        let actions = match told {
            true => world.refused(request, ReserveFailure::Deadline { deadline }),
            false => world.pass(MS),
        };
        assert!(matches!(world.events()[..], [Event::ReservationFailed { failures: 1, .. }]));
        assert_eq!(closes(&actions), [connection]);
        assert_eq!(dials(&world.closed(connection)).len(), 1);
    }
}

#[test]
fn reserving_at_a_relay_that_is_connected_already_needs_no_dial() {
    let mut world = World::new();
    let connection = world.connected(relay(9).peer(), Path::Direct, Transport::Tcp);
    let actions = world.tell(Input::Reserve { relay: relay(9) });
    assert_eq!(dials(&actions), []);
    reserve(&world.identified(connection));
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

/// What is said of how relays do.
fn healths(world: &mut World) -> Vec<Health> {
    let health = |event| match event {
        Event::RelayHealth { health, .. } => Some(health),
        _ => None,
    };
    world.all_events().into_iter().filter_map(health).collect()
}

#[test]
fn how_a_relay_does_is_said_when_it_changes_and_a_hung_one_is_down_within_45_s() {
    let mut world = World::new();
    let link = world.reserved(&relay(9));
    assert_eq!(healths(&mut world), [Health::Healthy]);
    for _ in 0..3 {
        world.tell(Input::Responsive { connection: link, round_trip: 20 * MS, took: 20 * MS });
        world.pass(1500 * MS);
    }
    assert_eq!(healths(&mut world), [], "nothing has changed");
    world.pass(45 * S);
    assert_eq!(healths(&mut world), [Health::Degraded, Health::Down]);
    world.tell(Input::Responsive { connection: link, round_trip: 20 * MS, took: 20 * MS });
    assert_eq!(healths(&mut world), [Health::Healthy]);
    let status = world.engine.status(world.now);
    assert_eq!(status.relays[0].health.median, Some(20 * MS));
}

#[test]
fn a_relay_that_refuses_connections_is_down_after_three_of_them_and_tried_again_all_the_same() {
    let mut world = World::new();
    let mut actions = world.tell(Input::Reserve { relay: relay(9) });
    for _ in 0..3 {
        world.dial_failed(dials(&actions)[0].0);
        actions = world.pass(2 * S);
    }
    assert_eq!(healths(&mut world), [Health::Degraded, Health::Down]);
    assert_eq!(dials(&actions).len(), 1);
}

#[test]
fn a_relay_that_lets_us_in_and_hangs_up_again_and_again_is_dialled_with_growing_pauses() {
    let mut world = World::new();
    let mut actions = world.tell(Input::Reserve { relay: relay(9) });
    for (round, wait) in [Duration::ZERO, 250 * MS, 500 * MS, S].into_iter().enumerate() {
        let (connection, _) = world.dialled(relay(9).peer(), dials(&actions)[0].0);
        actions = world.closed(connection);
        if wait > Duration::ZERO {
            assert_eq!(dials(&actions), [], "round {round}");
            assert_eq!(dials(&world.pass(wait / 2)), [], "round {round}");
            actions = world.pass(wait / 2);
        }
        assert_eq!(dials(&actions).len(), 1, "round {round}");
    }
}
