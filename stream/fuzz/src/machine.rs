//! An attacker at the other end of one machine: any frames, on any leg, at any time.
//!
//! What must hold: nothing panics; memory stays within what the settings and the budget allow; a
//! violation fails this stream, once, and the peer is told by RESET and by nothing else; a stream
//! that shares the process is not touched.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use punchline_stream::{
    Service, StreamId,
    budget::Budget,
    frame::{Code, Decoder, Frame, Hello, Item},
    machine::{Config, Event, LegId, LossCause, Machine, Violation},
};

use super::neighbour;

/// Small, so that inputs of a few hundred bytes reach it.
const BUDGET_BYTES: u64 = 64 << 10;

/// Frames that one leg may have to say at a time: 32 KiB of send buffer in pieces of 64 bytes, and
/// some.
const FRAMES_MAX: usize = 1_000;

struct Attack {
    machine: Machine,
    now: Instant,
    /// Four substreams; each is another leg whenever it begins anew.
    legs: [LegId; 4],
    decoders: [Decoder; 4],
    next_leg: u64,
    seen: Seen,
}

/// What the machine has said of its end.
#[derive(Default)]
struct Seen {
    failed: bool,
    finished: bool,
    closed: bool,
}

/// Runs an input: one byte of role, then steps of one byte of verb, one of argument, and, if the verb
/// is to receive, one of length and that many bytes.
pub fn run(input: &[u8]) {
    let Some((role, mut steps)) = input.split_first() else { return };
    let config = Arc::new(Config {
        early_data_bytes: 1024,
        window_initial: 1024,
        window_max: 32 << 10,
        buffer_near: 4 << 10,
        ..Config::default()
    });
    let budget = Budget::new(BUDGET_BYTES);
    let mut attack = Attack::new(role % 2 == 1, &config, &budget);
    while let [verb, argument, rest @ ..] = steps {
        steps = attack.step(*verb, *argument, rest);
        attack.drive();
        attack.check(&budget, &config);
    }
    neighbour::talk(&config, &budget, attack.now);
    drop(attack);
    assert_eq!(budget.used(), 0, "the budget is not back");
}

impl Attack {
    fn new(accept: bool, config: &Arc<Config>, budget: &Arc<Budget>) -> Self {
        let now = Instant::now();
        let service = Service::new("grpc").expect("a valid name");
        let (stream, leg, config) = (StreamId::from_bytes([7; 16]), LegId(0), Arc::clone(config));
        let machine = if accept {
            let ticket = Bytes::new();
            let hello = Hello { stream, epoch: 0, features: 0, limit: 4096, service, ticket };
            Machine::accept(&hello, config, budget, leg, now)
        } else {
            Machine::open(stream, service, Bytes::new(), config, budget, leg, now)
        };
        let legs = [leg, LegId(1), LegId(2), LegId(3)];
        let decoders = std::array::from_fn(|_| Decoder::new());
        Self { machine, now, legs, decoders, next_leg: 4, seen: Seen::default() }
    }

    /// The substream begins anew.
    fn fresh(&mut self, slot: usize) -> LegId {
        self.legs[slot] = LegId(self.next_leg);
        self.next_leg += 1;
        self.legs[slot]
    }

