//! What goes out on a leg.

use std::{ops::Range, time::Instant};

use bytes::Bytes;

use super::{
    Machine, Phase, Role,
    event::LegId,
    legs::{Asking, Leg, Place},
};
use crate::frame::{Attached, FEATURES, Frame, Hello, Move};

/// What goes out on a leg.
#[derive(Debug, PartialEq, Eq)]
pub enum Transmit<'a> {
    /// A frame of any kind but DATA.
    Frame(Frame),
    /// A DATA frame.
    Data {
        /// Where the payload starts in the stream.
        offset: u64,
        /// At least one byte.
        payload: &'a [u8],
        /// The whole frame as it goes over the wire, if there is much of it: saves copying it.
        image: Option<Bytes>,
    },
}

/// What is sent next: a frame, or the payload that lies there.
enum Next {
    Frame(Frame),
    Data(Range<u64>),
}

impl Transmit<'_> {
    /// The frame, with a copy of the payload.
    pub fn to_frame(&self) -> Frame {
        match self {
            Self::Frame(frame) => frame.clone(),
            Self::Data { offset, payload, .. } => {
                Frame::Data { offset: *offset, payload: Bytes::copy_from_slice(payload) }
            }
        }
    }
}

impl Machine {
    /// The next frame to write on `leg`, or `None` if there is none now.
    ///
    /// To be asked only when the leg takes more: a frame that was taken counts as sent.
    pub fn poll_transmit(&mut self, leg: LegId, now: Instant) -> Option<Transmit<'_>> {
        let next = match self.legs.place(leg)? {
            Place::Current => self.next_on_current(now),
            Place::Joining => self.next_on_joining(now).map(Next::Frame),
            Place::Draining => None,
        }?;
        self.settle(now);
        Some(match next {
            Next::Frame(frame) => Transmit::Frame(frame),
            Next::Data(range) => {
                let (payload, image) = self.sender.data(&range);
                Transmit::Data { offset: range.start, payload, image }
            }
        })
    }

    /// MOVE, and the RESET that must reach the peer, if there is one; no more before the answer.
    fn next_on_joining(&mut self, now: Instant) -> Option<Frame> {
        let leg = self.legs.joining.as_mut()?;
        if !std::mem::replace(&mut leg.greeted, true) {
            let epoch = leg.epoch;
            return Some(self.greeting(epoch, now));
        }
        tell(leg, self.phase)
    }

    fn next_on_current(&mut self, now: Instant) -> Option<Next> {
        let leg = self.legs.current.as_mut()?;
        let (epoch, answered) = (leg.epoch, leg.answered);
        if let (Phase::Telling { .. }, Role::Acceptor) = (self.phase, &self.role) {
            let frame = tell(leg, self.phase);
            self.close();
            return frame.map(Next::Frame);
        }
        if !std::mem::replace(&mut leg.greeted, true) {
            return Some(Next::Frame(self.greeting(epoch, now)));
        }
        if let Phase::Telling { .. } = self.phase {
            return tell(leg, self.phase).map(Next::Frame);
        }
        let word = if answered { self.next_acknowledgement(now) } else { None };
        word.map(Next::Frame).or_else(|| self.next_payload(now))
    }

    /// The first frame of this end on a leg.
    fn greeting(&mut self, epoch: u32, now: Instant) -> Frame {
        let stream = self.id;
        let telling = matches!(self.phase, Phase::Telling { .. });
        match &self.role {
            Role::Acceptor => {
                let (received, limit) = self.receiver.announce(now);
                Frame::Attached(Attached { epoch, features: self.features, received, limit })
            }
            // A stream that is over must not be created by the attempt to say so.
            Role::Opener { greeting: Some(greeting) } if !telling => {
                let (service, ticket) = (greeting.service.clone(), greeting.ticket.clone());
                let (_, limit) = self.receiver.position();
                let features = FEATURES;
                Frame::Hello(Box::new(Hello { stream, epoch, features, limit, service, ticket }))
            }
            Role::Opener { .. } => {
                let (received, limit) = self.receiver.position();
                Frame::Move(Move { stream, epoch, received, limit })
            }
        }
    }

    fn next_acknowledgement(&mut self, now: Instant) -> Option<Frame> {
        if let Some(leg) = self.legs.current.as_mut() {
            if std::mem::take(&mut leg.pong_owed) {
                return Some(Frame::Pong);
            }
            if leg.asking.take_if(|asking| *asking == Asking::Due).is_some() {
                leg.asking = Some(Asking::Asked);
                return Some(Frame::Ping);
            }
        }
        if let Some((received, limit)) = self.receiver.next_ack(now) {
            return Some(Frame::Ack { received, limit });
        }
        if let Some(limit) = self.receiver.next_lower() {
            return Some(Frame::Lower { limit });
        }
        if let Some(limit) = self.sender.next_lowered() {
            return Some(Frame::Lowered { limit });
        }
        if let Some(offset) = self.receiver.next_fin_ack() {
            return Some(Frame::FinAck { offset });
        }
        if let (Phase::Parting { .. }, Role::Acceptor) = (self.phase, &self.role) {
            self.close();
            return Some(Frame::Done);
        }
        None
    }

    fn next_payload(&mut self, now: Instant) -> Option<Next> {
        if let Some(range) = self.sender.next_data(now, &self.config) {
            return Some(Next::Data(range));
        }
        if let Some(offset) = self.sender.next_fin() {
            return Some(Next::Frame(Frame::Fin { offset }));
        }
        self.is_established().then_some(())?;
        self.sender.next_blocked().map(|limit| Next::Frame(Frame::Blocked { limit }))
    }
}

/// RESET, once on each leg, if there is one to say.
fn tell(leg: &mut Leg, phase: Phase) -> Option<Frame> {
    let Phase::Telling { code, .. } = phase else {
        return None;
    };
    (!std::mem::replace(&mut leg.reset_sent, true)).then_some(Frame::Reset { code })
}
