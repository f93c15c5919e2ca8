//! The relay's part of circuit relay v2: performs what the machine decides.
//!
//! Clients that wait for an answer and substreams of circuits wait here under the id of their request; the
//! machine speaks ids.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    net::{IpAddr, Ipv4Addr},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::{Instant, SystemTime},
};

use libp2p::{
    Multiaddr, PeerId, Stream,
    core::{Endpoint, transport::PortUse},
    multiaddr::Protocol,
    swarm::{
        self, CloseConnection, ConnectionDenied, ExternalAddresses, FromSwarm, NetworkBehaviour,
        NotifyHandler, THandlerInEvent, ToSwarm,
    },
};
use tokio::{
    sync::oneshot,
    task::{self, JoinSet},
    time::Sleep,
};

use super::{
    Load, RelayConfig,
    forwarding::{Buffers, Outcome, Terms, forward},
    handler::{Asking, Command, Handler, Report, Request, status_only},
    machine::{ANSWER_DEADLINE, Action, AskId, Input, Limited, Machine, Refusal, stun::StunPorts},
};
use crate::{
    addr::{ip_of, place::Place},
    error::CloseCause,
    event::{Event, LimitOwner},
    net::{
        circuit::wire::{self, Hop as Message, Peer, Reservation, Status, Stop, StopKind},
        delimited,
        translate::close_cause,
    },
    path::ConnectionId,
    status::LimitStatus,
    word::Word,
};

/// To whoever runs the swarm.
#[derive(Debug)]
pub(super) enum Said {
    Event(Box<Event>),
    /// To be said on a connection.
    Word {
        peer: PeerId,
        connection: ConnectionId,
        word: Word,
    },
    /// All circuits have ended.
    Left,
}

/// A socket or a connection that a limit turned away.
#[derive(Debug, thiserror::Error)]
#[error("the limit of {} is reached", .0.limit)]
struct TurnedAway(Limited);

/// A circuit that is forwarded.
struct Forwarded {
    task: task::Id,
    cut: oneshot::Sender<&'static str>,
}

/// The behaviour. See the module's text.
pub(super) struct Hop {
    local: PeerId,
    config: RelayConfig,
    machine: Machine,
    external: ExternalAddresses,
    live: BTreeMap<ConnectionId, PeerId>,
    asks: u64,
    asking: HashMap<AskId, (ConnectionId, PeerId, Asking)>,
    accepted: HashMap<AskId, Stream>,
    circuits: HashMap<AskId, Forwarded>,
    tasks: JoinSet<(AskId, Outcome)>,
    buffers: Buffers,
    forwarded: Arc<AtomicU64>,
    timer: Option<Pin<Box<Sleep>>>,
    queue: VecDeque<ToSwarm<Said, Command>>,
}

impl Hop {
    pub(super) fn new(local: PeerId, config: RelayConfig) -> Self {
        Self {
            local,
            machine: Machine::new(&config),
            config,
            external: ExternalAddresses::default(),
            live: BTreeMap::new(),
            asks: 0,
            asking: HashMap::new(),
            accepted: HashMap::new(),
            circuits: HashMap::new(),
            tasks: JoinSet::new(),
            buffers: Buffers::default(),
            forwarded: Arc::default(),
            timer: None,
            queue: VecDeque::new(),
        }
    }

    /// Something happened that only who runs the swarm sees.
    pub(super) fn handle(&mut self, input: Input) {
        self.machine.handle(input, Instant::now());
    }

    /// Clients are told from now on.
    pub(super) fn answers_stun_at(&mut self, ports: StunPorts) {
        self.machine.answers_stun_at(ports);
    }

    /// How much is under way.
    pub(super) fn load(&self) -> Load {
        self.machine.load()
    }

    /// How full the limits are.
    pub(super) fn limits(&self) -> Vec<LimitStatus> {
        self.machine.limits()
    }

