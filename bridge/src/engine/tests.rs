//! The engine in a small world with virtual time: no network, no clock, every rule a claim.

#![allow(clippy::unwrap_used)]

mod addresses;
mod confirmed;
mod connections;
mod hints;
mod holds;
mod mapping;
mod moves;
mod names;
mod nat;
mod networks;
mod opens;
mod outcomes;
mod paths;
mod places;
mod quiet;
mod refusals;
mod relay_mode;
mod relays;
mod replay;
mod retry;
mod rounds;
mod sought;
mod spares;
mod status;
mod upgrades;
mod verdicts;
mod waits;
mod web;

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

use libp2p::{Multiaddr, PeerId};

use super::{
    Engine,
    input::{
        Action, CircuitLimit, DialId, Grant, InboundId, Input, OpenId, Opened, Queue, ReserveId,
        SubstreamFailure,
    },
};
use crate::{
    addr::RelayAddr,
    config::Config,
    error::{CloseCause, DialFailureReason, OpenError, ReserveFailure},
    event::Event,
    path::{ConnectionId, Direction, Path, Transport},
    service::Service,
    stream::{StreamId, StreamKey, machine::LegId},
    word::Word,
};

/// One engine, its virtual clock, and what it asked for so far.
struct World {
    engine: Engine,
    now: Instant,
    ids: u64,
    legs: Vec<(ConnectionId, LegId)>,
    /// The latest exchange about a punch on each connection.
    exchanges: BTreeMap<ConnectionId, u64>,
}

