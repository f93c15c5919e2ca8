//! The last line before the network: nothing private is dialled that nobody in this process named.
//!
//! The engine judges every address before it is dialled, but a host name it cannot judge: what that means
//! is known only when it is looked up, after the engine and before the transports. There, this looks at the
//! IP address. Public ones pass, and those that were dialled as such. What a name led to in a private network
//! passes only at the port of a name that our operator gave, since a peer may name one as well.

use std::{
    collections::VecDeque,
    convert::Infallible,
    error::Error,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use futures::future::{BoxFuture, FutureExt as _, TryFutureExt as _};
use libp2p::{
    Multiaddr, PeerId, Transport,
    core::{
        Endpoint,
        transport::{DialOpts, ListenerId, PortUse, TransportError, TransportEvent},
    },
    multiaddr::Protocol,
    swarm::{
        ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandlerInEvent, THandlerOutEvent,
        ToSwarm, dummy,
    },
};

use crate::addr::{GlobalScope, policy::is_named, scope::Scope, socket_of};

/// Private sockets that were named lately. A dial follows within a moment, and no node dials so many at once.
const SOCKETS_MAX: usize = 1024;

/// Ports of names that the operator gave: as many as peers and relays are likely to have.
const PORTS_MAX: usize = 1024;

#[derive(Debug, Default)]
struct Named {
    sockets: VecDeque<SocketAddr>,
    ports: VecDeque<u16>,
}

/// What may be dialled although it is private. All clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct Permits {
    global: GlobalScope,
    named: Arc<Mutex<Named>>,
}

impl Permits {
    pub(crate) fn new(global: GlobalScope) -> Self {
        Self { global, named: Arc::default() }
    }

    /// The engine wants these dialled.
    pub(crate) fn dialling(&self, addresses: &[Multiaddr]) {
        let mut named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        for socket in addresses.iter().filter_map(socket_of) {
            remember(&mut named.sockets, socket, SOCKETS_MAX);
        }
    }

    /// The operator gave these.
    pub(crate) fn given(&self, addresses: &[Multiaddr]) {
        let mut named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        for port in addresses.iter().filter(|address| is_named(address)).filter_map(port_of) {
            remember(&mut named.ports, port, PORTS_MAX);
        }
    }

    fn allow(&self, address: &Multiaddr) -> Result<(), IpAddr> {
        let Some(socket) = socket_of(address) else { return Ok(()) };
        let named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        let allowed = match self.global.scope(socket.ip()) {
            Scope::Public => true,
            _ if named.sockets.contains(&socket) => true,
            Scope::Private | Scope::Loopback => named.ports.contains(&socket.port()),
            Scope::Forbidden => false,
        };
        allowed.then_some(()).ok_or(socket.ip())
    }
}

/// The newest last; the oldest makes room.
fn remember<T: PartialEq>(all: &mut VecDeque<T>, new: T, max: usize) {
    all.retain(|known| *known != new);
    all.push_back(new);
    if all.len() > max {
        all.pop_front();
    }
}

fn port_of(address: &Multiaddr) -> Option<u16> {
    address.iter().find_map(|part| match part {
        Protocol::Tcp(port) | Protocol::Udp(port) => Some(port),
        _ => None,
    })
}

/// Sees every dial of the swarm before it is made: the engine has judged what it names.
pub(crate) struct Behaviour(Permits);

impl Behaviour {
    pub(crate) fn new(permits: Permits) -> Self {
        Self(permits)
    }

