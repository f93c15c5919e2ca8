//! The driver acts: it does what the engine says and tells it what came of it. It decides nothing.
//!
//! The loop drains the engine, re-arms one timer, waits for one thing, and turns it into one input.
//! Nothing in the `select!` awaits, and no payload byte comes by here.

use std::{
    collections::HashMap,
    net::IpAddr,
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use futures::StreamExt;
use libp2p::{
    Multiaddr, PeerId, Swarm,
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
    legs::{Purpose, Reply, Waiting},
    streams::Streams,
};
use crate::{
    addr::RelayAddr,
    engine::{
        Engine,
        input::{Action, DialId, InboundId, Input, OpenId},
    },
    error::{OpenError, ServeError},
    event::Event,
    incoming::{Arrival, Decision, Decisions},
    net::{
        behaviour::{Node, NodeEvent},
        local::source_towards,
        translate::{Dialled, Dialling, Reserved, Translated, dial_failure, is_port_in_use, translate},
    },
    path::{ConnectionId, Path},
    service::Service,
    stream::{
        Carrying, Stream, StreamKey,
        budget::{BUDGET_BYTES_DEFAULT, Budget},
        carrier::{Note, Notes},
        frame::Code,
        machine,
        pulse::Pulse,
    },
};

/// What a stream heard within this is worth more than a ping that was not answered: a timeout of one.
const HEARD_FRESH: Duration = Duration::from_secs(5);

/// What an [`Endpoint`](crate::Endpoint) asks for.
pub(crate) enum Command {
    Open {
        peer: PeerId,
        service: Service,
        ticket: Bytes,
        reply: oneshot::Sender<Result<Stream, OpenError>>,
    },
    Hold {
        peer: PeerId,
    },
    Learn {
        peer: PeerId,
        addresses: Vec<Multiaddr>,
    },
    Reserve {
        relay: RelayAddr,
    },
    Close {
        connection: ConnectionId,
    },
    Serve {
        service: Service,
        served: Served,
        reply: oneshot::Sender<Result<(), ServeError>>,
    },
    Shutdown,
}

/// A service that this node answers for.
pub(crate) struct Served {
    pub(crate) queue: mpsc::Sender<Arrival>,
    /// Whether the program decides on each stream.
    pub(crate) ask: bool,
}

/// Where a connection runs.
pub(super) struct Ends {
    /// The peer's, or the way to it.
    pub(super) address: Multiaddr,
    /// Ours, for a direct connection.
    source: Option<IpAddr>,
    pub(super) pulse: Pulse,
}

/// Who waits for an open.
pub(super) struct Opening {
    pub(super) reply: Reply,
    pub(super) ticket: Bytes,
}

pub(crate) struct Driver {
    pub(super) swarm: Swarm<Node>,
    pub(super) engine: Engine,
    commands: mpsc::Receiver<Command>,
    events: broadcast::Sender<Event>,
    pub(super) services: HashMap<Service, Served>,
    pub(super) opens: HashMap<OpenId, Opening>,
    pub(super) asked: HashMap<OpenId, Purpose>,
    /// Streams whose HELLO is not answered yet.
    pub(super) greeting: HashMap<StreamKey, OpenId>,
    pub(super) streams: Streams,
    pub(super) stream_config: std::sync::Arc<machine::Config>,
    pub(super) budget: std::sync::Arc<Budget>,
    pub(super) inbound: HashMap<InboundId, Waiting>,
    pub(super) ends: HashMap<ConnectionId, Ends>,
    dialled: Dialled,
    reserved: Reserved,
    pub(super) answers: JoinSet<()>,
    // Unbounded, yet bounded by what streams may say: see `Note`.
    pub(super) notes: (Notes, mpsc::UnboundedReceiver<(StreamKey, Note)>),
    pub(super) decisions: (Decisions, mpsc::UnboundedReceiver<(InboundId, Decision)>),
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
            ends: HashMap::new(),
            dialled: HashMap::new(),
            reserved: HashMap::new(),
            answers: JoinSet::new(),
            notes: mpsc::unbounded_channel(),
            decisions: mpsc::unbounded_channel(),
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
                Some((inbound, decision)) = self.decisions.1.recv() => self.decided(inbound, decision),
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
        if self.engine.is_stopped() {
            self.end_streams();
        }
        while let Some(event) = self.engine.poll_event() {
            self.publish(event);
        }
    }

    pub(super) fn publish(&self, event: Event) {
        tracing::debug!(?event);
        // Without a subscriber there is nobody to tell.
        let _ = self.events.send(event);
    }

    fn command(&mut self, command: Command) -> Option<Input> {
        match command {
            Command::Open { peer, service, ticket, reply } => {
                let open = OpenId(self.id());
                self.opens.insert(open, Opening { reply, ticket });
                Some(Input::Open { open, peer, service })
            }
            Command::Hold { peer } => Some(Input::Hold { peer }),
            Command::Learn { peer, addresses } => Some(Input::Learn { peer, addresses }),
            Command::Reserve { relay } => Some(Input::Reserve { relay }),
            Command::Close { connection } => Some(Input::Close { connection }),
            Command::Serve { service, served, reply } => {
                let _ = reply.send(self.serve(service, served));
                None
            }
            Command::Shutdown => {
                // The peers should not wait for a path that nobody brings.
                for live in self.streams.all() {
                    live.shared.reset(Code::Shutdown);
                }
                Some(Input::Shutdown)
            }
        }
    }

    fn serve(&mut self, service: Service, served: Served) -> Result<(), ServeError> {
        self.services.retain(|_, served| !served.queue.is_closed());
        if self.services.contains_key(&service) {
            return Err(ServeError::Taken { service });
        }
        self.services.insert(service, served);
        Ok(())
    }

    fn swarm_event(&mut self, event: swarm::SwarmEvent<NodeEvent>) -> Option<Input> {
        if self.redial_from_any_port(&event) {
            return None;
        }
        match translate(event, &mut self.dialled, &mut self.reserved, SystemTime::now()) {
            Translated::Input(input) => {
                match &input {
                    Input::ConnectionOpened(opened) => {
                        let address = opened.address.clone();
                        let source = opened.path.is_direct().then(|| source_towards(&address)).flatten();
                        self.ends.insert(
                            opened.connection,
                            Ends { address, source, pulse: Pulse::default() },
                        );
                    }
                    Input::ConnectionClosed { connection, .. } => {
                        self.ends.remove(connection);
                        self.inbound.retain(|_, waiting| waiting.connection != *connection);
                        self.leave(*connection);
                    }
                    Input::Responsive { connection } => {
                        if let Some(ends) = self.ends.get(connection) {
                            ends.pulse.beat(Instant::now());
                        }
                    }
                    // Its pings wait behind what its streams send.
                    Input::Unresponsive { connection } if self.is_heard(*connection) => return None,
                    _ => {}
                }
                Some(input)
            }
            Translated::Substream(event) => self.substream_event(event),
            Translated::AddressGone(ip) => {
                let left = |ends: &Ends| ends.source == Some(ip);
                let lost = self.ends.iter().filter(|(_, ends)| left(ends)).map(|(id, _)| *id);
                for connection in lost.collect::<Vec<_>>() {
                    self.engine.handle(Input::AddressGone { connection }, Instant::now());
                }
                None
            }
            Translated::Nothing => None,
        }
    }

    /// Streams on this connection look for another.
    fn leave(&self, connection: ConnectionId) {
        for live in self.streams.all() {
            live.shared.connection_closed(connection);
        }
    }

    /// Whether a stream has heard of the peer on this connection, or through this relay, just now.
    fn is_heard(&self, connection: ConnectionId) -> bool {
        let relay = self.engine.peer(connection).map(|relay| Path::Relayed { relay });
        let runs = |on: &Carrying| on.connection == connection || Some(on.path) == relay;
        let since = Instant::now().checked_sub(HEARD_FRESH);
        self.streams.all().any(|live| since.is_some_and(|since| live.shared.heard_since(since, runs)))
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
                self.asked.insert(open, Purpose::Move { key, connection });
                self.swarm.behaviour_mut().substream.open(open, key.peer, connection);
            }
            Action::TakePulse { connection } => {
                let last = self.ends.get(&connection).and_then(|ends| ends.pulse.last());
                self.engine.handle(Input::Pulse { connection, last }, Instant::now());
            }
            Action::Forsake { key } => self.forsake(key),
            Action::FailOpen { open, error } => {
                if let Some(opening) = self.opens.remove(&open) {
                    let _ = opening.reply.send(Err(error.0));
                }
            }
            Action::Accept { inbound } => self.accept(inbound),
            Action::Ask { inbound } => self.ask(inbound),
            Action::Refuse { inbound, refusal } => self.refuse(inbound, refusal),
            Action::CloseConnection { connection, dead } => {
                if dead {
                    self.leave(connection);
                }
                self.swarm.close_connection(connection.0);
            }
        }
    }

    /// The system may refuse to dial from the port that we listen on, where another socket has it in
    /// use; then any port is better than none. True if the dial is made once more.
    fn redial_from_any_port(&mut self, event: &swarm::SwarmEvent<NodeEvent>) -> bool {
        let swarm::SwarmEvent::OutgoingConnectionError { connection_id, error, .. } = event else {
            return false;
        };
        if !is_port_in_use(error) {
            return false;
        }
        let Some(Dialling { dial, peer, addresses }) = self.dialled.remove(connection_id) else {
            return false;
        };
        let opts = DialOpts::peer_id(peer).addresses(addresses.clone());
        self.dial_with(
            dial,
            peer,
            Vec::new(),
            opts.allocate_new_port().condition(PeerCondition::Always).build(),
        );
        true
    }

    fn dial(&mut self, dial: DialId, peer: PeerId, addresses: Vec<Multiaddr>) {
        let opts = DialOpts::peer_id(peer).addresses(addresses.clone());
        self.dial_with(dial, peer, addresses, opts.condition(PeerCondition::Always).build());
    }

    fn dial_with(&mut self, dial: DialId, peer: PeerId, addresses: Vec<Multiaddr>, opts: DialOpts) {
        let connection = opts.connection_id();
        match self.swarm.dial(opts) {
            Ok(()) => {
                self.dialled.insert(connection, Dialling { dial, peer, addresses });
            }
            Err(error) => {
                let reason = dial_failure(&error);
                self.engine.handle(Input::DialFailed { dial, reason }, Instant::now());
            }
        }
    }

    fn listen_on_circuit(&mut self, relay: &RelayAddr) {
        // A listener that went with its connection must not end the new one when libp2p notices.
        for (listener, _) in self.reserved.extract_if(|_, peer| *peer == relay.peer()) {
            self.swarm.remove_listener(listener);
        }
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

    pub(super) fn id(&mut self) -> u64 {
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

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}
