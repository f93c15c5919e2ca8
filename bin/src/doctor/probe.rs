//! Whether somebody is reached at an address, layer by layer: name, TCP or QUIC, handshake, identity, protocol.

mod first;

use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use libp2p::{Multiaddr, PeerId, identity::Keypair, multiaddr::Protocol};
use punchline_bridge::{
    Config, Endpoint, Event, Events, RelayAddr, RelayLocator, Service,
    addr::{self, GlobalScope, Ranges},
    config::PortMapping,
    error::{DialFailureReason, OpenError, StartError},
    path::Transport,
    proxy::Proxy,
    survey,
};
use tokio::{
    net::lookup_host,
    time::{Instant, timeout, timeout_at},
};

use self::first::{connect, hello, negotiate};
use super::{
    findings::{Fault, Layer},
    gather::RELAYS_MAX,
};

/// For a name to be looked up.
const NAME: Duration = Duration::from_secs(3);

/// For the whole of one address.
pub(crate) const PROBE: Duration = Duration::from_secs(9);

/// For a relay that refused to do otherwise: a node asks again after 250 ms, and then after 500.
pub(crate) const AGAIN: Duration = Duration::from_millis(1000);

/// For a node to shut down.
const END: Duration = Duration::from_millis(500);

/// Addresses of one name that are tried.
const IPS_MAX: usize = 4;

/// What a probe needs to know.
#[derive(Clone, Debug, Default)]
pub(crate) struct Means {
    pub(crate) proxy: Option<Proxy>,
    pub(crate) global: GlobalScope,
    /// What is kept away is not tried.
    pub(crate) ranges: Ranges,
}

impl Means {
    /// A node that passes by: nobody knows it, and it asks nothing of the router.
    pub(crate) async fn endpoint(&self, config: Config) -> Result<(Endpoint, Events), StartError> {
        let (proxy, global, ranges) = (self.proxy.clone(), self.global.clone(), self.ranges.clone());
        let config = Config { port_mapping: PortMapping::Off, proxy, global, ranges, ..config };
        Endpoint::start(config, Keypair::generate_ed25519()).await
    }

    /// Whether the address is reached through the proxy.
    pub(crate) fn proxied(&self, address: &Multiaddr) -> bool {
        self.proxy.as_ref().is_some_and(|proxy| proxy.is_for(address))
    }
}

/// What a probe came to.
#[derive(Debug)]
pub(crate) struct Probed {
    /// What worked, in order, and what was seen.
    pub(crate) passed: Vec<(Layer, String)>,
    pub(crate) outcome: Result<(), Fault>,
}

/// Tries the address. `relay`: it must keep a place for us.
pub(crate) async fn probe(address: &Multiaddr, means: &Means, relay: bool) -> Probed {
    let probe = Probe { passed: Arc::default(), now: Arc::new(Mutex::new(Layer::Name)) };
    let outcome = match timeout(PROBE, probe.run(address, means, relay)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(Fault::Deadline { layer: *lock(&probe.now), seconds: PROBE.as_secs() }),
    };
    let passed = std::mem::take(&mut *lock(&probe.passed));
    Probed { passed, outcome }
}

/// As [`probe`]; of a name that stands for relays, each of their addresses. All of them have to be reached.
pub(crate) async fn probe_named(address: &Multiaddr, means: &Means) -> Probed {
    let Ok(RelayLocator::Named(name)) = RelayLocator::new(address.clone()) else {
        return probe(address, means, false).await;
    };
    let relays = match survey::relays(&name).await {
        Ok(relays) => relays,
        Err(cause) => {
            let name = name.to_string();
            return Probed { passed: Vec::new(), outcome: Err(Fault::Unresolved { name, cause }) };
        }
    };
    let mut all = Probed { passed: Vec::new(), outcome: Ok(()) };
    for relay in relays.into_iter().take(RELAYS_MAX) {
        all.passed.push((Layer::Name, format!("_dnsaddr.{name} names {relay}")));
        let probed = probe(&RelayLocator::At(relay).address(), means, true).await;
        all.passed.extend(probed.passed);
        all.outcome = all.outcome.and(probed.outcome);
    }
    all
}

