//! What arrives on a leg.

use std::time::Instant;

use super::{
    Machine, Phase, Role,
    error::{LossCause, StreamError, Violation},
    event::{Event, LegId},
    legs::Place,
};
use crate::frame::{Code, Frame, FrameError, Kind};

impl Machine {
    /// Takes a frame from a leg. Frames of a leg that was dropped are ignored.
    ///
    /// # Errors
    /// If the peer broke the protocol: the stream has then failed and the peer is told; the
    /// error is for the driver's records.
    pub fn handle_frame(&mut self, leg: LegId, frame: Frame, now: Instant) -> Result<(), Violation> {
        let Some(place) = self.legs.place(leg) else { return Ok(()) };
        self.legs.heard_frame(place, now);
        let taken = self.dispatch(place, leg, frame, now);
        self.conclude(place, taken.err(), now);
        taken
    }

    /// Takes payload of a DATA frame, all or a piece of it, for a reader that has `room` for so many bytes
    /// now. Returns how many bytes at its front go to the reader at once: the machine counts them as read,
    /// and keeps the others. More than none only if they are what the reader gets next.
    ///
    /// # Errors
    /// As [`Machine::handle_frame`]; then the reader gets none.
    pub fn handle_payload(
        &mut self,
        leg: LegId,
        offset: u64,
        payload: &[u8],
        room: usize,
        now: Instant,
    ) -> Result<usize, Violation> {
        if payload.len() <= room && self.passes(leg, offset, payload.len(), now) {
            return Ok(payload.len());
        }
        let Some(place) = self.legs.place(leg) else { return Ok(0) };
        self.legs.heard_frame(place, now);
        let taken = self.payload_heard(place, offset, payload, room, now);
        self.conclude(place, taken.err(), now);
        taken
    }

    /// What is common to all that a leg brings.
    fn conclude(&mut self, place: Place, broken: Option<Violation>, now: Instant) {
        if let Some(violation) = broken {
            self.fail(violation.into(), now);
        } else if place == Place::Current
            && !self.is_opener()
            && let Some(moved) = self.legs.arrive(now)
        {
            self.events.push_back(Event::Moved(moved));
        }
        self.settle(now);
    }

    /// Bytes were read from a leg, perhaps not a whole frame: it is not silent.
    pub fn heard(&mut self, id: LegId, now: Instant) {
        let legs = [&mut self.legs.current, &mut self.legs.joining];
        if let Some(leg) = legs.into_iter().flatten().find(|leg| leg.id == id) {
            leg.heard_bytes(now);
        }
    }

    /// What was read from a leg is no frame: the stream fails, and the peer is told.
    pub fn malformed(&mut self, leg: LegId, error: FrameError, now: Instant) {
        if self.legs.place(leg).is_some() {
            self.fail(Violation::Malformed(error).into(), now);
            self.settle(now);
        }
    }

    fn dispatch(
        &mut self,
        place: Place,
        leg: LegId,
        frame: Frame,
        now: Instant,
    ) -> Result<(), Violation> {
        if let Phase::Telling { .. } = self.phase {
            if matches!(frame, Frame::Reset { .. } | Frame::Done) {
                self.close();
            }
            return Ok(());
        }
        let unexpected = Violation::Unexpected { kind: frame.kind() };
        match frame {
            Frame::Reset { code } => self.reset_heard(place, leg, code, now),
            Frame::Done => return self.done_heard(unexpected),
            Frame::Attached(attached) => return self.attached_heard(place, attached, now),
            Frame::Hello(_) | Frame::Move(_) => return Err(unexpected),
            Frame::Data { offset, payload } => {
                self.payload_heard(place, offset, &payload, 0, now)?;
            }
            _ if !self.is_answered(place) => return Err(unexpected),
            Frame::Ack { received, limit } => self.ack_heard(place, received, limit, now)?,
            Frame::Blocked { limit } => self.receiver.blocked(limit, &self.config)?,
            Frame::Fin { offset } => self.receiver.fin(offset)?,
            Frame::FinAck { offset } => self.fin_ack_heard(offset, now)?,
            Frame::Ping => {
                let asked = self.legs.current.as_mut().filter(|_| place == Place::Current);
                asked.into_iter().for_each(|leg| leg.pong_owed = true);
            }
            Frame::Lower { .. } | Frame::Lowered { .. } if place != Place::Current => {}
            Frame::Lower { limit } => self.sender.lower(limit),
            Frame::Lowered { limit } => self.receiver.lowered(limit)?,
            // That it came is all it says.
            Frame::Pong => {}
        }
        Ok(())
    }

    fn payload_heard(
        &mut self,
        place: Place,
        offset: u64,
        payload: &[u8],
        room: usize,
        now: Instant,
    ) -> Result<usize, Violation> {
        if let Phase::Telling { .. } = self.phase {
            return Ok(0);
        }
        if !self.is_answered(place) {
            return Err(Violation::Unexpected { kind: Kind::Data });
        }
        let next = self.phase == Phase::Open && self.receiver.is_next(offset);
        let past = if next { payload.len().min(room) } else { 0 };
        self.receiver.payload(offset, payload, past, now, &self.config)?;
        if self.is_opener()
            && let Some(leg) = self.legs.current.as_mut()
        {
            // Only the opener can move the stream, and it has to notice when what comes stops coming
            // because the path died.
            leg.ask = Some(now + self.config.ask_after);
        }
        Ok(past)
    }

    /// Whether the peer may say more than an answer on this leg.
    fn is_answered(&self, place: Place) -> bool {
        match place {
            Place::Current => self.legs.current.as_ref().is_some_and(|leg| leg.answered),
            Place::Joining => false,
            Place::Draining => true,
        }
    }

    fn ack_heard(
        &mut self,
        place: Place,
        received: u64,
        limit: u64,
        now: Instant,
    ) -> Result<(), Violation> {
        if limit < received {
            return Err(Violation::Limit { limit });
        }
        // What was said on the leg before is older than the limit that the next one began with.
        if place == Place::Current {
            self.sender.allow(limit);
        }
        if self.sender.acknowledge(received, now, &self.config)? {
            self.legs.strikes = 0;
        }
        Ok(())
    }

    fn fin_ack_heard(&mut self, offset: u64, now: Instant) -> Result<(), Violation> {
        if self.sender.fin_acknowledged(offset, now, &self.config)? {
            self.legs.strikes = 0;
            self.events.push_back(Event::Delivered);
        }
        Ok(())
    }

    fn reset_heard(&mut self, place: Place, leg: LegId, code: Code, now: Instant) {
        if let (Role::Opener { .. }, Phase::Open | Phase::Parting { .. }) = (&self.role, self.phase) {
            let joining = place == Place::Joining;
            let can_do_without = joining && (self.is_established() || self.legs.current.is_some());
            if code == Code::Stale || (code == Code::Busy && can_do_without) {
                return self.lose(leg, LossCause::Refused { code }, now);
            }
        }
        let refused = !self.is_established();
        self.fail(
            if refused { StreamError::Refused { code } } else { StreamError::PeerReset { code } },
            now,
        );
    }

    /// DONE: the acceptor has everything and knows that we have.
    fn done_heard(&mut self, unexpected: Violation) -> Result<(), Violation> {
        let finished = self.sender.is_said() && self.receiver.is_complete();
        if !self.is_opener() || !finished {
            return Err(unexpected);
        }
        if self.outcome.is_none() {
            self.outcome = Some(Ok(()));
            self.sender.delivered(&self.config);
            self.events.extend([Event::Delivered, Event::Finished]);
        }
        self.close();
        Ok(())
    }
}
