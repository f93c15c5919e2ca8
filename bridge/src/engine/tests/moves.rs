//! Which of our streams move, where to, and when they are left alone.

use super::*;
use crate::stream::StreamKey;

/// The connections to which streams are to move.
fn moves(actions: &[Action]) -> Vec<ConnectionId> {
    let pick = |action: &Action| match action {
        Action::MoveStream { key: moving, connection } => {
            assert_eq!(*moving, key());
            Some(*connection)
        }
        _ => None,
    };
    actions.iter().filter_map(pick).collect()
}

impl World {
    fn direct(&mut self, transport: Transport) -> (ConnectionId, Vec<Action>) {
        self.established(peer(1), Path::Direct, transport, None, Direction::Inbound)
    }

    fn relayed(&mut self) -> ConnectionId {
        self.connected(peer(1), relayed(&relay(9)), Transport::Tcp)
    }

    /// The peer answers pings after so many milliseconds. Returns where the stream moves.
    fn pings(&mut self, connection: ConnectionId, took: &[u64]) -> Vec<ConnectionId> {
        let told = |took: &u64| {
            moves(&self.tell(Input::Responsive {
                connection,
                round_trip: *took as u32 * MS,
                took: *took as u32 * MS,
            }))
        };
        took.iter().flat_map(told).collect()
    }

    fn move_failed(&mut self, connection: ConnectionId, silent: bool) -> Vec<Action> {
        self.tell(Input::MoveFailed { key: key(), connection, silent })
    }

    /// A stream that the peer opened.
    fn guest(&mut self, connection: ConnectionId) {
        let inbound = InboundId(self.id());
        self.inbound_as(inbound, connection, StreamId::from_bytes([2; 16]), FREE);
    }

    pub(super) fn detached(&mut self, connection: ConnectionId, silent: bool) -> Vec<Action> {
        self.tell(Input::StreamDetached { key: key(), connection: Some(connection), silent })
    }
}

#[test]
fn a_stream_on_a_relay_moves_as_soon_as_there_is_a_direct_connection() {
    let mut world = World::new();
    let circuit = world.relayed();
    world.stream_on(circuit, peer(1));
    let (direct, actions) = world.direct(Transport::Quic);
    assert_eq!(moves(&actions), [direct]);
    let (_, actions) = world.direct(Transport::Tcp);
    assert_eq!(moves(&actions), [], "one move at a time");
    assert_eq!(moves(&world.tell(Input::StreamMoved { key: key(), to: direct })), []);
}

#[test]
fn a_stream_moves_to_a_direct_connection_that_came_while_it_was_being_opened() {
    let mut world = World::new();
    let circuit = world.relayed();
    let (open, _) = world.open(peer(1));
    let (direct, actions) = world.direct(Transport::Tcp);
    assert_eq!(moves(&actions), [], "there is no stream yet");
    assert_eq!(moves(&world.substream_opened(open, circuit)), [direct]);
}

#[test]
fn a_stream_on_a_direct_connection_stays_there() {
    let mut world = World::new();
    let (direct, _) = world.direct(Transport::Quic);
    world.stream_on(direct, peer(1));
    let (_, actions) = world.direct(Transport::Tcp);
    assert_eq!(moves(&actions), [], "not even to the preferred transport");
    world.relayed();
    assert_eq!(moves(&world.pass(HOUR)), []);
}

/// A stream on a connection, another connection like it, and where the stream moves when pings take so many
/// milliseconds on the one and on the other.
fn measured(relays: bool, on: &[u64], other: &[u64]) -> (World, [ConnectionId; 2], Vec<ConnectionId>) {
    let mut world = World::new();
    let connect = |world: &mut World, name: u8| match relays {
        true => world.connected(peer(1), relayed(&relay(name)), Transport::Tcp),
        false => world.direct(Transport::Tcp).0,
    };
    let first = connect(&mut world, 8);
    world.stream_on(first, peer(1));
    let second = connect(&mut world, 9);
    let mut moved = world.pings(first, on);
    moved.extend(world.pings(second, other));
    (world, [first, second], moved)
}

#[test]
fn a_stream_moves_to_a_much_nearer_connection_direct_or_relayed() {
    for relays in [false, true] {
        let (_, [_, second], moved) = measured(relays, &[160, 161, 159], &[40, 41, 42]);
        assert_eq!(moved, [second], "relayed: {relays}");
    }
}

#[test]
fn a_stream_stays_where_another_connection_is_not_much_nearer() {
    for (on, other, why) in [
        ([80, 80, 80], [45, 45, 45], "not half as far"),
        ([12, 12, 12], [1, 1, 1], "nobody would notice"),
        ([90, 900, 800], [60, 60, 60], "the least counts: load makes pings wait"),
    ] {
        assert_eq!(measured(false, &on, &other).2, [], "{why}");
    }
    assert_eq!(measured(false, &[160, 160, 160], &[40, 40]).2, [], "measured too little");
    assert_eq!(measured(false, &[160, 160], &[40, 40, 40]).2, [], "measured too little");
}

