//! Whoever does not want to wait, under virtual time.

use super::{
    rounds::row_fails,
    upgrades::{REFUSED, asked as asked_to_punch, public},
    *,
};
use crate::{engine::retry::RETRY_PACE, status::Retried, word::Word};

const NOTHING: Retried = Retried::Begun { upgrades: 0, relays: 0, peers: 0 };

impl World {
    /// What is said to begin, and what is done.
    fn retry(&mut self, peer: Option<PeerId>) -> (Retried, Vec<Action>) {
        let outlook = self.engine.retry_outlook(peer, self.now);
        (outlook, self.tell(Input::Retry(peer)))
    }

    /// A relay that was dialled, and did not answer.
    fn down(&mut self, relay: &RelayAddr) {
        let actions = self.tell(Input::Reserve { relay: relay.clone() });
        self.dial_failed(dials(&actions)[0].0);
    }
}

#[test]
fn a_direct_path_that_is_tried_again_in_half_a_minute_is_tried_now() {
    let mut world = World::seen();
    let (circuit, _) = world.visited(peer(1));
    row_fails(&mut world, circuit);
    let waits = world.engine.status(world.now).peers[0].next_attempt;
    assert!(waits.is_some_and(|wait| wait > 20 * S), "{waits:?}");
    let (outlook, actions) = world.retry(Some(peer(1)));
    assert_eq!(outlook, Retried::Begun { upgrades: 1, relays: 0, peers: 0 });
    assert_eq!(asked_to_punch(&actions)[0].0, circuit);
    world.pass(RETRY_PACE);
    assert_eq!(world.retry(None), (NOTHING, vec![]), "what is under way is left alone");
}

#[test]
fn where_the_other_end_begins_it_is_asked_to() {
    let mut world = World::seen();
    let circuit = world.reached(peer(1));
    assert_eq!(world.retry(None), (NOTHING, vec![]), "it is about to");
    world.pass(RETRY_PACE);
    world.offer(circuit, &[public(1)]);
    let dial = upgrades::punches(&world.sync(circuit))[0].0;
    world.punch_failed(dial, REFUSED);
    let (outlook, actions) = world.retry(None);
    assert_eq!(outlook, Retried::Begun { upgrades: 1, relays: 0, peers: 0 });
    assert_eq!(said(&actions), [(circuit, Word::PunchAgain)]);
}

#[test]
fn a_relay_that_is_down_is_dialled_now_and_another_goes_on_waiting() {
    let mut world = World::new();
    world.down(&relay(8));
    world.down(&relay(9));
    let (outlook, actions) = world.retry(Some(relay(9).peer()));
    assert_eq!(outlook, Retried::Begun { upgrades: 0, relays: 1, peers: 0 });
    let dialled: Vec<_> = dials(&actions).iter().map(|dial| dial.1).collect();
    assert_eq!(dialled, [relay(9).peer()]);
}

#[test]
fn a_relay_that_refused_a_place_is_asked_now() {
    let mut world = World::new();
    let (_, request) = world.asked(&relay(9));
    world.refused(request, ReserveFailure::Refused);
    let (outlook, actions) = world.retry(None);
    assert_eq!(outlook, Retried::Begun { upgrades: 0, relays: 1, peers: 0 });
    let request = reserve(&actions);
    world.granted(request);
    world.pass(RETRY_PACE);
    assert_eq!(world.retry(None), (NOTHING, vec![]), "a place that is held is not renewed early");
}

#[test]
fn a_held_peer_that_is_missing_is_looked_for_now() {
    let mut world = World::new();
    world.learn(peer(1), &[direct(1)]);
    let actions = world.tell(Input::Hold { peer: peer(1) });
    world.dial_failed(dials(&actions)[0].0);
    let (outlook, actions) = world.retry(Some(peer(1)));
    assert_eq!(outlook, Retried::Begun { upgrades: 0, relays: 0, peers: 1 });
    assert_eq!(dials(&actions)[0].1, peer(1));
}

#[test]
fn who_retries_again_and_again_waits_for_the_pace() {
    let mut world = World::new();
    world.down(&relay(9));
    let (_, actions) = world.retry(None);
    world.dial_failed(dials(&actions)[0].0);
    assert_eq!(world.retry(None), (Retried::TooSoon { wait: RETRY_PACE }, vec![]));
    world.pass(MS);
    assert_eq!(world.retry(None), (Retried::TooSoon { wait: RETRY_PACE - MS }, vec![]));
    world.pass(RETRY_PACE - MS);
    assert!(matches!(world.retry(None).0, Retried::Begun { .. }));
}

#[test]
fn a_node_that_ends_begins_nothing() {
    let mut world = World::new();
    world.down(&relay(9));
    world.tell(Input::Shutdown);
    assert_eq!(world.retry(None), (NOTHING, vec![]));
}
