//! Nodes and relays on loopback, and waiting for what they say.

use std::{future::Future, time::Duration};

use libp2p::identity::Keypair;
use punchline_bridge::{
    Config, Endpoint, Event, Events, Incoming, Multiaddr, PeerId, RelayAddr, Service, Stream,
    addr::GlobalScope,
    relay::{External, Relay, RelayConfig},
};

/// Longest wait for anything: far above what it takes, so that only a hang ends here.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub const TCP: &str = "/ip4/127.0.0.1/tcp/0";
pub const QUIC: &str = "/ip4/127.0.0.1/udp/0/quic-v1";

/// Waits for `future`, and says what was waited for if it does not come.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(output) => output,
        Err(_) => panic!("waited {PATIENCE:?} in vain: {what}"),
    }
}

/// The first event that `pick` takes.
pub async fn until<T>(
    events: &mut Events,
    what: &str,
    mut pick: impl FnMut(&Event) -> Option<T>,
) -> T {
    within(what, async {
        loop {
            let event = events.next().await.unwrap_or_else(|| panic!("the node ended before: {what}"));
            if let Some(picked) = pick(&event) {
                return picked;
            }
        }
    })
    .await
}

pub fn service() -> Service {
    "echo".parse().unwrap()
}

/// A configuration for loopback: one listen address, loopback counts as public.
pub fn config(listen: &str) -> Config {
    Config {
        listen: vec![listen.parse().unwrap()],
        global: GlobalScope::with_assumed(vec![
            "127.0.0.0/8".parse().unwrap(),
            "::1/128".parse().unwrap(),
        ]),
        ..Config::default()
    }
}

/// A node and its events since the start.
pub struct Node {
    pub endpoint: Endpoint,
    pub events: Events,
}

impl Node {
    pub async fn start(config: Config) -> Self {
        Self::start_as(config, Keypair::generate_ed25519()).await
    }

    pub async fn start_as(config: Config, keypair: Keypair) -> Self {
        let (endpoint, events) = Endpoint::start(config, keypair).await.unwrap();
        Self { endpoint, events }
    }

    pub fn id(&self) -> PeerId {
        self.endpoint.peer_id()
    }

    /// Waits for a reservation with `relay`; its circuit address is returned.
    pub async fn reserve(&mut self, relay: &RelayAddr) -> Multiaddr {
        self.endpoint.reserve(relay.clone()).await;
        self.held().await
    }

    pub async fn held(&mut self) -> Multiaddr {
        until(&mut self.events, "a reservation", |event| match event {
            Event::ReservationHeld { address, .. } => Some(address.clone()),
            _ => None,
        })
        .await
    }

    /// Answers for the service with an echo, for as long as the node lives.
    pub async fn echo(&self) {
        let incoming = self.endpoint.incoming(service()).await.unwrap();
        tokio::spawn(echo(incoming));
    }

    pub async fn open(&self, peer: PeerId) -> Stream {
        within("a stream", self.endpoint.open(peer, service())).await.unwrap()
    }
}

async fn echo(mut incoming: Incoming) {
    while let Some(stream) = incoming.next().await {
        tokio::spawn(async move {
            let (mut read, mut write) = tokio::io::split(stream);
            let _ = tokio::io::copy(&mut read, &mut write).await;
            let _ = tokio::io::AsyncWriteExt::shutdown(&mut write).await;
        });
    }
}

/// A relay's settings for loopback: any port, reachable where it listens.
pub fn relay_config(listen: &str) -> RelayConfig {
    RelayConfig { listen: vec![listen.parse().unwrap()], external: External::Observed, ..Default::default() }
}

/// A relay, its events, and the address that leads to it.
pub struct RelayNode {
    pub relay: Relay,
    pub events: Events,
    pub address: RelayAddr,
}

impl RelayNode {
    pub async fn start(config: RelayConfig) -> Self {
        Self::start_as(config, Keypair::generate_ed25519()).await
    }

    pub async fn start_as(config: RelayConfig, keypair: Keypair) -> Self {
        let (relay, events) = Relay::start(config, keypair).await.unwrap();
        let address = relay.listening()[0].clone().with_p2p(relay.peer_id()).unwrap();
        let address = RelayAddr::new(address).unwrap();
        Self { relay, events, address }
    }
}

/// Whether the event says that `peer` is now reached directly.
pub fn upgraded(event: &Event, wanted: PeerId) -> Option<(u64, u32)> {
    match event {
        Event::UpgradeSucceeded { peer, took_ms, attempts, .. } if *peer == wanted => {
            Some((*took_ms, *attempts))
        }
        _ => None,
    }
}
