//! The thin I/O half: moves frames between a stream's machine and its legs.
//!
//! A [`Carrier`] is a task for each stream; it owns nothing but a share of [`Shared`], which the
//! program's [`Stream`](super::Stream) and the driver hold too. All of them act under one lock, for a
//! short time, and never wait in it. Whoever acts drives the legs at once, with the carrier's waker, so
//! that a write reaches the substream without another task being scheduled.

mod task;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError},
    task::{Context, Poll, Waker},
    time::Instant,
};

use tokio::sync::mpsc;

use self::task::Carrier;
use super::{
    StreamKey,
    facts::{Carrying, MoveRecord, StreamFacts},
    frame::{Code, Decoder, Frame, Hello, Move},
    leg::{Leg, Pipe, Read},
    machine::{self, Farewell, LegId, LossCause, Machine, MoveError, StreamError},
};
use crate::path::ConnectionId;

/// Turns of sending before others get the lock, each a leg's buffer full.
const TURNS_MAX: usize = 4;

/// Frames and reads of one leg before the others have their turn and the lock is free: two reads' worth.
const READS_MAX: usize = 8;

/// Payload that is thrown away after the program let go of a stream: a GOAWAY and the like.
const DISCARDED_BYTES_MAX: usize = 64 << 10;

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
    LegEnded { connection: ConnectionId },
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
}

