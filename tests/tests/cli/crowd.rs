//! Many clients of one server through one relay: the shipped programs face a crowd in this process.

use anyhow::{Context as _, Result, ensure};
use hyper_util::rt::TokioIo;
use punchline_bridge::{
    Config, Endpoint, Keypair, PeerId, RelayAddr, addr::synthetic_socket_addr, grpc,
};
use punchline_protocol::{Network, Node, NodeConfig, Remote, Session};
use tokio::{sync::Semaphore, task::JoinSet};

use crate::world::{LISTEN, World};

const CLIENTS: usize = 200;

/// Handshakes at once: Kaspa gives each message of one four seconds, and two busy cores do not manage two hundred in
/// that time.
static HANDSHAKES: Semaphore = Semaphore::const_new(8);

/// Two cores shake a few hundred hands a minute in a debug build.
const CROWD: std::time::Duration = std::time::Duration::from_secs(180);

/// A client: its node, and its session.
struct Guest {
    endpoint: Endpoint,
    session: Session,
}

impl Guest {
    async fn arrive(peer: PeerId, relay: RelayAddr) -> Result<Self> {
        let mut config = Config { listen: vec![LISTEN.parse()?], ..Config::default() };
        // What is asked here is that nobody is dropped, not how fast two busy cores are.
        config.deadlines.open = CROWD;
        let (endpoint, _) = Endpoint::start(config, Keypair::generate_ed25519()).await?;
        endpoint.add_addresses(peer, vec![relay.circuit_to(peer)]).await;
        let mut stream = Some(endpoint.open(peer, "kaspa-p2p".parse()?).await?);
        let connector = tower::service_fn(move |_| {
            let once = stream.take().map(TokioIo::new);
            std::future::ready(once.ok_or_else(|| std::io::Error::other("the stream ended")))
        });
        let channel = grpc::client(&peer).connect_with_connector(connector).await?;
        let kaspa = Node::new(NodeConfig::new(Network::Simnet, endpoint.peer_id().to_bytes()));
        let address = synthetic_socket_addr(&peer);
        let remote = Remote { peer_id_bytes: Some(peer.to_bytes()), address };
        let _turn = HANDSHAKES.acquire().await?;
        Ok(Self { session: kaspa.dial(channel, remote).await?, endpoint })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_clients_shake_hands_through_one_relay_and_nobody_is_dropped() -> Result<()> {
    let world = World::new()?;
    let (_relay, address) = world.relay(&[]).await?;
    let server = world.server(&address, &[]).await?;
    let peer: PeerId = world.peer_id("server").await?.parse()?;
    let relay: RelayAddr = address.parse()?;

    let mut arriving = JoinSet::new();
    for _ in 0..CLIENTS {
        arriving.spawn(Guest::arrive(peer, relay.clone()));
    }
    let arrived = tokio::time::timeout(CROWD, arriving.join_all()).await.context("not all arrived")?;
    let guests = arrived.into_iter().collect::<Result<Vec<Guest>>>()?;

    for guest in &guests {
        let id = guest.endpoint.peer_id().to_string();
        server.wait_for("session_ready", |event| event.has("peer", &id), CROWD).await?;
        let session = guest.session.handle();
        let answered = session.ping();
        tokio::time::timeout(CROWD, answered).await.context("a session is dead")??;
    }
    let ended = server.events().into_iter().find(|event| event.name() == "session_ended");
    ensure!(ended.is_none(), "{ended:?}");
    Ok(())
}