impl World {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::default();
        change(&mut config);
        Self {
            engine: Engine::new(peer(0), config, 7),
            now: Instant::now(),
            ids: 0,
            legs: Vec::new(),
            exchanges: BTreeMap::new(),
        }
    }

    fn id(&mut self) -> u64 {
        self.ids += 1;
        self.ids
    }

    /// Tells the engine and returns what it wants done.
    fn tell(&mut self, input: Input) -> Vec<Action> {
        self.engine.handle(input, self.now);
        self.actions()
    }

    fn actions(&mut self) -> Vec<Action> {
        let actions: Vec<Action> = std::iter::from_fn(|| self.engine.poll_action()).collect();
        for action in &actions {
            if let Action::AskPunch { exchange, .. } = action {
                self.exchanges.insert(exchange.connection, exchange.number);
            }
        }
        actions
    }

    /// But for how relays do, which comes with most of what they do, and for what is waited for, which comes with time.
    fn events(&mut self) -> Vec<Event> {
        let mut events = self.all_events();
        events.retain(|event| !matches!(event, Event::RelayHealth { .. } | Event::Waiting(_)));
        events
    }

    fn all_events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.engine.poll_event()).collect()
    }

    /// Lets time pass from one deadline of the engine to the next, and returns what it wants done.
    fn pass(&mut self, time: Duration) -> Vec<Action> {
        let end = self.now + time;
        let mut actions = Vec::new();
        while let Some(next) = self.engine.poll_timeout().filter(|next| *next <= end) {
            self.now = self.now.max(next);
            self.engine.handle_timeout(self.now);
            actions.extend(self.actions());
            if self.engine.is_stopped() {
                return actions;
            }
            let over = self.engine.poll_timeout().is_some_and(|next| next <= self.now);
            assert!(!over, "a deadline that is over must not be named again, or the driver spins");
        }
        self.now = end;
        self.engine.handle_timeout(self.now);
        actions.extend(self.actions());
        actions
    }

    /// Asks for a stream to `peer`.
    fn open(&mut self, peer: PeerId) -> (OpenId, Vec<Action>) {
        let open = OpenId(self.id());
        let actions = self.tell(Input::Open { open, peer, service: service() });
        (open, actions)
    }

    fn learn(&mut self, peer: PeerId, addresses: &[Multiaddr]) {
        self.tell(Input::Learn { peer, addresses: addresses.to_vec() });
    }

    fn connected(&mut self, peer: PeerId, path: Path, transport: Transport) -> ConnectionId {
        self.established(peer, path, transport, None, Direction::Outbound).0
    }

    fn established(
        &mut self,
        peer: PeerId,
        path: Path,
        transport: Transport,
        dial: Option<DialId>,
        direction: Direction,
    ) -> (ConnectionId, Vec<Action>) {
        let connection = ConnectionId(libp2p::swarm::ConnectionId::new_unchecked(self.id() as usize));
        let address = direct(9);
        let limit = path.relay().map(|_| CircuitLimit::default());
        let opened = Opened { connection, dial, peer, path, direction, transport, address, limit };
        (connection, self.tell(Input::ConnectionOpened(opened)))
    }

    /// A circuit that its relay ends within `lifetime`.
    fn circuit_for(
        &mut self,
        peer: PeerId,
        relay: &RelayAddr,
        lifetime: Duration,
        dial: Option<DialId>,
    ) -> ConnectionId {
        let connection = ConnectionId(libp2p::swarm::ConnectionId::new_unchecked(self.id() as usize));
        self.tell(Input::ConnectionOpened(Opened {
            connection,
            dial,
            peer,
            path: relayed(relay),
            direction: Direction::Outbound,
            transport: Transport::Tcp,
            address: direct(9),
            limit: Some(CircuitLimit { bytes: None, duration: Some(lifetime) }),
        }));
        connection
    }

    /// The dial becomes a direct connection over TCP.
    fn dialled(&mut self, peer: PeerId, dial: DialId) -> (ConnectionId, Vec<Action>) {
        self.established(peer, Path::Direct, Transport::Tcp, Some(dial), Direction::Outbound)
    }

    /// A peer connects to us directly.
    fn comes_from(&mut self, peer: PeerId, ip: &str) -> ConnectionId {
        let connection = ConnectionId(libp2p::swarm::ConnectionId::new_unchecked(self.id() as usize));
        self.tell(Input::ConnectionOpened(Opened {
            connection,
            dial: None,
            peer,
            path: Path::Direct,
            direction: Direction::Inbound,
            transport: Transport::Tcp,
            address: format!("/ip4/{ip}/tcp/40001").parse().unwrap(),
            limit: None,
        }));
        connection
    }

    fn closed(&mut self, connection: ConnectionId) -> Vec<Action> {
        self.tell(Input::ConnectionClosed { connection, cause: CloseCause::System })
    }

    fn dial_failed(&mut self, dial: DialId) -> Vec<Action> {
        let reason = DialFailureReason::Network { cause: "refused".to_owned() };
        self.tell(Input::DialFailed { dial, reason })
    }

    fn identified(&mut self, connection: ConnectionId) -> Vec<Action> {
        self.observed(connection, "/ip4/8.8.8.8/tcp/4001".parse().unwrap())
    }

    fn observed(&mut self, connection: ConnectionId, observed: Multiaddr) -> Vec<Action> {
        self.tell(Input::Identified { connection, observed })
    }

    /// The peer answers: as drivers say it, first the leg and then the stream.
    fn substream_opened(&mut self, open: OpenId, connection: ConnectionId) -> Vec<Action> {
        self.stream_opened_as(open, connection, StreamId::from_bytes([1; 16]))
    }

    fn stream_opened_as(
        &mut self,
        open: OpenId,
        connection: ConnectionId,
        stream: StreamId,
    ) -> Vec<Action> {
        let pending = self.engine.opens.get(open).map(|pending| pending.peer);
        let key = StreamKey { peer: pending.unwrap_or(peer(1)), stream };
        let path = self.engine.path(connection).unwrap_or(Path::Direct);
        let leg = LegId(self.id());
        self.legs.push((connection, leg));
        let mut actions = self.tell(Input::LegStarted { key, connection, leg });
        actions.extend(self.tell(Input::StreamOpened { open, key, connection, path }));
        actions
    }

    /// The last leg on a connection ends.
    fn leg_ended(&mut self, connection: ConnectionId) -> Vec<Action> {
        let at = self.legs.iter().rposition(|(on, _)| *on == connection).unwrap();
        let (_, leg) = self.legs.remove(at);
        self.tell(Input::LegEnded { connection, leg })
    }

    fn lost(&mut self, open: OpenId) -> Vec<Action> {
        let failure = SubstreamFailure::Lost("reset".to_owned());
        self.tell(Input::SubstreamFailed { open, failure })
    }

    /// A stream that lives on `connection`.
    fn stream_on(&mut self, connection: ConnectionId, peer: PeerId) {
        let (open, actions) = self.open(peer);
        assert_eq!(opens_on(&actions), vec![connection]);
        self.substream_opened(open, connection);
    }

    /// A peer asks for a stream, and has it if the engine says so.
    fn inbound(&mut self, connection: ConnectionId, queue: Queue) -> Vec<Action> {
        let inbound = InboundId(self.id());
        let stream = StreamId::from_bytes([self.ids as u8; 16]);
        self.inbound_as(inbound, connection, stream, queue)
    }

    fn inbound_as(
        &mut self,
        inbound: InboundId,
        connection: ConnectionId,
        stream: StreamId,
        queue: Queue,
    ) -> Vec<Action> {
        let service = service();
        let mut actions =
            self.tell(Input::InboundStream { inbound, connection, stream, service, queue });
        if actions.iter().any(|action| matches!(action, Action::Accept { .. })) {
            actions.extend(self.accept(inbound, connection, stream));
        }
        actions
    }

    fn accept(&mut self, inbound: InboundId, connection: ConnectionId, stream: StreamId) -> Vec<Action> {
        let key = StreamKey { peer: self.engine.peer(connection).unwrap_or(peer(1)), stream };
        let path = self.engine.path(connection).unwrap_or(Path::Direct);
        let leg = LegId(self.id());
        self.legs.push((connection, leg));
        self.tell(Input::LegStarted { key, connection, leg });
        self.tell(Input::StreamAccepted { inbound, key, service: service(), path })
    }

    /// The relay grants what was asked for last: an hour, by a clock that shows the same as ours.
    fn granted(&mut self, request: ReserveId) -> Vec<Action> {
        self.tell(Input::Reserved { request, grant: grant(), at: SystemTime::UNIX_EPOCH })
    }

    fn refused(&mut self, request: ReserveId, failure: ReserveFailure) -> Vec<Action> {
        self.tell(Input::ReserveFailed { request, failure })
    }

    /// Dials, identifies and reserves, until the reservation with `relay` is held.
    fn reserved(&mut self, relay: &RelayAddr) -> ConnectionId {
        let (connection, request) = self.asked(relay);
        self.granted(request);
        connection
    }

    /// Dials and identifies, until a reservation with `relay` is asked for.
    fn asked(&mut self, relay: &RelayAddr) -> (ConnectionId, ReserveId) {
        let actions = self.tell(Input::Reserve { relay: relay.clone() });
        let (connection, _) = self.dialled(relay.peer(), dials(&actions)[0].0);
        let actions = self.identified(connection);
        let request = reserve(&actions);
        let relay = relay.clone();
        assert!(actions.contains(&Action::Reserve { request, relay, connection }));
        (connection, request)
    }
}

