//! Reading legs: frames are cut out of what came, for the machine or for a reader that waits.

use std::{
    cell::Cell,
    ops::Range,
    task::{Context, Poll},
    time::Instant,
};

use tokio::io::ReadBuf;

use super::Inner;
use crate::{
    facts::Facts,
    frame::{Code, DATA_HEAD_BYTES, Item},
    machine::{LossCause, Violation},
    route::Route,
};

/// Reads of one leg before the others have their turn and the lock is free.
pub(super) const READS_MAX: usize = 8;

/// What one read asks for at most: no more calls than a program makes that reads the substream itself.
const READ_BYTES: usize = 64 << 10;

/// A reader's memory of this size is read into, and frames are cut out of it there. Into less, few
/// heads and little payload would fit.
const IN_PLACE_BYTES_MIN: usize = 256;

/// Payload that is thrown away after the program let go of a stream: a GOAWAY and the like.
const DISCARDED_BYTES_MAX: usize = 64 << 10;

thread_local! {
    /// Where substreams are read into: one for each thread instead of one for each leg, so that an idle
    /// leg holds nothing.
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Where payload goes that is read.
enum Goal<'a, 'b> {
    /// To the front of where it is read into, which is the reader's memory; `passed` bytes of it did.
    Front { passed: usize },
    /// To a reader, as far as he has room.
    Reader(&'a mut ReadBuf<'b>),
    /// All of it to the machine.
    Machine,
}

impl Goal<'_, '_> {
    /// How much more may go past the machine, if `space` bytes were read.
    fn room(&self, space: usize) -> usize {
        match self {
            Self::Front { passed } => space - passed,
            Self::Reader(out) => out.remaining(),
            Self::Machine => 0,
        }
    }

    /// Takes what goes past the machine.
    fn pass(&mut self, bytes: &mut [u8], past: Range<usize>) {
        match self {
            Self::Front { passed } => {
                let to = *passed;
                *passed += past.len();
                if past.start != to {
                    bytes.copy_within(past, to);
                }
            }
            Self::Reader(out) => out.put_slice(&bytes[past]),
            Self::Machine => {}
        }
    }
}

impl<R: Route> Inner<R> {
    /// Reads until nothing is there. False if it stopped for the sake of others.
    pub(super) fn read_all(&mut self, cx: &mut Context<'_>) -> bool {
        (0..READS_MAX).any(|_| !self.read_some(None, cx))
    }

    /// Reads from the next leg that has something, for a reader if one waits. False if none has: all
    /// will wake.
    pub(super) fn read_some(&mut self, mut out: Option<&mut ReadBuf<'_>>, cx: &mut Context<'_>) -> bool {
        let legs = self.legs.len();
        let first = self.next_leg.min(legs);
        for step in first..first + legs {
            let at = if step < legs { step } else { step - legs };
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
                let mut front = Goal::Front { passed: 0 };
                let some = self.read_into(at, out.initialize_unfilled_to(room), &mut front, cx);
                if let Goal::Front { passed } = front {
                    out.advance(passed);
                }
                some
            }
            Some(out) => {
                let mut space = [0; IN_PLACE_BYTES_MIN];
                self.read_into(at, &mut space, &mut Goal::Reader(out), cx)
            }
            None => {
                let mut scratch = SCRATCH.take();
                scratch.resize(READ_BYTES, 0);
                let some = self.read_into(at, &mut scratch, &mut Goal::Machine, cx);
                SCRATCH.set(scratch);
                some
            }
        }
    }

    /// Reads a leg into `space` and takes the frames there. Whether anything came.
    fn read_into(
        &mut self,
        at: usize,
        space: &mut [u8],
        goal: &mut Goal<'_, '_>,
        cx: &mut Context<'_>,
    ) -> bool {
        let id = self.legs[at].id;
        // Where much is written, what reads comes along with each wake for that.
        let returns = !matches!(goal, Goal::Machine) && !self.writer.waits();
        let cause = match self.legs[at].poll_read(cx, space, returns) {
            Poll::Pending => return false,
            Poll::Ready(Ok(0)) => LossCause::Ended,
            Poll::Ready(Ok(read)) => {
                self.take(at, &mut space[..read], goal);
                if self.unread.is_some() {
                    self.discard();
                }
                return true;
            }
            Poll::Ready(Err(error)) => LossCause::Io(error.kind()),
        };
        self.control_read = true;
        self.lose(id, cause);
        true
    }

    /// Takes the frames in `bytes`, which may end with a part of one.
    fn take(&mut self, at: usize, bytes: &mut [u8], goal: &mut Goal<'_, '_>) {
        let (leg, machine, now) = (&mut self.legs[at], &mut self.machine, Instant::now());
        leg.beat(now);
        if let Some(offset) = leg.decoder.data_alone(bytes) {
            let length = bytes.len() - DATA_HEAD_BYTES;
            if length <= goal.room(bytes.len()) && machine.passes(leg.id, offset, length, now) {
                self.facts.count_received(&leg.route, length);
                return goal.pass(bytes, DATA_HEAD_BYTES..bytes.len());
            }
        }
        let mut end = 0;
        while end < bytes.len() {
            let mut rest = &bytes[end..];
            let item = match leg.decoder.decode(&mut rest) {
                Ok(Some(item)) => item,
                // Perhaps not a whole frame, but something.
                Ok(None) => return machine.heard(leg.id, now),
                Err(error) => {
                    self.control_read = true;
                    return machine.malformed(leg.id, error, now);
                }
            };
            end = bytes.len() - rest.len();
            let taken = match item {
                Item::Frame(frame) => {
                    self.control_read = true;
                    machine.handle_frame(leg.id, frame, now)
                }
                Item::Data { offset, payload } => {
                    self.facts.count_received(&leg.route, payload.len());
                    let (start, room) = (end - payload.len(), goal.room(bytes.len()));
                    let past = machine.handle_payload(leg.id, offset, payload, room, now);
                    self.control_read |= past == Ok(0);
                    past.map(|past| goal.pass(bytes, start..start + past))
                }
            };
            if let Err(violation) = taken {
                report(&self.facts, violation);
            }
        }
    }

    /// Nobody reads any more. A few last words must not stop the peer's FIN; more are a peer that
    /// does not know, and is told.
    pub(super) fn discard(&mut self) {
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
}

#[cold]
fn report<R>(facts: &Facts<R>, violation: Violation) {
    tracing::debug!(stream = %facts.stream, %violation, "a stream was reset");
}
