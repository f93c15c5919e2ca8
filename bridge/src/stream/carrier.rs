//! The thin I/O half: moves frames between a stream's machine and its legs.
//!
//! A [`Carrier`] is a task for each stream; it owns nothing but a share of [`Shared`], which the
//! program's [`Stream`](super::Stream) and the driver hold too. All of them act under one lock, for a
//! short time, and never wait in it.
//!
//! Whoever acts drives the legs at once (`drive`, `read`): a write reaches the substream, and what arrives
//! reaches its reader, without another task being scheduled. A leg wakes whoever polled it last: the
//! program, as long as it comes back to its stream (`program`), else the carrier.

mod drive;
mod nudge;
mod program;
mod read;
mod task;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Wake as _, Waker},
    time::Instant,
};

use tokio::sync::mpsc;

use self::{
    nudge::{Nudge, Waiting},
    program::Attendance,
    task::Carrier,
};
use super::{
    StreamKey,
    facts::{Carrying, MoveRecord, StreamFacts},
    frame::{Code, Hello, Move},
    leg::{Leg, Pipe},
    machine::{self, Farewell, LegId, LossCause, Machine, MoveError, StreamError},
};
use crate::path::ConnectionId;

/// What a stream tells the driver. Each note answers something the driver did, or ends a leg or the
/// stream, so their number is bounded by those.
#[derive(Debug)]
pub(crate) enum Note {
    /// Opener: the peer accepted.
    Opened,
    /// The stream lives on another connection now.
    Moved { to: ConnectionId, record: MoveRecord },
    /// Opener: a connection did not take the stream.
    MoveFailed { connection: ConnectionId, cause: LossCause },
    /// No connection carries the stream any more.
    Detached { connection: Option<ConnectionId>, cause: LossCause },
    /// A leg is gone; its connection has one user less.
    LegEnded { connection: ConnectionId, leg: LegId },
    /// The stream failed.
    Failed(StreamError),
    /// Nothing more will be said. Comes once, last.
    Closed { farewell: Option<Farewell> },
}

pub(crate) type Notes = mpsc::UnboundedSender<(StreamKey, Note)>;

/// What the carrier, the program and the driver share.
pub(crate) struct Shared {
    inner: Mutex<Inner>,
    facts: Arc<StreamFacts>,
    /// The carrier's.
    waker: Waker,
}

struct Inner {
    machine: Machine,
    legs: Vec<Leg>,
    /// Which leg is read next.
    next_leg: usize,
    reader: Waiting,
    writer: Waiting,
    nudge: Arc<Nudge>,
    attendance: Attendance,
    /// Something was read that is no payload.
    worded: bool,
    /// What the carrier's timer is set to.
    armed: Option<Instant>,
    closed: bool,
    notes: Notes,
    key: StreamKey,
    facts: Arc<StreamFacts>,
    /// The program let go of it: bytes that were thrown away since.
    unread: Option<usize>,
}

impl Shared {
    /// Starts a stream on its first leg. The carrier ends by itself.
    pub(crate) fn start(
        machine: Machine,
        facts: Arc<StreamFacts>,
        leg: LegId,
        io: Box<dyn Pipe>,
        notes: Notes,
    ) -> Arc<Self> {
        let key = StreamKey { peer: facts.peer, stream: facts.stream };
        let first = Leg::new(leg, facts.carrying(), io);
        let nudge = Arc::new(Nudge::default());
        let waker = Waker::from(nudge.clone());
        let inner = Inner {
            machine,
            legs: vec![first],
            next_leg: 0,
            reader: Waiting::default(),
            writer: Waiting::default(),
            nudge,
            attendance: Attendance::default(),
            worded: false,
            armed: None,
            closed: false,
            notes,
            key,
            facts: facts.clone(),
            unread: None,
        };
        let shared = Arc::new(Self { inner: Mutex::new(inner), facts, waker });
        tokio::spawn(Carrier::new(shared.clone()));
        shared
    }

    pub(crate) fn facts(&self) -> &Arc<StreamFacts> {
        &self.facts
    }

    /// Opener: carry the stream on this leg from now on.
    pub(crate) fn begin_move(
        &self,
        leg: LegId,
        on: Carrying,
        io: Box<dyn Pipe>,
    ) -> Result<(), MoveError> {
        let mut inner = self.lock();
        inner.machine.begin_move(leg, Instant::now())?;
        inner.adopt(Leg::new(leg, on, io), &mut self.context());
        Ok(())
    }

