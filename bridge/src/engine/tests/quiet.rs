//! Connections that went quiet: who is doubted when, and what becomes of the streams on them.

use super::{
    upgrades::{asked, public, punches},
    *,
};
use crate::{
    engine::{PING_INTERVAL, QUIET_PING_INTERVAL},
    error::CloseCause,
    stream::StreamKey,
};

/// After the last answer where pings take no time: when a connection is quiet.
const QUIET: Duration = Duration::from_millis(2300);

/// A stream of ours on a direct connection whose peer answered a ping just now.
fn world() -> (World, ConnectionId) {
    world_with(|_| {})
}

fn world_with(change: impl FnOnce(&mut Config)) -> (World, ConnectionId) {
    let mut world = World::with(change);
    world.learn(peer(1), &[direct(1)]);
    let (on, _) = world.established(peer(1), Path::Direct, Transport::Tcp, None, Direction::Inbound);
    world.stream_on(on, peer(1));
    world.answered(on);
    (world, on)
}

impl World {
    /// The peer answers a ping on it; they are due from one interval to the next.
    fn answered(&mut self, connection: ConnectionId) -> Vec<Action> {
        let found = self.engine.connections.get(connection).unwrap();
        let since = self.now.duration_since(found.answered);
        let took = found.took().map_or(since, |_| since.saturating_sub(PING_INTERVAL));
        self.tell(Input::Responsive { connection, round_trip: MS, took })
    }

    fn circuit(&mut self) -> ConnectionId {
        self.connected(peer(1), relayed(&relay(9)), Transport::Tcp)
    }

    /// Something was heard on it so long ago.
    fn heard(&mut self, connection: ConnectionId, ago: Duration) -> Vec<Action> {
        let last = self.now.checked_sub(ago);
        self.tell(Input::Pulse { connection, last })
    }

    /// Nothing is heard on it until it is doubted.
    fn falls_silent(&mut self, connection: ConnectionId) -> Vec<Action> {
        self.falls_silent_within(connection, QUIET)
    }

    fn falls_silent_within(&mut self, connection: ConnectionId, rest: Duration) -> Vec<Action> {
        assert_eq!(pulses(&self.pass(rest)), [connection]);
        self.heard(connection, QUIET)
    }

    /// One more stream of ours on it.
    fn another_stream(&mut self, connection: ConnectionId, stream: u8) {
        let (open, _) = self.open(peer(1));
        let stream = StreamId::from_bytes([stream; 16]);
        self.stream_opened_as(open, connection, stream);
    }
}

#[test]
fn an_idle_stream_leaves_a_quiet_connection_and_a_late_answer_brings_it_back() {
    let (mut world, quiet) = world();
    let circuit = world.circuit();
    assert_eq!(world.pass(QUIET - MS), []);
    assert_eq!(moves(&world.falls_silent(quiet)), [circuit]);
    assert_eq!(moves(&world.tell(Input::StreamMoved { key: key(), to: circuit })), []);
    let actions = world.pass(10 * S);
    assert!(closes(&actions).is_empty() && pulses(&actions).is_empty(), "{actions:?}");
    assert_eq!(moves(&world.answered(quiet)), [quiet]);
}

#[test]
fn a_connection_on_which_streams_hear_something_is_not_doubted_though_its_pings_wait() {
    let (mut world, busy) = world();
    world.circuit();
    assert_eq!(pulses(&world.pass(QUIET)), [busy]);
    assert_eq!(world.heard(busy, S), []);
    assert_eq!(world.pass(QUIET - S - MS), []);
    assert_eq!(pulses(&world.pass(MS)), [busy], "counted from what was heard");
    assert_eq!(moves(&world.heard(busy, QUIET)).len(), 1);
}

#[test]
fn where_pings_pass_rarely_silence_is_noticed_later_and_soon_again_once_they_pass_often() {
    let (mut world, on) = world();
    world.tell(Input::Paced { connection: on, interval: QUIET_PING_INTERVAL });
    let quiet = QUIET + QUIET_PING_INTERVAL - PING_INTERVAL;
    assert_eq!(pulses(&world.pass(quiet - MS)), []);
    assert_eq!(pulses(&world.pass(MS)), [on]);
    assert_eq!(moves(&world.heard(on, S)), []);
    let circuit = world.circuit();
    world.tell(Input::Paced { connection: on, interval: PING_INTERVAL });
    assert_eq!(pulses(&world.pass(QUIET - MS)), []);
    assert_eq!(moves(&world.falls_silent_within(on, MS)), [circuit]);
}

#[test]
fn a_peer_that_was_pinged_rarely_and_whose_system_closes_its_connection_is_gone_too() {
    for (rarely, gone) in [(true, true), (false, false)] {
        let (mut world, on) = world();
        if rarely {
            world.tell(Input::Paced { connection: on, interval: QUIET_PING_INTERVAL });
        }
        world.pass(10 * S);
        world.detached(on, false);
        world.tell(Input::ConnectionClosed { connection: on, cause: CloseCause::System });
        let forsaken = world.pass(1500 * MS).contains(&Action::Forsake { key: key() });
        assert_eq!(forsaken, gone, "{rarely}");
    }
}

