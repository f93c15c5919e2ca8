//! The thin I/O half: moves frames between a stream's machine and its legs.
//!
//! Three parties act on a stream: the program (by its [`Stream`](crate::Stream)), whoever brings the legs
//! (by a [`Handle`]), and a background task for each stream. They share [`Shared`] and act under its one
//! lock, for a short time, and never wait while they hold it.
//!
//! Whoever acts drives the legs at once (`drive`, `read`): a write reaches the leg, and what arrives reaches
//! its reader, without another task being scheduled. A leg wakes whoever polled it last: the program, as
//! long as it keeps coming back to its stream (`program`), else the background task (`task`).

mod drive;
mod gate;
mod leg;
mod program;
mod read;
mod task;
mod wake;

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Wake as _, Waker},
    time::{Duration, Instant},
};

use self::{
    leg::LegIo,
    program::Attendance,
    task::Background,
    wake::{BackgroundWaker, Waiter},
};
use crate::{
    facts::{Facts, MoveRecord},
    frame::{Code, Hello, Move},
    machine::{self, Farewell, LegId, LossCause, Machine, MoveError, StreamError},
    route::Route,
};

pub use self::leg::Pipe;

/// What a stream tells whoever brings its legs. Each note answers something that was done to the stream, or
/// ends a leg or the stream, so their number is bounded by those.
#[derive(Debug)]
pub enum Note<R> {
    /// Opener: the peer accepted.
    Opened,
    /// The stream runs on another leg now.
    Moved(MoveRecord<R>),
    /// Opener: a leg did not take the stream.
    MoveFailed {
        /// The route of that leg.
        route: R,
        /// What went wrong.
        cause: LossCause,
    },
    /// No leg is left to carry the stream.
    Detached {
        /// The route of the last one.
        route: R,
        /// How it was lost.
        cause: LossCause,
    },
    /// A leg is gone; its route has one user less.
    LegEnded {
        /// The route of that leg.
        route: R,
        /// Which one.
        leg: LegId,
    },
    /// The stream failed.
    Failed(StreamError),
    /// Nothing more will be said. Comes once, last.
    Closed {
        /// Acceptor: what to answer a later HELLO or MOVE of this stream with.
        farewell: Option<Farewell>,
    },
}

/// Where the notes of a stream go. Called under the stream's lock: it must not wait, nor act on the stream.
pub type Notes<R> = Box<dyn Fn(Note<R>) + Send>;

/// How an opener asks for a stream that exists.
#[derive(Debug)]
pub enum Ask {
    /// By MOVE.
    Move(Move),
    /// By HELLO: it has not heard our answer.
    Hello(Box<Hello>),
}

/// What whoever brings the legs holds of a stream.
#[derive(Clone)]
pub struct Handle<R: Route>(Arc<Shared<R>>);

/// What the program, the background task and the handles share.
pub(crate) struct Shared<R: Route> {
    inner: Mutex<Inner<R>>,
    facts: Arc<Facts<R>>,
    /// Wakes the background task.
    waker: Waker,
}

struct Inner<R: Route> {
    machine: Machine,
    legs: Vec<LegIo<R>>,
    /// Which leg is read next.
    next_leg: usize,
    reader: Waiter,
    writer: Waiter,
    background: Arc<BackgroundWaker>,
    attendance: Attendance,
    /// Something was read that is not payload.
    control_read: bool,
    /// What the background task's timer is set to.
    armed: Option<Instant>,
    closed: bool,
    notes: Notes<R>,
    facts: Arc<Facts<R>>,
    /// The program let go of it: bytes that were thrown away since.
    unread: Option<usize>,
}

impl<R: Route> Handle<R> {
    /// Starts a stream on its first leg, which takes the route that `facts` name. To be called within a tokio
    /// runtime; the stream's background task ends by itself.
    pub fn start(
        machine: Machine,
        facts: Arc<Facts<R>>,
        leg: LegId,
        io: Box<dyn Pipe>,
        notes: Notes<R>,
    ) -> Self {
        Self(Shared::start(machine, facts, leg, io, notes))
    }

    /// The program's end of the stream; to be taken once.
    pub fn stream(&self) -> crate::Stream<R> {
        crate::Stream::new(Arc::clone(&self.0))
    }

    /// What is known of the stream.
    pub fn facts(&self) -> &Arc<Facts<R>> {
        self.0.facts()
    }

    /// How long this end waits for a leg.
    pub fn patience(&self) -> Duration {
        self.0.lock().machine.patience()
    }

    /// Opener: carry the stream on this leg from now on.
    ///
    /// # Errors
    /// If it cannot move; the leg is dropped.
    pub fn begin_move(&self, leg: LegId, route: R, io: Box<dyn Pipe>) -> Result<(), MoveError> {
        let mut inner = self.0.lock();
        inner.machine.begin_move(leg, Instant::now())?;
        inner.add_leg(LegIo::new(leg, route, io), &mut self.0.context());
        Ok(())
    }

