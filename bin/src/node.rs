//! What server and client have in common: a bridge endpoint, its reservations, its events.

use std::{collections::BTreeSet, time::Duration};

use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};
use punchline_bridge::{
    Config, Endpoint, RelayLocator,
    addr::{self, GlobalScope, Ranges},
    config::{PortMapping, Upgrades},
    proxy::Proxy,
    status::Purpose,
};
use tokio::{
    task::{JoinHandle, JoinSet},
    time::{Instant, sleep},
};

use crate::{
    Context, Unusable, access, cautions,
    cli::{self, ListenAddr, ProxyUrl, RelayMode},
    control::{Answering, Board, Bound, Control, Files, Keeper, Reloader, Wellness},
    finding::{self, Finder},
    metrics::serve::{self, Serving, Subject},
    page, stop, supervised,
};
#[cfg(feature = "kad")]
use crate::{
    control::DhtKeeper,
    verify::{Subject as VerifiedSubject, Verifier},
};

/// A started node.
pub struct Node {
    /// Its face.
    pub endpoint: Endpoint,
    /// The relays it was given.
    pub relays: Vec<RelayLocator>,
    /// Where others reach it, as its operator says.
    external: Vec<Multiaddr>,
    /// What its command does, for those who ask.
    pub(crate) board: Board,
    /// What finds peers for it.
    pub(crate) finder: Finder,
    answering: Answering,
    announcing: JoinSet<()>,
    events: JoinHandle<()>,
    /// Has its files read again.
    pub(crate) reloader: Reloader,
    reloads: JoinHandle<()>,
    supervised: JoinHandle<()>,
    _control: Option<Control>,
    _metrics: Option<Serving>,
    _page: Option<page::Serving>,
}

/// Whom a node is to find.
#[derive(Debug, Default)]
pub struct Wanted {
    /// The peers; none if it is to be found itself.
    pub peers: BTreeSet<PeerId>,
    /// How long a stream to one may take to come about, if not as long as the bridge says.
    pub within: Option<Duration>,
}

/// Between two looks whether the node is usable by now: a tenth of the time that it was looked for, within these. Somebody
/// waits for it at the start; a node that is not usable for hours should not be asked all the time.
const LOOK_INTERVAL: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));
const LOOKS: u32 = 10;

/// The ranges that the settings and their file say.
///
/// # Errors
/// If the file cannot be used.
pub(crate) fn ranges(nets: &cli::Nets) -> Result<Ranges, Unusable> {
    access::ranges(nets).map_err(|error| Unusable(error.to_string()))
}

/// The service that Kaspa sessions are opened for.
pub const KASPA_SERVICE: &str = "kaspa-p2p";

