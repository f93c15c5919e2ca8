//! Two machines, the links between them, and a small driver for each: what the real driver does,
//! without I/O. Nothing moves unless told to; time is virtual.

mod driver;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use bytes::Bytes;
use punchline_stream::{
    Service, StreamId,
    budget::Budget,
    frame::{Code, Frame},
    machine::{Config, Event, Farewell, LegId, LossCause, Machine, Moved, StreamError},
};

/// When a connection notices that its path is a black hole.
const IDLE_DEATH: Duration = Duration::from_secs(20);

pub(crate) const OPENER: usize = 0;
pub(crate) const ACCEPTOR: usize = 1;

/// What the two programs do, and with which settings.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    /// Bytes that each end writes before it finishes.
    pub(crate) bytes: [u64; 2],
    /// Largest single write.
    pub(crate) write_bytes: usize,
    /// Frames that a link takes in each direction before it pushes back.
    pub(crate) queue: usize,
    pub(crate) config: Config,
    pub(crate) budget: u64,
    /// The acceptor finishes only after it saw the end of the other direction.
    pub(crate) answer_after_end: bool,
    /// What a reader takes past its machine of one frame; unless 0, writes go out at once where they may.
    pub(crate) room: usize,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            bytes: [3, 2],
            write_bytes: 2,
            queue: 2,
            config: tiny(),
            budget: 1 << 20,
            answer_after_end: false,
            room: 0,
        }
    }
}

/// Settings with which a few bytes meet every limit.
pub(crate) fn tiny() -> Config {
    Config {
        data_bytes: 2,
        early_data_bytes: 1,
        window_initial: 2,
        window_max: 8,
        ack_every_bytes: 2,
        ack_pause: Duration::ZERO,
        ..Config::default()
    }
}

pub(crate) struct End {
    pub(crate) machine: Option<Machine>,
    pub(crate) tombstone: Option<Farewell>,
    pub(crate) written: u64,
    pub(crate) read: u64,
    pub(crate) saw_end: bool,
    pub(crate) paused: bool,
    pub(crate) finished: bool,
    pub(crate) failed: Option<StreamError>,
    pub(crate) closed: bool,
    pub(crate) moved: Vec<Moved>,
    pub(crate) move_failed: Vec<LossCause>,
    pub(crate) need_path: Option<Instant>,
    pub(crate) events: Vec<Event>,
}

#[derive(Debug)]
enum Item {
    Frame(Frame),
    End,
}

/// One leg: two ordered pipes.
#[derive(Debug, Default)]
pub(crate) struct Link {
    /// By sender.
    pipes: [VecDeque<Item>; 2],
    /// Each end still uses it.
    uses: [bool; 2],
    /// Broken: what is written vanishes; each end that uses it is yet to notice.
    pub(crate) cut: bool,
    /// What is written vanishes, and nobody notices.
    pub(crate) black_hole: bool,
    /// The acceptor has seen the first frame.
    greeted: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// The oldest frame on a leg reaches an end.
    Deliver { leg: LegId, to: usize },
    /// An end notices that a leg was cut.
    Notice { leg: LegId, at: usize },
    /// Time jumps to the next deadline.
    Tick,
}

pub(crate) struct World {
    /// How long a leg that is used has been a black hole, in ticks.
    hollow: Duration,
    pub(crate) start: Instant,
    pub(crate) now: Instant,
    pub(crate) ends: [End; 2],
    pub(crate) links: BTreeMap<LegId, Link>,
    pub(crate) budgets: [Arc<Budget>; 2],
    pub(crate) script: Script,
    /// What happened, if it is kept.
    log: Option<Vec<String>>,
    next_leg: u64,
}

/// The bytes that an end writes at an offset: the same pattern shifted, never periodic within
/// the length of a test.
fn bytes(from: usize, offset: u64, length: usize) -> &'static [u8] {
    static PATTERN: OnceLock<Vec<u8>> = OnceLock::new();
    let byte = |at: u64| (at.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8;
    let pattern = PATTERN.get_or_init(|| (0..1 << 20).map(byte).collect());
    &pattern[offset as usize + 1000 * from..][..length]
}

pub(crate) fn hello_service() -> Service {
    Service::new("grpc").unwrap()
}

impl World {
    pub(crate) fn new(script: Script) -> Self {
        let now = Instant::now();
        let budgets = [Budget::new(script.budget), Budget::new(script.budget)];
        let leg = LegId(1);
        let opener = Machine::open(
            StreamId::from_bytes([7; 16]),
            hello_service(),
            Bytes::new(),
            Arc::new(script.config.clone()),
            &budgets[OPENER],
            leg,
            now,
        );
        let mut world = Self {
            start: now,
            now,
            ends: [End::new(Some(opener)), End::new(None)],
            links: BTreeMap::from([(leg, Link { uses: [true, true], ..Link::default() })]),
            budgets,
            hollow: Duration::ZERO,
            script,
            log: Some(Vec::new()),
            next_leg: 2,
        };
        world.pump();
        world
    }

