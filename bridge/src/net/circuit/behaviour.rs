//! Talks with relays: asks for reservations and circuits on named connections, and takes what they bring.

use std::{
    collections::HashMap,
    sync::Arc,
    task::{Context, Poll},
};

use libp2p::{
    Multiaddr, PeerId, Stream,
    core::{Endpoint, transport::PortUse},
    swarm::{
        self, ConnectionDenied, FromSwarm, NetworkBehaviour, NotifyHandler, THandlerInEvent, ToSwarm,
    },
};
use tokio::sync::{mpsc, oneshot};

use super::{
    ASKED_MAX, BROUGHT_MAX, DIALS_MAX,
    exchange::{Answer, Ask, Circuit, Offer},
    handler::{Command, Handler, Report},
    transport::{Brought, Dial, NextDial, Shared, Transport, lock},
};
use crate::{
    addr::{RelayAddr, is_circuit},
    engine::input::{CircuitLimit, Grant, ReserveId},
    error::{DialFailureReason, ReserveFailure},
    net::{outbox::Outbox, watched::Watched},
    path::ConnectionId,
};

/// Bytes of all addresses through relays that identify tells of: of nine relays and more. A message has 4,096 bytes at most, or
/// nobody reads it; the protocols, direct addresses and all else have the other 3 KiB.
const PUBLISHED_BYTES_MAX: usize = 1024;

/// What became of a request for a reservation.
#[derive(Debug)]
pub(crate) enum Event {
    Reserved { request: ReserveId, grant: Grant },
    Refused { request: ReserveId, failure: ReserveFailure },
}

/// What the live circuits may carry, by connection.
pub(crate) type Limits = HashMap<swarm::ConnectionId, CircuitLimit>;

/// A direct connection, whose other end may be a relay.
#[derive(Debug)]
struct Link {
    peer: PeerId,
    address: Multiaddr,
    /// The address of ours that leads over it and was told to the other behaviours.
    published: Option<Multiaddr>,
}

/// A request that is not answered. One to a connection that is closing is dropped without a word, so each is
/// kept here until it is answered or its connection is closed.
#[derive(Debug)]
struct Asked {
    ask: Ask,
    link: swarm::ConnectionId,
    wants: Wants,
}

#[derive(Debug)]
enum Wants {
    /// The address to be reached under.
    Reservation(Multiaddr),
    Circuit(oneshot::Sender<Result<Stream, DialFailureReason>>),
}

/// The behaviour. See the module's text.
pub(crate) struct Behaviour {
    local: PeerId,
    shared: Shared,
    watched: Watched,
    dials: mpsc::Receiver<Dial>,
    brought: mpsc::Sender<Brought>,
    links: HashMap<swarm::ConnectionId, Link>,
    asked: Vec<Asked>,
    limits: Limits,
    outbox: Outbox<ToSwarm<Event, Command>>,
}

/// The two halves of a client. Relays that it asks for something are `watched`.
pub(crate) fn new(local: PeerId, watched: Watched) -> (Transport, Behaviour) {
    let shared = Shared::default();
    let (to_behaviour, dials) = mpsc::channel(DIALS_MAX);
    let (brought, to_transport) = mpsc::channel(BROUGHT_MAX);
    let transport = Transport::new(Arc::clone(&shared), to_behaviour, to_transport);
    let behaviour = Behaviour {
        local,
        shared,
        watched,
        dials,
        brought,
        links: HashMap::new(),
        asked: Vec::new(),
        limits: Limits::new(),
        outbox: Outbox::default(),
    };
    (transport, behaviour)
}

impl Behaviour {
    /// Asks the relay at the other end of `link` to keep a place for us; answered by one [`Event`].
    pub(crate) fn reserve(&mut self, request: ReserveId, relay: &RelayAddr, link: ConnectionId) {
        let address = relay.circuit_to(self.local);
        self.ask(Ask::Reserve { request }, link.0, Wants::Reservation(address));
    }

    /// The reservation that was held over `link` is over.
    pub(crate) fn release(&mut self, link: ConnectionId) {
        let Some(at) = self.links.get_mut(&link.0) else { return };
        let (peer_id, published) = (at.peer, at.published.take());
        let handler = NotifyHandler::One(link.0);
        self.outbox.push(ToSwarm::NotifyHandler { peer_id, handler, event: Command::Release });
        if let Some(address) = published {
            self.outbox.push(ToSwarm::ExternalAddrExpired(address));
        }
    }