#[test]
fn a_stream_that_moved_to_a_nearer_connection_moves_back_only_if_that_one_is_much_nearer_after_all() {
    let (mut world, [first, second], moved) = measured(false, &[160, 160, 160], &[40, 40, 40]);
    assert_eq!(moved, [second]);
    assert_eq!(moves(&world.tell(Input::StreamMoved { key: key(), to: second })), []);
    assert_eq!(world.pings(second, &[900, 900, 900]), [], "the way taken became busy");
    assert_eq!(world.pings(first, &[35, 30, 25]), []);
    assert_eq!(world.pings(first, &[15]), [first]);
}

#[test]
fn new_streams_take_the_nearer_connection_and_among_like_ones_the_transport_decides() {
    for (tcp, quic, nearer) in [(200, 30, Transport::Quic), (35, 25, Transport::Tcp)] {
        let mut world = World::new();
        let by_tcp = world.direct(Transport::Tcp).0;
        let by_quic = world.direct(Transport::Quic).0;
        world.pings(by_tcp, &[tcp; 3]);
        world.pings(by_quic, &[quic; 3]);
        let best = if nearer == Transport::Tcp { by_tcp } else { by_quic };
        assert_eq!(opens_on(&world.open(peer(1)).1), [best], "{tcp} and {quic} ms");
    }
}

#[test]
fn a_stream_on_a_relay_does_not_move_to_another_relay() {
    let mut world = World::new();
    let circuit = world.relayed();
    world.stream_on(circuit, peer(1));
    world.connected(peer(1), relayed(&relay(8)), Transport::Tcp);
    assert_eq!(moves(&world.pass(HOUR)), []);
}

#[test]
fn a_stream_without_a_path_moves_to_the_best_connection_there_is() {
    let mut world = World::new();
    let (lost, _) = world.direct(Transport::Tcp);
    world.stream_on(lost, peer(1));
    world.relayed();
    let (direct, _) = world.direct(Transport::Quic);
    world.closed(lost);
    assert_eq!(moves(&world.detached(lost, false)), [direct]);
}

#[test]
fn a_stream_without_a_path_reaches_for_its_peer_and_takes_what_comes() {
    let mut world = World::new();
    world.learn(peer(1), &[direct(1)]);
    let (lost, _) = world.direct(Transport::Tcp);
    world.stream_on(lost, peer(1));
    let actions = world.closed(lost);
    assert_eq!(moves(&world.detached(lost, false)), []);
    let dial = dials(&actions)[0].0;
    let (found, actions) = world.dialled(peer(1), dial);
    assert_eq!(moves(&actions), [found]);
}

#[test]
fn a_peer_that_is_not_found_is_looked_for_again_ever_more_rarely() {
    let mut world = World::new();
    world.learn(peer(1), &[direct(1)]);
    let (lost, _) = world.direct(Transport::Tcp);
    world.stream_on(lost, peer(1));
    let mut dial = dials(&world.closed(lost))[0].0;
    world.detached(lost, false);
    for wait in [250, 500, 1000, 2000, 4000, 4000] {
        assert_eq!(dials(&world.dial_failed(dial)), []);
        assert_eq!(dials(&world.pass(wait * MS - MS)), []);
        dial = dials(&world.pass(MS))[0].0;
    }
}

#[test]
fn a_silent_connection_is_avoided_until_the_peer_answers_on_it() {
    let mut world = World::new();
    let (silent, _) = world.direct(Transport::Tcp);
    world.stream_on(silent, peer(1));
    let circuit = world.relayed();
    assert_eq!(moves(&world.detached(silent, true)), [circuit], "rather a relay than silence");
    assert_eq!(moves(&world.tell(Input::StreamMoved { key: key(), to: circuit })), []);
    let (_, actions) = world.open(peer(1));
    assert_eq!(opens_on(&actions), [circuit], "nor does a new stream go there");
    assert_eq!(
        moves(&world.tell(Input::Responsive { connection: silent, round_trip: MS, took: MS })),
        [silent]
    );
}

#[test]
fn with_nothing_but_a_silent_connection_the_peer_is_reached_for() {
    let mut world = World::new();
    world.learn(peer(1), &[direct(1)]);
    let (silent, _) = world.direct(Transport::Tcp);
    world.stream_on(silent, peer(1));
    let actions = world.detached(silent, true);
    assert_eq!((moves(&actions), dials(&actions).len()), (vec![], 1));
    assert_eq!(
        moves(&world.tell(Input::Responsive { connection: silent, round_trip: MS, took: MS })),
        [silent]
    );
}