    /// Bytes that circuits carried since the start.
    pub(super) fn forwarded_bytes(&self) -> u64 {
        self.forwarded.load(Ordering::Relaxed)
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Grant { ask } => {
                self.answer(ask, |hop, asking| Command::Grant(asking, hop.granted()))
            }
            Action::Refuse { ask, refusal } => {
                self.accepted.remove(&ask);
                self.answer(ask, |_, asking| Command::Refuse(asking, refused(refusal)));
            }
            Action::Forget { ask } => {
                self.asking.remove(&ask);
                self.accepted.remove(&ask);
            }
            Action::AskDestination { ask, connection, destination, source } => {
                let peer = Peer { id: source.to_bytes(), addrs: Vec::new() };
                let limit = Some(self.config.circuit_limit());
                let kind = StopKind::Connect as i32;
                let question = Stop { kind, peer: Some(peer), limit, status: None };
                self.tell(destination, connection, Command::Ask(ask, question));
            }
            Action::Forward { ask } => self.forward(ask),
            Action::Cut { ask, cause } => {
                if let Some(circuit) = self.circuits.remove(&ask) {
                    let Forwarded { task, cut } = circuit;
                    let _ = cut.send(cause);
                    let (cut, _) = oneshot::channel();
                    self.circuits.insert(ask, Forwarded { task, cut });
                }
            }
            Action::Keep { peer, connection, keep } => self.tell(peer, connection, Command::Keep(keep)),
            Action::Close { peer, connection } => {
                let connection = CloseConnection::One(connection.0);
                self.queue.push_back(ToSwarm::CloseConnection { peer_id: peer, connection });
            }
            Action::Say { peer, connection, word } => self.say(Said::Word { peer, connection, word }),
            Action::Left => self.say(Said::Left),
        }
    }

    fn say(&mut self, said: Said) {
        self.queue.push_back(ToSwarm::GenerateEvent(said));
    }

    fn tell(&mut self, peer: PeerId, connection: ConnectionId, command: Command) {
        let handler = NotifyHandler::One(connection.0);
        self.queue.push_back(ToSwarm::NotifyHandler { peer_id: peer, handler, event: command });
    }

    fn answer(&mut self, ask: AskId, command: impl FnOnce(&Self, Asking) -> Command) {
        if let Some((connection, peer, asking)) = self.asking.remove(&ask) {
            let command = command(self, asking);
            self.tell(peer, connection, command);
        }
    }

    /// The answer to a client that has a place.
    fn granted(&self) -> Message {
        let duration = self.config.reservation_duration;
        let since = (SystemTime::now() + duration).duration_since(SystemTime::UNIX_EPOCH);
        let ours = |address: &Multiaddr| match address.iter().last() {
            Some(Protocol::P2p(_)) => address.to_vec(),
            _ => address.clone().with(Protocol::P2p(self.local)).to_vec(),
        };
        let reservation = Reservation {
            expire: since.map_or(0, |since| since.as_secs()),
            addrs: self.external.iter().map(ours).collect(),
            voucher: None,
            seconds: Some(duration.as_secs()),
        };
        let limit = Some(self.config.circuit_limit());
        Message { reservation: Some(reservation), limit, ..status_only(Status::Ok) }
    }

    fn forward(&mut self, ask: AskId) {
        let (Some((_, _, asking)), Some(destination)) =
            (self.asking.remove(&ask), self.accepted.remove(&ask))
        else {
            let cause = Some("a substream is gone".to_owned());
            return self.handle(Input::Ended { ask, cause, bytes: 0 });
        };
        let limit = Some(self.config.circuit_limit());
        let opened = Message { limit, ..status_only(Status::Ok) };
        let terms = Terms {
            bytes: (self.config.circuit_bytes > 0).then_some(self.config.circuit_bytes),
            until: tokio::time::Instant::now() + self.config.circuit_duration,
        };
        let (buffers, total) = (self.buffers.clone(), self.forwarded.clone());
        let (cut, cutting) = oneshot::channel();
        let mut source = asking.into_stream();
        let circuit = async move {
            let telling = delimited::write(&mut source, &opened);
            if !matches!(tokio::time::timeout(ANSWER_DEADLINE, telling).await, Ok(Ok(()))) {
                let cause = Some("the client did not take the answer".to_owned());
                return (ask, Outcome { cause, bytes: 0 });
            }
            (ask, forward(source, destination, terms, buffers, total, cutting).await)
        };
        let task = self.tasks.spawn(circuit).id();
        self.circuits.insert(ask, Forwarded { task, cut });
    }

    /// A circuit's task has ended.
    fn ended(&mut self, ended: Result<(AskId, Outcome), task::JoinError>) {
        let (ask, Outcome { cause, bytes }) = match ended {
            Ok(ended) => ended,
            Err(error) => {
                let of_task = |(_, circuit): &(&AskId, &Forwarded)| circuit.task == error.id();
                let Some((ask, _)) = self.circuits.iter().find(of_task) else { return };
                (*ask, Outcome { cause: Some(error.to_string()), bytes: 0 })
            }
        };
        self.circuits.remove(&ask);
        self.handle(Input::Ended { ask, cause, bytes });
    }

    fn advertise(&mut self) {
        let advertise = !self.external.as_slice().is_empty();
        let live: Vec<_> = self.live.iter().map(|(connection, peer)| (*peer, *connection)).collect();
        for (peer, connection) in live {
            self.tell(peer, connection, Command::Advertise(advertise));
        }
    }

    /// Whether the machine's next deadline has passed.
    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(deadline) = self.machine.poll_timeout() else { return Poll::Pending };
        let deadline = tokio::time::Instant::from_std(deadline);
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if timer.deadline() != deadline {
            timer.as_mut().reset(deadline);
        }
        timer.as_mut().poll(cx)
    }
}

