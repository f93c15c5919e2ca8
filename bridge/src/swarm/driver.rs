//! The driver acts: it does what the engine says and tells it what came of it. It decides nothing.
//!
//! The loop drains the engine, re-arms one timer, waits for one thing, and turns it into one input.
//! Nothing in the `select!` awaits, and no payload byte comes by here.

use std::{
    collections::HashMap,
    time::{Duration, Instant, SystemTime},
};

use futures::StreamExt;
use libp2p::{
    Multiaddr, PeerId, Swarm,
    core::transport::ListenerId,
    swarm::{
        self,
        dial_opts::{DialOpts, PeerCondition},
    },
};
use tokio::{
    sync::{broadcast, mpsc, oneshot},
    task::JoinSet,
};

use super::{
    behaviour::Node,
    streams::{Streams, end_of},
    substream::{self, First, refuse},
    translate::{Translated, dial_failure, translate},
};
use crate::{
    addr::RelayAddr,
    engine::{
        Engine,
        input::{Action, DialId, InboundId, Input, OpenId, Queue, SubstreamFailure},
    },
    error::{OpenError, Refusal, ServeError},
    event::Event,
    path::{ConnectionId, Direction},
    service::Service,
    stream::{
        Carrying, Stream, StreamFacts, StreamId, StreamKey,
        budget::{BUDGET_BYTES_DEFAULT, Budget},
        carrier::{Ask, Note, Notes, Shared},
        frame::{Code, Decoder, Hello},
        machine::{self, Farewell, LegId, Machine, StreamError},
    },
};

/// Answers to inbound streams being written at once; past it a refused substream is just dropped.
const ANSWERS_MAX: usize = 256;

/// For one answer of one byte to be written. A peer that does not take it is gone.
const ANSWER_DEADLINE: Duration = Duration::from_secs(5);

/// Dials that were asked for, by the connection they will become.
pub(crate) type Dialled = HashMap<swarm::ConnectionId, DialId>;
/// Reservations that were asked for, by their listener.
pub(crate) type Reserved = HashMap<ListenerId, PeerId>;

/// What an [`Endpoint`](crate::Endpoint) asks for.
pub(crate) enum Command {
    Open {
        peer: PeerId,
        service: Service,
        reply: oneshot::Sender<Result<Stream, OpenError>>,
    },
    Learn {
        peer: PeerId,
        addresses: Vec<Multiaddr>,
    },
    Reserve {
        relay: RelayAddr,
    },
    Serve {
        service: Service,
        queue: mpsc::Sender<Stream>,
        reply: oneshot::Sender<Result<(), ServeError>>,
    },
    Shutdown,
}

/// An inbound stream that was neither taken nor refused.
struct Waiting {
    hello: Box<Hello>,
    peer: PeerId,
    connection: ConnectionId,
    io: libp2p::Stream,
    decoder: Decoder,
    place: Option<mpsc::OwnedPermit<Stream>>,
}

type Reply = oneshot::Sender<Result<Stream, OpenError>>;

/// What a substream was asked for.
enum Purpose {
    Open { service: Service },
    Move { key: StreamKey },
}

pub(crate) struct Driver {
    swarm: Swarm<Node>,
    engine: Engine,
    commands: mpsc::Receiver<Command>,
    events: broadcast::Sender<Event>,
    services: HashMap<Service, mpsc::Sender<Stream>>,
    opens: HashMap<OpenId, Reply>,
    asked: HashMap<OpenId, Purpose>,
    /// Streams whose HELLO is not answered yet.
    greeting: HashMap<StreamKey, OpenId>,
    streams: Streams,
    stream_config: std::sync::Arc<machine::Config>,
    budget: std::sync::Arc<Budget>,
    inbound: HashMap<InboundId, Waiting>,
    addresses: HashMap<ConnectionId, Multiaddr>,
    dialled: Dialled,
    reserved: Reserved,
    answers: JoinSet<()>,
    // Unbounded, yet bounded by what streams may say: see `Note`.
    notes: (Notes, mpsc::UnboundedReceiver<(StreamKey, Note)>),
    next_id: u64,
}

