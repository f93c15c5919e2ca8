//! Relays that are given by a name: looked up, looked up again when they are down, let go of when the name changes.

use super::*;
use crate::{
    addr::{GlobalScope, RelayLocator, RelayName},
    config::RelayMode,
    engine::input::Resolved,
    status::{Purpose, RelayState, RelayStatus},
};

fn name() -> RelayName {
    "relay.lab".parse().unwrap()
}

fn resolves(actions: &[Action]) -> Vec<RelayName> {
    let pick = |action: &Action| match action {
        Action::ResolveRelays { name, .. } => Some(name.clone()),
        _ => None,
    };
    actions.iter().filter_map(pick).collect()
}

/// Of the internet, as records may name them.
fn direct(host: u8) -> Multiaddr {
    format!("/ip4/8.8.4.{host}/tcp/4001").parse().unwrap()
}

fn relay(seed: u8) -> RelayAddr {
    relay_at(seed, seed)
}

/// Identity `seed` at another host.
fn relay_at(seed: u8, host: u8) -> RelayAddr {
    RelayAddr::new(direct(host).with_p2p(peer(seed)).unwrap()).unwrap()
}

fn dialled_peers(actions: &[Action]) -> Vec<PeerId> {
    dials(actions).into_iter().map(|(_, peer, _)| peer).collect()
}

impl World {
    /// Places are wanted at the relays of the name, which is being looked up.
    fn named(&mut self) -> Vec<Action> {
        self.tell(Input::ReserveAll(vec![RelayLocator::Named(name())]))
    }

    fn resolved(&mut self, relays: &[RelayAddr]) -> Vec<Action> {
        let relays = relays.to_vec();
        self.tell(Input::RelaysResolved(Resolved { name: name(), relays, failure: None }))
    }

    fn unresolved(&mut self) -> Vec<Action> {
        let failure = Some("nobody answered".to_owned());
        self.tell(Input::RelaysResolved(Resolved { name: name(), relays: Vec::new(), failure }))
    }

    /// A place is held at this relay, after a dial that these actions ask for.
    fn served(&mut self, relay: PeerId, actions: &[Action]) -> ConnectionId {
        let dial = dials(actions).into_iter().find(|(_, peer, _)| *peer == relay).unwrap().0;
        let (connection, _) = self.dialled(relay, dial);
        let request = reserve(&self.identified(connection));
        self.granted(request);
        connection
    }

    fn relays_in_use(&self) -> Vec<PeerId> {
        self.engine.status(self.now).relays.iter().map(|relay| relay.relay).collect()
    }

    fn name_failures(&mut self) -> Vec<u32> {
        let pick = |event: &Event| match event {
            Event::RelayNameFailed { failures, .. } => Some(*failures),
            _ => None,
        };
        self.events().iter().filter_map(pick).collect()
    }
}

#[test]
fn a_name_is_looked_up_and_a_place_is_held_at_each_of_its_relays() {
    let mut world = World::new();
    assert_eq!(resolves(&world.named()), [name()]);
    let (first, second) = (relay(9), relay(10));
    let actions = world.resolved(&[first.clone(), relay_at(9, 11), second.clone()]);
    let mut addresses = dials(&actions).into_iter().find(|(_, at, _)| *at == first.peer()).unwrap().2;
    addresses.sort();
    assert_eq!(addresses, [direct(9), direct(11)], "both addresses of one relay in one dial");
    world.served(first.peer(), &actions);
    world.served(second.peer(), &actions);
    let relays = world.engine.status(world.now).relays;
    let holds = |relay: &RelayStatus| matches!(relay.state, RelayState::Reserved { .. });
    assert_eq!(relays.iter().filter(|relay| holds(relay)).count(), 2);
}

#[test]
fn a_name_that_cannot_be_resolved_is_looked_up_for_ever_with_a_backoff_and_said_ever_more_rarely() {
    let mut world = World::new();
    world.named();
    let mut said = Vec::new();
    for _ in 0..40 {
        assert_eq!(world.unresolved(), []);
        said.extend(world.name_failures());
        let wait = world.engine.poll_timeout().unwrap() - world.now;
        assert!(wait <= 300 * S, "{wait:?}");
        assert_eq!(resolves(&world.pass(wait)), [name()]);
    }
    assert_eq!(said, [1, 2, 4, 8, 16, 32]);
    let status = world.engine.status(world.now);
    let hindrance = status.hindrance(&Purpose::BeFound { by_relays: true }).unwrap();
    assert!(hindrance.contains("relay.lab") && hindrance.contains("nobody answered"), "{hindrance}");
    assert_eq!(dialled_peers(&world.resolved(&[relay(9)])), [relay(9).peer()]);
}

