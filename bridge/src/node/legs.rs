//! The driver's dealings with streams: substreams become legs, first words become streams, and what
//! streams say becomes inputs and events.

use std::time::{Duration, Instant};

use libp2p::PeerId;
use tokio::sync::{mpsc, oneshot};

use super::{driver::Driver, streams::end_of};
use crate::{
    engine::input::{InboundId, Input, OpenId, Queue, SubstreamFailure},
    error::{OpenError, Refusal},
    event::Event,
    incoming::{Arrival, Decision, Request},
    net::substream::{self, First, refuse},
    path::{ConnectionId, Direction},
    service::Service,
    stream::{
        Carrying, Stream, StreamFacts, StreamId, StreamKey,
        carrier::{Ask, Note, Shared},
        frame::{Code, Hello},
        machine::{self, Farewell, LegId, Machine, StreamError},
    },
};

/// Answers to inbound streams being written at once; past it a refused substream is just dropped.
const ANSWERS_MAX: usize = 256;

/// For one answer of one byte to be written. A peer that does not take it is gone.
const ANSWER_DEADLINE: Duration = Duration::from_secs(5);

/// An inbound stream that was neither taken nor refused.
pub(super) struct Waiting {
    hello: Box<Hello>,
    peer: PeerId,
    pub(super) connection: ConnectionId,
    io: libp2p::Stream,
    place: Option<mpsc::OwnedPermit<Arrival>>,
}

pub(super) type Reply = oneshot::Sender<Result<Stream, OpenError>>;

/// What a substream was asked for.
pub(super) enum Purpose {
    Open { service: Service },
    Move { key: StreamKey, connection: ConnectionId },
}

impl Driver {
    pub(super) fn substream_event(&mut self, event: substream::Event) -> Option<Input> {
        match event {
            substream::Event::Opened { open, peer, connection, io } => {
                match self.asked.remove(&open)? {
                    Purpose::Open { service } => {
                        self.greet(open, peer, service, connection, io);
                        None
                    }
                    Purpose::Move { key, .. } => self.begin_move(key, connection, io),
                }
            }
            substream::Event::Failed { open, failure } => match self.asked.remove(&open)? {
                Purpose::Open { .. } => Some(Input::SubstreamFailed { open, failure }),
                Purpose::Move { key, connection } => {
                    self.engine.handle(Input::LegEnded { connection }, Instant::now());
                    Some(Input::MoveFailed { key, connection, silent: false })
                }
            },
            substream::Event::Inbound { peer, connection, first, io } => {
                self.heard_first(peer, connection, first, io)
            }
        }
    }

    /// Says HELLO; the stream is the program's when it is answered.
    fn greet(
        &mut self,
        open: OpenId,
        peer: PeerId,
        service: Service,
        connection: ConnectionId,
        io: libp2p::Stream,
    ) {
        let Some(on) = self.carrying(connection) else {
            let failure = SubstreamFailure::Lost("the connection closed".to_owned());
            return self.engine.handle(Input::SubstreamFailed { open, failure }, Instant::now());
        };
        let stream = StreamId::random();
        let facts = StreamFacts::new(stream, peer, service.clone(), Direction::Outbound, on);
        let (leg, config) = (self.leg(), self.stream_config.clone());
        let now = Instant::now();
        // Whoever asked may have gone; then nothing is presented, and the stream ends soon.
        let ticket = self.opens.get(&open).map(|opening| opening.ticket.clone()).unwrap_or_default();
        let machine = Machine::open(stream, service, ticket, config, &self.budget, leg, now);
        let notes = self.notes.0.clone();
        let shared = Shared::start(machine, facts.into(), leg, Box::new(io), notes);
        let key = StreamKey { peer, stream };
        self.streams.insert(key, shared, false);
        self.greeting.insert(key, open);
    }

    fn begin_move(
        &mut self,
        key: StreamKey,
        connection: ConnectionId,
        io: libp2p::Stream,
    ) -> Option<Input> {
        let leg = self.leg();
        // Meanwhile a better connection may have come.
        let on = self.carrying(connection).filter(|_| self.engine.moves_to(key) == Some(connection));
        let live = self.streams.get_mut(key).zip(on);
        let begun = live.is_some_and(|(live, on)| live.shared.begin_move(leg, on, Box::new(io)).is_ok());
        if begun {
            return None;
        }
        self.engine.handle(Input::LegEnded { connection }, Instant::now());
        Some(Input::MoveFailed { key, connection, silent: false })
    }

    fn heard_first(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        first: First,
        io: libp2p::Stream,
    ) -> Option<Input> {
        let key = StreamKey {
            peer,
            stream: match &first {
                First::Hello(hello) => hello.stream,
                First::Move(ask) => ask.stream,
            },
        };
        let known = self.streams.get_mut(key).map(|live| live.shared.clone());
        match (known, self.streams.farewell(key), first) {
            (Some(shared), _, first) => {
                let ask = match first {
                    First::Hello(hello) => Ask::Hello(*hello),
                    First::Move(ask) => Ask::Move(ask),
                };
                self.carry_on(&shared, connection, &ask, io)
            }
            (None, Some(farewell), _) => self.answer(io, farewell),
            (None, None, First::Hello(hello)) => Some(self.inbound_stream(peer, connection, hello, io)),
            (None, None, First::Move(_)) => self.answer(io, Farewell::Reset(Code::Unknown)),
        }
    }

