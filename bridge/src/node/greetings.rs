//! Streams of ours whose HELLO is not answered yet. Until it is, the driver repeats it on one leg after the other:
//! the same stream, and to the peer the same request.

use std::{collections::HashMap, time::Instant};

use libp2p::PeerId;
use punchline_stream::Facts;

use super::legs::Legs;
use crate::{
    engine::input::{Input, OpenId, SubstreamFailure},
    error::{OpenError, Refusal},
    path::{ConnectionId, Direction},
    service::Service,
    stream::{
        Handle, Route, Stream, StreamId, StreamKey,
        frame::Code,
        machine::{LossCause, Machine, StreamError},
    },
};

/// Which open waits for which stream, one for one. Bounded by the engine's limit of opens; one that failed stays
/// until its stream has told the peer.
#[derive(Default)]
pub(super) struct Greetings {
    by_stream: HashMap<StreamKey, OpenId>,
    by_open: HashMap<OpenId, StreamKey>,
}

impl Greetings {
    fn insert(&mut self, key: StreamKey, open: OpenId) {
        self.by_stream.insert(key, open);
        self.by_open.insert(open, key);
    }

    pub(super) fn remove(&mut self, key: StreamKey) -> Option<OpenId> {
        let open = self.by_stream.remove(&key)?;
        self.by_open.remove(&open);
        Some(open)
    }

    pub(super) fn contains(&self, key: StreamKey) -> bool {
        self.by_stream.contains_key(&key)
    }
}

impl Legs {
    /// Says HELLO, for the first time or again; the stream is the program's when it is answered.
    pub(super) fn greet(
        &mut self,
        open: OpenId,
        peer: PeerId,
        service: Service,
        connection: ConnectionId,
        io: libp2p::Stream,
    ) {
        let Some(on) = self.route_of(connection) else {
            let failure = SubstreamFailure::Lost("the connection closed".to_owned());
            return self.tell(Input::SubstreamFailed { open, failure });
        };
        match self.greetings.by_open.get(&open).copied() {
            None => self.begin(open, peer, service, on, io),
            Some(key) => self.repeat(key, on, io),
        }
    }

    fn begin(&mut self, open: OpenId, peer: PeerId, service: Service, on: Route, io: libp2p::Stream) {
        // Substreams for an open that failed are not awaited.
        let Some(opening) = self.opens.get(&open) else { return };
        let (ticket, config) = (opening.ticket.clone(), self.config(opening.patience));
        let (stream, connection) = (StreamId::random(), on.connection);
        let key = StreamKey { peer, stream };
        let facts = Facts::new(stream, service.clone(), Direction::Outbound, on);
        let (leg, now) = (self.leg(), Instant::now());
        let budget = self.books.budget_of(peer);
        let machine = Machine::open(stream, service, ticket, config, &budget, leg, now);
        let handle = Handle::start(machine, facts.into(), leg, Box::new(io), self.notes_of(key));
        self.books.insert(key, handle, false);
        self.greetings.insert(key, open);
        self.tell(Input::LegStarted { key, connection, leg });
    }

    /// The leg before was lost.
    fn repeat(&mut self, key: StreamKey, on: Route, io: libp2p::Stream) {
        let (leg, connection) = (self.leg(), on.connection);
        let live = self.books.get_mut(key);
        // A stream that is over says so itself.
        if live.is_some_and(|live| live.handle.begin_move(leg, on, Box::new(io)).is_ok()) {
            self.tell(Input::LegStarted { key, connection, leg });
        }
    }

    /// The leg that HELLO was said on is lost. The stream waits for the next connection.
    pub(super) fn unanswered(&mut self, key: StreamKey, cause: LossCause) {
        if let Some(open) = self.greetings.by_stream.get(&key).copied() {
            let failure = SubstreamFailure::Lost(cause.to_string());
            self.tell(Input::SubstreamFailed { open, failure });
        }
    }

    /// The peer accepted.
    pub(super) fn opened(&mut self, key: StreamKey) {
        let Some(open) = self.greetings.remove(key) else { return };
        let Some(live) = self.books.get_mut(key) else { return };
        live.announced = true;
        let stream = Stream::new(&live.handle, key.peer);
        let Route { connection, path, .. } = stream.facts().route();
        self.tell(Input::StreamOpened { open, key, connection, path });
        match self.opens.remove(&open) {
            // Whoever asked may have gone; the stream then ends by being dropped.
            Some(opening) => drop(opening.reply.send(Ok(stream))),
            None => drop(stream),
        }
    }

    /// Nothing comes of an open: whoever asked is told, and its stream ends.
    pub(super) fn open_failed(&mut self, open: OpenId, error: OpenError) {
        self.purposes.remove(&open);
        let key = self.greetings.by_open.get(&open).copied();
        if let Some(live) = key.and_then(|key| self.books.get_mut(key)) {
            live.handle.reset(Code::Cancelled);
        }
        if let Some(opening) = self.opens.remove(&open) {
            // Whoever asked may have gone.
            let _ = opening.reply.send(Err(error));
        }
    }
}

/// What a stream that ended before it was open means for whoever asked for it.
pub(super) fn failure_of(failure: Option<StreamError>) -> SubstreamFailure {
    match failure {
        Some(StreamError::Refused { code }) => refusal(code),
        Some(error) => SubstreamFailure::Over(error.to_string()),
        None => SubstreamFailure::Over("the stream ended".to_owned()),
    }
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
        Code::DirectOnly => Refusal::DirectOnly,
        other => return SubstreamFailure::Over(format!("the peer answered {other:?}")),
    })
}
