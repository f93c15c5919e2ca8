//! Finds peers for a node: hands what is found to its endpoint, and tells others where the node is.

#[cfg(feature = "kad")]
pub(crate) mod dht;
#[cfg(feature = "kad")]
pub mod event;
#[cfg(feature = "kad")]
pub(crate) mod members;
mod passing;
#[cfg(any(feature = "kad", feature = "rendezvous"))]
mod public;

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};
use punchline_bridge::{
    Endpoint, Event, Sought,
    addr::{GlobalScope, HintSource, Ranges},
    event::CandidateSource,
    path::Direction,
};
use punchline_discovery::{Config, Discovery, Hint, Known, Source, StartError};

use self::passing::Passing;
#[cfg(feature = "mdns")]
use crate::cli::Mdns;
#[cfg(feature = "peer-cache")]
use crate::cli::PeerCache;
use crate::{Context, Unusable, cli, gateway::event::GatewayEvent, report::Reporter};

/// Addresses of ours that are told: a host of containers has dozens.
const TOLD_MAX: usize = 64;

/// Which sources the settings want.
#[cfg_attr(
    not(any(
        feature = "dns",
        feature = "kad",
        feature = "mainline",
        feature = "mdns",
        feature = "peer-cache",
        feature = "rendezvous"
    )),
    allow(unused_variables, unused_mut, clippy::needless_pass_by_value)
)]
pub(crate) fn sources(node: &cli::Node, context: &Context) -> Result<Config, Unusable> {
    let settings = &node.finding;
    let mut config = Config::new(context.keypair.public().to_peer_id());
    #[cfg(any(feature = "kad", feature = "mainline", feature = "rendezvous"))]
    {
        config.relays_only = settings.contact == cli::Told::RelaysOnly;
    }
    #[cfg(feature = "mdns")]
    {
        config.mdns = settings.mdns == Mdns::On;
    }
    #[cfg(feature = "peer-cache")]
    {
        config.cache = match &settings.peer_cache {
            Some(PeerCache::Off) => None,
            Some(PeerCache::At(path)) => Some(path.clone()),
            None => Some(context.peer_cache.clone()),
        };
    }
    #[cfg(feature = "dns")]
    {
        let domains = cli::all(&settings.dns);
        config.dns = domains.iter().map(|domain| domain.as_str().to_owned()).collect();
    }
    #[cfg(feature = "mainline")]
    {
        let joins = settings.mainline.config();
        #[cfg(feature = "pkarr")]
        let joins = joins.map(|mut config| {
            config.pkarr = settings.pkarr == cli::Pkarr::On;
            config
        });
        config.mainline = joins.map(|config| (config, context.keypair.clone()));
    }
    #[cfg(feature = "rendezvous")]
    {
        config.rendezvous = public::meeting_points(node, context)?;
    }
    #[cfg(feature = "kad")]
    {
        let (global, ranges) = reach(node)?;
        config.kad = dht::config(node, dht::policy(global, ranges), context)?;
    }
    Ok(config)
}

/// What counts as public, and what the operator keeps away.
///
/// # Errors
/// If a file cannot be used.
pub(crate) fn reach(node: &cli::Node) -> Result<(GlobalScope, Ranges), Unusable> {
    let global = GlobalScope::with_assumed(cli::all(&node.assume_global));
    Ok((global, crate::node::ranges(&node.nets)?))
}

/// The nodes of the DHT that a node begins with.
#[cfg_attr(not(feature = "kad"), allow(unused_variables))]
pub(crate) fn begins_at(node: &cli::Node) -> Vec<Multiaddr> {
    #[cfg(feature = "kad")]
    return cli::domains::split(cli::all(&node.finding.dht.bootstrap)).0;
    #[cfg(not(feature = "kad"))]
    Vec::new()
}

/// What finds peers for a node. Cheap to clone; all clones are the same.
#[derive(Clone)]
pub(crate) struct Finder {
    discovery: Discovery,
    onward: Onward,
    finds: bool,
    /// Whom this command itself looks for, for as long as it runs.
    kept: Arc<Mutex<BTreeSet<PeerId>>>,
    /// Where this node listens.
    listening: Arc<Mutex<Vec<Multiaddr>>>,
    /// Where others reach it: confirmed addresses, those that the operator states, and circuits.
    reachable: Arc<Mutex<Vec<Multiaddr>>>,
    global: GlobalScope,
    /// Where anybody reaches it.
    #[cfg(feature = "kad")]
    reached: dht::Reached,
}

/// Whom hints go to.
#[derive(Clone)]
struct Onward {
    endpoint: Endpoint,
    reporter: Reporter,
    /// Of whom it was told, and by which source.
    told: Arc<Mutex<BTreeSet<(PeerId, Source)>>>,
}

