#![allow(clippy::unwrap_used)]
//! The machine among simulated NATs and STUN servers, in virtual time.

mod world;

use self::world::{LIAR, RELAY, ROUTER, SECOND, World, at, connection, ms};
use super::*;
use crate::nat::{AnswerFrom, Filtering, Mapping};

fn kind(mapping: Mapping, filtering: Filtering) -> NatKind {
    NatKind { mapping: Some(mapping), filtering: Some(filtering) }
}

const MAPPINGS: [Mapping; 3] =
    [Mapping::None, Mapping::EndpointIndependent, Mapping::DestinationDependent];
const FILTERINGS: [Filtering; 3] =
    [Filtering::EndpointIndependent, Filtering::AddressDependent, Filtering::AddressAndPortDependent];

#[test]
fn one_relay_tells_every_kind_but_for_who_lets_in_everybody() {
    for mapping in MAPPINGS {
        for filtering in FILTERINGS {
            let mut world =
                World::new(mapping, filtering, &[]).with_server(RELAY, Some("73.0.0.2:3479"));
            world.relay(1, RELAY);
            world.pass(ms(2000));
            let said = filtering.max(Filtering::AddressDependent);
            assert_eq!(world.nat.kinds().main(), kind(mapping, said), "{mapping:?} {filtering:?}");
            assert_eq!(world.found.len(), 1, "said once: {:?}", world.found);
            assert!(world.found[0].0 < ms(1000), "known at {:?}", world.found[0].0);
        }
    }
}

#[test]
fn a_server_with_two_addresses_that_the_operator_named_tells_every_kind() {
    for mapping in MAPPINGS {
        for filtering in FILTERINGS {
            let mut world = World::new(mapping, filtering, &[RELAY]);
            world = world.with_server(RELAY, Some("73.0.0.3:3479"));
            world.listening();
            world.pass(ms(2000));
            assert_eq!(world.nat.kinds().main(), kind(mapping, filtering), "{mapping:?} {filtering:?}");
        }
    }
}

#[test]
fn our_public_address_is_what_the_servers_of_our_operator_say_and_not_what_another_relay_does() {
    let mut world =
        World::new(Mapping::EndpointIndependent, Filtering::AddressDependent, &[RELAY, SECOND]);
    world = world.with_server(RELAY, None).with_server(SECOND, None).with_server(LIAR, None);
    world.relay(1, LIAR);
    world.listening();
    world.pass(ms(2000));
    assert_eq!(world.told().observers, 3, "all three were asked");
    assert_eq!(world.told().public, Some(ROUTER.parse().unwrap()));
}

#[test]
fn two_relays_are_enough_without_their_other_ports() {
    for mapping in MAPPINGS {
        let mut world = World::new(mapping, Filtering::AddressAndPortDependent, &[]);
        world = world.with_server(RELAY, None).with_server(SECOND, None);
        world.relay(1, RELAY);
        world.relay(2, SECOND);
        world.pass(ms(100));
        assert_eq!(world.nat.kinds().main().mapping, Some(mapping));
        assert_eq!(world.told().observers, 2);
        assert_eq!(world.nat.kinds().main().filtering, None, "nobody could try it");
    }
}

#[test]
fn one_observer_with_one_port_tells_nothing() {
    let mut world = World::new(Mapping::EndpointIndependent, Filtering::AddressDependent, &[]);
    world = world.with_server(RELAY, None);
    world.relay(1, RELAY);
    world.pass(ms(5000));
    assert_eq!((world.nat.kinds().main(), world.found.len()), (NatKind::default(), 0));
}

#[test]
fn a_server_that_answers_plainly_whatever_it_is_asked_says_nothing_of_the_filter() {
    let mut world = World::new(Mapping::EndpointIndependent, Filtering::AddressDependent, &[RELAY]);
    world = world.with_server(RELAY, Some("73.0.0.2:3479"));
    world.servers[0].ignores_changes = true;
    world.listening();
    world.pass(ms(2000));
    let NatKind { mapping, filtering } = world.nat.kinds().main();
    assert_eq!((mapping, filtering), (Some(Mapping::EndpointIndependent), None));
}

#[test]
fn the_addresses_that_a_host_has_at_the_start_are_one_reason_to_ask() {
    let mut world = World::new(Mapping::None, Filtering::EndpointIndependent, &[RELAY]);
    for _ in 0..5 {
        world.listening();
        world.pass(ms(5));
    }
    world.pass(Duration::from_secs(10));
    assert_eq!(world.nat.runs, 1);
}

