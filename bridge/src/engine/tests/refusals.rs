//! Relays that are at a limit: asked again when they said, and not before.

use super::*;
use crate::error::{CircuitFault, LimitOwner, RelayLimit};

/// A world that holds a reservation at relay 9, and knows that `peers` are behind it.
fn behind_one_relay(peers: &[PeerId]) -> (World, ConnectionId) {
    let mut world = World::new();
    let link = world.reserved(&relay(9));
    for peer in peers {
        world.learn(*peer, &[relay(9).circuit_to(*peer)]);
    }
    (world, link)
}

fn limit(owner: LimitOwner, retry_after: Option<Duration>) -> RelayLimit {
    RelayLimit { owner, limit: Some(60), retry_after }
}

fn full(world: &mut World, actions: &[Action], limit: RelayLimit) -> Vec<Action> {
    let dial = dials(actions)[0].0;
    world.tell(Input::DialFailed { dial, reason: DialFailureReason::RelayFull(limit) })
}

/// The only reason of the only open that failed.
fn reason(actions: &[Action]) -> DialFailureReason {
    let [(_, OpenError::NoRouteToDestination { tried: causes, .. })] = failures(actions)[..] else {
        panic!("{actions:?}")
    };
    causes[0].reason.clone()
}

#[test]
fn a_circuit_is_dialled_over_the_link_to_its_relay() {
    let (mut world, link) = behind_one_relay(&[peer(1)]);
    let (_, actions) = world.open(peer(1));
    let Some(Action::DialCircuit { peer: to, relay: through, link: over, .. }) = actions.last() else {
        panic!("{actions:?}");
    };
    assert_eq!((*to, through, *over), (peer(1), &relay(9), link));
}

#[test]
fn a_refused_circuit_is_dialled_again_when_the_relay_said() {
    let (mut world, _) = behind_one_relay(&[peer(1)]);
    let (_, actions) = world.open(peer(1));
    assert_eq!(full(&mut world, &actions, limit(LimitOwner::Relay, Some(5 * S))), []);
    assert_eq!(dials(&world.pass(5 * S - MS)), []);
    assert_eq!(dials(&world.pass(MS)).len(), 1);
}

#[test]
fn whoever_would_have_to_wait_long_is_told_whose_limit_it_is_and_the_relay_is_not_asked() {
    let (mut world, _) = behind_one_relay(&[peer(1), peer(2)]);
    let (_, actions) = world.open(peer(1));
    let told = limit(LimitOwner::Peer, Some(60 * S));
    let actions = full(&mut world, &actions, told);
    assert_eq!(reason(&actions), DialFailureReason::RelayFull(told));
    world.pass(20 * S);
    for to in [peer(1), peer(2)] {
        let (_, actions) = world.open(to);
        assert_eq!(dials(&actions), []);
        let left = limit(LimitOwner::Peer, Some(40 * S));
        assert_eq!(reason(&actions), DialFailureReason::RelayFull(left));
    }
    // Soon enough to wait for.
    world.pass(35 * S);
    let (_, actions) = world.open(peer(2));
    assert_eq!(actions, []);
    assert_eq!(dials(&world.pass(5 * S - MS)), []);
    assert_eq!(dials(&world.pass(MS)).len(), 1);
}

#[test]
fn one_peers_limit_does_not_reach_another_peer() {
    let (mut world, _) = behind_one_relay(&[peer(1), peer(2)]);
    let (_, actions) = world.open(peer(1));
    full(&mut world, &actions, limit(LimitOwner::Destination, Some(60 * S)));
    assert_eq!(dials(&world.open(peer(2)).1).len(), 1);
}

#[test]
fn a_relay_that_is_linked_to_anew_may_be_asked_at_once() {
    let (mut world, link) = behind_one_relay(&[peer(1)]);
    let (_, actions) = world.open(peer(1));
    full(&mut world, &actions, limit(LimitOwner::Peer, Some(60 * S)));
    let actions = world.closed(link);
    let (link, _) = world.dialled(relay(9).peer(), dials(&actions)[0].0);
    world.identified(link);
    assert_eq!(dials(&world.open(peer(1)).1).len(), 1);
}

#[test]
fn an_ordinary_relay_that_names_no_time_is_asked_again_with_growing_waits() {
    let (mut world, _) = behind_one_relay(&[peer(1)]);
    let (_, actions) = world.open(peer(1));
    assert_eq!(full(&mut world, &actions, RelayLimit::UNKNOWN), []);
    let actions = world.pass(100 * MS);
    assert_eq!(dials(&actions).len(), 1);
    full(&mut world, &actions, RelayLimit::UNKNOWN);
    assert_eq!(dials(&world.pass(100 * MS - MS)), []);
    assert_eq!(dials(&world.pass(100 * MS + MS)).len(), 1);
}

#[test]
fn a_peer_without_a_reservation_costs_the_asker_nothing() {
    let (mut world, _) = behind_one_relay(&[peer(1), peer(2)]);
    for _ in 0..50 {
        let (_, actions) = world.open(peer(1));
        let dial = dials(&actions)[0].0;
        let actions = world.tell(Input::DialFailed { dial, reason: DialFailureReason::NoReservation });
        assert_eq!(reason(&actions), DialFailureReason::NoReservation, "at once, and not tried again");
    }
    assert_eq!(dials(&world.open(peer(2)).1).len(), 1, "nobody waits for it");
}

#[test]
fn a_fault_of_the_moment_holds_nobody_else() {
    let (mut world, _) = behind_one_relay(&[peer(1), peer(2)]);
    let (_, actions) = world.open(peer(1));
    let reason = DialFailureReason::CircuitFailed { reason: CircuitFault::PeerUnreachable };
    world.tell(Input::DialFailed { dial: dials(&actions)[0].0, reason });
    assert_eq!(dials(&world.open(peer(2)).1).len(), 1);
}