impl Finder {
    /// Starts. Must be called within a tokio runtime. `reach`: what counts as public, and what is kept away.
    ///
    /// # Errors
    /// If the DHT cannot listen where it is to.
    pub(crate) async fn start(
        config: Config,
        reach: (GlobalScope, Ranges),
        endpoint: Endpoint,
        reporter: Reporter,
    ) -> Result<Self, StartError> {
        let finds = config.finds();
        #[cfg(feature = "kad")]
        let relays_only = config.relays_only;
        let (sources, patience) = config.seekers();
        let (discovery, mut hints) = Discovery::start(config)?;
        let (told, listening, reachable, kept) = Default::default();
        let sources = sources.into_iter().map(str::to_owned).collect();
        let sought = endpoint.found_by(sources, patience).await;
        let onward = Onward { endpoint, reporter, told };
        tokio::spawn(seek_all(sought, discovery.clone(), onward.clone(), Arc::clone(&kept)));
        #[cfg(feature = "kad")]
        if let Some(dht) = discovery.dht() {
            tokio::spawn(event::tell_all(dht.events(), onward.reporter.clone()));
        }
        let telling = onward.clone();
        tokio::spawn(async move {
            while let Some(hint) = hints.next().await {
                telling.tell(hint).await;
            }
        });
        #[cfg(feature = "kad")]
        let reached = dht::Reached::new(reach.0.clone(), reach.1, relays_only);
        Ok(Self {
            discovery,
            onward,
            finds,
            kept,
            listening,
            reachable,
            global: reach.0,
            #[cfg(feature = "kad")]
            reached,
        })
    }

    /// Finds nobody.
    #[cfg(test)]
    pub(crate) async fn silent(endpoint: &Endpoint) -> Self {
        let sources = Config::silent(endpoint.peer_id());
        Self::start(sources, Default::default(), endpoint.clone(), Reporter::none())
            .await
            .expect("what does not listen starts")
    }

    /// Looks for a peer from now on, and keeps a connection to it; `given`: where it is, by our operator.
    pub(crate) async fn seek(&self, peer: PeerId, given: Vec<Multiaddr>) {
        if !given.is_empty() {
            self.onward.endpoint.add_addresses(peer, given.clone()).await;
        }
        // Hints count only for who is wanted.
        self.onward.endpoint.hold(peer).await;
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).insert(peer);
        seek(&self.discovery, &self.onward, peer, given).await;
    }

    /// Keeps no connection to a peer any more, and looks for it no longer.
    #[cfg(feature = "kad")]
    pub(crate) async fn leave(&self, peer: PeerId) {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).remove(&peer);
        self.onward.endpoint.let_go(peer).await;
        self.discovery.forget(peer).await;
    }

    /// Says in the DHT what this node answers for.
    #[cfg(feature = "kad")]
    pub(crate) async fn serves(&self, services: Vec<String>) {
        if let Some(dht) = self.discovery.dht() {
            dht.says(self.reached.serves(services)).await;
        }
    }

    /// Where it tells everybody that it is.
    #[cfg(feature = "kad")]
    pub(crate) fn told(&self) -> Vec<Multiaddr> {
        self.reached.told()
    }

    /// The node's part in the DHT, if it takes any.
    #[cfg(feature = "kad")]
    pub(crate) fn dht(&self) -> Option<&punchline_discovery::kad::Dht> {
        self.discovery.dht()
    }

    /// Its node of the 160-bit network, while it takes part in one.
    #[cfg(feature = "mainline")]
    pub(crate) fn mainline(&self) -> Option<punchline_discovery::mainline::Mainline> {
        self.discovery.mainline()
    }

    /// Whether peers may be found whose addresses nobody gave.
    pub(crate) fn finds(&self) -> bool {
        self.finds
    }

    /// What is known of whom.
    pub(crate) async fn known(&self) -> Vec<Known> {
        self.discovery.known().await
    }

    /// Takes what an event says of where we and others are.
    pub(crate) async fn note(&self, event: &Event) {
        #[cfg(feature = "kad")]
        if let Some(dht) = self.discovery.dht()
            && let Some(contact) = self.reached.note(event)
        {
            dht.says(contact).await;
        }
        #[cfg(feature = "kad")]
        if let Some(dht) = self.discovery.dht()
            && let Event::AddressConfirmed { .. } | Event::AddressWithdrawn { .. } = event
        {
            dht.confirmed(self.reached.confirmed()).await;
        }
        match event {
            Event::Listening { address } => {
                let listening = self.listens(address.clone());
                self.discovery.publish(listening).await;
            }
            // What the operator states is told to everybody, whatever relays say.
            Event::CandidateFound { address, source: CandidateSource::Operator }
            | Event::ExternalUnanswered { address, .. }
                if !self.is_public(address) => {}
            Event::ReservationHeld { address, .. }
            | Event::AddressConfirmed { address, .. }
            | Event::CandidateFound { address, source: CandidateSource::Operator }
            | Event::ExternalUnanswered { address, .. } => {
                self.reached_at(|reachable| {
                    if !reachable.contains(address) {
                        reachable.push(address.clone());
                    }
                })
                .await;
            }
            Event::AddressWithdrawn { address } => {
                self.reached_at(|reachable| reachable.retain(|known| known != address)).await;
            }
            Event::ReservationLost { relay, .. } => {
                self.reached_at(|reachable| reachable.retain(|known| !leads_through(known, *relay)))
                    .await;
            }
            Event::ConnectionOpened { peer, direction: Direction::Outbound, address, .. } => {
                self.discovery.reached(*peer, address.clone()).await;
            }
            Event::PeerUnreachable { peer, .. } => self.discovery.missed(*peer),
            _ => {}
        }
    }

    fn is_public(&self, address: &Multiaddr) -> bool {
        match address.iter().next() {
            Some(Protocol::Ip4(ip)) => self.global.contains(ip.into()),
            Some(Protocol::Ip6(ip)) => self.global.contains(ip.into()),
            _ => false,
        }
    }

    /// Others reach this node elsewhere than before.
    async fn reached_at(&self, change: impl FnOnce(&mut Vec<Multiaddr>)) {
        let addresses = {
            let mut reachable = self.reachable.lock().unwrap_or_else(PoisonError::into_inner);
            change(&mut reachable);
            let surplus = reachable.len().saturating_sub(TOLD_MAX);
            reachable.drain(..surplus);
            reachable.clone()
        };
        self.discovery.reachable(addresses).await;
    }

    /// Ends, and returns when what is to be remembered is written down.
    pub(crate) async fn stop(&self) {
        self.discovery.stop().await;
    }

    fn listens(&self, address: Multiaddr) -> Vec<Multiaddr> {
        let mut listening = self.listening.lock().unwrap_or_else(PoisonError::into_inner);
        if !listening.contains(&address) {
            listening.push(address);
            let surplus = listening.len().saturating_sub(TOLD_MAX);
            listening.drain(..surplus);
        }
        listening.clone()
    }
}