pub(super) struct Inner {
    pub(super) machine: Machine,
    legs: Vec<Leg>,
    pub(super) reader: Option<Waker>,
    pub(super) writer: Option<Waker>,
    carrier: Option<Waker>,
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
        decoder: Decoder,
        notes: Notes,
    ) -> Arc<Self> {
        let key = StreamKey { peer: facts.peer, stream: facts.stream };
        let first = Leg::new(leg, facts.carrying(), io, decoder);
        let inner = Inner {
            machine,
            legs: vec![first],
            reader: None,
            writer: None,
            carrier: None,
            armed: None,
            closed: false,
            notes,
            key,
            facts: facts.clone(),
            unread: None,
        };
        let shared = Arc::new(Self { inner: Mutex::new(inner), facts });
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
        inner.adopt(Leg::new(leg, on, io, Decoder::new()));
        Ok(())
    }

    /// Acceptor: the opener asks to carry the stream on this leg.
    pub(crate) fn handle_move(
        &self,
        leg: LegId,
        ask: &Ask,
        on: Carrying,
        io: Box<dyn Pipe>,
        decoder: Decoder,
    ) -> Result<(), (Farewell, Box<dyn Pipe>)> {
        let mut inner = self.lock();
        let now = Instant::now();
        let taken = match ask {
            Ask::Move(ask) => inner.machine.handle_move(leg, ask, now),
            Ask::Hello(hello) => inner.machine.handle_hello(leg, hello, now),
        };
        if let Err(farewell) = taken {
            inner.act();
            return Err((farewell, io));
        }
        inner.adopt(Leg::new(leg, on, io, decoder));
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
        inner.act();
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
        inner.act();
    }

    /// The node is gone: nobody will bring a path any more.
    pub(crate) fn abandon(&self) {
        let mut inner = self.lock();
        inner.machine.reset(Code::Shutdown, Instant::now());
        inner.act();
        for leg in inner.legs.iter().map(|leg| leg.id).collect::<Vec<_>>() {
            inner.remove(leg);
        }
        inner.close();
        wake(&mut inner.carrier.clone());
    }

    /// For whoever can come again at once: a thread that waits here runs no other task, and one that
    /// carries much holds the lock for long.
    pub(super) fn try_lock(&self, cx: &Context<'_>) -> Poll<MutexGuard<'_, Inner>> {
        match self.inner.try_lock() {
            Ok(inner) => Poll::Ready(inner),
            Err(TryLockError::Poisoned(poisoned)) => Poll::Ready(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How an opener asks for a known stream.
pub(crate) enum Ask {
    Move(Move),
    Hello(Hello),
}

impl Inner {
    /// Sends what follows from what was done, on behalf of whoever holds the lock. What arrives is for
    /// the carrier, which every leg's reading side wakes.
    pub(super) fn act(&mut self) {
        let Some(carrier) = self.carrier.take() else { return };
        let now = Instant::now();
        let finished = self.send(&mut Context::from_waker(&carrier), now);
        let due = self.deadline();
        // A timer that has fired is set to nothing any more.
        let armed = self.armed.filter(|armed| *armed > now);
        let earlier = due.is_some_and(|due| armed.is_none_or(|armed| due < armed));
        if !finished || earlier || self.closed {
            carrier.wake_by_ref();
        }
        self.carrier = Some(carrier);
    }

    /// Takes a leg that the machine knows.
    fn adopt(&mut self, leg: Leg) {
        self.legs.push(leg);
        self.act();
        if let Some(carrier) = &self.carrier {
            carrier.wake_by_ref();
        }
    }

    /// Moves frames until nothing moves. False if it stopped for the sake of others.
    fn drive(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        let read = self.read(cx, now);
        let sent = self.send(cx, now);
        read && sent
    }

    /// Takes what arrived. False if there may be more.
    fn read(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        let (mut all, mut at) = (true, 0);
        while let Some(leg) = self.legs.get(at) {
            let (id, reads) = (leg.id, !leg.is_leaving());
            all &= !reads || (0..READS_MAX).any(|_| !self.read_one(id, cx, now));
            // It may be gone, and another in its place.
            at += usize::from(self.legs.get(at).is_some_and(|leg| leg.id == id));
        }
        all
    }

    /// Sends what is to be sent. False if it stopped for the sake of others.
    fn send(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        (0..TURNS_MAX).any(|_| {
            let written = self.write(cx, now);
            let happened = self.events(now);
            self.forget_left(cx, now);
            !written && !happened
        })
    }

    fn read_one(&mut self, id: LegId, cx: &mut Context<'_>, now: Instant) -> bool {
        let Some(leg) = self.legs.iter_mut().find(|leg| leg.id == id) else { return false };
        match leg.poll_read(cx) {
            Read::Frame(frame) => {
                leg.on.pulse.beat(now);
                if let Frame::Data { payload, .. } = &frame {
                    self.facts.count_received(leg.on.path, payload.len());
                }
                if let Err(violation) = self.machine.handle_frame(id, frame, now) {
                    tracing::debug!(stream = %self.facts.stream, %violation, "a stream was reset");
                }
                self.discard();
                true
            }
            Read::Bytes => {
                leg.on.pulse.beat(now);
                self.machine.heard(id, now);
                true
            }
            Read::Malformed(error) => {
                self.machine.malformed(id, error, now);
                false
            }
            Read::Ended => self.lose(id, LossCause::Ended),
            Read::Failed(kind) => self.lose(id, LossCause::Io(kind)),
            Read::Nothing => false,
        }
    }

    /// The program let go of its end: what it shut down is still delivered, all else is reset.
    pub(super) fn let_go(&mut self) {
        self.unread = Some(0);
        if !self.machine.is_finished_here() {
            self.machine.reset(Code::Cancelled, Instant::now());
        }
        self.act();
    }

    /// Nobody reads any more. A few last words must not stop the peer's FIN; more are a peer that
    /// does not know, and is told.
    fn discard(&mut self) {
        let Some(mut discarded) = self.unread else { return };
        let mut scratch = [0; 4096];
        while let Ok(Some(read @ 1..)) = self.machine.read(&mut scratch) {
            discarded += read;
        }
        self.unread = Some(discarded);
        if discarded > DISCARDED_BYTES_MAX {
            self.machine.reset(Code::Cancelled, Instant::now());
        }
    }

    fn write(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        let mut progress = false;
        let mut lost = Vec::new();
        for leg in &mut self.legs {
            let mut more = !leg.is_leaving();
            while more && leg.takes_more() {
                let Some(frame) = self.machine.poll_transmit(leg.id, now) else {
                    more = false;
                    break;
                };
                if let Frame::Data { payload, .. } = &frame {
                    self.facts.count_sent(leg.on.path, payload.len());
                }
                leg.put(&frame);
                progress = true;
            }
            match leg.poll_write(cx, more) {
                Ok(written) => progress |= written,
                Err(_) if leg.is_leaving() => {}
                Err(error) => lost.push((leg.id, LossCause::Io(error.kind()))),
            }
        }
        for (leg, cause) in lost {
            progress |= self.lose(leg, cause);
        }
        progress
    }

    fn lose(&mut self, id: LegId, cause: LossCause) -> bool {
        self.machine.leg_lost(id, cause, Instant::now());
        self.events(Instant::now());
        self.remove(id);
        true
    }

    fn remove(&mut self, id: LegId) {
        if let Some(at) = self.legs.iter().position(|leg| leg.id == id) {
            let leg = self.legs.swap_remove(at);
            self.note(Note::LegEnded { connection: leg.on.connection });
        }
    }

    fn forget_left(&mut self, cx: &mut Context<'_>, now: Instant) {
        let mut left = Vec::new();
        for leg in &mut self.legs {
            if leg.poll_left(cx, now) {
                left.push(leg.id);
            }
        }
        for leg in left {
            self.remove(leg);
        }
    }

    /// Acts on what the machine says. True if it said something.
    fn events(&mut self, now: Instant) -> bool {
        let mut some = false;
        while let Some(event) = self.machine.poll_event() {
            some = true;
            match event {
                machine::Event::Opened => self.note(Note::Opened),
                machine::Event::Readable => {
                    self.discard();
                    wake(&mut self.reader);
                }
                machine::Event::Writable | machine::Event::Delivered => wake(&mut self.writer),
                machine::Event::Moved(moved) => self.moved(&moved),
                machine::Event::MoveFailed { leg, cause } => {
                    if let Some(leg) = self.legs.iter().find(|found| found.id == leg) {
                        self.note(Note::MoveFailed { connection: leg.on.connection, cause });
                    }
                }
                machine::Event::NeedPath { cause, .. } => {
                    let connection = Some(self.facts.carrying().connection);
                    self.note(Note::Detached { connection, cause });
                }
                machine::Event::DropLeg { leg, end } => {
                    let found = self.legs.iter_mut().find(|found| found.id == leg);
                    if found.is_some_and(|found| found.leave(end, now)) {
                        self.remove(leg);
                    }
                }
                machine::Event::Finished => self.wake_all(),
                machine::Event::Failed(error) => {
                    self.note(Note::Failed(error));
                    self.wake_all();
                }
                machine::Event::Closed => self.close(),
            }
        }
        some
    }

    fn moved(&mut self, moved: &machine::Moved) {
        let Some(to) = self.legs.iter().find(|leg| leg.id == moved.to).map(|leg| leg.on.clone()) else {
            return;
        };
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
        wake(&mut self.reader);
        wake(&mut self.writer);
    }

    fn deadline(&self) -> Option<Instant> {
        let legs = self.legs.iter().filter_map(Leg::deadline).min();
        [self.machine.poll_timeout(), legs].into_iter().flatten().min()
    }
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}
