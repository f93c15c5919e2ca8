//! Short words between the two ends of a connection, beside the streams on it.
//!
//! [`Word`] is what can be said, `handler` says and hears it on one connection, [`Behaviour`] passes it between
//! the connections and whoever runs the swarm. A peer that does not speak the protocol is told nothing, and
//! nobody waits for it.

mod handler;
mod word;

use std::{
    collections::HashSet,
    task::{Context, Poll},
};

use libp2p::{
    Multiaddr, PeerId,
    core::{Endpoint, transport::PortUse},
    swarm::{
        self, ConnectionDenied, FromSwarm, NetworkBehaviour, NotifyHandler, THandlerInEvent, ToSwarm,
    },
};

use self::handler::Handler;
use super::outbox::Outbox;
use crate::{path::ConnectionId, word::Word};

pub(crate) use self::word::CONTROL_PROTOCOL;

/// The other end of a connection said something.
#[derive(Debug)]
pub(crate) struct Heard {
    pub(crate) peer: PeerId,
    pub(crate) connection: ConnectionId,
    pub(crate) word: Word,
}

/// The behaviour. See the module's text.
#[derive(Default)]
pub(crate) struct Behaviour {
    live: HashSet<ConnectionId>,
    // What handlers report is bounded by their pace, what is said by whoever runs the swarm.
    outbox: Outbox<ToSwarm<Heard, Word>>,
}

impl Behaviour {
    /// Says a word on a connection. Nothing comes of it if the connection is gone or the peer does not speak
    /// the protocol.
    pub(crate) fn say(&mut self, peer: PeerId, connection: ConnectionId, word: Word) {
        if self.live.contains(&connection) {
            let handler = NotifyHandler::One(connection.0);
            self.outbox.push(ToSwarm::NotifyHandler { peer_id: peer, handler, event: word });
        }
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = Heard;

    fn handle_established_inbound_connection(
        &mut self,
        _: swarm::ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<Handler, ConnectionDenied> {
        Ok(Handler::default())
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: swarm::ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<Handler, ConnectionDenied> {
        Ok(Handler::default())
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(established) => {
                self.live.insert(ConnectionId(established.connection_id));
            }
            FromSwarm::ConnectionClosed(closed) => {
                self.live.remove(&ConnectionId(closed.connection_id));
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection: swarm::ConnectionId,
        word: Word,
    ) {
        let connection = ConnectionId(connection);
        self.outbox.push(ToSwarm::GenerateEvent(Heard { peer, connection, word }));
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Heard, THandlerInEvent<Self>>> {
        self.outbox.poll(cx)
    }
}
