//! Which addresses this node names to whom, and which of those that others name it dials.

use super::{
    upgrades::{REFUSED, TIMED_OUT, answered, asked, at, public, punches},
    *,
};

/// A node at home that listens on its private address, and on loopback.
fn at_home(world: &mut World) {
    for ip in ["127.0.0.1", "192.168.1.7"] {
        world.tell(Input::Listening { address: at(ip) });
    }
}

#[test]
fn private_addresses_are_named_to_familiar_peers_only() {
    let mut world = World::seen();
    at_home(&mut world);
    let (_, actions) = world.visited(peer(1));
    assert_eq!(asked(&actions)[0].1.len(), 1, "a stranger");
    world.tell(Input::Welcome { service: service(), peers: vec![peer(2)] });
    let (_, actions) = world.visited(peer(2));
    assert!(asked(&actions)[0].1.contains(&at("192.168.1.7")), "one that a service lets in");
    world.tell(Input::Hold { peer: peer(3) });
    let circuit = world.reached(peer(3));
    let actions = world.offer(circuit, &[public(1)]);
    assert!(answered(&actions)[0].contains(&at("192.168.1.7")), "one that our program holds");
}

#[test]
fn two_hosts_of_one_network_are_dialled_there_only_if_they_are_familiar() {
    let named = [public(8), at("192.168.1.9"), at("10.9.9.9"), at("127.0.0.1")];
    for (welcome, expected) in [
        (false, vec![public(8)]),
        // Our relay sees us behind 8.8.8.8 as well: one router.
        (true, vec![at("192.168.1.9"), public(8), at("10.9.9.9")]),
    ] {
        let mut world = World::seen();
        at_home(&mut world);
        if welcome {
            world.tell(Input::Welcome { service: service(), peers: vec![peer(1)] });
        }
        let (circuit, _) = world.visited(peer(1));
        world.answer(circuit, &named);
        assert_eq!(punches(&world.pass(S))[0].1, expected);
    }
}

#[test]
fn loopback_is_dialled_only_for_a_familiar_peer_that_proved_to_be_on_this_host() {
    for (welcome, same_host, dialled) in
        [(true, true, true), (true, false, false), (false, true, false), (false, false, false)]
    {
        let mut world = World::seen();
        at_home(&mut world);
        if welcome {
            world.tell(Input::Welcome { service: service(), peers: vec![peer(1)] });
        }
        let (circuit, _) = world.visited(peer(1));
        world.answer_from(circuit, &[at("127.0.0.1")], same_host);
        assert_eq!(punches(&world.pass(S)).is_empty(), !dialled, "{welcome} {same_host}");
    }
}

#[test]
fn a_peer_that_becomes_familiar_is_asked_anew_with_our_private_addresses() {
    let mut world = World::seen();
    at_home(&mut world);
    let (circuit, actions) = world.visited(peer(1));
    assert_eq!(asked(&actions)[0].1.len(), 1);
    let dial = world.punch(circuit, &[public(1)]);
    let actions = world.inbound(circuit, FREE);
    let asked = asked(&actions);
    assert!(asked[0].1.contains(&at("192.168.1.7")), "its stream was accepted: {asked:?}");
    assert_eq!(world.punch_failed(dial, TIMED_OUT), [], "the punch before is forgotten");
    world.answer(circuit, &[at("192.168.1.9")]);
    assert_eq!(punches(&world.pass(S))[0].1, [at("192.168.1.9")]);
}

#[test]
fn an_operator_s_addresses_are_dialled_as_they_are_and_a_peer_s_are_judged() {
    let world = World::new;
    let (given, said) = (at("10.1.1.1"), at("10.2.2.2"));
    let mut one = world();
    one.learn(peer(1), std::slice::from_ref(&given));
    one.tell(Input::Hear { peer: peer(1), addresses: vec![said.clone(), public(1)] });
    let (_, actions) = one.open(peer(1));
    assert_eq!(dials(&actions)[0].2, [given, public(1)]);

    let mut other = world();
    other.tell(Input::Hear { peer: peer(1), addresses: vec![said, at("127.0.0.1")] });
    let (_, actions) = other.open(peer(1));
    assert_eq!(dials(&actions), []);
    let error = failures(&actions)[0].1.to_string();
    assert!(error.contains("2 refused (2 private") && error.contains("--assume-global"), "{error}");
}

