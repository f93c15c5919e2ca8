//! Streams that wait for a path for long: what they lose (nothing), what they hold (little), and whose clock
//! stands still meanwhile.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use punchline_stream::{
    StreamId,
    budget::Budget,
    frame::{Code, Frame},
    machine::{Config, Event, LegId, LossCause, Machine, StreamError},
};

use crate::world::hello_service;

const HOUR: Duration = Duration::from_secs(3600);
const MINUTE: Duration = Duration::from_secs(60);
const OPENER: usize = 0;
const ACCEPTOR: usize = 1;

/// Both ends, each with a clock of its own, and what went through.
struct Two {
    ends: [Machine; 2],
    clocks: [Instant; 2],
    budgets: [Arc<Budget>; 2],
    legs: u64,
    written: [usize; 2],
    read: [usize; 2],
}

/// The byte at an offset.
fn byte(at: usize) -> u8 {
    (at ^ (at >> 8) ^ (at >> 16)) as u8
}

impl Two {
    fn new() -> Self {
        let config = Arc::new(Config { patience: 2 * HOUR, ..Config::default() });
        let budgets = [0; 2].map(|_| Budget::new(256 << 20));
        let (now, leg, id) = (Instant::now(), LegId(0), StreamId::from_bytes([7; 16]));
        let service = hello_service();
        let mut near =
            Machine::open(id, service, Bytes::new(), config.clone(), &budgets[OPENER], leg, now);
        let hello = near.poll_transmit(leg, now).map(|sent| sent.to_frame());
        let Some(Frame::Hello(hello)) = hello else { panic!("HELLO is first") };
        let far = Machine::accept(&hello, config, &budgets[ACCEPTOR], leg, now);
        let (clocks, [written, read]) = ([now; 2], [[0; 2]; 2]);
        let mut two = Self { ends: [near, far], clocks, budgets, legs: 1, written, read };
        two.carry(leg);
        two
    }

    fn write(&mut self, end: usize, bytes: usize) -> usize {
        let at = self.written[end];
        let bytes: Vec<u8> = (at..at + bytes).map(byte).collect();
        let taken = self.ends[end].write(&bytes).unwrap();
        self.written[end] += taken;
        taken
    }

    /// Reads all that is there, and looks at every byte.
    fn read(&mut self, end: usize) {
        let mut out = [0; 64 << 10];
        while let Ok(Some(read @ 1..)) = self.ends[end].read(&mut out) {
            let from = self.read[end];
            assert!((from..from + read).map(byte).eq(out[..read].iter().copied()));
            self.read[end] += read;
        }
    }

    /// One frame from an end to the other, if there is one.
    fn carry_one(&mut self, leg: LegId, from: usize) -> bool {
        let frame = self.ends[from].poll_transmit(leg, self.clocks[from]).map(|sent| sent.to_frame());
        let Some(frame) = frame else { return false };
        let (to, now) = (1 - from, self.clocks[1 - from]);
        match frame {
            Frame::Move(ask) => self.ends[to].handle_move(leg, &ask, now).unwrap(),
            frame => self.ends[to].handle_frame(leg, frame, now).unwrap(),
        }
        self.read(to);
        true
    }

    /// Everything that goes out on a leg arrives and is read.
    fn carry(&mut self, leg: LegId) {
        let mut all = |from| (0..).take_while(|_| self.carry_one(leg, from)).count();
        while all(OPENER) + all(ACCEPTOR) > 0 {}
    }

    /// A long load in both directions, until windows have grown.
    fn load(&mut self, leg: LegId) {
        let enough = self.written.map(|written| written + (3 << 20));
        while (0..2).any(|end| self.written[end] < enough[end]) {
            (0..2).for_each(|end| while self.write(end, 64 << 10) > 0 {});
            self.carry(leg);
        }
    }

    fn lose(&mut self, end: usize, leg: LegId) {
        self.ends[end].leg_lost(leg, LossCause::ConnectionClosed, self.clocks[end]);
    }

    /// An end sees time pass, deadline by deadline.
    fn wait(&mut self, end: usize, time: Duration) {
        let until = self.clocks[end] + time;
        while let Some(at) = self.ends[end].poll_timeout().filter(|at| *at <= until) {
            self.clocks[end] = at;
            self.ends[end].handle_timeout(at);
        }
        self.clocks[end] = until;
    }

    /// The opener brings another leg.
    fn begin_move(&mut self) -> LegId {
        let leg = LegId(self.legs);
        self.legs += 1;
        self.ends[OPENER].begin_move(leg, self.clocks[OPENER]).unwrap();
        leg
    }

    /// Both ends finish, and have everything.
    fn finish(&mut self, leg: LegId) {
        self.ends.iter_mut().for_each(Machine::finish);
        self.carry(leg);
        assert_eq!(self.read, [self.written[ACCEPTOR], self.written[OPENER]]);
        for end in &mut self.ends {
            assert!(end.is_delivered() && end.failure().is_none());
            let events: Vec<_> = std::iter::from_fn(|| end.poll_event()).collect();
            assert!(events.contains(&Event::Finished), "{events:?}");
        }
    }
}

