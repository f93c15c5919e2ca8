//! From leg to leg.

use std::time::Instant;

use super::{
    Machine, Phase, Role,
    error::{LossCause, MoveError, Violation},
    event::{Event, Farewell, LegEnd, LegId},
    farewell,
    legs::{Draining, Leg, Place},
};
use crate::frame::{Attached, Code, FEATURES, Frame, Hello, Move};

impl Machine {
    /// Opener: `leg` is to carry the stream from now on. MOVE goes out on it, and the leg before
    /// is used until that is answered. Supersedes a move that is under way.
    ///
    /// # Errors
    /// If the stream cannot move. The leg is not used then.
    pub fn begin_move(&mut self, leg: LegId, now: Instant) -> Result<(), MoveError> {
        if !self.is_opener() {
            return Err(MoveError::NotOpener);
        }
        if self.phase == Phase::Closed {
            return Err(MoveError::Closed);
        }
        let epoch = self.legs.epoch.checked_add(1).ok_or(MoveError::EpochsExhausted)?;
        self.legs.epoch = epoch;
        if let Some(old) = self.legs.joining.take() {
            self.drop_leg(old.id, LegEnd::Abort);
        }
        let mut joining = Leg::new(leg, epoch, false, now);
        joining.waiting = Some(now);
        // A stream that was never answered begins again, early data included.
        let again = !self.is_established() && self.phase == Phase::Open;
        if again && self.legs.current.is_none() {
            self.sender.rewind_to_acked();
            self.legs.current = Some(joining);
        } else {
            self.legs.joining = Some(joining);
        }
        self.settle(now);
        Ok(())
    }