    /// One step; returns the input behind it.
    fn step<'a>(&mut self, verb: u8, argument: u8, rest: &'a [u8]) -> &'a [u8] {
        let (slot, now) = (usize::from(argument % 4), self.now);
        let leg = self.legs[slot];
        match verb % 12 {
            0..=3 => {
                let Some((length, rest)) = rest.split_first() else { return rest };
                let (bytes, rest) = rest.split_at(rest.len().min(usize::from(*length)));
                self.receive(slot, bytes);
                return rest;
            }
            4 if argument >= 128 => drop(self.machine.send(leg, &[argument; 200], || now)),
            4 => drop(self.machine.write(&[argument; 300])),
            5 => drop(self.machine.read(&mut [0; 500])),
            6 => self.machine.finish(),
            7 => self.now += Duration::from_millis(u64::from(argument) * 40),
            8 => {
                let leg = self.fresh(slot);
                let _ = self.machine.begin_move(leg, now);
            }
            9 => self.machine.leg_lost(leg, LossCause::Ended, now),
            10 if argument == 255 => self.machine.reset(Code::Cancelled, now),
            _ => self.machine.heard(leg, now),
        }
        rest
    }

    fn receive(&mut self, slot: usize, mut bytes: &[u8]) {
        loop {
            match self.decoders[slot].decode(&mut bytes) {
                Ok(Some(Item::Frame(frame))) => self.hear(slot, frame),
                Ok(Some(Item::Data { offset, payload })) => self.hear_payload(slot, offset, payload),
                Ok(None) => return,
                Err(error) => {
                    self.decoders[slot] = Decoder::new();
                    return self.machine.malformed(self.legs[slot], error, self.now);
                }
            }
        }
    }

    /// What a reader waits for goes past the machine, at even offsets all of it, else half.
    fn hear_payload(&mut self, slot: usize, offset: u64, payload: &[u8]) {
        let (leg, now) = (self.legs[slot], self.now);
        let was_over = self.machine.failure().is_some() || self.seen.finished;
        let room = if offset.is_multiple_of(2) { payload.len() } else { payload.len() / 2 };
        let taken = self.machine.handle_payload(leg, offset, payload, room, now);
        if let (Err(violation), false) = (taken, was_over) {
            self.is_failed_by(violation);
        }
    }

    fn hear(&mut self, slot: usize, frame: Frame) {
        let now = self.now;
        match frame {
            Frame::Move(r#move) => {
                let leg = self.fresh(slot);
                let _ = self.machine.handle_move(leg, &r#move, now);
            }
            Frame::Hello(hello) => {
                let leg = self.fresh(slot);
                let _ = self.machine.handle_hello(leg, &hello, now);
            }
            frame => {
                let was_over = self.machine.failure().is_some() || self.seen.finished;
                let taken = self.machine.handle_frame(self.legs[slot], frame, now);
                if let (Err(violation), false) = (taken, was_over) {
                    self.is_failed_by(violation);
                }
            }
        }
    }

    fn is_failed_by(&self, violation: Violation) {
        let over = self.machine.is_closed() || self.machine.is_delivered();
        let failed = self.machine.failure() == Some(violation.into());
        assert!(failed || over, "{violation}, and the stream goes on");
    }

    /// What a driver does after every verb.
    fn drive(&mut self) {
        if self.machine.poll_timeout().is_some_and(|at| at <= self.now) {
            self.machine.handle_timeout(self.now);
            let next = self.machine.poll_timeout();
            assert!(next.is_none_or(|at| at > self.now), "a deadline that passed stays");
        }
        for leg in self.legs {
            for frames in 0.. {
                assert!(frames < FRAMES_MAX, "frames without end");
                let Some(frame) = self.machine.poll_transmit(leg, self.now).map(|sent| sent.to_frame())
                else {
                    break;
                };
                let telling = matches!(frame, Frame::Attached(_) | Frame::Move(_) | Frame::Reset { .. });
                assert!(telling || self.machine.failure().is_none(), "{frame:?} of a failed stream");
            }
        }
        while let Some(event) = self.machine.poll_event() {
            self.seen.note(event);
        }
    }

    fn check(&self, budget: &Budget, config: &Config) {
        let machine = &self.machine;
        assert!(machine.buffered_bytes() <= machine.window_bytes());
        assert!(machine.retained_bytes() <= machine.send_buffer_bytes());
        assert!(machine.window_bytes() <= config.window_max);
        assert!(machine.send_buffer_bytes() <= config.window_max);
        assert!(budget.used() <= BUDGET_BYTES);
        if machine.failure().is_some() {
            assert_eq!(machine.retained_bytes(), 0, "a failed stream retains");
        }
        if machine.is_closed() {
            assert!(self.seen.closed, "closed without a word");
            assert_eq!(machine.poll_timeout(), None);
        }
    }
}

impl Seen {
    fn note(&mut self, event: Event) {
        assert!(!self.closed, "{event:?} after Closed");
        match event {
            Event::Failed(_) => {
                assert!(!self.failed && !self.finished, "failed after its end");
                self.failed = true;
            }
            Event::Finished => {
                assert!(!self.failed && !self.finished, "finished after its end");
                self.finished = true;
            }
            Event::Closed => self.closed = true,
            _ => {}
        }
    }
}
