//! What the two ends of a relayed connection tell each other about their punches, and what they say of it.

use super::{
    rounds::row_fails,
    upgrades::{TIMED_OUT, asked, public, punches, reasons},
    *,
};
use crate::{
    engine::paths::upgrades::{AGAIN_MAX, AGAIN_TIME},
    error::{PunchVerdict, UpgradeFailure},
    word::Word,
};

/// What is said to peers about punches.
fn said(actions: &[Action]) -> Vec<Word> {
    let pick = |action: &Action| match action {
        Action::Say { word, .. } => Some(word.clone()),
        _ => None,
    };
    let of_punches = |word: &Word| matches!(word, Word::PunchAgain | Word::PunchFailed(_));
    actions.iter().filter_map(pick).filter(of_punches).collect()
}

fn patient() -> World {
    World::seen_with(|config| config.deadlines.relayed_grace = HOUR)
}

#[test]
fn the_end_that_gives_up_tells_the_other_why() {
    let mut world = patient();
    let (circuit, _) = world.visited(peer(1));
    for round in 1.. {
        let words = said(&world.round_fails(circuit, TIMED_OUT));
        if reasons(&mut world).is_empty() {
            assert_eq!(words, [], "round {round}");
            world.pass(2 * S);
        } else {
            assert_eq!(words, [Word::PunchFailed(PunchVerdict::PunchFailed)]);
            return;
        }
    }
}

#[test]
fn the_end_that_is_told_says_why_at_once_by_what_it_knows_itself_first() {
    let told = |world: &mut World, connection, verdict| {
        world.tell(Input::Heard { connection, word: Word::PunchFailed(verdict) });
        reasons(world)
    };
    let mut world = patient();
    let circuit = world.reached(peer(1));
    let verdict = PunchVerdict::AllRefused;
    assert_eq!(told(&mut world, circuit, verdict), [(UpgradeFailure::AtPeer { verdict }, 0)]);
    assert_eq!(told(&mut world, circuit, verdict), [], "once");

    let mut world = patient();
    let circuit = world.reached(peer(1));
    world.offer(circuit, &[public(1)]);
    let dial = punches(&world.sync(circuit))[0].0;
    world.punch_failed(dial, TIMED_OUT);
    let reasons = told(&mut world, circuit, PunchVerdict::PunchFailed);
    assert!(
        matches!(reasons[..], [(UpgradeFailure::PunchFailed { failures }, 1)] if failures.timed_out == 1)
    );
}

#[test]
fn a_peer_that_ends_the_exchange_and_says_why_gave_up_for_what_it_says() {
    let mut world = patient();
    let circuit = world.reached(peer(1));
    world.offer(circuit, &[public(1)]);
    let exchange = world.exchange(circuit);
    let ended = UpgradeFailure::Exchange { cause: "the peer ended it".to_owned() };
    world.tell(Input::PunchExchangeFailed { exchange, reason: ended });
    assert_eq!(reasons(&mut world), [], "it may offer again");
    let verdict = PunchVerdict::AllRefused;
    world.tell(Input::Heard { connection: circuit, word: Word::PunchFailed(verdict) });
    assert_eq!(reasons(&mut world), [(UpgradeFailure::AtPeer { verdict }, 1)]);
}

#[test]
fn a_verdict_of_the_end_that_does_not_begin_is_nothing() {
    let mut world = patient();
    let (circuit, _) = world.visited(peer(1));
    let word = Word::PunchFailed(PunchVerdict::Other);
    world.tell(Input::Heard { connection: circuit, word });
    assert_eq!(reasons(&mut world), []);
}

#[test]
fn a_peer_that_says_again_has_a_row_of_punches_but_not_too_often() {
    let mut world = patient();
    let (circuit, _) = world.visited(peer(1));
    row_fails(&mut world, circuit);
    world.events();
    let again = |world: &mut World| {
        asked(&world.tell(Input::Heard { connection: circuit, word: Word::PunchAgain })).len()
    };
    assert_eq!(again(&mut world), 1);
    row_fails(&mut world, circuit);
    assert_eq!(reasons(&mut world).len(), 1, "the row has a verdict of its own");
    let mut begun = 0;
    for _ in 0..100 {
        begun += again(&mut world);
        world.answer(circuit, &[]);
    }
    assert_eq!(begun, AGAIN_MAX as usize - 1, "beside the first one");
    world.pass(AGAIN_TIME);
    world.answer(circuit, &[]);
    assert_eq!(again(&mut world), 1);
}

#[test]
fn what_is_said_while_an_exchange_is_under_way_counts_when_that_is_over() {
    let mut world = patient();
    let (circuit, actions) = world.visited(peer(1));
    assert_eq!(asked(&actions).len(), 1);
    let word = Word::PunchAgain;
    assert_eq!(asked(&world.tell(Input::Heard { connection: circuit, word })), []);
    world.answer(circuit, &[public(1)]);
    let actions = world.pass(S);
    assert!(!punches(&actions).is_empty() && !asked(&actions).is_empty(), "{actions:?}");
}

#[test]
fn an_end_that_does_not_begin_and_finds_an_address_says_again() {
    let mut world = World::with(|config| config.deadlines.relayed_grace = HOUR);
    let circuit = world.reached(peer(1));
    world.offer(circuit, &[public(1)]);
    let dial = punches(&world.sync(circuit))[0].0;
    world.punch_failed(dial, TIMED_OUT);
    let address = "/ip4/9.9.9.9/tcp/4001".parse().unwrap();
    let actions = world.tell(Input::Listening { address });
    assert_eq!(said(&actions), [Word::PunchAgain]);
}

#[test]
fn each_verdict_of_the_peer_is_said_once_in_whatever_order_it_says_them() {
    let mut world = patient();
    let circuit = world.reached(peer(1));
    let mut said = Vec::new();
    for _ in 0..3 {
        for verdict in [PunchVerdict::NoCandidate, PunchVerdict::PortsChange] {
            world.tell(Input::Heard { connection: circuit, word: Word::PunchFailed(verdict) });
            said.extend(reasons(&mut world).into_iter().map(|(reason, _)| reason));
        }
    }
    let at_peer = |verdict| UpgradeFailure::AtPeer { verdict };
    assert_eq!(said, [at_peer(PunchVerdict::NoCandidate), at_peer(PunchVerdict::PortsChange)]);
}
