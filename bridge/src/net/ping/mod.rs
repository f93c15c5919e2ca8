//! libp2p's ping: 32 bytes there and back on a substream that stays open, again and again.
//!
//! Whoever heard no ping and got no answer for an interval asks. To be asked counts as much as to be answered, so two ends
//! that both run this take turns, and one exchange in an interval serves both. libp2p's own has each end ask by itself, with a
//! timer of a thread that all connections of the process share. The wire is the same.
//!
//! The interval is short where streams have something to say, on circuits, and where the peer is a relay that leads to us or to others;
//! it is long elsewhere ([`pace`]).

mod handler;
mod pace;

use std::{
    collections::HashMap,
    task::{Context, Poll},
    time::Duration,
};

use libp2p::{
    Multiaddr, PeerId,
    core::{Endpoint, transport::PortUse},
    swarm::{self, ConnectionDenied, FromSwarm, NetworkBehaviour, THandlerInEvent, ToSwarm},
};

use self::{handler::Handler, pace::Pace};
use super::{outbox::Outbox, watched::Watched};
use crate::{addr::is_circuit, path::ConnectionId, stream::Pulse};

/// What became of pings on a connection.
#[derive(Debug)]
pub(crate) struct Event {
    pub(crate) connection: ConnectionId,
    pub(crate) said: Said,
}

/// What a ping says of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// The peer answered.
    Answered {
        /// From the question to the answer.
        round_trip: Duration,
        /// From when the question was due, which a busy host asks late. The first is due when the connection is there.
        took: Duration,
    },
    /// The peer asked.
    Asked,
    /// From now on somebody asks so often.
    Paced(Duration),
    /// The peer did not answer in time, or twice in a row took no substream.
    Unanswered,
}

/// The behaviour. See the module's text.
#[derive(Default)]
pub(crate) struct Behaviour {
    watched: Watched,
    /// Of each connection.
    pulses: HashMap<ConnectionId, Pulse>,
    // What handlers report is bounded by their interval.
    outbox: Outbox<ToSwarm<Event, std::convert::Infallible>>,
}

impl Behaviour {
    /// Peers that are `watched` are asked often, whatever streams do.
    pub(crate) fn new(watched: Watched) -> Self {
        Self { watched, ..Self::default() }
    }

    /// Where streams say that they hear something on a connection. Of one that is gone, nobody listens.
    pub(crate) fn pulse(&self, connection: ConnectionId) -> Pulse {
        self.pulses.get(&connection).cloned().unwrap_or_default()
    }

    /// `path`: the address that says whether it runs through a relay.
    fn begin(
        &mut self,
        connection: swarm::ConnectionId,
        peer: PeerId,
        path: &Multiaddr,
        dialled: bool,
    ) -> Handler {
        let pulse = Pulse::default();
        self.pulses.insert(ConnectionId(connection), pulse.clone());
        let pace = Pace::new(peer, self.watched.clone(), pulse, is_circuit(path));
        Handler::new(dialled, pace)
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = Event;

    fn handle_established_inbound_connection(
        &mut self,
        connection: swarm::ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<Handler, ConnectionDenied> {
        Ok(self.begin(connection, peer, local, true))
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: swarm::ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<Handler, ConnectionDenied> {
        Ok(self.begin(connection, peer, address, false))
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        // One that another behaviour denied had begun as well.
        let gone = match event {
            FromSwarm::ConnectionClosed(closed) => closed.connection_id,
            FromSwarm::DialFailure(failed) => failed.connection_id,
            FromSwarm::ListenFailure(failed) => failed.connection_id,
            _ => return,
        };
        self.pulses.remove(&ConnectionId(gone));
    }

    fn on_connection_handler_event(&mut self, _: PeerId, connection: swarm::ConnectionId, said: Said) {
        let connection = ConnectionId(connection);
        self.outbox.push(ToSwarm::GenerateEvent(Event { connection, said }));
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Event, THandlerInEvent<Self>>> {
        self.outbox.poll(cx)
    }
}

#[cfg(test)]
mod tests;
