//! Circuits that end, ways that carry nothing, and who keeps a connection.

use super::*;
use crate::error::Refusal;

/// A world in which a circuit to peer 1 through relay 9 can be dialled.
fn world() -> World {
    let mut world = World::new();
    world.reserved(&relay(9));
    world.learn(peer(1), &[relay(9).circuit_to(peer(1))]);
    world
}

impl World {
    /// The stream leaves `from`, lives on `to`.
    fn moved(&mut self, to: ConnectionId) -> Vec<Action> {
        let leg = LegId(self.id());
        self.tell(Input::LegStarted { key: key(), connection: to, leg });
        self.tell(Input::StreamMoved { key: key(), to })
    }

    fn met_silence(&mut self, connection: ConnectionId) -> Vec<Action> {
        self.tell(Input::StreamDetached { key: key(), connection: Some(connection), silent: true })
    }
}

#[test]
fn the_next_circuit_is_made_before_the_relay_ends_this_one() {
    for (lifetime, before) in [(120 * S, 30 * S), (2 * HOUR, 120 * S)] {
        let mut world = world();
        let first = world.circuit_for(peer(1), &relay(9), lifetime, None);
        world.stream_on(first, peer(1));
        assert_eq!(dials(&world.pass(lifetime - before - MS)), []);
        let actions = world.pass(MS);
        let [(dial, to, _)] = dials(&actions)[..] else { panic!("{actions:?}") };
        assert_eq!(to, peer(1));
        let path = relayed(&relay(9));
        let (second, actions) =
            world.established(peer(1), path, Transport::Tcp, Some(dial), Direction::Outbound);
        assert_eq!(moves(&actions), [second], "while the first one lives");
    }
}

#[test]
fn a_circuit_that_has_carried_nearly_all_it_may_is_replaced_and_used_until_then() {
    let mut world = world();
    let first = world.connected(peer(1), relayed(&relay(9)), Transport::Tcp);
    world.stream_on(first, peer(1));
    let actions = world.tell(Input::NearlySpent { connection: first });
    let dial = dials(&actions)[0].0;
    assert_eq!(dials(&world.dial_failed(dial)), []);
    let actions = world.pass(250 * MS);
    assert_eq!(dials(&actions).len(), 1, "again after a wait: {actions:?}");
    assert_eq!(opens_on(&world.open(peer(1)).1), [first], "better than nothing");
}

#[test]
fn a_kept_circuit_is_replaced_before_its_end_too() {
    let mut world = world();
    let actions = world.tell(Input::Hold { peer: peer(1) });
    world.circuit_for(peer(1), &relay(9), HOUR, Some(dials(&actions)[0].0));
    let before = dials(&world.pass(HOUR / 2)).len();
    assert_eq!(before, 0);
    assert_eq!(dials(&world.pass(HOUR / 2 - 60 * S)).len(), 1);
}

#[test]
fn circuits_of_a_relay_that_is_leaving_are_left_and_others_are_not() {
    let mut world = World::new();
    let link = world.reserved(&relay(9));
    let leaving = world.connected(peer(1), relayed(&relay(9)), Transport::Tcp);
    world.stream_on(leaving, peer(1));
    let other = world.connected(peer(1), relayed(&relay(8)), Transport::Tcp);
    let word = Word::Leaving { within: 20 * S };
    assert_eq!(moves(&world.tell(Input::Heard { connection: other, word: word.clone() })), []);
    assert_eq!(moves(&world.tell(Input::Heard { connection: link, word })), [other]);
}

#[test]
fn a_relay_that_says_again_and_again_that_it_leaves_is_followed_once_in_ten_seconds() {
    let mut world = World::new();
    let link = world.reserved(&relay(9));
    let word = Word::Leaving { within: 20 * S };
    let mut left = 0;
    for _ in 0..40 {
        let circuit = world.connected(peer(1), relayed(&relay(9)), Transport::Tcp);
        world.tell(Input::Heard { connection: link, word: word.clone() });
        left += usize::from(world.engine.connections.is_shaky(circuit));
        world.pass(500 * MS);
    }
    assert_eq!(left, 2);
}

#[test]
fn the_end_of_a_circuit_is_no_death() {
    let mut world = world();
    let circuit = world.connected(peer(1), relayed(&relay(9)), Transport::Tcp);
    world.stream_on(circuit, peer(1));
    world.tell(Input::StreamDetached { key: key(), connection: Some(circuit), silent: false });
    let mut actions = world.closed(circuit);
    for _ in 0..30 {
        for (dial, ..) in dials(&actions) {
            world.dial_failed(dial);
        }
        actions = world.pass(2 * S);
        assert!(!actions.contains(&Action::Forsake { key: key() }));
    }
}

