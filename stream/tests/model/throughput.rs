//! A link with a rate, a distance and a queue: how fast one stream gets, and how large.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use punchline_stream::{
    StreamId,
    budget::Budget,
    frame::Frame,
    machine::{Config, Event, LegId, Machine, Transmit},
};

use crate::world::hello_service;

const LEG: LegId = LegId(1);

/// A link, the same in both directions.
#[derive(Clone, Copy, Debug)]
struct Path {
    mbit_per_s: u64,
    round_trip: Duration,
    /// What its transport takes in before it pushes back.
    queue: u64,
}

/// One direction of it.
struct Wire {
    bytes_per_s: u64,
    one_way: Duration,
    queue: u64,
    free_at: Instant,
    under_way: VecDeque<(Instant, Frame)>,
}

/// How a transfer went, measured after the ramp.
#[derive(Debug)]
struct Transfer {
    bytes_per_s: f64,
    window: u64,
    send_buffer: u64,
    /// Most that was retained at once.
    retained: u64,
    granted: u64,
}

/// Reads up to `bytes_per_s`; `None`: as fast as it comes.
type Reader = Option<u64>;

impl Path {
    fn new(mbit_per_s: u64, round_trip: Duration) -> Self {
        Self { mbit_per_s, round_trip, queue: 256 << 10 }
    }

    fn bytes_per_s(&self) -> u64 {
        self.mbit_per_s * 1_000_000 / 8
    }
}

impl Wire {
    fn new(path: Path, now: Instant) -> Self {
        Self {
            bytes_per_s: path.bytes_per_s(),
            one_way: path.round_trip / 2,
            queue: path.queue,
            free_at: now,
            under_way: VecDeque::new(),
        }
    }

    fn duration(&self, bytes: u64) -> Duration {
        Duration::from_secs_f64(bytes as f64 / self.bytes_per_s as f64)
    }

    fn takes(&self, now: Instant) -> bool {
        self.free_at.saturating_duration_since(now) < self.duration(self.queue)
    }

    fn send(&mut self, frame: Frame, now: Instant) {
        let payload = if let Frame::Data { payload, .. } = &frame { payload.len() } else { 0 };
        self.free_at = self.free_at.max(now) + self.duration(payload as u64 + 20);
        self.under_way.push_back((self.free_at + self.one_way, frame));
    }

    fn arrived(&mut self, now: Instant) -> Option<Frame> {
        let (at, _) = self.under_way.front()?;
        if *at > now {
            return None;
        }
        self.under_way.pop_front().map(|(_, frame)| frame)
    }

    fn next(&self, now: Instant) -> Option<Instant> {
        let room = (!self.takes(now)).then(|| self.free_at - self.duration(self.queue) / 2);
        self.under_way.front().map(|(at, _)| *at).into_iter().chain(room).min()
    }
}

fn transfer(path: Path, reader: Reader, budget: u64, ramp: Duration, measured: Duration) -> Transfer {
    let start = Instant::now();
    let (config, budget) = (Arc::new(Config::default()), Budget::new(budget));
    let id = StreamId::from_bytes([1; 16]);
    let service = hello_service();
    let mut a = Machine::open(id, service, Bytes::new(), Arc::clone(&config), &budget, LEG, start);
    let mut wires = [0, 1].map(|_| Wire::new(path, start));
    let Some(Transmit::Frame(Frame::Hello(hello))) = a.poll_transmit(LEG, start) else {
        panic!("HELLO is first")
    };
    let mut now = start + path.round_trip / 2;
    let mut b = Machine::accept(&hello, config, &budget, LEG, now);
    let (chunk, mut out) = (vec![7; 64 << 10], vec![0; 64 << 10]);
    let (mut read, mut read_at_ramp, mut retained) = (0u64, None, 0);
    while now < start + ramp + measured {
        while a.write(&chunk).unwrap() > 0 {}
        loop {
            let allowed = reader
                .map_or(u64::MAX, |rate| ((now - start).as_secs_f64() * rate as f64) as u64 - read);
            let most = out.len().min(allowed as usize);
            let Some(n @ 1..) = b.read(&mut out[..most]).unwrap() else {
                break;
            };
            read += n as u64;
        }
        if now >= start + ramp {
            read_at_ramp.get_or_insert((now, read));
            retained = retained.max(a.retained_bytes());
        }
        for (machine, wire) in [(&mut a, 0), (&mut b, 1)] {
            if machine.poll_timeout().is_some_and(|at| at <= now) {
                machine.handle_timeout(now);
            }
            while wires[wire].takes(now) {
                let Some(frame) = machine.poll_transmit(LEG, now).map(|sent| sent.to_frame()) else {
                    break;
                };
                wires[wire].send(frame, now);
            }
        }
        let pace = reader.map(|_| now + Duration::from_millis(5));
        let timeouts = [a.poll_timeout(), b.poll_timeout(), pace];
        let next = timeouts.into_iter().chain(wires.iter().map(|wire| wire.next(now)));
        now = next.flatten().min().expect("something is under way").max(now);
        now += Duration::from_nanos(1);
        for (machine, wire) in [(&mut b, 0), (&mut a, 1)] {
            while let Some(frame) = wires[wire].arrived(now) {
                machine.handle_frame(LEG, frame, now).unwrap();
            }
            while let Some(event) = machine.poll_event() {
                let room = event == Event::Writable;
                assert!(!room || machine.write(&chunk).unwrap() > 0, "told of room where there is none");
            }
        }
    }
    let (since, before) = read_at_ramp.expect("the ramp is over");
    Transfer {
        bytes_per_s: (read - before) as f64 / (now - since).as_secs_f64(),
        window: b.window_bytes(),
        send_buffer: a.send_buffer_bytes(),
        retained,
        granted: budget.used(),
    }
}

