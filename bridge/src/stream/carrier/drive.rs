//! Moving bytes between the machine and its legs.

use std::{
    cell::Cell,
    task::{Context, Poll, Waker},
    time::Instant,
};

use tokio::io::ReadBuf;

use super::{Inner, Leg, Note};
use crate::stream::{
    frame::{Code, Item},
    machine::{self, LossCause, Transmit},
};

/// Turns of sending before others get the lock, each a leg's buffer or a large frame.
const TURNS_MAX: usize = 32;

/// Reads of one leg before the others have their turn and the lock is free.
pub(super) const READS_MAX: usize = 8;

/// What one read asks for at most: no more calls than a program makes that reads the substream itself.
const READ_BYTES: usize = 64 << 10;

/// A reader's memory of this size is read into, and frames are cut out of it there. Into less, few
/// heads and little payload would fit.
const IN_PLACE_BYTES_MIN: usize = 1 << 10;

/// Payload that is thrown away after the program let go of a stream: a GOAWAY and the like.
const DISCARDED_BYTES_MAX: usize = 64 << 10;

thread_local! {
    /// Where substreams are read into: one for each thread instead of one for each leg, so that an idle
    /// leg holds nothing.
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

impl Inner {
    /// Sends what follows from what was done, on behalf of whoever holds the lock.
    pub(super) fn act(&mut self, cx: &mut Context<'_>, now: Instant) {
        self.worded = false;
        let finished = self.send(cx, now);
        if !finished || self.is_due_sooner() || self.closed {
            self.wake_carrier();
        }
    }

    /// Whether reading led to more than bytes for the reader.
    pub(super) fn has_to_act(&self) -> bool {
        self.worded
            || !self.machine.is_calm()
            || self.is_due_sooner()
            || self.legs.iter().any(Leg::has_to_write)
    }

    /// Whether the carrier's timer comes too late.
    fn is_due_sooner(&self) -> bool {
        // It is set to when the program's coming is checked, and all else has time until then.
        let attended = self.attendance.until.is_some();
        !attended && self.deadline().is_some_and(|due| self.armed.is_none_or(|armed| due < armed))
    }

    /// Moves frames until nothing moves. False if it stopped for the sake of others. Legs wake the program
    /// if it attends and waits, else the carrier.
    pub(super) fn drive(&mut self, carrier: &Waker) -> bool {
        let attended = self.attendance.until.is_some();
        let [reader, writer] =
            [&self.reader, &self.writer].map(|task| task.waker().filter(|_| attended));
        let reader = reader.or(writer).unwrap_or(carrier).clone();
        let writer = writer.unwrap_or(carrier).clone();
        let read = self.read_all(&mut Context::from_waker(&reader));
        let sent = self.send(&mut Context::from_waker(&writer), Instant::now());
        read && sent
    }

    /// Reads until nothing is there. False if it stopped for the sake of others.
    pub(super) fn read_all(&mut self, cx: &mut Context<'_>) -> bool {
        (0..READS_MAX).any(|_| !self.read_some(None, cx))
    }

    /// Sends what is to be sent. False if it stopped for the sake of others.
    fn send(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        (0..TURNS_MAX).any(|_| {
            let more = self.write(cx, now);
            let happened = self.events(now);
            self.forget_left(cx, now);
            !more && !happened
        })
    }

    /// Reads from the next leg that has something, for a reader if one waits. False if none has: all
    /// will wake.
    pub(super) fn read_some(&mut self, mut out: Option<&mut ReadBuf<'_>>, cx: &mut Context<'_>) -> bool {
        let legs = self.legs.len();
        for turn in 0..legs {
            let at = (self.next_leg + turn) % legs;
            if !self.legs[at].is_leaving() && self.read_leg(at, out.as_deref_mut(), cx) {
                self.next_leg = at + 1;
                return true;
            }
        }
        false
    }

    fn read_leg(&mut self, at: usize, out: Option<&mut ReadBuf<'_>>, cx: &mut Context<'_>) -> bool {
        match out {
            Some(out) if out.remaining() >= IN_PLACE_BYTES_MIN => {
                let room = out.remaining().min(READ_BYTES);
                let (some, passed) = self.read_into(at, out.initialize_unfilled_to(room), room, cx);
                out.advance(passed);
                some
            }
            out => {
                let mut scratch = SCRATCH.take();
                scratch.resize(READ_BYTES, 0);
                let most = out.as_ref().map_or(0, |out| out.remaining());
                let (some, passed) = self.read_into(at, &mut scratch, most, cx);
                if let Some(out) = out {
                    out.put_slice(&scratch[..passed]);
                }
                SCRATCH.set(scratch);
                some
            }
        }
    }

    /// Reads a leg into `space` and takes the frames there. Payload that a reader waits for is left at
    /// the front of `space`, up to `most` bytes of it; the machine has the rest. Whether anything came,
    /// and how much is left there.
    fn read_into(
        &mut self,
        at: usize,
        space: &mut [u8],
        most: usize,
        cx: &mut Context<'_>,
    ) -> (bool, usize) {
        let id = self.legs[at].id;
        let cause = match self.legs[at].poll_read(cx, space) {
            Poll::Pending => return (false, 0),
            Poll::Ready(Ok(0)) => LossCause::Ended,
            Poll::Ready(Ok(read)) => {
                let passed = self.take(at, &mut space[..read], most);
                self.discard();
                return (true, passed);
            }
            Poll::Ready(Err(error)) => LossCause::Io(error.kind()),
        };
        self.worded = true;
        self.lose(id, cause);
        (true, 0)
    }

    /// Takes the frames in `bytes`, which may end with a part of one.
    fn take(&mut self, at: usize, bytes: &mut [u8], most: usize) -> usize {
        let (leg, machine, now) = (&mut self.legs[at], &mut self.machine, Instant::now());
        leg.on.pulse.beat(now);
        let (mut end, mut passed) = (0, 0);
        while end < bytes.len() {
            let mut rest = &bytes[end..];
            let item = match leg.decoder.decode(&mut rest) {
                Ok(Some(item)) => item,
                Ok(None) => {
                    // Perhaps not a whole frame, but something.
                    machine.heard(leg.id, now);
                    return passed;
                }
                Err(error) => {
                    machine.malformed(leg.id, error, now);
                    self.worded = true;
                    return passed;
                }
            };
            end = bytes.len() - rest.len();
            let taken = match item {
                Item::Frame(frame) => {
                    self.worded = true;
                    machine.handle_frame(leg.id, frame, now)
                }
                Item::Data { offset, payload } => {
                    self.facts.count_received(leg.on.path, payload.len());
                    let (start, room) = (end - payload.len(), most - passed);
                    machine.handle_payload(leg.id, offset, payload, room, now).map(|past| {
                        bytes.copy_within(start..start + past, passed);
                        passed += past;
                    })
                }
            };
            if let Err(violation) = taken {
                tracing::debug!(stream = %self.facts.stream, %violation, "a stream was reset");
            }
        }
        passed
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

    /// Gives frames to the legs. True if they may take more.
    fn write(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        let (mut more, mut lost) = (false, Vec::new());
        for leg in &mut self.legs {
            let mut has_more = !leg.is_leaving();
            while has_more && leg.takes_more() {
                let Some(transmit) = self.machine.poll_transmit(leg.id, now) else {
                    has_more = false;
                    break;
                };
                if let Transmit::Data { payload, .. } = &transmit {
                    self.facts.count_sent(leg.on.path, payload.len());
                }
                leg.put(transmit);
            }
            match leg.poll_write(cx, has_more) {
                Ok(written) => more |= written && has_more,
                Err(_) if leg.is_leaving() => {}
                Err(error) => lost.push((leg.id, LossCause::Io(error.kind()))),
            }
        }
        more |= !lost.is_empty();
        for (leg, cause) in lost {
            self.lose(leg, cause);
        }
        more
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
    pub(super) fn events(&mut self, now: Instant) -> bool {
        let mut some = false;
        while let Some(event) = self.machine.poll_event() {
            some = true;
            match event {
                machine::Event::Opened => self.note(Note::Opened),
                machine::Event::Readable => {
                    self.discard();
                    self.reader.wake();
                }
                machine::Event::Writable | machine::Event::Delivered => self.writer.wake(),
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
                    if self.leg(leg).is_some_and(|found| found.leave(end, now)) {
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
}
