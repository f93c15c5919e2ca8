//! Listens on each address of this host, where the system does not let us watch the interfaces.
//!
//! A listener on "every interface" reports the addresses that it has, and libp2p learns them over netlink.
//! Strict sandboxes deny that, and libp2p then does not listen at all. Here each address gets a transport
//! of its own, the addresses are looked at every few seconds, and a dial leaves by the transport that has
//! the address the system routes from. To the swarm it is the one listener that it asked for.

use std::{
    collections::{BTreeSet, VecDeque},
    net::IpAddr,
    pin::Pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use futures::FutureExt as _;
use libp2p::{
    Multiaddr, Transport, TransportError,
    core::transport::{DialOpts, ListenerId, TransportEvent},
    multiaddr::Protocol,
};
use tokio::time::{Sleep, sleep};

use super::local::source_towards;
use crate::addr::{ip_of, socket_of};

/// How long an address may come or go unnoticed.
pub(crate) const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// Addresses listened on at once; each costs a socket.
const PLACES_MAX: usize = 64;

type Event<T> = TransportEvent<<T as Transport>::ListenerUpgrade, <T as Transport>::Error>;

/// A listener that was asked for on every interface of a family.
struct Everywhere {
    listener: ListenerId,
    /// With the port that it got.
    address: Multiaddr,
}

/// One address that is listened on.
struct Place<T> {
    ip: IpAddr,
    address: Multiaddr,
    /// The listener of [`Everywhere`] that it belongs to.
    of: ListenerId,
    transport: T,
}

/// See the module.
pub(crate) struct Each<T: Transport> {
    make: Box<dyn FnMut() -> T + Send>,
    look: fn() -> BTreeSet<IpAddr>,
    everywhere: Vec<Everywhere>,
    places: Vec<Place<T>>,
    /// Listens on the addresses that were named one by one, and dials when no place fits.
    plain: T,
    next_look: Pin<Box<Sleep>>,
    events: VecDeque<Event<T>>,
}

impl<T: Transport + Unpin> Each<T> {
    /// `make` makes a transport, `look` tells the addresses of this host.
    pub(crate) fn new(
        mut make: impl FnMut() -> T + Send + 'static,
        look: fn() -> BTreeSet<IpAddr>,
    ) -> Self {
        Self {
            plain: make(),
            make: Box::new(make),
            look,
            everywhere: Vec::new(),
            places: Vec::new(),
            next_look: Box::pin(sleep(LOOK_INTERVAL)),
            events: VecDeque::new(),
        }
    }

    /// Listens on one address for the listener `of`, and reports it. The address with its real port.
    fn open(
        &mut self,
        of: ListenerId,
        address: Multiaddr,
    ) -> Result<Multiaddr, TransportError<T::Error>> {
        let mut transport = (self.make)();
        let address = listen_at(&mut transport, address)?;
        if let Some(ip) = ip_of(&address) {
            self.places.push(Place { ip, address: address.clone(), of, transport });
        }
        let listen_addr = address.clone();
        self.events.push_back(TransportEvent::NewAddress { listener_id: of, listen_addr });
        Ok(address)
    }

    /// Listens where an address has come, lets go where one has gone.
    fn look_again(&mut self) {
        let current = (self.look)();
        let gone = self.places.extract_if(.., |place| !current.contains(&place.ip));
        self.events.extend(gone.map(|place| TransportEvent::AddressExpired {
            listener_id: place.of,
            listen_addr: place.address,
        }));
        for index in 0..self.everywhere.len() {
            if let Err(error) = self.spread(index, &current) {
                tracing::debug!(%error, "cannot listen on an address that came");
            }
        }
    }

    /// Listens for one of [`Everywhere`] on the current addresses that it is not listening on yet. The
    /// first one takes the port for all.
    fn spread(
        &mut self,
        index: usize,
        current: &BTreeSet<IpAddr>,
    ) -> Result<(), TransportError<T::Error>> {
        let Everywhere { listener, address } = &self.everywhere[index];
        let (listener, mut address, mut failure) = (*listener, address.clone(), None);
        let has =
            |places: &[Place<T>], ip| places.iter().any(|place| place.of == listener && place.ip == ip);
        let v4 = address.iter().next().is_some_and(|part| matches!(part, Protocol::Ip4(_)));
        for ip in current.iter().filter(|ip| ip.is_ipv4() == v4) {
            if has(&self.places, *ip) || self.places.len() >= PLACES_MAX {
                continue;
            }
            match self.open(listener, at(&address, Some(*ip), None)) {
                Ok(opened) => {
                    address = at(&address, None, socket_of(&opened).map(|socket| socket.port()))
                }
                Err(error) => failure = Some(error),
            }
        }
        self.everywhere[index].address = address;
        failure.map_or(Ok(()), Err)
    }

    fn listen_everywhere(
        &mut self,
        listener: ListenerId,
        address: Multiaddr,
    ) -> Result<(), TransportError<T::Error>> {
        self.everywhere.push(Everywhere { listener, address: address.clone() });
        let spread = self.spread(self.everywhere.len() - 1, &(self.look)());
        if spread.is_ok() || self.places.iter().any(|place| place.of == listener) {
            return Ok(());
        }
        self.everywhere.pop();
        spread.map_err(|error| match error {
            // Whoever is asked next must get what was asked for.
            TransportError::MultiaddrNotSupported(_) => TransportError::MultiaddrNotSupported(address),
            error => error,
        })
    }
}

impl<T> Transport for Each<T>
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
        match socket_of(&address) {
            Some(socket) if socket.ip().is_unspecified() => self.listen_everywhere(id, address),
            _ => self.plain.listen_on(id, address),
        }
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        let asked = self.everywhere.len();
        self.everywhere.retain(|all| all.listener != id);
        if self.everywhere.len() == asked {
            return self.plain.remove_listener(id);
        }
        self.places.retain(|place| place.of != id);
        self.events.push_back(TransportEvent::ListenerClosed { listener_id: id, reason: Ok(()) });
        true
    }

    fn dial(&mut self, address: Multiaddr, opts: DialOpts) -> Result<T::Dial, TransportError<T::Error>> {
        let source = source_towards(&address);
        match self.places.iter_mut().find(|place| Some(place.ip) == source) {
            Some(place) => place.transport.dial(address, opts),
            None => self.plain.dial(address, opts),
        }
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Event<T>> {
        while self.next_look.poll_unpin(cx).is_ready() {
            self.next_look = Box::pin(sleep(LOOK_INTERVAL));
            self.look_again();
        }
        if let Some(event) = self.events.pop_front() {
            return Poll::Ready(event);
        }
        for place in &mut self.places {
            if let Poll::Ready(event) = Pin::new(&mut place.transport).poll(cx) {
                return Poll::Ready(under(place.of, event));
            }
        }
        Pin::new(&mut self.plain).poll(cx)
    }
}