    /// Keeps no log, which is slow.
    pub(crate) fn quiet(mut self) -> Self {
        self.log = None;
        self
    }

    /// Adds to the log.
    pub(crate) fn say(&mut self, line: impl FnOnce() -> String) {
        note(&mut self.log, line);
    }

    /// What happened so far.
    pub(crate) fn story(&self) -> String {
        self.log.as_ref().map_or_else(String::new, |log| log.join("\n"))
    }

    pub(crate) fn machine(&mut self, end: usize) -> &mut Machine {
        self.ends[end].machine.as_mut().expect("the end exists")
    }

    /// What can happen now. `Tick` comes last, if a deadline is set.
    pub(crate) fn steps(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        for (&leg, link) in &self.links {
            for to in [OPENER, ACCEPTOR] {
                if link.cut && link.uses[to] {
                    steps.push(Step::Notice { leg, at: to });
                } else if link.uses[to] && !link.pipes[1 - to].is_empty() && !link.black_hole {
                    steps.push(Step::Deliver { leg, to });
                }
            }
        }
        if self.next_deadline().is_some() || self.is_hollow() {
            steps.push(Step::Tick);
        }
        steps
    }

    /// A leg that is still used is a black hole.
    fn is_hollow(&self) -> bool {
        self.links.values().any(|l| l.black_hole && !l.cut && (l.uses[0] || l.uses[1]))
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let machines = self.ends.iter().filter_map(|end| end.machine.as_ref());
        machines.filter_map(Machine::poll_timeout).min()
    }

    pub(crate) fn take(&mut self, step: Step) {
        note(&mut self.log, || format!("{step:?}"));
        match step {
            Step::Deliver { leg, to } => self.deliver(leg, to),
            Step::Notice { leg, at } => self.notice(leg, at, LossCause::ConnectionClosed),
            // A path that is asked for is there before time passes.
            Step::Tick if self.ends[OPENER].wants_path() => drop(self.open_leg()),
            // The connection under an idle leg notices its death, later than the stream would.
            Step::Tick
                if self.is_hollow()
                    && self
                        .next_deadline()
                        .is_none_or(|at| at > self.now + IDLE_DEATH - self.hollow) =>
            {
                self.now += IDLE_DEATH - std::mem::take(&mut self.hollow);
                self.links.values_mut().for_each(|link| link.cut |= link.black_hole);
            }
            Step::Tick => {
                let deadline = self.next_deadline().expect("a deadline is set");
                let by = deadline.saturating_duration_since(self.now);
                self.hollow = if self.is_hollow() { self.hollow + by } else { Duration::ZERO };
                // What is under way arrives before a patience is lost.
                let idle = self.steps() == [Step::Tick];
                self.advance(if idle { by } else { by.min(Duration::from_secs(3)) });
            }
        }
        self.pump();
        self.check();
    }

    pub(crate) fn advance(&mut self, by: Duration) {
        self.now += by;
        for end in 0..2 {
            let now = self.now;
            if let Some(machine) = &mut self.ends[end].machine
                && machine.poll_timeout().is_some_and(|deadline| deadline <= now)
            {
                machine.handle_timeout(now);
            }
        }
        self.pump();
        self.check();
    }

    /// The opener opens another substream and moves to it.
    pub(crate) fn open_leg(&mut self) -> LegId {
        let leg = LegId(self.next_leg);
        self.next_leg += 1;
        note(&mut self.log, || format!("open {leg:?}"));
        let now = self.now;
        self.ends[OPENER].need_path = None;
        if self.machine(OPENER).begin_move(leg, now).is_ok() {
            self.links.insert(leg, Link { uses: [true, true], ..Link::default() });
        }
        self.pump();
        leg
    }

    pub(crate) fn cut(&mut self, leg: LegId) {
        note(&mut self.log, || format!("cut {leg:?}"));
        if let Some(link) = self.links.get_mut(&leg) {
            link.cut = true;
            link.pipes = Default::default();
        }
    }

    pub(crate) fn black_hole(&mut self, leg: LegId) {
        note(&mut self.log, || format!("black hole {leg:?}"));
        if let Some(link) = self.links.get_mut(&leg) {
            link.black_hole = true;
        }
    }