impl Driver {
    pub(crate) fn new(
        swarm: Swarm<Node>,
        engine: Engine,
        commands: mpsc::Receiver<Command>,
        events: broadcast::Sender<Event>,
        stream_config: std::sync::Arc<machine::Config>,
    ) -> Self {
        Self {
            swarm,
            engine,
            commands,
            events,
            services: HashMap::new(),
            opens: HashMap::new(),
            asked: HashMap::new(),
            greeting: HashMap::new(),
            streams: Streams::default(),
            stream_config,
            budget: Budget::new(BUDGET_BYTES_DEFAULT),
            inbound: HashMap::new(),
            addresses: HashMap::new(),
            dialled: HashMap::new(),
            reserved: HashMap::new(),
            answers: JoinSet::new(),
            notes: mpsc::unbounded_channel(),
            next_id: 0,
        }
    }

    pub(crate) async fn run(mut self, listening: Vec<Multiaddr>) {
        for address in listening {
            self.engine.handle(Input::Listening { address }, Instant::now());
        }
        loop {
            self.drain();
            if self.engine.is_stopped() {
                return;
            }
            let timeout = self.engine.poll_timeout();
            let input = tokio::select! {
                event = self.swarm.select_next_some() => self.swarm_event(event),
                // When the last endpoint is gone this is ready for ever, so it is asked only until then.
                command = self.commands.recv(), if !self.engine.is_stopping() => {
                    self.command(command.unwrap_or(Command::Shutdown))
                }
                Some((key, note)) = self.notes.1.recv() => self.note(key, note),
                Some(_) = self.answers.join_next() => None,
                () = sleep_until(timeout) => None,
            };
            match input {
                Some(input) => self.engine.handle(input, Instant::now()),
                None => self.engine.handle_timeout(Instant::now()),
            }
        }
    }

    fn drain(&mut self) {
        while let Some(action) = self.engine.poll_action() {
            self.act(action);
        }
        while let Some(event) = self.engine.poll_event() {
            self.publish(event);
        }
    }

    fn publish(&self, event: Event) {
        tracing::debug!(?event);
        // Without a subscriber there is nobody to tell.
        let _ = self.events.send(event);
    }

    fn command(&mut self, command: Command) -> Option<Input> {
        match command {
            Command::Open { peer, service, reply } => {
                let open = OpenId(self.id());
                self.opens.insert(open, reply);
                Some(Input::Open { open, peer, service })
            }
            Command::Learn { peer, addresses } => Some(Input::Learn { peer, addresses }),
            Command::Reserve { relay } => Some(Input::Reserve { relay }),
            Command::Serve { service, queue, reply } => {
                let _ = reply.send(self.serve(service, queue));
                None
            }
            Command::Shutdown => Some(Input::Shutdown),
        }
    }

    fn serve(&mut self, service: Service, queue: mpsc::Sender<Stream>) -> Result<(), ServeError> {
        self.services.retain(|_, queue| !queue.is_closed());
        if self.services.contains_key(&service) {
            return Err(ServeError::Taken { service });
        }
        self.services.insert(service, queue);
        Ok(())
    }

    fn swarm_event(&mut self, event: swarm::SwarmEvent<super::behaviour::NodeEvent>) -> Option<Input> {
        match translate(event, &mut self.dialled, &mut self.reserved, SystemTime::now()) {
            Translated::Input(input) => {
                match &input {
                    Input::ConnectionOpened(opened) => {
                        self.addresses.insert(opened.connection, opened.address.clone());
                    }
                    Input::ConnectionClosed { connection, .. } => {
                        self.addresses.remove(connection);
                        for live in self.streams.all() {
                            live.shared.connection_closed(*connection);
                        }
                    }
                    _ => {}
                }
                Some(input)
            }
            Translated::Substream(event) => self.substream_event(event),
            Translated::Nothing => None,
        }
    }

