//! One end of a stream, pure: frames in, frames out, time as an argument.
//!
//! [`Machine`] has the program's verbs (write, read, finish, reset) here; `frames` takes what
//! arrives on a leg, `transmit` gives what goes out, `moves` changes legs, `clock` keeps the
//! deadlines; `plain` is the short way of payload when nothing else is to be done. `send` and `receive`
//! hold the bytes, `legs` the legs, `holding` decides how long
//! the budget is held. `design/wire.md` is the specification.

mod clock;
mod config;
mod error;
mod event;
mod frames;
mod holding;
mod legs;
mod moves;
mod plain;
mod receive;
mod round_trip;
mod send;
mod transmit;

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;

use self::{
    legs::{Leg, Legs},
    receive::Receiver,
    send::Sender,
};
use super::{
    StreamId,
    budget::Budget,
    frame::{Code, EARLY_DATA_BYTES_MAX, FEATURES, Hello},
};
use crate::service::Service;

pub use config::Config;
pub use error::{LossCause, MoveError, StreamError, Violation};
pub use event::{Event, Farewell, LegEnd, LegId, Moved};
pub use transmit::Transmit;

/// One end of a stream.
///
/// After every verb the driver drains [`Machine::poll_event`], offers room to
/// [`Machine::poll_transmit`] for every leg that takes more, and re-arms one timer for
/// [`Machine::poll_timeout`]. It handles what arrived before it handles a timeout, so that a
/// process that slept does not take its own sleep for silence.
///
/// ```text
///         both FINs acknowledged               DONE said or heard, or its deadline
///  Open ───────────────────────────► Parting ─────────────────────────────────────► Closed
///   │ reset, violation, RESET heard             RESET said and answered, or deadline   ▲
///   ├─────────────────────────────► Telling ───────────────────────────────────────────┤
///   │ refused; no path within patience                                                 │
///   └──────────────────────────────────────────────────────────────────────────────────┘
/// ```
#[derive(Debug)]
pub struct Machine {
    id: StreamId,
    role: Role,
    /// Known to both ends, as far as this one has heard.
    features: u32,
    config: Arc<Config>,
    sender: Sender,
    receiver: Receiver,
    legs: Legs,
    phase: Phase,
    /// How it went, once that is settled.
    outcome: Option<Result<(), StreamError>>,
    events: VecDeque<Event>,
}

#[derive(Debug)]
enum Role {
    /// Created the stream; the only one to move it.
    Opener {
        /// What HELLO says, until it is answered.
        greeting: Option<Box<Greeting>>,
    },
    Acceptor,
}

#[derive(Debug)]
struct Greeting {
    service: Service,
    ticket: Bytes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Open,
    /// Everything is received and acknowledged. The acceptor owes DONE, the opener awaits it.
    Parting {
        until: Instant,
    },
    /// Failed here; the peer is to know.
    Telling {
        code: Code,
        until: Instant,
    },
    Closed,
}

impl Machine {
    /// The opener's end. Its HELLO goes out on `leg`, with early data behind it.
    ///
    /// `ticket` is an opaque capability for the acceptor, at most
    /// [`TICKET_BYTES_MAX`](super::frame::TICKET_BYTES_MAX) bytes, empty for none.
    pub fn open(
        id: StreamId,
        service: Service,
        ticket: Bytes,
        config: Arc<Config>,
        budget: &Arc<Budget>,
        leg: LegId,
        now: Instant,
    ) -> Self {
        let early = config.early_data_bytes.min(EARLY_DATA_BYTES_MAX);
        let greeting = Some(Box::new(Greeting { service, ticket }));
        let mut legs = Legs { current: Some(Leg::new(leg, 0, false, now)), ..Legs::default() };
        legs.current.iter_mut().for_each(|leg| leg.waiting = Some(now));
        Self::new(id, Role::Opener { greeting }, early, legs, config, budget)
    }

