//! Streams that peers ask for: they wait here until the engine or the program has decided.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use libp2p::PeerId;
use punchline_stream::Facts;
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
};

use super::{
    legs::Legs,
    pace::Pace,
    undecided::{self, Asked, Undecided},
};
use crate::{
    engine::input::{InboundId, Input, Queue},
    error::{Refusal, ServeError},
    incoming::{Arrival, Decision, Request},
    net::substream::refuse,
    path::{ConnectionId, Direction},
    service::Service,
    stream::{
        Handle, Stream, StreamKey,
        frame::{Code, Hello},
        machine::{Farewell, Machine},
    },
};

/// Answers to inbound streams that wait for their time or are being written; past it a refused substream is just
/// dropped. Half of them are kept for those that need not wait.
const ANSWERS_MAX: usize = 1024;

/// For one answer of one byte to be written. A peer that does not take it is gone.
const ANSWER_DEADLINE: Duration = Duration::from_secs(5);

/// A service that this node answers for.
pub(crate) struct Served {
    pub(crate) queue: mpsc::Sender<Arrival>,
    /// Whether the program decides on each stream.
    pub(crate) ask: bool,
    /// How long its streams wait for a path; none: as the node's settings say.
    pub(crate) patience: Option<Duration>,
}

/// What peers ask for, and what they are answered.
#[derive(Default)]
pub(super) struct Requests {
    services: HashMap<Service, Served>,
    undecided: Undecided<libp2p::Stream>,
    answers: JoinSet<()>,
    pace: Pace,
}

impl Requests {
    pub(super) fn serve(&mut self, service: Service, served: Served) -> Result<(), ServeError> {
        self.services.retain(|_, served| !served.queue.is_closed());
        if self.services.contains_key(&service) {
            return Err(ServeError::Taken { service });
        }
        self.services.insert(service, served);
        Ok(())
    }

    /// Whether a stream is asked for and not decided on.
    pub(super) fn is_asked(&self, key: StreamKey) -> bool {
        self.undecided.contains(key)
    }

    /// Returns when an answer was written. For ever if none is being written.
    pub(super) async fn answered(&mut self) {
        if self.answers.join_next().await.is_none() {
            std::future::pending().await
        }
    }

    /// Says one last frame to a peer on a substream that carries no stream, in time.
    pub(super) fn answer(
        &mut self,
        peer: PeerId,
        mut io: impl futures::AsyncWrite + Unpin + Send + 'static,
        farewell: Farewell,
    ) {
        let Some(wait) = self.pace.wait(peer, Instant::now()) else { return };
        let most = if wait.is_zero() { ANSWERS_MAX } else { ANSWERS_MAX / 2 };
        if self.answers.len() < most {
            self.answers.spawn(async move {
                tokio::time::sleep(wait).await;
                let answer = refuse(&mut io, farewell.frame());
                let _ = tokio::time::timeout(ANSWER_DEADLINE, answer).await;
            });
        }
    }
}

impl Legs {
    /// A peer asks for a stream that does not exist, perhaps not for the first time.
    pub(super) fn asked(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        hello: Box<Hello>,
        io: libp2p::Stream,
    ) {
        match self.requests.undecided.hello(peer, connection, hello, io) {
            Asked::First(hello, io) => self.asked_first(peer, connection, hello, io),
            Asked::Again { inbound, accepted } => {
                self.tell(Input::RequestMoved { inbound, connection });
                if let Some(reply) = accepted {
                    self.accepted(inbound, reply);
                }
            }
            Asked::Stale(io) => self.requests.answer(peer, io, Farewell::Reset(Code::Stale)),
        }
    }

    fn asked_first(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        hello: Box<Hello>,
        io: libp2p::Stream,
    ) {
        let inbound = InboundId(self.id());
        let (stream, service) = (hello.stream, hello.service.clone());
        let services = self.requests.services.len();
        let served = self.requests.services.get(&service);
        let patience = served.and_then(|served| served.patience);
        let (queue, place) =
            match served.map(|served| (served, served.queue.clone().try_reserve_owned())) {
                Some((served, Ok(place))) => (Queue::Free { ask: served.ask, services }, Some(place)),
                Some((served, Err(mpsc::error::TrySendError::Full(_)))) => {
                    (Queue::Full { limit: served.queue.max_capacity() }, None)
                }
                Some((_, Err(mpsc::error::TrySendError::Closed(_)))) | None => (Queue::NotServed, None),
            };
        let request = undecided::Request::new(hello, peer, (connection, io), place, patience);
        self.requests.undecided.insert(inbound, request);
        self.tell(Input::InboundStream { inbound, connection, stream, service, queue });
    }

    /// A connection is gone: what was asked for on it waits for its opener to ask again.
    pub(super) fn leave_requests(&mut self, connection: ConnectionId) {
        for (inbound, key) in self.requests.undecided.connection_closed(connection) {
            self.remember_refused(key, Code::Cancelled);
            self.tell(Input::RequestEnded { inbound });
        }
    }

