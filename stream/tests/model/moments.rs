//! Moments that have a name: each deadline, each limit, each refusal.

use std::{mem::size_of, sync::Arc, time::Duration};

use bytes::Bytes;
use punchline_stream::{
    StreamId,
    budget::Budget,
    frame::{Attached, Code, Frame},
    machine::{Config, Event, Farewell, LegId, LossCause, Machine, StreamError, Transmit},
};

use crate::world::{ACCEPTOR, OPENER, Script, Step, World, hello_service};

const MILLISECOND: Duration = Duration::from_millis(1);
pub(crate) const FIRST: LegId = LegId(1);

/// Programs that neither write nor finish, with settings fit for production.
pub(crate) fn calm() -> Script {
    let config = Config::default();
    Script { bytes: [u64::MAX, u64::MAX], write_bytes: 0, queue: 64, config, ..Script::default() }
}

/// A world in which everything under way has arrived.
pub(crate) fn attached(script: Script) -> World {
    let mut world = World::new(script);
    arrive(&mut world);
    world
}

/// Delivers until only time can pass.
pub(crate) fn arrive(world: &mut World) {
    while let Some(&step) = world.steps().first().filter(|step| **step != Step::Tick) {
        world.take(step);
    }
}

/// Lets time pass, deadline by deadline, until `done` or the bound.
fn wait(world: &mut World, most: Duration, done: impl Fn(&World) -> bool) -> Duration {
    let begin = world.now;
    while !done(world) {
        let next = world.next_deadline().expect("a deadline is set");
        let by = next.saturating_duration_since(world.now);
        world.advance(by);
        assert!(world.now - begin <= most, "not within {most:?}");
    }
    world.now - begin
}

#[test]
fn a_black_hole_is_noticed_within_three_seconds_while_data_is_in_flight() {
    for end in [OPENER, ACCEPTOR] {
        let mut world = attached(calm());
        world.black_hole(FIRST);
        world.advance(Duration::from_secs(100));
        world.write(end, 10);
        let took = wait(&mut world, 3000 * MILLISECOND, |w| w.ends[end].need_path.is_some());
        assert_eq!(took, 1500 * MILLISECOND);
        let cause = LossCause::Silent { waited: took };
        assert!(matches!(
            world.ends[end].events[..],
            [.., Event::DropLeg { leg: FIRST, .. }, Event::NeedPath { cause: c, .. }] if c == cause
        ));
    }
}

#[test]
fn an_idle_stream_sets_no_deadline() {
    let mut world = attached(calm());
    assert_eq!(world.next_deadline(), None);
    world.write(OPENER, 10);
    arrive(&mut world);
    wait(&mut world, 25 * MILLISECOND, |w| w.steps().len() > 1 || w.next_deadline().is_none());
    arrive(&mut world);
    assert_eq!(world.next_deadline(), None);
}

#[test]
fn a_leg_is_not_silent_while_bytes_of_a_frame_trickle_in() {
    let mut world = attached(calm());
    world.write(OPENER, 10);
    for _ in 0..10 {
        world.advance(1000 * MILLISECOND);
        let now = world.now;
        world.machine(OPENER).heard(FIRST, now);
    }
    assert_eq!(world.ends[OPENER].need_path, None);
}

#[test]
fn what_has_come_of_a_frame_is_acknowledged_before_the_rest_comes() {
    let mut world = attached(calm());
    let (now, late) = (world.now, world.now + 25 * MILLISECOND);
    let machine = world.machine(ACCEPTOR);
    machine.handle_payload(FIRST, 0, b"half", 0, now).unwrap();
    assert_eq!(machine.poll_timeout(), Some(late));
    machine.handle_timeout(late);
    let frame = machine.poll_transmit(FIRST, late).map(|sent| sent.to_frame());
    assert!(matches!(frame, Some(Frame::Ack { received: 4, .. })), "{frame:?}");
}