#[test]
fn a_relay_that_a_ticket_names_is_judged_as_well() {
    let mut world = World::new();
    let inside = RelayAddr::new(at("10.9.9.9").with_p2p(peer(9)).unwrap()).unwrap();
    world.tell(Input::Hear { peer: peer(1), addresses: vec![inside.circuit_to(peer(1))] });
    let (_, actions) = world.open(peer(1));
    assert_eq!(dials(&actions), []);
    assert!(matches!(failures(&actions)[0].1, OpenError::NoRouteToDestination { .. }));
}

#[test]
fn a_peer_that_is_held_or_used_is_never_forgotten_for_others() {
    let mut world = World::with(|config| config.limits.known_peers = 3);
    world.learn(peer(1), &[public(1)]);
    world.tell(Input::Hold { peer: peer(1) });
    world.learn(peer(2), &[public(2)]);
    let (_, actions) = world.open(peer(2));
    let (connection, actions) = world.dialled(peer(2), dials(&actions)[0].0);
    assert_eq!(opens_on(&actions), [connection]);
    for seed in 10..40 {
        world.tell(Input::Hear { peer: peer(seed), addresses: vec![public(seed)] });
    }
    world.closed(connection);
    world.pass(60 * S);
    let known = |world: &World, seed| !world.engine.dials.known(peer(seed)).is_empty();
    assert!(known(&world, 1) && known(&world, 2));
}

#[test]
fn what_is_refused_is_told_as_data() {
    let mut world = World::seen();
    let (circuit, _) = world.visited(peer(1));
    world.answer(circuit, &[public(1), at("10.9.9.9"), at("169.254.169.254")]);
    let told = world.events().into_iter().find_map(|event| match event {
        Event::CandidatesRefused { allowed, refused, .. } => {
            Some((allowed, refused.private, refused.forbidden))
        }
        _ => None,
    });
    assert_eq!(told, Some((1, 1, 1)));
}

#[test]
fn a_stranger_has_only_so_many_dials_an_hour() {
    let mut world = World::seen_with(|config| config.deadlines.relayed_grace = HOUR);
    let named: Vec<_> = (0..200).map(public).collect();
    let mut dialled = 0;
    for _ in 0..100 {
        let (circuit, _) = world.visited(peer(1));
        world.answer(circuit, &named);
        for (dial, addresses, _) in punches(&world.pass(S)) {
            assert!(addresses.len() <= 8);
            dialled += addresses.len();
            world.punch_failed(dial, REFUSED);
        }
        world.closed(circuit);
    }
    let limit = Config::default().limits.dials.of_stranger;
    assert!((limit..limit + 4).contains(&(dialled as u32)), "{dialled}");
}

#[test]
fn a_relay_that_sees_us_ever_elsewhere_is_believed_only_so_often() {
    let mut world = World::with(|config| config.deadlines.relayed_grace = HOUR);
    let link = world.reserved(&relay(9));
    let (circuit, _) = world.visited(peer(1));
    world.events();
    let mut begun = 0;
    for port in 1..=1000 {
        let seen = format!("/ip4/8.8.8.8/tcp/{port}").parse().unwrap();
        begun += asked(&world.observed(link, seen)).len();
        world.answer(circuit, &[]);
    }
    let found = |event: &&Event| matches!(event, Event::CandidateFound { .. });
    let said = world.events().iter().filter(found).count();
    assert!((1..=8).contains(&said) && begun <= 9, "{said} candidates, {begun} rounds");
    world.pass(10 * S);
    let seen = "/ip4/8.8.8.8/tcp/2000".parse().unwrap();
    world.observed(link, seen);
    assert_eq!(world.events().iter().filter(found).count(), 1);
}