impl Node {
    /// Starts an endpoint, reserves at the circuit addresses it is to listen on, and reports its events. `wanted`: the peers
    /// that it is to find, and within which time.
    ///
    /// # Errors
    /// If an address or the control socket cannot be listened on, or the proxy is none.
    pub async fn start(settings: &cli::Node, context: &Context, wanted: Wanted) -> anyhow::Result<Self> {
        let hangups = stop::reloads();
        let Places { listen, reserve, relays } = Places::of(settings)?;
        let global = GlobalScope::with_assumed(cli::all(&settings.assume_global));
        let ranges = ranges(&settings.nets)?;
        let external = settings.external().map_err(Unusable)?;
        cautions::of_external(&external, &listen, &global);
        let mut config =
            Config { listen, external: external.clone(), global, ranges, ..Config::default() };
        config.port_mapping = match settings.port_mapping().map_err(Unusable)? {
            cli::PortMapping::On => PortMapping::On,
            cli::PortMapping::Off => PortMapping::Off,
        };
        if !settings.enable_hole_punching {
            config.upgrades = Upgrades::WhenTold;
        }
        config.stun_servers = cli::all(&settings.stun_server);
        config.relay_mode = settings.relay_mode.into();
        config.proxy = proxy(&settings.proxy)?;
        tell_of_proxy(config.proxy.as_ref(), &relays);
        config.limits.streams_per_peer = settings.max_streams_per_peer;
        config.limits.streams_of_peers = settings.max_streams_of_peers;
        config.streams.patience = settings.patience.duration();
        config.deadlines.open = wanted.within.unwrap_or(config.deadlines.open);
        config.journal = settings.journal.clone();
        cautions::of_root(settings.rights.allow_root);
        // What is wrong on this machine is said before any peer is bothered.
        let control = Bound::new(settings.control.as_ref(), &context.control).await?;
        let metrics = serve::Bound::new(&settings.metrics).await?;
        let page = page::Bound::new(&settings.page).await?;
        let limits = config.limits.clone();
        let (endpoint, mut events) = Endpoint::start(config, context.keypair.clone()).await?;
        let told = relays.iter().map(RelayLocator::address);
        let told = told.chain(finding::begins_at(settings)).chain(external.iter().cloned());
        cautions::of_loopback(endpoint.listening(), told);
        let reporter = context.reporter.clone();
        #[cfg(feature = "kad")]
        let (of_verifier, proxied) = (finding::reach(settings)?, proxy(&settings.proxy)?);
        #[cfg(feature = "kad")]
        let network = finding::dht::network(&settings.finding.dht.dht_network)?;
        let (sources, reach) = (finding::sources(settings, context)?, finding::reach(settings)?);
        #[cfg(feature = "kad")]
        let global = reach.0.clone();
        let finder = Finder::start(sources, reach, endpoint.clone(), reporter.clone()).await?;
        let keeper = Keeper::Node(endpoint.clone());
        #[cfg(feature = "kad")]
        let keeper = match finder.dht().cloned() {
            Some(dht) => Keeper::NodeInDht(endpoint.clone(), DhtKeeper { dht, global }),
            None => keeper,
        };
        // Whoever reads the events learns that the node listens before anything comes of it.
        if let Some(listening) = events.next().await {
            finder.note(&listening).await;
            reporter.report(listening);
        }
        let noting = finder.clone();
        let events = tokio::spawn(async move {
            while let Some(event) = events.next().await {
                noting.note(&event).await;
                reporter.report(event);
            }
        });
        for relay in relays.iter().filter_map(RelayLocator::peer) {
            context.reporter.names_relay(relay);
        }
        endpoint.reserve_all(reserve).await;
        let command = context.command;
        let board = Board::default();
        let files = Files {
            nets: settings.nets.clone(),
            keeper,
            names: context.names.clone(),
            reporter: context.reporter.clone(),
        };
        let (reloader, reloads) = Reloader::start(files.clone(), board.clone(), hangups);
        let purpose = match wanted.peers.is_empty() {
            true => Purpose::BeFound { by_relays: !relays.is_empty() },
            false => Purpose::Find(wanted.peers),
        };
        #[cfg(feature = "kad")]
        let verifier = finder.dht().cloned().map(|dht| {
            let (global, ranges) = of_verifier;
            Verifier::new(VerifiedSubject {
                dht,
                network,
                endpoint: endpoint.clone(),
                finder: finder.clone(),
                purpose: purpose.clone(),
                proxy: proxied,
                global,
                ranges,
                reporter: context.reporter.clone(),
            })
        });
        let answering = Answering {
            endpoint: endpoint.clone(),
            command,
            purpose,
            named: relays.clone().into(),
            reporter: context.reporter.clone(),
            board: board.clone(),
            finder: finder.clone(),
            files,
            reloader: reloader.clone(),
            #[cfg(feature = "kad")]
            verifier,
        };
        let (asked, node) = (answering.clone(), endpoint.clone());
        let supervised = tokio::spawn(supervised::attend(async move || {
            node.status().await.map(|status| asked.hindrance(&status))
        }));
        let subject = Subject::Node { node: Box::new(answering.clone()), limits: Box::new(limits) };
        let metrics = metrics.map(|bound| bound.serve(subject, command, &context.reporter));
        let page = page.map(|bound| bound.serve(answering.clone(), &context.reporter, &context.shown));
        let health = Wellness::Node(Box::new(answering.clone()));
        let control = control.map(|bound| bound.serve(answering.clone(), health));
        let (_control, _metrics, _page) = (control, metrics, page);
        #[cfg_attr(not(feature = "kad"), allow(unused_mut))]
        let mut announcing = JoinSet::new();
        #[cfg(feature = "kad")]
        if let Some(verifier) = answering.verifier.clone() {
            announcing.spawn(verifier.keep_verifying());
        }
        Ok(Self {
            endpoint,
            relays,
            external,
            board,
            answering,
            announcing,
            finder,
            events,
            reloader,
            reloads,
            supervised,
            _control,
            _metrics,
            _page,
        })
    }