#[test]
fn a_question_is_sent_three_times_and_given_up_after_a_second_and_a_half() {
    let mut world = World::new(Mapping::None, Filtering::EndpointIndependent, &[RELAY]);
    world.listening();
    world.pass(SETTLE + ms(1499));
    assert_eq!(world.sends, 3);
    assert!(world.nat.run.as_ref().is_some_and(|run| !run.is_over()));
    world.pass(ms(2));
    assert!(world.nat.run.as_ref().is_some_and(Run::is_over));
    assert_eq!(world.nat.kinds().main(), NatKind::default());
}

#[test]
fn a_server_that_does_not_answer_is_asked_again_ever_more_rarely() {
    let mut world = World::new(Mapping::None, Filtering::EndpointIndependent, &[RELAY]);
    world.listening();
    world.pass(Duration::from_secs(24 * 3600));
    let runs = world.nat.runs;
    assert!((24..40).contains(&runs), "{runs} runs in a day");
}

#[test]
fn where_nobody_answers_any_more_nothing_is_known_any_more() {
    let mut world = World::new(Mapping::EndpointIndependent, Filtering::AddressDependent, &[]);
    world = world.with_server(RELAY, Some("73.0.0.2:3479"));
    world.relay(1, RELAY);
    world.pass(Duration::from_secs(60));
    world.servers.clear();
    world.listening();
    world.pass(ms(2000));
    assert_eq!(world.nat.kinds().main(), NatKind::default());
    assert!(world.told().changed);
}

#[test]
fn in_another_network_what_could_not_be_found_out_is_unknown() {
    let mut world = World::new(Mapping::EndpointIndependent, Filtering::AddressDependent, &[RELAY]);
    world = world.with_server(RELAY, Some("73.0.0.2:3479"));
    world.listening();
    world.pass(Duration::from_secs(60));
    world.servers[0].other = None;
    world.pass(Duration::from_secs(3600));
    assert_eq!(
        world.nat.kinds().main(),
        kind(Mapping::EndpointIndependent, Filtering::AddressDependent)
    );
    world.listening();
    world.pass(ms(2000));
    assert_eq!(world.nat.kinds().main(), NatKind::default());
}

#[test]
fn the_port_of_a_run_is_given_back_once_nobody_may_join_it_and_who_comes_later_is_asked_in_another() {
    let mut world =
        World::new(Mapping::EndpointIndependent, Filtering::AddressDependent, &["relay.example"]);
    world = world.with_server(RELAY, Some("73.0.0.2:3479"));
    world.listening();
    // A name that takes long keeps it open.
    world.pass(JOIN + JOIN);
    assert_eq!(world.closed, []);
    let (run, server) = world.resolves[0].clone();
    world.nat.resolved(run, &server, &[at(RELAY).ip()], world.now);
    world.turn();
    world.pass(ms(2000));
    assert_eq!((&world.closed[..], world.sends > 0), (&[run][..], true));
    world.relay(1, SECOND);
    world.pass(ms(2000));
    assert_eq!(world.nat.runs, 2);
    world.nat.resolved(run, &server, &[at(SECOND).ip()], world.now);
    world.pass(ms(2000));
}

#[test]
fn it_is_asked_again_every_hour_and_a_change_is_told_once() {
    let mut world = World::new(Mapping::EndpointIndependent, Filtering::AddressDependent, &[]);
    world = world.with_server(RELAY, Some("73.0.0.2:3479"));
    world.relay(1, RELAY);
    world.pass(Duration::from_secs(3 * 3600));
    assert!((3..=4).contains(&world.nat.runs), "{} runs", world.nat.runs);
    assert_eq!(world.found.len(), 1, "nothing is new");
    assert!(world.told().changed, "the first one");
    world.filtering = Filtering::AddressAndPortDependent;
    world.pass(Duration::from_secs(3600));
    assert_eq!(world.found.len(), 2, "{:?}", world.found);
    assert!(world.told().changed);
}

#[test]
fn a_change_of_this_hosts_addresses_is_followed_within_a_second_but_only_so_often() {
    let mut world = World::new(Mapping::EndpointIndependent, Filtering::AddressDependent, &[]);
    world = world.with_server(RELAY, Some("73.0.0.2:3479"));
    world.relay(1, RELAY);
    world.pass(Duration::from_secs(60));
    world.mapping = Mapping::DestinationDependent;
    world.listening();
    world.pass(ms(1000));
    assert_eq!(world.nat.kinds().main().mapping, Some(Mapping::DestinationDependent));
    let runs = world.nat.runs;
    for _ in 0..600 {
        world.listening();
        world.pass(ms(100));
    }
    let more = world.nat.runs - runs;
    assert!((10..=13).contains(&more), "{more} runs in a minute in which addresses changed 600 times");
}

