//! A node's part in the DHT: what the settings say of it, and where the node is reached, which it says there.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

use libp2p::{Multiaddr, PeerId, identity::Keypair, multiaddr::Protocol};
use punchline_bridge::{
    Event,
    addr::{self, GlobalScope, Ranges},
    event::LetsIn,
    path::Transport,
};
use punchline_discovery::kad::{Carrier, Config, Judge, Mode};

use crate::{
    Context, Unusable,
    cli::{self, DhtFlags, DhtListenAddr, DhtMode, PeerCache},
};

/// Addresses of ours that are said in the DHT: as many as a record has.
const SAID_MAX: usize = 16;

/// What the settings say; none if this node takes no part.
///
/// # Errors
/// If they do not go together.
pub(super) fn config(node: &cli::Node, judge: Judge, context: &Context) -> Result<Option<Config>, Unusable> {
    let DhtFlags { bootstrap, dht, dht_listen, dht_external, dht_network } = &node.finding.dht;
    let (bootstrap, external) = (cli::all(bootstrap), cli::all(dht_external));
    let listen: Vec<Multiaddr> = cli::all(dht_listen).into_iter().map(|DhtListenAddr(at)| at).collect();
    let mode = match dht {
        DhtMode::Off => return Ok(None),
        DhtMode::Auto if bootstrap.is_empty() && listen.is_empty() => return Ok(None),
        DhtMode::Auto => Mode::Auto,
        DhtMode::Client if bootstrap.is_empty() => {
            let remedy = "say where the DHT is: --bootstrap <the address of a node of it>";
            return Err(Unusable(format!("--dht client has nobody to ask; {remedy}")));
        }
        DhtMode::Client => Mode::Client,
        DhtMode::Server if listen.is_empty() => {
            let remedy = "say where it is to listen: --dht-listen /ip4/0.0.0.0/tcp/4002";
            return Err(Unusable(format!("--dht server answers nobody unless it listens; {remedy}")));
        }
        DhtMode::Server => Mode::Server,
    };
    #[cfg(feature = "peer-cache")]
    let memory = (node.finding.peer_cache != Some(PeerCache::Off)).then(|| context.dht_cache.clone());
    #[cfg(not(feature = "peer-cache"))]
    let memory = None;
    let listen = if mode == Mode::Client { Vec::new() } else { listen };
    Ok(Some(Config {
        keypair: context.keypair.clone(),
        network: dht_network.clone(),
        mode,
        listen,
        external,
        bootstrap,
        judge,
        memory,
        bucket_size: None,
        carrier: Carrier::Sockets,
    }))
}

/// What `punchline bootstrap` is to do.
pub(crate) fn of_bootstrap(settings: &cli::Bootstrap, ranges: Ranges, keypair: Keypair, context: &Context) -> Config {
    let global = GlobalScope::with_assumed(cli::all(&settings.assume_global));
    let mut listen: Vec<Multiaddr> =
        cli::all(&settings.listen).into_iter().map(|DhtListenAddr(at)| at).collect();
    if listen.is_empty() {
        listen = EVERYWHERE.iter().filter_map(|text| text.parse().ok()).collect();
    }
    let mut external = cli::all(&settings.external);
    if external.is_empty() {
        external = listen.iter().filter(|address| names_a_host(address)).cloned().collect();
    }
    Config {
        keypair,
        network: settings.dht_network.clone(),
        mode: Mode::Server,
        listen,
        external,
        bootstrap: cli::all(&settings.bootstrap),
        judge: judge(global, ranges),
        memory: Some(context.dht_cache.clone()),
        bucket_size: None,
        carrier: Carrier::Sockets,
    }
}

const EVERYWHERE: [&str; 4] = [
    "/ip4/0.0.0.0/tcp/4001",
    "/ip4/0.0.0.0/udp/4001/quic-v1",
    "/ip6/::/tcp/4001",
    "/ip6/::/udp/4001/quic-v1",
];