    /// Says in the DHT that this node is in the namespaces that the settings name, and in those of `more`; and, unless they
    /// are secret, what it answers for.
    ///
    /// # Errors
    /// If one cannot be a namespace.
    #[cfg_attr(not(feature = "kad"), allow(clippy::unused_async, unused_variables))]
    pub(crate) async fn join_namespaces(
        &self,
        settings: &cli::Node,
        more: &[String],
        services: Vec<String>,
    ) -> Result<(), Unusable> {
        #[cfg(feature = "kad")]
        if let Some(dht) = self.finder.dht() {
            let space = finding::members::Space::of(settings)?;
            let mut namespaces = finding::members::namespaces(settings)?;
            namespaces.extend(space.namespaces(more)?);
            if !namespaces.is_empty() && space.is_public() {
                self.finder.serves(services).await;
            }
            for namespace in namespaces {
                dht.join(namespace).await;
            }
        }
        Ok(())
    }

    /// What verifies its discovery, if it takes part in a DHT.
    #[cfg(feature = "kad")]
    pub(crate) fn verifier(&self) -> Option<&Verifier> {
        self.answering.verifier.as_ref()
    }

    /// Says this, once, when the node is usable.
    pub(crate) fn say_when_usable(&mut self, lines: Vec<String>) {
        let node = self.answering.clone();
        self.announcing.spawn(async move {
            let begun = Instant::now();
            while let Some(status) = node.endpoint.status().await {
                if node.hindrance(&status).is_none() {
                    return node.reporter.say_ready(&lines);
                }
                sleep((begun.elapsed() / LOOKS).clamp(LOOK_INTERVAL.0, LOOK_INTERVAL.1)).await;
            }
        });
    }

    /// What a command elsewhere is to be told so that it finds this node: its relays, and its own addresses.
    pub fn ways(&self) -> String {
        let addresses = self.addresses();
        if self.relays.is_empty() && addresses.is_empty() {
            return " --addr <an address of this node>".to_owned();
        }
        let relays = self.relays.iter().map(|relay| format!(" --relay {relay}"));
        relays.chain(addresses.iter().map(|address| format!(" --addr {address}"))).collect()
    }

    /// Where others find it without a relay: where its operator says. And unless it has relays, where it listens: there hosts
    /// nearby find it, or only this one if it listens nowhere else.
    pub fn addresses(&self) -> Vec<Multiaddr> {
        let mut addresses = self.external.clone();
        if self.relays.is_empty() {
            let all = self.endpoint.listening().iter().filter(|at| addr::peer_dialable(at).is_ok());
            let (here, nearby): (Vec<_>, Vec<_>) = all.cloned().partition(is_loopback);
            addresses.extend(if nearby.is_empty() { here } else { nearby });
        }
        addresses.truncate(ADDRESSES_MAX);
        addresses
    }

