//! A socket that takes connections.

use std::{
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
};

use futures::{FutureExt as _, Stream};
use if_watch::{IfEvent, tokio::IfWatcher};
use libp2p::{
    Multiaddr,
    core::transport::{ListenerId, TransportEvent},
};

use super::{Config, Error, Handshake, address_of, endpoint::bound, handshake, socket::Endpoint};
use crate::error::Family;

type Event = TransportEvent<Handshake, Error>;

/// Says where it listens, then who comes; at last that it is closed.
pub(super) struct Listener {
    id: ListenerId,
    config: Arc<Config>,
    endpoint: Endpoint,
    /// With the port that it got.
    local: SocketAddr,
    places: Places,
    state: State,
    waker: Option<Waker>,
}

/// Where it is reached.
enum Places {
    /// At one address, which is to be said.
    One { said: bool },
    /// At each address that this host has of a family.
    Every(Box<IfWatcher>),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// It is to be said.
    Closing,
    Closed,
}

impl Listener {
    pub(super) fn new(id: ListenerId, local: SocketAddr, config: &Arc<Config>) -> Result<Self, Error> {
        let places = match local.ip().is_unspecified() {
            true => Places::Every(Box::new(IfWatcher::new().map_err(Error::Socket)?)),
            false => Places::One { said: false },
        };
        let endpoint = bound(config, local, Some(config.listening()))?;
        let local = endpoint.local();
        let (config, state) = (Arc::clone(config), State::Open);
        Ok(Self { id, config, endpoint, local, places, state, waker: None })
    }

    pub(super) fn id(&self) -> ListenerId {
        self.id
    }

    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    pub(super) fn local(&self) -> SocketAddr {
        self.local
    }

    /// Whether packets to `remote` can leave from here.
    pub(super) fn can_reach(&self, remote: IpAddr) -> bool {
        let ip = self.local.ip();
        self.state == State::Open
            && Family::of(ip) == Family::of(remote)
            && (ip.is_unspecified() || ip.is_loopback() == remote.is_loopback())
    }

    /// Takes nobody any more. What came and left through its socket stays. False if it was closed before.
    pub(super) fn close(&mut self) -> bool {
        if self.state != State::Open {
            return false;
        }
        self.endpoint.take_nobody();
        self.state = State::Closing;
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
        true
    }

    fn poll_places(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        let (listener_id, local) = (self.id, self.local);
        let watcher = match &mut self.places {
            Places::One { said: true } => return Poll::Pending,
            Places::One { said } => {
                *said = true;
                let listen_addr = address_of(local);
                return Poll::Ready(TransportEvent::NewAddress { listener_id, listen_addr });
            }
            Places::Every(watcher) => watcher,
        };
        loop {
            let event = match ready!(watcher.poll_if_event(cx)) {
                Ok(IfEvent::Up(net)) => place(local, net.addr())
                    .map(|listen_addr| TransportEvent::NewAddress { listener_id, listen_addr }),
                Ok(IfEvent::Down(net)) => place(local, net.addr())
                    .map(|listen_addr| TransportEvent::AddressExpired { listener_id, listen_addr }),
                Err(error) => {
                    let error = Error::Socket(error);
                    Some(TransportEvent::ListenerError { listener_id, error })
                }
            };
            if let Some(event) = event {
                return Poll::Ready(event);
            }
        }
    }

    /// Who comes next and may stay.
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        let listener_id = self.id;
        loop {
            let Some(incoming) = ready!(self.endpoint.poll_incoming(cx)) else {
                self.state = State::Closed;
                let reason = Err(Error::Broken);
                return Poll::Ready(TransportEvent::ListenerClosed { listener_id, reason });
            };
            let send_back_addr = address_of(incoming.remote_address());
            match handshake::accept(&self.config, &self.endpoint, incoming) {
                Ok(None) => {}
                Ok(Some(begun)) => {
                    let (local_addr, upgrade) = (address_of(self.local), begun.finished().boxed());
                    return Poll::Ready(TransportEvent::Incoming {
                        listener_id,
                        upgrade,
                        local_addr,
                        send_back_addr,
                    });
                }
                // Anybody can send a first packet that is none; it is nothing of the listener's.
                Err(error) => tracing::debug!(%error, "a connection over QUIC did not begin"),
            }
        }
    }
}

/// Who dropped it takes nobody any more; the socket lives as long as connections.
impl Drop for Listener {
    fn drop(&mut self) {
        self.endpoint.take_nobody();
    }
}

impl Stream for Listener {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        match self.state {
            State::Closed => return Poll::Ready(None),
            State::Closing => {
                self.state = State::Closed;
                let (listener_id, reason) = (self.id, Ok(()));
                return Poll::Ready(Some(TransportEvent::ListenerClosed { listener_id, reason }));
            }
            State::Open => {}
        }
        if let Poll::Ready(event) = self.poll_places(cx) {
            return Poll::Ready(Some(event));
        }
        if let Poll::Ready(event) = self.poll_accept(cx) {
            return Poll::Ready(Some(event));
        }
        self.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

/// Where a listener on every interface is reached at an address of this host; not at one of the other family.
fn place(local: SocketAddr, ip: IpAddr) -> Option<Multiaddr> {
    let is_of_it = Family::of(local.ip()) == Family::of(ip);
    is_of_it.then(|| address_of(SocketAddr::new(ip, local.port())))
}
