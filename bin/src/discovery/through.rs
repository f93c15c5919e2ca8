//! By what the DHT is reached: a node that runs here, or a part of this command's own in it.

use libp2p::identity::Keypair;
use punchline_bridge::addr::{GlobalScope, Ranges};
use punchline_discovery::{
    Network,
    kad::{Config, Dht, Event, Mode},
};
use tokio::{sync::broadcast::error::RecvError, time::timeout};
use tonic::{Code, Response, Status};

use crate::{
    Context,
    cli::{self, Asking, discovery::Through},
    control::{self, discovery, proto},
    finding::dht,
};

/// A way to the DHT.
pub(super) enum Way {
    /// A node that runs here. Each question finds it anew: it may have been started again.
    Node(Asking),
    /// Of this command.
    Own(Dht),
}

impl Way {
    /// `context`: as whom; without it, as nobody in particular.
    ///
    /// # Errors
    /// If the DHT is not joined in time.
    pub(super) async fn to(through: &Through, context: Option<&Context>) -> anyhow::Result<Self> {
        let bootstrap = cli::all(&through.bootstrap);
        if bootstrap.is_empty() {
            return Ok(Self::Node(through.asking.clone()));
        }
        let keypair = context.map_or_else(Keypair::generate_ed25519, |context| context.keypair.clone());
        let global = GlobalScope::with_assumed(cli::all(&through.assume_global));
        let (bootstrap, names) = dht::begun_at(bootstrap);
        let policy = dht::policy(global, Ranges::default());
        let dht = Dht::start(Config {
            mode: Mode::Client,
            bootstrap,
            names,
            number: context.map(|context| context.dht_number.clone()),
            ..Config::new(keypair, dht::network(&through.dht_network)?, policy)
        })?;
        let patience = through.timeout.duration();
        match timeout(patience, joined(&dht)).await {
            Ok(()) => Ok(Self::Own(dht)),
            Err(_) => anyhow::bail!(
                "the DHT is not joined within {} s; see that a node is at the --bootstrap address, that it is of --dht-network {}, and \
                 that nothing blocks the way: `punchline doctor reach ADDR` tells",
                patience.as_secs(),
                through.dht_network
            ),
        }
    }

    pub(super) fn is_own(&self) -> bool {
        matches!(self, Self::Own(_))
    }

    /// Of which network the DHT is.
    pub(super) async fn network(&self) -> anyhow::Result<Network> {
        let name = match self {
            Self::Own(dht) => dht.status().await.map(|status| status.network),
            Self::Node(asking) => {
                let mut node = control::ask(asking).await?;
                let status =
                    node.get_status(proto::GetStatusRequest {}).await.map_err(|error| told(&error))?;
                status.into_inner().dht.map(|dht| dht.network)
            }
        };
        let none = "this node takes no part in a DHT; start it with --bootstrap <a node of it>, or say --bootstrap here";
        Ok(name.ok_or_else(|| anyhow::anyhow!(none))?.parse()?)
    }

    pub(super) async fn put(&self, request: proto::PutRequest) -> anyhow::Result<proto::Stored> {
        match self {
            Self::Own(dht) => answer(discovery::put(dht, request).await),
            Self::Node(asking) => asked(control::ask_for_lookups(asking).await?.put(request).await),
        }
    }

    pub(super) async fn get(&self, request: proto::GetRequest) -> anyhow::Result<proto::Got> {
        match self {
            Self::Own(dht) => answer(discovery::get(dht, request).await),
            Self::Node(asking) => asked(control::ask_for_lookups(asking).await?.get(request).await),
        }
    }

    /// As [`get`](Self::get), but nothing where nobody keeps it.
    pub(super) async fn get_any(
        &self,
        request: proto::GetRequest,
    ) -> anyhow::Result<Option<proto::Got>> {
        let found = match self {
            Self::Own(dht) => discovery::get(dht, request).await,
            Self::Node(asking) => {
                control::ask_for_lookups(asking).await?.get(request).await.map(Response::into_inner)
            }
        };
        match found {
            Err(error) if error.code() == Code::NotFound => Ok(None),
            found => answer(found).map(Some),
        }
    }

    pub(super) async fn provide(
        &self,
        request: proto::ProvideRequest,
    ) -> anyhow::Result<proto::Provided> {
        match self {
            Self::Own(dht) => answer(discovery::provide(dht, request).await),
            Self::Node(asking) => asked(control::ask_for_lookups(asking).await?.provide(request).await),
        }
    }

    pub(super) async fn providers(
        &self,
        request: proto::ListProvidersRequest,
    ) -> anyhow::Result<proto::Providers> {
        match self {
            Self::Own(dht) => answer(discovery::providers(dht, request).await),
            Self::Node(asking) => {
                asked(control::ask_for_lookups(asking).await?.list_providers(request).await)
            }
        }
    }

    pub(super) async fn find_peer(
        &self,
        request: proto::FindPeerRequest,
    ) -> anyhow::Result<proto::Contact> {
        match self {
            Self::Own(dht) => {
                let peer = request.peer.parse().map_err(|error| anyhow::anyhow!("{error}"))?;
                answer(discovery::find_peer(dht, peer).await)
            }
            Self::Node(asking) => {
                asked(control::ask_for_lookups(asking).await?.find_peer(request).await)
            }
        }
    }

    /// Nothing is left of it.
    pub(super) async fn stop(self) {
        if let Self::Own(dht) = self {
            dht.stop().await;
        }
    }
}

/// Until it has found its neighbourhood.
async fn joined(dht: &Dht) {
    let mut events = dht.events();
    loop {
        match events.recv().await {
            Ok(Event::Joined { .. }) => return,
            Ok(_) | Err(RecvError::Lagged(_)) => {}
            // Whoever waits has a deadline.
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }
}

fn asked<T>(answered: Result<Response<T>, Status>) -> anyhow::Result<T> {
    answer(answered.map(Response::into_inner))
}

fn answer<T>(answered: Result<T, Status>) -> anyhow::Result<T> {
    answered.map_err(|error| told(&error))
}

fn told(error: &Status) -> anyhow::Error {
    match error.code() {
        Code::Unimplemented => {
            anyhow::anyhow!("a relay takes no part in a DHT; ask another node, or say --bootstrap")
        }
        _ => anyhow::anyhow!("{}", error.message()),
    }
}