/// How far it got, for when it takes too long.
struct Probe {
    passed: Arc<Mutex<Vec<(Layer, String)>>>,
    now: Arc<Mutex<Layer>>,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Probe {
    fn at(&self, layer: Layer) {
        *lock(&self.now) = layer;
    }

    fn passed(&self, layer: Layer, seen: String) {
        lock(&self.passed).push((layer, seen));
    }

    async fn run(&self, address: &Multiaddr, means: &Means, relay: bool) -> Result<(), Fault> {
        // Behind a proxy there may be neither names nor a way out.
        if !means.proxied(address) {
            let ips = self.name(address).await?.into_iter();
            let (away, ips): (Vec<_>, Vec<_>) = ips.partition(|ip| means.ranges.denies(*ip));
            if let (Some(ip), true) = (away.first(), ips.is_empty()) {
                return Err(denied(*ip, address));
            }
            match (transport_of(address), port_of(address)) {
                (Transport::Tcp, Some(port)) => self.tcp(&ips, port, true).await?,
                (Transport::Websocket, Some(port)) => self.tcp(&ips, port, false).await?,
                (Transport::Quic, Some(port)) => self.quic(&ips, port).await?,
                (_, None) => {}
            }
        }
        self.at(Layer::Security);
        let started = means.endpoint(Config::default()).await;
        let (endpoint, events) =
            started.map_err(|error| Fault::Handshake { cause: error.to_string() })?;
        let outcome = self.speak(address, &endpoint, events, relay).await;
        let _ = timeout(END, endpoint.shutdown()).await;
        outcome
    }

    /// The addresses that it begins with, or that its name stands for. None for `/dnsaddr`, which leads anywhere.
    async fn name(&self, address: &Multiaddr) -> Result<Vec<IpAddr>, Fault> {
        let fits: fn(&IpAddr) -> bool = match address.iter().next() {
            Some(Protocol::Ip4(ip)) => return Ok(vec![ip.into()]),
            Some(Protocol::Ip6(ip)) => return Ok(vec![ip.into()]),
            Some(Protocol::Dns4(_)) => IpAddr::is_ipv4,
            Some(Protocol::Dns6(_)) => IpAddr::is_ipv6,
            Some(Protocol::Dns(_)) => |_| true,
            _ => return Ok(Vec::new()),
        };
        let name = name_of(address).unwrap_or_default();
        let mut ips =
            look_up(&name).await.map_err(|cause| Fault::Unresolved { name: name.clone(), cause })?;
        ips.retain(fits);
        ips.truncate(IPS_MAX);
        if ips.is_empty() {
            let cause = "it has no address of the kind that is wanted".to_owned();
            return Err(Fault::Unresolved { name, cause });
        }
        self.passed(Layer::Name, format!("{name} is {}", list(&ips)));
        Ok(ips)
    }

    /// `libp2p`: it is to speak that at once.
    async fn tcp(&self, ips: &[IpAddr], port: u16, libp2p: bool) -> Result<(), Fault> {
        self.at(Layer::Tcp);
        let mut fault = None;
        for ip in ips {
            let at = SocketAddr::from((*ip, port));
            match connect(at).await {
                Ok(stream) => {
                    self.passed(Layer::Tcp, format!("{at} takes connections"));
                    self.at(Layer::Security);
                    return if libp2p { hello(stream, at).await } else { Ok(()) };
                }
                Err(failed) => fault = fault.or(Some(failed)),
            }
        }
        fault.map_or(Ok(()), Err)
    }

    async fn quic(&self, ips: &[IpAddr], port: u16) -> Result<(), Fault> {
        self.at(Layer::Quic);
        let mut fault = None;
        for ip in ips {
            let at = SocketAddr::from((*ip, port));
            match negotiate(at).await {
                Ok(()) => {
                    self.passed(Layer::Quic, format!("{at} speaks QUIC"));
                    return Ok(());
                }
                Err(failed) => fault = fault.or(Some(failed)),
            }
        }
        fault.map_or(Ok(()), Err)
    }

    /// Handshake, identity, protocol.
    async fn speak(
        &self,
        address: &Multiaddr,
        endpoint: &Endpoint,
        mut events: Events,
        relay: bool,
    ) -> Result<(), Fault> {
        let mut place = address.clone();
        let peer = match addr::peer_of(address) {
            Some(peer) => {
                place.pop();
                peer
            }
            None => self.who(address, endpoint).await?,
        };
        // Before anything else is said: how the relay sees us, which we need to know first, it says once a connection.
        if let Ok(relay) = RelayAddr::new(place.clone().with(Protocol::P2p(peer))) {
            endpoint.reserve(relay).await;
        }
        let spoken = self.meet(peer, place, endpoint).await?;
        self.passed(Layer::Security, SHOOK_HANDS.to_owned());
        self.passed(Layer::Identity, format!("{peer} answers"));
        self.at(Layer::Protocol);
        let said = match spoken {
            Spoken::Streams if !relay => "it is a punchline node",
            _ if addr::is_circuit(address) => return Err(Fault::NotOurs),
            _ => match reservation(&mut events).await {
                Ok(()) => "it is a relay, and keeps a place for us",
                Err(cause) if relay => return Err(Fault::NoPlace { cause }),
                Err(_) => return Err(Fault::NotOurs),
            },
        };
        self.passed(Layer::Protocol, said.to_owned());
        Ok(())
    }

    /// Who answers where nobody is named: somebody else is asked for, whom nobody is.
    async fn who(&self, address: &Multiaddr, endpoint: &Endpoint) -> Result<PeerId, Fault> {
        match self.open(PeerId::random(), address.clone(), endpoint).await {
            Err(Fault::WrongPeer { obtained, .. }) => Ok(obtained),
            Err(fault) => Err(fault),
            Ok(_) => Err(Fault::NotOurs),
        }
    }

    async fn meet(&self, peer: PeerId, place: Multiaddr, endpoint: &Endpoint) -> Result<Spoken, Fault> {
        let met = self.open(peer, place, endpoint).await;
        if matches!(met, Err(Fault::WrongPeer { .. })) {
            self.passed(Layer::Security, SHOOK_HANDS.to_owned());
        }
        met
    }

    async fn open(&self, peer: PeerId, place: Multiaddr, endpoint: &Endpoint) -> Result<Spoken, Fault> {
        endpoint.add_addresses(peer, vec![place.clone()]).await;
        let failed = |cause: String| Fault::Handshake { cause };
        let service = SERVICE.parse::<Service>().map_err(|error| failed(error.to_string()))?;
        match endpoint.open(peer, service).await {
            Err(OpenError::NoRouteToDestination { tried: causes, .. }) => {
                let reason = causes.into_iter().next().map(|cause| cause.reason);
                Err(fault_of(reason, peer, &place))
            }
            Err(OpenError::ConnectionLost { cause, .. }) => Err(failed(cause)),
            Err(OpenError::Unsupported { .. }) => Ok(Spoken::Libp2p),
            Err(OpenError::Refused { .. }) | Ok(_) => Ok(Spoken::Streams),
            Err(OpenError::Deadline { deadline, .. }) => {
                Err(Fault::Silent { seconds: deadline.as_secs() })
            }
            Err(error) => Err(failed(error.to_string())),
        }
    }
}

/// What is kept away by our ranges, and where that shows.
fn denied(ip: IpAddr, address: &Multiaddr) -> Fault {
    let layer = match transport_of(address) {
        Transport::Quic => Layer::Quic,
        Transport::Tcp | Transport::Websocket => Layer::Tcp,
    };
    Fault::Denied { ip, layer }
}

const SHOOK_HANDS: &str = "the handshake succeeds";

/// What was heard of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spoken {
    /// Connections are multiplexed.
    Libp2p,
    /// And it knows our streams.
    Streams,
}

