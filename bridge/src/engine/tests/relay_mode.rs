//! What relays may be used for: nothing, introductions, or streams as well.

use super::*;
use crate::{
    config::RelayMode,
    error::{DialFailures, PunchVerdict, Refusal, UpgradeFailure},
};

fn world(mode: RelayMode) -> World {
    let mut world = World::with(|config| config.relay_mode = mode);
    world.learn(peer(1), &[relay(9).circuit_to(peer(1))]);
    world
}

/// A node that uses relays to be introduced, with a link to relay 9.
fn coordinated() -> World {
    let mut world = world(RelayMode::Coordination);
    world.reserved(&relay(9));
    world
}

fn refusals(actions: &[Action]) -> Vec<Refusal> {
    let pick = |action: &Action| match action {
        Action::Refuse { refusal, .. } => Some(*refusal),
        _ => None,
    };
    actions.iter().filter_map(pick).collect()
}

impl World {
    /// The dial becomes a circuit through relay 9.
    fn circuit_dialled(&mut self, dial: DialId) -> (ConnectionId, Vec<Action>) {
        let path = relayed(&relay(9));
        self.established(peer(1), path, Transport::Tcp, Some(dial), Direction::Outbound)
    }

    fn goes_direct(&mut self) -> (ConnectionId, Vec<Action>) {
        self.established(peer(1), Path::Direct, Transport::Tcp, None, Direction::Inbound)
    }
}

#[test]
fn where_relays_only_introduce_an_open_waits_for_the_direct_connection() {
    let mut world = coordinated();
    let (_, actions) = world.open(peer(1));
    let (_, actions) = world.circuit_dialled(dials(&actions)[0].0);
    assert_eq!((opens_on(&actions), dials(&actions)), (vec![], vec![]));
    let actions = world.pass(20 * S);
    assert_eq!((closes(&actions), dials(&actions)), (vec![], vec![]), "it is kept for the punch");
    let (direct, actions) = world.goes_direct();
    assert_eq!(opens_on(&actions), [direct]);
}

#[test]
fn an_open_fails_for_the_latest_reason_although_that_was_said_before() {
    let mut world = coordinated();
    let (_, actions) = world.open(peer(1));
    let (circuit, _) = world.circuit_dialled(dials(&actions)[0].0);
    let (first, second) = (PunchVerdict::NoCandidate, PunchVerdict::PortsChange);
    for verdict in [first, second, first] {
        world.tell(Input::Heard { connection: circuit, word: Word::PunchFailed(verdict) });
    }
    let actions = world.pass(30 * S);
    let [(_, OpenError::NotDirect { why: Some(UpgradeFailure::AtPeer { verdict }), .. })] =
        failures(&actions)[..]
    else {
        panic!("{actions:?}")
    };
    assert_eq!(*verdict, first);
}

#[test]
fn an_open_for_which_no_direct_path_came_about_says_why() {
    let mut world = coordinated();
    let (open, actions) = world.open(peer(1));
    world.circuit_dialled(dials(&actions)[0].0);
    let reason = UpgradeFailure::PunchFailed { failures: DialFailures::default() };
    world.engine.introductions.failed(peer(1), &reason);
    let actions = world.pass(30 * S);
    let [(failed, error)] = failures(&actions)[..] else { panic!("{actions:?}") };
    assert_eq!(
        (failed, error),
        (open, &OpenError::NotDirect { peer: peer(1), there: false, why: Some(reason) })
    );
    let text = error.to_string();
    assert!(
        text.contains("relay mode is coordination and no direct path came about: no hole"),
        "{text}"
    );
    assert!(error.is_retryable());
}

#[test]
fn a_stream_that_lost_its_direct_path_waits_beside_the_circuit_for_the_next_direct_one() {
    let mut world = coordinated();
    let (first, _) = world.goes_direct();
    world.stream_on(first, peer(1));
    let actions = world.closed(first);
    let detached = Input::StreamDetached { key: key(), connection: Some(first), silent: false };
    let dialled = [dials(&actions), dials(&world.tell(detached))].concat();
    let (_, actions) = world.circuit_dialled(dialled[0].0);
    assert_eq!(moves(&actions), []);
    let actions = world.pass(50 * S);
    assert_eq!((moves(&actions), closes(&actions), dials(&actions)), (vec![], vec![], vec![]));
    let (second, actions) = world.goes_direct();
    assert_eq!(moves(&actions), [second]);
}

