//! A relay that stops.

use super::*;

fn word() -> Word {
    Word::Leaving { within: LEAVING }
}

#[test]
fn a_relay_that_leaves_tells_its_clients_and_gives_them_time() {
    let mut world = World::new(&RelayConfig::default());
    let server = world.node_as(PeerId::random(), "203.0.113.1");
    world.reserve(server).unwrap();
    let client = world.node_as(PeerId::random(), "198.51.100.1");
    let open = world.circuit(client, server.peer);
    let waiting = world.connect(client, server.peer);
    world.actions();
    world.handle(Input::Leave);
    let told = [client, server].map(|Client { connection, peer }| {
        let word = word();
        world.actions.contains(&Action::Say { peer, connection, word })
    });
    assert_eq!(told, [true, true]);
    assert_eq!(world.whose(waiting), Some(LimitOwner::Relay));
    assert!(!world.actions.contains(&Action::Left));
    // Nothing new is taken.
    let ask = world.connect(client, server.peer);
    assert_eq!(world.whose(ask), Some(LimitOwner::Relay));
    let newcomer = world.client("192.0.2.1");
    assert_eq!(world.reserve(newcomer).unwrap_err().status, Status::ReservationRefused);
    world.actions();
    world.advance(LEAVING);
    assert_eq!(world.actions(), [Action::Cut { ask: open, cause: "the relay stops" }]);
    world.end(open);
    assert_eq!(world.actions(), [Action::Left]);
}

#[test]
fn a_relay_has_left_when_its_last_circuit_has_ended() {
    let mut world = World::new(&RelayConfig::default());
    let server = world.node_as(PeerId::random(), "203.0.113.1");
    world.reserve(server).unwrap();
    let client = world.client("198.51.100.1");
    let circuit = world.circuit(client, server.peer);
    world.handle(Input::Leave);
    world.actions();
    world.end(circuit);
    assert_eq!(world.actions(), [Action::Left]);
    world.advance(LEAVING);
    assert_eq!(world.actions(), []);
}

#[test]
fn a_relay_does_not_wait_for_clients_that_cannot_hear_it() {
    let mut world = World::new(&RelayConfig::default());
    let server = world.server("203.0.113.1");
    let client = world.client("198.51.100.1");
    let circuit = world.circuit(client, server.peer);
    world.actions();
    world.handle(Input::Leave);
    assert_eq!(world.actions(), [Action::Cut { ask: circuit, cause: "the relay stops" }]);
    world.end(circuit);
    assert_eq!(world.actions(), [Action::Left]);
}