#[test]
fn a_relay_that_says_the_peers_process_ended_is_believed_where_nothing_else_is_known() {
    for by_relay in [true, false] {
        let mut world = World::new();
        let link = world.reserved(&relay(9));
        let circuit = world.connected(peer(1), relayed(&relay(9)), Transport::Tcp);
        let stranger = world.connected(peer(3), Path::Direct, Transport::Tcp);
        world.stream_on(circuit, peer(1));
        let connection = if by_relay { link } else { stranger };
        let word = Word::Absent { peer: peer(1), closed: true };
        world.tell(Input::Heard { connection, word });
        world.tell(Input::StreamDetached { key: key(), connection: Some(circuit), silent: false });
        world.closed(circuit);
        let given_up = world.pass(1500 * MS).contains(&Action::Forsake { key: key() });
        assert_eq!(given_up, by_relay);
    }
}

#[test]
fn a_stream_whose_direct_path_fell_silent_ends_when_its_relay_knows_that_the_peer_has_left() {
    for (ours, closed) in [(true, true), (true, false), (false, true)] {
        let mut world = World::new();
        let link = world.reserved(&relay(9));
        let direct = world.connected(peer(1), Path::Direct, Transport::Quic);
        if ours {
            world.stream_on(direct, peer(1));
        } else {
            world.accept(InboundId(7), direct, key().stream);
        }
        // As over QUIC: the stream sees its connection fail before the engine learns that nobody answered there.
        let lost = Input::StreamDetached { key: key(), connection: Some(direct), silent: false };
        let asked = said(&world.tell(lost));
        assert_eq!(asked, [(link, Word::Watch(vec![peer(1)]))]);
        let cause = CloseCause::Network { cause: "timed out".to_owned() };
        world.tell(Input::ConnectionClosed { connection: direct, cause });
        let word = Word::Absent { peer: peer(1), closed };
        world.tell(Input::Heard { connection: link, word });
        let ended = world.pass(1500 * MS).contains(&Action::Forsake { key: key() });
        assert_eq!(ended, closed, "a link that fell silent as well says nothing");
        world.tell(Input::StreamClosed { key: key() });
        assert!(world.engine.watched.is_empty());
    }
}

#[test]
fn a_stream_that_has_a_path_does_not_end_by_what_a_relay_says() {
    let mut world = World::new();
    let link = world.reserved(&relay(9));
    let direct = world.connected(peer(1), Path::Direct, Transport::Quic);
    world.stream_on(direct, peer(1));
    let word = Word::Absent { peer: peer(1), closed: true };
    world.tell(Input::Heard { connection: link, word });
    assert!(!world.pass(60 * S).contains(&Action::Forsake { key: key() }));
}

#[test]
fn a_way_that_comes_up_and_carries_nothing_gives_the_other_transport_its_turn() {
    let mut world = World::new();
    world.learn(peer(1), &[direct(1)]);
    let mut on = world.connected(peer(1), Path::Direct, Transport::Tcp);
    world.stream_on(on, peer(1));
    let mut next = on;
    for _ in 0..2 {
        world.pass(2 * S);
        world.met_silence(on);
        world.closed(on);
        next = world.connected(peer(1), Path::Direct, Transport::Tcp);
        world.moved(next);
        on = next;
    }
    let quic = world.connected(peer(1), Path::Direct, Transport::Quic);
    assert_eq!(world.engine.moves_to(key()), Some(quic), "TCP stalled twice");
    world.moved(quic);
    assert_eq!(opens_on(&world.open(peer(1)).1), [quic]);
    world.pass(16 * S);
    assert_eq!(opens_on(&world.open(peer(1)).1), [next], "TCP has its chance again");
}

#[test]
fn a_way_that_carried_nothing_in_the_network_before_is_taken_again() {
    let mut world = World::new();
    world.learn(peer(1), &[direct(1)]);
    let mut on = world.connected(peer(1), Path::Direct, Transport::Tcp);
    world.stream_on(on, peer(1));
    for _ in 0..2 {
        world.pass(2 * S);
        world.met_silence(on);
        world.closed(on);
        on = world.connected(peer(1), Path::Direct, Transport::Tcp);
        world.moved(on);
    }
    let quic = world.connected(peer(1), Path::Direct, Transport::Quic);
    world.moved(quic);
    world.tell(Input::NetworkChanged { begun: Vec::new() });
    assert_eq!(opens_on(&world.open(peer(1)).1), [on]);
}

#[test]
fn a_peer_that_changes_its_network_again_and_again_is_still_reached_directly_in_the_next() {
    let mut world = World::new();
    world.learn(peer(1), &[direct(1)]);
    let mut on = world.comes_from(peer(1), "203.0.113.1");
    world.stream_on(on, peer(1));
    for network in 2..6 {
        world.pass(2 * S);
        world.met_silence(on);
        world.closed(on);
        let circuit = world.connected(peer(1), relayed(&relay(9)), Transport::Tcp);
        world.moved(circuit);
        on = world.comes_from(peer(1), &format!("203.0.113.{network}"));
        assert_eq!(world.engine.moves_to(key()), Some(on), "network {network}");
        world.moved(on);
        world.closed(circuit);
    }
}

