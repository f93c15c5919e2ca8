//! At the door.

use super::*;

#[test]
fn half_a_million_silent_sockets_cost_bounded_memory_and_events_and_others_are_let_in() {
    let mut world = World::new(&RelayConfig::default());
    let attacker = Place::of("198.51.100.1".parse().unwrap());
    let mut shaking: VecDeque<ConnectionId> = VecDeque::new();
    let mut refused = 0;
    for number in 0..500_000 {
        let connection = world.id();
        match world.machine.knock(connection, attacker, world.now) {
            Ok(()) => shaking.push_back(connection),
            Err(limited) => {
                assert_eq!((limited.whose, limited.limit), (LimitOwner::Address, 256));
                refused += 1;
            }
        }
        // Every now and then a handshake is given up.
        if number % 1000 == 0
            && let Some(over) = shaking.pop_front()
        {
            world.machine.handshake_over(over);
        }
        world.advance(Duration::from_micros(20));
        if number % 5000 == 0 {
            world.server(&elsewhere(number / 5000));
            world.actions();
        }
        assert!(shaking.len() <= 256);
    }
    world.advance(SECOND * 2);
    let events = world.events();
    let counts = events.iter().filter_map(|event| match event {
        Event::Refused { what: Asked::Connection, count, .. } => Some(*count),
        _ => None,
    });
    let counts: Vec<u64> = counts.collect();
    assert!(counts.len() <= 12, "{} events in ten seconds", counts.len());
    assert_eq!(counts.iter().sum::<u64>(), refused, "each one is counted");
}

#[test]
fn a_client_that_listens_is_told_where_stun_is_answered_for_its_family_of_addresses() {
    let mut world = World::new(&RelayConfig::default());
    world.machine.answers_stun_at(StunPorts { v4: Some(3478), v6: None });
    let told = |world: &mut World, ip: &str, hears: bool| {
        let Client { connection, .. } = world.client(ip);
        world.handle(Input::Identified { connection, ours: false, hears });
        let word = |action: &Action| match action {
            Action::Say { word, .. } => Some(word.clone()),
            _ => None,
        };
        world.actions().iter().filter_map(word).collect::<Vec<_>>()
    };
    assert_eq!(told(&mut world, "198.51.100.1", true), [Word::Stun { port: 3478 }]);
    assert_eq!(told(&mut world, "198.51.100.2", false), []);
    assert_eq!(told(&mut world, "2a00::1", true), []);
}

#[test]
fn connections_of_one_host_leave_room_for_others() {
    let mut world = World::new(&RelayConfig::default());
    let let_in = (0..5000).filter(|_| world.try_connect(PeerId::random(), "198.51.100.1").is_ok());
    assert_eq!(let_in.count(), 1024);
    for number in 0..1000 {
        world.client(&elsewhere(number));
    }
}

#[test]
fn one_connection_more_than_a_peer_may_have_is_refused() {
    let mut world = World::new(&RelayConfig::default());
    let peer = PeerId::random();
    for number in 0..8 {
        world.client_as(peer, &elsewhere(number));
    }
    let limited = world.try_connect(peer, &elsewhere(9)).unwrap_err();
    assert_eq!((limited.whose, limited.limit), (LimitOwner::Peer, 8));
}

#[test]
fn a_connection_on_which_nothing_is_said_is_closed_and_others_stay() {
    let mut world = World::new(&RelayConfig::default());
    let silent = world.client("198.51.100.1");
    let node = world.node_as(PeerId::random(), "198.51.100.1");
    let client = world.client("198.51.100.1");
    world.connect(client, node.peer);
    world.actions();
    world.advance(SECOND * 19);
    assert_eq!(world.actions(), []);
    world.advance(SECOND);
    let Client { connection, peer } = silent;
    assert_eq!(world.actions(), [Action::Close { peer, connection }]);
    world.advance(HOUR);
    assert_eq!(world.actions(), []);
}
