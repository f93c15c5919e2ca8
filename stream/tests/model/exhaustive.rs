//! Short runs, every choice: all orders of delivery with losses and moves among them, and every
//! pair of incidents at every two moments of a run.

use crate::world::{ACCEPTOR, OPENER, Script, Step, World};
use punchline_stream::{frame::Code, machine::StreamError};

/// An odometer over sequences of choices.
#[derive(Default)]
struct Choices {
    /// Chosen, and out of how many.
    taken: Vec<(usize, usize)>,
    at: usize,
}

impl Choices {
    fn choose(&mut self, among: usize) -> usize {
        if self.at == self.taken.len() {
            self.taken.push((0, among));
        }
        let (chosen, _) = self.taken[self.at];
        self.at += 1;
        chosen
    }

    /// To the next sequence; false when all were seen.
    fn advance(&mut self) -> bool {
        self.at = 0;
        while let Some((chosen, among)) = self.taken.pop() {
            if chosen + 1 < among {
                self.taken.push((chosen + 1, among));
                return true;
            }
        }
        false
    }
}

/// Every order of up to `depth` steps with up to `incidents` cuts and moves among them, from
/// after `skip` steps of the plain run.
fn all_orders(script: &Script, skip: usize, depth: usize, incidents: usize) -> usize {
    let (mut choices, mut runs) = (Choices::default(), 0);
    loop {
        let mut world = World::new(script.clone());
        for _ in 0..skip {
            let step = world.steps()[0];
            world.take(step);
        }
        let mut incidents_left = incidents;
        for _ in 0..depth {
            if world.is_over() {
                break;
            }
            let steps = world.steps();
            // Time passes by itself only where nothing else can happen.
            let ticks = usize::from(steps.last() == Some(&Step::Tick));
            let plain = if steps.len() > ticks { steps.len() - ticks } else { steps.len() };
            let legs = if incidents_left > 0 { world.live_legs() } else { Vec::new() };
            let moves = usize::from(incidents_left > 0);
            let chosen = choices.choose((plain + legs.len() + moves).max(1));
            if chosen < plain {
                world.take(steps[chosen]);
            } else {
                incidents_left = incidents_left.saturating_sub(1);
                match legs.get(chosen - plain) {
                    Some(leg) => world.cut(*leg),
                    None => drop(world.open_leg()),
                }
            }
        }
        world.settle();
        world.assert_whole();
        runs += 1;
        if !choices.advance() {
            return runs;
        }
    }
}

#[test]
fn the_bytes_out_are_the_bytes_in_whatever_the_order_at_the_start() {
    let runs = all_orders(&Script::default(), 0, 8, 2);
    println!("{runs} runs");
    assert!(runs > 10_000);
}

#[test]
fn the_bytes_out_are_the_bytes_in_whatever_the_order_in_the_middle() {
    let runs = all_orders(&Script::default(), 6, 8, 2);
    println!("{runs} runs");
    assert!(runs > 5_000);
}

#[test]
fn the_bytes_out_are_the_bytes_in_whatever_the_order_past_the_machines() {
    for skip in [0, 6] {
        let runs = all_orders(&Script { room: 2, ..Script::default() }, skip, 8, 2);
        println!("{runs} runs");
        assert!(runs > 3_000);
    }
}