#[test]
fn without_another_connection_the_peer_is_reached_for_again_and_again() {
    let (mut world, quiet) = world();
    let mut dial = dials(&world.falls_silent(quiet))[0].0;
    for wait in [250, 500, 1000, 2000, 4000, 4000] {
        assert_eq!(dials(&world.dial_failed(dial)), []);
        assert_eq!(dials(&world.pass(wait * MS - MS)), []);
        dial = dials(&world.pass(MS))[0].0;
    }
    let (found, actions) = world.dialled(peer(1), dial);
    assert_eq!(moves(&actions), [found]);
}

#[test]
fn a_peer_that_takes_every_connection_and_no_stream_is_dialled_ever_more_rarely() {
    let (mut world, quiet) = world();
    world.another_stream(quiet, 2);
    let mut actions = world.falls_silent(quiet);
    let (end, mut dialled) = (world.now + 60 * S, 0);
    while world.now < end {
        actions = match dials(&actions).first() {
            Some((dial, ..)) => {
                dialled += 1;
                let (found, actions) = world.dialled(peer(1), *dial);
                assert_eq!(moves(&actions), [found; 2]);
                world.pass(1500 * MS);
                // Sometimes one stream tells first, sometimes the other.
                let key = StreamKey { stream: StreamId::from_bytes([1 + dialled % 2; 16]), ..key() };
                world.tell(Input::MoveFailed { key, connection: found, silent: true })
            }
            None => world.pass(50 * MS),
        };
    }
    assert!((10..=15).contains(&dialled), "{dialled}");
}

#[test]
fn a_stream_that_waits_for_its_next_try_leaves_a_connection_that_falls_silent_at_once() {
    let mut world = World::new();
    let circuit = world.circuit();
    world.stream_on(circuit, peer(1));
    world.answered(circuit);
    let (direct, _) = world.established(peer(1), Path::Direct, Transport::Tcp, None, Direction::Inbound);
    let failed = || Input::MoveFailed { key: key(), connection: direct, silent: false };
    for wait in [250, 500, 1000] {
        assert_eq!(moves(&world.tell(failed())), []);
        assert_eq!(moves(&world.pass(wait * MS)), [direct]);
    }
    assert_eq!(moves(&world.tell(failed())), []);
    assert_eq!(moves(&world.falls_silent_within(circuit, QUIET - 1750 * MS)), [direct]);
}

#[test]
fn a_peer_that_answers_while_it_is_reached_for_is_not_dialled_again() {
    let (mut world, quiet) = world();
    let dial = dials(&world.falls_silent(quiet))[0].0;
    assert_eq!(world.answered(quiet), []);
    world.dial_failed(dial);
    assert_eq!(dials(&world.pass(S)), []);
}

#[test]
fn a_move_to_a_connection_that_falls_silent_meanwhile_goes_elsewhere() {
    let (mut world, first) = world();
    let (twin, _) = world.established(peer(1), Path::Direct, Transport::Tcp, None, Direction::Inbound);
    world.answered(twin);
    world.pass(S);
    world.answered(twin);
    world.pass(QUIET - S);
    assert_eq!(moves(&world.heard(first, QUIET)), [twin], "it carried nothing, and nobody looked");
    let circuit = world.circuit();
    assert_eq!(pulses(&world.pass(S)), [twin]);
    assert_eq!(moves(&world.heard(twin, QUIET)), [circuit]);
}

#[test]
fn when_one_stream_meets_silence_the_idle_ones_beside_it_leave_too() {
    let (mut world, silent) = world();
    world.another_stream(silent, 2);
    let circuit = world.circuit();
    let detached = Input::StreamDetached { key: key(), connection: Some(silent), silent: true };
    assert_eq!(moves(&world.tell(detached)), [circuit; 2]);
}

#[test]
fn on_a_slow_path_answers_may_take_longer() {
    let (mut world, slow) = world();
    world.pass(2 * S);
    world.answered(slow);
    assert_eq!(pulses(&world.pass(QUIET + S - MS)), [], "twice 500 ms");
    assert_eq!(pulses(&world.pass(MS)), [slow]);
}

#[test]
fn a_connection_is_known_to_be_slow_from_its_first_ping() {
    let mut world = World::new();
    let slow = world.connected(peer(1), Path::Direct, Transport::Tcp);
    world.stream_on(slow, peer(1));
    world.pass(S);
    world.answered(slow);
    assert_eq!(pulses(&world.pass(QUIET + 2 * S - MS)), []);
    assert_eq!(pulses(&world.pass(MS)), [slow]);
}

#[test]
fn that_answers_took_long_is_forgotten_in_time() {
    let (mut world, on) = world();
    world.pass(2 * S);
    world.answered(on);
    for _ in 0..30 {
        world.pass(1500 * MS);
        world.answered(on);
    }
    assert_eq!(pulses(&world.pass(QUIET + 2 * MS)), [on]);
}

#[test]
fn after_a_long_sleep_a_connection_is_watched_again() {
    let (mut world, on) = world();
    world.pass(HOUR);
    world.answered(on);
    assert_eq!(pulses(&world.pass(QUIET + 8 * S)), [on]);
}

