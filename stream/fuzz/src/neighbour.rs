//! A stream that shares the process with one under attack.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use punchline_stream::{
    Service, StreamId,
    budget::Budget,
    frame::Frame,
    machine::{Config, LegId, Machine, Transmit},
};

/// What it carries: several initial windows, so that credit flows.
const BYTES: usize = 4_000;

/// Far more turns than that takes.
const TURNS_MAX: usize = 1_000;

const LEG: LegId = LegId(0);

/// Carries some bytes one way and ends, on what the budget has left. Panics if it cannot.
pub fn talk(config: &Arc<Config>, budget: &Arc<Budget>, now: Instant) {
    let service = Service::new("grpc").expect("a valid name");
    let id = StreamId::from_bytes([8; 16]);
    let mut near = Machine::open(id, service, Bytes::new(), config.clone(), budget, LEG, now);
    let Some(Transmit::Frame(Frame::Hello(hello))) = near.poll_transmit(LEG, now) else {
        panic!("no HELLO")
    };
    let mut far = Machine::accept(&hello, config.clone(), budget, LEG, now);
    let (mut unwritten, mut arrived, mut ended) = (BYTES, 0, false);
    for _ in 0..TURNS_MAX {
        if unwritten > 0 {
            unwritten -= near.write(&vec![1; unwritten]).expect("it lives");
        } else {
            near.finish();
        }
        carry(&mut near, &mut far, now);
        match far.read(&mut [0; 700]).expect("it lives") {
            Some(0) => ended = true,
            read => arrived += read.unwrap_or(0),
        }
        carry(&mut far, &mut near, now);
        if ended && near.is_delivered() {
            return assert_eq!(arrived, BYTES);
        }
    }
    panic!("a neighbour stands still after {arrived} bytes");
}

fn carry(from: &mut Machine, to: &mut Machine, now: Instant) {
    while let Some(frame) = from.poll_transmit(LEG, now).map(|sent| sent.to_frame()) {
        to.handle_frame(LEG, frame, now).expect("no violation");
    }
}
