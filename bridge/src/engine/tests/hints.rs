//! What somebody who need not be the peer says about where it is.

use super::{
    upgrades::{answered, asked, at, public, punches},
    *,
};
use crate::{addr::HintSource, engine::paths::upgrades::NEARBY_FIRST};

fn hint(world: &mut World, peer: PeerId, addresses: &[Multiaddr], source: HintSource) -> Vec<Action> {
    world.tell(Input::Hint { peer, addresses: addresses.to_vec(), source })
}

fn on_the_lan(world: &mut World, peer: PeerId, addresses: &[Multiaddr]) -> Vec<Action> {
    hint(world, peer, addresses, HintSource::LocalNetwork)
}

fn dialled_at(actions: &[Action]) -> Vec<Multiaddr> {
    dials(actions).into_iter().flat_map(|(_, _, addresses)| addresses).collect()
}

#[test]
fn a_missing_peer_is_dialled_at_once_where_a_hint_says() {
    let mut world = World::new();
    world.tell(Input::Hold { peer: peer(1) });
    let actions = on_the_lan(&mut world, peer(1), &[at("192.168.1.9")]);
    assert_eq!(dialled_at(&actions), [at("192.168.1.9")]);
    let (_, actions) = world.dialled(peer(1), dials(&actions)[0].0);
    assert_eq!(dials(&actions), []);
    assert_eq!(dials(&on_the_lan(&mut world, peer(1), &[at("192.168.1.8")])), [], "it is reached");
}

#[test]
fn a_hint_about_a_peer_that_nobody_here_knows_is_not_remembered() {
    let mut world = World::new();
    assert_eq!(dials(&on_the_lan(&mut world, peer(1), &[at("192.168.1.9")])), []);
    let (_, actions) = world.open(peer(1));
    assert!(matches!(failures(&actions)[0].1, OpenError::NoAddress { .. }));
}

#[test]
fn a_hint_about_a_peer_that_is_let_in_is_remembered_and_not_dialled() {
    let mut world = World::new();
    world.tell(Input::Welcome { service: service(), peers: vec![peer(1)] });
    assert_eq!(dials(&on_the_lan(&mut world, peer(1), &[at("192.168.1.9")])), []);
    assert_eq!(dialled_at(&world.open(peer(1)).1), [at("192.168.1.9")]);
}

#[test]
fn a_peer_that_is_reached_through_a_relay_is_dialled_where_a_hint_says() {
    let mut world = World::seen();
    world.tell(Input::Hold { peer: peer(1) });
    world.reached(peer(1));
    let actions = on_the_lan(&mut world, peer(1), &[at("192.168.1.9")]);
    assert_eq!(dialled_at(&actions), [at("192.168.1.9")]);
}

#[test]
fn a_hint_does_not_wait_for_other_ways_that_are_being_tried() {
    let mut world = World::new();
    world.learn(peer(1), &[public(1)]);
    let (_, first) = world.open(peer(1));
    let actions = on_the_lan(&mut world, peer(1), &[at("192.168.1.9"), public(1)]);
    assert_eq!(dialled_at(&actions), [at("192.168.1.9")], "the other one is being dialled");
    world.dial_failed(dials(&first)[0].0);
    let (connection, actions) = world.dialled(peer(1), dials(&actions)[0].0);
    assert_eq!(opens_on(&actions), [connection]);
}

#[test]
fn private_addresses_are_dialled_if_the_hint_comes_from_their_network() {
    for (source, address, dialled) in [
        (HintSource::LocalNetwork, "10.9.9.9", true),
        (HintSource::LocalNetwork, "127.0.0.1", false),
        (HintSource::LocalNetwork, "192.168.1.7", false),
        (HintSource::LocalNetwork, "169.254.169.254", false),
        (HintSource::ThisHost, "192.168.1.7", true),
        (HintSource::Memory, "10.9.9.9", false),
        (HintSource::Memory, "192.168.1.9", true),
    ] {
        let mut world = World::new();
        world.tell(Input::Listening { address: at("192.168.1.7") });
        world.tell(Input::Hold { peer: peer(1) });
        let actions = hint(&mut world, peer(1), &[at(address)], source);
        assert_eq!(!dials(&actions).is_empty(), dialled, "{source:?} {address}");
    }
}