/// Looks for a peer, and hands on what is known of it already.
async fn seek(discovery: &Discovery, onward: &Onward, peer: PeerId, given: Vec<Multiaddr>) {
    match discovery.seek(peer, given).await {
        Ok(hints) => {
            for hint in hints {
                onward.tell(hint).await;
            }
        }
        Err(full) => tracing::warn!(%full, %peer, "a peer is not looked for"),
    }
}

/// Looks for whomever this program opens streams to while no connection leads there, until the node ends.
async fn seek_all(
    mut sought: Sought,
    discovery: Discovery,
    onward: Onward,
    kept: Arc<Mutex<BTreeSet<PeerId>>>,
) {
    let mut passing = Passing::default();
    loop {
        let peers = tokio::select! {
            peers = sought.changed() => match peers {
                Some(peers) => Some(peers),
                None => return,
            },
            () = sleep_until(passing.poll_timeout()) => None,
        };
        let now = Instant::now();
        if let Some(peers) = peers {
            for (peer, again) in passing.wanted(&peers, now) {
                seek(&discovery, &onward, peer, Vec::new()).await;
                if again {
                    discovery.missed(peer);
                }
            }
        }
        for peer in passing.take_over(now) {
            if !kept.lock().unwrap_or_else(PoisonError::into_inner).contains(&peer) {
                discovery.forget(peer).await;
            }
        }
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

fn leads_through(address: &Multiaddr, relay: PeerId) -> bool {
    let circuit = address.iter().any(|part| part == Protocol::P2pCircuit);
    circuit && address.iter().any(|part| part == Protocol::P2p(relay))
}

impl Onward {
    /// The endpoint decides what to do with it.
    async fn tell(&self, hint: Hint) {
        let Hint { peer, addresses, source, .. } = hint;
        let by = match source {
            // It was told with the peer.
            Source::Static => return,
            Source::ThisHost => HintSource::ThisHost,
            Source::LocalNetwork => HintSource::LocalNetwork,
            Source::Kad => HintSource::Contact,
            // What the peer signed elsewhere is no more than what this host remembers: it may be over, and private
            // addresses count only where this host is in their network.
            Source::Cache | Source::Mainline | Source::Pkarr => HintSource::Memory,
            // The same is true of what domains and meeting points say.
            Source::Dns | Source::Rendezvous => HintSource::Memory,
        };
        if self.told.lock().unwrap_or_else(PoisonError::into_inner).insert((peer, source)) {
            let (source, addresses) = (source.name(), addresses.clone());
            self.reporter.report(GatewayEvent::PeerFound { peer, source, addresses });
        }
        self.endpoint.hint(peer, addresses, by).await;
    }
}