    /// The swarm will be told to dial `address` next, which becomes `circuit` and runs over `link`.
    pub(crate) fn next_dial(
        &mut self,
        address: Multiaddr,
        circuit: swarm::ConnectionId,
        link: ConnectionId,
    ) {
        lock(&self.shared).next = Some(NextDial { address, circuit, link: link.0 });
    }

    /// What each live circuit may carry.
    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    fn ask(&mut self, ask: Ask, link: swarm::ConnectionId, wants: Wants) {
        let asked = Asked { ask, link, wants };
        if self.asked.len() >= ASKED_MAX {
            return self.answered(asked, ask.hung_up("this node waits for too many answers of relays"));
        }
        let Some(at) = self.links.get(&link) else {
            return self.answered(asked, ask.hung_up("the connection to the relay ended"));
        };
        let (peer_id, handler) = (at.peer, NotifyHandler::One(link));
        self.watched.add(peer_id);
        self.asked.push(asked);
        self.outbox.push(ToSwarm::NotifyHandler { peer_id, handler, event: Command::Ask(ask) });
    }

    fn answered(&mut self, asked: Asked, answer: Answer) {
        match (answer, asked.wants) {
            (Answer::Reserved { request, outcome: Ok(grant) }, Wants::Reservation(address)) => {
                self.publish(asked.link, address);
                self.outbox.push(ToSwarm::GenerateEvent(Event::Reserved { request, grant }));
            }
            (Answer::Reserved { request, outcome: Err(failure) }, Wants::Reservation(_)) => {
                self.outbox.push(ToSwarm::GenerateEvent(Event::Refused { request, failure }));
            }
            (Answer::Connected { circuit, outcome }, Wants::Circuit(reply)) => {
                let outcome = outcome.map(|Circuit { io, limit }| {
                    self.limits.insert(circuit, limit);
                    io
                });
                // Whoever dialled may have given up, and then the substream is closed with the message.
                if reply.send(outcome).is_err() {
                    self.limits.remove(&circuit);
                }
            }
            // A handler answers what it was asked.
            _ => {}
        }
    }

    /// Tells the other behaviours where we are reached: peers learn it by identify, as far as it fits into what they read.
    fn publish(&mut self, link: swarm::ConnectionId, address: Multiaddr) {
        let others = self.links.iter().filter(|(other, _)| **other != link);
        let told = others.filter_map(|(_, at)| at.published.as_ref()).map(Multiaddr::len).sum::<usize>();
        let Some(at) = self.links.get_mut(&link) else { return };
        if at.published.as_ref() == Some(&address) {
            return;
        }
        if told + address.len() > PUBLISHED_BYTES_MAX {
            return tracing::debug!(%address, "peers are not told of this circuit: of others they are");
        }
        let before = at.published.replace(address.clone());
        if let Some(before) = before {
            self.outbox.push(ToSwarm::ExternalAddrExpired(before));
        }
        self.outbox.push(ToSwarm::ExternalAddrConfirmed(address));
    }

    fn offered(&mut self, link: swarm::ConnectionId, offer: Offer) {
        let Some(at) = self.links.get(&link) else { return };
        let Offer { source, circuit: Circuit { io, limit } } = offer;
        let brought = Brought { relay: at.peer, link: at.address.clone(), source, limit, io };
        if self.brought.try_send(brought).is_err() {
            tracing::debug!(%source, "a circuit was hung up on: {BROUGHT_MAX} wait already");
        }
    }

    /// A direct connection to a relay of ours is there: it is watched until its last one ends.
    pub(crate) fn watch(&self, relay: PeerId) {
        self.watched.add(relay);
    }

    fn link_closed(&mut self, closed: swarm::ConnectionId) {
        self.limits.remove(&closed);
        if let Some(link) = self.links.remove(&closed) {
            if !self.links.values().any(|other| other.peer == link.peer) {
                self.watched.remove(&link.peer);
            }
            if let Some(address) = link.published {
                self.outbox.push(ToSwarm::ExternalAddrExpired(address));
            }
        }
        for asked in self.asked.extract_if(.., |asked| asked.link == closed).collect::<Vec<_>>() {
            let answer = asked.ask.hung_up("the connection to the relay ended");
            self.answered(asked, answer);
        }
    }

    fn established(
        &mut self,
        connection: swarm::ConnectionId,
        peer: PeerId,
        path_address: &Multiaddr,
        peer_address: &Multiaddr,
    ) -> Handler {
        let direct = !is_circuit(path_address);
        if direct {
            let link = Link { peer, address: peer_address.clone(), published: None };
            self.links.insert(connection, link);
        }
        Handler::new(direct)
    }
}

