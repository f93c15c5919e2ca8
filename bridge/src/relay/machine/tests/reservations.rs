//! Places.

use std::num::{NonZeroU32, NonZeroUsize};

use super::*;
use crate::relay::Rate;

fn small(reservations: usize) -> RelayConfig {
    RelayConfig {
        reservations,
        reservations_per_ip: NonZeroUsize::new(reservations),
        ..RelayConfig::default()
    }
}

#[test]
fn one_host_with_1100_identities_holds_its_share_and_others_find_room() {
    let mut world = World::new(&RelayConfig::default());
    let (mut held, mut refused) = (0, 0);
    for _ in 0..1100 {
        let Ok(client) = world.try_connect(PeerId::random(), "198.51.100.1") else { continue };
        match world.reserve(client) {
            Ok(()) => held += 1,
            Err(refusal) => {
                refused += 1;
                let Limited { whose, limit, retry_after } = refusal.limited.unwrap();
                assert_eq!((whose, limit), (LimitOwner::Address, 256));
                assert!(!retry_after.is_zero());
            }
        }
    }
    assert_eq!(held, 256);
    assert!(refused > 500);
    for number in 0..700 {
        let client = world.client(&elsewhere(number));
        assert_eq!(world.reserve(client), Ok(()), "{number}");
    }
}

#[test]
fn a_network_full_of_hosts_holds_twice_a_hosts_share() {
    let mut world = World::new(&RelayConfig::default());
    let mut held = 0;
    for number in 0..1100 {
        let ip = format!("2001:db8:77:{}::1", number % 16);
        if let Ok(client) = world.try_connect(PeerId::random(), &ip) {
            held += usize::from(world.reserve(client).is_ok());
        }
    }
    assert_eq!(held, 512);
}

#[test]
fn a_renewal_is_never_refused_for_fullness() {
    let mut world = World::new(&small(2));
    let holders = [world.server("198.51.100.1"), world.server("203.0.113.1")];
    let stranger = world.client("192.0.2.1");
    let Limited { whose, limit, .. } = limited(world.reserve(stranger));
    assert_eq!((whose, limit), (LimitOwner::Relay, 2));
    for _ in 0..10 {
        world.advance(HOUR / 2);
        for holder in holders {
            assert_eq!(world.reserve(holder), Ok(()));
        }
    }
    assert!(world.reserve(stranger).is_err());
}

#[test]
fn renewals_do_not_depend_on_what_others_of_the_same_address_ask_for() {
    let config =
        RelayConfig { requests_per_ip: Rate::per_hour(NonZeroU32::new(3).unwrap()), ..small(100) };
    let mut world = World::new(&config);
    let holder = world.server("198.51.100.1");
    world.server("198.51.100.1");
    world.server("198.51.100.1");
    let one_more = world.client("198.51.100.1");
    assert_eq!(limited(world.reserve(one_more)).whose, LimitOwner::Address);
    assert_eq!(world.reserve(holder), Ok(()));
}

#[test]
fn a_place_lapses_unless_it_is_renewed() {
    let mut world = World::new(&RelayConfig::default());
    let holder = world.server("198.51.100.1");
    world.advance(HOUR - SECOND);
    assert_eq!(world.reserve(holder), Ok(()));
    world.advance(HOUR - SECOND);
    world.events();
    let client = world.client("203.0.113.1");
    let circuit = world.circuit(client, holder.peer);
    world.advance(SECOND);
    assert!(matches!(world.events()[..], [.., Event::ReservationEnded { peer }] if peer == holder.peer));
    let ask = world.connect(client, holder.peer);
    assert_eq!(world.refusal(ask).unwrap().status, Status::NoReservation);
    world.end(circuit);
}