/// Listens on one address; the address with its real port.
pub(super) fn listen_at<T: Transport + Unpin>(
    transport: &mut T,
    address: Multiaddr,
) -> Result<Multiaddr, TransportError<T::Error>> {
    transport.listen_on(ListenerId::next(), address.clone())?;
    // A listener on one address has its event ready at once.
    Ok(match Pin::new(transport).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(TransportEvent::NewAddress { listen_addr, .. }) => listen_addr,
        _ => address,
    })
}

/// The event as one of `listener`.
pub(super) fn under<U, E>(listener: ListenerId, event: TransportEvent<U, E>) -> TransportEvent<U, E> {
    let listener_id = listener;
    match event {
        TransportEvent::NewAddress { listen_addr, .. } => {
            TransportEvent::NewAddress { listener_id, listen_addr }
        }
        TransportEvent::AddressExpired { listen_addr, .. } => {
            TransportEvent::AddressExpired { listener_id, listen_addr }
        }
        TransportEvent::Incoming { upgrade, local_addr, send_back_addr, .. } => {
            TransportEvent::Incoming { listener_id, upgrade, local_addr, send_back_addr }
        }
        TransportEvent::ListenerClosed { reason, .. } => {
            TransportEvent::ListenerClosed { listener_id, reason }
        }
        TransportEvent::ListenerError { error, .. } => {
            TransportEvent::ListenerError { listener_id, error }
        }
    }
}

/// The address with another IP address, or another port, in front.
pub(super) fn at(address: &Multiaddr, ip: Option<IpAddr>, port: Option<u16>) -> Multiaddr {
    let part = |part| match (part, ip, port) {
        (Protocol::Ip4(_) | Protocol::Ip6(_), Some(ip), _) => ip.into(),
        (Protocol::Tcp(_), _, Some(port)) => Protocol::Tcp(port),
        (Protocol::Udp(_), _, Some(port)) => Protocol::Udp(port),
        (part, ..) => part,
    };
    address.iter().map(part).collect()
}

#[cfg(test)]
mod tests;