/// What an answer answers.
fn answers(answer: &Answer, ask: &Ask) -> bool {
    match (answer, ask) {
        (Answer::Reserved { request, .. }, Ask::Reserve { request: asked }) => request == asked,
        (Answer::Connected { circuit, .. }, Ask::Connect { circuit: asked, .. }) => circuit == asked,
        _ => false,
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = Event;

    fn handle_pending_inbound_connection(
        &mut self,
        connection: swarm::ConnectionId,
        local: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        if is_circuit(local)
            && let Some(limit) = lock(&self.shared).brought.take()
        {
            self.limits.insert(connection, limit);
        }
        Ok(())
    }

    fn handle_established_inbound_connection(
        &mut self,
        connection: swarm::ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<Handler, ConnectionDenied> {
        Ok(self.established(connection, peer, local, remote))
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: swarm::ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<Handler, ConnectionDenied> {
        Ok(self.established(connection, peer, address, address))
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionClosed(closed) => self.link_closed(closed.connection_id),
            // Also of one that another behaviour denied after it was established.
            FromSwarm::DialFailure(failure) => self.link_closed(failure.connection_id),
            FromSwarm::ListenFailure(failure) => self.link_closed(failure.connection_id),
            _ => {}
        }
    }

    fn on_connection_handler_event(
        &mut self,
        _: PeerId,
        connection: swarm::ConnectionId,
        report: Report,
    ) {
        match report {
            Report::Offered(offer) => self.offered(connection, offer),
            Report::Answered(answer) => {
                let at = self.asked.iter().position(|asked| answers(&answer, &asked.ask));
                if let Some(at) = at {
                    let asked = self.asked.swap_remove(at);
                    self.answered(asked, answer);
                }
            }
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Event, THandlerInEvent<Self>>> {
        loop {
            if let Poll::Ready(action) = self.outbox.poll(cx) {
                return Poll::Ready(action);
            }
            match self.dials.poll_recv(cx) {
                Poll::Ready(Some(Dial { circuit, link, destination, reply })) => {
                    self.ask(Ask::Connect { circuit, destination }, link, Wants::Circuit(reply));
                }
                // The transport lives as long as the swarm.
                Poll::Ready(None) | Poll::Pending => return Poll::Pending,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use futures::task::noop_waker_ref;

    use super::*;

    /// Those that were told and not taken back since.
    fn told(client: &mut Behaviour, mut told: Vec<Multiaddr>) -> Vec<Multiaddr> {
        let mut cx = Context::from_waker(noop_waker_ref());
        while let Poll::Ready(item) = client.outbox.poll(&mut cx) {
            match item {
                ToSwarm::ExternalAddrConfirmed(address) => told.push(address),
                ToSwarm::ExternalAddrExpired(address) => told.retain(|other| *other != address),
                _ => {}
            }
        }
        told
    }

    #[test]
    fn a_relay_is_watched_until_its_last_link_ends() {
        let (watched, relay) = (Watched::default(), PeerId::random());
        let (_, mut client) = new(PeerId::random(), watched.clone());
        let at: Multiaddr = "/ip4/127.0.0.1/tcp/4001".parse().unwrap();
        let [first, second] = [1, 2].map(swarm::ConnectionId::new_unchecked);
        for link in [first, second] {
            client.established(link, relay, &at, &at);
        }
        client.watch(relay);
        client.link_closed(first);
        assert!(watched.contains(&relay));
        client.link_closed(second);
        assert!(!watched.contains(&relay));
    }

    #[test]
    fn of_circuits_through_many_relays_as_many_are_told_as_fit_into_a_message() {
        let (local, link) = (PeerId::random(), swarm::ConnectionId::new_unchecked);
        let (_, mut client) = new(local, Watched::default());
        let at = |number: usize| -> Multiaddr {
            let relay = format!("/ip6/2001:db8::{number}/udp/4001/quic-v1/p2p/{}", PeerId::random());
            format!("{relay}/p2p-circuit/p2p/{local}").parse().unwrap()
        };
        for number in 0..16 {
            let (peer, address) = (PeerId::random(), at(number));
            client.links.insert(link(number), Link { peer, address: address.clone(), published: None });
            client.publish(link(number), address);
        }
        let first = told(&mut client, Vec::new());
        let bytes = first.iter().map(Multiaddr::len).sum::<usize>();
        assert!((PUBLISHED_BYTES_MAX - 120..=PUBLISHED_BYTES_MAX).contains(&bytes), "{bytes}");
        client.link_closed(link(0));
        client.publish(link(15), at(15));
        let then = told(&mut client, first.clone());
        assert_eq!(then.len(), first.len(), "a place that is free again is used");
    }
}