    /// Acceptor: the opener asks to carry the stream on this leg.
    pub(crate) fn handle_move(
        &self,
        leg: LegId,
        ask: &Ask,
        on: Carrying,
        io: Box<dyn Pipe>,
    ) -> Result<(), (Farewell, Box<dyn Pipe>)> {
        let mut inner = self.lock();
        let now = Instant::now();
        let taken = match ask {
            Ask::Move(ask) => inner.machine.handle_move(leg, ask, now),
            Ask::Hello(hello) => inner.machine.handle_hello(leg, hello, now),
        };
        if let Err(farewell) = taken {
            inner.act(&mut self.context(), Instant::now());
            return Err((farewell, io));
        }
        inner.adopt(Leg::new(leg, on, io), &mut self.context());
        Ok(())
    }

    /// A connection is gone, and what ran on it.
    pub(crate) fn connection_closed(&self, connection: ConnectionId) {
        let mut inner = self.lock();
        let lost: Vec<LegId> =
            inner.legs.iter().filter(|leg| leg.on.connection == connection).map(|leg| leg.id).collect();
        for leg in lost {
            inner.lose(leg, LossCause::ConnectionClosed);
        }
        inner.act(&mut self.context(), Instant::now());
    }

    /// Whether the peer was heard since then on a leg that `runs` where is asked for.
    pub(crate) fn heard_since(&self, since: Instant, runs: impl Fn(&Carrying) -> bool) -> bool {
        let inner = self.lock();
        inner.legs.iter().any(|leg| runs(&leg.on) && inner.machine.heard_since(leg.id, since))
    }

    /// Ends the stream in both directions.
    pub(crate) fn reset(&self, code: Code) {
        let mut inner = self.lock();
        inner.machine.reset(code, Instant::now());
        inner.act(&mut self.context(), Instant::now());
    }

    /// The node is gone: nobody will bring a path any more.
    pub(crate) fn abandon(&self) {
        let mut inner = self.lock();
        inner.machine.reset(Code::Shutdown, Instant::now());
        inner.act(&mut self.context(), Instant::now());
        for leg in inner.legs.iter().map(|leg| leg.id).collect::<Vec<_>>() {
            inner.remove(leg);
        }
        inner.close();
        inner.wake_carrier();
    }

    fn context(&self) -> Context<'_> {
        Context::from_waker(&self.waker)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How an opener asks for a known stream.
pub(crate) enum Ask {
    Move(Move),
    Hello(Hello),
}

impl Inner {
    /// Takes a leg that the machine knows.
    fn adopt(&mut self, leg: Leg, cx: &mut Context<'_>) {
        self.legs.push(leg);
        self.act(cx, Instant::now());
        // Nobody has read from it yet.
        self.wake_carrier();
    }

    fn leg(&mut self, id: LegId) -> Option<&mut Leg> {
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
            self.note(Note::LegEnded { connection: leg.on.connection, leg: leg.id });
        }
    }

    fn moved(&mut self, moved: &machine::Moved) {
        let Some(to) = self.leg(moved.to).map(|leg| leg.on.clone()) else { return };
        let record = MoveRecord {
            from: self.facts.path(),
            to: to.path,
            gap: moved.gap,
            cause: moved.cause.map(|cause| cause.to_string()),
        };
        let connection = to.connection;
        self.facts.moved(to, record.clone());
        self.note(Note::Moved { to: connection, record });
    }

    fn close(&mut self) {
        if !std::mem::replace(&mut self.closed, true) {
            let farewell = self.machine.tombstone();
            self.note(Note::Closed { farewell });
            self.wake_all();
        }
    }

    fn note(&self, note: Note) {
        // The driver is gone only when the node is, and then nobody keeps books.
        let _ = self.notes.send((self.key, note));
    }

    fn wake_all(&mut self) {
        self.reader.wake();
        self.writer.wake();
    }

    fn wake_carrier(&self) {
        self.nudge.wake_by_ref();
    }

    fn deadline(&self) -> Option<Instant> {
        let legs = self.legs.iter().filter_map(Leg::deadline).min();
        [self.machine.poll_timeout(), legs, self.attendance.until].into_iter().flatten().min()
    }
}
