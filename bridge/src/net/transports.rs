//! Swarms with their transports: TCP and QUIC, and for nodes circuits.

use std::time::Duration;

use futures::{AsyncRead, AsyncWrite};
use libp2p::{
    PeerId, Swarm, SwarmBuilder, Transport,
    core::{
        muxing::StreamMuxerBox,
        transport::{Boxed, timeout::TransportTimeout},
        upgrade::Version,
    },
    dns,
    identity::Keypair,
    metrics::Registry,
    noise, quic,
    swarm::{self, NetworkBehaviour},
    tcp,
};

use super::{behaviour::Node, cause::Kept, circuit, hangup};
use crate::{config::Config, error::StartError};

/// The engine alone decides when a connection is unused, also of one that is kept for months: libp2p's own idle
/// timeout never comes.
const IDLE_TIMEOUT: Duration = Duration::from_secs(366 * 24 * 3600);

/// A silent QUIC peer is given up after this, in milliseconds, counted from our last keep-alive that it
/// answered or the first it did not: after 2.4 s at most. A NAT that maps anew breaks the direct path and
/// the link to the relay at once, and so streams are back within 3 s. Four keep-alives, and what is sent
/// again for them, must be lost for us to be wrong.
const QUIC_IDLE_MS: u32 = 2_000;
const QUIC_KEEP_ALIVE: Duration = Duration::from_millis(400);

/// For a connection to come about, from the first packet to the last of its handshakes.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);

/// Likewise for a circuit: the relay's answer has a deadline of its own, and then come the handshakes.
const CIRCUIT_DEADLINE: Duration = Duration::from_secs(20);

type TcpUpgrade = (fn(&Keypair) -> Result<noise::Config, noise::Error>, fn() -> hangup::Config);
const UPGRADE: TcpUpgrade = (noise::Config::new, hangup::Config::default);

type Connections = Boxed<(PeerId, StreamMuxerBox)>;

/// A swarm for a server or client, not yet listening.
pub(crate) fn node(config: &Config, keypair: Keypair) -> Result<Swarm<Node>, StartError> {
    let local = keypair.public().to_peer_id();
    let (circuits, circuit) = circuit::new(local);
    let circuits = TransportTimeout::new(secured(circuits, &keypair)?, CIRCUIT_DEADLINE).map_err(Kept);
    let direct = TransportTimeout::new(direct(&keypair)?, CONNECT_DEADLINE).map_err(Kept);
    // Circuits first: the others would take their addresses for those of the relay.
    let transport = circuits.or_transport(direct).map(|either, _| either.into_inner()).boxed();
    let behaviour = Node::new(config, &keypair, circuit);
    let swarm = swarm::Config::with_tokio_executor().with_idle_connection_timeout(IDLE_TIMEOUT);
    Ok(Swarm::new(transport, behaviour, local, swarm))
}

/// TCP and QUIC, by address or name.
fn direct(keypair: &Keypair) -> Result<Connections, StartError> {
    let tcp = tcp::tokio::Transport::new(tcp::Config::default()).map_err(Kept);
    let tcp = secured(tcp, keypair)?;
    let quic = quic::tokio::Transport::new(quic_config(quic::Config::new(keypair)))
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)))
        .map_err(Kept);
    let both = tcp.or_transport(quic).map(|either, _| either.into_inner());
    let named = dns::tokio::Transport::system(both)
        .map_err(|cause| StartError::Transport { transport: "DNS", cause: cause.into() })?;
    Ok(named.boxed())
}

/// Noise and Yamux on top of a transport of bytes.
fn secured<T>(transport: T, keypair: &Keypair) -> Result<Connections, StartError>
where
    T: Transport<Dial: Send, ListenerUpgrade: Send, Error: Send + Sync> + Send + Unpin + 'static,
    T::Output: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let noise = noise::Config::new(keypair)
        .map_err(|cause| StartError::Transport { transport: "Noise", cause: cause.into() })?;
    let secured = transport.upgrade(Version::V1Lazy).authenticate(noise);
    let connections = secured.multiplex(hangup::Config::default());
    Ok(connections.map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer))).boxed())
}

/// A swarm for a relay, not yet listening; what it carries is counted in `registry`.
pub(crate) fn relay<B: NetworkBehaviour>(
    keypair: Keypair,
    registry: &mut Registry,
    behaviour: impl FnOnce(&Keypair) -> B,
) -> Result<Swarm<B>, StartError> {
    let swarm = SwarmBuilder::with_existing_identity(keypair)
        .with_tokio()
        .with_tcp(tcp::Config::default(), UPGRADE.0, UPGRADE.1)
        .map_err(|cause| StartError::Transport { transport: "TCP", cause: cause.into() })?
        .with_quic_config(quic_config)
        .with_dns()
        .map_err(|cause| StartError::Transport { transport: "DNS", cause: cause.into() })?
        .with_bandwidth_metrics(registry)
        .with_behaviour(behaviour)
        .unwrap_or_else(|infallible| match infallible {})
        .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_secs(60)))
        .build();
    Ok(swarm)
}

fn quic_config(mut config: quic::Config) -> quic::Config {
    config.max_idle_timeout = QUIC_IDLE_MS;
    config.keep_alive_interval = QUIC_KEEP_ALIVE;
    config
}