#[test]
fn who_was_too_busy_to_listen_waits_anew() {
    let (mut world, on) = world();
    world.now += QUIET + 251 * MS;
    world.engine.handle_timeout(world.now);
    assert_eq!(world.actions(), []);
    assert_eq!(world.pass(799 * MS), []);
    assert_eq!(pulses(&world.pass(MS)), [on]);
}

#[test]
fn a_thousand_idle_streams_take_one_pulse() {
    let (mut world, on) = world_with(|config| config.limits.streams_per_peer = 1001);
    for stream in 1_u16..=1000 {
        let (open, _) = world.open(peer(1));
        let mut id = [9; 16];
        id[..2].copy_from_slice(&stream.to_be_bytes());
        world.stream_opened_as(open, on, StreamId::from_bytes(id));
    }
    assert_eq!(world.engine.streams_of(peer(1)), 1001);
    assert_eq!(pulses(&world.pass(60 * S)), [on]);
}

#[test]
fn a_connection_that_nobody_uses_is_watched_and_one_that_never_answered_is_not() {
    let mut world = World::new();
    let unused = world.connected(peer(1), Path::Direct, Transport::Tcp);
    world.answered(unused);
    let dumb = world.connected(peer(2), Path::Direct, Transport::Tcp);
    world.stream_on(dumb, peer(2));
    assert_eq!(pulses(&world.pass(30 * S)), [unused]);
}

#[test]
fn a_peer_that_comes_through_a_relay_since_its_direct_path_died_is_punched_when_that_fell_silent() {
    let mut world = World::seen_with(|config| config.deadlines.relayed_grace = HOUR);
    let (direct, _) = world.established(peer(1), Path::Direct, Transport::Tcp, None, Direction::Inbound);
    world.answered(direct);
    let (circuit, actions) = world.visited(peer(1));
    assert_eq!(asked(&actions), [], "it is direct, as far as we know");
    assert_eq!(pulses(&world.pass(QUIET)), [direct]);
    assert_eq!(asked(&world.heard(direct, QUIET))[0].0, circuit);
    world.answer(circuit, &[public(1)]);
    let actions = world.pass(S);
    let closed = |action: &Action| matches!(action, Action::CloseConnection { connection, dead: true } if *connection == direct);
    assert!(actions.iter().any(closed), "it may hold the port that the punch needs: {actions:?}");
    assert_eq!(punches(&actions).len(), 2);
}

#[test]
fn a_silent_connection_that_a_peers_stream_has_left_makes_room_for_a_punch_though_its_leg_is_still_there()
 {
    for moved in [true, false] {
        let mut world = World::seen_with(|config| config.deadlines.relayed_grace = HOUR);
        let (direct, _) =
            world.established(peer(1), Path::Direct, Transport::Tcp, None, Direction::Inbound);
        world.answered(direct);
        world.accept(InboundId(7), direct, key().stream);
        let (circuit, _) = world.visited(peer(1));
        if moved {
            world.tell(Input::StreamMoved { key: key(), to: circuit });
        }
        world.pass(QUIET);
        world.heard(direct, QUIET);
        world.answer(circuit, &[public(1)]);
        let actions = world.pass(S);
        let closed = |action: &Action| matches!(action, Action::CloseConnection { connection, .. } if *connection == direct);
        assert_eq!(actions.iter().any(closed), moved, "{actions:?}");
    }
}

#[test]
fn a_silent_connection_is_not_closed_for_a_punch_while_a_peers_stream_is_on_it() {
    let mut world = World::seen_with(|config| config.deadlines.relayed_grace = HOUR);
    let (direct, _) = world.established(peer(1), Path::Direct, Transport::Tcp, None, Direction::Inbound);
    world.answered(direct);
    world.inbound(direct, FREE);
    let (circuit, _) = world.visited(peer(1));
    world.pass(QUIET);
    world.heard(direct, QUIET);
    world.answer(circuit, &[public(1)]);
    let actions = world.pass(S);
    let closed = |action: &Action| matches!(action, Action::CloseConnection { .. });
    assert!(!actions.iter().any(closed), "{actions:?}");
    assert!(!punches(&actions).is_empty());
}

#[test]
fn a_direct_connection_that_lives_after_all_needs_no_punch() {
    let mut world = World::seen_with(|config| config.deadlines.relayed_grace = HOUR);
    let (direct, _) = world.established(peer(1), Path::Direct, Transport::Tcp, None, Direction::Inbound);
    world.answered(direct);
    let (circuit, _) = world.visited(peer(1));
    world.pass(QUIET);
    world.heard(direct, QUIET);
    world.answered(direct);
    assert_eq!(world.answer(circuit, &[public(1)]), []);
    assert_eq!(punches(&world.pass(S)), []);
}

#[test]
fn a_node_that_shuts_down_doubts_nothing() {
    let (mut world, _) = world();
    world.pass(QUIET - MS);
    world.tell(Input::Shutdown);
    assert_eq!(pulses(&world.pass(S)), []);
}