#[test]
fn a_move_that_fails_is_tried_again_after_a_while_and_a_new_connection_ends_the_wait() {
    let mut world = World::new();
    let circuit = world.relayed();
    world.stream_on(circuit, peer(1));
    let (direct, _) = world.direct(Transport::Quic);
    assert_eq!(moves(&world.move_failed(direct, false)), []);
    assert_eq!(moves(&world.pass(249 * MS)), []);
    assert_eq!(moves(&world.pass(MS)), [direct]);
    assert_eq!(moves(&world.move_failed(direct, false)), []);
    let (better, actions) = world.direct(Transport::Tcp);
    assert_eq!(moves(&actions), [better]);
}

#[test]
fn a_stream_that_tried_a_dying_connection_does_not_wait_but_once_only() {
    for closed_first in [true, false] {
        let mut world = World::new();
        world.learn(peer(1), &[direct(1)]);
        let (dying, _) = world.direct(Transport::Tcp);
        world.stream_on(dying, peer(1));
        assert_eq!(moves(&world.detached(dying, false)), [dying], "nobody knows yet");
        let mut actions = Vec::new();
        let failed = |connection| Input::MoveFailed { key: key(), connection, silent: false };
        if closed_first {
            actions.extend(world.closed(dying));
            actions.extend(world.tell(failed(dying)));
        } else {
            actions.extend(world.tell(failed(dying)));
            actions.extend(world.closed(dying));
        }
        let (next, actions) = world.dialled(peer(1), dials(&actions)[0].0);
        assert_eq!(moves(&actions), [next]);
        world.closed(next);
        assert_eq!(dials(&world.tell(failed(next))), []);
        assert_eq!(dials(&world.pass(249 * MS)), []);
        assert_ne!(dials(&world.pass(500 * MS)), []);
    }
}

#[test]
fn when_the_wait_of_one_stream_is_waived_those_of_the_others_are_too() {
    let mut world = World::new();
    let (dying, _) = world.direct(Transport::Tcp);
    world.stream_on(dying, peer(1));
    let (open, _) = world.open(peer(1));
    let other = StreamKey { peer: peer(1), stream: StreamId::from_bytes([3; 16]) };
    world.stream_opened_as(open, dying, other.stream);
    let circuit = world.relayed();
    for key in [key(), other] {
        world.tell(Input::StreamDetached { key, connection: Some(dying), silent: false });
    }
    world.move_failed(dying, false);
    world.tell(Input::MoveFailed { key: other, connection: dying, silent: true });
    assert_eq!([key(), other].map(|key| world.engine.moves_to(key)), [Some(circuit); 2]);
}

#[test]
fn a_connection_that_does_not_answer_a_move_is_not_tried_again_while_another_is_there() {
    let mut world = World::new();
    world.learn(peer(1), &[direct(1)]);
    let circuit = world.relayed();
    let (lost, _) = world.direct(Transport::Tcp);
    world.stream_on(lost, peer(1));
    let actions = world.detached(lost, true);
    assert_eq!(moves(&actions), [circuit]);
    assert_eq!(dials(&actions).len(), 1, "what is left may be dead too: a new connection shows");
    assert_eq!(moves(&world.move_failed(circuit, true)), [], "both are suspect");
    let (back, actions) = world.dialled(peer(1), dials(&actions)[0].0);
    assert_eq!(moves(&actions), [back]);
}

#[test]
fn a_newer_connection_supersedes_the_move_of_a_stream_without_a_path() {
    let mut world = World::new();
    let circuit = world.relayed();
    let (lost, _) = world.direct(Transport::Tcp);
    world.stream_on(lost, peer(1));
    assert_eq!(moves(&world.detached(lost, true)), [circuit]);
    let newer = world.connected(peer(1), relayed(&relay(8)), Transport::Tcp);
    assert_eq!(world.engine.moves_to(key()), Some(newer));
    let (direct, actions) = world.direct(Transport::Quic);
    assert_eq!(moves(&actions), [direct]);
    world.connected(peer(1), relayed(&relay(7)), Transport::Tcp);
    assert_eq!(world.engine.moves_to(key()), Some(direct), "not from a direct one to a relay");
    assert_eq!(moves(&world.move_failed(newer, true)), [], "nobody waits for that one any more");
    assert_eq!(world.engine.moves_to(key()), Some(direct));
}

#[test]
fn a_relayed_connection_supersedes_the_move_to_a_direct_one_on_which_nobody_answered_lately() {
    let mut world = World::new();
    let (lost, _) = world.direct(Transport::Tcp);
    world.stream_on(lost, peer(1));
    let (twin, _) = world.direct(Transport::Tcp);
    world.pass(S);
    assert_eq!(moves(&world.detached(lost, true)), [twin]);
    world.pass(S);
    let circuit = world.relayed();
    assert_eq!(world.engine.moves_to(key()), Some(circuit));
    world.tell(Input::StreamMoved { key: key(), to: circuit });
    assert_eq!(world.engine.moves_to(key()), Some(twin), "for it may live all the same");
}

