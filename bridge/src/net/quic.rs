//! QUIC (`/quic-v1`, with libp2p's TLS) on the protocol's machine of quinn: a transport of our own, since libp2p's lets nobody
//! choose ciphers, keeps socket and errors to itself, and sends and receives little at a time.
//!
//! A listener is one socket, which dials of its family leave from as well, so that peers see the port that is listened on.
//! Both ends of a hole punch dial as they always do: each one's first packet opens its NAT to those of the other.

mod config;
mod congestion;
mod connection;
mod endpoint;
mod error;
mod handshake;
mod link;
mod listener;
mod mtu;
mod silence;
mod socket;
mod substream;

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::SelectAll};
use libp2p::{
    Multiaddr, PeerId, Transport, TransportError,
    core::transport::{DialOpts, ListenerId, PortUse, TransportEvent},
    multiaddr::Protocol,
};

pub(crate) use self::{
    config::Config,
    connection::Connection,
    error::{Error, is_in_order},
};
use self::{
    endpoint::{any_port, bound},
    listener::Listener,
    socket::Endpoint,
};
use super::local::source_towards;
use crate::{
    addr::{peer_of, socket_of},
    error::Family,
};

/// A connection that comes about, in either direction.
type Handshake = BoxFuture<'static, Result<(PeerId, Connection), Error>>;

/// See the module. Must be polled within a tokio runtime.
pub(crate) struct Quic {
    config: Arc<Config>,
    listeners: SelectAll<Listener>,
    /// Dials of a family that has no listener leave from one socket all the same.
    dialling: BTreeMap<Family, Endpoint>,
    waker: Option<Waker>,
}

impl Quic {
    pub(crate) fn new(config: Arc<Config>) -> Self {
        Self { config, listeners: SelectAll::new(), dialling: BTreeMap::new(), waker: None }
    }

    /// The socket that a dial leaves from.
    fn endpoint(
        &mut self,
        remote: SocketAddr,
        port: PortUse,
        address: &Multiaddr,
    ) -> Result<Endpoint, Error> {
        let family = Family::of(remote.ip());
        if port == PortUse::New {
            return bound(&self.config, any_port(family), None);
        }
        if let Some(listener) = self.listener_for(remote.ip(), address) {
            return Ok(listener.endpoint().clone());
        }
        if let Some(endpoint) = self.dialling.get(&family) {
            return Ok(endpoint.clone());
        }
        let endpoint = bound(&self.config, any_port(family), None)?;
        self.dialling.insert(family, endpoint.clone());
        Ok(endpoint)
    }

    /// Who listens where packets to `remote` can leave from; of several the one at the address that they leave from.
    fn listener_for(&self, remote: IpAddr, address: &Multiaddr) -> Option<&Listener> {
        let mut fitting: Vec<&Listener> =
            self.listeners.iter().filter(|listener| listener.can_reach(remote)).collect();
        if fitting.len() > 1 {
            let source = source_towards(address);
            fitting.sort_by_key(|listener| Some(listener.local().ip()) != source);
        }
        fitting.first().copied()
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl Transport for Quic {
    type Output = (PeerId, Connection);
    type Error = Error;
    type ListenerUpgrade = Handshake;
    type Dial = Handshake;

    fn listen_on(&mut self, id: ListenerId, address: Multiaddr) -> Result<(), TransportError<Error>> {
        let local = place_of(&address).ok_or(TransportError::MultiaddrNotSupported(address))?;
        let listener = Listener::new(id, local, &self.config).map_err(TransportError::Other)?;
        self.listeners.push(listener);
        // What leaves from there goes on until its last connection is closed.
        self.dialling.remove(&Family::of(local.ip()));
        self.wake();
        Ok(())
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        let found = self.listeners.iter_mut().find(|listener| listener.id() == id);
        found.is_some_and(Listener::close)
    }

    fn dial(&mut self, address: Multiaddr, opts: DialOpts) -> Result<Handshake, TransportError<Error>> {
        let remote = place_of(&address)
            .filter(|remote| remote.port() != 0 && !remote.ip().is_unspecified())
            .ok_or_else(|| TransportError::MultiaddrNotSupported(address.clone()))?;
        let endpoint = self.endpoint(remote, opts.port_use, &address).map_err(TransportError::Other)?;
        Ok(handshake::dial(Arc::clone(&self.config), endpoint, remote).boxed())
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<TransportEvent<Handshake, Error>> {
        if let Poll::Ready(Some(event)) = self.listeners.poll_next_unpin(cx) {
            return Poll::Ready(event);
        }
        self.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

/// The socket address of `/ip4|ip6/…/udp/…/quic-v1`, with or without a peer behind it; none for anything else.
fn place_of(address: &Multiaddr) -> Option<SocketAddr> {
    let is_quic = address.iter().nth(2) == Some(Protocol::QuicV1);
    let parts = address.iter().count();
    let is_whole = parts == 3 || parts == 4 && peer_of(address).is_some();
    socket_of(address).filter(|_| is_quic && is_whole)
}

/// The address of a socket.
fn address_of(socket: SocketAddr) -> Multiaddr {
    Multiaddr::from(socket.ip()).with(Protocol::Udp(socket.port())).with(Protocol::QuicV1)
}

#[cfg(test)]
mod tests;
