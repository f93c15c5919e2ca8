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

use super::legs::Legs;
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

/// Answers to inbound streams being written at once; past it a refused substream is just dropped.
const ANSWERS_MAX: usize = 256;

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

/// An inbound stream that was neither taken nor refused.
struct Undecided {
    hello: Box<Hello>,
    peer: PeerId,
    connection: ConnectionId,
    io: libp2p::Stream,
    place: Option<mpsc::OwnedPermit<Arrival>>,
    patience: Option<Duration>,
}

/// What peers ask for, and what they are answered.
#[derive(Default)]
pub(super) struct Requests {
    services: HashMap<Service, Served>,
    undecided: HashMap<InboundId, Undecided>,
    answers: JoinSet<()>,
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

    /// A connection is gone, and what was asked for on it.
    pub(super) fn closed(&mut self, connection: ConnectionId) {
        self.undecided.retain(|_, undecided| undecided.connection != connection);
    }

    /// Returns when an answer was written. For ever if none is being written.
    pub(super) async fn answered(&mut self) {
        if self.answers.join_next().await.is_none() {
            std::future::pending().await
        }
    }

    /// Says one last frame on a substream that carries no stream.
    pub(super) fn answer(
        &mut self,
        mut io: impl futures::AsyncWrite + Unpin + Send + 'static,
        farewell: Farewell,
    ) {
        if self.answers.len() < ANSWERS_MAX {
            self.answers.spawn(async move {
                let answer = refuse(&mut io, farewell.frame());
                let _ = tokio::time::timeout(ANSWER_DEADLINE, answer).await;
            });
        }
    }

    pub(super) fn refuse(&mut self, inbound: InboundId, refusal: Refusal) {
        if let Some(Undecided { io, .. }) = self.undecided.remove(&inbound) {
            self.answer(io, Farewell::Reset(code(refusal)));
        }
    }
}

impl Legs {
    /// A peer asks for a stream that we do not know.
    pub(super) fn asked(
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
        let undecided = Undecided { hello, peer, connection, io, place, patience };
        self.requests.undecided.insert(inbound, undecided);
        self.tell(Input::InboundStream { inbound, connection, stream, service, queue });
    }

    /// The engine takes a stream for the program.
    pub(super) fn accept(&mut self, inbound: InboundId) {
        let place = self.requests.undecided.get_mut(&inbound).and_then(|found| found.place.take());
        match (self.take(inbound), place) {
            (Some(stream), Some(place)) => drop(place.send(Arrival::Stream(stream))),
            (stream, _) => drop(stream),
        }
    }

    /// The program decides.
    pub(super) fn ask(&mut self, inbound: InboundId) {
        let Some(undecided) = self.requests.undecided.get_mut(&inbound) else {
            return self.tell(Input::RequestEnded { inbound });
        };
        let path = self.ends.get(&undecided.connection).map(|ends| ends.path);
        let (Some(place), Some(path)) = (undecided.place.take(), path) else {
            return self.tell(Input::RequestEnded { inbound });
        };
        let request = Request {
            inbound,
            peer: undecided.peer,
            path,
            service: undecided.hello.service.clone(),
            ticket: undecided.hello.ticket.clone(),
            decisions: Some(self.decisions.0.clone()),
        };
        place.send(Arrival::Request(Box::new(request)));
    }

    /// The program has decided.
    pub(super) fn decided(&mut self, inbound: InboundId, decision: Decision) {
        match decision {
            Decision::Accept(reply) => self.grant(inbound, reply),
            Decision::Refuse(refusal) => {
                self.requests.refuse(inbound, refusal);
                self.tell(Input::RequestEnded { inbound });
            }
        }
    }

    fn grant(&mut self, inbound: InboundId, reply: oneshot::Sender<Stream>) {
        if let Some(stream) = self.take(inbound) {
            // Whoever decided may have gone; the stream then ends by being dropped.
            drop(reply.send(stream));
        }
    }

    /// Answers the peer: from now on there is a stream.
    fn take(&mut self, inbound: InboundId) -> Option<Stream> {
        let taken =
            self.requests.undecided.remove(&inbound).and_then(|found| self.start(inbound, found));
        if taken.is_none() {
            self.tell(Input::RequestEnded { inbound });
        }
        taken
    }

    fn start(&mut self, inbound: InboundId, undecided: Undecided) -> Option<Stream> {
        let Undecided { hello, peer, connection, io, patience, .. } = undecided;
        let key = StreamKey { peer, stream: hello.stream };
        let on = self.carrying(connection)?;
        if self.books.get_mut(key).is_some() {
            // The same stream was asked for twice, and the other request was granted.
            self.requests.answer(io, Farewell::Reset(Code::Stale));
            return None;
        }
        let (leg, config, path) = (self.leg(), self.config(patience), on.path);
        let machine = Machine::accept(&hello, config, &self.budget, leg, Instant::now());
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
    }
}