    /// The operator gave these.
    pub(crate) fn given(&self, addresses: &[Multiaddr]) {
        self.0.given(addresses);
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_pending_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: Option<PeerId>,
        addresses: &[Multiaddr],
        _: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        self.0.dialling(addresses);
        Ok(Vec::new())
    }

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<dummy::ConnectionHandler, ConnectionDenied> {
        Ok(dummy::ConnectionHandler)
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<dummy::ConnectionHandler, ConnectionDenied> {
        Ok(dummy::ConnectionHandler)
    }

    fn on_swarm_event(&mut self, _: FromSwarm<'_>) {}

    fn on_connection_handler_event(
        &mut self,
        _: PeerId,
        _: ConnectionId,
        never: THandlerOutEvent<Self>,
    ) {
        match never {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Infallible, THandlerInEvent<Self>>> {
        Poll::Pending
    }
}

/// Why a dial was not made, or failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GuardError<E: Error + 'static> {
    /// A name that somebody else gave leads to a private address.
    #[error(
        "a peer's name leads to {0}, which is private; if it is public in your network, say so with --assume-global"
    )]
    Private(IpAddr),
    /// What the transport said.
    #[error("{0}")]
    Transport(#[source] E),
}

/// A transport behind the guard.
pub(crate) struct Guarded<T> {
    inner: T,
    permits: Permits,
}

impl<T> Guarded<T> {
    pub(crate) fn new(inner: T, permits: Permits) -> Self {
        Self { inner, permits }
    }
}

impl<T> Transport for Guarded<T>
where
    T: Transport<Dial: Send + 'static, ListenerUpgrade: Send + 'static, Error: 'static> + Unpin,
{
    type Output = T::Output;
    type Error = GuardError<T::Error>;
    type ListenerUpgrade = BoxFuture<'static, Result<T::Output, Self::Error>>;
    type Dial = BoxFuture<'static, Result<T::Output, Self::Error>>;

    fn listen_on(&mut self, id: ListenerId, addr: Multiaddr) -> Result<(), TransportError<Self::Error>> {
        self.inner.listen_on(id, addr).map_err(|error| error.map(GuardError::Transport))
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.inner.remove_listener(id)
    }

    fn dial(
        &mut self,
        addr: Multiaddr,
        opts: DialOpts,
    ) -> Result<Self::Dial, TransportError<Self::Error>> {
        self.permits.allow(&addr).map_err(|ip| TransportError::Other(GuardError::Private(ip)))?;
        let dial = self.inner.dial(addr, opts).map_err(|error| error.map(GuardError::Transport))?;
        Ok(dial.map_err(GuardError::Transport).boxed())
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, Self::Error>> {
        let event = std::task::ready!(Pin::new(&mut self.inner).poll(cx));
        Poll::Ready(
            event
                .map_upgrade(|upgrade| upgrade.map_err(GuardError::Transport).boxed())
                .map_err(GuardError::Transport),
        )
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn address(text: &str) -> Multiaddr {
        text.parse().unwrap()
    }

    #[test]
    fn what_nobody_named_passes_only_if_it_is_public() {
        let permits = Permits::new(GlobalScope::default());
        assert_eq!(permits.allow(&address("/ip4/8.8.8.8/tcp/1")), Ok(()));
        for private in ["127.0.0.1", "10.0.0.1", "169.254.169.254"] {
            let private = address(&format!("/ip4/{private}/tcp/1"));
            assert!(permits.allow(&private).is_err(), "{private}");
            permits.dialling(std::slice::from_ref(&private));
            assert_eq!(permits.allow(&private), Ok(()));
        }
        assert!(permits.allow(&address("/ip4/10.0.0.1/tcp/2")).is_err(), "another port");
    }

    #[test]
    fn a_name_leads_inside_only_at_the_port_of_one_that_the_operator_gave() {
        let permits = Permits::new(GlobalScope::default());
        permits.given(&[address("/dns4/relay.home.arpa/tcp/4001"), address("/ip4/8.8.8.8/tcp/22")]);
        assert_eq!(permits.allow(&address("/ip4/192.168.1.5/tcp/4001")), Ok(()));
        assert!(permits.allow(&address("/ip4/192.168.1.5/tcp/22")).is_err());
        assert!(permits.allow(&address("/ip4/169.254.169.254/tcp/4001")).is_err());
    }

    #[test]
    fn what_was_named_is_forgotten_when_much_else_was() {
        let permits = Permits::new(GlobalScope::default());
        permits.dialling(&[address("/ip4/10.0.0.1/tcp/1")]);
        for port in 1..=SOCKETS_MAX {
            permits.dialling(&[address(&format!("/ip4/10.0.0.2/tcp/{port}"))]);
        }
        assert!(permits.allow(&address("/ip4/10.0.0.1/tcp/1")).is_err());
        assert_eq!(permits.allow(&address("/ip4/10.0.0.2/tcp/1")), Ok(()));
    }
}