#[test]
fn who_comes_back_finds_its_place_however_many_wait_for_it() {
    let mut world = World::new(&small(2));
    let holder = world.server("198.51.100.1");
    world.server("203.0.113.1");
    world.advance(HOUR / 2);
    world.close(holder);
    world.advance(Duration::from_secs(200));
    for number in 0..10 {
        let stranger = world.client(&elsewhere(number));
        assert_eq!(limited(world.reserve(stranger)).whose, LimitOwner::Relay);
    }
    // From another address, even.
    let back = world.client_as(holder.peer, "192.0.2.7");
    assert_eq!(world.reserve(back), Ok(()));
    // It flaps: what it has held before counts.
    world.close(back);
    world.advance(Duration::from_secs(200));
    let stranger = world.client("192.0.2.8");
    assert!(world.reserve(stranger).is_err());
    world.advance(Duration::from_secs(101));
    assert_eq!(world.reserve(stranger), Ok(()), "a place is kept for five minutes at most");
}

#[test]
fn a_place_is_kept_no_longer_than_it_was_held() {
    let mut world = World::new(&small(1));
    let holder = world.server("198.51.100.1");
    world.advance(SECOND * 10);
    world.close(holder);
    let stranger = world.client("203.0.113.1");
    world.advance(SECOND * 9);
    assert!(world.reserve(stranger).is_err());
    world.advance(SECOND);
    assert_eq!(world.reserve(stranger), Ok(()));
}

#[test]
fn kept_places_count_as_their_hosts() {
    let config = RelayConfig { reservations_per_ip: NonZeroUsize::new(2), ..RelayConfig::default() };
    let mut world = World::new(&config);
    for seconds in [60, 30] {
        let holder = world.server("198.51.100.1");
        world.advance(SECOND * seconds);
        world.close(holder);
    }
    let next = world.client("198.51.100.1");
    assert_eq!(limited(world.reserve(next)).whose, LimitOwner::Address);
}

#[test]
fn the_newest_place_of_a_node_of_ours_ends_the_one_before() {
    let mut world = World::new(&RelayConfig::default());
    let peer = PeerId::random();
    let old = world.node_as(peer, "198.51.100.1");
    assert_eq!(world.reserve(old), Ok(()));
    let new = world.node_as(peer, "203.0.113.1");
    world.actions();
    assert_eq!(world.reserve(new), Ok(()));
    assert!(world.actions().contains(&Action::Close { peer, connection: old.connection }));
    world.events();
    world.close(old);
    assert!(world.events().is_empty(), "the peer still holds a place");
    let client = world.client("192.0.2.1");
    let ask = world.connect(client, peer);
    let asked = Action::AskDestination {
        ask,
        connection: new.connection,
        destination: peer,
        source: client.peer,
    };
    assert!(world.actions().contains(&asked), "circuits go to the new connection");
}

#[test]
fn a_node_may_say_what_it_is_after_it_took_its_place() {
    let mut world = World::new(&RelayConfig::default());
    let peer = PeerId::random();
    let old = world.node_as(peer, "198.51.100.1");
    world.reserve(old).unwrap();
    let new = world.client_as(peer, "203.0.113.1");
    world.reserve(new).unwrap();
    world.actions();
    let connection = new.connection;
    world.handle(Input::Identified { connection, ours: true, hears: false });
    assert_eq!(world.actions(), [Action::Close { peer, connection: old.connection }]);
}

#[test]
fn a_foreign_peer_may_hold_several_up_to_its_limit() {
    let mut world = World::new(&RelayConfig::default());
    let peer = PeerId::random();
    for number in 0..4 {
        let client = world.client_as(peer, &elsewhere(number));
        assert_eq!(world.reserve(client), Ok(()));
    }
    assert!(!world.actions().iter().any(|action| matches!(action, Action::Close { .. })));
    let fifth = world.client_as(peer, &elsewhere(9));
    let Limited { whose, limit, .. } = limited(world.reserve(fifth));
    assert_eq!((whose, limit), (LimitOwner::Peer, 4));
}

