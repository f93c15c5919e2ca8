//! Circuits.

use std::num::{NonZeroU32, NonZeroUsize};

use super::{
    super::circuits::{ASKED_MAX, WAITING_DEADLINE, WAITING_MAX},
    *,
};
use crate::relay::Rate;

fn rate(per_hour: u32) -> Rate {
    Rate::per_hour(NonZeroU32::new(per_hour).unwrap())
}

#[test]
fn refused_requests_use_up_nothing_that_others_need() {
    let mut world = World::new(&RelayConfig::default());
    let server = world.server("203.0.113.1");
    let attacker = world.client("198.51.100.1");
    // Every other one comes from the attacker's own address.
    let ip = |number: usize| match number % 2 {
        0 => elsewhere(number),
        _ => "198.51.100.1".to_owned(),
    };
    let honest: Vec<Client> = (0..20).map(|number| world.client(&ip(number))).collect();
    let mut refused = 0;
    for client in honest {
        for _ in 0..450 {
            let ask = world.connect(attacker, server.peer);
            refused += usize::from(world.refusal(ask).is_some());
            world.handle(Input::Answered { ask, answer: Answer::Accepted });
            world.advance(SECOND / 9000);
        }
        let ask = world.circuit(client, server.peer);
        world.end(ask);
        world.actions();
    }
    assert!(refused > 8900, "{refused}");
}

#[test]
fn a_request_for_an_absent_peer_costs_the_asker_nothing() {
    let config = RelayConfig { requests_per_peer: rate(2), ..RelayConfig::default() };
    let mut world = World::new(&config);
    let server = world.server("203.0.113.1");
    let client = world.client("198.51.100.1");
    for _ in 0..1000 {
        let ask = world.connect(client, PeerId::random());
        let told = Refusal { status: Status::NoReservation, limited: None };
        assert_eq!(world.refusal(ask), Some(told));
        world.actions();
    }
    for _ in 0..2 {
        let ask = world.circuit(client, server.peer);
        world.end(ask);
    }
    let ask = world.connect(client, server.peer);
    assert_eq!(world.whose(ask), Some(LimitOwner::Peer));
}

#[test]
fn requests_for_absent_peers_have_a_rate_of_their_own() {
    let config = RelayConfig { lookups_per_ip: rate(100), ..RelayConfig::default() };
    let mut world = World::new(&config);
    let client = world.client("198.51.100.1");
    let asks: Vec<AskId> = (0..101).map(|_| world.connect(client, PeerId::random())).collect();
    assert_eq!(world.refusal(asks[99]).unwrap().status, Status::NoReservation);
    let refusal = world.refusal(asks[100]).unwrap();
    assert_eq!(refusal.status, Status::ResourceLimitExceeded);
    let Limited { whose, limit, retry_after } = refusal.limited.unwrap();
    assert_eq!((whose, limit, retry_after), (LimitOwner::Address, 100, SECOND * 36));
    let other = world.client("203.0.113.1");
    let ask = world.connect(other, PeerId::random());
    assert_eq!(world.refusal(ask).unwrap().status, Status::NoReservation);
}

#[test]
fn each_limit_says_whose_it_is_and_when_to_come_again() {
    let few = RelayConfig {
        circuits: 3,
        circuits_per_peer: 1,
        circuits_per_ip: NonZeroUsize::new(2),
        ..RelayConfig::default()
    };
    let mut world = World::new(&few);
    let server = world.server("203.0.113.1");
    let [first, second, third] = [0; 3].map(|_| world.client("198.51.100.1"));
    let [fourth, fifth] = [1, 2].map(|number| world.client(&elsewhere(number)));
    world.circuit(first, server.peer);
    let circuit = world.circuit(second, server.peer);
    let again = world.connect(first, server.peer);
    let of_host = world.connect(third, server.peer);
    world.circuit(fourth, server.peer);
    let of_all = world.connect(fifth, server.peer);
    for (ask, whose, limit) in
        [(again, LimitOwner::Peer, 1), (of_host, LimitOwner::Address, 2), (of_all, LimitOwner::Relay, 3)]
    {
        let refusal = world.refusal(ask).unwrap();
        assert_eq!(refusal.status, Status::ResourceLimitExceeded);
        let limited = refusal.limited.unwrap();
        assert_eq!((limited.whose, limited.limit), (whose, limit));
        assert!(!limited.retry_after.is_zero());
    }
    world.end(circuit);
    world.circuit(fifth, server.peer);
}

#[test]
fn stuck_circuits_at_one_destination_do_not_stop_circuits_to_others() {
    let mut world = World::new(&RelayConfig::default());
    let [stuck, well] = [1, 2].map(|number| world.server(&elsewhere(number)));
    let clients: Vec<Client> = (10..30).map(|number| world.client(&elsewhere(number))).collect();
    let asks: Vec<AskId> = clients.iter().map(|client| world.connect(*client, stuck.peer)).collect();
    assert_eq!(asks.iter().filter(|ask| world.is_asked(**ask)).count(), ASKED_MAX);
    for client in &clients {
        let ask = world.circuit(*client, well.peer);
        world.end(ask);
    }
    // Who waited for a turn is told when there is none.
    world.advance(WAITING_DEADLINE);
    assert_eq!(world.whose(asks[ASKED_MAX]), Some(LimitOwner::Destination));
    // Who was asked about is told when there is no answer, and its slot is free again.
    world.advance(SECOND * 10);
    assert_eq!(world.refusal(asks[0]).unwrap().status, Status::ConnectionFailed);
    assert!(asks.iter().all(|ask| world.refusal(*ask).is_some()));
    world.actions();
    let asks: Vec<AskId> = clients.iter().map(|client| world.connect(*client, stuck.peer)).collect();
    for ask in asks {
        assert!(world.is_asked(ask));
        world.accept(ask);
        world.end(ask);
    }
}

