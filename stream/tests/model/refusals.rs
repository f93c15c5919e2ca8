//! What an end answers to a peer that is late, strange or wrong.

use std::time::Duration;

use bytes::Bytes;
use punchline_stream::{
    StreamId,
    frame::{Attached, Code, Frame, FrameError, Hello, Move},
    machine::{Event, Farewell, LegId, LossCause, MoveError, StreamError, Violation},
};

use crate::{
    moments::{FIRST, arrive, attached, calm},
    world::{ACCEPTOR, OPENER, World, hello_service},
};

#[test]
fn a_busy_or_stale_answer_to_a_move_refuses_the_leg_and_not_the_stream() {
    for code in [Code::Busy, Code::Stale] {
        let mut world = attached(calm());
        let leg = world.open_leg();
        let now = world.now;
        world.machine(OPENER).handle_frame(leg, Frame::Reset { code }, now).unwrap();
        world.pump();
        assert_eq!(world.ends[OPENER].move_failed, [LossCause::Refused { code }]);
        assert_eq!(world.machine(OPENER).leg(), Some(FIRST));
        assert_eq!(world.ends[OPENER].failed, None);
    }
}

#[test]
fn an_unknown_stream_is_not_moved_for_ever() {
    let mut world = attached(calm());
    let leg = world.open_leg();
    let (now, code) = (world.now, Code::Unknown);
    world.machine(OPENER).handle_frame(leg, Frame::Reset { code }, now).unwrap();
    world.pump();
    assert_eq!(world.ends[OPENER].failed, Some(StreamError::PeerReset { code }));
}

#[test]
fn a_refused_stream_fails_with_the_peers_reason() {
    for code in [Code::Refused, Code::Busy, Code::VersionUnsupported, Code::Shutdown] {
        let mut world = World::new(calm());
        let now = world.now;
        world.machine(OPENER).handle_frame(FIRST, Frame::Reset { code }, now).unwrap();
        world.pump();
        assert_eq!(world.ends[OPENER].failed, Some(StreamError::Refused { code }));
        assert!(world.ends[OPENER].closed);
    }
}

