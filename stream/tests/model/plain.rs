//! The short way of payload: what goes past a machine, or out at once, is what the general verbs make of it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use punchline_stream::{
    StreamId,
    budget::Budget,
    frame::{Code, Frame, Move},
    machine::{Config, Event, LegId, LossCause, Machine, Violation},
};

use crate::{
    moments::{FIRST, attached, calm},
    world::{ACCEPTOR, OPENER, hello_service},
};

const MILLISECOND: Duration = Duration::from_millis(1);

#[test]
fn payload_that_goes_to_a_reader_at_once_counts_as_read() {
    let mut world = attached(calm());
    let now = world.now;
    let machine = world.machine(ACCEPTOR);
    let arrives = |machine: &mut Machine, leg, offset, bytes, room| {
        machine.handle_payload(leg, offset, bytes, room, now)
    };
    assert_eq!(arrives(machine, FIRST, 0, &b"past kept"[..], 5), Ok(5));
    assert_eq!(arrives(machine, LegId(99), 9, b"stranger's", 10), Ok(0), "of no leg");
    assert_eq!(arrives(machine, FIRST, 9, b", too", 5), Ok(0), "what is kept comes first");
    assert_eq!(machine.buffered_bytes(), 9);
    let mut rest = [0; 20];
    assert_eq!(machine.read(&mut rest), Ok(Some(9)));
    assert_eq!(&rest[..9], b"kept, too");
    assert_eq!(arrives(machine, FIRST, 0, b"past kept", 9), Ok(0), "it had that");
    assert_eq!(arrives(machine, FIRST, 14, b"all of it", 20), Ok(9));
}

#[test]
fn a_reader_is_told_in_short_that_nothing_is_there_only_if_more_may_come() {
    let mut world = attached(calm());
    let now = world.now;
    let machine = world.machine(ACCEPTOR);
    assert!(machine.starve());
    assert_eq!(machine.handle_payload(FIRST, 0, b"kept", 0, now), Ok(0));
    assert!(std::iter::from_fn(|| machine.poll_event()).any(|event| event == Event::Readable));
    assert!(!machine.starve(), "something is there");
    assert_eq!(machine.read(&mut [0; 9]), Ok(Some(4)));
    assert!(machine.starve());
    machine.handle_frame(FIRST, Frame::Fin { offset: 4 }, now).unwrap();
    assert!(!machine.starve(), "the end is there");

    let mut world = attached(calm());
    let machine = world.machine(OPENER);
    machine.reset(Code::Cancelled, now);
    assert!(!machine.starve(), "an error is there");
}

#[test]
fn payload_for_a_reader_who_waits_is_judged_all_the_same() {
    let limit = Config::default().window_initial;
    let most = Config::default().data_bytes;
    for end in [OPENER, ACCEPTOR] {
        let mut world = attached(calm());
        let now = world.now;
        let machine = world.machine(end);
        assert_eq!(machine.handle_payload(FIRST, 0, b"first", 9, now), Ok(5));
        let hole = machine.handle_payload(FIRST, 6, b"x", 9, now);
        assert_eq!(hole, Err(Violation::Hole { offset: 6, received: 5 }));

        let mut world = attached(calm());
        let machine = world.machine(end);
        // The limit grows only when the peer is told.
        for offset in (0..limit).step_by(most) {
            let bytes = vec![0; most.min((limit - offset) as usize)];
            assert_eq!(machine.handle_payload(FIRST, offset, &bytes, most, now), Ok(bytes.len()));
        }
        let beyond = machine.handle_payload(FIRST, limit, b"x", 9, now);
        assert_eq!(beyond, Err(Violation::BeyondLimit { offset: limit, length: 1, limit }));

        let mut world = attached(calm());
        let machine = world.machine(end);
        machine.handle_frame(FIRST, Frame::Fin { offset: 0 }, now).unwrap();
        let after = machine.handle_payload(FIRST, 0, b"x", 9, now);
        assert_eq!(after, Err(Violation::FinalSize { size: 0, offset: 1 }));

        let mut world = attached(calm());
        let machine = world.machine(end);
        machine.reset(Code::Cancelled, now);
        assert_eq!(machine.handle_payload(FIRST, 0, b"x", 9, now), Ok(0), "nobody reads any more");
    }
}

#[test]
fn payload_for_a_reader_who_waits_shows_that_the_leg_lives_and_is_acknowledged() {
    for end in [OPENER, ACCEPTOR] {
        let (mut one, mut two) = (attached(calm()), attached(calm()));
        let later = 700 * MILLISECOND;
        let due = [(&mut one, 9), (&mut two, 0)].map(|(world, room)| {
            let (start, now) = (world.start, world.now + later);
            let machine = world.machine(end);
            machine.handle_payload(FIRST, 0, b"payload", room, now).unwrap();
            assert!(machine.heard_since(FIRST, now));
            let due = std::iter::from_fn(|| {
                let at = machine.poll_timeout()?;
                machine.handle_timeout(at);
                while machine.poll_transmit(FIRST, at).is_some() {}
                Some(at - start)
            });
            due.take(3).collect::<Vec<_>>()
        });
        assert_eq!(due[0], due[1]);
        assert!(!due[0].is_empty(), "no acknowledgement");
    }
}