fn names_a_host(address: &Multiaddr) -> bool {
    ip_of(address).is_some_and(|ip| !ip.is_unspecified())
        && address.iter().any(|part| matches!(part, Protocol::Tcp(port) | Protocol::Udp(port) if port != 0))
}

fn ip_of(address: &Multiaddr) -> Option<IpAddr> {
    match address.iter().next()? {
        Protocol::Ip4(ip) => Some(ip.into()),
        Protocol::Ip6(ip) => Some(ip.into()),
        _ => None,
    }
}

/// What of the addresses that strangers name this node dials for the DHT: public ones, over TCP or QUIC, that the
/// operator does not keep away. A name may lead anywhere, and so may a relay.
pub(crate) fn judge(global: GlobalScope, ranges: Ranges) -> Judge {
    Arc::new(move |address| is_public(address, &global, &ranges))
}

fn is_public(address: &Multiaddr, global: &GlobalScope, ranges: &Ranges) -> bool {
    let parts: Vec<Protocol<'_>> = address.iter().skip(1).collect();
    let plain = matches!(
        parts[..],
        [Protocol::Tcp(1..)] | [Protocol::Udp(1..), Protocol::QuicV1]
    );
    plain && ip_of(address).is_some_and(|ip| global.contains(ip) && ranges.lets(ip))
}

/// Where anybody reaches this node, by what it was told and has seen.
#[derive(Clone)]
pub(super) struct Reached {
    global: GlobalScope,
    ranges: Ranges,
    found: Arc<Mutex<Found>>,
}

#[derive(Default)]
struct Found {
    listening: Vec<Multiaddr>,
    confirmed: Vec<Multiaddr>,
    mapped: BTreeMap<Transport, Multiaddr>,
    circuits: BTreeMap<PeerId, Multiaddr>,
}

impl Reached {
    pub(super) fn new(global: GlobalScope, ranges: Ranges) -> Self {
        Self { global, ranges, found: Arc::default() }
    }

    /// Takes what an event says, and returns where this node is reached if that is otherwise.
    pub(super) fn note(&self, event: &Event) -> Option<Vec<Multiaddr>> {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.addresses(&found);
        match event {
            Event::Listening { address } => found.listening.push(address.clone()),
            Event::AddressConfirmed { address, lets_in: LetsIn::Anybody, .. } => {
                found.confirmed.push(address.clone());
            }
            Event::AddressConfirmed { address, .. } | Event::AddressWithdrawn { address } => {
                found.confirmed.retain(|known| known != address);
            }
            Event::PortMapped { transport, address, .. } => {
                found.mapped.insert(*transport, address.clone());
            }
            Event::PortMappingLost { transport, .. } => drop(found.mapped.remove(transport)),
            Event::ReservationHeld { relay, address, .. } => {
                found.circuits.insert(*relay, address.clone());
            }
            Event::ReservationLost { relay, .. } => drop(found.circuits.remove(relay)),
            _ => return None,
        }
        let after = self.addresses(&found);
        (after != before).then_some(after)
    }

    /// Direct ones first. What is private means nothing to strangers.
    fn addresses(&self, found: &Found) -> Vec<Multiaddr> {
        let Found { listening, confirmed, mapped, circuits } = found;
        let direct = confirmed.iter().chain(mapped.values()).chain(listening);
        let direct = direct.filter(|address| is_public(address, &self.global, &self.ranges));
        let circuits = circuits.values().filter(|circuit| self.leads_through_public(circuit));
        let mut all: Vec<Multiaddr> = Vec::new();
        for address in direct.chain(circuits) {
            if !all.contains(address) {
                all.push(address.clone());
            }
        }
        all.truncate(SAID_MAX);
        all
    }

    fn leads_through_public(&self, circuit: &Multiaddr) -> bool {
        match addr::split_circuit(circuit) {
            Ok(Some((relay, _))) => {
                ip_of(relay.address()).is_none_or(|ip| self.global.contains(ip) && self.ranges.lets(ip))
            }
            Ok(None) | Err(_) => false,
        }
    }
}