#[test]
fn an_acknowledgement_waits_for_its_pause_until_much_or_half_of_the_window_waits_for_it() {
    const PIECE: usize = 64 << 10;
    for (window_initial, said) in [(16 << 20, [3 << 19, 6 << 19]), (2 << 20, [1 << 20, 2 << 20])] {
        let config = Config { window_initial, ..Config::default() };
        let mut world = attached(Script { config, ..calm() });
        let now = world.now;
        let machine = world.machine(ACCEPTOR);
        let mut acknowledged = (0..50).filter_map(|piece: u64| {
            machine.handle_payload(FIRST, piece * PIECE as u64, &[7; PIECE], PIECE, now).unwrap();
            match machine.poll_transmit(FIRST, now)? {
                Transmit::Frame(Frame::Ack { received, .. }) => Some(received),
                other => panic!("{other:?}"),
            }
        });
        // No time passes; the pause begins with ATTACHED.
        assert_eq!([acknowledged.next(), acknowledged.next()], said.map(Some));
    }
}

#[test]
fn a_path_without_distance_is_worth_two_mebibytes_and_asks_the_budget_for_no_more() {
    let mut world = attached(Script { budget: 256 << 20, ..calm() });
    let now = world.now;
    let machine = world.machine(OPENER);
    assert_eq!(machine.write(&[7]), Ok(1));
    assert!(machine.poll_transmit(FIRST, now).is_some());
    machine.handle_frame(FIRST, Frame::Ack { received: 1, limit: 16 << 20 }, now).unwrap();
    assert_eq!(machine.write(&vec![7; 8 << 20]), Ok(2 << 20));
    assert_eq!((machine.retained_bytes(), machine.send_buffer_bytes()), (2 << 20, 2 << 20));
}

#[test]
fn an_opener_that_only_listens_notices_within_three_seconds_that_what_came_stopped_with_its_path() {
    let mut world = attached(calm());
    world.write(ACCEPTOR, 10);
    arrive(&mut world);
    world.black_hole(FIRST);
    wait(&mut world, 3000 * MILLISECOND, |w| w.ends[OPENER].wants_path());
}

#[test]
fn a_flood_of_questions_for_life_is_answered_with_one_word() {
    let mut world = attached(calm());
    let now = world.now;
    for end in [OPENER, ACCEPTOR] {
        let machine = world.machine(end);
        for _ in 0..10_000 {
            machine.handle_frame(FIRST, Frame::Ping, now).unwrap();
        }
        assert_eq!(machine.poll_transmit(FIRST, now), Some(Transmit::Frame(Frame::Pong)));
        assert_eq!(machine.poll_transmit(FIRST, now), None);
    }
}

#[test]
fn a_pause_on_a_living_path_is_asked_about_once_and_then_all_is_quiet() {
    let mut world = attached(calm());
    world.write(ACCEPTOR, 10);
    arrive(&mut world);
    while let Some(next) = world.next_deadline() {
        assert!(next - world.now < Duration::from_secs(1));
        world.advance(next - world.now);
        arrive(&mut world);
    }
    assert!(!world.ends[OPENER].wants_path());
}

#[test]
fn silence_is_judged_more_slowly_each_time_until_something_is_acknowledged() {
    let mut world = attached(calm());
    world.write(OPENER, 10);
    world.black_hole(FIRST);
    for expected in [1500, 3000, 6000, 12_000, 12_000] {
        let took = wait(&mut world, 25_000 * MILLISECOND, |w| w.ends[OPENER].wants_path());
        assert_eq!(took, expected * MILLISECOND);
        let leg = world.open_leg();
        world.black_hole(leg);
    }
    world.open_leg();
    arrive(&mut world);
    wait(&mut world, 25 * MILLISECOND, |w| w.steps().len() > 1);
    arrive(&mut world);
    world.write(OPENER, 10);
    world.live_legs().into_iter().for_each(|leg| world.black_hole(leg));
    let took = wait(&mut world, 3000 * MILLISECOND, |w| w.ends[OPENER].wants_path());
    assert_eq!(took, 1500 * MILLISECOND);
}

#[test]
fn without_a_path_both_ends_fail_after_their_patience_and_name_the_loss() {
    let mut world = attached(calm());
    world.cut(FIRST);
    arrive(&mut world);
    for end in [OPENER, ACCEPTOR] {
        let left = world.ends[end].need_path.unwrap() - world.now;
        assert_eq!(left, Duration::from_secs(60));
    }
    world.advance(Duration::from_secs(60) - MILLISECOND);
    assert_eq!(world.ends[OPENER].failed, None);
    world.advance(MILLISECOND);
    let waited = Duration::from_secs(60);
    let error = StreamError::NoPath { cause: LossCause::ConnectionClosed, waited };
    for end in [OPENER, ACCEPTOR] {
        assert_eq!(world.ends[end].failed, Some(error));
        assert!(world.ends[end].closed);
        assert_eq!(world.machine(end).read(&mut [0; 8]), Err(error));
        assert_eq!(world.machine(end).write(&[0; 8]), Err(error));
    }
    assert_eq!(world.ends[ACCEPTOR].tombstone, Some(Farewell::Reset(Code::Patience)));
}