/// The answer to a client that is refused.
fn refused(Refusal { status, limited }: Refusal) -> Message {
    let refusal = limited.map(|Limited { whose, limit, retry_after }| {
        let owner = match whose {
            // The others are said by nodes, never by a relay's machine.
            LimitOwner::Relay
            | LimitOwner::Node
            | LimitOwner::Strangers
            | LimitOwner::ThroughRelay
            | LimitOwner::Service
            | LimitOwner::Ranges => wire::LimitOwner::Relay,
            LimitOwner::Address => wire::LimitOwner::Address,
            LimitOwner::Peer => wire::LimitOwner::Peer,
            LimitOwner::Destination => wire::LimitOwner::Destination,
        };
        let retry_after_ms = u64::try_from(retry_after.as_millis()).unwrap_or(u64::MAX);
        wire::Refusal { owner: owner as i32, limit: limit as u64, retry_after_ms }
    });
    Message { refusal, ..status_only(status) }
}

/// Where a connection comes from. Every transport of a relay has IP addresses.
fn place_of(address: &Multiaddr) -> Place {
    Place::of(ip_of(address).unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)))
}

impl NetworkBehaviour for Hop {
    type ConnectionHandler = Handler;
    type ToSwarm = Said;

    fn handle_pending_inbound_connection(
        &mut self,
        connection: swarm::ConnectionId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        let knocked = self.machine.knock(ConnectionId(connection), place_of(remote), Instant::now());
        knocked.map_err(|limited| ConnectionDenied::new(TurnedAway(limited)))
    }

    fn handle_established_inbound_connection(
        &mut self,
        connection: swarm::ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<Handler, ConnectionDenied> {
        self.machine.handshake_over(ConnectionId(connection));
        let admitted = self.machine.admits(peer, place_of(remote), Instant::now());
        admitted.map_err(|limited| ConnectionDenied::new(TurnedAway(limited)))?;
        Ok(Handler::new(!self.external.as_slice().is_empty()))
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: swarm::ConnectionId,
        peer: PeerId,
        remote: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<Handler, ConnectionDenied> {
        let admitted = self.machine.admits(peer, place_of(remote), Instant::now());
        admitted.map_err(|limited| ConnectionDenied::new(TurnedAway(limited)))?;
        Ok(Handler::new(!self.external.as_slice().is_empty()))
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        if self.external.on_swarm_event(&event) {
            self.advertise();
        }
        match event {
            FromSwarm::ConnectionEstablished(established) => {
                let connection = ConnectionId(established.connection_id);
                let place = place_of(established.endpoint.get_remote_address());
                self.live.insert(connection, established.peer_id);
                self.handle(Input::Opened { connection, peer: established.peer_id, place });
            }
            FromSwarm::ConnectionClosed(gone) => {
                let connection = ConnectionId(gone.connection_id);
                // Without a cause it was us.
                let ended = |cause| matches!(cause, CloseCause::System | CloseCause::Reset);
                let closed = gone.cause.is_some_and(|cause| ended(close_cause(Some(cause))));
                self.live.remove(&connection);
                self.handle(Input::Closed { connection, closed });
            }
            FromSwarm::ListenFailure(failure) => {
                self.machine.handshake_over(ConnectionId(failure.connection_id));
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection: swarm::ConnectionId,
        report: Report,
    ) {
        let connection = ConnectionId(connection);
        let input = match report {
            Report::Asked(request, asking) => {
                self.asks += 1;
                let ask = AskId(self.asks);
                self.asking.insert(ask, (connection, peer, asking));
                match request {
                    Request::Reserve => Input::Reserve { ask, connection },
                    Request::Connect { destination } => Input::Connect { ask, connection, destination },
                }
            }
            Report::Answered(ask, answer, io) => {
                if self.asking.contains_key(&ask)
                    && let Some(io) = io
                {
                    self.accepted.insert(ask, io);
                }
                Input::Answered { ask, answer }
            }
        };
        self.handle(input);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Said, THandlerInEvent<Self>>> {
        loop {
            if let Some(out) = self.queue.pop_front() {
                return Poll::Ready(out);
            }
            if let Some(event) = self.machine.poll_event() {
                self.say(Said::Event(Box::new(event)));
            } else if let Some(action) = self.machine.poll_action() {
                self.act(action);
            } else if let Poll::Ready(Some(ended)) = self.tasks.poll_join_next(cx) {
                self.ended(ended);
            } else if self.poll_timer(cx).is_ready() {
                self.machine.handle_timeout(Instant::now());
            } else {
                return Poll::Pending;
            }
        }
    }
}