    pub(crate) fn reset(&mut self, end: usize, code: Code) {
        note(&mut self.log, || format!("reset by {end}"));
        let now = self.now;
        if let Some(machine) = &mut self.ends[end].machine {
            machine.reset(code, now);
        }
        self.pump();
    }

    pub(crate) fn live_legs(&self) -> Vec<LegId> {
        let live = self.links.iter().filter(|(_, l)| !l.cut && !l.black_hole);
        live.filter(|(_, l)| l.uses[0] || l.uses[1]).map(|(leg, _)| *leg).collect()
    }

    /// Frames under way to an end, oldest first: the attacker's hand.
    pub(crate) fn tamper(&mut self, leg: LegId, to: usize, with: impl FnOnce(&mut Vec<Frame>)) {
        let Some(link) = self.links.get_mut(&leg) else {
            return;
        };
        let pipe = &mut link.pipes[1 - to];
        let ended = matches!(pipe.back(), Some(Item::End));
        let mut frames: Vec<Frame> = pipe
            .drain(..)
            .filter_map(|item| if let Item::Frame(frame) = item { Some(frame) } else { None })
            .collect();
        with(&mut frames);
        pipe.extend(frames.into_iter().map(Item::Frame));
        if ended {
            pipe.push_back(Item::End);
        }
    }

    /// What holds at every moment.
    pub(crate) fn check(&self) {
        for (index, end) in self.ends.iter().enumerate() {
            let Some(machine) = &end.machine else {
                continue;
            };
            assert!(machine.retained_bytes() <= machine.send_buffer_bytes());
            assert!(machine.buffered_bytes() <= machine.window_bytes());
            assert!(machine.window_bytes() <= self.script.config.window_max);
            assert!(machine.send_buffer_bytes() <= self.script.config.window_max);
            assert!(self.budgets[index].used() <= self.script.budget);
            assert!(end.read <= self.ends[1 - index].written, "read what was never written");
            assert!(!(end.finished && end.failed.is_some()), "both finished and failed");
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.ends.iter().all(|end| end.machine.is_none() || end.closed)
    }

    /// Everything is delivered, paths are given when asked for, until both ends are closed.
    pub(crate) fn settle(&mut self) {
        for end in &mut self.ends {
            end.paused = false;
        }
        self.pump();
        for _ in 0..100_000 {
            if self.is_over() {
                return self.pump();
            }
            if self.ends[OPENER].wants_path() {
                // A liar may have made every epoch stale; nobody asks again and again at once.
                if matches!(self.ends[OPENER].move_failed.last(), Some(LossCause::Refused { .. })) {
                    self.advance(Duration::from_secs(60));
                }
                if self.ends[OPENER].wants_path() {
                    self.open_leg();
                }
                continue;
            }
            let Some(&step) = self.steps().first() else {
                if self.ends[ACCEPTOR].machine.is_none() {
                    return;
                }
                panic!("deadlock after\n{}", self.story());
            };
            self.take(step);
        }
        panic!("no end after\n{}", self.story());
    }

    /// After [`World::settle`]: every byte arrived, both ends know, all memory is back.
    pub(crate) fn assert_whole(&mut self) {
        for end in 0..2 {
            let me = &self.ends[end];
            assert_eq!(me.failed, None, "end {end} after\n{}", self.story());
            assert!(me.finished && me.closed && me.saw_end, "end {end} is not finished");
            assert_eq!(me.read, self.script.bytes[1 - end], "bytes to end {end}");
        }
        self.assert_memory_is_back();
    }

    /// Both ends are over: nothing is retained, nothing granted.
    pub(crate) fn assert_memory_is_back(&mut self) {
        for end in 0..2 {
            if let Some(machine) = &self.ends[end].machine {
                assert_eq!(machine.retained_bytes(), 0);
                if self.ends[end].saw_end || self.ends[end].failed.is_some() {
                    assert_eq!(self.budgets[end].used(), 0, "granted to end {end}");
                }
            }
            self.ends[end].machine = None;
            assert_eq!(self.budgets[end].used(), 0);
        }
    }
}

impl End {
    pub(crate) fn wants_path(&self) -> bool {
        self.need_path.is_some() && !self.closed
    }

    fn new(machine: Option<Machine>) -> Self {
        Self {
            machine,
            tombstone: None,
            written: 0,
            read: 0,
            saw_end: false,
            paused: false,
            finished: false,
            failed: None,
            closed: false,
            moved: Vec::new(),
            move_failed: Vec::new(),
            need_path: None,
            events: Vec::new(),
        }
    }
}

fn note(log: &mut Option<Vec<String>>, line: impl FnOnce() -> String) {
    if let Some(log) = log {
        log.push(line());
    }
}
