//! Tests of our addresses through relays, under virtual time.

mod stated;

use std::net::IpAddr;

use super::{
    upgrades::{asked, at, public},
    *,
};
use crate::{
    engine::input::{Outcome, TestId},
    event::LetsIn,
};

const MINUTE: Duration = Duration::from_secs(60);

/// Whence the relays of these tests dial: their own address.
const RELAY: &str = "203.0.113.9";
const ELSEWHERE: &str = "9.9.9.9";

/// What is to be tested, where.
fn tests(actions: &[Action]) -> Vec<(TestId, ConnectionId, Multiaddr)> {
    let pick = |action: &Action| match action {
        Action::TestAddress { test, connection, address, .. } => {
            Some((*test, *connection, address.clone()))
        }
        _ => None,
    };
    actions.iter().filter_map(pick).collect()
}

fn confirmed(actions: &[Action]) -> Vec<(Multiaddr, bool)> {
    let pick = |action: &Action| match action {
        Action::Confirm { address, confirmed } => Some((address.clone(), *confirmed)),
        _ => None,
    };
    actions.iter().filter_map(pick).collect()
}

fn reached(from: &str) -> Outcome {
    Outcome::Reached { from: from.parse::<IpAddr>().unwrap() }
}

impl World {
    fn offers_tests(&mut self, connection: ConnectionId) -> Vec<Action> {
        self.tell(Input::TestsOffered { connection })
    }

    fn tested(&mut self, test: TestId, outcome: Outcome) -> Vec<Action> {
        self.tell(Input::AddressTested { test, outcome })
    }

    /// Lets time pass until the next test begins.
    fn next_test(&mut self) -> TestId {
        loop {
            let next = self.engine.poll_timeout().unwrap();
            let actions = self.pass(next.saturating_duration_since(self.now));
            if let Some((test, ..)) = tests(&actions).first() {
                return *test;
            }
        }
    }

    /// Answers tests of other addresses, in vain, until this one's turn.
    fn next_test_of(&mut self, address: &Multiaddr, begun: Vec<Action>) -> TestId {
        let mut actions = begun;
        loop {
            match tests(&actions).first() {
                Some((test, _, of)) if of == address => return *test,
                Some((test, ..)) => actions = self.tested(*test, Outcome::Unreached),
                None => {
                    let next = self.engine.poll_timeout().unwrap();
                    actions = self.pass(next.saturating_duration_since(self.now));
                }
            }
        }
    }

    /// Answers every test that begins within `time`. What is confirmed and withdrawn meanwhile, and how many tests
    /// there were.
    fn every_test(&mut self, time: Duration, outcome: Outcome) -> (Vec<(Multiaddr, bool)>, usize) {
        let (end, mut changes, mut count) = (self.now + time, Vec::new(), 0);
        while let Some(next) = self.engine.poll_timeout().filter(|next| *next <= end) {
            let mut actions = self.pass(next.saturating_duration_since(self.now));
            while let Some((test, ..)) = tests(&actions).first() {
                count += 1;
                changes.extend(confirmed(&actions));
                actions = self.tested(*test, outcome);
            }
            changes.extend(confirmed(&actions));
        }
        self.pass(end - self.now);
        (changes, count)
    }
}

/// A node with a reservation at a relay that sees it at `public(9)` and tests addresses; its first test.
fn seen() -> (World, ConnectionId, TestId) {
    let mut world = World::new();
    let link = world.reserved(&relay(9));
    world.events();
    assert_eq!(tests(&world.observed(link, public(9))), [], "no relay offers tests yet");
    let actions = world.offers_tests(link);
    let [(test, on, address)] = &tests(&actions)[..] else { panic!("{actions:?}") };
    assert_eq!((*on, address.clone()), (link, public(9)));
    let test = *test;
    (world, link, test)
}

#[test]
fn an_address_that_a_relay_reaches_is_confirmed_and_tested_again_every_quarter_of_an_hour() {
    let (mut world, _, test) = seen();
    let actions = world.tested(test, reached(RELAY));
    assert_eq!(confirmed(&actions), [(public(9), true)]);
    let told = world.events().into_iter().find_map(|event| match event {
        Event::AddressConfirmed { address, server, lets_in } => Some((address, server, lets_in)),
        _ => None,
    });
    assert_eq!(told, Some((public(9), relay(9).peer(), LetsIn::WhoWasSpokenTo)));
    let (changes, count) = world.every_test(61 * MINUTE, reached(RELAY));
    assert_eq!((changes, count), (Vec::new(), 4), "once more an hour says nothing new");
}

