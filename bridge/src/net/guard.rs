//! The last line before the network: what may be dialled, once names are looked up, and who is answered.
//!
//! The engine judges every address before it is dialled, but a host name it cannot judge: what that means
//! is known only when it is looked up, after the engine and before the transports. There, this looks at the
//! IP address. Public ones pass, and those that were dialled as such. What a name led to in a private network
//! passes only at the port of a name that our operator gave, since a peer may name one as well. Nobody passes whom
//! the operator's ranges keep away, whoever named the address.
//!
//! [`Behaviour`] sees each connection that comes, before its handshake.

mod behaviour;
mod tally;

use std::{
    collections::VecDeque,
    error::Error,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use futures::future::{BoxFuture, FutureExt as _, TryFutureExt as _};
use libp2p::{
    Multiaddr, PeerId, Transport,
    core::transport::{DialOpts, ListenerId, TransportError, TransportEvent},
    multiaddr::Protocol,
};

pub(crate) use self::behaviour::{Behaviour, Event};
use crate::addr::{
    GlobalScope, Ranges, RelayAddr, endpoint_of, ip_of, is_circuit,
    policy::{Acquaintance, Here, Policy, is_named, without_peer},
    ranges::RangeFault,
    scope::Scope,
    split_circuit,
    web::{Host, WebPlace},
};

/// Private sockets that were named lately. A dial follows within a moment, and no node dials so many at once.
const SOCKETS_MAX: usize = 1024;

/// Ports of names that the operator gave: as many as peers and relays are likely to have.
const PORTS_MAX: usize = 1024;

const HTTPS: u16 = 443;

/// Relays that the operator named: several addresses of as many as a node uses, and of those that lead to its peers.
const RELAYS_MAX: usize = 1024;

/// Names whose addresses are remembered.
const NAMES_MAX: usize = 1024;

#[derive(Debug)]
struct Known {
    policy: Policy,
    sockets: VecDeque<SocketAddr>,
    ports: VecDeque<u16>,
    /// Relays that the operator named, without their ids.
    relays: VecDeque<Multiaddr>,
    /// What names stood for when they were looked up last.
    names: VecDeque<(Multiaddr, Vec<IpAddr>)>,
}

impl Known {
    /// The IP addresses of a host, if they are known: its own, and what it was looked up as or translated to.
    fn ips(&self, address: &Multiaddr) -> Vec<IpAddr> {
        let found = self.names.iter().find(|(name, _)| *name == without_peer(address));
        let found = found.map(|(_, ips)| ips.clone()).unwrap_or_default();
        ip_of(address).into_iter().chain(found).collect()
    }

    fn is_named_relay(&self, ip: IpAddr) -> bool {
        self.relays.iter().any(|relay| self.ips(relay).contains(&ip))
    }

    fn in_range(&self, ip: IpAddr) -> Result<(), Refused> {
        let answered = match self.policy.answers(ip, false) {
            Err(RangeFault::NotAllowed) => self.policy.answers(ip, self.is_named_relay(ip)),
            answered => answered,
        };
        answered.map_err(|fault| Refused::Range { ip, fault })
    }

    fn dials(&self, socket: SocketAddr) -> Result<(), Refused> {
        let ip = socket.ip();
        self.in_range(ip)?;
        let allowed = match self.policy.scope(ip) {
            Scope::Public => true,
            _ if self.sockets.contains(&socket) => true,
            Scope::Private | Scope::Loopback => self.ports.contains(&socket.port()),
            Scope::Forbidden => false,
        };
        allowed.then_some(()).ok_or(Refused::Private(ip))
    }
}

/// Who may be dialled and answered. All clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct Permits(Arc<Mutex<Known>>);

impl Permits {
    pub(crate) fn new(global: GlobalScope, ranges: Ranges) -> Self {
        Self(Arc::new(Mutex::new(Known {
            policy: Policy::new(global, ranges),
            sockets: VecDeque::new(),
            ports: VecDeque::new(),
            relays: VecDeque::new(),
            names: VecDeque::new(),
        })))
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// These ranges hold from now on; true if others held before.
    pub(crate) fn keep_to(&self, ranges: Ranges) -> bool {
        self.known().policy.keep_to(ranges)
    }

    /// The engine wants these dialled.
    pub(crate) fn dialling(&self, addresses: &[Multiaddr]) {
        let mut known = self.known();
        for socket in addresses.iter().filter_map(endpoint_of) {
            remember(&mut known.sockets, socket, SOCKETS_MAX);
        }
    }

    /// The operator gave these; circuits among them name relays.
    pub(crate) fn given(&self, addresses: &[Multiaddr]) {
        for address in addresses {
            if let Ok(Some((relay, _))) = split_circuit(address) {
                self.given_relay(&relay);
            } else if is_named(address) {
                self.given_name(address);
            }
        }
    }

    /// The operator named this relay.
    pub(crate) fn given_relay(&self, relay: &RelayAddr) {
        if is_named(relay.address()) {
            self.given_name(relay.address());
        }
        remember(&mut self.known().relays, relay.address().clone(), RELAYS_MAX);
    }

    /// A name that the operator gave stands for this relay: it counts as named, but no private host for it.
    pub(crate) fn resolved_relay(&self, relay: &RelayAddr) {
        remember(&mut self.known().relays, relay.address().clone(), RELAYS_MAX);
    }

    fn given_name(&self, address: &Multiaddr) {
        if let Some(port) = port_of(address) {
            remember(&mut self.known().ports, port, PORTS_MAX);
        }
    }

    /// An address by name stands for these.
    pub(crate) fn looked_up(&self, address: &Multiaddr, found: &[Multiaddr]) {
        let (address, ips) = (without_peer(address), found.iter().filter_map(ip_of).collect());
        let mut known = self.known();
        known.names.retain(|(name, _)| *name != address);
        remember(&mut known.names, (address, ips), NAMES_MAX);
    }

    /// Whether to dial.
    pub(crate) fn dials(&self, address: &Multiaddr) -> Result<(), Refused> {
        endpoint_of(address).map_or(Ok(()), |socket| self.known().dials(socket))
    }

    /// Whether a NAT64 translator may be used to reach this address: it is that of a relay that the operator named, it
    /// may be dialled, and it is one of the internet.
    pub(crate) fn may_be_translated(&self, ip: Ipv4Addr) -> bool {
        let (known, ip) = (self.known(), IpAddr::V4(ip));
        known.is_named_relay(ip) && known.policy.scope(ip) == Scope::Public && known.in_range(ip).is_ok()
    }

    /// Whether a proxy, which looks names up itself, may be asked for the way to a WebSocket. By a name that a peer gave
    /// it is asked only for what looks like any page of the web; not at all if the operator keeps ranges away, since
    /// nobody here knows what the name stands for.
    pub(crate) fn may_be_asked_for(&self, address: &Multiaddr, place: &WebPlace) -> bool {
        if matches!(place.host, Host::Ip(_)) {
            return self.dials(address).is_ok();
        }
        let known = self.known();
        let as_any_page = place.tls && place.port == HTTPS && !known.policy.has_ranges();
        as_any_page || known.relays.contains(&without_peer(address))
    }

    /// Whether a stranger at the other end of a connection may have us dial this address.
    pub(crate) fn dials_for_stranger(&self, peer: PeerId, address: &Multiaddr) -> bool {
        let (known, stranger) = (self.known(), Acquaintance::default());
        known.policy.judge(address, peer, stranger, false, &Here::default()).is_ok()
    }

    /// Whether the operator's ranges let this host be asked or answered over UDP, where there are no connections.
    pub(crate) fn speaks(&self, ip: IpAddr) -> Result<(), Refused> {
        self.known().in_range(ip)
    }

    /// Whether to answer a connection between these. A circuit is judged by its relay, which we dialled.
    pub(crate) fn answers(&self, local: &Multiaddr, remote: &Multiaddr) -> Result<(), Refused> {
        match ip_of(remote) {
            Some(ip) if !is_circuit(local) => self.known().in_range(ip),
            _ => Ok(()),
        }
    }

    /// Whether a connection to this address may stay. One by a name that nobody looked up lately may not: it is
    /// made anew, and judged.
    fn keeps(&self, address: &Multiaddr) -> bool {
        let known = self.known();
        let ips = known.ips(address);
        !ips.is_empty() && ips.into_iter().all(|ip| known.in_range(ip).is_ok())
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

/// Why an address is neither dialled nor answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    /// A name that somebody else gave leads to a private address.
    #[error(
        "a peer's name leads to {0}, which is private; if it is public in your network, say so with --assume-global <its range>"
    )]
    Private(IpAddr),
    /// The operator does not want it.
    #[error("{ip} is {fault}")]
    Range {
        /// Where it leads.
        ip: IpAddr,
        /// Which range.
        fault: RangeFault,
    },
}

/// Why a dial was not made, or failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GuardError<E: Error + 'static> {
    /// Its address does not pass.
    #[error(transparent)]
    Refused(Refused),
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
        self.permits.dials(&addr).map_err(|why| TransportError::Other(GuardError::Refused(why)))?;
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
        let permits = Permits::new(GlobalScope::default(), Ranges::default());
        assert_eq!(permits.dials(&address("/ip4/8.8.8.8/tcp/1")), Ok(()));
        for private in
            ["127.0.0.1/tcp/1", "10.0.0.1/tcp/1", "169.254.169.254/tcp/1", "10.0.0.3/tcp/1/tls/ws"]
        {
            let private = address(&format!("/ip4/{private}"));
            assert!(permits.dials(&private).is_err(), "{private}");
            permits.dialling(std::slice::from_ref(&private));
            assert_eq!(permits.dials(&private), Ok(()));
        }
        assert!(permits.dials(&address("/ip4/10.0.0.1/tcp/2")).is_err(), "another port");
    }

    #[test]
    fn a_name_leads_inside_only_at_the_port_of_one_that_the_operator_gave() {
        let permits = Permits::new(GlobalScope::default(), Ranges::default());
        permits.given(&[address("/dns4/relay.home.arpa/tcp/4001"), address("/ip4/8.8.8.8/tcp/22")]);
        assert_eq!(permits.dials(&address("/ip4/192.168.1.5/tcp/4001")), Ok(()));
        assert!(permits.dials(&address("/ip4/192.168.1.5/tcp/22")).is_err());
        assert!(permits.dials(&address("/ip4/169.254.169.254/tcp/4001")).is_err());
    }

    #[test]
    fn a_proxy_is_asked_for_names_of_peers_only_as_for_any_page_and_not_where_ranges_are_kept_away() {
        let asked = |permits: &Permits, text: &str| {
            let address = address(text);
            permits.may_be_asked_for(&address, &WebPlace::of(&address).unwrap())
        };
        let ranges = Ranges::new(Vec::new(), vec!["8.8.0.0/16".parse().unwrap()]).unwrap();
        let (free, bound) = (Ranges::default(), ranges);
        let [free, bound] = [free, bound].map(|ranges| Permits::new(GlobalScope::default(), ranges));
        for (text, if_free, if_bound) in [
            ("/dns4/relay.example/tcp/443/tls/ws", true, false),
            ("/dns4/relay.example/tcp/443/ws", false, false),
            ("/dns4/intranet/tcp/8080/tls/ws", false, false),
            ("/ip4/9.9.9.9/tcp/443/tls/ws", true, true),
            ("/ip4/8.8.9.9/tcp/443/tls/ws", true, false),
            ("/ip4/10.0.0.1/tcp/443/tls/ws", false, false),
        ] {
            assert_eq!(asked(&free, text), if_free, "{text}");
            assert_eq!(asked(&bound, text), if_bound, "{text}");
        }
        let own = "/dns4/intranet/tcp/8080/ws";
        let id = PeerId::random();
        bound.given_relay(&format!("{own}/p2p/{id}").parse().unwrap());
        assert!(asked(&bound, own) && asked(&bound, &format!("{own}/p2p/{id}")));
    }

    #[test]
    fn what_was_named_is_forgotten_when_much_else_was() {
        let permits = Permits::new(GlobalScope::default(), Ranges::default());
        permits.dialling(&[address("/ip4/10.0.0.1/tcp/1")]);
        for port in 1..=SOCKETS_MAX {
            permits.dialling(&[address(&format!("/ip4/10.0.0.2/tcp/{port}"))]);
        }
        assert!(permits.dials(&address("/ip4/10.0.0.1/tcp/1")).is_err());
        assert_eq!(permits.dials(&address("/ip4/10.0.0.2/tcp/1")), Ok(()));
    }

    fn keeping_to(allow: &[&str], deny: &[&str]) -> Permits {
        let nets = |all: &[&str]| all.iter().map(|net| net.parse().unwrap()).collect();
        Permits::new(GlobalScope::default(), Ranges::new(nets(allow), nets(deny)).unwrap())
    }

    fn relay(at: &str) -> RelayAddr {
        RelayAddr::new(address(at).with(Protocol::P2p(PeerId::random()))).unwrap()
    }

    #[test]
    fn a_denied_address_is_not_dialled_whoever_named_it() {
        let permits = keeping_to(&[], &["8.8.0.0/16"]);
        let denied = address("/ip4/8.8.8.8/tcp/1");
        permits.dialling(std::slice::from_ref(&denied));
        permits.given(std::slice::from_ref(&denied));
        permits.given_relay(&relay("/ip4/8.8.8.8/tcp/1"));
        assert!(matches!(permits.dials(&denied), Err(Refused::Range { fault: RangeFault::Denied, .. })));
        assert_eq!(permits.dials(&address("/ip4/8.9.9.9/tcp/1")), Ok(()));
    }

    #[test]
    fn outside_of_what_is_allowed_only_relays_that_the_operator_named_are_dialled_and_answered() {
        let permits = keeping_to(&["9.9.9.0/24"], &[]);
        let (local, stranger) = (address("/ip4/7.7.7.7/tcp/1"), address("/ip4/8.8.8.8/tcp/1"));
        assert!(permits.dials(&stranger).is_err() && permits.answers(&local, &stranger).is_err());
        permits.given_relay(&relay("/ip4/8.8.8.8/tcp/4001"));
        assert_eq!((permits.dials(&stranger), permits.answers(&local, &stranger)), (Ok(()), Ok(())));
        let behind = relay("/ip4/8.8.4.4/tcp/4001").circuit_to(PeerId::random());
        permits.given(&[behind, address("/ip4/8.8.1.1/tcp/1")]);
        assert_eq!(permits.dials(&address("/ip4/8.8.4.4/udp/1/quic-v1")), Ok(()));
        assert!(permits.dials(&address("/ip4/8.8.1.1/tcp/1")).is_err(), "a peer is no relay");
    }

    #[test]
    fn a_relay_that_the_operator_named_by_its_host_name_is_what_that_led_to() {
        let permits = keeping_to(&["9.9.9.0/24"], &["8.8.4.4/32"]);
        let (name, found) = (address("/dns4/relay.example/tcp/4001"), address("/ip4/8.8.8.8/tcp/4001"));
        permits.given_relay(&relay("/dns4/relay.example/tcp/4001"));
        assert!(permits.dials(&found).is_err() && !permits.keeps(&name), "not looked up yet");
        permits.looked_up(&name, std::slice::from_ref(&found));
        assert!(permits.dials(&found).is_ok() && permits.keeps(&name));
        permits.looked_up(&name, &[address("/ip4/8.8.4.4/tcp/4001")]);
        assert!(permits.dials(&found).is_err() && !permits.keeps(&name), "it leads elsewhere");
    }

    #[test]
    fn a_relay_that_records_name_counts_as_named_and_leads_nowhere_inside() {
        let permits = keeping_to(&["9.9.9.0/24"], &[]);
        let found = address("/ip4/8.8.8.8/tcp/4001");
        permits.resolved_relay(&relay("/ip4/8.8.8.8/tcp/4001"));
        assert_eq!(permits.dials(&found), Ok(()));
        let permits = keeping_to(&[], &[]);
        permits.resolved_relay(&relay("/dns4/inside.example/tcp/22"));
        permits.looked_up(&address("/dns4/inside.example/tcp/22"), &[address("/ip4/10.0.0.1/tcp/22")]);
        assert!(permits.dials(&address("/ip4/10.0.0.1/tcp/22")).is_err());
    }

    #[test]
    fn a_circuit_is_answered_wherever_its_source_is() {
        let permits = keeping_to(&["9.9.9.0/24"], &[]);
        let local = relay("/ip4/8.8.8.8/tcp/4001").circuit();
        assert_eq!(permits.answers(&local, &address("/ip4/1.1.1.1/tcp/1")), Ok(()));
    }
}