#[test]
fn payload_for_a_reader_who_waits_completes_a_move() {
    const SECOND: LegId = LegId(2);
    let mut world = attached(calm());
    let now = world.now;
    let machine = world.machine(ACCEPTOR);
    let limit = Config::default().window_initial;
    let r#move = Move { stream: machine.id(), epoch: 1, received: 0, limit };
    machine.handle_move(SECOND, &r#move, now).unwrap();
    while machine.poll_transmit(SECOND, now).is_some() {}
    assert_eq!(machine.handle_payload(SECOND, 0, b"here", 9, now + MILLISECOND), Ok(4));
    let events = std::iter::from_fn(|| machine.poll_event());
    let gaps = events.filter_map(|event| match event {
        Event::Moved(moved) => Some(moved.gap),
        _ => None,
    });
    assert_eq!(gaps.collect::<Vec<_>>(), [MILLISECOND]);
}

#[test]
fn what_is_sent_at_once_is_what_would_have_been_written_and_sent() {
    for end in [OPENER, ACCEPTOR] {
        let (mut one, mut two) = (attached(calm()), attached(calm()));
        for (offset, bytes) in [(0, &b"first"[..]), (5, b"second"), (11, &[7; 300]), (311, b"last")] {
            let (now, then) = (one.now, two.now);
            assert_eq!(one.machine(end).send(FIRST, bytes, || now), Some(offset));
            let general = two.machine(end);
            assert_eq!(general.write(bytes), Ok(bytes.len()));
            let sent = general.poll_transmit(FIRST, then).map(|sent| sent.to_frame());
            assert_eq!(sent, Some(Frame::Data { offset, payload: bytes.into() }));
        }
        let [one, two] = [(&mut one), (&mut two)].map(|world| {
            let (now, start) = (world.now, world.start);
            let machine = world.machine(end);
            let due = machine.poll_timeout().map(|at| at - start);
            assert_eq!(machine.poll_transmit(FIRST, now), None);
            (machine.retained_bytes(), due)
        });
        assert_eq!(one, two);
        assert!(one.1.is_some(), "nobody waits for the acknowledgement");
    }
}

#[test]
fn nothing_is_sent_at_once_before_or_beyond_what_may_be_sent() {
    type Before = fn(&mut Machine, Instant);
    fn fill(machine: &mut Machine, now: Instant) {
        let Config { window_initial, data_bytes, .. } = Config::default();
        for offset in (0..window_initial).step_by(data_bytes) {
            let bytes = vec![0; data_bytes.min((window_initial - offset) as usize)];
            assert!(machine.send(FIRST, &bytes, || now).is_some());
        }
    }
    let befores: [(&str, Before); 8] = [
        ("an answer is owed", |m, now| m.handle_frame(FIRST, Frame::Ping, now).unwrap()),
        ("payload waits", |m, _| assert_eq!(m.write(b"x"), Ok(1))),
        ("a size is to be acknowledged", |m, now| {
            m.handle_frame(FIRST, Frame::Fin { offset: 0 }, now).unwrap();
        }),
        ("it was finished", |m, _| m.finish()),
        ("it was reset", |m, now| m.reset(Code::Cancelled, now)),
        ("the leg is gone", |m, now| m.leg_lost(FIRST, LossCause::Ended, now)),
        ("the buffer is full", fill),
        ("the peer does not allow it", |m, now| {
            fill(m, now);
            let limit = Config::default().window_initial;
            m.handle_frame(FIRST, Frame::Ack { received: limit, limit }, now).unwrap();
        }),
    ];
    for end in [OPENER, ACCEPTOR] {
        for (why, before) in befores {
            let mut world = attached(calm());
            let now = world.now;
            let machine = world.machine(end);
            before(machine, now);
            let kept = machine.retained_bytes();
            assert_eq!(machine.send(FIRST, b"small", || now), None, "{why}");
            assert_eq!(machine.retained_bytes(), kept, "{why}");
        }
        let mut world = attached(calm());
        let now = world.now;
        let more = vec![0; Config::default().data_bytes + 1];
        assert_eq!(world.machine(end).send(FIRST, &more, || now), None, "more than a frame");
        assert_eq!(world.machine(end).send(FIRST, b"", || now), None, "no empty frames");
        assert_eq!(world.machine(end).send(LegId(99), b"x", || now), None, "another leg");
    }
    let budget = Budget::new(0);
    let (now, id) = (Instant::now(), StreamId::from_bytes([1; 16]));
    let config = Arc::new(Config::default());
    let mut machine = Machine::open(id, hello_service(), Bytes::new(), config, &budget, FIRST, now);
    assert_eq!(machine.send(FIRST, b"x", || now), None, "HELLO comes first");
    while machine.poll_transmit(FIRST, now).is_some() {}
    assert_eq!(machine.send(FIRST, b"x", || now), None, "HELLO is not answered");
}