#[test]
fn a_path_that_dies_after_it_carried_for_long_is_not_held_against_its_kind() {
    let mut world = World::new();
    world.learn(peer(1), &[direct(1)]);
    let mut on = world.connected(peer(1), Path::Direct, Transport::Tcp);
    world.stream_on(on, peer(1));
    for _ in 0..5 {
        world.pass(60 * S);
        world.met_silence(on);
        world.closed(on);
        on = world.connected(peer(1), Path::Direct, Transport::Tcp);
        world.moved(on);
    }
    world.connected(peer(1), Path::Direct, Transport::Quic);
    assert_eq!(opens_on(&world.open(peer(1)).1), [on]);
}

#[test]
fn a_refused_open_takes_its_own_place_and_not_that_of_a_live_stream() {
    let mut world = World::new();
    let connection = world.connected(peer(1), Path::Direct, Transport::Tcp);
    world.stream_on(connection, peer(1));
    let (open, _) = world.open(peer(1));
    let leg = LegId(world.id());
    let refused = StreamKey { peer: peer(1), stream: StreamId::from_bytes([7; 16]) };
    world.tell(Input::LegStarted { key: refused, connection, leg });
    let failure = SubstreamFailure::Refused(Refusal::NotServed);
    world.tell(Input::SubstreamFailed { open, failure });
    world.tell(Input::LegEnded { connection, leg });
    world.tell(Input::LegEnded { connection, leg });
    assert_eq!(closes(&world.pass(HOUR)), [], "the live stream keeps it");
    assert_eq!(world.engine.streams_of(peer(1)), 1);
}

#[test]
fn an_open_at_its_deadline_takes_its_own_place_and_not_that_of_a_live_stream() {
    let mut world = World::new();
    let connection = world.connected(peer(1), Path::Direct, Transport::Tcp);
    world.stream_on(connection, peer(1));
    world.open(peer(1));
    let leg = LegId(world.id());
    let late = StreamKey { peer: peer(1), stream: StreamId::from_bytes([7; 16]) };
    world.tell(Input::LegStarted { key: late, connection, leg });
    world.pass(Config::default().deadlines.open);
    world.tell(Input::LegEnded { connection, leg });
    assert_eq!(closes(&world.pass(HOUR)), []);
}

#[test]
fn a_stream_whose_connection_closed_before_it_was_told_of_is_known_and_moved() {
    let mut world = world();
    let circuit = world.connected(peer(1), relayed(&relay(9)), Transport::Tcp);
    let (open, _) = world.open(peer(1));
    world.closed(circuit);
    world.events();
    let actions = world.substream_opened(open, circuit);
    assert!(matches!(world.events()[..], [Event::StreamOpened { .. }]));
    assert_eq!(dials(&actions).len(), 1, "a path is looked for: {actions:?}");
    let next = world.connected(peer(1), Path::Direct, Transport::Tcp);
    assert_eq!(world.engine.moves_to(key()), Some(next));
}

#[test]
fn one_service_cannot_take_the_share_of_another() {
    let mut world = World::with(|config| config.limits.streams_per_peer = 10);
    let connection = world.connected(peer(1), Path::Direct, Transport::Tcp);
    let two = Queue::Free { ask: false, services: 2 };
    let ask = |world: &mut World, service: &str| {
        let (id, service) = (world.id(), service.parse::<Service>().unwrap());
        let (inbound, stream) = (InboundId(id), StreamId::from_bytes([id as u8; 16]));
        let queue = two;
        let asked = service.clone();
        let actions = world.tell(Input::InboundStream { inbound, connection, stream, service, queue });
        let granted = matches!(actions[..], [Action::Accept { .. }]);
        if granted {
            let key = StreamKey { peer: peer(1), stream };
            let path = Path::Direct;
            world.tell(Input::StreamAccepted { inbound, key, service: asked, path });
        }
        granted
    };
    let greedy = (0..10).filter(|_| ask(&mut world, "greedy")).count();
    assert_eq!(greedy, 5, "its own half");
    let modest = (0..10).filter(|_| ask(&mut world, "modest")).count();
    assert_eq!(modest, 5);
}

#[test]
fn a_request_that_nobody_decides_on_is_refused_when_its_peer_has_stopped_waiting() {
    let mut world = World::new();
    let connection = world.connected(peer(1), Path::Direct, Transport::Tcp);
    world.inbound(connection, Queue::Free { ask: true, services: 1 });
    let deadline = Config::default().deadlines.negotiate;
    assert_eq!(world.pass(deadline - MS), []);
    let actions = world.pass(MS);
    assert!(matches!(actions[..], [Action::Refuse { refusal: Refusal::Busy, .. }]), "{actions:?}");
    assert_eq!(world.engine.streams_of(peer(1)), 0);
}