/// Two processes with one identity: each comes back as soon as the other has taken its place.
#[test]
fn two_processes_with_one_identity_do_not_fight_for_ever() {
    let mut world = World::new(&RelayConfig::default());
    let peer = PeerId::random();
    let (mut taken, mut closed, mut holder) = (0, 0, None);
    // An hour, in which the one without a place asks every second.
    for _ in 0..3600 {
        let link = world.node_as(peer, "198.51.100.1");
        match world.reserve(link) {
            Ok(()) => {
                taken += 1;
                if let Some(before) = holder.replace(link) {
                    closed += 1;
                    world.close(before);
                }
            }
            Err(refusal) => {
                assert_eq!(refusal.status, Status::ReservationRefused);
                let Limited { whose, retry_after, .. } = refusal.limited.unwrap();
                assert_eq!(whose, LimitOwner::Peer);
                assert!(retry_after <= SECOND * 60);
                world.close(link);
            }
        }
        world.actions();
        world.advance(SECOND);
    }
    assert!(taken <= 120 && closed <= 120, "{taken} taken, {closed} closed");
    let said = |event: &Event| matches!(event, Event::Refused { what: Asked::Takeover, .. });
    let events = world.events();
    let (said, all) = (events.iter().filter(|event| said(event)).count(), events.len());
    assert!((1..=7).contains(&said), "{said} of {all}");
}

#[test]
fn ten_thousand_clients_come_back_within_a_minute() {
    let config = RelayConfig { reservations: 12_000, connections: 20_000, ..RelayConfig::default() };
    let mut world = World::new(&config);
    for number in 0..10_000 {
        world.advance(SECOND * 60 / 10_000);
        let client = world.client(&elsewhere(number));
        assert_eq!(world.reserve(client), Ok(()), "{number}");
        world.actions();
    }
}

#[test]
fn who_watches_a_peer_is_told_once_for_each_place_taken_anew() {
    let mut world = World::new(&RelayConfig::default());
    let (peer, other) = (PeerId::random(), world.server("203.0.113.1"));
    let watcher = world.node_as(PeerId::random(), "198.51.100.1");
    let connection = watcher.connection;
    let say = |word| Action::Say { peer: watcher.peer, connection, word };
    world.actions();
    world.handle(Input::Watch { connection, peers: vec![peer, other.peer] });
    assert_eq!(world.actions(), [say(Word::Present(other.peer))], "it is there already");
    let node = world.node_as(peer, "192.0.2.1");
    for renewal in [false, true, true] {
        world.reserve(node).unwrap();
        let told = world.actions().contains(&say(Word::Present(peer)));
        assert_eq!(told, !renewal);
    }
    world.close(node);
    assert!(world.actions().contains(&say(Word::Absent { peer, closed: true })));
    let node = world.node_as(peer, "192.0.2.1");
    world.reserve(node).unwrap();
    assert!(world.actions().contains(&say(Word::Present(peer))));
    // Another word replaces the one before.
    world.handle(Input::Watch { connection, peers: Vec::new() });
    world.close(node);
    assert!(world.actions().iter().all(|action| !matches!(action, Action::Say { .. })));
}

#[test]
fn who_asks_about_a_peer_that_has_just_left_is_told_unless_it_is_back() {
    let mut world = World::new(&RelayConfig::default());
    let (peer, watcher) = (PeerId::random(), world.node_as(PeerId::random(), "198.51.100.1"));
    let connection = watcher.connection;
    let ask = |world: &mut World| {
        world.actions();
        world.handle(Input::Watch { connection, peers: Vec::new() });
        world.handle(Input::Watch { connection, peers: vec![peer] });
        let word = |action| match action {
            Action::Say { word, .. } => Some(word),
            _ => None,
        };
        world.actions().into_iter().find_map(word)
    };
    let serve = |world: &mut World| {
        let node = world.node_as(peer, "203.0.113.1");
        world.reserve(node).unwrap();
        world.advance(60 * SECOND);
        node
    };
    let left = Some(Word::Absent { peer, closed: true });
    assert_eq!(ask(&mut world), None);
    let node = serve(&mut world);
    world.close(node);
    world.advance(9 * SECOND);
    assert_eq!(ask(&mut world), left);
    world.advance(SECOND);
    assert_eq!(ask(&mut world), None, "that is long ago");
    let node = serve(&mut world);
    world.handle(Input::Closed { connection: node.connection, closed: false });
    assert_eq!(ask(&mut world), Some(Word::Absent { peer, closed: false }), "it lived, or fell silent");
    let node = serve(&mut world);
    world.close(node);
    let node = world.node_as(peer, "203.0.113.1");
    assert_eq!(ask(&mut world), None, "it is about to take its place again");
    world.close(node);
    assert_eq!(ask(&mut world), left);
    serve(&mut world);
    assert_eq!(ask(&mut world), Some(Word::Present(peer)));
}