    /// Whoever asks for this stream again gets the same answer.
    fn remember_refused(&mut self, key: StreamKey, code: Code) {
        let keep = self.stream_config.patience * 2;
        self.books.refuse(key, Farewell::Reset(code), keep, Instant::now());
    }

    /// The engine takes a stream for the program.
    pub(super) fn accept(&mut self, inbound: InboundId) {
        let place = self.requests.undecided.get_mut(inbound).and_then(|found| found.place.take());
        match (self.take(inbound), place) {
            (Some(stream), Some(place)) => drop(place.send(Arrival::Stream(stream))),
            (stream, _) => drop(stream),
        }
    }

    /// The program decides.
    pub(super) fn ask(&mut self, inbound: InboundId) {
        let asked = self.requests.undecided.get_mut(inbound);
        let path = asked.as_ref().and_then(|asked| Some(self.ends.get(&asked.connection()?)?.path));
        let place = asked.and_then(|asked| Some((asked.place.take()?, asked)));
        let (Some((place, asked)), Some(path)) = (place, path) else {
            return self.tell(Input::RequestEnded { inbound });
        };
        asked.shown = true;
        let request = Request {
            inbound,
            peer: asked.peer,
            path,
            service: asked.hello.service.clone(),
            ticket: asked.hello.ticket.clone(),
            decisions: Some(self.decisions.0.clone()),
        };
        place.send(Arrival::Request(Box::new(request)));
    }

    /// The program has decided. It is not asked again, whatever becomes of the peer meanwhile.
    pub(super) fn decided(&mut self, inbound: InboundId, decision: Decision) {
        let Some(asked) = self.requests.undecided.get_mut(inbound) else { return };
        match decision {
            // The peer asks again by its next connection, or the engine's deadline ends the request.
            Decision::Accept(reply) if asked.leg.is_none() => asked.accepted = Some(reply),
            Decision::Accept(reply) => self.accepted(inbound, reply),
            Decision::Refuse(refusal) => {
                self.refuse(inbound, refusal);
                self.tell(Input::RequestEnded { inbound });
            }
        }
    }

    fn accepted(&mut self, inbound: InboundId, reply: oneshot::Sender<Stream>) {
        let Some(key) = self.requests.undecided.get_mut(inbound).map(|asked| asked.key()) else {
            return;
        };
        match self.take(inbound) {
            // Whoever decided may have gone; the stream then ends by being dropped.
            Some(stream) => drop(reply.send(stream)),
            None => self.remember_refused(key, Code::Cancelled),
        }
    }

    /// Turns a peer away. If the program was asked, it is not asked again.
    pub(super) fn refuse(&mut self, inbound: InboundId, refusal: Refusal) {
        let Some(request) = self.requests.undecided.remove(inbound) else { return };
        if request.shown {
            self.remember_refused(request.key(), code(refusal));
        }
        if let Some((_, io)) = request.leg {
            self.requests.answer(request.peer, io, Farewell::Reset(code(refusal)));
        }
    }

    /// Answers the peer: from now on there is a stream.
    fn take(&mut self, inbound: InboundId) -> Option<Stream> {
        let request = self.requests.undecided.remove(inbound);
        let taken = request.and_then(|request| self.start(inbound, request));
        if taken.is_none() {
            self.tell(Input::RequestEnded { inbound });
        }
        taken
    }

    fn start(
        &mut self,
        inbound: InboundId,
        request: undecided::Request<libp2p::Stream>,
    ) -> Option<Stream> {
        let undecided::Request { hello, peer, leg, patience, .. } = request;
        let (connection, io) = leg?;
        let on = self.route_of(connection)?;
        let key = StreamKey { peer, stream: hello.stream };
        let (leg, config, path) = (self.leg(), self.config(patience), on.path);
        let budget = self.books.budget_of(peer);
        let machine = Machine::accept(&hello, config, &budget, leg, Instant::now());
        let service = hello.service.clone();
        let facts = Facts::new(hello.stream, hello.service, Direction::Inbound, on);
        let handle = Handle::start(machine, facts.into(), leg, Box::new(io), self.notes_of(key));
        let stream = Stream::new(&handle, peer);
        self.books.insert(key, handle, true);
        self.tell(Input::LegStarted { key, connection, leg });
        self.tell(Input::StreamAccepted { inbound, key, service, path });
        Some(stream)
    }
}

fn code(refusal: Refusal) -> Code {
    match refusal {
        Refusal::NotServed => Code::Refused,
        Refusal::Busy => Code::Busy,
        Refusal::Shutdown => Code::Shutdown,
        Refusal::TargetRefused => Code::TargetRefused,
        Refusal::TargetUnreachable => Code::TargetUnreachable,
        Refusal::TicketExpired => Code::TicketExpired,
        Refusal::TicketUsed => Code::TicketUsed,
        Refusal::TicketRevoked => Code::TicketRevoked,
        Refusal::DirectOnly => Code::DirectOnly,
    }
}