#[test]
fn with_two_hours_of_patience_an_hour_without_a_path_loses_nothing() {
    let mut two = Two::new();
    two.load(LegId(0));
    for end in 0..2 {
        // Under way when the path dies, and lost with it.
        assert_eq!(two.write(end, 100_000), 100_000);
        while two.ends[end].poll_transmit(LegId(0), two.clocks[end]).is_some() {}
        two.lose(end, LegId(0));
        two.wait(end, HOUR);
        assert!(two.write(end, 10) > 0);
    }
    let leg = two.begin_move();
    two.carry(leg);
    two.finish(leg);
}

#[test]
fn an_hour_that_only_one_end_sees_loses_nothing() {
    for (sleeper, in_flight) in
        [(OPENER, OPENER), (OPENER, ACCEPTOR), (ACCEPTOR, OPENER), (ACCEPTOR, ACCEPTOR)]
    {
        let mut two = Two::new();
        two.load(LegId(0));
        assert_eq!(two.write(in_flight, 100_000), 100_000);
        while two.ends[in_flight].poll_transmit(LegId(0), two.clocks[in_flight]).is_some() {}
        let awake = 1 - sleeper;
        two.lose(awake, LegId(0));
        two.wait(awake, HOUR);
        if sleeper == OPENER {
            // It wakes with another address: only then its connection is gone.
            two.lose(OPENER, LegId(0));
        }
        let leg = two.begin_move();
        two.carry(leg);
        two.finish(leg);
    }
}

#[test]
fn a_patience_of_hours_ends_too() {
    let mut two = Two::new();
    for end in 0..2 {
        two.lose(end, LegId(0));
        two.wait(end, 2 * HOUR - MINUTE);
        assert_eq!(two.ends[end].failure(), None);
        two.wait(end, MINUTE);
        let failure = two.ends[end].failure();
        assert!(matches!(failure, Some(StreamError::NoPath { waited, .. }) if waited == 2 * HOUR));
    }
}

#[test]
fn a_parked_stream_gives_its_memory_back_and_takes_little_more() {
    const PARKED_BYTES_MAX: usize = 64 << 10;
    let mut two = Two::new();
    two.load(LegId(0));
    assert!(two.budgets.iter().any(|budget| budget.used() > 1 << 20), "windows have grown");
    for end in 0..2 {
        two.lose(end, LegId(0));
        let machine = &two.ends[end];
        assert_eq!((two.budgets[end].used(), machine.window_bytes()), (0, 256 << 10), "end {end}");
        let mut taken = 0;
        for _ in 0..100 {
            taken += two.write(end, 10_000);
        }
        assert_eq!(taken, PARKED_BYTES_MAX);
        two.wait(end, HOUR);
        assert_eq!(two.budgets[end].used(), 0);
        while two.ends[end].poll_event().is_some() {}
    }
    let leg = two.begin_move();
    two.carry(leg);
    for end in 0..2 {
        let writable =
            std::iter::from_fn(|| two.ends[end].poll_event()).any(|event| event == Event::Writable);
        assert!(writable, "whoever was refused is told that there is room");
    }
    two.load(leg);
    two.finish(leg);
}

#[test]
fn what_was_not_acknowledged_when_the_path_died_is_kept_and_counted() {
    let mut two = Two::new();
    two.load(LegId(0));
    let mut unacknowledged = 0;
    while let taken @ 1.. = two.write(OPENER, 64 << 10) {
        unacknowledged += taken;
    }
    assert!(unacknowledged >= 1 << 20, "{unacknowledged}");
    two.lose(OPENER, LegId(0));
    let machine = &two.ends[OPENER];
    assert_eq!(machine.retained_bytes(), unacknowledged as u64);
    assert_eq!(two.budgets[OPENER].used(), unacknowledged as u64 - (256 << 10));
    two.lose(ACCEPTOR, LegId(0));
    let leg = two.begin_move();
    two.carry(leg);
    two.finish(leg);
}

#[test]
fn a_limit_that_was_given_before_the_path_died_is_not_held_against_the_peer() {
    let mut two = Two::new();
    two.load(LegId(0));
    // The acceptor notices that the leg is gone; the opener sends on.
    two.lose(ACCEPTOR, LegId(0));
    while two.write(OPENER, 64 << 10) > 0 {}
    while two.ends[OPENER].poll_transmit(LegId(0), two.clocks[OPENER]).is_some() {}
    let leg = two.begin_move();
    two.carry(leg);
    assert_eq!(two.ends[ACCEPTOR].failure(), None);
    two.finish(leg);
    assert!(!two.ends.iter().any(|end| end.failure() == Some(StreamError::Reset { code: Code::Busy })));
}

#[test]
fn a_limit_that_arrives_late_on_the_leg_before_does_not_count() {
    let mut two = Two::new();
    two.load(LegId(0));
    // On its way when the opener notices that the leg is gone, and gives back what its window was granted.
    let limit = two.read[OPENER] as u64 + two.ends[OPENER].window_bytes();
    let late = Frame::Ack { received: two.read[OPENER] as u64, limit };
    two.lose(OPENER, LegId(0));
    let leg = two.begin_move();
    assert!(two.carry_one(leg, OPENER), "MOVE");
    two.ends[ACCEPTOR].handle_frame(LegId(0), late, two.clocks[ACCEPTOR]).unwrap();
    while two.write(ACCEPTOR, 64 << 10) > 0 {}
    two.carry(leg);
    assert_eq!(two.ends[OPENER].failure(), None);
    two.finish(leg);
}