    /// Closes the endpoint; its last event is reported when this returns.
    pub async fn shutdown(mut self) {
        self.announcing.shutdown().await;
        self.reloads.abort();
        self.supervised.abort();
        self.endpoint.shutdown().await;
        self.finder.stop().await;
        drop((self.endpoint, self.finder));
        let _ = self.events.await;
    }
}

/// The answer to `--check` of a command with a node.
///
/// # Errors
/// If a file or the proxy is wrong, or the control socket cannot be where it is to be.
pub(crate) fn check(settings: &cli::Node) -> anyhow::Result<()> {
    ranges(&settings.nets)?;
    proxy(&settings.proxy)?;
    settings.port_mapping().map_err(Unusable)?;
    settings.external().map_err(Unusable)?;
    #[cfg(feature = "kad")]
    finding::members::namespaces(settings)?;
    Bound::check(settings.control.as_ref())?;
    crate::usable()
}

/// Addresses of a node that a command elsewhere is told: more make it unwieldy.
const ADDRESSES_MAX: usize = 4;

/// Whether it leads to this machine alone.
pub(crate) fn is_loopback(address: &Multiaddr) -> bool {
    match address.iter().next() {
        Some(Protocol::Ip4(ip)) => ip.is_loopback(),
        Some(Protocol::Ip6(ip)) => ip.is_loopback(),
        _ => false,
    }
}

/// The proxy that relays are to be reached through.
///
/// # Errors
/// If the one that our own settings name is none. The variables of the system are for other programs too.
pub(crate) fn proxy(flags: &cli::ProxyFlags) -> Result<Option<Proxy>, Unusable> {
    let system = &flags.system_proxy;
    let exceptions = flags.no_proxy.as_deref().unwrap_or(&system.exceptions);
    let read = |url: &ProxyUrl| Proxy::new(url.reveal(), exceptions);
    match (&flags.proxy, &system.proxy) {
        (Some(url), _) if url.reveal() == "off" => Ok(None),
        (Some(url), _) => read(url).map(Some).map_err(|error| Unusable(format!("--proxy {error}"))),
        (None, Some(url)) => {
            Ok(read(url).inspect_err(|error| tracing::warn!("HTTPS_PROXY {error}")).ok())
        }
        (None, None) => Ok(None),
    }
}

/// Whoever looks for why a relay is not reached should know of it.
fn tell_of_proxy(proxy: Option<&Proxy>, relays: &[RelayLocator]) {
    let is_web = |relay: &RelayLocator| addr::is_websocket(&relay.address());
    if let Some(proxy) = proxy.filter(|_| relays.iter().any(is_web)) {
        tracing::info!(
            "relays whose addresses end in /ws or /wss are reached through the proxy {proxy}"
        );
    }
}

/// Where a node is to be reached, taken apart.
pub(crate) struct Places {
    /// On this machine.
    listen: Vec<Multiaddr>,
    /// At these relays: a circuit address to listen on means to reserve there.
    reserve: Vec<RelayLocator>,
    /// All relays that were named, those of `reserve` included.
    pub(crate) relays: Vec<RelayLocator>,
}

impl Places {
    /// An error if relays are named although none is to be used.
    pub(crate) fn of(settings: &cli::Node) -> Result<Self, Unusable> {
        let (mut listen, mut reserve) = (Vec::new(), Vec::new());
        for address in cli::all(&settings.listen) {
            match address {
                ListenAddr::At(address) => listen.push(address),
                ListenAddr::Reserve(relay) => reserve.push(relay),
            }
        }
        let mut relays = cli::all(&settings.relay);
        relays.extend(reserve.iter().cloned());
        if let Some(relay) = relays.first().filter(|_| settings.relay_mode == RelayMode::Off) {
            return Err(Unusable(format!(
                "--relay-mode off uses no relay, but {relay} is given; leave out --relay (and circuit addresses in \
                 --listen), or say --relay-mode coordination or fallback"
            )));
        }
        Ok(Self { listen, reserve, relays })
    }
}
