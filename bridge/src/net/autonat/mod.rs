//! AutoNAT v2, from the side that wants to know: asks relays to dial addresses of ours, and hears them there.
//!
//! [`Behaviour`] has the tests that are under way, `handler` speaks on one connection, [`wire`] is what is said. What
//! to test, when and where is the engine's business; the server is the relay's, in `relay/dialback`.

mod handler;
pub(crate) mod wire;

use std::{
    collections::BTreeMap,
    net::IpAddr,
    task::{Context, Poll},
};

use libp2p::{
    Multiaddr, PeerId,
    core::{Endpoint, transport::PortUse},
    swarm::{
        self, ConnectionDenied, FromSwarm, NetworkBehaviour, NotifyHandler, THandlerInEvent, ToSwarm,
    },
};

use self::handler::{Ask, Command, Handler, Report, Side};
use super::outbox::Outbox;
use crate::{
    addr::{ip_of, is_circuit, transport_of},
    engine::input::{Outcome, TestId},
    path::{ConnectionId, Transport},
};

/// To whoever runs the swarm.
#[derive(Debug)]
pub(crate) enum Event {
    /// The other end of this connection tests addresses.
    Offered {
        connection: ConnectionId,
    },
    Ended {
        test: TestId,
        outcome: Outcome,
    },
}

/// A test that is under way.
#[derive(Debug)]
struct Test {
    test: TestId,
    connection: ConnectionId,
    over: Transport,
    /// Whence the server said the nonce.
    from: Option<IpAddr>,
}

/// The behaviour. See the module's text.
#[derive(Default)]
pub(crate) struct Behaviour {
    /// By nonce. The engine has one under way at a time.
    tests: BTreeMap<u64, Test>,
    outbox: Outbox<ToSwarm<Event, Command>>,
}

impl Behaviour {
    /// Asks a server to dial an address of ours. Ends with [`Event::Ended`].
    pub(crate) fn test(
        &mut self,
        test: TestId,
        peer: PeerId,
        connection: ConnectionId,
        address: Multiaddr,
    ) {
        let nonce = rand::random();
        self.tests.insert(nonce, Test { test, connection, over: transport_of(&address), from: None });
        self.tell(peer, connection, Command::Ask(Ask { nonce, address }));
    }

    fn tell(&mut self, peer: PeerId, connection: ConnectionId, event: Command) {
        let handler = NotifyHandler::One(connection.0);
        self.outbox.push(ToSwarm::NotifyHandler { peer_id: peer, handler, event });
    }

    fn ended(&mut self, nonce: u64, said: Outcome) {
        let Some(Test { test, from, .. }) = self.tests.remove(&nonce) else { return };
        // What we heard ourselves counts: a server may say anything.
        let outcome = match (from, said) {
            (Some(from), _) => Outcome::Reached { from },
            (None, Outcome::Unreached) => Outcome::Unreached,
            (None, _) => Outcome::Unanswered,
        };
        self.outbox.push(ToSwarm::GenerateEvent(Event::Ended { test, outcome }));
    }

    /// Somebody who dialled us says a nonce. True if it is that of a test.
    fn heard(&mut self, nonce: u64, side: Side) -> bool {
        match (self.tests.get_mut(&nonce), side) {
            (Some(test), Side::Accepted { from, over }) if test.over == over => {
                test.from = Some(from);
                true
            }
            _ => false,
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
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<Handler, ConnectionDenied> {
        Ok(Handler::new(match ip_of(remote) {
            Some(from) if !is_circuit(local) => Side::Accepted { from, over: transport_of(local) },
            _ => Side::Neither,
        }))
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: swarm::ConnectionId,
        _: PeerId,
        address: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<Handler, ConnectionDenied> {
        Ok(Handler::new(if is_circuit(address) { Side::Neither } else { Side::Dialled }))
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        if let FromSwarm::ConnectionClosed(gone) = event {
            let of = |(nonce, test): (&u64, &Test)| {
                (test.connection.0 == gone.connection_id).then_some(*nonce)
            };
            let lost: Vec<u64> = self.tests.iter().filter_map(of).collect();
            lost.into_iter().for_each(|nonce| self.ended(nonce, Outcome::Unanswered));
        }
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection: swarm::ConnectionId,
        report: Report,
    ) {
        let connection = ConnectionId(connection);
        match report {
            Report::Offered => {
                self.outbox.push(ToSwarm::GenerateEvent(Event::Offered { connection }));
            }
            Report::Ended { nonce, outcome } => self.ended(nonce, outcome),
            Report::Heard { nonce, side, io } => {
                if self.heard(nonce, side) {
                    self.tell(peer, connection, Command::Answer(io));
                }
            }
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Event, THandlerInEvent<Self>>> {
        self.outbox.poll(cx)
    }
}