#[test]
fn the_bytes_out_are_the_bytes_in_whatever_the_order_at_the_end() {
    let script = Script { bytes: [1, 0], answer_after_end: true, ..Script::default() };
    let runs = all_orders(&script, 3, 7, 2);
    println!("{runs} runs");
    assert!(runs > 3_000);
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Incident {
    CutNewest,
    CutOldest,
    CutAll,
    BlackHoleNewest,
    BlackHoleAll,
    Move,
    MoveAndCutOld,
    MoveTwice,
    Tick,
    Reset(usize),
}

const PATHS: [Incident; 9] = [
    Incident::CutNewest,
    Incident::CutOldest,
    Incident::CutAll,
    Incident::BlackHoleNewest,
    Incident::BlackHoleAll,
    Incident::Move,
    Incident::MoveAndCutOld,
    Incident::MoveTwice,
    Incident::Tick,
];

impl Incident {
    fn strike(self, world: &mut World) {
        let legs = world.live_legs();
        match self {
            Self::CutNewest => legs.last().into_iter().for_each(|leg| world.cut(*leg)),
            Self::CutOldest => legs.first().into_iter().for_each(|leg| world.cut(*leg)),
            Self::CutAll => legs.iter().for_each(|leg| world.cut(*leg)),
            Self::BlackHoleNewest => {
                legs.last().into_iter().for_each(|leg| world.black_hole(*leg));
            }
            Self::BlackHoleAll => legs.iter().for_each(|leg| world.black_hole(*leg)),
            Self::Move => drop(world.open_leg()),
            Self::MoveAndCutOld => {
                world.open_leg();
                legs.iter().for_each(|leg| world.cut(*leg));
            }
            Self::MoveTwice => {
                world.open_leg();
                world.open_leg();
            }
            Self::Tick => {
                if world.next_deadline().is_some() {
                    world.take(Step::Tick);
                }
            }
            Self::Reset(end) => world.reset(end, Code::Cancelled),
        }
    }
}

/// The plain run with incidents at the given moments.
fn run_with(script: &Script, incidents: &[(usize, Incident)]) -> World {
    let mut world = World::new(script.clone());
    let last = incidents.iter().map(|(at, _)| *at).max().unwrap_or(0);
    for moment in 0..=last {
        for (_, incident) in incidents.iter().filter(|(at, _)| *at == moment) {
            incident.strike(&mut world);
        }
        if world.ends[OPENER].wants_path() {
            world.open_leg();
        }
        let steps = world.steps();
        // Round robin, so that both directions and all legs take turns.
        let plain: Vec<_> = steps.iter().filter(|step| **step != Step::Tick).collect();
        match (plain.is_empty(), steps.last()) {
            (false, _) => world.take(*plain[moment % plain.len()]),
            (true, Some(tick)) if !world.is_over() => world.take(*tick),
            _ => {}
        }
    }
    world.settle();
    world
}

fn moments(script: &Script) -> usize {
    let mut world = World::new(script.clone());
    for moment in 0.. {
        let steps = world.steps();
        if world.is_over() || steps.is_empty() {
            return moment;
        }
        let plain: Vec<_> = steps.iter().filter(|step| **step != Step::Tick).collect();
        let step = if plain.is_empty() { steps[0] } else { *plain[moment % plain.len()] };
        world.take(step);
    }
    unreachable!("a run ends")
}

#[test]
fn any_two_incidents_at_any_two_moments_lose_nothing() {
    any_two_incidents(&Script { bytes: [5, 4], ..Script::default() });
}

#[test]
fn any_two_incidents_at_any_two_moments_lose_nothing_past_the_machines() {
    any_two_incidents(&Script { bytes: [5, 4], room: 2, ..Script::default() });
}

fn any_two_incidents(script: &Script) {
    let (moments, mut runs) = (moments(script), 0);
    for first in 0..moments {
        for second in first..moments + 4 {
            for one in PATHS {
                for two in PATHS {
                    run_with(script, &[(first, one), (second, two)]).assert_whole();
                    runs += 1;
                }
            }
        }
    }
    println!("{moments} moments, {runs} runs");
    assert!(runs > 10_000);
}

#[test]
fn a_half_closed_stream_loses_nothing_in_any_incident() {
    for bytes in [[0, 0], [0, 4], [4, 0]] {
        let script = Script { bytes, answer_after_end: true, ..Script::default() };
        for at in 0..moments(&script) + 2 {
            for one in PATHS {
                for two in PATHS {
                    run_with(&script, &[(at, one), (at + 2, two)]).assert_whole();
                }
            }
        }
    }
}

#[test]
fn a_reset_at_any_moment_reaches_the_peer_through_any_incident() {
    let script = Script { bytes: [5, 4], ..Script::default() };
    let moments = moments(&script);
    for end in [OPENER, ACCEPTOR] {
        for at in 0..moments {
            for incident in PATHS {
                for before in [0, 1] {
                    let other = (at + 1).saturating_sub(2 * before);
                    let strikes = [(at, Incident::Reset(end)), (other, incident)];
                    assert_reset(run_with(&script, &strikes), end);
                }
            }
        }
    }
}

/// Each end finished before it heard, or failed with the code.
fn assert_reset(mut world: World, by: usize) {
    let code = Code::Cancelled;
    let log = world.story();
    for end in 0..2 {
        let me = &world.ends[end];
        let allowed = match me.failed {
            None => me.finished || me.machine.is_none(),
            Some(StreamError::Reset { code: c }) => end == by && c == code,
            Some(StreamError::PeerReset { code: c } | StreamError::Refused { code: c }) => {
                end != by && c == code
            }
            Some(_) => false,
        };
        assert!(allowed, "end {end}, reset by {by}: {:?} after\n{log}", me.failed);
    }
    world.assert_memory_is_back();
}
