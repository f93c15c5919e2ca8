//! How a stream begins when its first leg does not live to see the answer, and what the ends know of each
//! other's features.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use punchline_stream::{
    StreamId,
    budget::Budget,
    frame::{Attached, Code, Frame, Hello},
    machine::{Config, Event, Farewell, LegId, LossCause, Machine},
};

use crate::world::hello_service;

const LEGS: [LegId; 3] = [LegId(0), LegId(1), LegId(2)];

fn opener(ticket: &'static [u8]) -> (Machine, Instant) {
    let (budget, now) = (Budget::new(0), Instant::now());
    let (id, config) = (StreamId::from_bytes([7; 16]), Arc::new(Config::default()));
    let ticket = Bytes::from_static(ticket);
    (Machine::open(id, hello_service(), ticket, config, &budget, LEGS[0], now), now)
}

fn acceptor(hello: &Hello, leg: LegId, now: Instant) -> Machine {
    Machine::accept(hello, Arc::new(Config::default()), &Budget::new(0), leg, now)
}

/// What goes out on a leg now.
fn frames(machine: &mut Machine, leg: LegId, now: Instant) -> Vec<Frame> {
    std::iter::from_fn(|| machine.poll_transmit(leg, now).map(|sent| sent.to_frame())).collect()
}

fn events(machine: &mut Machine) -> Vec<Event> {
    std::iter::from_fn(|| machine.poll_event()).collect()
}

fn hello(frames: &[Frame]) -> Hello {
    let [Frame::Hello(hello), ..] = frames else { panic!("{frames:?} does not begin with HELLO") };
    Hello::clone(hello)
}

#[test]
fn a_hello_that_was_not_answered_is_said_again_as_the_same_request_with_a_higher_epoch() {
    let (mut machine, now) = opener(b"once");
    assert_eq!(machine.write(b"early").unwrap(), 5);
    let first = frames(&mut machine, LEGS[0], now);
    machine.leg_lost(LEGS[0], LossCause::ConnectionClosed, now);
    machine.begin_move(LEGS[1], now).unwrap();
    let second = frames(&mut machine, LEGS[1], now);
    assert_eq!(hello(&second), Hello { epoch: 1, ..hello(&first) });
    assert_eq!(second[1..], first[1..], "early data comes again");
    // The acceptor may have seen the second before the first.
    machine.handle_frame(LEGS[1], Frame::Reset { code: Code::Stale }, now).unwrap();
    assert!(machine.failure().is_none(), "a leg was refused, not the stream");
    assert!(matches!(events(&mut machine).last(), Some(Event::NeedPath { .. })));
    machine.begin_move(LEGS[2], now).unwrap();
    assert_eq!(hello(&frames(&mut machine, LEGS[2], now)).epoch, 2);
    let attached = Attached { epoch: 2, features: 0, received: 5, limit: 1 << 20 };
    machine.handle_frame(LEGS[2], Frame::Attached(attached), now).unwrap();
    // Whoever hears that it is open knows where.
    let events = events(&mut machine);
    assert!(
        matches!(events[..], [Event::Moved(moved), Event::Opened] if moved.to == LEGS[2]),
        "{events:?}"
    );
}

#[test]
fn a_hello_of_a_stream_that_exists_moves_it_and_one_that_came_late_is_stale() {
    let (mut near, now) = opener(b"once");
    let first = hello(&frames(&mut near, LEGS[0], now));
    near.leg_lost(LEGS[0], LossCause::Ended, now);
    near.begin_move(LEGS[1], now).unwrap();
    let second = hello(&frames(&mut near, LEGS[1], now));
    let mut far = acceptor(&second, LEGS[1], now);
    for late in [&first, &second] {
        assert_eq!(far.handle_hello(LEGS[2], late, now), Err(Farewell::Reset(Code::Stale)));
    }
    far.handle_hello(LEGS[2], &Hello { epoch: 2, ..second }, now).unwrap();
    let answer = frames(&mut far, LEGS[2], now);
    assert!(matches!(answer[..], [Frame::Attached(Attached { epoch: 2, received: 0, .. })]));
}

#[test]
fn features_that_an_end_does_not_know_are_ignored() {
    let (mut near, now) = opener(b"");
    let mut hello = hello(&frames(&mut near, LEGS[0], now));
    hello.features |= 1 << 31;
    let mut far = acceptor(&hello, LEGS[0], now);
    let answer = frames(&mut far, LEGS[0], now);
    let [Frame::Attached(attached)] = answer[..] else { panic!("{answer:?}") };
    assert_eq!((attached.features, far.features()), (0, 0));
    let attached = Attached { features: u32::MAX, ..attached };
    near.handle_frame(LEGS[0], Frame::Attached(attached), now).unwrap();
    assert_eq!((near.failure(), near.features()), (None, 0));
}
