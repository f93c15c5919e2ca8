//! Substreams become legs of streams, and what streams say becomes inputs and events.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use libp2p::{Multiaddr, PeerId};
use punchline_stream::Notes;
use tokio::sync::{mpsc, oneshot};

use super::{
    books::{Books, end_of},
    greetings::{Greetings, failure_of},
    requests::Requests,
};
use crate::{
    engine::input::{InboundId, Input, OpenId},
    error::OpenError,
    event::Event,
    incoming::{Decision, Decisions},
    net::substream::{self, First},
    path::{ConnectionId, Path},
    service::Service,
    stream::{
        Ask, Handle, Meter, NearlySpent, Note, Pulse, Route, Stream, StreamKey,
        frame::Code,
        machine::{self, Farewell, LegId},
    },
};

pub(super) type Reply = oneshot::Sender<Result<Stream, OpenError>>;

/// Where the streams of this node say what became of them.
type NoteSender = mpsc::UnboundedSender<(StreamKey, Note)>;

/// Who waits for an open.
pub(super) struct Opening {
    pub(super) reply: Reply,
    pub(super) ticket: Bytes,
    pub(super) patience: Option<Duration>,
}

/// What a substream was asked for.
pub(super) enum Purpose {
    Open { service: Service },
    Move { key: StreamKey, connection: ConnectionId },
}

/// Where a connection runs.
pub(super) struct Ends {
    pub(super) path: Path,
    /// The peer's, or the way to it.
    pub(super) address: Multiaddr,
    /// When anything was heard on it.
    pub(super) pulse: Pulse,
    /// What it has carried, if a relay limits that.
    pub(super) meter: Option<Meter>,
}

/// The streams of a node and all that is under way about them. What is to be told to the engine and to the
/// world is kept in `inputs` and `events` until the driver takes it.
pub(super) struct Legs {
    pub(super) inputs: VecDeque<Input>,
    pub(super) events: VecDeque<Event>,
    pub(super) opens: HashMap<OpenId, Opening>,
    pub(super) purposes: HashMap<OpenId, Purpose>,
    pub(super) greetings: Greetings,
    pub(super) books: Books,
    pub(super) requests: Requests,
    pub(super) ends: HashMap<ConnectionId, Ends>,
    pub(super) stream_config: Arc<machine::Config>,
    /// Whether streams may run through relays.
    relayed_streams: bool,
    // Unbounded, yet bounded by what streams may say: see `Note`.
    pub(super) notes: (NoteSender, mpsc::UnboundedReceiver<(StreamKey, Note)>),
    pub(super) decisions: (Decisions, mpsc::UnboundedReceiver<(InboundId, Decision)>),
    pub(super) nearly_spent: (NearlySpent, mpsc::UnboundedReceiver<ConnectionId>),
    next_id: u64,
}

impl Legs {
    pub(super) fn new(stream_config: Arc<machine::Config>, relayed_streams: bool) -> Self {
        Self {
            inputs: VecDeque::new(),
            events: VecDeque::new(),
            opens: HashMap::new(),
            purposes: HashMap::new(),
            greetings: Greetings::default(),
            books: Books::default(),
            requests: Requests::default(),
            ends: HashMap::new(),
            stream_config,
            relayed_streams,
            notes: mpsc::unbounded_channel(),
            decisions: mpsc::unbounded_channel(),
            nearly_spent: mpsc::unbounded_channel(),
            next_id: 0,
        }
    }

    /// What became of a substream. `moves_to` says where a stream of ours is to move.
    pub(super) fn substream_event(
        &mut self,
        event: substream::Event,
        moves_to: impl Fn(StreamKey) -> Option<ConnectionId>,
    ) {
        match event {
            substream::Event::Opened { open, peer, connection, io } => {
                match self.purposes.remove(&open) {
                    Some(Purpose::Open { service }) => self.greet(open, peer, service, connection, io),
                    // Meanwhile a better connection may have come.
                    Some(Purpose::Move { key, .. }) if moves_to(key) == Some(connection) => {
                        self.begin_move(key, connection, io);
                    }
                    Some(Purpose::Move { key, .. }) => self.move_failed(key, connection),
                    None => {}
                }
            }
            substream::Event::Failed { open, failure } => match self.purposes.remove(&open) {
                Some(Purpose::Open { .. }) => self.tell(Input::SubstreamFailed { open, failure }),
                Some(Purpose::Move { key, connection }) => self.move_failed(key, connection),
                None => {}
            },
            substream::Event::Inbound { peer, connection, first, io } => {
                self.heard_first(peer, connection, first, io);
            }
        }
    }