#[test]
fn a_stream_whose_peer_closed_the_connection_and_is_not_back_soon_is_given_up() {
    for silent in [false, true] {
        let mut world = World::new();
        world.learn(peer(1), &[direct(1)]);
        let (lost, _) = world.direct(Transport::Tcp);
        world.stream_on(lost, peer(1));
        if silent {
            world.detached(lost, true);
            world.pass(Duration::from_secs(10));
        } else {
            world.detached(lost, false);
        }
        world.closed(lost);
        let actions = world.pass(Duration::from_millis(1500));
        let given_up = actions.contains(&Action::Forsake { key: key() });
        assert_eq!(given_up, !silent, "a connection that had gone silent proves nothing");
    }
}

#[test]
fn a_stream_whose_peer_closed_the_connection_while_this_host_changed_its_network_waits_for_it() {
    for gone in [true, false] {
        let mut world = World::new();
        world.learn(peer(1), &[direct(1)]);
        let link = world.reserved(&relay(9));
        let (lost, _) = world.direct(Transport::Tcp);
        world.stream_on(lost, peer(1));
        world.detached(lost, false);
        world.closed(lost);
        world.tell(match gone {
            true => Input::AddressGone { connection: link },
            false => Input::NetworkChanged { begun: Vec::new() },
        });
        let forsaken = Action::Forsake { key: key() };
        assert!(!world.pass(28 * S).contains(&forsaken), "nobody could have come back");
        assert!(world.pass(3 * S).contains(&forsaken), "it had the time");
    }
}

#[test]
fn a_stream_that_the_peer_opened_is_not_ours_to_move() {
    let mut world = World::new();
    world.learn(peer(1), &[direct(1)]);
    let circuit = world.relayed();
    world.guest(circuit);
    let (_, actions) = world.direct(Transport::Tcp);
    assert_eq!(moves(&actions), []);
    let stream = StreamId::from_bytes([2; 16]);
    let key = StreamKey { peer: peer(1), stream };
    world.closed(circuit);
    let connection = Some(circuit);
    let actions = world.tell(Input::StreamDetached { key, connection, silent: false });
    assert_eq!((moves(&actions), dials(&actions).len()), (vec![], 0));
}

/// The peer's stream on its circuit loses its path; what is done about it in the next minute.
fn forsaken(world: &mut World, lost: ConnectionId) -> bool {
    let key = StreamKey { peer: peer(1), stream: StreamId::from_bytes([2; 16]) };
    world.tell(Input::StreamDetached { key, connection: Some(lost), silent: true });
    let actions = world.pass(Duration::from_secs(60));
    actions.iter().any(|action| *action == Action::Forsake { key })
}

#[test]
fn a_peers_stream_waits_while_only_older_connections_are_up() {
    let mut world = World::new();
    world.relayed();
    let (lost, _) = world.direct(Transport::Tcp);
    world.guest(lost);
    assert!(!forsaken(&mut world, lost));
}

#[test]
fn a_peers_stream_is_given_up_when_the_peer_came_back_and_did_not_move_it() {
    let mut world = World::new();
    let lost = world.relayed();
    world.guest(lost);
    world.pass(MS);
    world.direct(Transport::Tcp);
    assert!(forsaken(&mut world, lost));
}

#[test]
fn a_newer_connection_that_was_there_while_the_lost_one_answered_proves_nothing() {
    let mut world = World::new();
    let lost = world.relayed();
    world.guest(lost);
    world.pass(MS);
    world.direct(Transport::Tcp);
    world.pass(MS);
    world.tell(Input::Responsive { connection: lost, round_trip: MS, took: MS });
    world.closed(lost);
    assert!(!forsaken(&mut world, lost));
}

#[test]
fn a_closed_stream_is_forgotten() {
    let mut world = World::new();
    world.learn(peer(1), &[direct(1)]);
    let circuit = world.relayed();
    world.stream_on(circuit, peer(1));
    world.tell(Input::StreamClosed { key: key() });
    let (_, actions) = world.direct(Transport::Tcp);
    assert_eq!(moves(&actions), []);
    assert_eq!(moves(&world.pass(HOUR)), []);
}

#[test]
fn a_node_that_shuts_down_moves_nothing() {
    let mut world = World::new();
    let circuit = world.relayed();
    world.stream_on(circuit, peer(1));
    world.tell(Input::Shutdown);
    let (_, actions) = world.direct(Transport::Tcp);
    assert_eq!(moves(&actions), []);
}
