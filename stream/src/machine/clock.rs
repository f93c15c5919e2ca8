//! The deadlines of a stream, and what follows from everything else.

use std::time::Instant;

use super::{
    super::frame::Code,
    Machine, Phase,
    error::StreamError,
    event::{Event, LegEnd, LegId},
    legs::{Asking, Leg},
};

impl Machine {
    /// When [`Machine::handle_timeout`] is to be called, if nothing happens before.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let strikes = self.legs.strikes;
        let silent = |leg: &Leg| leg.deadline(&self.config, strikes);
        let over = match self.phase {
            Phase::Closed => return None,
            Phase::Open => self.legs.detached.map(|lost| lost.since + self.config.patience),
            Phase::Parting { until } | Phase::Telling { until, .. } => Some(until),
        };
        let attached = self.legs.current.as_ref().filter(|leg| leg.answered);
        let ask = attached.and_then(|leg| leg.ask).filter(|_| self.phase == Phase::Open);
        let deadlines = [
            over,
            ask,
            self.legs.current.as_ref().and_then(silent),
            self.legs.joining.as_ref().and_then(silent),
            self.legs.draining.map(|draining| draining.until),
            attached.and_then(|_| self.receiver.ack_due()),
            self.receiver.look_at(),
            self.sender.look_at(),
        ];
        deadlines.into_iter().flatten().min()
    }

    /// Time has passed: acts on every deadline up to `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.legs.current.as_ref().is_some_and(|leg| leg.answered) {
            self.receiver.handle_timeout(now);
        }
        if let Some(leg) = self.legs.current.as_mut().filter(|leg| leg.answered)
            && leg.ask.take_if(|ask| *ask <= now).is_some()
            && self.phase == Phase::Open
        {
            leg.asking = Some(Asking::Due);
        }
        self.drop_silent_legs(now);
        if let Some(old) = self.legs.draining.take_if(|draining| draining.until <= now) {
            self.drop_leg(old.id, LegEnd::Abort);
        }
        self.look_after_memory(now);
        match self.phase {
            Phase::Open => self.lose_patience(now),
            Phase::Parting { until } | Phase::Telling { until, .. } if until <= now => self.close(),
            _ => {}
        }
        self.settle(now);
    }

    /// Whether anything came on a leg since then, or it is not older than that.
    pub fn heard_since(&self, leg: LegId, since: Instant) -> bool {
        let legs = [&self.legs.current, &self.legs.joining];
        legs.into_iter().flatten().any(|found| found.id == leg && found.heard_since(since))
    }

    /// Something was heard at `at` on the connection under a leg, though not on the leg.
    pub fn heard_beside(&mut self, leg: LegId, at: Instant) {
        let legs = [&mut self.legs.current, &mut self.legs.joining];
        if let Some(found) = legs.into_iter().flatten().find(|found| found.id == leg) {
            found.heard_beside(at, &self.config);
        }
    }

    fn drop_silent_legs(&mut self, now: Instant) {
        let strikes = self.legs.strikes;
        let overdue = [&self.legs.joining, &self.legs.current].map(|leg| {
            let leg = leg.as_ref()?;
            Some((leg.id, leg.overdue(now, &self.config, strikes)?))
        });
        for (leg, cause) in overdue.into_iter().flatten() {
            self.legs.strikes = strikes.saturating_add(1);
            self.lose(leg, cause, now);
        }
    }

    /// Memory that others need is given back; a stream that keeps it for too long ends.
    fn look_after_memory(&mut self, now: Instant) {
        let fair = self.receiver.look(now) & self.sender.look(now, &self.config);
        if !fair && self.phase == Phase::Open {
            self.fail(StreamError::Reset { code: Code::Busy }, now);
        }
    }

    fn lose_patience(&mut self, now: Instant) {
        let waited = self.config.patience;
        if let Some(lost) = self.legs.detached.filter(|lost| lost.since + waited <= now) {
            self.fail(StreamError::NoPath { cause: lost.cause, waited }, now);
        }
    }

    /// Draws the conclusions after every verb.
    pub(super) fn settle(&mut self, now: Instant) {
        if self.receiver.take_readable() {
            self.events.push_back(Event::Readable);
        }
        if self.sender.take_writable(&self.config) {
            self.events.push_back(Event::Writable);
        }
        let finished = self.sender.is_delivered() && self.receiver.is_complete();
        if self.phase == Phase::Open && finished {
            self.outcome = Some(Ok(()));
            self.events.push_back(Event::Finished);
            self.phase = Phase::Parting { until: now + self.config.patience };
            if !self.is_opener() && self.legs.current.is_none() {
                self.close();
            }
        }
        self.receiver.arm(now);
        self.sender.arm(now);
        self.note_waiting(now);
    }

    /// Notes since when the peer owes us something on the current leg.
    fn note_waiting(&mut self, now: Instant) {
        let awaits_farewell = match self.phase {
            Phase::Parting { .. } => self.is_opener(),
            Phase::Telling { .. } => true,
            Phase::Open | Phase::Closed => false,
        };
        let Some(leg) = self.legs.current.as_mut() else {
            return;
        };
        let asked = leg.asking == Some(Asking::Asked);
        let owed = !leg.answered || awaits_farewell || asked || self.sender.in_flight();
        leg.waiting = if owed { leg.waiting.or(Some(now)) } else { None };
    }
}