    fn begin_move(&mut self, key: StreamKey, connection: ConnectionId, io: libp2p::Stream) {
        let leg = self.leg();
        let on = self.route_of(connection);
        let live = self.books.get_mut(key).zip(on);
        if live.is_some_and(|(live, on)| live.handle.begin_move(leg, on, Box::new(io)).is_ok()) {
            self.tell(Input::LegStarted { key, connection, leg });
        } else {
            self.move_failed(key, connection);
        }
    }

    fn move_failed(&mut self, key: StreamKey, connection: ConnectionId) {
        self.tell(Input::MoveFailed { key, connection, silent: false });
    }

    fn heard_first(&mut self, peer: PeerId, connection: ConnectionId, first: First, io: libp2p::Stream) {
        let stream = match &first {
            First::Hello(hello) => hello.stream,
            First::Move(ask) => ask.stream,
        };
        let key = StreamKey { peer, stream };
        let known = self.books.get_mut(key).map(|live| live.handle.clone());
        let relayed = self.ends.get(&connection).is_some_and(|ends| !ends.path.is_direct());
        if relayed && !self.relayed_streams && (known.is_some() || self.requests.is_asked(key)) {
            // Its opener keeps it, and moves it to a direct connection.
            return self.requests.answer(peer, io, Farewell::Reset(Code::Busy));
        }
        match (known, self.books.farewell(key, Instant::now()), first) {
            (Some(handle), _, First::Hello(hello)) => {
                self.attach(key, &handle, connection, &Ask::Hello(hello), io);
            }
            (Some(handle), _, First::Move(ask)) => {
                self.attach(key, &handle, connection, &Ask::Move(ask), io);
            }
            (None, Some(farewell), _) => self.requests.answer(peer, io, farewell),
            (None, None, First::Hello(hello)) => self.asked(peer, connection, hello, io),
            (None, None, First::Move(_)) => {
                self.requests.answer(peer, io, Farewell::Reset(Code::Unknown));
            }
        }
    }

    /// The peer asks us to carry its stream on this substream from now on.
    fn attach(
        &mut self,
        key: StreamKey,
        handle: &Handle,
        connection: ConnectionId,
        ask: &Ask,
        io: libp2p::Stream,
    ) {
        let Some(on) = self.route_of(connection) else { return };
        let leg = self.leg();
        match handle.handle_move(leg, ask, on, Box::new(io)) {
            Ok(()) => self.tell(Input::LegStarted { key, connection, leg }),
            Err((farewell, io)) => self.requests.answer(key.peer, io, farewell),
        }
    }

    pub(super) fn route_of(&self, connection: ConnectionId) -> Option<Route> {
        let Ends { path, address, pulse, meter } = self.ends.get(&connection)?;
        let (address, pulse, meter) = (address.clone(), pulse.clone(), meter.clone());
        Some(Route { connection, path: *path, address, pulse, meter })
    }

