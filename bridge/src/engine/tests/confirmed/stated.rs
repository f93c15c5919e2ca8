//! Addresses that our operator states, tested as all others are.

use super::*;
use crate::{
    addr::GlobalScope,
    config::EXTERNAL_MAX,
    engine::tests::upgrades::{REFUSED, punches},
    event::CandidateSource,
    status::{AddressSource, ExternalState},
};

/// What the operator says.
fn stated() -> Multiaddr {
    at("8.8.4.4")
}

/// A host behind a NAT whose operator says where it is reached, and what it wants done once it listens.
fn begun(addresses: &[Multiaddr]) -> (World, Vec<Action>) {
    let mut world = World::with(|config| config.external = addresses.to_vec());
    assert_eq!(world.engine.candidates.offer(true), [], "it does not listen yet");
    let actions = world.tell(Input::Listening { address: at("192.168.1.7") });
    (world, actions)
}

/// Such a host at a relay that tests addresses, and sees it elsewhere; the first test, which is of what is stated.
fn at_a_relay() -> (World, ConnectionId, TestId) {
    let (mut world, _) = begun(&[stated()]);
    let link = world.reserved(&relay(9));
    world.events();
    world.observed(link, public(9));
    let actions = world.offers_tests(link);
    let [(test, _, address)] = &tests(&actions)[..] else { panic!("{actions:?}") };
    assert_eq!(*address, stated());
    (world, link, *test)
}

fn unanswered(events: &[Event]) -> Vec<(Multiaddr, PeerId, Option<Multiaddr>)> {
    let pick = |event: &Event| match event {
        Event::ExternalUnanswered { address, relay, listener } => {
            Some((address.clone(), *relay, listener.clone()))
        }
        _ => None,
    };
    events.iter().filter_map(pick).collect()
}

impl World {
    fn stands(&self) -> Vec<ExternalState> {
        self.engine.status(self.now).external.into_iter().map(|one| one.state).collect()
    }

    /// What the next peer that comes through a relay is told is open, and mapped.
    fn tells(&mut self, peer: PeerId) -> (bool, Vec<Multiaddr>) {
        let (_, actions) = self.visited(peer);
        let offer = actions.iter().find_map(|action| match action {
            Action::AskPunch { offer, .. } => Some(offer.clone()),
            _ => None,
        });
        let offer = offer.unwrap();
        assert!(offer.candidates.contains(&stated()), "it is offered whatever relays say");
        (offer.open, offer.mapped)
    }
}

#[test]
fn what_the_operator_states_is_told_to_everybody_from_the_start() {
    let (mut world, actions) = begun(&[stated()]);
    assert_eq!(confirmed(&actions), [(stated(), true)], "whoever identifies it hears of it");
    let events = world.events();
    assert!(matches!(events[0], Event::Listening { .. }));
    let source = CandidateSource::Operator;
    assert!(
        matches!(&events[1], Event::CandidateFound { address, source: by } if *address == stated() && *by == source)
    );
    assert_eq!(world.engine.candidates.offer(false), [stated()]);
    let told = world.engine.status(world.now).candidates;
    assert_eq!((told[0].address.clone(), told[0].source), (stated(), AddressSource::Operator));
    assert_eq!(world.stands(), [ExternalState::Unchecked]);
    assert_eq!(world.tells(peer(1)), (true, vec![stated()]));
    let again = world.tell(Input::Listening { address: at("192.168.1.8") });
    assert_eq!(confirmed(&again), [], "once");
}

#[test]
fn where_a_relay_finds_nobody_that_is_said_once_and_nobody_is_told_any_more_that_it_is_open() {
    let (mut world, _, test) = at_a_relay();
    assert_eq!(confirmed(&world.tested(test, Outcome::Unreached)), [], "the operator's word stands");
    let said = unanswered(&world.events());
    assert_eq!(said, [(stated(), relay(9).peer(), Some(at("192.168.1.7")))]);
    assert_eq!(world.stands(), [ExternalState::Unanswered { relay: relay(9).peer() }]);
    assert_eq!(world.tells(peer(1)), (false, vec![]));
    let (changes, count) = world.every_test(60 * MINUTE, Outcome::Unreached);
    assert!(changes.is_empty() && count > 4, "{changes:?} {count}");
    assert_eq!(unanswered(&world.events()), [], "it is said already");
}

#[test]
fn the_warning_ends_when_a_relay_gets_in_and_upgrades_begin_anew() {
    let (mut world, _, test) = at_a_relay();
    world.tested(test, Outcome::Unreached);
    let (circuit, _) = world.visited(peer(1));
    assert_eq!(asked(&world.round_fails(circuit, REFUSED)), [], "it rests");
    world.pass(Duration::from_secs(10));
    world.events();
    let begun = world.tell(Input::Retry(None));
    let test = world.next_test_of(&stated(), begun);
    let actions = world.tested(test, reached(RELAY));
    assert_eq!(confirmed(&actions), [(stated(), true)]);
    let told =
        |event: &Event| matches!(event, Event::AddressConfirmed { address, .. } if *address == stated());
    assert!(world.events().iter().any(told));
    assert_eq!(world.stands(), [ExternalState::Confirmed]);
    assert_eq!(world.tells(peer(2)), (true, vec![stated()]));
}

