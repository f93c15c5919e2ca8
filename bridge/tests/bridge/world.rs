//! Nodes and relays on loopback, and waiting for what they say.

use std::{future::Future, path::PathBuf, time::Duration};

use libp2p::identity::Keypair;
use punchline_bridge::{
    Config, Endpoint, Event, Events, Incoming, Multiaddr, Path, PeerId, RelayAddr, Service, Stream,
    addr::GlobalScope,
    config::Upgrades,
    event::Asked,
    path::Direction,
    relay::{External, Relay, RelayConfig, StunListen},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Longest wait for anything: far above what it takes, so that only a hang ends here.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) const TCP: &str = "/ip4/127.0.0.1/tcp/0";
pub(crate) const QUIC: &str = "/ip4/127.0.0.1/udp/0/quic-v1";
pub(crate) const TCP6: &str = "/ip6/::1/tcp/0";
pub(crate) const QUIC6: &str = "/ip6/::1/udp/0/quic-v1";

/// Waits for `future`, and says what was waited for if it does not come.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(output) => output,
        Err(_) => panic!("waited {PATIENCE:?} in vain: {what}"),
    }
}

/// The first event that `pick` takes.
pub(crate) async fn until<T>(
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

pub(crate) fn service() -> Service {
    "echo".parse().unwrap()
}

/// Loopback counts as public.
fn loopback() -> GlobalScope {
    GlobalScope::with_assumed(vec!["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()])
}

/// A configuration for loopback with one listen address.
pub(crate) fn config(listen: &str) -> Config {
    Config { listen: vec![listen.parse().unwrap()], global: loopback(), ..Config::default() }
}

/// As [`config`], but nobody allows punches, so what began on a relay stays there.
pub(crate) fn unpunchable(listen: &str) -> Config {
    Config { upgrades: Upgrades::WhenTold, ..config(listen) }
}

/// A node and its events since the start.
pub(crate) struct Node {
    pub(crate) endpoint: Endpoint,
    pub(crate) events: Events,
}

impl Node {
    pub(crate) async fn start(config: Config) -> Self {
        Self::start_as(config, Keypair::generate_ed25519()).await
    }

    pub(crate) async fn start_as(mut config: Config, keypair: Keypair) -> Self {
        config.journal = journal(keypair.public().to_peer_id());
        let (endpoint, events) = Endpoint::start(config, keypair).await.unwrap();
        Self { endpoint, events }
    }

    pub(crate) fn id(&self) -> PeerId {
        self.endpoint.peer_id()
    }

    /// Waits for a reservation with `relay`; its circuit address is returned.
    pub(crate) async fn reserve(&mut self, relay: &RelayAddr) -> Multiaddr {
        self.endpoint.reserve(relay.clone()).await;
        self.held().await
    }

    pub(crate) async fn held(&mut self) -> Multiaddr {
        until(&mut self.events, "a reservation", |event| match event {
            Event::ReservationHeld { address, .. } => Some(address.clone()),
            _ => None,
        })
        .await
    }

    /// Answers for the service with an echo, for as long as the node lives.
    pub(crate) async fn echo(&self) {
        let incoming = self.endpoint.incoming(service()).await.unwrap();
        tokio::spawn(echo(incoming));
    }

    pub(crate) async fn open(&self, peer: PeerId) -> Stream {
        within("a stream", self.endpoint.open(peer, service())).await.unwrap()
    }
}

/// Where a node's journal goes if the folder `JOURNALS` wants it: named after the running test.
fn journal(peer: PeerId) -> Option<PathBuf> {
    let folder = PathBuf::from(std::env::var_os("JOURNALS")?);
    let test = std::thread::current().name().unwrap_or("test").replace("::", "-");
    let peer = peer.to_base58();
    Some(folder.join(format!("{test}-{}.jsonl", &peer[peer.len() - 4..])))
}

async fn echo(mut incoming: Incoming) {
    while let Some(stream) = incoming.next().await {
        tokio::spawn(async move {
            let (mut read, mut write) = tokio::io::split(stream);
            let _ = tokio::io::copy(&mut read, &mut write).await;
            let _ = write.shutdown().await;
        });
    }
}

/// A relay's settings for loopback: any port, reachable where it listens.
pub(crate) fn relay_config(listen: &str) -> RelayConfig {
    RelayConfig {
        listen: vec![listen.parse().unwrap()],
        external: External::Observed,
        global: loopback(),
        stun: StunListen::Off,
        ..RelayConfig::default()
    }
}

/// A relay, its events, and the address that leads to it.
pub(crate) struct RelayNode {
    pub(crate) relay: Relay,
    pub(crate) events: Events,
    pub(crate) address: RelayAddr,
}

impl RelayNode {
    pub(crate) async fn start(config: RelayConfig) -> Self {
        Self::start_as(config, Keypair::generate_ed25519()).await
    }

    pub(crate) async fn start_as(config: RelayConfig, keypair: Keypair) -> Self {
        let (relay, events) = Relay::start(config, keypair).await.unwrap();
        let address = relay.listening()[0].clone().with_p2p(relay.peer_id()).unwrap();
        let address = RelayAddr::new(address).unwrap();
        Self { relay, events, address }
    }
}

/// A relay, a server with a reservation that echoes, and a client that knows the circuit.
pub(crate) async fn through_a_relay(relay: RelayConfig) -> (RelayNode, Node, Node) {
    let nodes = config(&relay.listen[0].to_string());
    through_a_relay_with(relay, nodes).await
}

pub(crate) async fn through_a_relay_with(relay: RelayConfig, nodes: Config) -> (RelayNode, Node, Node) {
    let relay = RelayNode::start(relay).await;
    let mut server = Node::start(nodes.clone()).await;
    let circuit = server.reserve(&relay.address).await;
    server.echo().await;
    let client = Node::start(nodes).await;
    client.endpoint.add_addresses(server.id(), vec![circuit]).await;
    (relay, server, client)
}

/// A server that echoes and a client that knows its direct address.
pub(crate) async fn pair(listen: &str) -> (Node, Node) {
    pair_with(config(listen), config(listen)).await
}

pub(crate) async fn pair_with(server: Config, client: Config) -> (Node, Node) {
    let server = Node::start(server).await;
    server.echo().await;
    let client = Node::start(client).await;
    client.endpoint.add_addresses(server.id(), server.endpoint.listening().to_vec()).await;
    (server, client)
}

/// Sends `message`, finishes, and expects it back.
pub(crate) async fn exchange(mut stream: Stream, message: &[u8]) {
    within("an echo", async {
        stream.write_all(message).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut back = Vec::new();
        stream.read_to_end(&mut back).await.unwrap();
        assert_eq!(back.len(), message.len());
        assert!(back == message, "the echo differs");
    })
    .await;
}

/// The next `refused` event: what was asked for, and the limit.
pub(crate) async fn refused(events: &mut Events) -> (Asked, u64) {
    until(events, "a refusal", |event| match event {
        Event::Refused { what, limit, .. } => Some((*what, *limit)),
        _ => None,
    })
    .await
}

/// How the next relayed connection came about: who dialled, and what it may carry.
pub(crate) async fn circuit_opened(events: &mut Events) -> (Direction, Option<u64>, Option<u64>) {
    until(events, "a circuit", |event| match event {
        Event::ConnectionOpened {
            path: Path::Relayed { .. },
            direction,
            circuit_bytes_max,
            circuit_seconds_max,
            ..
        } => Some((*direction, *circuit_bytes_max, *circuit_seconds_max)),
        _ => None,
    })
    .await
}
