//! AutoNAT v2 for clients of the relay: dials an address that a client says is its own, and tells whether it got there.
//!
//! A stranger has us make connections, so: public addresses alone, none of this host, no names; so many a minute and at
//! once (`machine/dial_backs`); and where the address is not the client's host, the client first sends more than the
//! dial will cost that host. `exchange` is the talk with a client, `dialer` dials, on a swarm of its own, so
//! that what it connects to is no client and its port is one that nobody spoke with before.

mod dialer;
mod exchange;

use std::{
    collections::VecDeque,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use libp2p::{
    Multiaddr, PeerId, StreamProtocol,
    core::{Endpoint, transport::PortUse, upgrade::DeniedUpgrade},
    swarm::{
        ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, ExternalAddresses,
        FromSwarm, ListenAddresses, NetworkBehaviour, SubstreamProtocol, THandlerInEvent, ToSwarm,
        handler::{ConnectionEvent, FullyNegotiatedInbound},
    },
};

use self::{dialer::Dialer, exchange::Client};
use super::machine::{DialBacks, Limited};
use crate::{
    addr::{ip_of, place::Place},
    error::StartError,
    net::{autonat::wire::DIAL_REQUEST, guard::Permits, speak::Speak},
};

/// Requests of one connection at once; a client of ours has one.
const REQUESTS_MAX: usize = 2;

/// What all connections share.
pub(super) struct Shared {
    permits: Permits,
    dial_backs: Arc<Mutex<DialBacks>>,
    /// Addresses of this host: what only listens to neighbours is reached from here.
    own: Mutex<Vec<IpAddr>>,
    dialer: Dialer,
}

impl Shared {
    /// The first address that may be dialled for a client, and its place among those it named, some of which could not
    /// be read.
    fn target(
        &self,
        client: &Client,
        named: impl Iterator<Item = Option<Multiaddr>>,
    ) -> Option<(u32, Multiaddr)> {
        let own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        let is_own = |address: &Multiaddr| ip_of(address).is_some_and(|ip| own.contains(&ip));
        let at_home = |address: &Multiaddr| ip_of(address) == Some(client.ip);
        let may = |address: &Multiaddr| {
            self.permits.dials_for_stranger(client.peer, address)
                && (!is_own(address) || at_home(address))
        };
        let mut known = (0..).zip(named).filter_map(|(at, address)| Some((at, address?)));
        known.find(|(_, address)| may(address))
    }

    fn limits(&self) -> MutexGuard<'_, DialBacks> {
        self.dial_backs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a place for a dial.
    fn begin(&self, place: Place) -> Result<UnderWay, Limited> {
        self.limits().begin(place)?;
        Ok(UnderWay { dial_backs: self.dial_backs.clone(), place })
    }
}

/// The place of a dial, free again when this is dropped. It stays with the dial, which goes on when the client that
/// asked for it has left.
#[derive(Debug)]
struct UnderWay {
    dial_backs: Arc<Mutex<DialBacks>>,
    place: Place,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.dial_backs.lock().unwrap_or_else(PoisonError::into_inner).ended(self.place);
    }
}

/// A client was refused by a limit.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) peer: PeerId,
    pub(super) limited: Limited,
}

/// The behaviour. See the module's text.
pub(super) struct Behaviour {
    shared: Arc<Shared>,
    listen: ListenAddresses,
    external: ExternalAddresses,
    queue: VecDeque<Refused>,
}

impl Behaviour {
    /// Must be called within a tokio runtime.
    pub(super) fn new(permits: Permits) -> Result<Self, StartError> {
        let dialer = Dialer::start(&permits)?;
        let shared = Shared { permits, dial_backs: Arc::default(), own: Mutex::default(), dialer };
        Ok(Self {
            shared: Arc::new(shared),
            listen: ListenAddresses::default(),
            external: ExternalAddresses::default(),
            queue: VecDeque::new(),
        })
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = Refused;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<Handler, ConnectionDenied> {
        let client = ip_of(remote).map(|ip| Client { peer, ip });
        Ok(Handler::new(client, self.shared.clone()))
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<Handler, ConnectionDenied> {
        Ok(Handler::new(None, self.shared.clone()))
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        if self.listen.on_swarm_event(&event) | self.external.on_swarm_event(&event) {
            let all = self.listen.iter().chain(self.external.iter());
            let own = all.filter_map(ip_of).collect();
            *self.shared.own.lock().unwrap_or_else(PoisonError::into_inner) = own;
        }
    }

    fn on_connection_handler_event(&mut self, peer: PeerId, _: ConnectionId, limited: Limited) {
        self.queue.push_back(Refused { peer, limited });
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Refused, THandlerInEvent<Self>>> {
        // Woken by the swarm, which calls the methods above before it polls again.
        self.queue
            .pop_front()
            .map_or(Poll::Pending, |refused| Poll::Ready(ToSwarm::GenerateEvent(refused)))
    }
}

/// One connection's part.
pub(super) struct Handler {
    client: Option<Client>,
    shared: Arc<Shared>,
    requests: FuturesUnordered<BoxFuture<'static, Option<Limited>>>,
}

impl Handler {
    fn new(client: Option<Client>, shared: Arc<Shared>) -> Self {
        Self { client, shared, requests: FuturesUnordered::new() }
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = std::convert::Infallible;
    type ToBehaviour = Limited;
    type InboundProtocol = Speak;
    type OutboundProtocol = DeniedUpgrade;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = ();

    fn listen_protocol(&self) -> SubstreamProtocol<Speak> {
        let protocol: Option<StreamProtocol> = self.client.is_some().then_some(DIAL_REQUEST);
        SubstreamProtocol::new(Speak(protocol), ())
    }

    fn on_behaviour_event(&mut self, never: std::convert::Infallible) {
        match never {}
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<DeniedUpgrade, (), Limited>> {
        while let Poll::Ready(Some(ended)) = self.requests.poll_next_unpin(cx) {
            if let Some(limited) = ended {
                return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(limited));
            }
        }
        Poll::Pending
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<'_, Speak, DeniedUpgrade>) {
        if let ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol: io, .. }) =
            event
            && let Some(client) = self.client
            && self.requests.len() < REQUESTS_MAX
        {
            self.requests.push(exchange::serve(io, client, self.shared.clone()).boxed());
        }
    }
}