#[test]
fn a_stream_that_comes_through_a_relay_which_only_introduces_is_refused_and_told() {
    let mut world = coordinated();
    let (path, on) = (relayed(&relay(9)), Transport::Tcp);
    let (circuit, _) = world.established(peer(1), path, on, None, Direction::Inbound);
    world.events();
    assert_eq!(refusals(&world.inbound(circuit, FREE)), [Refusal::DirectOnly]);
    assert!(matches!(
        world.events()[..],
        [Event::StreamRefused { reason: Refusal::DirectOnly, direction: Direction::Inbound, .. }]
    ));
    let (direct, _) = world.goes_direct();
    assert_eq!(refusals(&world.inbound(direct, FREE)), []);
}

#[test]
fn an_open_that_the_peer_takes_only_directly_waits_for_that() {
    let mut world = world(RelayMode::Fallback);
    let circuit = world.connected(peer(1), relayed(&relay(9)), Transport::Tcp);
    let (open, actions) = world.open(peer(1));
    assert_eq!(opens_on(&actions), [circuit]);
    let failure = SubstreamFailure::Refused(Refusal::DirectOnly);
    let actions = world.tell(Input::SubstreamFailed { open, failure: failure.clone() });
    assert_eq!((failures(&actions).len(), opens_on(&actions)), (0, vec![]));
    assert_eq!(closes(&world.pass(20 * S)), [], "the punch needs it");
    let (direct, actions) = world.goes_direct();
    assert_eq!(opens_on(&actions), [direct]);
    // Who says so on a direct connection is not waited for.
    let actions = world.tell(Input::SubstreamFailed { open, failure });
    assert!(matches!(failures(&actions)[..], [(_, OpenError::Refused { .. })]));
}

#[test]
fn a_peer_that_ends_each_circuit_at_once_is_dialled_only_so_often() {
    let mut world = coordinated();
    let (_, mut actions) = world.open(peer(1));
    let mut circuits = 0;
    while let Some((dial, ..)) = dials(&actions).first() {
        circuits += 1;
        let (circuit, _) = world.circuit_dialled(*dial);
        actions = world.closed(circuit);
    }
    assert_eq!(circuits, 4);
    assert_eq!(failures(&world.pass(30 * S)).len(), 1);

    let (first, _) = world.goes_direct();
    world.stream_on(first, peer(1));
    let mut actions = world.closed(first);
    let detached = Input::StreamDetached { key: key(), connection: Some(first), silent: false };
    actions.extend(world.tell(detached));
    let (end, mut circuits) = (world.now + 60 * S, 0);
    while world.now < end {
        actions = match dials(&actions).first() {
            Some((dial, ..)) => {
                circuits += 1;
                let (circuit, _) = world.circuit_dialled(*dial);
                world.closed(circuit)
            }
            None => world.pass(50 * MS),
        };
    }
    assert!((10..=25).contains(&circuits), "{circuits}");
}

#[test]
fn where_no_relay_is_used_none_is_asked_and_no_circuit_dialled() {
    let mut world = world(RelayMode::Off);
    assert_eq!(world.tell(Input::Reserve { relay: relay(9) }), []);
    let events = world.events();
    let [Event::ReservationFailed { cause, .. }] = &events[..] else { panic!("{events:?}") };
    assert!(cause.contains("relay mode is off"), "{cause}");
    let (_, actions) = world.open(peer(1));
    let [(_, error)] = failures(&actions)[..] else { panic!("{actions:?}") };
    assert!(error.to_string().contains("relay mode is off") && !error.is_retryable(), "{error}");
    world.learn(peer(1), &[direct(1)]);
    let (_, actions) = world.open(peer(1));
    assert_eq!(dials(&actions)[0].2, [direct(1)], "known addresses are dialled");
}