#[test]
fn the_name_of_a_relay_that_is_down_is_looked_up_again_and_its_new_address_dialled_at_once() {
    let mut world = World::new();
    world.named();
    let actions = world.resolved(&[relay(9)]);
    let link = world.served(relay(9).peer(), &actions);
    world.pass(60 * S);
    let actions = world.closed(link);
    assert_eq!((resolves(&actions), dialled_peers(&actions)), (vec![name()], vec![relay(9).peer()]));
    // The dial of the old address still waits for an answer.
    let actions = world.resolved(&[relay_at(9, 77)]);
    assert_eq!(dials(&actions)[0].2, [direct(77)]);
    world.served(relay(9).peer(), &actions);
}

#[test]
fn a_relay_that_its_name_does_not_name_any_more_is_let_go_of_unless_it_serves() {
    let mut world = World::new();
    world.named();
    let actions = world.resolved(&[relay(9), relay(10)]);
    let link = world.served(relay(9).peer(), &actions);
    world.pass(10 * S);
    world.tell(Input::DialFailed {
        dial: dials(&actions).into_iter().find(|(_, at, _)| *at == relay(10).peer()).unwrap().0,
        reason: DialFailureReason::Network { cause: "refused".to_owned() },
    });
    let actions = world.pass(2 * S);
    assert!(!resolves(&actions).is_empty(), "10 is down");
    world.resolved(&[relay(11)]);
    assert_eq!(world.relays_in_use().len(), 2, "9 serves, 10 is gone, 11 came");
    assert!(world.relays_in_use().contains(&relay(9).peer()));
    world.closed(link);
    assert_eq!(world.relays_in_use(), [relay(11).peer()]);
}

#[test]
fn a_relay_whose_address_the_operator_gave_stays_when_its_name_leaves_it() {
    let mut world = World::new();
    world.tell(Input::Reserve { relay: relay(9) });
    world.named();
    let actions = world.resolved(&[relay(9), relay_at(9, 77)]);
    world.pass(10 * S);
    world.dial_failed(dials(&actions)[0].0);
    assert_eq!(resolves(&world.pass(2 * S)), [name()]);
    world.resolved(&[relay(10)]);
    let status = world.engine.status(world.now);
    let kept = status.relays.iter().find(|known| known.relay == relay(9).peer()).unwrap();
    assert_eq!((kept.addresses.clone(), kept.wanted), (vec![relay(9)], true));
}

#[test]
fn dns_that_dies_later_takes_no_relay_away_and_is_not_said_while_one_serves() {
    let mut world = World::new();
    world.named();
    let actions = world.resolved(&[relay(9)]);
    let link = world.served(relay(9).peer(), &actions);
    world.events();
    let actions = world.pass(2 * HOUR);
    assert!(!resolves(&actions).is_empty(), "it is looked up now and then: a relay may have been added");
    world.unresolved();
    assert_eq!((world.name_failures(), world.relays_in_use()), (vec![], vec![relay(9).peer()]));
    world.closed(link);
    world.pass(10 * S);
    world.unresolved();
    assert_eq!(world.relays_in_use(), [relay(9).peer()], "it is dialled where it was last");
}

#[test]
fn a_peer_is_reached_through_the_relays_of_a_name_once_that_is_known() {
    let mut world = World::new();
    world.learn(peer(1), &[name().circuit_to(peer(1))]);
    let (open, actions) = world.open(peer(1));
    assert_eq!((resolves(&actions), failures(&actions)), (vec![name()], vec![]));
    let actions = world.resolved(&[relay(9)]);
    let (link, _) = world.dialled(relay(9).peer(), dials(&actions)[0].0);
    let actions = world.identified(link);
    let circuit = actions.iter().find_map(|action| match action {
        Action::DialCircuit { peer, relay, .. } => Some((*peer, relay.clone())),
        _ => None,
    });
    assert_eq!(circuit, Some((peer(1), relay(9))), "for {open:?}");
}

#[test]
fn whoever_waits_for_a_peer_behind_a_name_is_told_why_it_is_not_resolved() {
    let mut world = World::new();
    world.learn(peer(1), &[name().circuit_to(peer(1))]);
    let (open, _) = world.open(peer(1));
    let actions = world.unresolved();
    let [(failed, error)] = &failures(&actions)[..] else { panic!("{actions:?}") };
    assert_eq!(*failed, open);
    let text = error.to_string();
    assert!(text.contains("relay.lab") && text.contains("nobody answered"), "{text}");
    // Asked anew, it is looked up anew, though not in the same moment.
    let (_, actions) = world.open(peer(1));
    assert_eq!(resolves(&actions), []);
    assert_eq!(resolves(&world.pass(5 * S)), [name()]);
}

#[test]
fn server_and_client_of_a_fleet_choose_the_same_relays_of_it() {
    let fleet: Vec<RelayAddr> = (20..40).map(relay).collect();
    let mut server = World::new();
    server.named();
    server.resolved(&fleet);
    let mut places = server.relays_in_use();
    places.sort();
    assert_eq!(places.len(), 4, "a node has places at the few that are nearest to its identity");
    let mut client = World::new();
    client.learn(peer(0), &[]);
    // The world's own identity is that of the server, so the client looks for it from elsewhere.
    client.engine.local = peer(99);
    client.learn(peer(0), &[name().circuit_to(peer(0))]);
    client.open(peer(0));
    let mut sought = dialled_peers(&client.resolved(&fleet));
    sought.sort();
    assert_eq!(sought, places);
}

