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
    substream,
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
        Ended, Stream, StreamFacts, StreamId,
        hello::{Hello, write_answer},
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

struct Waiting {
    hello: Hello,
    connection: ConnectionId,
    peer: PeerId,
    io: libp2p::Stream,
    place: Option<mpsc::OwnedPermit<Stream>>,
}

pub(crate) struct Driver {
    swarm: Swarm<Node>,
    engine: Engine,
    commands: mpsc::Receiver<Command>,
    events: broadcast::Sender<Event>,
    services: HashMap<Service, mpsc::Sender<Stream>>,
    opens: HashMap<OpenId, oneshot::Sender<Result<Stream, OpenError>>>,
    inbound: HashMap<InboundId, Waiting>,
    addresses: HashMap<ConnectionId, Multiaddr>,
    dialled: Dialled,
    reserved: Reserved,
    answers: JoinSet<()>,
    ended: (mpsc::UnboundedSender<Ended>, mpsc::UnboundedReceiver<Ended>),
    next_id: u64,
}

impl Driver {
    pub(crate) fn new(
        swarm: Swarm<Node>,
        engine: Engine,
        commands: mpsc::Receiver<Command>,
        events: broadcast::Sender<Event>,
    ) -> Self {
        Self {
            swarm,
            engine,
            commands,
            events,
            services: HashMap::new(),
            opens: HashMap::new(),
            inbound: HashMap::new(),
            addresses: HashMap::new(),
            dialled: HashMap::new(),
            reserved: HashMap::new(),
            answers: JoinSet::new(),
            ended: mpsc::unbounded_channel(),
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
                Some(ended) = self.ended.1.recv() => Some(self.stream_ended(ended)),
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
            substream::Event::Opened { open, peer, connection, hello, io } => {
                // Its open has failed already: the engine counts no such stream, so none may be built.
                let reply = self.opens.remove(&open)?;
                let stream = hello.stream;
                let Some(built) = self.stream(hello, Direction::Outbound, peer, connection, io) else {
                    self.opens.insert(open, reply);
                    let failure = SubstreamFailure::Lost("the connection closed".to_owned());
                    return Some(Input::SubstreamFailed { open, failure });
                };
                // Whoever asked may have gone; the stream then ends by being dropped.
                let _ = reply.send(Ok(built));
                Some(Input::SubstreamOpened { open, connection, stream })
            }
            substream::Event::Failed { open, failure } => Some(Input::SubstreamFailed { open, failure }),
            substream::Event::Inbound { peer, connection, hello, io } => {
                Some(self.inbound_stream(peer, connection, hello, io))
            }
        }
    }

    fn inbound_stream(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        hello: Hello,
        io: libp2p::Stream,
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
        self.inbound.insert(inbound, Waiting { hello, connection, peer, io, place });
        Input::InboundStream { inbound, connection, stream, service, queue }
    }

    fn stream(
        &self,
        hello: Hello,
        direction: Direction,
        peer: PeerId,
        connection: ConnectionId,
        io: libp2p::Stream,
    ) -> Option<Stream> {
        let path = self.engine.path(connection)?;
        let address = self.addresses.get(&connection)?.clone();
        let facts = StreamFacts::new(hello, direction, peer, connection, path, address);
        Some(Stream::new(io, facts, self.ended.0.clone()))
    }

    fn stream_ended(&mut self, ended: Ended) -> Input {
        let Ended { facts, end } = ended;
        let (sent, received) = (facts.sent_bytes(), facts.received_bytes());
        let direct = facts.path.is_direct();
        self.publish(Event::StreamClosed {
            peer: facts.peer,
            stream: facts.stream,
            service: facts.service.clone(),
            cause: end,
            sent_direct_bytes: if direct { sent } else { 0 },
            sent_relayed_bytes: if direct { 0 } else { sent },
            received_direct_bytes: if direct { received } else { 0 },
            received_relayed_bytes: if direct { 0 } else { received },
        });
        Input::StreamEnded { connection: facts.connection }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Dial { dial, peer, addresses } => self.dial(dial, peer, addresses),
            Action::ListenOnCircuit { relay } => self.listen_on_circuit(&relay),
            Action::AddCandidate { address } => {
                self.swarm.behaviour_mut().substream.add_candidate(address);
            }
            Action::OpenSubstream { open, peer, connection, service } => {
                let hello = Hello { stream: StreamId::random(), service };
                self.swarm.behaviour_mut().substream.open(open, peer, connection, hello);
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
        let Some(Waiting { hello, connection, peer, mut io, place }) = self.inbound.remove(&inbound)
        else {
            return;
        };
        let Some(path) = self.engine.path(connection) else { return };
        let Some(address) = self.addresses.get(&connection).cloned() else { return };
        let facts = StreamFacts::new(hello, Direction::Inbound, peer, connection, path, address);
        let ended = self.ended.0.clone();
        self.answers.spawn(async move {
            // A peer that does not take the answer fails at its first read, as any lost peer does.
            let answer = write_answer(&mut io, Ok(()));
            let _ = tokio::time::timeout(ANSWER_DEADLINE, answer).await;
            let stream = Stream::new(io, facts, ended);
            if let Some(place) = place {
                place.send(stream);
            }
        });
    }

    fn refuse(&mut self, inbound: InboundId, refusal: Refusal) {
        let Some(Waiting { mut io, .. }) = self.inbound.remove(&inbound) else { return };
        if self.answers.len() >= ANSWERS_MAX {
            return;
        }
        self.answers.spawn(async move {
            let answer = write_answer(&mut io, Err(refusal));
            let _ = tokio::time::timeout(ANSWER_DEADLINE, answer).await;
        });
    }

    fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}
