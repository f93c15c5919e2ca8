//! Many streams on one budget: who holds how much, for how long, and how much it is in all.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use punchline_stream::{
    StreamId,
    budget::Budget,
    frame::{Code, Frame},
    machine::{Config, Event, LegId, Machine, StreamError, Transmit},
};

use crate::world::hello_service;

const LEG: LegId = LegId(0);
const INITIAL: u64 = 4 << 10;
const MOST: u64 = 64 << 10;
/// So much that sixteen streams fill it with windows of the largest size.
const BUDGET: u64 = 16 * (MOST - INITIAL);
const TICK: Duration = Duration::from_millis(100);
const SECOND: u32 = 10;

fn config() -> Arc<Config> {
    Arc::new(Config {
        early_data_bytes: 1 << 10,
        window_initial: INITIAL,
        window_max: MOST,
        buffer_near: MOST,
        ack_every_bytes: 1 << 10,
        unacknowledged_max: 2 << 10,
        ack_pause: Duration::ZERO,
        ..Config::default()
    })
}

/// What the two programs do.
#[derive(Clone, Copy, PartialEq)]
enum Use {
    /// One writes whatever there is room for, the other reads it.
    Full,
    /// One writes, the other reads a byte at a time, once a tick.
    HardlyRead,
    /// Nobody writes, the other reads what is still there.
    Idle,
}

/// Both ends of a stream. What the far end receives is charged to the budget under test.
struct Pair {
    near: Machine,
    far: Machine,
    on: Use,
}

struct World {
    budget: Arc<Budget>,
    pairs: Vec<Pair>,
    now: Instant,
}

impl World {
    fn new() -> Self {
        Self { budget: Budget::new(BUDGET), pairs: Vec::new(), now: Instant::now() }
    }

    fn add(&mut self, streams: usize, on: Use) {
        let budget = self.budget.clone();
        (0..streams).for_each(|_| self.add_of(&budget, on));
    }

    fn add_of(&mut self, budget: &Arc<Budget>, on: Use) {
        let id = StreamId::from_bytes([self.pairs.len() as u8; 16]);
        let theirs = Budget::new(u64::MAX);
        let now = self.now;
        let mut near = Machine::open(id, hello_service(), Bytes::new(), config(), &theirs, LEG, now);
        let Some(Transmit::Frame(Frame::Hello(hello))) = near.poll_transmit(LEG, now) else {
            panic!("HELLO is first")
        };
        let far = Machine::accept(&hello, config(), budget, LEG, now);
        self.pairs.push(Pair { near, far, on });
    }

    fn run(&mut self, ticks: u32) {
        for _ in 0..ticks {
            self.now += TICK;
            let now = self.now;
            self.pairs.iter_mut().for_each(|pair| pair.tick(now));
            let held: u64 = self.pairs.iter().map(Pair::held).sum();
            let ceiling = self.pairs.len() as u64 * 2 * INITIAL + BUDGET;
            assert!(held <= ceiling, "{held} of {ceiling}");
            assert!(self.budget.used() <= BUDGET);
        }
    }

    fn windows(&self) -> Vec<u64> {
        self.pairs.iter().map(|pair| pair.far.window_bytes()).collect()
    }
}

impl Pair {
    fn tick(&mut self, now: Instant) {
        for end in [&mut self.near, &mut self.far] {
            if end.poll_timeout().is_some_and(|at| at <= now) {
                end.handle_timeout(now);
            }
        }
        // Some turns, so that windows are used and not only the first of their bytes.
        for _ in 0..4 {
            if self.on != Use::Idle {
                while self.near.write(&[7; 4 << 10]).is_ok_and(|written| written > 0) {}
            }
            let eager = self.on != Use::HardlyRead;
            carry(&mut self.near, &mut self.far, now, |far| {
                if eager {
                    read(far, MOST as usize)
                }
            });
            carry(&mut self.far, &mut self.near, now, |_| {});
        }
        read(&mut self.far, if self.on == Use::HardlyRead { 1 } else { MOST as usize });
    }

    /// Payload that the far end holds.
    fn held(&self) -> u64 {
        self.far.buffered_bytes() + self.far.retained_bytes()
    }
}

fn read(machine: &mut Machine, bytes: usize) {
    // One that failed says so, and has nothing more.
    let _ = machine.read(&mut vec![0; bytes]);
}

/// What goes out at one end arrives at the other, which acts on each frame.
fn carry(from: &mut Machine, to: &mut Machine, now: Instant, mut act: impl FnMut(&mut Machine)) {
    while let Some(frame) = from.poll_transmit(LEG, now).map(|sent| sent.to_frame()) {
        to.handle_frame(LEG, frame, now).unwrap();
        act(to);
    }
    while let Some(event) = from.poll_event() {
        assert!(!matches!(event, Event::Failed(StreamError::Violation(_))), "{event:?}");
    }
}

#[test]
fn sixteen_greedy_streams_do_not_hold_it_all_and_a_newcomer_has_its_share_within_seconds() {
    let mut world = World::new();
    world.add(16, Use::Full);
    world.run(5 * SECOND);
    assert_eq!(world.budget.used(), BUDGET, "they hold it all while nobody else wants some");
    world.add(1, Use::Full);
    world.run(5 * SECOND);
    let windows = world.windows();
    assert!(windows[16] >= MOST / 2, "{windows:?}");
    assert!(windows.iter().all(|window| *window >= MOST / 2), "nobody is starved for it: {windows:?}");
}