#[test]
fn what_records_name_in_private_networks_and_nowhere_is_not_dialled_and_said_with_the_remedy() {
    let private = ["/ip4/10.1.2.3/tcp/22", "/ip4/127.0.0.1/tcp/1", "/ip4/169.254.169.254/tcp/80"];
    let at = |text: &str| -> RelayAddr { format!("{text}/p2p/{}", peer(9)).parse().unwrap() };
    let mut world = World::new();
    world.named();
    assert_eq!(world.resolved(&private.map(at)), []);
    let events = world.events();
    let [Event::RelayNameFailed { cause, .. }] = &events[..] else { panic!("{events:?}") };
    assert!(cause.contains("2 private, 1 forbidden") && cause.contains("--assume-global"), "{cause}");
    let mut lab = World::with(|config| {
        config.global = GlobalScope::with_assumed(vec!["10.0.0.0/8".parse().unwrap()]);
    });
    lab.named();
    assert_eq!(dialled_peers(&lab.resolved(&private.map(at))), [peer(9)]);
}

#[test]
fn more_names_than_the_limit_are_refused_and_those_of_peers_make_room_for_the_operators() {
    let mut world = World::new();
    let circuit = |number: u8| {
        let name: RelayName = format!("r{number}.lab").parse().unwrap();
        name.circuit_to(peer(1))
    };
    let addresses: Vec<Multiaddr> = (0..40).map(circuit).collect();
    world.tell(Input::Hear { peer: peer(1), addresses });
    let refused = world.events();
    assert_eq!(refused.iter().filter(|event| matches!(event, Event::Refused { .. })).count(), 8);
    assert_eq!(world.engine.status(world.now).relay_names.len(), 32);
    assert_eq!(resolves(&world.named()), [name()]);
    assert_eq!(world.engine.status(world.now).relay_names.len(), 32);
}

#[test]
fn a_failed_lookup_is_made_again_at_once_in_another_network() {
    let mut world = World::new();
    world.named();
    world.unresolved();
    let actions = world.tell(Input::NetworkChanged { begun: Vec::new() });
    assert_eq!(resolves(&actions), [name()]);
}

#[test]
fn where_no_relay_is_used_no_name_is_looked_up_and_that_is_said() {
    let mut world = World::with(|config| config.relay_mode = RelayMode::Off);
    assert_eq!(world.named(), []);
    let events = world.events();
    let [Event::RelayNameFailed { cause, .. }] = &events[..] else { panic!("{events:?}") };
    assert!(cause.contains("relay mode is off"), "{cause}");
    world.learn(peer(1), &[name().circuit_to(peer(1))]);
    let (_, actions) = world.open(peer(1));
    assert!(resolves(&actions).is_empty() && failures(&actions).len() == 1, "{actions:?}");
}

#[test]
fn a_name_that_rests_until_its_next_lookup_is_looked_up_when_somebody_does_not_want_to_wait() {
    let mut world = World::new();
    world.named();
    for _ in 0..8 {
        world.unresolved();
        let wait = world.engine.poll_timeout().unwrap() - world.now;
        world.pass(wait);
    }
    world.unresolved();
    let crate::status::Retried::Begun { relays, .. } = world.engine.retry_outlook(None, world.now)
    else {
        panic!()
    };
    assert_eq!(relays, 1);
    let actions = world.tell(Input::Retry(None));
    assert_eq!(resolves(&actions), [name()]);
}

#[test]
fn a_place_at_a_relay_of_a_name_is_waited_for_until_the_name_stands_for_another() {
    let mut world = World::new();
    world.named();
    let actions = world.resolved(&[relay(9)]);
    let waited = |world: &World| -> Vec<PeerId> {
        world.engine.status(world.now).waits.iter().map(|wait| wait.peer).collect()
    };
    assert_eq!(waited(&world), [relay(9).peer()]);
    // It is looked up again when the relay is dialled again.
    let mut actions = actions;
    while resolves(&actions).is_empty() {
        dials(&actions).into_iter().for_each(|(dial, ..)| drop(world.dial_failed(dial)));
        actions = world.pass(S);
    }
    world.resolved(&[relay(8)]);
    assert_eq!(waited(&world), [relay(8).peer()]);
}

#[test]
fn nobody_waits_for_a_relay_that_no_name_stands_for_once_its_link_is_gone() {
    let mut world = World::new();
    world.named();
    let actions = world.resolved(&[relay(9)]);
    let (dial, ..) = dials(&actions)[0];
    let (link, _) = world.dialled(relay(9).peer(), dial);
    // The name is looked up again, since the relay is dialled again some time; here an hour passes.
    world.pass(3600 * S);
    world.resolved(&[relay(8)]);
    world.closed(link);
    let waits = world.engine.status(world.now).waits;
    assert!(waits.iter().all(|wait| wait.peer != relay(9).peer()), "{waits:?}");
}
