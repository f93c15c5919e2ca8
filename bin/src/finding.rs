//! Finds peers for a node: hands what is found to its endpoint, and tells others where the node is.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

use libp2p::{Multiaddr, PeerId};
use punchline_bridge::{Endpoint, Event, addr::HintSource, path::Direction};
use punchline_discovery::{Config, Discovery, Hint, Known, Source};

#[cfg(feature = "mdns")]
use crate::cli::Mdns;
#[cfg(feature = "peer-cache")]
use crate::cli::PeerCache;
use crate::{Context, cli, gateway::event::GatewayEvent, report::Reporter};

/// Addresses of ours that are told: a host of containers has dozens.
const TOLD_MAX: usize = 64;

/// Which sources the settings want.
#[cfg_attr(
    not(any(feature = "mdns", feature = "peer-cache")),
    allow(unused_variables, unused_mut, clippy::needless_pass_by_value)
)]
pub(crate) fn sources(settings: &cli::Finding, context: &Context) -> Config {
    let mut config = Config::new(context.keypair.public().to_peer_id());
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
    config
}

/// What finds peers for a node. Cheap to clone; all clones are the same.
#[derive(Clone)]
pub(crate) struct Finder {
    discovery: Discovery,
    onward: Onward,
    finds: bool,
    /// Where this node listens.
    listening: Arc<Mutex<Vec<Multiaddr>>>,
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
    /// Starts. Must be called within a tokio runtime.
    pub(crate) fn start(config: Config, endpoint: Endpoint, reporter: Reporter) -> Self {
        let finds = config.finds();
        let (discovery, mut hints) = Discovery::start(config);
        let (told, listening) = Default::default();
        let onward = Onward { endpoint, reporter, told };
        let telling = onward.clone();
        tokio::spawn(async move {
            while let Some(hint) = hints.next().await {
                telling.tell(hint).await;
            }
        });
        Self { discovery, onward, finds, listening }
    }

    /// Finds nobody.
    #[cfg(test)]
    pub(crate) fn silent(endpoint: &Endpoint) -> Self {
        let sources = Config::silent(endpoint.peer_id());
        Self::start(sources, endpoint.clone(), Reporter::none())
    }

    /// Looks for a peer from now on, and keeps a connection to it; `given`: where it is, by our operator.
    pub(crate) async fn seek(&self, peer: PeerId, given: Vec<Multiaddr>) {
        if !given.is_empty() {
            self.onward.endpoint.add_addresses(peer, given.clone()).await;
        }
        // Hints count only for who is wanted.
        self.onward.endpoint.hold(peer).await;
        match self.discovery.seek(peer, given).await {
            Ok(hints) => {
                for hint in hints {
                    self.onward.tell(hint).await;
                }
            }
            Err(full) => tracing::warn!(%full, %peer, "a peer is not looked for"),
        }
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
        match event {
            Event::Listening { address } => {
                let listening = self.listens(address.clone());
                self.discovery.publish(listening).await;
            }
            Event::ConnectionOpened { peer, direction: Direction::Outbound, address, .. } => {
                self.discovery.reached(*peer, address.clone()).await;
            }
            _ => {}
        }
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

impl Onward {
    /// The endpoint decides what to do with it.
    async fn tell(&self, hint: Hint) {
        let Hint { peer, addresses, source, .. } = hint;
        let by = match source {
            // It was told with the peer.
            Source::Static => return,
            Source::ThisHost => HintSource::ThisHost,
            Source::LocalNetwork => HintSource::LocalNetwork,
            Source::Cache => HintSource::Memory,
        };
        if self.told.lock().unwrap_or_else(PoisonError::into_inner).insert((peer, source)) {
            let (source, addresses) = (source.name(), addresses.clone());
            self.reporter.report(GatewayEvent::PeerFound { peer, source, addresses });
        }
        self.endpoint.hint(peer, addresses, by).await;
    }
}