#[test]
fn what_an_idle_stream_holds_goes_back_at_once_under_pressure_and_soon_without() {
    let mut world = World::new();
    world.add(16, Use::Full);
    world.run(5 * SECOND);
    world.pairs.iter_mut().for_each(|pair| pair.on = Use::Idle);
    world.run(10 * SECOND);
    assert_eq!(world.budget.used(), BUDGET, "a stream that pauses keeps its window");
    world.add(1, Use::Full);
    world.run(6 * SECOND);
    assert_eq!(world.windows()[16], MOST);
    world.pairs[16].on = Use::Idle;
    world.run(35 * SECOND);
    assert_eq!((world.budget.used(), world.pairs[0].far.window_bytes()), (0, INITIAL));
    // A stream that fell back grows again.
    world.pairs[0].on = Use::Full;
    world.run(2 * SECOND);
    assert_eq!(world.pairs[0].far.window_bytes(), MOST);
}

#[test]
fn streams_that_are_hardly_read_lose_what_others_need_after_a_while_and_are_told_why() {
    let mut world = World::new();
    world.add(16, Use::Full);
    world.run(5 * SECOND);
    world.pairs.iter_mut().for_each(|pair| pair.on = Use::HardlyRead);
    world.run(60 * SECOND);
    assert!(world.pairs.iter().all(|pair| pair.far.failure().is_none()), "while nobody needs it");
    world.add(1, Use::Full);
    world.run(40 * SECOND);
    assert_eq!(world.windows()[16], MOST);
    let busy = |failure| matches!(failure, Some(StreamError::PeerReset { code: Code::Busy }));
    assert!(world.pairs[..16].iter().any(|pair| busy(pair.near.failure())));
    assert!(world.pairs[16].far.failure().is_none());
}

#[test]
fn an_attack_reaches_the_ceiling_and_does_not_pass_it() {
    let mut world = World::new();
    // Greedy readers first: windows grow only where somebody reads. Then nobody does.
    world.add(16, Use::Full);
    world.run(5 * SECOND);
    world.pairs.iter_mut().for_each(|pair| pair.on = Use::HardlyRead);
    world.add(100, Use::HardlyRead);
    world.run(SECOND);
    let held: u64 = world.pairs.iter().map(Pair::held).sum();
    // Nothing is sent at that end, and so only half of what the streams have beside the budget is used.
    let reached = 116 * INITIAL + BUDGET;
    assert!(held >= reached * 9 / 10, "{held} of {reached}");
    world.run(60 * SECOND);
}

#[test]
fn a_peer_with_many_streams_leaves_a_peer_with_one_its_share() {
    let mut world = World::new();
    let [many, one] = [0; 2].map(|_| world.budget.share(BUDGET));
    (0..50).for_each(|_| world.add_of(&many, Use::Full));
    world.run(5 * SECOND);
    world.add_of(&one, Use::Full);
    world.run(5 * SECOND);
    assert_eq!(world.windows()[50], MOST, "{} used by many", many.used());
}

/// Both ends of a stream whose far window has grown, was used, and is asked to fall back.
fn lowering() -> (World, u64) {
    let mut world = World::new();
    world.add(1, Use::Full);
    world.run(5 * SECOND);
    let Pair { near, far, on } = &mut world.pairs[0];
    *on = Use::Idle;
    carry(near, far, world.now, |far| read(far, MOST as usize));
    carry(far, near, world.now, |_| {});
    world.now += 40 * TICK * SECOND;
    // Two looks: the first one sees how far the stream is.
    for _ in 0..2 {
        far.handle_timeout(world.now);
        world.now += 40 * TICK * SECOND;
    }
    let lower = far.poll_transmit(LEG, world.now).map(|sent| sent.to_frame());
    let Some(Frame::Lower { limit }) = lower else { panic!("{lower:?}") };
    (world, limit)
}

#[test]
fn what_was_sent_before_a_limit_was_lowered_is_taken_and_what_was_allowed_since_counts() {
    let (mut world, limit) = lowering();
    let (now, Pair { near, far, .. }) = (world.now, &mut world.pairs[0]);
    // Under way when LOWER comes: more than it would allow.
    while near.write(&[7; 4 << 10]).is_ok_and(|written| written > 0) {}
    let sent: Vec<Frame> =
        std::iter::from_fn(|| near.poll_transmit(LEG, now).map(|sent| sent.to_frame())).collect();
    near.handle_frame(LEG, Frame::Lower { limit }, now).unwrap();
    let answer = near.poll_transmit(LEG, now).map(|sent| sent.to_frame());
    let Some(Frame::Lowered { limit: kept }) = answer else { panic!("{answer:?}") };
    assert!(kept > limit, "it keeps to what it has sent");
    for frame in sent {
        far.handle_frame(LEG, frame, now).unwrap();
        read(far, MOST as usize);
    }
    carry(far, near, now, |_| {});
    far.handle_frame(LEG, Frame::Lowered { limit: kept }, now).unwrap();
    assert_eq!((far.failure(), world.budget.used()), (None, 0));
    world.pairs[0].on = Use::Full;
    world.run(5 * SECOND);
    assert_eq!((world.windows()[0], world.pairs[0].far.failure()), (MOST, None));
}

#[test]
fn a_limit_that_was_not_asked_for_or_cannot_be_is_a_violation() {
    for (asked, limit) in [(false, 5), (true, u64::MAX), (true, 0)] {
        let mut world = if asked { lowering().0 } else { World::new() };
        if !asked {
            world.add(1, Use::Full);
            world.run(SECOND);
        }
        let far = &mut world.pairs[0].far;
        far.handle_frame(LEG, Frame::Lowered { limit }, world.now).unwrap_err();
        assert!(matches!(far.failure(), Some(StreamError::Violation(_))));
    }
}