    /// Acceptor: a MOVE of this stream, the first frame on `leg`, from the peer that opened it.
    ///
    /// # Errors
    /// The one frame to answer with before closing the leg: it is stale, or the stream is over.
    pub fn handle_move(&mut self, leg: LegId, r#move: &Move, now: Instant) -> Result<(), Farewell> {
        self.take_leg(leg, r#move.epoch, r#move.received, r#move.limit, now)
    }

    /// Acceptor: a HELLO of this stream, which exists: the opener never heard our answer.
    ///
    /// # Errors
    /// As [`Machine::handle_move`].
    pub fn handle_hello(&mut self, leg: LegId, hello: &Hello, now: Instant) -> Result<(), Farewell> {
        self.take_leg(leg, hello.epoch, 0, hello.limit, now)
    }

    fn take_leg(
        &mut self,
        leg: LegId,
        epoch: u32,
        received: u64,
        limit: u64,
        now: Instant,
    ) -> Result<(), Farewell> {
        if self.is_opener() {
            return Err(Farewell::Reset(Code::Unknown));
        }
        if let Some(outcome) = self.outcome {
            self.close();
            return Err(farewell(outcome));
        }
        if epoch <= self.legs.epoch {
            return Err(Farewell::Reset(Code::Stale));
        }
        if let Err(violation) = self.sender.rewind(received, limit, now, &self.config) {
            self.fail(violation.into(), now);
            self.settle(now);
            return Err(Farewell::Reset(violation.code()));
        }
        self.receiver.change_leg();
        self.legs.epoch = epoch;
        if let Some(old) = self.legs.draining.take() {
            self.drop_leg(old.id, LegEnd::Abort);
        }
        if let Some(old) = self.legs.leave_current(now, &self.config) {
            let until = now + self.config.drain_max;
            self.legs.draining = Some(Draining { id: old.id, until });
        }
        self.legs.detached = None;
        self.legs.current = Some(Leg::new(leg, epoch, true, now));
        self.settle(now);
        Ok(())
    }

    /// A leg ended, failed, or its connection did. That is never the end of the stream.
    pub fn leg_lost(&mut self, leg: LegId, cause: LossCause, now: Instant) {
        if self.remove_leg(leg, cause, now) {
            self.leg_gone();
        }
        self.settle(now);
    }

    /// A leg is given up here.
    pub(super) fn lose(&mut self, leg: LegId, cause: LossCause, now: Instant) {
        // What came of the leg is said while its driver still knows it.
        let was_used = self.remove_leg(leg, cause, now);
        self.drop_leg(leg, LegEnd::Abort);
        if was_used {
            self.leg_gone();
        }
    }

    /// Forgets a leg. True if the stream ran on it or was to.
    fn remove_leg(&mut self, leg: LegId, cause: LossCause, now: Instant) -> bool {
        match self.legs.place(leg) {
            None => return false,
            Some(Place::Draining) => {
                self.legs.draining = None;
                return false;
            }
            Some(Place::Joining) => {
                self.legs.joining = None;
                self.events.push_back(Event::MoveFailed { leg, cause });
            }
            Some(Place::Current) => {
                self.legs.lose_current(cause, now);
                // The opener may still live on this one, unanswered: its end says move again.
                if let Some(old) = self.legs.draining.take() {
                    self.drop_leg(old.id, LegEnd::Abort);
                }
            }
        }
        true
    }

    /// A leg that the stream ran on, or was to, is gone.
    fn leg_gone(&mut self) {
        if !self.is_opener() && self.phase != Phase::Open {
            // The tombstone says the rest.
            return self.close();
        }
        self.ask_for_path();
    }

    /// Says that a path is needed, if no leg is left.
    pub(super) fn ask_for_path(&mut self) {
        let (None, None) = (&self.legs.current, &self.legs.joining) else {
            return;
        };
        let Some(detached) = self.legs.detached else {
            return;
        };
        self.sender.park(&self.config);
        self.receiver.park();
        let patience = detached.since + self.config.patience;
        let until = match self.phase {
            Phase::Closed => return,
            Phase::Open => patience,
            Phase::Parting { until } | Phase::Telling { until, .. } => until.min(patience),
        };
        self.events.push_back(Event::NeedPath { cause: detached.cause, until });
    }

    pub(super) fn drop_leg(&mut self, leg: LegId, end: LegEnd) {
        self.events.push_back(Event::DropLeg { leg, end });
    }

    /// Opener: HELLO or MOVE was answered; the stream lives on that leg now.
    pub(super) fn attached_heard(
        &mut self,
        place: Place,
        attached: Attached,
        now: Instant,
    ) -> Result<(), Violation> {
        let kind = Frame::Attached(attached).kind();
        let asked = match place {
            Place::Current => self.legs.current.as_ref(),
            Place::Joining => self.legs.joining.as_ref(),
            Place::Draining => None,
        };
        let asked = asked.filter(|leg| !leg.answered && leg.greeted);
        let expected = asked.ok_or(Violation::Unexpected { kind })?.epoch;
        let Attached { epoch, features, received, limit } = attached;
        if epoch != expected {
            return Err(Violation::Epoch { epoch, expected });
        }
        if limit < received {
            return Err(Violation::Limit { limit });
        }
        if place == Place::Joining {
            self.sender.rewind(received, limit, now, &self.config)?;
            if let Some(old) = self.legs.leave_current(now, &self.config) {
                self.drop_leg(old.id, LegEnd::Flush);
            }
            self.legs.current = self.legs.joining.take();
            self.receiver.change_leg();
        } else {
            self.sender.allow(limit);
            self.sender.unpark();
            self.sender.acknowledge(received, now, &self.config)?;
        }
        self.attached(epoch, features, now);
        Ok(())
    }

    fn attached(&mut self, epoch: u32, features: u32, now: Instant) {
        self.legs.detached = None;
        self.legs.current.iter_mut().for_each(|leg| leg.answered = true);
        if epoch > 0 {
            // Tells what came on the leg before since MOVE was said, and completes the move at
            // the acceptor.
            self.receiver.acknowledge_soon();
        }
        // Where the stream runs is said before that it is open.
        self.events.extend(self.legs.arrive(now).map(Event::Moved));
        if let Role::Opener { greeting: greeting @ Some(_) } = &mut self.role {
            *greeting = None;
            self.features = features & FEATURES;
            self.events.push_back(Event::Opened);
        }
    }
}
