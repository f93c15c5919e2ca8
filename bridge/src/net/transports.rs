//! Swarms with their transports: TCP and QUIC, and for nodes circuits.

use std::time::Duration;

use libp2p::{
    Swarm, SwarmBuilder, identity::Keypair, metrics::Registry, noise, swarm::NetworkBehaviour, tcp,
};

use super::{behaviour::Node, hangup};
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

type TcpUpgrade = (fn(&Keypair) -> Result<noise::Config, noise::Error>, fn() -> hangup::Config);
const UPGRADE: TcpUpgrade = (noise::Config::new, hangup::Config::default);

/// A swarm for a server or client, not yet listening.
pub(crate) fn node(config: &Config, keypair: Keypair) -> Result<Swarm<Node>, StartError> {
    let swarm = SwarmBuilder::with_existing_identity(keypair)
        .with_tokio()
        .with_tcp(tcp::Config::default(), UPGRADE.0, UPGRADE.1)
        .map_err(|cause| StartError::Transport { transport: "TCP", cause: cause.into() })?
        .with_quic_config(quic)
        .with_dns()
        .map_err(|cause| StartError::Transport { transport: "DNS", cause: cause.into() })?
        .with_relay_client(UPGRADE.0, UPGRADE.1)
        .map_err(|cause| StartError::Transport { transport: "circuits", cause: cause.into() })?
        .with_behaviour(|keypair, relay| Node::new(config, keypair, relay))
        .unwrap_or_else(|infallible| match infallible {})
        .with_swarm_config(|config| config.with_idle_connection_timeout(IDLE_TIMEOUT))
        .build();
    Ok(swarm)
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
        .with_quic_config(quic)
        .with_dns()
        .map_err(|cause| StartError::Transport { transport: "DNS", cause: cause.into() })?
        .with_bandwidth_metrics(registry)
        .with_behaviour(behaviour)
        .unwrap_or_else(|infallible| match infallible {})
        .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_secs(60)))
        .build();
    Ok(swarm)
}

fn quic(mut config: libp2p::quic::Config) -> libp2p::quic::Config {
    config.max_idle_timeout = QUIC_IDLE_MS;
    config.keep_alive_interval = QUIC_KEEP_ALIVE;
    config
}