    /// A stream has something to say.
    pub(super) fn note(&mut self, key: StreamKey, note: Note) {
        match note {
            Note::Opened => self.opened(key),
            // Where it runs is told when it is open.
            Note::Moved(_) if self.greetings.contains(key) => {}
            Note::Moved(record) => {
                let to = record.to.connection;
                self.events.push_back(Event::StreamMoved {
                    peer: key.peer,
                    stream: key.stream,
                    from: record.from.path,
                    to: record.to.path,
                    relay: record.to.path.relay(),
                    gap_ms: record.gap.as_micros() as f64 / 1000.0,
                    cause: record.cause.map(|cause| cause.to_string()),
                });
                self.tell(Input::StreamMoved { key, to });
            }
            Note::MoveFailed { route, cause } => {
                let connection = route.connection;
                self.tell(Input::MoveFailed { key, connection, silent: is_silent(cause) });
            }
            Note::Detached { cause, .. } if self.greetings.contains(key) => self.unanswered(key, cause),
            Note::Detached { route, cause } => {
                let connection = Some(route.connection);
                self.tell(Input::StreamDetached { key, connection, silent: is_silent(cause) });
            }
            Note::LegEnded { route, leg } => {
                self.tell(Input::LegEnded { connection: route.connection, leg });
            }
            Note::Failed(error) => {
                if let Some(live) = self.books.get_mut(key) {
                    live.failure = Some(error);
                }
            }
            Note::Closed { farewell } => self.closed(key, farewell),
        }
    }

    fn closed(&mut self, key: StreamKey, farewell: Option<Farewell>) {
        let Some(live) = self.books.get_mut(key) else { return };
        // Longer than its opener tries, if both are as patient.
        let keep = live.handle.patience().saturating_mul(2);
        let Some(live) = self.books.close(key, farewell, keep, Instant::now()) else { return };
        if let Some(open) = self.greetings.remove(key) {
            let failure = failure_of(live.failure);
            return self.tell(Input::SubstreamFailed { open, failure });
        }
        let facts = live.handle.facts();
        if live.announced {
            self.events.push_back(Event::StreamClosed {
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
        self.tell(Input::StreamClosed { key });
    }

    /// Nobody will bring this stream a path any more.
    pub(super) fn forsake(&mut self, key: StreamKey) {
        if let Some(live) = self.books.get_mut(key) {
            live.handle.reset(Code::Unknown);
            live.handle.abandon();
        }
    }

    /// Streams on this connection look for another.
    pub(super) fn leave(&self, connection: ConnectionId) {
        for live in self.books.all() {
            live.handle.connection_closed(|on| on.connection == connection);
        }
    }

    /// A connection is gone.
    pub(super) fn connection_closed(&mut self, connection: ConnectionId) {
        self.ends.remove(&connection);
        self.leave_requests(connection);
        self.leave(connection);
    }

    /// Whether a stream has heard of the peer since then where it is asked for.
    pub(super) fn is_heard(&self, since: Instant, runs: impl Fn(&Route) -> bool) -> bool {
        self.books.all().any(|live| live.handle.heard_since(since, &runs))
    }

    /// The node is gone: its streams end, and say so before it does.
    pub(super) fn end_streams(&mut self) {
        for live in self.books.all() {
            live.handle.abandon();
        }
        while let Ok((key, note)) = self.notes.1.try_recv() {
            self.note(key, note);
        }
    }

    /// The settings of a stream that waits for a path for so long.
    pub(super) fn config(&self, patience: Option<Duration>) -> Arc<machine::Config> {
        match patience {
            None => self.stream_config.clone(),
            Some(patience) => Arc::new(machine::Config { patience, ..(*self.stream_config).clone() }),
        }
    }

    /// Where the notes of a stream go.
    pub(super) fn notes_of(&self, key: StreamKey) -> Notes<Route> {
        let notes = self.notes.0.clone();
        // The driver is gone only when the node is, and then nobody keeps books.
        Box::new(move |note| drop(notes.send((key, note))))
    }

    pub(super) fn tell(&mut self, input: Input) {
        self.inputs.push_back(input);
    }

    pub(super) fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    pub(super) fn leg(&mut self) -> LegId {
        LegId(self.id())
    }
}

/// Streams would wait for a path that nobody brings any more.
impl Drop for Legs {
    fn drop(&mut self) {
        for live in self.books.all() {
            live.handle.abandon();
        }
    }
}

fn is_silent(cause: machine::LossCause) -> bool {
    matches!(cause, machine::LossCause::Silent { .. } | machine::LossCause::Unanswered { .. })
}