    /// The acceptor's end, made when the driver has agreed to `hello`, the first frame on `leg`.
    ///
    /// A HELLO of a stream that exists goes to [`Machine::handle_hello`] instead.
    pub fn accept(
        hello: &Hello,
        config: Arc<Config>,
        budget: &Arc<Budget>,
        leg: LegId,
        now: Instant,
    ) -> Self {
        let current = Some(Leg::new(leg, hello.epoch, true, now));
        let legs = Legs { current, epoch: hello.epoch, ..Legs::default() };
        let mut machine = Self::new(hello.stream, Role::Acceptor, hello.limit, legs, config, budget);
        machine.features = hello.features & FEATURES;
        machine
    }

    fn new(
        id: StreamId,
        role: Role,
        limit: u64,
        legs: Legs,
        config: Arc<Config>,
        budget: &Arc<Budget>,
    ) -> Self {
        Self {
            id,
            role,
            features: 0,
            sender: Sender::new(limit, &config, budget),
            receiver: Receiver::new(&config, budget),
            legs,
            phase: Phase::Open,
            outcome: None,
            events: VecDeque::new(),
            config,
        }
    }

    /// Takes as many of `bytes` as there is room for; 0 if there is none, and
    /// [`Event::Writable`] follows when there is some.
    ///
    /// # Errors
    /// If the stream failed, or was finished here.
    pub fn write(&mut self, bytes: &[u8]) -> Result<usize, StreamError> {
        match self.outcome {
            Some(Err(error)) => Err(error),
            _ if self.sender.is_finished() => Err(StreamError::Finished),
            _ => Ok(self.sender.write(bytes, &self.config)),
        }
    }

    /// Copies received bytes into `out`. `Some(n)`: that many, 0 at the end of the stream (or
    /// if `out` is empty); `None`: nothing yet, and [`Event::Readable`] follows.
    ///
    /// # Errors
    /// If the stream failed, unless everything had been received by then.
    pub fn read(&mut self, out: &mut [u8]) -> Result<Option<usize>, StreamError> {
        if let (Some(Err(error)), false) = (self.outcome, self.receiver.is_complete()) {
            return Err(error);
        }
        if out.is_empty() || self.receiver.is_read_out() {
            return Ok(Some(0));
        }
        Ok(Some(self.receiver.read(out)).filter(|read| *read > 0))
    }

    /// Nothing more will be written. [`Event::Delivered`] follows when the peer has everything.
    pub fn finish(&mut self) {
        self.sender.finish();
    }

    /// Ends the stream in both directions; what was not delivered is lost. Both ends fail with
    /// `code`, this one at once. Without effect on a stream that is over.
    pub fn reset(&mut self, code: Code, now: Instant) {
        if self.phase == Phase::Open {
            self.fail(StreamError::Reset { code }, now);
            self.settle(now);
        }
    }

    /// What happened, oldest first.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// What an acceptor's driver answers a later HELLO or MOVE of this stream with, once it is
    /// over. To be kept for as long as the peer may wait: twice the patience.
    pub fn tombstone(&self) -> Option<Farewell> {
        let Role::Acceptor = self.role else {
            return None;
        };
        self.outcome.map(farewell)
    }

    /// Whether nothing is to be done for payload that came since everything was: no event waits, and the
    /// peer is to be told of nothing.
    pub fn is_calm(&self) -> bool {
        self.events.is_empty() && !self.receiver.owes_word()
    }

    /// The stream's id.
    pub fn id(&self) -> StreamId {
        self.id
    }

    /// The features that both ends know, a bit each; none before HELLO is answered.
    pub fn features(&self) -> u32 {
        self.features
    }

    /// The leg that carries the stream, if one does.
    pub fn leg(&self) -> Option<LegId> {
        self.legs.current.as_ref().map(|leg| leg.id)
    }