    fn carry_on(
        &mut self,
        shared: &Shared,
        connection: ConnectionId,
        ask: &Ask,
        io: libp2p::Stream,
    ) -> Option<Input> {
        let on = self.carrying(connection)?;
        match shared.handle_move(self.leg(), ask, on, Box::new(io)) {
            Ok(()) => Some(Input::LegAttached { connection }),
            Err((farewell, io)) => self.answer(io, farewell),
        }
    }

    fn inbound_stream(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        hello: Box<Hello>,
        io: libp2p::Stream,
    ) -> Input {
        let inbound = InboundId(self.id());
        let stream = hello.stream;
        let service = hello.service.clone();
        let served = self.services.get(&service);
        let (queue, place) =
            match served.map(|served| (served, served.queue.clone().try_reserve_owned())) {
                Some((served, Ok(place))) => (Queue::Free { ask: served.ask }, Some(place)),
                Some((served, Err(mpsc::error::TrySendError::Full(_)))) => {
                    (Queue::Full { limit: served.queue.max_capacity() }, None)
                }
                Some((_, Err(mpsc::error::TrySendError::Closed(_)))) | None => (Queue::NotServed, None),
            };
        self.inbound.insert(inbound, Waiting { hello, peer, connection, io, place });
        Input::InboundStream { inbound, connection, stream, service, queue }
    }

    fn carrying(&self, connection: ConnectionId) -> Option<Carrying> {
        let path = self.engine.path(connection)?;
        let ends = self.ends.get(&connection)?;
        let (address, pulse) = (ends.address.clone(), ends.pulse.clone());
        Some(Carrying { connection, path, address, pulse })
    }

    /// A stream has something to say.
    pub(super) fn note(&mut self, key: StreamKey, note: Note) -> Option<Input> {
        match note {
            Note::Opened => self.opened(key),
            Note::Moved { to, record } => {
                self.publish(Event::StreamMoved {
                    peer: key.peer,
                    stream: key.stream,
                    from: record.from,
                    to: record.to,
                    gap_ms: record.gap.as_micros() as f64 / 1000.0,
                    cause: record.cause,
                });
                Some(Input::StreamMoved { key, to })
            }
            Note::MoveFailed { connection, cause } => {
                Some(Input::MoveFailed { key, connection, silent: is_silent(cause) })
            }
            Note::Detached { .. } if self.greeting.contains_key(&key) => {
                // It never was the program's: another connection gets a stream of its own.
                self.streams.get_mut(key)?.shared.reset(Code::Cancelled);
                None
            }
            Note::Detached { connection, cause } => {
                Some(Input::StreamDetached { key, connection, silent: is_silent(cause) })
            }
            Note::LegEnded { connection } => Some(Input::LegEnded { connection }),
            Note::Failed(error) => {
                self.streams.get_mut(key)?.failure = Some(error);
                None
            }
            Note::Closed { farewell } => self.closed(key, farewell),
        }
    }

    fn opened(&mut self, key: StreamKey) -> Option<Input> {
        let open = self.greeting.remove(&key)?;
        let live = self.streams.get_mut(key)?;
        live.announced = true;
        let stream = Stream::new(live.shared.clone());
        let connection = stream.facts().carrying().connection;
        match self.opens.remove(&open) {
            // Whoever asked may have gone; the stream then ends by being dropped.
            Some(opening) => drop(opening.reply.send(Ok(stream))),
            None => drop(stream),
        }
        Some(Input::SubstreamOpened { open, connection, stream: key.stream })
    }

    fn closed(&mut self, key: StreamKey, farewell: Option<Farewell>) -> Option<Input> {
        let keep = self.stream_config.patience * 2;
        let live = self.streams.close(key, farewell, keep, Instant::now())?;
        if let Some(open) = self.greeting.remove(&key) {
            let failure = match live.failure {
                Some(StreamError::Refused { code }) => refusal(code),
                Some(error) => SubstreamFailure::Lost(error.to_string()),
                None => SubstreamFailure::Lost("the connection closed".to_owned()),
            };
            return Some(Input::SubstreamFailed { open, failure });
        }
        let facts = live.shared.facts();
        if live.announced {
            self.publish(Event::StreamClosed {
                peer: key.peer,
                stream: key.stream,
                service: facts.service.clone(),
                cause: end_of(live.failure),
                sent_direct_bytes: facts.sent_direct_bytes(),
                sent_relayed_bytes: facts.sent_relayed_bytes(),
                received_direct_bytes: facts.received_direct_bytes(),
                received_relayed_bytes: facts.received_relayed_bytes(),
            });
        }
        Some(Input::StreamClosed { key })
    }

    pub(super) fn accept(&mut self, inbound: InboundId) {
        let Some(mut waiting) = self.inbound.remove(&inbound) else { return };
        let place = waiting.place.take();
        let Some(stream) = self.take(waiting) else { return };
        match place {
            Some(place) => drop(place.send(Arrival::Stream(stream))),
            None => drop(stream),
        }
    }