#[test]
fn watches_are_bounded_for_each_client_and_each_host() {
    let mut world = World::new(&RelayConfig::default());
    let peers: Vec<PeerId> = (0..100).map(|_| PeerId::random()).collect();
    let connection = world.client("198.51.100.1").connection;
    world.handle(Input::Watch { connection, peers: peers.clone() });
    assert_eq!(world.machine.watches.count(), 64);
    for _ in 0..1000 {
        let connection = world.client("198.51.100.1").connection;
        world.handle(Input::Watch { connection, peers: peers.clone() });
    }
    assert_eq!(world.machine.watches.count(), 16_384, "a quarter of all");
    let connection = world.client("203.0.113.1").connection;
    world.handle(Input::Watch { connection, peers });
    assert_eq!(world.machine.watches.count(), 16_384 + 64);
}

/// What a client is told, since the last time.
fn heard(world: &mut World, client: Client) -> Vec<Word> {
    let said = |action: Action| match action {
        Action::Say { connection, word, .. } if connection == client.connection => Some(word),
        _ => None,
    };
    world.actions().into_iter().filter_map(said).collect()
}

#[test]
fn to_be_told_of_a_peer_costs_a_lookup_and_beyond_the_rate_nothing_is_answered_or_watched() {
    let lookups = Rate::per_hour(NonZeroU32::new(100).unwrap());
    let mut world = World::new(&RelayConfig { lookups_per_ip: lookups, ..RelayConfig::default() });
    let here: Vec<Client> = (0..40).map(|number| world.server(&elsewhere(number))).collect();
    let named: Vec<PeerId> = here.iter().map(|client| client.peer).collect();
    let stranger = world.client("198.51.100.1");
    let watch = |world: &mut World, client: Client, peers: &[PeerId]| {
        world.actions();
        world.handle(Input::Watch { connection: client.connection, peers: peers.to_vec() });
        heard(world, client).len()
    };
    // Naming a peer twice in one word asks about it once.
    assert_eq!(watch(&mut world, stranger, &[&named[..], &named[..]].concat()), 40);
    assert_eq!(watch(&mut world, stranger, &named), 40);
    world.events();
    assert_eq!(watch(&mut world, stranger, &named), 20);
    assert_eq!(world.machine.watches.count(), 20);
    let [Event::Refused { what: Asked::Watch, whose, limit: 100, count: 1, .. }] = world.events()[..]
    else {
        panic!("the operator is not told")
    };
    assert_eq!(whose, Some(LimitOwner::Address));
    // Another identity at the address, and the same question as a request for a circuit, fare no better.
    let other = world.client("198.51.100.1");
    assert_eq!(watch(&mut world, other, &named), 0);
    let ask = world.connect(other, PeerId::random());
    assert_eq!(world.whose(ask), Some(LimitOwner::Address));
    // Of what is not watched nothing is heard later either; another address asks for itself.
    world.close(here[39]);
    assert_eq!(heard(&mut world, stranger), []);
    let elsewhere = world.client("203.0.113.77");
    assert_eq!(watch(&mut world, elsewhere, &named), 39);
    world.advance(SECOND * 36);
    assert_eq!(watch(&mut world, other, &named), 1, "one more");
}

#[test]
fn who_gets_no_place_among_the_watches_is_not_answered() {
    let mut world = World::new(&RelayConfig::default());
    let here = world.server("192.0.2.1");
    let absent: Vec<PeerId> = (0..64).map(|_| PeerId::random()).collect();
    for _ in 0..16_384 / 64 {
        let connection = world.client("198.51.100.1").connection;
        world.handle(Input::Watch { connection, peers: absent.clone() });
    }
    let late = world.client("198.51.100.1");
    world.actions();
    world.handle(Input::Watch { connection: late.connection, peers: vec![here.peer] });
    assert_eq!(heard(&mut world, late), []);
}