    fn substream_event(&mut self, event: substream::Event) -> Option<Input> {
        match event {
            substream::Event::Opened { open, peer, connection, io } => {
                match self.asked.remove(&open)? {
                    Purpose::Open { service } => {
                        self.greet(open, peer, service, connection, io);
                        None
                    }
                    Purpose::Move { key } => self.begin_move(key, connection, io),
                }
            }
            substream::Event::Failed { open, failure } => match self.asked.remove(&open)? {
                Purpose::Open { .. } => Some(Input::SubstreamFailed { open, failure }),
                Purpose::Move { key } => Some(Input::MoveFailed { key }),
            },
            substream::Event::Inbound { peer, connection, first, io, decoder } => {
                self.heard_first(peer, connection, first, io, decoder)
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
        let ticket = bytes::Bytes::new();
        let machine = Machine::open(stream, service, ticket, config, &self.budget, leg, now);
        let notes = self.notes.0.clone();
        let shared = Shared::start(machine, facts.into(), leg, Box::new(io), Decoder::new(), notes);
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
        let on = self.carrying(connection);
        let live = self.streams.get_mut(key).zip(on);
        let begun = live.is_some_and(|(live, on)| live.shared.begin_move(leg, on, Box::new(io)).is_ok());
        if begun {
            return None;
        }
        self.engine.handle(Input::LegEnded { connection }, Instant::now());
        Some(Input::MoveFailed { key })
    }

    fn heard_first(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        first: First,
        io: libp2p::Stream,
        decoder: Decoder,
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
                self.carry_on(&shared, connection, &ask, io, decoder)
            }
            (None, Some(farewell), _) => self.answer(io, farewell),
            (None, None, First::Hello(hello)) => {
                Some(self.inbound_stream(peer, connection, hello, io, decoder))
            }
            (None, None, First::Move(_)) => self.answer(io, Farewell::Reset(Code::Unknown)),
        }
    }

