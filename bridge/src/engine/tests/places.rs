//! How peers share what there is: their streams, and what the driver is told for its connections.

use super::*;
use crate::{
    error::Refusal,
    event::{Asked, LimitOwner},
};

/// How many of so many peers have a stream, each with a connection of its own.
fn crowd(world: &mut World, peers: usize, ip: &str) -> usize {
    let mut have = 0;
    for _ in 0..peers {
        let connection = world.comes_from(PeerId::random(), ip);
        have += usize::from(asks(world, connection));
    }
    have
}

/// Whether the next request of a peer comes to the program, which keeps it waiting.
fn asks(world: &mut World, connection: ConnectionId) -> bool {
    let ask = Queue::Free { ask: true, services: 1 };
    let actions = world.inbound(connection, ask);
    let busy = |action: &Action| matches!(action, Action::Refuse { refusal: Refusal::Busy, .. });
    let asked = actions.iter().any(|action| matches!(action, Action::Ask { .. }));
    assert_eq!(asked, !actions.iter().any(busy), "{actions:?}");
    asked
}

fn whose(events: &[Event]) -> Option<(Asked, u64, Option<LimitOwner>)> {
    let pick = |event: &Event| match event {
        Event::Refused { what, limit, whose, .. } => Some((*what, *limit, *whose)),
        _ => None,
    };
    events.iter().filter_map(pick).next_back()
}

#[test]
fn streams_of_many_identities_of_one_address_leave_room_for_others_and_for_a_familiar_peer_there() {
    let mut world = World::with(|config| config.limits.streams_of_peers = 400);
    assert_eq!(crowd(&mut world, 200, "8.8.8.8"), 100, "a quarter");
    let address = Some(LimitOwner::Address);
    assert_eq!(whose(&world.events()), Some((Asked::Stream, 100, address)));
    assert_eq!(crowd(&mut world, 1, "9.9.9.9"), 1);
    world.tell(Input::Welcome { service: service(), peers: vec![peer(1)] });
    let familiar = world.comes_from(peer(1), "8.8.8.8");
    assert!(asks(&mut world, familiar));
}

#[test]
fn streams_of_peers_everywhere_are_no_more_than_there_may_be_and_each_place_comes_back() {
    let mut world = World::with(|config| config.limits.streams_of_peers = 40);
    let ips: Vec<String> = (0..50).map(|net| format!("9.{net}.9.9")).collect();
    let have: usize = ips.iter().map(|ip| crowd(&mut world, 1, ip)).sum();
    assert_eq!(have, 30, "three quarters");
    assert_eq!(whose(&world.events()), Some((Asked::Stream, 30, Some(LimitOwner::Strangers))));
    // Nobody decides, and the peers do not wait longer.
    world.pass(Config::default().deadlines.negotiate);
    assert_eq!(ips.iter().map(|ip| crowd(&mut world, 1, ip)).sum::<usize>(), 30);
}

#[test]
fn a_stream_that_is_accepted_keeps_its_place_until_it_ends() {
    let mut world = World::with(|config| config.limits.streams_of_peers = 1);
    let connection = world.comes_from(peer(1), "8.8.8.8");
    let stream = StreamId::from_bytes([9; 16]);
    world.inbound_as(InboundId(900), connection, stream, FREE);
    let other = world.comes_from(peer(2), "9.9.9.9");
    assert!(!asks(&mut world, other));
    world.leg_ended(connection);
    world.tell(Input::StreamClosed { key: StreamKey { peer: peer(1), stream } });
    assert!(asks(&mut world, other));
}

#[test]
fn the_driver_is_told_who_is_familiar_and_who_is_not_any_more() {
    let mut world = World::new();
    let told = |actions: &[Action]| {
        let pick = |action: &Action| match action {
            Action::Acquainted { peers, familiar } => Some((peers.clone(), *familiar)),
            _ => None,
        };
        actions.iter().filter_map(pick).collect::<Vec<_>>()
    };
    let welcome = |peers| Input::Welcome { service: service(), peers };
    assert_eq!(told(&world.tell(welcome(vec![peer(1)]))), [(vec![peer(1)], true)]);
    let changed = told(&world.tell(welcome(vec![peer(2)])));
    assert_eq!(changed, [(vec![peer(1)], false), (vec![peer(2)], true)]);
    world.learn(peer(3), &[direct(3)]);
    assert_eq!(told(&world.open(peer(3)).1), [(vec![peer(3)], true)]);
    assert_eq!(told(&world.open(peer(3)).1), [], "it is already");
}
