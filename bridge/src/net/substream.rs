//! Our substreams: opened on a *named* connection, reported with the connection they came on.
//!
//! libp2p's own stream behaviour opens on a random connection of the peer and hides the connection of
//! inbound ones; with a relayed and a direct one alive, that leaves half of the traffic on the relay.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    convert::Infallible,
    io,
    task::{Context, Poll},
    time::Duration,
};

use futures::{AsyncWrite, AsyncWriteExt as _, FutureExt, future::BoxFuture};
use libp2p::{
    Multiaddr, PeerId, Stream,
    core::{
        Endpoint,
        transport::PortUse,
        upgrade::{InboundUpgrade, OutboundUpgrade, UpgradeInfo},
    },
    swarm::{
        self, ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, FromSwarm, NetworkBehaviour,
        NotifyHandler, StreamUpgradeError, SubstreamProtocol, THandlerInEvent, ToSwarm,
        handler::{ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound},
    },
};

use super::outbox::Outbox;
use crate::{
    engine::input::{OpenId, SubstreamFailure},
    path::ConnectionId,
    stream::{
        FirstError, PROTOCOL, first_frame,
        frame::{Code, Frame, FrameError, Hello, Move},
    },
};

/// What became of a substream.
#[derive(Debug)]
pub(crate) enum Event {
    /// The peer opened one and said what for; it waits for our answer.
    Inbound { peer: PeerId, connection: ConnectionId, first: First, io: Stream },
    /// The one we asked for is there; nothing was said on it.
    Opened { open: OpenId, peer: PeerId, connection: ConnectionId, io: Stream },
    /// The one we asked for did not come about.
    Failed { open: OpenId, failure: SubstreamFailure },
}

/// The first words on an inbound substream.
#[derive(Debug)]
pub(crate) enum First {
    Hello(Box<Hello>),
    Move(Move),
}

/// The behaviour. See the module's text.
pub(crate) struct Behaviour {
    negotiate: Duration,
    // A request to a connection that is closing is dropped without a word, so each one is kept here
    // until it is answered or its connection is closed.
    pending: HashMap<OpenId, ConnectionId>,
    // One that is closed already would never answer.
    live: HashSet<ConnectionId>,
    outbox: Outbox<ToSwarm<Event, Command>>,
}

impl Behaviour {
    pub(crate) fn new(negotiate: Duration) -> Self {
        Self { negotiate, pending: HashMap::new(), live: HashSet::new(), outbox: Outbox::default() }
    }

    /// Opens a substream on `connection`; answered by [`Event::Opened`] or [`Event::Failed`].
    pub(crate) fn open(&mut self, open: OpenId, peer: PeerId, connection: ConnectionId) {
        if !self.live.contains(&connection) {
            let failure = SubstreamFailure::Lost("the connection closed".to_owned());
            return self.outbox.push(ToSwarm::GenerateEvent(Event::Failed { open, failure }));
        }
        self.pending.insert(open, connection);
        self.outbox.push(ToSwarm::NotifyHandler {
            peer_id: peer,
            handler: NotifyHandler::One(connection.0),
            event: Command { open },
        });
    }