#[test]
fn a_hint_that_led_nowhere_is_forgotten_and_dialled_again_when_it_is_said_again() {
    let mut world = World::new();
    world.tell(Input::Hold { peer: peer(1) });
    let address = [at("192.168.1.9")];
    for _ in 0..3 {
        let actions = on_the_lan(&mut world, peer(1), &address);
        assert_eq!(dialled_at(&actions), address);
        world.dial_failed(dials(&actions)[0].0);
        assert_eq!(dials(&world.pass(HOUR)), [], "nobody says so any more");
    }
    let remembered = hint(&mut world, peer(1), &[public(1)], HintSource::Memory);
    world.dial_failed(dials(&remembered)[0].0);
    assert_eq!(dialled_at(&world.pass(HOUR))[..1], [public(1)], "nobody would say it again");
}

#[test]
fn who_gives_many_hints_uses_up_only_what_hints_have() {
    let mut world = World::with(|config| config.limits.dials.of_familiar = 20);
    world.tell(Input::Hold { peer: peer(1) });
    let mut dialled = 0;
    for number in 1..=50 {
        let actions = on_the_lan(&mut world, peer(1), &[at(&format!("192.168.1.{number}"))]);
        dialled += dials(&actions).len();
        for (dial, ..) in dials(&actions) {
            world.dial_failed(dial);
        }
    }
    assert_eq!(dialled, 20);
    world.tell(Input::Hear { peer: peer(1), addresses: vec![public(1)] });
    assert_eq!(dialled_at(&world.open(peer(1)).1), [public(1)], "what the peer itself named");
}

const NEARBY: &str = "192.168.1.9";

/// A node that looks for a peer and dials it on the local network.
fn dialling_nearby() -> (World, DialId) {
    let mut world = World::seen();
    world.tell(Input::Hold { peer: peer(1) });
    let actions = on_the_lan(&mut world, peer(1), &[at(NEARBY)]);
    (world, dials(&actions)[0].0)
}

#[test]
fn no_punch_begins_while_a_dial_nearby_has_its_moment() {
    let (mut world, _) = dialling_nearby();
    let (_, actions) = world.visited(peer(1));
    assert_eq!(asked(&actions), []);
    assert_eq!(asked(&world.pass(NEARBY_FIRST - MS)), []);
    assert_eq!(asked(&world.pass(MS)).len(), 1, "who lies on the local network delays a punch, no more");
}

#[test]
fn who_dials_nearby_answers_an_offer_to_punch_when_that_dial_had_its_moment() {
    let (mut world, _) = dialling_nearby();
    let circuit = world.reached(peer(1));
    assert_eq!(answered(&world.offer(circuit, &[public(1)])), [] as [Vec<Multiaddr>; 0]);
    assert_eq!(answered(&world.pass(NEARBY_FIRST - MS)), [] as [Vec<Multiaddr>; 0]);
    assert_eq!(answered(&world.pass(MS)).len(), 1);
    assert_eq!(punches(&world.sync(circuit)).len(), 1);
}

#[test]
fn where_the_dial_nearby_leads_to_the_peer_nobody_punches() {
    let (mut world, nearby) = dialling_nearby();
    let circuit = world.reached(peer(1));
    world.offer(circuit, &[public(1)]);
    let (_, mut actions) = world.dialled(peer(1), nearby);
    actions.extend(world.pass(NEARBY_FIRST * 2));
    actions.extend(world.sync(circuit));
    assert_eq!(answered(&actions), [] as [Vec<Multiaddr>; 0]);
    assert_eq!(punches(&actions), []);
}