#[test]
fn failed_moves_do_not_renew_the_patience() {
    let mut world = attached(calm());
    world.cut(FIRST);
    arrive(&mut world);
    let until = world.ends[OPENER].need_path;
    for _ in 0..3 {
        let leg = world.open_leg();
        world.black_hole(leg);
        wait(&mut world, Duration::from_secs(21), |w| w.ends[OPENER].wants_path());
        assert_eq!(world.ends[OPENER].need_path, until);
    }
}

#[test]
fn a_move_from_a_living_leg_has_no_gap_at_the_opener() {
    let mut world = attached(calm());
    let to = world.open_leg();
    world.advance(40 * MILLISECOND);
    arrive(&mut world);
    let moved = world.ends[OPENER].moved[0];
    assert_eq!((moved.from, moved.to), (FIRST, to));
    assert_eq!((moved.gap, moved.cause), (Duration::ZERO, None));
    assert_eq!(world.machine(OPENER).leg(), Some(to));
    assert_eq!(world.ends[ACCEPTOR].moved.len(), 1);
}

#[test]
fn what_is_in_flight_on_the_old_leg_still_counts_while_a_move_completes() {
    let mut world = attached(calm());
    world.write(OPENER, 100);
    let to = world.open_leg();
    world.take(Step::Deliver { leg: to, to: ACCEPTOR });
    assert_eq!(world.machine(ACCEPTOR).leg(), Some(to));
    // The MOVE overtook the payload; the payload arrives nevertheless, on the leg before.
    world.take(Step::Deliver { leg: FIRST, to: ACCEPTOR });
    assert_eq!(world.ends[ACCEPTOR].read, 100);
    arrive(&mut world);
    assert_eq!(world.machine(OPENER).leg(), Some(to));
}

#[test]
fn the_gap_after_a_loss_counts_from_the_loss_at_both_ends() {
    let mut world = attached(calm());
    world.cut(FIRST);
    arrive(&mut world);
    world.advance(300 * MILLISECOND);
    world.open_leg();
    arrive(&mut world);
    for end in [OPENER, ACCEPTOR] {
        let moved = world.ends[end].moved[0];
        assert_eq!(moved.gap, 300 * MILLISECOND);
        assert_eq!(moved.cause, Some(LossCause::ConnectionClosed));
    }
}

#[test]
fn the_gap_after_a_black_hole_counts_from_the_last_that_was_heard() {
    let mut world = attached(calm());
    world.advance(1000 * MILLISECOND);
    world.black_hole(FIRST);
    world.write(OPENER, 10);
    wait(&mut world, 3000 * MILLISECOND, |w| w.ends[OPENER].wants_path());
    world.advance(100 * MILLISECOND);
    world.open_leg();
    arrive(&mut world);
    assert_eq!(world.ends[OPENER].moved[0].gap, 1600 * MILLISECOND);
}

#[test]
fn a_move_that_is_never_answered_leaves_the_stream_where_it_lives() {
    let mut world = attached(calm());
    let lost = world.open_leg();
    world.black_hole(lost);
    wait(&mut world, 3000 * MILLISECOND, |w| !w.ends[OPENER].move_failed.is_empty());
    assert_eq!(world.machine(OPENER).leg(), Some(FIRST));
    assert_eq!(world.ends[OPENER].need_path, None);
    let waited = 1500 * MILLISECOND;
    assert_eq!(world.ends[OPENER].move_failed, [LossCause::Unanswered { waited }]);
}

#[test]
fn a_move_supersedes_the_one_under_way() {
    let mut world = attached(calm());
    let first = world.open_leg();
    let second = world.open_leg();
    arrive(&mut world);
    assert_eq!(world.machine(OPENER).leg(), Some(second));
    let dropped = |e: &Event| matches!(e, Event::DropLeg { leg, .. } if *leg == first);
    assert!(world.ends[OPENER].events.iter().any(dropped));
}