const SECOND: Duration = Duration::from_secs(1);
const FAR: Duration = Duration::from_millis(100);

#[test]
fn one_stream_fills_a_gigabit_over_a_hundred_milliseconds() {
    let run = transfer(Path::new(1000, FAR), None, 256 << 20, 2 * SECOND, 2 * SECOND);
    println!("{run:?}, {:.1} %", run.bytes_per_s / 1.25e6);
    assert!(run.bytes_per_s >= 0.9 * 125e6, "{run:?}");
    assert!(run.window <= 16 << 20);
}

#[test]
fn a_slow_or_a_near_path_is_filled_by_a_small_window() {
    for (mbit_per_s, round_trip) in [(10, 20), (100, 10), (2, 100)] {
        let path = Path::new(mbit_per_s, Duration::from_millis(round_trip));
        let run = transfer(path, None, 256 << 20, 4 * SECOND, 4 * SECOND);
        println!("{path:?}: {run:?}");
        assert!(run.bytes_per_s >= 0.9 * path.bytes_per_s() as f64, "{run:?}");
        assert!(run.window <= 1 << 20, "{run:?}");
    }
}

#[test]
fn a_fast_path_is_filled_and_no_more_is_kept_than_its_distance_is_worth() {
    const RAMP: Duration = Duration::from_millis(300);
    // The time to an acknowledgement is a little more than the distance.
    let cases = [
        (2_500, 200, 7 << 19),
        (10_000, 200, 3 << 20),
        (10_000, 1_000, 4 << 20),
        (10_000, 8_000, 13 << 20),
    ];
    for (mbit_per_s, round_trip, most) in cases {
        // A transport that takes in all that it is given.
        let path = Path { queue: 32 << 20, ..Path::new(mbit_per_s, Duration::from_micros(round_trip)) };
        let run = transfer(path, None, 256 << 20, RAMP, RAMP);
        println!("{path:?}: {run:?}");
        assert!(run.bytes_per_s >= 0.9 * path.bytes_per_s() as f64, "{run:?}");
        assert!(run.retained <= most, "{run:?}");
        assert!(run.send_buffer < 2 * most, "no more is granted for it, {run:?}");
    }
}

#[test]
fn a_slow_reader_keeps_the_window_small() {
    let run = transfer(Path::new(1000, FAR), Some(1 << 20), 256 << 20, 2 * SECOND, 4 * SECOND);
    println!("{run:?}");
    assert!(run.window <= 512 << 10, "{run:?}");
}

#[test]
fn without_a_budget_the_window_stays_and_the_stream_runs() {
    let run = transfer(Path::new(1000, FAR), None, 0, SECOND, SECOND);
    println!("{run:?}");
    assert_eq!((run.window, run.send_buffer, run.granted), (256 << 10, 256 << 10, 0));
    assert!(run.bytes_per_s >= 0.8 * 2.6e6, "{run:?}");
}
