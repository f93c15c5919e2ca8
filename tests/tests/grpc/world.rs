//! Where the service runs: a server and a client, each a node of its own, and a way between them.

use std::{fmt::Display, future::IntoFuture, sync::Arc, time::Duration};

use punchline_bridge::{
    Config, Endpoint, Event, Events, Keypair, Multiaddr, Path, RelayAddr, Service, StreamFacts,
    addr::GlobalScope,
    config::Upgrades,
    error::OpenError,
    grpc::{self, Connector},
    relay::{External, Relay, RelayConfig, StunListen},
};
use tokio::{
    runtime::{Handle, Runtime},
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
};
use tonic::transport::Channel;
use tower::Service as _;

use crate::{
    proto::test_client::TestClient,
    service::{MESSAGE_BYTES_MAX, Seen, Tester},
};

/// For anything that a test waits for. Everything here takes milliseconds, but 64 MiB without
/// optimisation on a busy machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// Of a stream without a path: long enough to be dialled again on one machine, short enough to wait for.
const PATIENCE: Duration = Duration::from_secs(2);

/// Seeds of the identities, so that a peer has the same one in every test.
pub(crate) const SERVER: u8 = 1;
const CLIENT: u8 = 2;

/// Waits for something within [`DEADLINE`].
pub(crate) async fn within<F: IntoFuture>(what: impl Display, future: F) -> F::Output {
    let result = tokio::time::timeout(DEADLINE, future.into_future()).await;
    result.unwrap_or_else(|_| panic!("{what}: not within {} s", DEADLINE.as_secs()))
}

/// Waits for an event for which `wanted` has an answer; on failure, tells which events came instead.
pub(crate) async fn event<T>(events: &mut Events, wanted: impl Fn(&Event) -> Option<T>) -> T {
    let mut others = Vec::new();
    let waiting = async {
        loop {
            let event = events.next().await.expect("the node runs");
            if let Some(found) = wanted(&event) {
                return found;
            }
            others.push(event);
        }
    };
    let result = tokio::time::timeout(DEADLINE, waiting).await;
    result.unwrap_or_else(|_| panic!("the event did not come; these did: {others:#?}"))
}

/// The service's name.
pub(crate) fn service() -> Service {
    "grpc".parse().unwrap()
}

pub(crate) fn keypair(seed: u8) -> Keypair {
    Keypair::ed25519_from_bytes([seed; 32]).unwrap()
}

/// How the client reaches the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Tcp,
    Quic,
    /// Over TCP to the relay, and never any other way unless a test allows hole punches.
    Relayed,
}

impl Way {
    fn listen(self) -> Multiaddr {
        let address = match self {
            Self::Tcp | Self::Relayed => "/ip4/127.0.0.1/tcp/0",
            Self::Quic => "/ip4/127.0.0.1/udp/0/quic-v1",
        };
        address.parse().unwrap()
    }

    pub(crate) fn config(self) -> Config {
        let upgrades = if self == Self::Relayed { Upgrades::WhenTold } else { Upgrades::AtOnce };
        let mut config = Config { listen: vec![self.listen()], upgrades, ..Config::default() };
        config.streams.patience = PATIENCE;
        config
    }
}

/// A server with its service, a client that knows where it is, and what lies between.
pub(crate) struct World {
    pub(crate) client: Endpoint,
    pub(crate) server: Serving,
    relay: Option<(Relay, RelayAddr)>,
}

impl World {
    pub(crate) async fn new(way: Way) -> Self {
        Self::with(way, way.config(), Handle::current()).await
    }

    /// With nodes of this configuration, and the server on this runtime.
    pub(crate) async fn with(way: Way, config: Config, handle: Handle) -> Self {
        let relay = match way {
            Way::Relayed => Some(relay().await),
            Way::Tcp | Way::Quic => None,
        };
        let server = Serving::start(config.clone(), &handle).await;
        let (client, _) = Endpoint::start(config, keypair(CLIENT)).await.unwrap();
        let world = Self { client, server, relay };
        let addresses = match &world.relay {
            Some((_, relay)) => vec![world.server.reserve(relay).await],
            None => world.server.node.listening().to_vec(),
        };
        world.client.add_addresses(world.server.node.peer_id(), addresses).await;
        world
    }

    /// The path a stream should take when `way` was asked for.
    pub(crate) fn path(&self) -> Path {
        let relayed = |(_, address): &(Relay, RelayAddr)| Path::Relayed { relay: address.peer() };
        self.relay.as_ref().map_or(Path::Direct, relayed)
    }