#[test]
fn what_was_known_holds_until_the_next_run_is_over() {
    let mut world = World::new(Mapping::EndpointIndependent, Filtering::AddressAndPortDependent, &[]);
    world = world.with_server(RELAY, Some("73.0.0.2:3479"));
    world.relay(1, RELAY);
    world.pass(Duration::from_secs(60));
    let known = world.nat.kinds().main();
    world.listening();
    for _ in 0..2000 {
        world.pass(ms(1));
        assert_eq!(world.nat.kinds().main(), known);
    }
    assert_eq!(world.found.len(), 1);
}

#[test]
fn a_relay_that_becomes_known_during_a_run_joins_it() {
    let mut world = World::new(Mapping::DestinationDependent, Filtering::AddressDependent, &[]);
    world = world.with_server(RELAY, None).with_server(SECOND, None);
    world.relay(1, RELAY);
    world.pass(Duration::from_secs(3));
    assert_eq!(world.nat.kinds().main().mapping, None);
    world.relay(2, SECOND);
    world.pass(ms(50));
    assert_eq!(
        (world.nat.runs, world.nat.kinds().main().mapping),
        (1, Some(Mapping::DestinationDependent))
    );
}

#[test]
fn a_relay_that_is_back_after_this_host_has_moved_is_asked_anew() {
    let mut world = World::new(Mapping::DestinationDependent, Filtering::AddressAndPortDependent, &[]);
    world = world.with_server(RELAY, Some("73.0.0.2:3479"));
    world.relay(1, RELAY);
    // The first answer has come, the other questions are under way.
    world.pass(ms(100));
    world.nat.closed(connection(1));
    world.listening();
    world.mapping = Mapping::EndpointIndependent;
    world.pass(ms(20));
    world.relay(2, RELAY);
    world.pass(ms(2000));
    assert_eq!(
        (world.nat.runs, world.nat.kinds().main().mapping),
        (2, Some(Mapping::EndpointIndependent))
    );
    assert_eq!(world.found.len(), 1, "nothing is told of two networks at once: {:?}", world.found);
}

#[test]
fn names_are_resolved_for_each_run_and_late_answers_are_not_taken_for_a_later_one() {
    let mut world =
        World::new(Mapping::EndpointIndependent, Filtering::AddressDependent, &["relay.example"]);
    world = world.with_server(RELAY, Some("73.0.0.2:3479"));
    world.listening();
    world.pass(Duration::from_secs(4));
    assert_eq!((world.resolves.len(), world.sends), (1, 0));
    let (run, server) = world.resolves[0].clone();
    world.listening();
    world.pass(ms(100));
    assert_eq!(world.resolves.len(), 2, "the network may be another one");
    let ips = [at(RELAY).ip()];
    world.nat.resolved(run, &server, &ips, world.now);
    world.pass(ms(100));
    assert_eq!(world.sends, 0);
    world.nat.resolved(world.resolves[1].0, &server, &ips, world.now);
    world.turn();
    world.pass(ms(2000));
    assert_eq!(
        world.nat.kinds().main(),
        kind(Mapping::EndpointIndependent, Filtering::AddressDependent)
    );
}

#[test]
fn an_answer_from_where_it_cannot_come_is_none() {
    let mut world = World::new(Mapping::EndpointIndependent, Filtering::AddressAndPortDependent, &[]);
    world.relay(1, RELAY);
    world.servers.clear();
    let probe = ProbeId(world.nat.probes);
    // Somebody guesses what only the server and who is on the path know.
    for from in ["73.0.0.2:1", "6.6.6.6:3478"] {
        world.nat.answered(probe, at(from), at("6.6.6.6:1"), None, world.now);
    }
    world.nat.answered(ProbeId(999), at(RELAY), at("6.6.6.6:1"), None, world.now);
    world.nat.answered(probe, at(RELAY), at("[2a00::1]:1"), None, world.now);
    assert!(world.nat.run.as_ref().unwrap().findings.is_empty());
    world.nat.answered(probe, at(RELAY), at("73.0.0.11:35000"), Some(at("73.0.0.2:3479")), world.now);
    // The question that wants an answer from the other port.
    let probe = ProbeId(world.nat.probes);
    world.turn();
    world.nat.answered(probe, at("6.6.6.6:3479"), at("73.0.0.11:35000"), None, world.now);
    world.pass(ms(5000));
    assert_eq!(world.nat.kinds().main().filtering, Some(Filtering::AddressAndPortDependent));
}