#[test]
fn the_leg_before_is_dropped_at_the_latest_when_it_has_drained_long_enough() {
    let mut world = attached(calm());
    let to = world.open_leg();
    world.take(Step::Deliver { leg: to, to: ACCEPTOR });
    world.advance(2500 * MILLISECOND);
    let dropped = |e: &Event| matches!(e, Event::DropLeg { leg: FIRST, .. });
    assert!(world.ends[ACCEPTOR].events.iter().any(dropped));
}

#[test]
fn a_slow_reader_hides_no_acknowledgement_and_stops_no_other_direction() {
    let script = Script {
        bytes: [400_000, 400_000],
        write_bytes: 10_000,
        config: Config::default(),
        ..Script::default()
    };
    let mut world = World::new(script);
    world.ends[ACCEPTOR].paused = true;
    for _ in 0..10 {
        arrive(&mut world);
        world.advance(25 * MILLISECOND);
    }
    assert_eq!(world.ends[OPENER].read, 400_000, "the other direction");
    let (retained, buffered) =
        (world.machine(OPENER).retained_bytes(), world.machine(ACCEPTOR).buffered_bytes());
    assert_eq!(buffered, 256 << 10, "the window is full");
    assert_eq!(retained, world.ends[OPENER].written - buffered, "all that arrived is acknowledged");
    assert_eq!(world.machine(ACCEPTOR).window_bytes(), 256 << 10);
    world.settle();
    world.assert_whole();
}

#[test]
fn early_data_stops_at_its_limit_until_the_hello_is_answered() {
    let mut world = World::new(Script { queue: 1000, ..calm() });
    world.write(OPENER, 100_000);
    let mut early = 0;
    world.tamper(FIRST, ACCEPTOR, |frames| {
        assert!(matches!(frames[0], Frame::Hello(_)));
        early = frames[1..]
            .iter()
            .map(|f| if let Frame::Data { payload, .. } = f { payload.len() } else { 0 })
            .sum();
    });
    assert_eq!(early, 16 << 10);
}

#[test]
fn one_byte_messages_go_out_one_by_one_and_are_kept_and_repeated_together() {
    const BYTES: usize = 256 << 10;
    const SECOND: LegId = LegId(2);
    let mut world = attached(calm());
    let now = world.now;
    let machine = world.machine(OPENER);
    let sent = |machine: &mut Machine, leg| {
        let frames = std::iter::from_fn(|| Some(machine.poll_transmit(leg, now)?.to_frame()));
        frames.filter(|frame| matches!(frame, Frame::Data { .. })).count()
    };
    for _ in 0..BYTES {
        assert_eq!(machine.write(&[1]), Ok(1));
        assert_eq!(sent(machine, FIRST), 1);
    }
    assert_eq!(machine.write(&[1]), Ok(0), "the buffer is full");
    machine.begin_move(SECOND, now).unwrap();
    assert_eq!(sent(machine, SECOND), 0, "not before it is attached");
    let attached = Attached { epoch: 1, features: 0, received: 0, limit: BYTES as u64 };
    machine.handle_frame(SECOND, Frame::Attached(attached), now).unwrap();
    let repeated = sent(machine, SECOND);
    assert!(repeated <= BYTES / 2000, "{repeated} frames");
}

#[test]
fn an_idle_stream_is_small() {
    let bytes = size_of::<Machine>();
    println!("a machine has {bytes} bytes");
    assert!(bytes <= 1024);
}

#[test]
fn a_stream_is_finished_here_and_written_to_no_more() {
    let budget = Budget::new(0);
    let now = std::time::Instant::now();
    let config = Arc::new(Config::default());
    let id = StreamId::from_bytes([1; 16]);
    let mut machine = Machine::open(id, hello_service(), Bytes::new(), config, &budget, FIRST, now);
    assert_eq!(machine.write(b"abc"), Ok(3));
    machine.finish();
    assert_eq!(machine.write(b"d"), Err(StreamError::Finished));
    let frames: Vec<_> =
        std::iter::from_fn(|| Some(machine.poll_transmit(FIRST, now)?.to_frame())).collect();
    assert!(matches!(frames[..], [Frame::Hello(_), Frame::Data { .. }, Frame::Fin { offset: 3 }]));
}