    fn connection_closed(&mut self, closed: ConnectionId) {
        self.live.remove(&closed);
        let gone: Vec<OpenId> =
            self.pending.iter().filter(|(_, on)| **on == closed).map(|(open, _)| *open).collect();
        for open in gone {
            self.pending.remove(&open);
            let failure = SubstreamFailure::Lost("the connection closed".to_owned());
            self.outbox.push(ToSwarm::GenerateEvent(Event::Failed { open, failure }));
        }
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = Event;

    fn handle_established_inbound_connection(
        &mut self,
        _: swarm::ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<Handler, ConnectionDenied> {
        Ok(Handler::new(self.negotiate))
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: swarm::ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<Handler, ConnectionDenied> {
        Ok(Handler::new(self.negotiate))
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(established) => {
                self.live.insert(ConnectionId(established.connection_id));
            }
            FromSwarm::ConnectionClosed(closed) => {
                self.connection_closed(ConnectionId(closed.connection_id));
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
        let event = match report {
            Report::Inbound(first, io) => Event::Inbound { peer, connection, first, io },
            Report::Opened(open, io) => Event::Opened { open, peer, connection, io },
            Report::Failed(open, failure) => Event::Failed { open, failure },
        };
        let answered = match &event {
            Event::Inbound { .. } => true,
            Event::Opened { open, .. } | Event::Failed { open, .. } => {
                self.pending.remove(open).is_some()
            }
        };
        if answered {
            self.outbox.push(ToSwarm::GenerateEvent(event));
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Event, THandlerInEvent<Self>>> {
        self.outbox.poll(cx)
    }
}

/// Behaviour to handler: open one.
#[derive(Debug)]
pub(crate) struct Command {
    open: OpenId,
}

/// Handler to behaviour: what became of one.
#[derive(Debug)]
pub(crate) enum Report {
    Inbound(First, Stream),
    Opened(OpenId, Stream),
    Failed(OpenId, SubstreamFailure),
}

/// One connection's part. Everything it queues is bounded by libp2p's limit of negotiating inbound
/// substreams and by the engine's limit of opens.
pub(crate) struct Handler {
    negotiate: Duration,
    commands: VecDeque<Command>,
    reports: VecDeque<Report>,
}

impl Handler {
    fn new(negotiate: Duration) -> Self {
        Self { negotiate, commands: VecDeque::new(), reports: VecDeque::new() }
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Command;
    type ToBehaviour = Report;
    type InboundProtocol = Listen;
    type OutboundProtocol = Plain;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = OpenId;

    fn listen_protocol(&self) -> SubstreamProtocol<Listen> {
        SubstreamProtocol::new(Listen, ()).with_timeout(self.negotiate)
    }

    fn on_behaviour_event(&mut self, command: Command) {
        self.commands.push_back(command);
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ConnectionHandlerEvent<Plain, OpenId, Report>> {
        if let Some(report) = self.reports.pop_front() {
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(report));
        }
        match self.commands.pop_front() {
            Some(Command { open }) => Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest {
                protocol: SubstreamProtocol::new(Plain, open).with_timeout(self.negotiate),
            }),
            // Woken by the connection itself, which calls the methods above before it polls again.
            None => Poll::Pending,
        }
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<'_, Listen, Plain, (), OpenId>) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound {
                protocol: (first, io),
                ..
            }) => self.reports.push_back(Report::Inbound(first, io)),
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound {
                protocol: io,
                info: open,
            }) => self.reports.push_back(Report::Opened(open, io)),
            ConnectionEvent::DialUpgradeError(DialUpgradeError { info: open, error }) => {
                self.reports.push_back(Report::Failed(open, failure_of(error)));
            }
            _ => {}
        }
    }
}

fn failure_of(error: StreamUpgradeError<Infallible>) -> SubstreamFailure {
    match error {
        StreamUpgradeError::Timeout => SubstreamFailure::Deadline,
        StreamUpgradeError::NegotiationFailed => SubstreamFailure::Unsupported,
        StreamUpgradeError::Apply(never) => match never {},
        StreamUpgradeError::Io(error) => SubstreamFailure::Lost(error.to_string()),
    }
}

/// Outbound: nothing but the substream; the stream's machine says the first words.
#[derive(Debug)]
pub(crate) struct Plain;

/// Inbound: hear the first words. The answer is given by whoever takes or refuses it.
#[derive(Debug)]
pub(crate) struct Listen;

/// Why the first words could not be heard.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ListenError {
    #[error(transparent)]
    First(#[from] FirstError),
    #[error("a substream begins with HELLO or MOVE")]
    Unexpected,
    #[error("the refusal could not be said: {0}")]
    Io(#[from] io::Error),
}

impl UpgradeInfo for Plain {
    type Info = libp2p::StreamProtocol;
    type InfoIter = std::iter::Once<Self::Info>;

    fn protocol_info(&self) -> Self::InfoIter {
        std::iter::once(PROTOCOL)
    }
}

impl UpgradeInfo for Listen {
    type Info = libp2p::StreamProtocol;
    type InfoIter = std::iter::Once<Self::Info>;

    fn protocol_info(&self) -> Self::InfoIter {
        std::iter::once(PROTOCOL)
    }
}

impl OutboundUpgrade<Stream> for Plain {
    type Output = Stream;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Stream, Infallible>>;

    fn upgrade_outbound(self, io: Stream, _: Self::Info) -> Self::Future {
        std::future::ready(Ok(io))
    }
}

impl InboundUpgrade<Stream> for Listen {
    type Output = (First, Stream);
    type Error = ListenError;
    type Future = BoxFuture<'static, Result<Self::Output, Self::Error>>;

    fn upgrade_inbound(self, mut io: Stream, _: Self::Info) -> Self::Future {
        async move {
            match first(&mut io).await {
                Ok(first) => Ok((first, io)),
                Err(error) => {
                    let code = match &error {
                        ListenError::First(FirstError::Malformed(FrameError::Version(_))) => {
                            Code::VersionUnsupported
                        }
                        _ => Code::Protocol,
                    };
                    refuse(&mut io, Frame::Reset { code }).await?;
                    Err(error)
                }
            }
        }
        .boxed()
    }
}

async fn first(io: &mut Stream) -> Result<First, ListenError> {
    match first_frame(io).await? {
        Frame::Hello(hello) => Ok(First::Hello(hello)),
        Frame::Move(ask) => Ok(First::Move(ask)),
        _ => Err(ListenError::Unexpected),
    }
}

/// Says one last frame on a substream that carries no stream.
pub(crate) async fn refuse(io: &mut (impl AsyncWrite + Unpin), farewell: Frame) -> io::Result<()> {
    let mut bytes = bytes::BytesMut::new();
    farewell.encode(&mut bytes);
    io.write_all(&bytes).await?;
    io.close().await
}
