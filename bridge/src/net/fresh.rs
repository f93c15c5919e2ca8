//! Leaves each network by a port of its own.
//!
//! A router remembers which public port it gave to what left from one of our addresses, for minutes or, over TCP, for
//! days. Whoever comes with the same port from another address (another card, another lease) gets another public port
//! there, but towards the peers that it spoke with before only; so no relay and no STUN server can tell it which. It
//! does not help to leave the old address at once: one packet of a dying connection that takes the new route is enough,
//! and what the peer sends keeps it alive.
//!
//! So, where a listener may have any port, the first dial that leaves from another address than those before, or from
//! one that this host had lost, gets a listener at a fresh port there, and leaves from that. The listener that was asked
//! for stays as it is.

use std::{
    collections::VecDeque,
    net::IpAddr,
    pin::Pin,
    task::{Context, Poll},
};

use libp2p::{
    Multiaddr, Transport, TransportError,
    core::transport::{DialOpts, ListenerId, TransportEvent},
};

use super::{
    each::{at, listen_at, under},
    local::source_towards,
};
use crate::{
    addr::{ip_of, socket_of},
    error::Family,
};

type Event<T> = TransportEvent<<T as Transport>::ListenerUpgrade, <T as Transport>::Error>;

/// A listener that was asked for on every interface of a family, at any port. A node has one for each family and
/// transport.
struct AnyPort<T> {
    listener: ListenerId,
    /// As it was asked for.
    address: Multiaddr,
    family: Family,
    /// Where dials to the internet left from the last time.
    left_from: Option<IpAddr>,
    /// This host has lost that address since.
    lost: bool,
    place: Option<Place<T>>,
}

/// Where it listens at a fresh port.
struct Place<T> {
    ip: IpAddr,
    address: Multiaddr,
    transport: T,
}

/// See the module.
pub(crate) struct Fresh<T: Transport> {
    make: Box<dyn FnMut() -> T + Send>,
    /// The address of this host that leads to the internet.
    source: fn(Family) -> Option<IpAddr>,
    any_port: Vec<AnyPort<T>>,
    /// Listens as it was asked to, and dials where no place fits.
    inner: T,
    events: VecDeque<Event<T>>,
}

impl<T: Transport + Unpin> Fresh<T> {
    /// `make` makes a transport, `source` tells which address of this host leads to the internet.
    pub(crate) fn new(
        mut make: impl FnMut() -> T + Send + 'static,
        source: fn(Family) -> Option<IpAddr>,
    ) -> Self {
        Self {
            inner: make(),
            make: Box::new(make),
            source,
            any_port: Vec::new(),
            events: VecDeque::new(),
        }
    }

    /// This host has lost an address, and nobody comes to a fresh port there any more.
    fn expired(&mut self, ip: IpAddr) {
        for any_port in &mut self.any_port {
            any_port.lost |= any_port.left_from == Some(ip);
            if let Some(place) = any_port.place.take_if(|place| place.ip == ip) {
                let (listener_id, listen_addr) = (any_port.listener, place.address);
                self.events.push_back(TransportEvent::AddressExpired { listener_id, listen_addr });
            }
        }
    }

    /// Listens at a fresh port where dials to the internet now leave from, if they left from elsewhere before.
    fn renew(&mut self, family: Family) {
        let Some(source) = (self.source)(family) else { return };
        for any_port in self.any_port.iter_mut().filter(|any_port| any_port.family == family) {
            let before = any_port.left_from.replace(source);
            let lost = std::mem::take(&mut any_port.lost);
            if before.is_none_or(|before| before == source && !lost) {
                continue;
            }
            let listener_id = any_port.listener;
            if let Some(Place { address: listen_addr, .. }) = any_port.place.take() {
                self.events.push_back(TransportEvent::AddressExpired { listener_id, listen_addr });
            }
            let mut transport = (self.make)();
            match listen_at(&mut transport, at(&any_port.address, Some(source), None)) {
                Ok(address) => {
                    let listen_addr = address.clone();
                    self.events.push_back(TransportEvent::NewAddress { listener_id, listen_addr });
                    any_port.place = Some(Place { ip: source, address, transport });
                }
                Err(error) => tracing::debug!(%error, "no fresh port: dials leave from the one before"),
            }
        }
    }
}

impl<T> Transport for Fresh<T>
where
    T: Transport + Unpin,
    T::Error: Unpin,
    T::ListenerUpgrade: Unpin,
{
    type Output = T::Output;
    type Error = T::Error;
    type ListenerUpgrade = T::ListenerUpgrade;
    type Dial = T::Dial;

    fn listen_on(&mut self, id: ListenerId, address: Multiaddr) -> Result<(), TransportError<T::Error>> {
        self.inner.listen_on(id, address.clone())?;
        if let Some(socket) = socket_of(&address).filter(|socket| socket.ip().is_unspecified())
            && socket.port() == 0
        {
            let family = if socket.is_ipv4() { Family::V4 } else { Family::V6 };
            let left_from = (self.source)(family);
            let (lost, place) = (false, None);
            self.any_port.push(AnyPort { listener: id, address, family, left_from, lost, place });
        }
        Ok(())
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.any_port.retain(|any_port| any_port.listener != id);
        self.inner.remove_listener(id)
    }

    fn dial(&mut self, address: Multiaddr, opts: DialOpts) -> Result<T::Dial, TransportError<T::Error>> {
        let Some(source) = source_towards(&address) else { return self.inner.dial(address, opts) };
        let family = if source.is_ipv4() { Family::V4 } else { Family::V6 };
        if Some(source) == (self.source)(family) {
            self.renew(family);
        }
        let mut places = self.any_port.iter_mut().filter_map(|any_port| any_port.place.as_mut());
        match places.find(|place| place.ip == source) {
            Some(place) => place.transport.dial(address, opts),
            None => self.inner.dial(address, opts),
        }
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Event<T>> {
        if let Some(event) = self.events.pop_front() {
            return Poll::Ready(event);
        }
        for any_port in &mut self.any_port {
            if let Some(place) = &mut any_port.place
                && let Poll::Ready(event) = Pin::new(&mut place.transport).poll(cx)
            {
                return Poll::Ready(under(any_port.listener, event));
            }
        }
        let event = Pin::new(&mut self.inner).poll(cx);
        if let Poll::Ready(TransportEvent::AddressExpired { listen_addr, .. }) = &event
            && let Some(ip) = ip_of(listen_addr)
        {
            self.expired(ip);
        }
        event
    }
}

#[cfg(test)]
mod tests;