/// What a relay of ours grants.
fn grant() -> Grant {
    let limit = CircuitLimit { bytes: Some(1 << 30), duration: Some(HOUR) };
    Grant { expire: 3600, lasts: Some(HOUR), limit }
}

const HOUR: Duration = Duration::from_secs(3600);
const MS: Duration = Duration::from_millis(1);
const S: Duration = Duration::from_secs(1);

fn peer(seed: u8) -> PeerId {
    libp2p::identity::Keypair::ed25519_from_bytes([seed; 32]).unwrap().public().to_peer_id()
}

fn service() -> Service {
    "echo".parse().unwrap()
}

fn direct(host: u8) -> Multiaddr {
    format!("/ip4/203.0.113.{host}/tcp/4001").parse().unwrap()
}

fn relay(seed: u8) -> RelayAddr {
    RelayAddr::new(direct(seed).with_p2p(peer(seed)).unwrap()).unwrap()
}

fn relayed(relay: &RelayAddr) -> Path {
    Path::Relayed { relay: relay.peer() }
}

/// The stream that [`World::stream_on`] opens.
fn key() -> StreamKey {
    StreamKey { peer: peer(1), stream: StreamId::from_bytes([1; 16]) }
}

/// The connections to which streams are to move.
fn moves(actions: &[Action]) -> Vec<ConnectionId> {
    let pick = |action: &Action| match action {
        Action::MoveStream { connection, .. } => Some(*connection),
        _ => None,
    };
    actions.iter().filter_map(pick).collect()
}

/// The connections whose pulse is to be taken.
fn pulses(actions: &[Action]) -> Vec<ConnectionId> {
    let pick = |action: &Action| match action {
        Action::TakePulse { connection } => Some(*connection),
        _ => None,
    };
    actions.iter().filter_map(pick).collect()
}

/// The dials asked for, with their targets.
fn dials(actions: &[Action]) -> Vec<(DialId, PeerId, Vec<Multiaddr>)> {
    let pick = |action: &Action| match action {
        Action::Dial { dial, peer, addresses } => Some((*dial, *peer, addresses.clone())),
        Action::DialCircuit { dial, peer, relay, .. } => {
            Some((*dial, *peer, vec![relay.circuit_to(*peer)]))
        }
        _ => None,
    };
    actions.iter().filter_map(pick).collect()
}

/// The connections on which substreams are to be opened.
fn opens_on(actions: &[Action]) -> Vec<ConnectionId> {
    let pick = |action: &Action| match action {
        Action::OpenSubstream { connection, .. } => Some(*connection),
        _ => None,
    };
    actions.iter().filter_map(pick).collect()
}

/// The connections to be closed.
fn closes(actions: &[Action]) -> Vec<ConnectionId> {
    let pick = |action: &Action| match action {
        Action::CloseConnection { connection, .. } => Some(*connection),
        _ => None,
    };
    actions.iter().filter_map(pick).collect()
}

/// The opens that failed, with their errors.
fn failures(actions: &[Action]) -> Vec<(OpenId, &OpenError)> {
    let pick = |action| match action {
        &Action::FailOpen { open, ref error } => Some((open, error)),
        _ => None,
    };
    actions.iter().filter_map(pick).collect()
}

/// A place that the program need not decide on.
const FREE: Queue = Queue::Free { ask: false, services: 1 };

/// What is to be said, and where.
fn said(actions: &[Action]) -> Vec<(ConnectionId, Word)> {
    let pick = |action: &Action| match action {
        Action::Say { connection, word, .. } => Some((*connection, word.clone())),
        _ => None,
    };
    actions.iter().filter_map(pick).collect()
}

/// The requests for reservations.
fn reserves(actions: &[Action]) -> Vec<ReserveId> {
    let pick = |action: &Action| match action {
        Action::Reserve { request, .. } => Some(*request),
        _ => None,
    };
    actions.iter().filter_map(pick).collect()
}

/// The only request for a reservation.
fn reserve(actions: &[Action]) -> ReserveId {
    let [request] = reserves(actions)[..] else { panic!("{actions:?}") };
    request
}