    fn carry_on(
        &mut self,
        shared: &Shared,
        connection: ConnectionId,
        ask: &Ask,
        io: libp2p::Stream,
        decoder: Decoder,
    ) -> Option<Input> {
        let on = self.carrying(connection)?;
        match shared.handle_move(self.leg(), ask, on, Box::new(io), decoder) {
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
        decoder: Decoder,
    ) -> Input {
        let inbound = InboundId(self.id());
        let stream = hello.stream;
        let service = hello.service.clone();
        let queue = self.services.get(&service);
        let (queue, place) = match queue.map(|queue| (queue, queue.clone().try_reserve_owned())) {
            Some((_, Ok(place))) => (Queue::Free, Some(place)),
            Some((queue, Err(mpsc::error::TrySendError::Full(_)))) => {
                (Queue::Full { limit: queue.max_capacity() }, None)
            }
            Some((_, Err(mpsc::error::TrySendError::Closed(_)))) | None => (Queue::NotServed, None),
        };
        self.inbound.insert(inbound, Waiting { hello, peer, connection, io, decoder, place });
        Input::InboundStream { inbound, connection, stream, service, queue }
    }

    fn carrying(&self, connection: ConnectionId) -> Option<Carrying> {
        let path = self.engine.path(connection)?;
        let address = self.addresses.get(&connection)?.clone();
        Some(Carrying { connection, path, address })
    }

    /// A stream has something to say.
    fn note(&mut self, key: StreamKey, note: Note) -> Option<Input> {
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
            Note::MoveFailed => Some(Input::MoveFailed { key }),
            Note::Detached { .. } if self.greeting.contains_key(&key) => {
                // It never was the program's: another connection gets a stream of its own.
                self.streams.get_mut(key)?.shared.reset(Code::Cancelled);
                None
            }
            Note::Detached { connection, cause } => {
                let silent = matches!(
                    cause,
                    machine::LossCause::Silent { .. } | machine::LossCause::Unanswered { .. }
                );
                Some(Input::StreamDetached { key, connection, silent })
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
            Some(reply) => drop(reply.send(Ok(stream))),
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

    fn act(&mut self, action: Action) {
        match action {
            Action::Dial { dial, peer, addresses } => self.dial(dial, peer, addresses),
            Action::ListenOnCircuit { relay } => self.listen_on_circuit(&relay),
            Action::AddCandidate { address } => {
                self.swarm.behaviour_mut().substream.add_candidate(address);
            }
            Action::OpenSubstream { open, peer, connection, service } => {
                self.asked.insert(open, Purpose::Open { service });
                self.swarm.behaviour_mut().substream.open(open, peer, connection);
            }
            Action::MoveStream { key, connection } => {
                let open = OpenId(self.id());
                self.asked.insert(open, Purpose::Move { key });
                self.swarm.behaviour_mut().substream.open(open, key.peer, connection);
            }
            Action::FailOpen { open, error } => {
                if let Some(reply) = self.opens.remove(&open) {
                    let _ = reply.send(Err(error.0));
                }
            }
            Action::Accept { inbound } => self.accept(inbound),
            Action::Refuse { inbound, refusal } => self.refuse(inbound, refusal),
            Action::CloseConnection { connection } => {
                self.swarm.close_connection(connection.0);
            }
        }
    }

    fn dial(&mut self, dial: DialId, peer: PeerId, addresses: Vec<Multiaddr>) {
        let opts = DialOpts::peer_id(peer).addresses(addresses).condition(PeerCondition::Always).build();
        let connection = opts.connection_id();
        match self.swarm.dial(opts) {
            Ok(()) => {
                self.dialled.insert(connection, dial);
            }
            Err(error) => {
                let reason = dial_failure(&error);
                self.engine.handle(Input::DialFailed { dial, reason }, Instant::now());
            }
        }
    }

    fn listen_on_circuit(&mut self, relay: &RelayAddr) {
        match self.swarm.listen_on(relay.circuit()) {
            Ok(listener) => {
                self.reserved.insert(listener, relay.peer());
            }
            Err(error) => {
                let (relay, cause) = (relay.peer(), error.to_string());
                self.engine.handle(Input::ReservationEnded { relay, cause }, Instant::now());
            }
        }
    }

    fn accept(&mut self, inbound: InboundId) {
        let Some(waiting) = self.inbound.remove(&inbound) else { return };
        let Waiting { hello, peer, connection, io, decoder, place } = waiting;
        let Some(on) = self.carrying(connection) else { return };
        let leg = self.leg();
        let (config, now) = (self.stream_config.clone(), Instant::now());
        let machine = Machine::accept(&hello, config, &self.budget, leg, now);
        let (stream, service) = (hello.stream, hello.service);
        let facts = StreamFacts::new(stream, peer, service, Direction::Inbound, on);
        let notes = self.notes.0.clone();
        let shared = Shared::start(machine, facts.into(), leg, Box::new(io), decoder, notes);
        self.streams.insert(StreamKey { peer, stream }, shared.clone(), true);
        let stream = Stream::new(shared);
        match place {
            Some(place) => drop(place.send(stream)),
            None => drop(stream),
        }
    }

    fn refuse(&mut self, inbound: InboundId, refusal: Refusal) {
        let Some(Waiting { io, .. }) = self.inbound.remove(&inbound) else { return };
        let code = match refusal {
            Refusal::NotServed => Code::Refused,
            Refusal::Busy => Code::Busy,
            Refusal::Shutdown => Code::Shutdown,
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

    fn leg(&mut self) -> LegId {
        LegId(self.id())
    }

    fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }
}

/// Streams would wait for a path that nobody brings any more.
impl Drop for Driver {
    fn drop(&mut self) {
        for live in self.streams.all() {
            live.shared.abandon();
        }
    }
}

fn refusal(code: Code) -> SubstreamFailure {
    match code {
        Code::Refused => SubstreamFailure::Refused(Refusal::NotServed),
        Code::Busy => SubstreamFailure::Refused(Refusal::Busy),
        Code::Shutdown => SubstreamFailure::Refused(Refusal::Shutdown),
        other => SubstreamFailure::Lost(format!("the peer answered {other:?}")),
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}
