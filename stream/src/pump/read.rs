//! Reads legs and takes the frames out of what was read, for the machine or for a program that reads.

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

/// Reads before the lock is let go for others.
pub(super) const READS_MAX: usize = 8;

/// Most bytes of one read: as many as a program asks for that reads such a pipe itself.
const READ_BYTES: usize = 64 << 10;

/// A program's buffer of at least this size is read into directly, frame heads and all. A smaller one would
/// hold little beside the heads.
const IN_PLACE_BYTES_MIN: usize = 256;

/// Payload that is thrown away after the program dropped the stream: an HTTP/2 GOAWAY and the like.
const DISCARDED_BYTES_MAX: usize = 64 << 10;

thread_local! {
    /// Where legs are read into when no program reads: one buffer for each thread, so that an idle leg needs
    /// none. The system zeroes what is used of it when that is.
    static SCRATCH: Cell<Vec<u8>> = Cell::new(vec![0; READ_BYTES]);
}

/// Where the payload that is read goes.
enum Goal<'a, 'b> {
    /// To the front of the buffer that was read into, which is the program's; so many bytes are there already.
    Front { passed: usize },
    /// To the program's buffer, as far as it has room.
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
    /// Reads until nothing is there. False if it stopped so that others get the lock.
    pub(super) fn read_all(&mut self, cx: &mut Context<'_>) -> bool {
        (0..READS_MAX).any(|_| !self.read_some(None, cx))
    }

    /// Reads once, from the next leg that has something. False if none has; then each of them will wake a
    /// task.
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

    /// Reads a leg into `space` and takes the frames there. True if anything came.
    fn read_into(
        &mut self,
        at: usize,
        space: &mut [u8],
        goal: &mut Goal<'_, '_>,
        cx: &mut Context<'_>,
    ) -> bool {
        let id = self.legs[at].id;
        // A program that also waits to write is woken for that, and reads then as well.
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

    /// Throws away what came for a program that dropped the stream. A little is let pass, so that the peer's
    /// FIN arrives; a peer that goes on and on is told by a reset.
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