#[test]
fn only_the_opener_moves_and_only_upwards() {
    let mut world = attached(calm());
    let (now, leg) = (world.now, LegId(9));
    let stream = world.machine(OPENER).id();
    assert_eq!(world.machine(ACCEPTOR).begin_move(leg, now), Err(MoveError::NotOpener));
    let stale = Move { stream, epoch: 0, received: 0, limit: 0 };
    let refused = Err(Farewell::Reset(Code::Stale));
    assert_eq!(world.machine(ACCEPTOR).handle_move(leg, &stale, now), refused);
    let unknown = Err(Farewell::Reset(Code::Unknown));
    let r#move = Move { epoch: 5, ..stale };
    assert_eq!(world.machine(OPENER).handle_move(leg, &r#move, now), unknown);
    world.pump();
    assert_eq!(world.ends[ACCEPTOR].failed, None);
    assert_eq!(world.machine(ACCEPTOR).leg(), Some(FIRST));
}

#[test]
fn the_last_epoch_is_the_last_move() {
    let mut world = attached(calm());
    let (now, stream) = (world.now, world.machine(OPENER).id());
    let last = Move { stream, epoch: u32::MAX, received: 0, limit: 0 };
    assert_eq!(world.machine(ACCEPTOR).handle_move(LegId(8), &last, now), Ok(()));
    let again = world.machine(ACCEPTOR).handle_move(LegId(9), &last, now);
    assert_eq!(again, Err(Farewell::Reset(Code::Stale)));
}

/// Each end has sent and received 10 bytes and read none.
fn halfway() -> World {
    let mut world = attached(calm());
    world.ends.iter_mut().for_each(|end| end.paused = true);
    world.write(OPENER, 10);
    world.write(ACCEPTOR, 10);
    arrive(&mut world);
    world
}

#[test]
fn every_violation_is_a_typed_reset_of_that_stream() {
    let payload = Bytes::from_static(b"abc");
    let data = |offset| Frame::Data { offset, payload: payload.clone() };
    let limit = 256 << 10;
    let hello = Hello {
        features: 0,
        stream: StreamId::from_bytes([7; 16]),
        epoch: 0,
        limit: 0,
        service: hello_service(),
        ticket: Bytes::new(),
    };
    let attached = Attached { epoch: 0, features: 0, received: 0, limit: 0 };
    let cases = [
        (data(11), Code::Protocol),
        (data(limit - 2), Code::FlowControl),
        (data(u64::MAX - 1), Code::FlowControl),
        (Frame::Ack { received: 11, limit: 20 }, Code::Protocol),
        (Frame::Ack { received: 5, limit: 4 }, Code::Protocol),
        (Frame::Blocked { limit: limit + 11 }, Code::Protocol),
        (Frame::Fin { offset: 9 }, Code::FinalSize),
        (Frame::Fin { offset: 11 }, Code::Protocol),
        (Frame::FinAck { offset: 10 }, Code::Protocol),
        (Frame::Done, Code::Protocol),
        (Frame::Hello(Box::new(hello)), Code::Protocol),
        (Frame::Attached(attached), Code::Protocol),
    ];
    for end in [OPENER, ACCEPTOR] {
        for (frame, code) in &cases {
            let mut world = halfway();
            let now = world.now;
            let taken = world.machine(end).handle_frame(FIRST, frame.clone(), now);
            let violation = taken.expect_err(&format!("{frame:?}"));
            assert_eq!(violation.code(), *code, "{frame:?}");
            world.settle();
            assert_eq!(world.ends[end].failed, Some(violation.into()), "{frame:?}");
            let told = Some(StreamError::PeerReset { code: *code });
            assert_eq!(world.ends[1 - end].failed, told, "{frame:?}");
            world.assert_memory_is_back();
        }
    }
}

#[test]
fn a_size_cannot_change() {
    let mut world = halfway();
    let now = world.now;
    let machine = world.machine(ACCEPTOR);
    assert_eq!(machine.handle_frame(FIRST, Frame::Fin { offset: 10 }, now), Ok(()));
    assert_eq!(machine.handle_frame(FIRST, Frame::Fin { offset: 10 }, now), Ok(()));
    let more = Frame::Data { offset: 10, payload: Bytes::from_static(b"x") };
    let error = Violation::FinalSize { size: 10, offset: 11 };
    assert_eq!(machine.handle_frame(FIRST, more, now), Err(error));
}

#[test]
fn bytes_that_are_no_frame_reset_the_stream() {
    for (error, code) in
        [(FrameError::Kind(77), Code::Protocol), (FrameError::Version(2), Code::VersionUnsupported)]
    {
        let mut world = attached(calm());
        let now = world.now;
        world.machine(ACCEPTOR).malformed(FIRST, error, now);
        world.settle();
        let told = Some(StreamError::PeerReset { code });
        assert_eq!(world.ends[OPENER].failed, told);
    }
}

#[test]
fn frames_of_a_leg_that_was_dropped_are_ignored() {
    let mut world = attached(calm());
    let now = world.now;
    assert_eq!(world.machine(OPENER).handle_frame(LegId(99), Frame::Done, now), Ok(()));
    assert_eq!(world.machine(OPENER).poll_transmit(LegId(99), now), None);
}

#[test]
fn nothing_is_said_after_the_last_word_when_the_leg_of_a_reset_stream_dies() {
    let mut world = attached(calm());
    let now = world.now;
    let machine = world.machine(ACCEPTOR);
    machine.reset(Code::Cancelled, now);
    // The leg takes no RESET and brings nothing.
    machine.handle_timeout(now + Duration::from_secs(3));
    let events: Vec<_> = std::iter::from_fn(|| machine.poll_event()).collect();
    assert!(matches!(events[..], [.., Event::DropLeg { leg: FIRST, .. }, Event::Closed]), "{events:?}");
}
