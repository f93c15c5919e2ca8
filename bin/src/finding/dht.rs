//! A node's part in the DHT: what the settings say of it, and where the node is reached, which it says there.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};
use punchline_bridge::{
    Event,
    addr::{self, GlobalScope, Ranges},
    error::Family,
    event::{CandidateSource, LetsIn},
    nat::Mapping,
    path::Transport,
};
use punchline_discovery::{
    Network,
    kad::{Config, Mode, Policy},
    record::{self, Contact, Nat, Reach},
};

use super::public::{Public, ip_of};
use crate::{
    Context, Unusable,
    cli::{self, BootstrapAddr, DhtFlags, DhtListenAddr, DhtMode, domains},
};

/// What this program is called in the DHT.
const AGENT: &str = concat!("punchline/", env!("CARGO_PKG_VERSION"));

/// Addresses of ours that are said in the DHT: as many as a record has.
const SAID_MAX: usize = 16;

/// What the settings say; none if this node takes no part.
///
/// # Errors
/// If they do not go together.
pub(super) fn config(
    node: &cli::Node,
    policy: Policy,
    context: &Context,
) -> Result<Option<Config>, Unusable> {
    let DhtFlags { bootstrap, dht, dht_listen, dht_external, dht_network, .. } = &node.finding.dht;
    let network = network(dht_network)?;
    let (bootstrap, external) = (cli::all(bootstrap), cli::all(dht_external));
    let is_begun = !bootstrap.is_empty();
    let (bootstrap, names) = begun_at(bootstrap);
    let listen: Vec<Multiaddr> = cli::all(dht_listen).into_iter().map(|DhtListenAddr(at)| at).collect();
    let mode = match dht {
        DhtMode::Off => return Ok(None),
        DhtMode::Auto if !is_begun && listen.is_empty() => return Ok(None),
        DhtMode::Auto => Mode::Auto,
        DhtMode::Client if !is_begun => {
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
    let memory =
        (node.finding.peer_cache != Some(cli::PeerCache::Off)).then(|| context.dht_cache.clone());
    #[cfg(not(feature = "peer-cache"))]
    let memory = None;
    let listen = if mode == Mode::Client { Vec::new() } else { listen };
    Ok(Some(Config {
        mode,
        listen,
        external,
        bootstrap,
        names,
        memory,
        number: Some(context.dht_number.clone()),
        ..Config::new(context.keypair.clone(), network, policy)
    }))
}

/// Nodes to begin with, and names of others that are followed. Where this program follows none, a name is an address that
/// leads to one of its nodes.
pub(crate) fn begun_at(given: Vec<BootstrapAddr>) -> (Vec<Multiaddr>, Vec<String>) {
    let (addresses, names) = domains::split(given);
    #[cfg(feature = "dns")]
    let named = (addresses, names.iter().map(|name| name.as_str().to_owned()).collect());
    #[cfg(not(feature = "dns"))]
    let named = {
        let name = |name: &addr::RelayName| Protocol::Dnsaddr(name.as_str().into()).into();
        (addresses.into_iter().chain(names.iter().map(name)).collect(), Vec::new())
    };
    named
}

/// The network that is named.
pub(crate) fn network(name: &str) -> Result<Network, Unusable> {
    name.parse().map_err(|error| Unusable(format!("--dht-network: {error}")))
}

/// What `punchline bootstrap` is to do.
///
/// # Errors
/// If the settings do not go together.
pub(crate) fn of_bootstrap(
    settings: &cli::Bootstrap,
    ranges: Ranges,
    context: &Context,
) -> Result<Config, Unusable> {
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
    let network = network(&settings.dht_network)?;
    let bootstrap = cli::all(&settings.bootstrap);
    let place = Place { listen, external, bootstrap, network, policy: policy(global, ranges) };
    Ok(Config {
        #[cfg(feature = "rendezvous")]
        meeting_point: settings.rendezvous_server,
        ..server(place, context)
    })
}

/// Where a node that answers others is, and in which network.
pub(crate) struct Place {
    pub(crate) listen: Vec<Multiaddr>,
    pub(crate) external: Vec<Multiaddr>,
    pub(crate) bootstrap: Vec<BootstrapAddr>,
    pub(crate) network: Network,
    pub(crate) policy: Policy,
}

/// A node that answers others, and looks for nobody.
pub(crate) fn server(place: Place, context: &Context) -> Config {
    let Place { listen, external, bootstrap, network, policy } = place;
    let (bootstrap, names) = begun_at(bootstrap);
    Config {
        mode: Mode::Server,
        listen,
        external,
        bootstrap,
        names,
        memory: Some(context.dht_cache.clone()),
        number: Some(context.dht_number.clone()),
        ..Config::new(context.keypair.clone(), network, policy)
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
        && address
            .iter()
            .any(|part| matches!(part, Protocol::Tcp(port) | Protocol::Udp(port) if port != 0))
}

/// What matters of the addresses that strangers name. For the DHT this node dials public ones, over TCP or QUIC, that the
/// operator does not keep away; a name may lead anywhere. Of what a peer says of itself it believes circuits too.
pub(crate) fn policy(global: GlobalScope, ranges: Ranges) -> Policy {
    let whole = Public::new(global, ranges);
    let (dials, hands_on) = (whole.clone(), whole);
    // Those that the operator takes for public are of one lab.
    let internet = GlobalScope::default();
    Policy {
        dials: Arc::new(move |address: &Multiaddr, _: PeerId| dials.is_direct(address)),
        hands_on: Arc::new(move |address: &Multiaddr, _: PeerId| {
            hands_on.is_direct(address) || hands_on.is_circuit(address)
        }),
        exempt: Arc::new(move |ip| !internet.contains(ip)),
    }
}

/// Where anybody reaches this node, by what it was told and has seen.
#[derive(Clone)]
pub(super) struct Reached {
    public: Public,
    /// Only circuits are said.
    relays_only: bool,
    found: Arc<Mutex<Found>>,
}

#[derive(Default)]
struct Found {
    listening: Vec<Multiaddr>,
    confirmed: Vec<Multiaddr>,
    mapped: BTreeMap<Transport, Multiaddr>,
    /// What the operator says.
    stated: Vec<Multiaddr>,
    circuits: BTreeMap<PeerId, Multiaddr>,
    mapping: record::Mapping,
    services: Vec<String>,
}

impl Reached {
    pub(super) fn new(global: GlobalScope, ranges: Ranges, relays_only: bool) -> Self {
        Self { public: Public::new(global, ranges), relays_only, found: Arc::default() }
    }

    /// Where it is reached, as it says.
    pub(super) fn told(&self) -> Vec<Multiaddr> {
        self.addresses(&self.found.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes what an event says, and returns what this node says of itself if that is otherwise.
    pub(super) fn note(&self, event: &Event) -> Option<Contact> {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.addresses(&found);
        match event {
            Event::Listening { address } => found.listening.push(address.clone()),
            Event::AddressConfirmed { address, lets_in: LetsIn::Anybody, .. } => {
                found.confirmed.retain(|known| known != address);
                found.confirmed.push(address.clone());
            }
            Event::AddressConfirmed { address, .. } | Event::AddressWithdrawn { address } => {
                found.confirmed.retain(|known| known != address);
            }
            Event::CandidateFound { address, source: CandidateSource::Operator } => {
                found.stated.push(address.clone());
            }
            Event::PortMapped { transport, address, .. } => {
                found.mapped.insert(*transport, address.clone());
            }
            Event::PortMappingLost { transport, .. } => drop(found.mapped.remove(transport)),
            Event::ReservationHeld { relay, address, .. } => {
                found.circuits.insert(*relay, address.clone());
            }
            Event::ReservationLost { relay, .. } => drop(found.circuits.remove(relay)),
            Event::NatFound { family: Family::V4, mapping: Some(mapping), .. } => {
                found.mapping = match mapping {
                    Mapping::None => record::Mapping::Unknown,
                    Mapping::EndpointIndependent => record::Mapping::EndpointIndependent,
                    Mapping::DestinationDependent => record::Mapping::EndpointDependent,
                };
            }
            _ => return None,
        }
        let addresses = self.addresses(&found);
        (addresses != before).then(|| self.contact(addresses, &found))
    }

    /// Where strangers reached this host, as relays dialled it back.
    pub(super) fn confirmed(&self) -> Vec<Multiaddr> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner).confirmed.clone()
    }

    /// What this node answers for, and so what it says of itself. Of more than a contact has room for none is said: nobody
    /// is to conclude that the rest is not served.
    pub(super) fn serves(&self, mut services: Vec<String>) -> Contact {
        if services.len() > record::SERVICES_MAX {
            services.clear();
        }
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.services = services;
        self.contact(self.addresses(&found), &found)
    }

    fn contact(&self, addresses: Vec<Multiaddr>, found: &Found) -> Contact {
        let direct = addresses.iter().any(|address| !addr::is_circuit(address));
        let reach = match (direct, found.circuits.is_empty()) {
            (true, _) => Reach::Public,
            (false, false) => Reach::Private,
            (false, true) => Reach::Unknown,
        };
        let nat = Nat { reach, mapping: found.mapping };
        let (agent, services) = (AGENT.to_owned(), found.services.clone());
        Contact { addresses, nat, agent, services, ..Contact::default() }
    }

    /// Direct ones first. What is private means nothing to strangers.
    fn addresses(&self, found: &Found) -> Vec<Multiaddr> {
        let Found { listening, confirmed, mapped, stated, circuits, .. } = found;
        let direct = confirmed.iter().chain(stated).chain(mapped.values()).chain(listening);
        let direct = direct.filter(|address| !self.relays_only && self.public.is_direct(address));
        let circuits = circuits.values().filter(|circuit| self.public.is_circuit(circuit));
        let mut all: Vec<Multiaddr> = Vec::new();
        for address in direct.chain(circuits) {
            if !all.contains(address) {
                all.push(address.clone());
            }
        }
        all.truncate(SAID_MAX);
        all
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_node_that_tells_of_its_relays_alone_says_no_address_of_its_own() {
        let relay = PeerId::random();
        let circuit: Multiaddr = format!("/ip4/9.9.9.9/tcp/1/p2p/{relay}/p2p-circuit").parse().unwrap();
        let own: Multiaddr = "/ip4/8.8.8.8/tcp/1".parse().unwrap();
        for (relays_only, expected) in
            [(false, vec![own.clone(), circuit.clone()]), (true, vec![circuit.clone()])]
        {
            let reached = Reached::new(GlobalScope::default(), Ranges::default(), relays_only);
            let mut found = Found { listening: vec![own.clone()], ..Found::default() };
            found.circuits.insert(relay, circuit.clone());
            let addresses = reached.addresses(&found);
            assert_eq!(addresses, expected);
            let reach = reached.contact(addresses, &found).nat.reach;
            assert_eq!(reach, if relays_only { Reach::Private } else { Reach::Public });
        }
    }
}