#[test]
fn a_confirmed_address_is_withdrawn_after_three_failures_in_a_row_and_not_before() {
    let (mut world, _, test) = seen();
    world.tested(test, reached(RELAY));
    for outcomes in [[Outcome::Unreached, Outcome::Unreached, reached(RELAY)]; 3].concat() {
        let test = world.next_test();
        assert_eq!(confirmed(&world.tested(test, outcomes)), []);
    }
    world.events();
    let (changes, count) = world.every_test(20 * MINUTE, Outcome::Unreached);
    assert_eq!(changes, [(public(9), false)]);
    assert_eq!(count, 3, "after a quarter of an hour, then each minute");
    let withdrawn =
        |event: &Event| matches!(event, Event::AddressWithdrawn { address } if *address == public(9));
    assert!(world.events().iter().any(withdrawn));
    let (changes, count) = world.every_test(2 * 60 * MINUTE, Outcome::Unreached);
    assert!(changes.is_empty() && (7..=9).contains(&count), "{count}: ever more rarely");
    assert_eq!(world.every_test(15 * MINUTE, reached(RELAY)).0, [(public(9), true)]);
}

#[test]
fn one_test_is_under_way_at_a_time_and_every_candidate_has_its_turn() {
    let (mut world, link, first) = seen();
    world.observed(link, at("8.8.8.7"));
    world.tell(Input::Listening { address: at("73.0.0.5") });
    assert_eq!(tests(&world.pass(S)), []);
    let mut seen = Vec::new();
    let mut actions = world.tested(first, Outcome::Unreached);
    while let Some((test, _, address)) = tests(&actions).into_iter().next() {
        seen.push(address);
        actions = world.tested(test, Outcome::Unreached);
    }
    let expected = [at("8.8.8.7"), at("73.0.0.5")];
    assert_eq!(seen, expected, "an observation of a relay replaces the one before");
}

#[test]
fn a_dial_back_from_a_host_that_we_spoke_with_does_not_prove_that_anybody_gets_in() {
    for (from, opens) in [(RELAY, false), (ELSEWHERE, true)] {
        let (mut world, _, test) = seen();
        world.tested(test, reached(from));
        let (_, actions) = world.visited(peer(1));
        assert_eq!(asked(&actions).len(), 1);
        let open = actions.iter().any(|it| matches!(it, Action::AskPunch { offer, .. } if offer.open));
        assert_eq!(open, opens, "{from}");
    }
}

#[test]
fn an_address_of_this_host_itself_that_was_reached_lets_anybody_in() {
    let (mut world, link, test) = seen();
    world.tell(Input::Listening { address: public(9) });
    world.tested(test, reached(RELAY));
    let (_, actions) = world.visited(peer(1));
    assert!(actions.iter().any(|it| matches!(it, Action::AskPunch { offer, .. } if offer.open)));
    assert!(world.engine.path(link).is_some());
}

#[test]
fn no_proof_lets_a_node_do_without_its_relay_and_no_reservation_is_a_proof() {
    let (mut world, link, test) = seen();
    assert!(world.engine.candidates.offer(false).contains(&public(9)));
    assert!(!world.engine.candidates.is_open(crate::error::Family::V4), "it holds a reservation");
    world.tested(test, reached(ELSEWHERE));
    let actions = world.every_test(5 * MINUTE, reached(ELSEWHERE));
    assert_eq!(actions.0, []);
    assert!(world.engine.path(link).is_some(), "the link is kept");
    assert!(!world.events().iter().any(|event| matches!(event, Event::ReservationLost { .. })));
}

#[test]
fn a_server_that_gives_no_answer_proves_nothing_and_is_asked_ever_more_rarely() {
    let (mut world, _, test) = seen();
    world.tested(test, reached(RELAY));
    let (changes, count) = world.every_test(4 * 60 * MINUTE, Outcome::Unanswered);
    assert_eq!(changes, []);
    assert!((14..=24).contains(&count), "{count}");
}

#[test]
fn a_test_that_is_never_answered_is_given_up_and_the_next_server_is_asked() {
    let (mut world, link, _) = seen();
    let other = world.reserved(&relay(8));
    assert_eq!(tests(&world.offers_tests(other)), []);
    let next = tests(&world.pass(MINUTE));
    assert_eq!(next[0].1, other, "not {link:?} again");
}

#[test]
fn the_end_of_the_server_s_connection_ends_its_test() {
    let (mut world, link, _) = seen();
    let other = world.reserved(&relay(8));
    world.offers_tests(other);
    let next = tests(&world.closed(link));
    assert_eq!(next[0].1, other);
}

#[test]
fn an_address_that_is_no_candidate_any_more_is_withdrawn() {
    let (mut world, link, test) = seen();
    world.tested(test, reached(RELAY));
    let actions = world.observed(link, public(7));
    assert_eq!(confirmed(&actions), [(public(9), false)], "the relay sees us elsewhere");
}

#[test]
fn private_addresses_are_not_tested() {
    let (mut world, _, test) = seen();
    world.tell(Input::Listening { address: at("192.168.1.7") });
    assert_eq!(tests(&world.tested(test, Outcome::Unreached)), []);
}

#[test]
fn nobody_but_a_relay_of_ours_is_asked() {
    let mut world = World::new();
    world.tell(Input::Listening { address: at("73.0.0.5") });
    let stranger = world.connected(peer(5), Path::Direct, Transport::Tcp);
    assert_eq!(tests(&world.offers_tests(stranger)), []);
    let circuit = world.connected(peer(9), relayed(&relay(8)), Transport::Tcp);
    assert_eq!(tests(&world.offers_tests(circuit)), []);
}
