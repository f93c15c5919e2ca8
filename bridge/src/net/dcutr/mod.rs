//! The exchange about a hole punch, on a *named* relayed connection: `/libp2p/dcutr` as stock peers speak
//! it. It only carries messages; what is offered, when, and what is dialled decides the engine.
//!
//! [`handler`] speaks on one connection, [`wire`] is the message, [`host`] proves that two peers share a
//! host.

mod handler;
mod host;
mod wire;

use std::{
    task::{Context, Poll},
    time::Duration,
};

use libp2p::{
    Multiaddr, PeerId,
    core::{Endpoint, transport::PortUse},
    swarm::{
        self, ConnectionDenied, FromSwarm, NetworkBehaviour, NotifyHandler, THandlerInEvent, ToSwarm,
    },
};

use self::{
    handler::{Handler, Part, Proofs},
    host::Host,
};
use super::outbox::Outbox;
use crate::{
    addr::is_circuit,
    engine::input::{Exchange, Offer},
    error::UpgradeFailure,
    path::ConnectionId,
};

/// What the engine wants said in an exchange.
#[derive(Debug)]
pub(crate) enum Step {
    /// Open it, with what we say of ourselves.
    Ask(Offer),
    /// Answer the peer.
    Answer(Offer),
    /// Tell the peer to dial.
    Sync,
    /// Let go of the exchange.
    End,
}

/// A step, and the number of the exchange on its connection.
pub(crate) type Command = (u64, Step);

/// What the peer said in an exchange.
#[derive(Debug)]
pub(crate) enum Said {
    /// What it says of itself, in answer to us.
    Answered {
        offer: Offer,
        same_host: bool,
        round_trip: Duration,
    },
    /// What it says of itself; it waits for our answer.
    Offered {
        offer: Offer,
        same_host: bool,
    },
    /// Dial now.
    Sync,
    Failed(UpgradeFailure),
}

/// One thing that a peer said.
#[derive(Debug)]
pub(crate) struct Event {
    pub(crate) exchange: Exchange,
    pub(crate) said: Said,
}

/// The behaviour. See the module's text. What it queues is bounded: one exchange a connection.
pub(crate) struct Behaviour {
    local: PeerId,
    host: Host,
    outbox: Outbox<ToSwarm<Event, Command>>,
}

impl Behaviour {
    pub(crate) fn new(local: PeerId) -> Self {
        Self { local, host: Host::this(), outbox: Outbox::default() }
    }

    /// Says something in an exchange. If its connection is closing, nothing comes of it; the connection's end
    /// is told anyway.
    pub(crate) fn say(&mut self, peer: PeerId, exchange: Exchange, step: Step) {
        self.outbox.push(ToSwarm::NotifyHandler {
            peer_id: peer,
            handler: NotifyHandler::One(exchange.connection.0),
            event: (exchange.number, step),
        });
    }

    fn handler(&self, peer: PeerId, part: Part) -> Handler {
        let own = self.host.proof(self.local, peer);
        let expected = self.host.proof(peer, self.local);
        Handler::new(part, Proofs { own, expected })
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = Event;

    fn handle_established_inbound_connection(
        &mut self,
        _: swarm::ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<Handler, ConnectionDenied> {
        let part = if is_circuit(local) { Part::Asks } else { Part::None };
        Ok(self.handler(peer, part))
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: swarm::ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<Handler, ConnectionDenied> {
        let part = if is_circuit(address) { Part::Answers } else { Part::None };
        Ok(self.handler(peer, part))
    }

    fn on_swarm_event(&mut self, _: FromSwarm<'_>) {}

    fn on_connection_handler_event(
        &mut self,
        _: PeerId,
        connection: swarm::ConnectionId,
        (number, said): (u64, Said),
    ) {
        let exchange = Exchange { connection: ConnectionId(connection), number };
        self.outbox.push(ToSwarm::GenerateEvent(Event { exchange, said }));
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Event, THandlerInEvent<Self>>> {
        self.outbox.poll(cx)
    }
}