/// A service that nobody answers for: it is the refusal that tells who is there.
const SERVICE: &str = "punchline-doctor";

fn fault_of(reason: Option<DialFailureReason>, wanted: PeerId, address: &Multiaddr) -> Fault {
    let web = transport_of(address) == Transport::Websocket;
    match reason {
        Some(DialFailureReason::WrongPeer { obtained }) => Fault::WrongPeer { wanted, obtained },
        Some(DialFailureReason::NoReservation) => Fault::NoReservation,
        Some(DialFailureReason::Deadline { deadline }) => Fault::Silent { seconds: deadline.as_secs() },
        Some(
            reason @ (DialFailureReason::CircuitRefused { .. }
            | DialFailureReason::RelayFull(_)
            | DialFailureReason::CircuitFailed { .. }),
        ) => Fault::NoCircuit { cause: reason.to_string() },
        Some(reason) if web => Fault::Websocket { cause: reason.to_string() },
        Some(reason) => Fault::Handshake { cause: reason.to_string() },
        None => Fault::Handshake { cause: "nobody answered".to_owned() },
    }
}

/// Whether the relay gives us a place; or what it says. One that has just started may not know its own address yet.
async fn reservation(events: &mut Events) -> Result<(), String> {
    let (mut failed, mut deadline) = (String::new(), Instant::now() + PROBE);
    while let Ok(Some(event)) = timeout_at(deadline, events.next()).await {
        match event {
            Event::ReservationHeld { .. } => return Ok(()),
            Event::ReservationFailed { cause, .. } => {
                failed = cause;
                deadline = deadline.min(Instant::now() + AGAIN);
            }
            _ => {}
        }
    }
    Err(failed)
}

/// As every program on this host looks names up.
pub(crate) async fn look_up(name: &str) -> Result<Vec<IpAddr>, String> {
    match timeout(NAME, lookup_host((name, 0))).await {
        Ok(Ok(found)) => {
            let mut ips: Vec<IpAddr> = found.map(|socket| socket.ip()).collect();
            ips.sort();
            ips.dedup();
            Ok(ips)
        }
        Ok(Err(cause)) => Err(cause.to_string()),
        Err(_) => Err(format!("no answer within {} s", NAME.as_secs())),
    }
}

/// What carries a connection to this address; of a circuit, to its relay.
pub(crate) fn transport_of(address: &Multiaddr) -> Transport {
    let before = address.iter().take_while(|part| *part != Protocol::P2pCircuit);
    let before: Multiaddr = before.collect();
    match before.iter().any(|part| matches!(part, Protocol::QuicV1 | Protocol::Udp(_))) {
        true => Transport::Quic,
        false if addr::is_websocket(&before) => Transport::Websocket,
        false => Transport::Tcp,
    }
}

/// The port of its socket.
pub(crate) fn port_of(address: &Multiaddr) -> Option<u16> {
    address.iter().find_map(|part| match part {
        Protocol::Tcp(port) | Protocol::Udp(port) => Some(port),
        _ => None,
    })
}

/// The name that it begins with.
pub(crate) fn name_of(address: &Multiaddr) -> Option<String> {
    match address.iter().next()? {
        Protocol::Dns(name) | Protocol::Dns4(name) | Protocol::Dns6(name) => Some(name.into_owned()),
        _ => None,
    }
}

fn list(ips: &[IpAddr]) -> String {
    ips.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