    /// The program decides.
    pub(super) fn ask(&mut self, inbound: InboundId) {
        let Some(waiting) = self.inbound.get_mut(&inbound) else { return };
        let (Some(place), Some(path)) = (waiting.place.take(), self.engine.path(waiting.connection))
        else {
            return;
        };
        let request = Request {
            inbound,
            peer: waiting.peer,
            path,
            service: waiting.hello.service.clone(),
            ticket: waiting.hello.ticket.clone(),
            decisions: Some(self.decisions.0.clone()),
        };
        place.send(Arrival::Request(Box::new(request)));
    }

    pub(super) fn decided(&mut self, inbound: InboundId, decision: Decision) -> Option<Input> {
        let waiting = self.inbound.get(&inbound)?;
        let (peer, connection) = (waiting.peer, waiting.connection);
        let (stream, service) = (waiting.hello.stream, waiting.hello.service.clone());
        let twin = self.streams.get_mut(StreamKey { peer, stream }).is_some();
        match decision {
            Decision::Accept(reply) if !twin => {
                let taken = self.inbound.remove(&inbound).and_then(|waiting| self.take(waiting))?;
                // Whoever decided may have gone; the stream then ends by being dropped.
                drop(reply.send(taken));
                Some(Input::RequestAccepted { connection, stream, service })
            }
            Decision::Accept(_) => {
                self.refuse(inbound, Refusal::NotServed);
                Some(Input::LegEnded { connection })
            }
            Decision::Refuse(refusal) => {
                self.refuse(inbound, refusal);
                Some(Input::LegEnded { connection })
            }
        }
    }

    /// Answers the peer: from now on there is a stream.
    fn take(&mut self, waiting: Waiting) -> Option<Stream> {
        let Waiting { hello, peer, connection, io, .. } = waiting;
        let on = self.carrying(connection)?;
        let leg = self.leg();
        let (config, now) = (self.stream_config.clone(), Instant::now());
        let machine = Machine::accept(&hello, config, &self.budget, leg, now);
        let (stream, service) = (hello.stream, hello.service);
        let facts = StreamFacts::new(stream, peer, service, Direction::Inbound, on);
        let notes = self.notes.0.clone();
        let shared = Shared::start(machine, facts.into(), leg, Box::new(io), notes);
        self.streams.insert(StreamKey { peer, stream }, shared.clone(), true);
        Some(Stream::new(shared))
    }

    pub(super) fn refuse(&mut self, inbound: InboundId, refusal: Refusal) {
        let Some(Waiting { io, .. }) = self.inbound.remove(&inbound) else { return };
        let code = match refusal {
            Refusal::NotServed => Code::Refused,
            Refusal::Busy => Code::Busy,
            Refusal::Shutdown => Code::Shutdown,
            Refusal::TargetRefused => Code::TargetRefused,
            Refusal::TargetUnreachable => Code::TargetUnreachable,
            Refusal::TicketExpired => Code::TicketExpired,
            Refusal::TicketUsed => Code::TicketUsed,
            Refusal::TicketRevoked => Code::TicketRevoked,
        };
        self.answer(io, Farewell::Reset(code));
    }

    /// Says one last frame on a substream that carries no stream.
    fn answer(
        &mut self,
        mut io: impl futures::AsyncWrite + Unpin + Send + 'static,
        farewell: Farewell,
    ) -> Option<Input> {
        if self.answers.len() < ANSWERS_MAX {
            self.answers.spawn(async move {
                let answer = refuse(&mut io, farewell.frame());
                let _ = tokio::time::timeout(ANSWER_DEADLINE, answer).await;
            });
        }
        None
    }

    pub(super) fn forsake(&mut self, key: StreamKey) {
        if let Some(live) = self.streams.get_mut(key) {
            live.shared.reset(Code::Unknown);
            live.shared.abandon();
        }
    }

    /// The node is gone: its streams end, and say so before it does.
    pub(super) fn end_streams(&mut self) {
        for live in self.streams.all() {
            live.shared.abandon();
        }
        while let Ok((key, note)) = self.notes.1.try_recv() {
            self.note(key, note);
        }
    }

    fn leg(&mut self) -> LegId {
        LegId(self.id())
    }
}

fn is_silent(cause: machine::LossCause) -> bool {
    matches!(cause, machine::LossCause::Silent { .. } | machine::LossCause::Unanswered { .. })
}

fn refusal(code: Code) -> SubstreamFailure {
    SubstreamFailure::Refused(match code {
        Code::Refused => Refusal::NotServed,
        Code::Busy => Refusal::Busy,
        Code::Shutdown => Refusal::Shutdown,
        Code::TargetRefused => Refusal::TargetRefused,
        Code::TargetUnreachable => Refusal::TargetUnreachable,
        Code::TicketExpired => Refusal::TicketExpired,
        Code::TicketUsed => Refusal::TicketUsed,
        Code::TicketRevoked => Refusal::TicketRevoked,
        other => return SubstreamFailure::Lost(format!("the peer answered {other:?}")),
    })
}
