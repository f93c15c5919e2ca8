//! Peers whom somebody else is to find.

use std::collections::BTreeSet;

use super::{
    upgrades::{at, public},
    *,
};
use crate::{
    addr::HintSource,
    error::{DialFailure, TriedWay},
    event::{Awaited, Waiting},
};

const PATIENCE: Duration = Duration::from_secs(10);

/// A node with somebody who finds peers.
fn seeking() -> World {
    let mut world = World::new();
    world.tell(Input::SoughtBy { sources: vec!["kad".to_owned()], patience: PATIENCE });
    world
}

fn sought(world: &mut World) -> Option<Vec<PeerId>> {
    world.engine.poll_sought().map(|peers: BTreeSet<PeerId>| peers.into_iter().collect())
}

fn hint(world: &mut World, peer: PeerId, address: Multiaddr) -> Vec<Action> {
    world.tell(Input::Hint { peer, addresses: vec![address], source: HintSource::Contact })
}

fn tried(actions: &[Action]) -> Vec<DialFailure> {
    match &failures(actions)[..] {
        [(_, OpenError::NoRouteToDestination { tried, .. })] => tried.clone(),
        other => panic!("{other:?}"),
    }
}

fn in_vain() -> DialFailure {
    let way = TriedWay::Lookup(vec!["kad".to_owned()]);
    DialFailure { way, reason: DialFailureReason::NotFound { within: PATIENCE } }
}

#[test]
fn a_peer_that_a_stream_is_opened_to_is_sought_until_it_is_connected() {
    let mut world = seeking();
    assert_eq!(sought(&mut world), None);
    world.open(peer(1));
    assert_eq!(sought(&mut world), Some(vec![peer(1)]));
    world.open(peer(1));
    assert_eq!(sought(&mut world), None, "it is as it was");
    let actions = hint(&mut world, peer(1), public(1));
    let (connection, actions) = world.dialled(peer(1), dials(&actions)[0].0);
    assert_eq!(opens_on(&actions), [connection; 2]);
    assert_eq!(sought(&mut world), Some(Vec::new()));
}

#[test]
fn nobody_is_sought_for_whom_no_stream_is_opened() {
    let mut world = seeking();
    world.tell(Input::Welcome { service: service(), peers: vec![peer(1)] });
    hint(&mut world, peer(2), public(2));
    world.learn(peer(3), &[public(3)]);
    world.reached(peer(4));
    assert_eq!(sought(&mut world), None);
}

#[test]
fn a_peer_whom_nobody_finds_has_no_route_after_the_patience_of_those_who_look() {
    let mut world = seeking();
    assert_eq!(failures(&world.open(peer(1)).1), []);
    assert_eq!(failures(&world.pass(PATIENCE - Duration::from_millis(1))), []);
    assert_eq!(tried(&world.pass(Duration::from_millis(1))), [in_vain()]);
    sought(&mut world);
    assert_eq!(sought(&mut world), None);
}

#[test]
fn where_nobody_looks_an_open_without_a_way_fails_at_once() {
    let mut world = seeking();
    world.tell(Input::SoughtBy { sources: Vec::new(), patience: PATIENCE });
    assert!(matches!(failures(&world.open(peer(1)).1)[..], [(_, OpenError::NoAddress { .. })]));
}

#[test]
fn when_every_known_way_failed_a_hint_may_still_come_and_the_error_tells_all() {
    let mut world = seeking();
    world.learn(peer(1), &[public(1)]);
    let (_, actions) = world.open(peer(1));
    let failed = world.dial_failed(dials(&actions)[0].0);
    assert_eq!(failures(&failed), [], "it is looked for");
    let actions = hint(&mut world, peer(1), public(2));
    assert_eq!(dials(&actions).len(), 1);
    assert_eq!(failures(&world.dial_failed(dials(&actions)[0].0)), []);
    let ways: Vec<TriedWay> = tried(&world.pass(PATIENCE)).into_iter().map(|way| way.way).collect();
    let direct = |address| TriedWay::Direct(vec![address]);
    assert_eq!(ways, [direct(public(1)), direct(public(2))], "that something was found says more");
}

#[test]
fn what_is_dialled_when_the_lookup_is_over_is_waited_for() {
    let mut world = seeking();
    world.open(peer(1));
    let actions = hint(&mut world, peer(1), public(1));
    assert_eq!(failures(&world.pass(PATIENCE + Duration::from_secs(1))), []);
    assert_eq!(tried(&world.dial_failed(dials(&actions)[0].0)).len(), 1);
}

