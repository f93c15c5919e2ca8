//! A link with a rate, a distance and a queue: how fast one stream gets, and how large.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use punchline_bridge::stream::{
    StreamId,
    budget::Budget,
    frame::Frame,
    machine::{Config, LegId, Machine, Transmit},
};

use crate::world::hello_service;

const LEG: LegId = LegId(1);

/// What a transport takes in before it pushes back.
const QUEUE_BYTES: u64 = 256 << 10;

/// One direction of a link.
struct Wire {
    bytes_per_s: u64,
    one_way: Duration,
    free_at: Instant,
    under_way: VecDeque<(Instant, Frame)>,
}

/// How a transfer went, measured after the ramp.
#[derive(Debug)]
struct Transfer {
    bytes_per_s: f64,
    window: u64,
    send_buffer: u64,
    granted: u64,
}

/// Reads up to `bytes_per_s`; `None`: as fast as it comes.
type Reader = Option<u64>;

impl Wire {
    fn new(bytes_per_s: u64, one_way: Duration, now: Instant) -> Self {
        Self { bytes_per_s, one_way, free_at: now, under_way: VecDeque::new() }
    }

    fn duration(&self, bytes: u64) -> Duration {
        Duration::from_secs_f64(bytes as f64 / self.bytes_per_s as f64)
    }

    fn takes(&self, now: Instant) -> bool {
        self.free_at.saturating_duration_since(now) < self.duration(QUEUE_BYTES)
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
        let room = (!self.takes(now)).then(|| self.free_at - self.duration(QUEUE_BYTES) / 2);
        self.under_way.front().map(|(at, _)| *at).into_iter().chain(room).min()
    }
}

fn transfer(
    mbit_per_s: u64,
    round_trip: Duration,
    reader: Reader,
    budget: u64,
    ramp: Duration,
    measured: Duration,
) -> Transfer {
    let start = Instant::now();
    let (config, budget) = (Arc::new(Config::default()), Budget::new(budget));
    let id = StreamId::from_bytes([1; 16]);
    let service = hello_service();
    let mut a = Machine::open(id, service, Bytes::new(), Arc::clone(&config), &budget, LEG, start);
    let rate = mbit_per_s * 1_000_000 / 8;
    let mut wires = [0, 1].map(|_| Wire::new(rate, round_trip / 2, start));
    let Some(Transmit::Frame(Frame::Hello(hello))) = a.poll_transmit(LEG, start) else {
        panic!("HELLO is first")
    };
    let mut now = start + round_trip / 2;
    let mut b = Machine::accept(&hello, config, &budget, LEG, now);
    let (chunk, mut out) = (vec![7; 64 << 10], vec![0; 64 << 10]);
    let (mut read, mut read_at_ramp) = (0u64, None);
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
            while machine.poll_event().is_some() {}
        }
    }
    let (since, before) = read_at_ramp.expect("the ramp is over");
    Transfer {
        bytes_per_s: (read - before) as f64 / (now - since).as_secs_f64(),
        window: b.window_bytes(),
        send_buffer: a.send_buffer_bytes(),
        granted: budget.used(),
    }
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn one_stream_fills_a_gigabit_over_a_hundred_milliseconds() {
    let far = Duration::from_millis(100);
    let run = transfer(1000, far, None, 256 << 20, 2 * SECOND, 2 * SECOND);
    println!("{run:?}, {:.1} %", run.bytes_per_s / 1.25e6);
    assert!(run.bytes_per_s >= 0.9 * 125e6, "{run:?}");
    assert!(run.window <= 16 << 20);
}

#[test]
fn a_slow_or_a_near_path_is_filled_by_a_small_window() {
    for (mbit_per_s, round_trip) in [(10, 20), (100, 10), (2, 100)] {
        let round_trip = Duration::from_millis(round_trip);
        let run = transfer(mbit_per_s, round_trip, None, 256 << 20, 4 * SECOND, 4 * SECOND);
        println!("{mbit_per_s} Mbit/s, {round_trip:?}: {run:?}");
        assert!(run.bytes_per_s >= 0.9 * mbit_per_s as f64 * 125e3, "{run:?}");
        assert!(run.window <= 1 << 20, "{run:?}");
    }
}

#[test]
fn a_slow_reader_keeps_the_window_small() {
    let far = Duration::from_millis(100);
    let run = transfer(1000, far, Some(1 << 20), 256 << 20, 2 * SECOND, 4 * SECOND);
    println!("{run:?}");
    assert!(run.window <= 512 << 10, "{run:?}");
}

#[test]
fn without_a_budget_the_window_stays_and_the_stream_runs() {
    let far = Duration::from_millis(100);
    let run = transfer(1000, far, None, 0, SECOND, SECOND);
    println!("{run:?}");
    assert_eq!((run.window, run.send_buffer, run.granted), (256 << 10, 256 << 10, 0));
    assert!(run.bytes_per_s >= 0.8 * 2.6e6, "{run:?}");
}
