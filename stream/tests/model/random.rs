//! Long runs, chance; the seed is printed where one fails.

use std::time::Duration;

use crate::world::{Script, World, tiny};
use bytes::Bytes;
use fastrand::Rng;
use punchline_stream::{
    StreamId,
    frame::{Attached, Code, Frame, Move},
    machine::Config,
};

fn script(rng: &mut Rng) -> Script {
    let window_initial = 1 << rng.u64(1..12);
    let config = Config {
        data_bytes: rng.usize(1..3000),
        early_data_bytes: rng.u64(0..=window_initial),
        window_initial,
        window_max: window_initial << rng.u64(0..4),
        buffer_near: rng.u64(0..4096),
        ack_every_bytes: rng.u64(1..4096),
        unacknowledged_max: rng.u64(0..8192),
        ack_pause: Duration::from_millis(u64::from(window_initial.trailing_zeros() % 3)),
        // Chance is slow; patience has tests of its own.
        patience: Duration::from_secs(3600),
        ..tiny()
    };
    let most = window_initial * 40;
    Script {
        bytes: [rng.u64(0..most), rng.u64(0..most)],
        write_bytes: rng.usize(1..5000),
        queue: rng.usize(1..8),
        config,
        budget: if rng.bool() { 1 << 20 } else { rng.u64(0..8192) },
        answer_after_end: rng.u8(0..4) == 0,
        room: if rng.bool() { rng.usize(0..5000) } else { 0 },
    }
}

/// A world by chance, with a log if one seed is asked for.
fn world(rng: &mut Rng) -> World {
    let world = World::new(script(rng));
    if std::env::var("SEED").is_ok() { world } else { world.quiet() }
}

/// One random thing that may happen to the path, the clock or the readers.
fn disturb(world: &mut World, rng: &mut Rng) {
    let legs = world.live_legs();
    let any = (!legs.is_empty()).then(|| legs[rng.usize(0..legs.len())]);
    match (rng.u8(0..10), any) {
        (0..=2, Some(leg)) => world.cut(leg),
        (3, Some(leg)) => world.black_hole(leg),
        (4..=6, _) if !world.ends[0].closed => drop(world.open_leg()),
        (7, _) => world.advance(Duration::from_millis(rng.u64(0..3000))),
        (8, _) => {
            let end = &mut world.ends[rng.usize(0..2)];
            end.paused = !end.paused;
        }
        (9, _) => legs.iter().for_each(|leg| world.cut(*leg)),
        _ => {}
    }
}

fn live(world: &mut World, rng: &mut Rng, steps: usize, mut each: impl FnMut(&mut World, &mut Rng)) {
    for _ in 0..steps {
        if world.is_over() {
            break;
        }
        each(world, rng);
        if world.ends[0].wants_path() && rng.u8(0..4) == 0 {
            world.open_leg();
        }
        let steps = world.steps();
        if steps.is_empty() {
            break;
        }
        // Time is the last step; it seldom comes first.
        let few = if steps.len() > 1 && rng.u8(0..20) > 0 { steps.len() - 1 } else { steps.len() };
        world.take(steps[rng.usize(0..few)]);
    }
}