#[test]
fn what_was_confirmed_and_is_reached_no_more_is_said_after_the_third_failure_and_told_all_the_same() {
    let (mut world, _, test) = at_a_relay();
    world.tested(test, reached(RELAY));
    world.events();
    let mut failures = 0;
    while world.stands() == [ExternalState::Confirmed] {
        let test = world.next_test_of(&stated(), Vec::new());
        failures += 1;
        assert_eq!(confirmed(&world.tested(test, Outcome::Unreached)), []);
    }
    assert_eq!(failures, 3);
    let events = world.events();
    let withdrawn =
        |event: &Event| matches!(event, Event::AddressWithdrawn { address } if *address == stated());
    assert!(events.iter().any(withdrawn));
    assert_eq!(unanswered(&events).len(), 1);
    assert!(world.engine.candidates.offer(false).contains(&stated()));
}

#[test]
fn no_answer_of_a_relay_says_nothing_of_a_stated_address() {
    let (mut world, _, test) = at_a_relay();
    world.tested(test, Outcome::Unanswered);
    world.every_test(30 * MINUTE, Outcome::Unanswered);
    assert_eq!(unanswered(&world.events()), []);
    assert_eq!(world.stands(), [ExternalState::Unchecked]);
}

#[test]
fn what_relays_see_is_not_warned_of_when_nobody_gets_in_there() {
    let (mut world, _, test) = seen();
    world.tested(test, Outcome::Unreached);
    assert_eq!(unanswered(&world.events()), []);
    assert_eq!(world.stands(), []);
}

#[test]
fn a_peer_dials_what_is_stated_beside_what_relays_see() {
    let (mut world, _, _) = at_a_relay();
    let (circuit, actions) = world.visited(peer(1));
    assert_eq!(asked(&actions), [(circuit, vec![stated(), public(9)])], "the operator's word first");
    assert_eq!(punches(&actions), [], "it waits for the peer's addresses");
}

#[test]
fn another_network_and_whoever_does_not_want_to_wait_have_it_tested_at_once() {
    for wish in [Input::NetworkChanged { begun: Vec::new() }, Input::Retry(None)] {
        let (mut world, _, test) = at_a_relay();
        let mut actions = world.tested(test, Outcome::Unreached);
        while let Some((test, ..)) = tests(&actions).first() {
            actions = world.tested(*test, Outcome::Unreached);
        }
        world.pass(Duration::from_secs(10));
        let tested: Vec<_> = tests(&world.tell(wish)).into_iter().map(|(.., at)| at).collect();
        assert_eq!(tested, [stated()]);
    }
}

#[test]
fn who_does_not_listen_over_that_family_is_told_so() {
    let mut world =
        World::with(|config| config.external = vec!["/ip6/2600::7/tcp/4001".parse().unwrap()]);
    world.tell(Input::Listening { address: at("192.168.1.7") });
    let link = world.reserved(&relay(9));
    let begun = world.offers_tests(link);
    let test = world.next_test_of(&"/ip6/2600::7/tcp/4001".parse().unwrap(), begun);
    world.tested(test, Outcome::Unreached);
    assert_eq!(unanswered(&world.events())[0].2, None);
}

#[test]
fn no_more_are_taken_than_leave_room_for_what_relays_see() {
    let many: Vec<_> = (1..=20).map(public).collect();
    let (mut world, actions) = begun(&many);
    assert_eq!(confirmed(&actions).len(), EXTERNAL_MAX);
    assert_eq!(world.engine.candidates.offer(false), many[..EXTERNAL_MAX]);
    let link = world.reserved(&relay(9));
    world.observed(link, public(40));
    assert!(world.engine.candidates.offer(false).contains(&public(40)));
}

#[test]
fn what_nobody_can_dial_is_left_out_and_what_is_said_twice_counts_once() {
    let circuit = format!("/ip4/8.8.4.4/udp/1/quic-v1/p2p/{}/p2p-circuit", peer(3));
    let bad =
        ["/ip4/0.0.0.0/tcp/1", "/ip4/8.8.4.4/tcp/0", "/dns4/a.example/tcp/1", &circuit, "/ip4/8.8.4.4"];
    let mut all: Vec<Multiaddr> = bad.iter().map(|text| text.parse().unwrap()).collect();
    all.extend([stated(), stated().with_p2p(peer(0)).unwrap()]);
    let (world, _) = begun(&all);
    assert_eq!(world.engine.candidates.offer(false), [stated()]);
}

#[test]
fn a_private_address_is_told_to_familiar_peers_alone_and_never_tested() {
    let home: Multiaddr = "/ip4/10.0.0.9/tcp/7000".parse().unwrap();
    let (mut world, actions) = begun(std::slice::from_ref(&home));
    assert_eq!(confirmed(&actions), [], "strangers do not hear of it");
    assert_eq!(world.engine.candidates.offer(false), []);
    assert!(world.engine.candidates.offer(true).contains(&home));
    assert!(!world.engine.candidates.is_open(crate::error::Family::V4));
    let link = world.reserved(&relay(9));
    assert!(tests(&world.offers_tests(link)).iter().all(|(.., tested)| *tested != home));
    let lab = GlobalScope::with_assumed(vec!["10.0.0.0/8".parse().unwrap()]);
    let mut world = World::with(|config| (config.external, config.global) = (vec![home.clone()], lab));
    world.tell(Input::Listening { address: at("192.168.1.7") });
    assert_eq!(world.engine.candidates.offer(false), [home], "unless it counts as public");
}