    /// A channel over the bridge's connector, connected, as a program would have it.
    pub(crate) async fn channel(&self) -> Channel {
        let peer = self.server.node.peer_id();
        let connector = Connector::new(self.client.clone(), peer, service());
        let endpoint = grpc::client(&peer);
        within("the channel", endpoint.connect_with_connector(connector)).await.unwrap()
    }

    /// A client that takes the largest messages.
    pub(crate) async fn test_client(&self) -> TestClient<Channel> {
        test_client(self.channel().await)
    }

    /// A channel that connects when it is used, and the facts of each stream that it opened. What tells
    /// them is unbounded, yet no longer than the streams of one test.
    pub(crate) fn watched_channel(&self) -> (Channel, mpsc::UnboundedReceiver<Arc<StreamFacts>>) {
        let peer = self.server.node.peer_id();
        let connector = Connector::new(self.client.clone(), peer, service());
        let (opened, streams) = mpsc::unbounded_channel();
        let watched = tower::service_fn(move |uri| {
            let (stream, opened) = (connector.clone().call(uri), opened.clone());
            async move {
                let stream = stream.await?;
                let _ = opened.send(stream.inner().facts().clone());
                Ok::<_, OpenError>(stream)
            }
        });
        (grpc::client(&peer).connect_with_connector_lazy(watched), streams)
    }
}

/// A client that takes the largest messages, over any channel.
pub(crate) fn test_client(channel: Channel) -> TestClient<Channel> {
    TestClient::new(channel)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX)
}

/// Where loopback addresses count as public.
pub(crate) fn loopback_is_global() -> GlobalScope {
    GlobalScope::with_assumed(vec!["127.0.0.0/8".parse().unwrap()])
}

async fn relay() -> (Relay, RelayAddr) {
    let listen = vec![Way::Tcp.listen()];
    let (external, global) = (External::Observed, loopback_is_global());
    let stun = StunListen::Off;
    let config = RelayConfig { listen, external, stun, global, ..RelayConfig::default() };
    let (relay, _) = Relay::start(config, Keypair::generate_ed25519()).await.unwrap();
    let address = format!("{}/p2p/{}", relay.listening()[0], relay.peer_id());
    (relay, address.parse().unwrap())
}

/// Where a node runs as if in a process of its own: it ends without another word, sockets and all.
pub(crate) struct Process(Option<Runtime>);

impl Process {
    pub(crate) fn new() -> Self {
        Self(Some(Runtime::new().unwrap()))
    }

    pub(crate) fn handle(&self) -> Handle {
        self.0.as_ref().unwrap().handle().clone()
    }

    pub(crate) async fn end(mut self) {
        let runtime = self.0.take().unwrap();
        let ended = tokio::task::spawn_blocking(|| drop(runtime));
        within("the end of a process", ended).await.unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// A node that answers for the test service, with health and reflection beside it.
pub(crate) struct Serving {
    pub(crate) node: Endpoint,
    /// What the handlers saw.
    pub(crate) seen: mpsc::UnboundedReceiver<Seen>,
    /// Messages that `Count` has made.
    pub(crate) counted: watch::Receiver<u64>,
    /// Sets what the health service says.
    pub(crate) health: tonic_health::server::HealthReporter,
    /// Ends the tonic server in order, once its calls are done.
    pub(crate) drain: Option<oneshot::Sender<()>>,
    /// What became of the tonic server.
    pub(crate) task: JoinHandle<Result<(), tonic::transport::Error>>,
}

impl Serving {
    pub(crate) async fn start(config: Config, handle: &Handle) -> Self {
        let node = handle.spawn(Endpoint::start(config, keypair(SERVER)));
        let (node, _) = node.await.unwrap().unwrap();
        let incoming = node.incoming(service()).await.unwrap();
        let (tester, seen, counted) = Tester::serve();
        let (health, health_service) = tonic_health::server::health_reporter();
        let (drain, drained) = oneshot::channel::<()>();
        let server = grpc::server()
            .add_service(tester)
            .add_service(health_service)
            .add_service(crate::standard::reflection())
            // Dropping the sender is not a wish to end.
            .serve_with_incoming_shutdown(incoming, async {
                if drained.await.is_err() {
                    std::future::pending().await
                }
            });
        let task = handle.spawn(server);
        Self { node, seen, counted, health, drain: Some(drain), task }
    }

    /// The next thing that a handler saw.
    pub(crate) async fn seen(&mut self) -> Seen {
        within("a handler", self.seen.recv()).await.expect("the server runs")
    }

    /// Reserves with a relay and returns the address that leads here.
    async fn reserve(&self, relay: &RelayAddr) -> Multiaddr {
        let mut events = self.node.events();
        self.node.reserve(relay.clone()).await;
        event(&mut events, |event| match event {
            Event::ReservationHeld { address, .. } => Some(address.clone()),
            _ => None,
        })
        .await
    }
}
