//! An attacker at the other end of one machine: any frames, on any leg, at any time.
#![no_main]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use punchline_bridge::{
    Service,
    stream::{
        StreamId,
        budget::Budget,
        frame::{Code, Decoder, Frame, Hello},
        machine::{Config, Event, LegId, LossCause, Machine},
    },
};

const BUDGET: u64 = 64 << 10;

struct Attack {
    machine: Machine,
    now: Instant,
    /// Four substreams; each is another leg whenever it begins anew.
    legs: [LegId; 4],
    decoders: [Decoder; 4],
    next_leg: u64,
    closed: bool,
}

impl Attack {
    fn new(accept: bool, config: Arc<Config>, budget: &Arc<Budget>) -> Self {
        let now = Instant::now();
        let service = Service::new("grpc").expect("a valid name");
        let stream = StreamId::from_bytes([7; 16]);
        let leg = LegId(0);
        let machine = if accept {
            let ticket = Bytes::new();
            let hello = Hello { stream, epoch: 0, limit: 4096, service, ticket };
            Machine::accept(&hello, config, budget, leg, now)
        } else {
            Machine::open(stream, service, Bytes::new(), config, budget, leg, now)
        };
        let legs = [leg, LegId(1), LegId(2), LegId(3)];
        let decoders = std::array::from_fn(|_| Decoder::new());
        Self { machine, now, legs, decoders, next_leg: 4, closed: false }
    }

    /// The substream begins anew.
    fn fresh(&mut self, slot: usize) -> LegId {
        self.legs[slot] = LegId(self.next_leg);
        self.next_leg += 1;
        self.legs[slot]
    }

    /// One byte of verb, one of argument, then bytes for a leg.
    fn step(&mut self, verb: u8, argument: u8, bytes: &[u8]) {
        let (slot, now) = (usize::from(argument % 4), self.now);
        let leg = self.legs[slot];
        match verb % 12 {
            0..=3 => self.receive(slot, bytes),
            4 => {
                let _ = self.machine.write(&[argument; 300]);
            }
            5 => {
                let _ = self.machine.read(&mut [0; 500]);
            }
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
    }

    fn receive(&mut self, slot: usize, mut bytes: &[u8]) {
        let now = self.now;
        while !bytes.is_empty() {
            let decoder = &mut self.decoders[slot];
            let space = decoder.space();
            let read = bytes.len().min(space.len());
            space[..read].copy_from_slice(&bytes[..read]);
            decoder.filled(read);
            bytes = &bytes[read..];
            loop {
                let frame = match self.decoders[slot].decode() {
                    Ok(Some(frame)) => frame,
                    Ok(None) => break,
                    Err(error) => {
                        self.decoders[slot] = Decoder::new();
                        return self.machine.malformed(self.legs[slot], error, now);
                    }
                };
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
                        let _ = self.machine.handle_frame(self.legs[slot], frame, now);
                    }
                }
            }
        }
    }

    fn drive(&mut self, budget: &Budget, config: &Config) {
        if self.machine.poll_timeout().is_some_and(|at| at <= self.now) {
            self.machine.handle_timeout(self.now);
            let next = self.machine.poll_timeout();
            assert!(next.is_none_or(|at| at > self.now), "a deadline that passed stays");
        }
        for leg in self.legs {
            for frames in 0.. {
                assert!(frames < 10_000, "frames without end");
                if self.machine.poll_transmit(leg, self.now).is_none() {
                    break;
                }
            }
        }
        while let Some(event) = self.machine.poll_event() {
            if event == Event::Closed {
                assert!(!self.closed, "closed twice");
                self.closed = true;
            }
        }
        assert!(self.machine.buffered_bytes() <= self.machine.window_bytes());
        assert!(self.machine.retained_bytes() <= self.machine.send_buffer_bytes());
        assert!(self.machine.window_bytes() <= config.window_max);
        assert!(budget.used() <= BUDGET);
    }
}

fuzz_target!(|input: (bool, Vec<(u8, u8, Vec<u8>)>)| {
    let (accept, steps) = input;
    let config = Config { window_initial: 1024, window_max: 32 << 10, ..Config::default() };
    let (config, budget) = (Arc::new(config), Budget::new(BUDGET));
    let mut attack = Attack::new(accept, Arc::clone(&config), &budget);
    for (verb, argument, bytes) in &steps {
        attack.step(*verb, *argument, bytes);
        attack.drive(&budget, &config);
    }
    drop(attack);
    assert_eq!(budget.used(), 0);
});