    /// Acceptor: the opener asks to carry the stream on this leg.
    ///
    /// # Errors
    /// The one frame to answer with, and the leg to say it on.
    pub fn handle_move(
        &self,
        leg: LegId,
        ask: &Ask,
        route: R,
        io: Box<dyn Pipe>,
    ) -> Result<(), (Farewell, Box<dyn Pipe>)> {
        let mut inner = self.0.lock();
        let now = Instant::now();
        let taken = match ask {
            Ask::Move(ask) => inner.machine.handle_move(leg, ask, now),
            Ask::Hello(hello) => inner.machine.handle_hello(leg, hello, now),
        };
        if let Err(farewell) = taken {
            inner.act(&mut self.0.context(), Instant::now());
            return Err((farewell, io));
        }
        inner.add_leg(LegIo::new(leg, route, io), &mut self.0.context());
        Ok(())
    }

    /// The connection under some routes is gone, and the legs on it.
    pub fn connection_closed(&self, runs: impl Fn(&R) -> bool) {
        let mut inner = self.0.lock();
        let lost: Vec<LegId> =
            inner.legs.iter().filter(|leg| runs(&leg.route)).map(|leg| leg.id).collect();
        for leg in lost {
            inner.lose(leg, LossCause::ConnectionClosed);
        }
        inner.act(&mut self.0.context(), Instant::now());
    }

    /// Whether the peer was heard since then on a leg that `runs` where is asked for.
    pub fn heard_since(&self, since: Instant, runs: impl Fn(&R) -> bool) -> bool {
        let inner = self.0.lock();
        inner.legs.iter().any(|leg| runs(&leg.route) && inner.machine.heard_since(leg.id, since))
    }

    /// Ends the stream in both directions; the peer is told the code.
    pub fn reset(&self, code: Code) {
        self.0.reset(code);
    }

    /// Nobody will bring a leg any more: the stream ends at once, and drops its legs unflushed.
    pub fn abandon(&self) {
        let mut inner = self.0.lock();
        inner.machine.reset(Code::Shutdown, Instant::now());
        inner.act(&mut self.0.context(), Instant::now());
        for leg in inner.legs.iter().map(|leg| leg.id).collect::<Vec<_>>() {
            inner.remove(leg);
        }
        inner.close();
        inner.wake_background();
    }
}

impl<R: Route> fmt::Debug for Handle<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("facts", self.facts()).finish_non_exhaustive()
    }
}

impl<R: Route> Shared<R> {
    pub(crate) fn start(
        machine: Machine,
        facts: Arc<Facts<R>>,
        leg: LegId,
        io: Box<dyn Pipe>,
        notes: Notes<R>,
    ) -> Arc<Self> {
        let first = LegIo::new(leg, facts.route(), io);
        let background = Arc::new(BackgroundWaker::default());
        let waker = Waker::from(background.clone());
        let inner = Inner {
            machine,
            legs: vec![first],
            next_leg: 0,
            reader: Waiter::default(),
            writer: Waiter::default(),
            background,
            attendance: Attendance::default(),
            control_read: false,
            armed: None,
            closed: false,
            notes,
            facts: facts.clone(),
            unread: None,
        };
        let shared = Arc::new(Self { inner: Mutex::new(inner), facts, waker });
        tokio::spawn(Background::new(shared.clone()));
        shared
    }

    pub(crate) fn facts(&self) -> &Arc<Facts<R>> {
        &self.facts
    }

    /// Ends the stream in both directions.
    pub(crate) fn reset(&self, code: Code) {
        let mut inner = self.lock();
        inner.machine.reset(code, Instant::now());
        inner.act(&mut self.context(), Instant::now());
    }

    fn context(&self) -> Context<'_> {
        Context::from_waker(&self.waker)
    }

    fn lock(&self) -> MutexGuard<'_, Inner<R>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<R: Route> Inner<R> {
    /// Takes a leg that the machine knows.
    fn add_leg(&mut self, leg: LegIo<R>, cx: &mut Context<'_>) {
        self.legs.push(leg);
        self.act(cx, Instant::now());
        // Nobody has read from it yet.
        self.wake_background();
    }

    fn leg(&mut self, id: LegId) -> Option<&mut LegIo<R>> {
        self.legs.iter_mut().find(|leg| leg.id == id)
    }

    fn lose(&mut self, id: LegId, cause: LossCause) {
        let now = Instant::now();
        self.machine.leg_lost(id, cause, now);
        self.events(now);
        self.remove(id);
    }

    fn remove(&mut self, id: LegId) {
        if let Some(at) = self.legs.iter().position(|leg| leg.id == id) {
            let leg = self.legs.swap_remove(at);
            self.note(Note::LegEnded { route: leg.route, leg: leg.id });
        }
    }

    fn moved(&mut self, moved: &machine::Moved) {
        let Some(to) = self.leg(moved.to).map(|leg| leg.route.clone()) else { return };
        let record = MoveRecord { from: self.facts.route(), to, gap: moved.gap, cause: moved.cause };
        self.facts.moved(record.clone());
        self.note(Note::Moved(record));
    }

    fn close(&mut self) {
        if !std::mem::replace(&mut self.closed, true) {
            self.facts.set_parked(false);
            let farewell = self.machine.tombstone();
            self.note(Note::Closed { farewell });
            self.wake_all();
        }
    }

    fn note(&self, note: Note<R>) {
        (self.notes)(note);
    }

    fn wake_all(&mut self) {
        self.reader.wake();
        self.writer.wake();
    }

    fn wake_background(&self) {
        self.background.wake_by_ref();
    }

    fn deadline(&self) -> Option<Instant> {
        let legs = self.legs.iter().filter_map(LegIo::deadline).min();
        [self.machine.poll_timeout(), legs, self.attendance.until].into_iter().flatten().min()
    }
}
