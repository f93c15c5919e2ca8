//! Peers that a connection is kept to, and streams that the program decides on.

use super::*;
use crate::{addr::GlobalScope, event::Asked};

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
    let waits = [500, 1_000, 2_000, 4_000, 8_000, 30_000, 32_000, 64_000, 128_000, 256_000, 300_000];
    for (failures, wait) in (1..).zip(waits) {
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
fn a_held_peer_without_an_address_is_said_to_be_unreachable_if_nobody_says_where_it_is_in_time() {
    let mut world = World::new();
    world.tell(Input::Hold { peer: peer(1) });
    world.pass(500 * MS - MS);
    assert_eq!(unreachable(&world.events()), []);
    world.pass(MS);
    assert_eq!(unreachable(&world.events()), [(1, 500)]);
    world.pass(500 * MS);
    assert_eq!(unreachable(&world.events()), [(2, 1000)]);
}

#[test]
fn who_is_let_go_is_told_so_and_not_looked_for_any_more() {
    let mut world = World::new();
    world.learn(peer(1), &[direct(1)]);
    let actions = world.tell(Input::Hold { peer: peer(1) });
    let (held, _) = world.dialled(peer(1), dials(&actions)[0].0);
    assert_eq!(said(&world.tell(Input::LetGo { peer: peer(1) })), [(held, Word::Hold(false))]);
    assert_eq!(closes(&world.pass(HOUR)), [held]);
    assert_eq!(dials(&world.closed(held)), []);
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
    let ask = Queue::Free { ask: true, services: 1 };
    let (inbound, stream) = (InboundId(100), StreamId::from_bytes([2; 16]));
    let actions = world.inbound_as(inbound, connection, stream, ask);
    assert!(matches!(actions[..], [Action::Ask { .. }]));
    assert!(matches!(
        world.inbound(connection, ask)[..],
        [Action::Refuse { refusal: crate::error::Refusal::Busy, .. }]
    ));
    let opened = |event: &Event| matches!(event, Event::StreamOpened { .. });
    assert!(!world.events().iter().any(opened));
    world.accept(inbound, connection, stream);
    assert!(world.events().iter().any(opened));
    world.leg_ended(connection);
    world.tell(Input::StreamClosed { key: StreamKey { peer: peer(1), stream } });
    assert!(matches!(world.inbound(connection, ask)[..], [Action::Ask { .. }]));
}

#[test]
fn a_kept_connection_is_known_to_the_peer_and_moves_with_the_best_one() {
    let mut world = World::new();
    world.learn(peer(1), &[direct(1)]);
    let actions = world.tell(Input::Hold { peer: peer(1) });
    let dial = dials(&actions)[0].0;
    let path = relayed(&relay(9));
    let (circuit, actions) = world.established(peer(1), path, Transport::Tcp, None, Direction::Outbound);
    assert_eq!(said(&actions), [(circuit, Word::Hold(true))]);
    let (direct, actions) = world.dialled(peer(1), dial);
    assert_eq!(said(&actions), [(circuit, Word::Hold(false)), (direct, Word::Hold(true))]);
    assert_eq!(said(&world.closed(direct)), [(circuit, Word::Hold(true))]);
}

#[test]
fn a_connection_that_the_peer_asks_us_to_keep_is_kept_until_it_says_otherwise() {
    let mut world = World::new();
    let connection = world.connected(peer(1), relayed(&relay(9)), Transport::Tcp);
    world.tell(Input::Heard { connection, word: Word::Hold(true) });
    assert_eq!(closes(&world.pass(100 * HOUR)), []);
    world.tell(Input::Heard { connection, word: Word::Hold(false) });
    assert_eq!(closes(&world.pass(10 * S)), [connection]);
}

#[test]
fn a_peer_has_one_connection_kept_and_all_peers_together_no_more_than_the_limit() {
    let mut world = World::with(|config| config.limits.held_by_peers = 2);
    let all = [1, 1, 2, 3].map(|seed| world.comes_from(peer(seed), &format!("8.8.{seed}.8")));
    for connection in &all {
        world.tell(Input::Heard { connection: *connection, word: Word::Hold(true) });
    }
    assert_eq!(closes(&world.pass(HOUR)), [all[0], all[3]]);
    world.closed(all[1]);
    let late = world.comes_from(peer(4), "8.8.4.8");
    world.tell(Input::Heard { connection: late, word: Word::Hold(true) });
    assert_eq!(closes(&world.pass(HOUR)), [], "the place of one that is gone is free");
}

/// How many of these connections are kept although nobody uses them, when their peers ask for it.
fn kept(world: &mut World, connections: &[ConnectionId]) -> usize {
    for connection in connections {
        world.tell(Input::Heard { connection: *connection, word: Word::Hold(true) });
    }
    connections.len() - closes(&world.pass(HOUR)).len()
}

#[test]
fn what_peers_of_one_address_ask_to_keep_leaves_room_for_others_and_for_a_familiar_peer_there() {
    let mut world = World::with(|config| config.limits.held_by_peers = 400);
    let crowd: Vec<_> = (0..200).map(|_| world.comes_from(PeerId::random(), "8.8.8.8")).collect();
    assert_eq!(kept(&mut world, &crowd), 100, "a quarter");
    let other = world.comes_from(peer(1), "9.9.9.9");
    assert_eq!(kept(&mut world, &[other]), 1);
    world.tell(Input::Welcome { service: service(), peers: vec![peer(2)] });
    let familiar = world.comes_from(peer(2), "8.8.8.8");
    assert_eq!(kept(&mut world, &[familiar]), 1);
}

#[test]
fn what_peers_of_one_relay_ask_to_keep_leaves_room_for_those_of_another() {
    let mut world = World::with(|config| config.limits.held_by_peers = 400);
    let through = |world: &mut World, relay: &RelayAddr| {
        world.connected(PeerId::random(), relayed(relay), Transport::Tcp)
    };
    let crowd: Vec<_> = (0..200).map(|_| through(&mut world, &relay(9))).collect();
    assert_eq!(kept(&mut world, &crowd), 100, "a quarter");
    let other = through(&mut world, &relay(8));
    assert_eq!(kept(&mut world, &[other]), 1);
}

#[test]
fn what_strangers_from_everywhere_ask_to_keep_leaves_room_for_familiar_peers() {
    let mut world = World::with(|config| config.limits.held_by_peers = 400);
    let from = |number: u32| format!("9.{}.9.9", number % 250);
    let crowd: Vec<_> =
        (0..400).map(|number| world.comes_from(PeerId::random(), &from(number))).collect();
    assert_eq!(kept(&mut world, &crowd), 300);
    // A stranger whose connection is kept and that a service names leaves its place to another stranger.
    world.tell(Input::Welcome { service: service(), peers: vec![peer(2)] });
    let familiar = world.comes_from(peer(2), "8.8.8.8");
    assert_eq!(kept(&mut world, &[familiar]), 1);
    let stranger = world.comes_from(peer(3), "8.8.4.4");
    assert_eq!(kept(&mut world, &[stranger]), 0);
}

#[test]
fn a_peer_whose_connection_is_kept_and_that_becomes_familiar_leaves_its_place_to_strangers() {
    let mut world = World::with(|config| config.limits.held_by_peers = 4);
    let all = [1, 2, 3].map(|seed| world.comes_from(peer(seed), &format!("9.{seed}.9.9")));
    assert_eq!(kept(&mut world, &all), 3);
    world.tell(Input::Welcome { service: service(), peers: vec![peer(1)] });
    let late = world.comes_from(peer(4), "9.4.9.9");
    assert_eq!(kept(&mut world, &[late]), 1);
}

#[test]
fn a_peer_that_passes_its_hold_around_keeps_one_connection_and_not_all() {
    let mut world = World::new();
    let all = [(); 8].map(|()| world.comes_from(peer(1), "8.8.8.8"));
    let mut closed = Vec::new();
    for turn in 0..60 {
        // Passed on in one half of the turns, let go of first in the other.
        let open: Vec<_> = all.iter().filter(|one| !closed.contains(*one)).collect();
        if open.is_empty() {
            break;
        }
        let connection = *open[turn % open.len()];
        closed.extend(closes(&world.tell(Input::Heard { connection, word: Word::Hold(true) })));
        closed.extend(closes(&world.pass(5 * S)));
        if turn % 2 == 0 {
            let free = Input::Heard { connection, word: Word::Hold(false) };
            closed.extend(closes(&world.tell(free)));
        }
    }
    assert!(closed.len() >= 7, "{} of 8 closed in five minutes", closed.len());
}

#[test]
fn a_connection_that_lost_its_hold_has_its_grace_once() {
    let mut world = World::new();
    let [first, second] = [(); 2].map(|()| world.comes_from(peer(1), "8.8.8.8"));
    world.tell(Input::Heard { connection: first, word: Word::Hold(true) });
    assert_eq!(closes(&world.pass(HOUR)), [second]);
    let third = world.comes_from(peer(1), "8.8.8.8");
    world.tell(Input::Heard { connection: third, word: Word::Hold(true) });
    assert_eq!(closes(&world.pass(59 * S)), [], "as after a stream");
    assert_eq!(closes(&world.pass(S)), [first]);
}

#[test]
fn a_peer_that_closes_what_is_kept_again_and_again_costs_ever_less() {
    let mut world = World::new();
    world.learn(peer(1), &[direct(1)]);
    let mut actions = world.tell(Input::Hold { peer: peer(1) });
    let mut made = 0;
    let end = world.now + HOUR;
    while world.now < end {
        for (dial, _, _) in dials(&actions) {
            made += 1;
            let (connection, _) = world.dialled(peer(1), dial);
            world.pass(60 * S);
            actions = world.closed(connection);
        }
        if dials(&actions).is_empty() {
            actions = world.pass(S);
        }
    }
    assert!(made <= 20, "{made} connections in an hour");
}

#[test]
fn a_relay_that_says_that_a_missing_peer_is_there_ends_the_wait_but_not_again_and_again() {
    let mut world = World::new();
    let link = world.reserved(&relay(9));
    world.learn(peer(1), &[relay(9).circuit_to(peer(1))]);
    let actions = world.tell(Input::Hold { peer: peer(1) });
    let failed = |dial| Input::DialFailed { dial, reason: DialFailureReason::NoReservation };
    let actions = world.tell(failed(dials(&actions)[0].0));
    assert_eq!(said(&actions), [(link, Word::Watch(vec![peer(1)]))]);
    let mut pending = None;
    for _ in 0..12 {
        let actions = world.pass(1000 * S);
        for (dial, _, _) in dials(&actions) {
            pending = world.tell(failed(dial)).pop();
        }
    }
    assert_eq!(pending, None);
    let here = Input::Heard { connection: link, word: Word::Present(peer(1)) };
    let actions = world.tell(here.clone());
    let [(dial, ..)] = dials(&actions)[..] else { panic!("{actions:?}") };
    world.tell(failed(dial));
    assert_eq!(dials(&world.tell(here.clone())), [], "once is enough for a while");
    let stranger = world.connected(peer(5), Path::Direct, Transport::Tcp);
    world.pass(20 * S);
    let lie = Input::Heard { connection: stranger, word: Word::Present(peer(1)) };
    assert_eq!(dials(&world.tell(lie)), [], "only relays in use are heard");
    let (dial, _, _) = dials(&world.tell(here))[0];
    let path = relayed(&relay(9));
    let (_, actions) = world.established(peer(1), path, Transport::Tcp, Some(dial), Direction::Outbound);
    assert!(said(&actions).contains(&(link, Word::Watch(Vec::new()))), "{actions:?}");
}

#[test]
fn a_relay_that_only_leads_to_another_peer_is_not_told_whom_we_miss_and_is_not_heard_about_it() {
    let mut world = World::new();
    let link = world.reserved(&relay(9));
    world.learn(peer(1), &[relay(9).circuit_to(peer(1))]);
    let actions = world.tell(Input::Hold { peer: peer(1) });
    let failed = |dial| Input::DialFailed { dial, reason: DialFailureReason::NoReservation };
    let actions = world.tell(failed(dials(&actions)[0].0));
    assert_eq!(said(&actions), [(link, Word::Watch(vec![peer(1)]))]);
    world.learn(peer(2), &[relay(8).circuit_to(peer(2))]);
    let (_, actions) = world.open(peer(2));
    let [(to_relay, ..)] = dials(&actions)[..] else { panic!("{actions:?}") };
    let (named, _) = world.dialled(relay(8).peer(), to_relay);
    assert_eq!(said(&world.identified(named)), [], "it learns nothing of peer 1");
    let lie = Input::Heard { connection: named, word: Word::Present(peer(1)) };
    assert_eq!(dials(&world.tell(lie)), []);
}

/// A held peer that is missing, and a relay in use which was not asked about it.
fn missing_elsewhere() -> (World, ConnectionId) {
    // What a peer names of the addresses of these tests is remembered.
    let documentation = GlobalScope::with_assumed(vec!["203.0.113.0/24".parse().unwrap()]);
    let mut world = World::with(|config| config.global = documentation);
    world.tell(Input::Hold { peer: peer(1) });
    world.learn(peer(2), &[relay(8).circuit_to(peer(2))]);
    let (_, actions) = world.open(peer(2));
    let (link, _) = world.dialled(relay(8).peer(), dials(&actions)[0].0);
    assert_eq!(said(&world.identified(link)), []);
    (world, link)
}

#[test]
fn a_relay_that_an_address_of_a_missing_peer_is_learnt_to_lead_through_is_asked_at_once_and_once() {
    for by_peer in [true, false] {
        let (mut world, link) = missing_elsewhere();
        let addresses = vec![direct(1), relay(8).circuit_to(peer(1)), relay(7).circuit_to(peer(1))];
        let learnt = if by_peer {
            Input::Hear { peer: peer(1), addresses }
        } else {
            Input::Learn { peer: peer(1), addresses }
        };
        assert_eq!(said(&world.tell(learnt.clone())), [(link, Word::Watch(vec![peer(1)]))]);
        assert_eq!(said(&world.tell(learnt)), []);
        world.tell(Input::Heard { connection: link, word: Word::Present(peer(1)) });
        assert_eq!(closes(&world.pass(HOUR)), [], "the link is kept to hear the answer");
    }
}

#[test]
fn a_relay_that_no_address_of_a_missing_peer_leads_through_any_more_is_told_to_forget_it() {
    let (mut world, link) = missing_elsewhere();
    world.tell(Input::Hear { peer: peer(1), addresses: vec![relay(8).circuit_to(peer(1))] });
    world.pass(S);
    let room = u8::try_from(Config::default().limits.addresses_per_peer).unwrap();
    let addresses = (0..room).map(direct).collect();
    let forget = [(link, Word::Watch(Vec::new()))];
    assert_eq!(said(&world.tell(Input::Hear { peer: peer(1), addresses })), forget);
}

#[test]
fn a_relay_in_use_that_the_operator_chooses_is_asked_about_missing_peers_at_once() {
    let (mut world, link) = missing_elsewhere();
    let actions = world.tell(Input::Reserve { relay: relay(8) });
    assert_eq!(said(&actions), [(link, Word::Watch(vec![peer(1)]))]);
}

#[test]
fn a_new_link_to_a_relay_is_asked_anew() {
    let (mut world, link) = missing_elsewhere();
    world.tell(Input::Reserve { relay: relay(8) });
    let actions = world.closed(link);
    let (link, _) = world.dialled(relay(8).peer(), dials(&actions)[0].0);
    assert_eq!(said(&world.identified(link)), [(link, Word::Watch(vec![peer(1)]))]);
}

#[test]
fn many_dead_peers_share_what_one_may_ask() {
    let mut world = World::new();
    world.reserved(&relay(9));
    let peers: Vec<PeerId> = (10..60).map(peer).collect();
    let mut actions = Vec::new();
    for dead in &peers {
        world.learn(*dead, &[relay(9).circuit_to(*dead)]);
        actions.extend(world.tell(Input::Hold { peer: *dead }));
    }
    let mut last_hour = 0;
    for second in 0..4 * 3600 {
        for (dial, _, _) in dials(&actions) {
            last_hour += u32::from(second > 3 * 3600);
            let reason = DialFailureReason::NoReservation;
            world.tell(Input::DialFailed { dial, reason });
        }
        actions = world.pass(S);
    }
    assert!((60..=150).contains(&last_hour), "{last_hour} dials in an hour for fifty dead peers");
}