#[test]
fn whoever_waits_for_a_lookup_alone_when_its_own_time_is_over_is_told_what_was_tried() {
    let mut world = World::with(|config| config.deadlines.open = PATIENCE / 2);
    world.tell(Input::SoughtBy { sources: vec!["kad".to_owned()], patience: PATIENCE });
    world.learn(peer(1), &[public(1)]);
    let (_, actions) = world.open(peer(1));
    world.dial_failed(dials(&actions)[0].0);
    assert_eq!(failures(&world.pass(PATIENCE / 2 - Duration::from_millis(1))), []);
    let ways: Vec<TriedWay> =
        tried(&world.pass(Duration::from_millis(1))).into_iter().map(|way| way.way).collect();
    assert_eq!(ways, [TriedWay::Direct(vec![public(1)]), in_vain().way]);
}

#[test]
fn an_open_remembers_so_many_ways_and_no_more() {
    let mut world = World::with(|config| config.limits.dials.of_familiar = 1000);
    world.tell(Input::SoughtBy { sources: vec!["kad".to_owned()], patience: PATIENCE });
    world.open(peer(1));
    for number in 0..50 {
        let actions = hint(&mut world, peer(1), at(&format!("8.8.8.{}", number + 1)));
        for (dial, ..) in dials(&actions) {
            world.dial_failed(dial);
        }
    }
    assert_eq!(tried(&world.pass(PATIENCE)).len(), 32);
}

#[test]
fn whoever_waits_longer_than_is_usual_is_told_that_the_peer_is_looked_for() {
    let mut world = seeking();
    world.open(peer(1));
    world.pass(PATIENCE - Duration::from_millis(1));
    let awaits = world.all_events().into_iter().find_map(|event| match event {
        Event::Waiting(Waiting { awaits, .. }) => Some(awaits),
        _ => None,
    });
    assert_eq!(awaits.unwrap(), [Awaited::Lookup { by: vec!["kad".to_owned()] }]);
}

fn somebody_else(world: &mut World, dial: DialId, address: Multiaddr) -> Vec<Action> {
    world.tell(Input::SomebodyElse { dial, obtained: peer(9), address })
}

#[test]
fn where_somebody_else_answered_is_left_out_and_the_other_addresses_are_dialled_at_once() {
    let mut world = seeking();
    world.open(peer(1));
    let both = vec![public(1), public(2)];
    let actions =
        world.tell(Input::Hint { peer: peer(1), addresses: both, source: HintSource::Contact });
    let wrong = public(1).with_p2p(peer(1)).unwrap();
    let actions = somebody_else(&mut world, dials(&actions)[0].0, wrong);
    let [(dial, _, addresses)] = &dials(&actions)[..] else { panic!("{actions:?}") };
    assert_eq!(*addresses, [public(2)]);
    let (connection, actions) = world.dialled(peer(1), *dial);
    assert_eq!(opens_on(&actions), [connection]);
}

#[test]
fn an_address_where_somebody_else_answered_is_not_dialled_for_ten_minutes_whoever_names_it() {
    let mut world = seeking();
    world.open(peer(1));
    let actions = hint(&mut world, peer(1), public(1));
    somebody_else(&mut world, dials(&actions)[0].0, public(1));
    assert_eq!(dials(&hint(&mut world, peer(1), public(1))), []);
    world.tell(Input::Hear { peer: peer(1), addresses: vec![public(1)] });
    let reasons: Vec<DialFailureReason> =
        tried(&world.pass(PATIENCE)).into_iter().map(|way| way.reason).collect();
    assert_eq!(reasons, [DialFailureReason::WrongPeer { obtained: peer(9) }]);
    let (_, actions) = world.open(peer(1));
    assert_eq!(dials(&actions), []);
    let reasons: Vec<DialFailureReason> =
        tried(&world.pass(PATIENCE)).into_iter().map(|way| way.reason).collect();
    assert!(matches!(reasons[0], DialFailureReason::Banned { .. }), "{reasons:?}");
    world.open(peer(2));
    assert_eq!(
        dials(&hint(&mut world, peer(2), public(1))).len(),
        1,
        "it is banned for that peer alone"
    );
    world.pass(Duration::from_secs(600));
    assert_eq!(dials(&world.open(peer(1)).1).len(), 1, "addresses change hands");
}

#[test]
fn a_ban_is_lifted_by_whoever_does_not_want_to_wait_and_is_none_for_our_operator() {
    let mut world = seeking();
    world.open(peer(1));
    let actions = hint(&mut world, peer(1), public(1));
    somebody_else(&mut world, dials(&actions)[0].0, public(1));
    world.tell(Input::Retry(None));
    let actions = hint(&mut world, peer(1), public(1));
    assert_eq!(dials(&actions).len(), 1);
    somebody_else(&mut world, dials(&actions)[0].0, public(1));
    world.pass(PATIENCE);
    world.learn(peer(1), &[public(1)]);
    assert_eq!(dials(&world.open(peer(1)).1).len(), 1, "our operator says so");
}