fn for_each_seed(seeds: u64, test: impl Fn(u64) + std::panic::RefUnwindSafe) {
    let base = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok());
    for seed in base.map_or(0..seeds, |seed: u64| seed..seed + 1) {
        if let Err(panic) = std::panic::catch_unwind(|| test(seed)) {
            eprintln!("failed with SEED={seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

#[test]
fn two_thousand_random_lives_lose_nothing() {
    for_each_seed(2_500, |seed| {
        let mut rng = Rng::with_seed(seed);
        let mut world = world(&mut rng);
        let often = rng.u32(2..60);
        live(&mut world, &mut rng, 400, |world, rng| {
            if rng.u32(0..often) == 0 {
                disturb(world, rng);
            }
        });
        world.settle();
        world.assert_whole();
    });
}

#[test]
fn random_resets_end_both_ends_and_free_everything() {
    for_each_seed(1_000, |seed| {
        let mut rng = Rng::with_seed(seed);
        let mut world = world(&mut rng);
        let (end, at) = (rng.usize(0..2), rng.u32(0..200));
        let mut step = 0;
        live(&mut world, &mut rng, 300, |world, rng| {
            step += 1;
            if step == at {
                world.reset(end, Code::Shutdown);
            }
            if rng.u32(0..20) == 0 {
                disturb(world, rng);
            }
        });
        world.settle();
        if std::env::var("SEED").is_ok() {
            println!("{}", world.story());
        }
        world.assert_memory_is_back();
    });
}

/// A frame that a liar could make up, with numbers near those that matter.
fn lie(rng: &mut Rng) -> Frame {
    let near = |rng: &mut Rng| match rng.u8(0..8) {
        0 => u64::MAX - rng.u64(0..3),
        1 => 1 << rng.u32(0..64),
        _ => rng.u64(0..40),
    };
    let stream = StreamId::from_bytes([7; 16]);
    let epoch = if rng.bool() { rng.u32(0..5) } else { u32::MAX };
    match rng.u8(0..9) {
        0 => Frame::Move(Move { stream, epoch, received: near(rng), limit: near(rng) }),
        1 => Frame::Attached(Attached { epoch, features: 0, received: near(rng), limit: near(rng) }),
        2 => Frame::Ack { received: near(rng), limit: near(rng) },
        3 => Frame::Blocked { limit: near(rng) },
        4 => Frame::Fin { offset: near(rng) },
        5 => Frame::FinAck { offset: near(rng) },
        6 => Frame::Reset { code: Code::from(rng.u16(0..14)) },
        7 => Frame::Done,
        // Far enough out that it is never the right place for wrong bytes.
        _ => Frame::Data {
            offset: u64::MAX - rng.u64(0..70_000),
            payload: Bytes::from(vec![0; rng.usize(1..66_000).min(65_536)]),
        },
    }
}

/// Doubles, drops, swaps, invents: what a reliable leg never does.
fn lie_on(world: &mut World, rng: &mut Rng, invent: bool) {
    let legs = world.live_legs();
    if legs.is_empty() {
        return;
    }
    let (leg, to) = (legs[rng.usize(0..legs.len())], rng.usize(0..2));
    let what = rng.u8(0..if invent { 5 } else { 3 });
    let invented = lie(rng);
    let at = rng.usize(0..8);
    world.say(|| format!("lie {what} {leg:?} to {to} at {at}, {invented:?}"));
    world.tamper(leg, to, |frames| {
        let at = at.min(frames.len());
        match what {
            0 if at < frames.len() => frames.insert(at, frames[at].clone()),
            1 if at < frames.len() => drop(frames.remove(at)),
            2 if at + 1 < frames.len() => frames.swap(at, at + 1),
            3 | 4 => frames.insert(at, invented),
            _ => {}
        }
    });
}

#[test]
fn doubled_dropped_and_swapped_frames_never_corrupt() {
    for_each_seed(1_500, |seed| {
        let mut rng = Rng::with_seed(seed);
        let mut world = world(&mut rng);
        live(&mut world, &mut rng, 300, |world, rng| {
            if rng.u32(0..15) == 0 {
                lie_on(world, rng, false);
            }
            if rng.u32(0..40) == 0 {
                disturb(world, rng);
            }
        });
        world.settle();
        for end in 0..2 {
            let me = &world.ends[end];
            if me.finished {
                assert_eq!(me.read, world.script.bytes[1 - end], "finished without all bytes");
            }
        }
        world.assert_memory_is_back();
    });
}

#[test]
fn a_liar_ends_the_stream_at_worst() {
    for_each_seed(1_500, |seed| {
        let mut rng = Rng::with_seed(seed);
        let mut world = world(&mut rng);
        live(&mut world, &mut rng, 300, |world, rng| {
            if rng.u32(0..10) == 0 {
                lie_on(world, rng, true);
            }
        });
        world.settle();
        if std::env::var("SEED").is_ok() {
            println!("{}", world.story());
        }
        world.assert_memory_is_back();
    });
}
