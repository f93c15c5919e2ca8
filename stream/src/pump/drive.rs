//! After something was done to the machine: its frames go out, its events are acted on.

use std::{
    task::{Context, Waker},
    time::Instant,
};

use super::{Inner, Note, leg::LegIo};
use crate::{
    machine::{self, LossCause, Transmit},
    route::Route,
};

/// Rounds of sending before the lock is let go for others. In each, a leg takes a full buffer or one large frame.
const TURNS_MAX: usize = 32;

/// Largest write that is encoded straight into the leg's buffer.
const AT_ONCE_BYTES_MAX: usize = 4 << 10;

impl<R: Route> Inner<R> {
    /// Sends what follows from what was just done to the machine. To be called before the lock is let go.
    pub(super) fn act(&mut self, cx: &mut Context<'_>, now: Instant) {
        self.control_read = false;
        let finished = self.send(cx, now);
        if !finished || self.is_due_sooner() || self.closed {
            self.wake_background();
        }
    }

    /// Whether a read by the program must be followed by [`Inner::act`]: a control frame was read, something is to
    /// be written, or, if it `got` bytes, the machine has more to say.
    pub(super) fn has_to_act(&self, got: bool) -> bool {
        self.control_read
            || (got && !self.machine.is_calm())
            || self.legs.iter().any(LegIo::has_to_write)
    }

    /// Whether the background task's timer comes too late.
    fn is_due_sooner(&self) -> bool {
        // While the program is expected to poll, the timer is set to the end of that time. Nothing else is
        // more urgent.
        let attended = self.attendance.until.is_some();
        !attended && self.deadline().is_some_and(|due| self.armed.is_none_or(|armed| due < armed))
    }

    /// Moves frames until nothing moves. False if it stopped so that others get the lock. From now on legs wake
    /// the program's task, if that waits and comes back to the stream, else the background task.
    pub(super) fn drive(&mut self, background: &Waker) -> bool {
        let attended = self.attendance.until.is_some();
        let [reader, writer] =
            [&self.reader, &self.writer].map(|task| task.waker().filter(|_| attended));
        let reader = reader.or(writer).unwrap_or(background).clone();
        let writer = writer.unwrap_or(background).clone();
        let read = self.read_all(&mut Context::from_waker(&reader));
        let sent = self.send(&mut Context::from_waker(&writer), Instant::now());
        read && sent
    }

    /// Sends what is to be sent. False if it stopped so that others get the lock.
    fn send(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        (0..TURNS_MAX).any(|_| {
            let more = self.write(cx, now);
            let happened = self.events(now);
            self.forget_left(cx, now);
            !more && !happened
        })
    }

    /// Sends a small message straight from the program's memory, if it may go out at once and nothing else is to
    /// be done. False if not; then nothing was done.
    pub(super) fn send_at_once(&mut self, bytes: &[u8], cx: &mut Context<'_>) -> bool {
        let [leg] = &mut self.legs[..] else { return false };
        if bytes.len() > AT_ONCE_BYTES_MAX || leg.has_to_write() {
            return false;
        }
        let Some(offset) = self.machine.send(leg.id, bytes, Instant::now) else { return false };
        self.facts.count_sent(&leg.route, bytes.len());
        let written = leg.send_data(offset, bytes, cx);
        let (id, all) = (leg.id, written.is_ok() && !leg.has_to_write());
        if let Err(error) = written {
            self.lose(id, LossCause::Io(error.kind()));
        }
        if !all || self.is_due_sooner() {
            self.act(cx, Instant::now());
        }
        true
    }

    /// Gives frames to the legs. True if there is more to give.
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
                    self.facts.count_sent(&leg.route, payload.len());
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
                machine::Event::Opened => {
                    self.facts.set_parked(false);
                    self.note(Note::Opened);
                }
                machine::Event::Readable => {
                    self.discard();
                    self.reader.wake();
                }
                machine::Event::Writable | machine::Event::Delivered => self.writer.wake(),
                machine::Event::Moved(moved) => self.moved(&moved),
                machine::Event::MoveFailed { leg, cause } => {
                    if let Some(leg) = self.legs.iter().find(|found| found.id == leg) {
                        self.note(Note::MoveFailed { route: leg.route.clone(), cause });
                    }
                }
                machine::Event::NeedPath { cause, .. } => {
                    self.facts.set_parked(true);
                    self.note(Note::Detached { route: self.facts.route(), cause });
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