#[test]
fn a_destination_that_refuses_or_fails_makes_room_for_the_next() {
    for (answer, status) in [
        (Answer::Full, Status::ResourceLimitExceeded),
        (Answer::Denied, Status::PermissionDenied),
        (Answer::Failed, Status::ConnectionFailed),
    ] {
        let mut world = World::new(&RelayConfig::default());
        let server = world.server("203.0.113.1");
        let asks: Vec<AskId> = (0..=ASKED_MAX)
            .map(|number| {
                let client = world.client(&elsewhere(number));
                world.connect(client, server.peer)
            })
            .collect();
        assert!(!world.is_asked(asks[ASKED_MAX]));
        world.handle(Input::Answered { ask: asks[0], answer });
        assert_eq!(world.refusal(asks[0]).unwrap().status, status);
        assert!(world.is_asked(asks[ASKED_MAX]));
    }
}

#[test]
fn an_answer_that_comes_too_late_opens_nothing() {
    let mut world = World::new(&RelayConfig::default());
    let server = world.server("203.0.113.1");
    let client = world.client("198.51.100.1");
    let ask = world.connect(client, server.peer);
    world.advance(SECOND * 10);
    world.actions();
    world.accept(ask);
    assert_eq!(world.actions(), []);
    assert!(world.machine.circuits.is_clear());
}

#[test]
fn at_a_busy_destination_the_host_with_least_under_way_comes_first() {
    let config = RelayConfig { circuits_per_peer: 300, ..RelayConfig::default() };
    let mut world = World::new(&config);
    let server = world.server("203.0.113.1");
    let greedy = world.client("198.51.100.1");
    let asks: Vec<AskId> = (0..100).map(|_| world.connect(greedy, server.peer)).collect();
    let modest = world.client("192.0.2.1");
    let ask = world.connect(modest, server.peer);
    assert!(!world.is_asked(ask));
    world.accept(asks[0]);
    assert!(world.is_asked(ask), "though a hundred came before");
}

#[test]
fn a_full_queue_makes_room_for_a_host_that_has_less_in_it() {
    let config = RelayConfig {
        circuits_per_peer: 1000,
        circuits_per_ip: NonZeroUsize::new(1000),
        requests_per_peer: rate(3600),
        ..RelayConfig::default()
    };
    let mut world = World::new(&config);
    let server = world.server("203.0.113.1");
    let greedy = world.client("198.51.100.1");
    let full = ASKED_MAX + WAITING_MAX;
    let asks: Vec<AskId> = (0..full + 1).map(|_| world.connect(greedy, server.peer)).collect();
    assert_eq!(world.whose(asks[full]), Some(LimitOwner::Destination), "its own queue is full");
    let modest = world.client("192.0.2.1");
    let ask = world.connect(modest, server.peer);
    assert_eq!(world.refusal(ask), None);
    assert_eq!(world.whose(asks[full - 1]), Some(LimitOwner::Destination), "the last one made room");
}

#[test]
fn a_circuit_whose_end_is_gone_is_cut_and_the_other_end_is_told() {
    let mut world = World::new(&RelayConfig::default());
    let server = world.node_as(PeerId::random(), "203.0.113.1");
    world.reserve(server).unwrap();
    let client = world.node_as(PeerId::random(), "198.51.100.1");
    let ask = world.circuit(client, server.peer);
    world.actions();
    world.close(client);
    let actions = world.actions();
    assert!(actions.contains(&Action::Cut { ask, cause: "a connection closed" }));
    let word = Word::Absent { peer: client.peer, closed: true };
    let (peer, connection) = (server.peer, server.connection);
    assert!(actions.contains(&Action::Say { peer, connection, word }));
    world.end(ask);
    assert!(world.machine.circuits.is_clear());
}

#[test]
fn who_asked_for_a_circuit_is_told_when_the_destination_goes_and_forgotten_when_it_goes_itself() {
    let mut world = World::new(&RelayConfig::default());
    let server = world.server("203.0.113.1");
    let [stays, goes] = [1, 2].map(|number| world.client(&elsewhere(number)));
    let (kept, forgotten) = (world.connect(stays, server.peer), world.connect(goes, server.peer));
    world.close(goes);
    assert!(world.actions().contains(&Action::Forget { ask: forgotten }));
    world.close(server);
    assert_eq!(world.refusal(kept).unwrap().status, Status::ConnectionFailed);
    assert!(world.machine.circuits.is_clear());
}

#[test]
fn one_hundred_and_sixty_seven_circuits_a_second_to_different_peers_are_no_rush() {
    let config = RelayConfig { connections: 10_000, reservations: 4000, ..RelayConfig::default() };
    let mut world = World::new(&config);
    for number in 0..1000 {
        let server = world.server(&elsewhere(2 * number));
        let client = world.client(&elsewhere(2 * number + 1));
        let ask = world.circuit(client, server.peer);
        world.advance(SECOND / 167);
        world.end(ask);
        world.actions();
    }
}