#[test]
fn a_relay_cannot_send_us_to_another_host() {
    let mut world = World::new(Mapping::EndpointIndependent, Filtering::AddressDependent, &[]);
    world = world.with_server(RELAY, Some("6.6.6.6:3479"));
    world.relay(1, RELAY);
    world.pass(ms(5000));
    assert!(world.sent.iter().all(|(_, to)| to.ip() == at(RELAY).ip()), "{:?}", world.sent);
    // Nor can a server that our operator named, to where nobody may be sent.
    let mut world = World::new(Mapping::EndpointIndependent, Filtering::AddressDependent, &[RELAY]);
    world = world.with_server(RELAY, Some("192.168.1.1:53"));
    world.listening();
    world.pass(ms(5000));
    assert!(world.sent.iter().all(|(_, to)| to.ip() == at(RELAY).ip()), "{:?}", world.sent);
}

#[test]
fn a_relay_that_says_ever_other_ports_is_asked_at_the_first_one() {
    let mut world = World::new(Mapping::EndpointIndependent, Filtering::AddressDependent, &[]);
    for port in 1..1000 {
        world.relay(1, &format!("73.0.0.2:{port}"));
    }
    world.pass(Duration::from_secs(20));
    assert_eq!(world.nat.servers.len(), 1);
    assert!(world.sent.iter().all(|(_, to)| to.port() == 1));
    world.nat.closed(connection(1));
    assert!(world.nat.servers.is_empty());
}

#[test]
fn servers_questions_and_observations_are_bounded() {
    let named: Vec<String> = (1..=50).map(|host| format!("73.0.1.{host}")).collect();
    let named: Vec<&str> = named.iter().map(String::as_str).collect();
    let mut world = World::new(Mapping::EndpointIndependent, Filtering::AddressDependent, &named);
    for id in 1..=200 {
        world.relay(id, &format!("73.0.2.{id}:3478"));
        let observed = format!("/ip4/73.0.0.11/tcp/{id}").parse().unwrap();
        world.nat.observed(connection(id), &observed, false);
    }
    world.pass(Duration::from_secs(30));
    assert_eq!(world.nat.servers.len(), NAMED_MAX + OFFERED_MAX);
    assert_eq!(world.nat.observed.len(), OBSERVED_MAX);
    let asked = world.sent.iter().filter(|(run, _)| *run == RunId(1)).count();
    assert_eq!(asked, 8 * 3, "eight servers, three times each");
}

#[test]
fn what_two_relays_see_of_our_own_ports_tells_the_mapping_before_any_question() {
    for (second, expected) in
        [(35000, Mapping::EndpointIndependent), (35001, Mapping::DestinationDependent)]
    {
        let mut world = World::new(Mapping::None, Filtering::EndpointIndependent, &[]);
        for (id, port) in [(1, 35000), (2, second)] {
            let observed = format!("/ip4/73.0.0.11/udp/{port}/quic-v1").parse().unwrap();
            world.nat.observed(connection(id), &observed, false);
            world.turn();
        }
        assert_eq!(world.nat.kinds().main(), NatKind { mapping: Some(expected), filtering: None });
        assert_eq!((world.sends, world.told().observers), (0, 2));
        // A relay that is gone takes nothing along; another network does.
        world.nat.closed(connection(1));
        world.turn();
        assert_eq!(world.nat.kinds().main().mapping, Some(expected));
        world.listening();
        assert_eq!(world.nat.kinds().main(), NatKind::default());
    }
}

#[test]
fn ipv4_and_ipv6_are_told_apart_and_ipv4_counts() {
    let mut world = World::new(Mapping::EndpointIndependent, Filtering::AddressDependent, &[]);
    world = world.with_server(RELAY, Some("73.0.0.2:3479"));
    let observed = "/ip6/2a00::7/udp/4001/quic-v1".parse().unwrap();
    world.nat.observed(connection(9), &observed, false);
    world.nat.news(&["2a00::7".parse().unwrap()]);
    assert_eq!(world.nat.kinds().main().mapping, Some(Mapping::None), "until IPv4 is known");
    world.relay(1, RELAY);
    world.pass(ms(2000));
    assert_eq!(world.nat.kinds().main().mapping, Some(Mapping::EndpointIndependent));
    assert_eq!(world.told().family, Family::V4);
    assert_eq!(world.told().public, Some(ROUTER.parse().unwrap()));
}