#[test]
fn hints_about_a_peer_that_was_relayed_for_a_while_delay_no_punch() {
    let mut world = World::seen();
    world.tell(Input::Hold { peer: peer(1) });
    let circuit = world.reached(peer(1));
    world.pass(NEARBY_FIRST);
    for host in 1..=5 {
        on_the_lan(&mut world, peer(1), &[at(&format!("192.168.1.{host}"))]);
        assert_eq!(answered(&world.offer(circuit, &[public(host)])).len(), 1);
    }
}

#[test]
fn a_dial_that_leads_elsewhere_delays_no_punch() {
    let mut world = World::seen();
    world.tell(Input::Hold { peer: peer(1) });
    let actions = hint(&mut world, peer(1), &[public(1)], HintSource::Memory);
    assert_eq!(dialled_at(&actions), [public(1)]);
    assert_eq!(asked(&world.visited(peer(1)).1).len(), 1);
}

#[test]
fn a_hint_has_only_what_it_names_dialled() {
    let mut world = World::new();
    world.learn(peer(1), &[public(1)]);
    let actions = world.tell(Input::Hold { peer: peer(1) });
    world.dial_failed(dials(&actions)[0].0);
    assert_eq!(dialled_at(&on_the_lan(&mut world, peer(1), &[at(NEARBY)])), [at(NEARBY)]);
}

#[test]
fn a_hint_that_nobody_could_follow_is_not_remembered() {
    let mut world = World::new();
    world.tell(Input::Welcome { service: service(), peers: vec![peer(1)] });
    let foreign = format!("/ip4/8.8.8.8/tcp/4001/p2p/{}", peer(2)).parse().unwrap();
    hint(&mut world, peer(1), &[at("169.254.169.254"), foreign], HintSource::Memory);
    let (_, actions) = world.open(peer(1));
    assert!(matches!(failures(&actions)[0].1, OpenError::NoAddress { .. }), "{actions:?}");
}

#[test]
fn a_hint_that_led_to_the_peer_is_remembered_though_a_later_dial_fails() {
    let mut world = World::new();
    world.tell(Input::Hold { peer: peer(1) });
    let actions = on_the_lan(&mut world, peer(1), &[at(NEARBY)]);
    let connection = ConnectionId(libp2p::swarm::ConnectionId::new_unchecked(1000));
    world.tell(Input::ConnectionOpened(Opened {
        connection,
        dial: Some(dials(&actions)[0].0),
        peer: peer(1),
        path: Path::Direct,
        direction: Direction::Outbound,
        transport: Transport::Tcp,
        address: at(NEARBY),
        limit: None,
    }));
    let mut actions = world.closed(connection);
    actions.extend(world.pass(S));
    assert_eq!(dialled_at(&actions)[0], at(NEARBY));
    world.dial_failed(dials(&actions)[0].0);
    assert_eq!(dialled_at(&world.pass(HOUR))[0], at(NEARBY));
}

#[test]
fn a_hint_that_comes_just_after_the_relayed_connection_has_its_moment_too() {
    let mut world = World::seen();
    world.tell(Input::Hold { peer: peer(1) });
    let circuit = world.reached(peer(1));
    world.pass(NEARBY_FIRST / 2);
    on_the_lan(&mut world, peer(1), &[at(NEARBY)]);
    assert_eq!(answered(&world.offer(circuit, &[public(1)])).len(), 0);
    assert_eq!(answered(&world.pass(NEARBY_FIRST / 2)).len(), 1);
}

#[test]
fn nor_does_a_better_outlook_begin_a_punch_in_the_moment_of_a_dial_nearby() {
    let (mut world, _) = dialling_nearby();
    let (connection, _) = world.visited(peer(1));
    let actions = world.tell(Input::Heard { connection, word: Word::PunchAgain });
    assert_eq!(asked(&actions), []);
    assert_eq!(asked(&world.pass(NEARBY_FIRST)).len(), 1);
}