    /// How long this end waits for a leg.
    pub fn patience(&self) -> Duration {
        self.config.patience
    }

    /// Whether nothing more will be said.
    pub fn is_closed(&self) -> bool {
        self.phase == Phase::Closed
    }

    /// Whether the peer has acknowledged everything, up to the FIN.
    pub fn is_delivered(&self) -> bool {
        self.sender.is_delivered()
    }

    /// Whether [`Machine::finish`] was called.
    pub fn is_finished_here(&self) -> bool {
        self.sender.is_finished()
    }

    /// How the stream failed, if it did.
    pub fn failure(&self) -> Option<StreamError> {
        self.outcome.and_then(Result::err)
    }

    /// Bytes written and not yet acknowledged.
    pub fn retained_bytes(&self) -> u64 {
        self.sender.retained()
    }

    /// Most bytes that are retained now.
    pub fn send_buffer_bytes(&self) -> u64 {
        self.sender.capacity()
    }

    /// Bytes received and not yet read.
    pub fn buffered_bytes(&self) -> u64 {
        self.receiver.buffered()
    }

    /// Most bytes that are buffered now.
    pub fn window_bytes(&self) -> u64 {
        self.receiver.window()
    }

    fn is_opener(&self) -> bool {
        matches!(self.role, Role::Opener { .. })
    }

    /// Opener: HELLO was answered. Always true of an acceptor.
    fn is_established(&self) -> bool {
        !matches!(self.role, Role::Opener { greeting: Some(_) })
    }

    /// The stream is over for the program; the peer is told if it does not know and can be.
    fn fail(&mut self, error: StreamError, now: Instant) {
        if self.outcome.is_some() {
            return self.close();
        }
        self.outcome = Some(Err(error));
        self.events.push_back(Event::Failed(error));
        self.sender.abandon(&self.config);
        if !self.receiver.is_complete() {
            self.receiver.abandon();
        }
        let told = match error {
            StreamError::Reset { .. } | StreamError::Violation(_) => false,
            // An acceptor echoes RESET, which tells the opener to stop trying.
            StreamError::PeerReset { .. } => self.is_opener(),
            StreamError::Refused { .. } | StreamError::NoPath { .. } | StreamError::Finished => true,
        };
        let current = self.legs.current.as_ref();
        let unsaid = self.legs.epoch == 0 && current.is_some_and(|leg| !leg.greeted);
        let nowhere = !self.is_opener() && current.is_none();
        if told || nowhere || (self.is_opener() && unsaid) {
            return self.close();
        }
        let until = now + self.config.reset_linger;
        self.phase = Phase::Telling { code: code(error), until };
        if self.is_opener() {
            self.ask_for_path();
        }
    }

    /// Nothing more will be said.
    fn close(&mut self) {
        if self.phase == Phase::Closed {
            return;
        }
        self.phase = Phase::Closed;
        let legs = std::mem::take(&mut self.legs);
        let ids = [
            legs.current.map(|leg| leg.id),
            legs.joining.map(|leg| leg.id),
            legs.draining.map(|leg| leg.id),
        ];
        for leg in ids.into_iter().flatten() {
            self.events.push_back(Event::DropLeg { leg, end: LegEnd::Flush });
        }
        self.sender.abandon(&self.config);
        self.events.push_back(Event::Closed);
    }
}

/// How a stream that went this way answers.
fn farewell(outcome: Result<(), StreamError>) -> Farewell {
    match outcome {
        Ok(()) => Farewell::Done,
        Err(error) => Farewell::Reset(code(error)),
    }
}

/// What the peer is told of a failure.
fn code(error: StreamError) -> Code {
    match error {
        StreamError::Refused { code }
        | StreamError::PeerReset { code }
        | StreamError::Reset { code } => code,
        StreamError::Violation(violation) => violation.code(),
        StreamError::NoPath { .. } => Code::Patience,
        StreamError::Finished => Code::Protocol,
    }
}
