//! Building a swarm: transports, behaviour, listeners.

use std::{net::Ipv4Addr, time::Duration};

use futures::{FutureExt, StreamExt};
use libp2p::{
    Multiaddr, Swarm, SwarmBuilder, core::transport::ListenerId, identity::Keypair, multiaddr::Protocol,
    noise, swarm::SwarmEvent, tcp,
};

use super::{
    behaviour::{Node, Relay},
    hangup,
    traffic::Traffic,
};
use crate::{config::Config, error::StartError, relay::RelayConfig};

/// For the system to report the addresses of a listener. It takes milliseconds; 5 s means it will not.
const LISTEN_DEADLINE: Duration = Duration::from_secs(5);

/// The engine decides when a connection is unused; libp2p's own idle timeout only catches what the
/// engine cannot see.
const IDLE_TIMEOUT: Duration = Duration::from_secs(600);

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

/// A swarm for a relay, not yet listening; what it carries is counted in `traffic`.
pub(crate) fn relay(
    config: &RelayConfig,
    keypair: Keypair,
    traffic: &mut Traffic,
) -> Result<Swarm<Relay>, StartError> {
    let swarm = SwarmBuilder::with_existing_identity(keypair)
        .with_tokio()
        .with_tcp(tcp::Config::default(), UPGRADE.0, UPGRADE.1)
        .map_err(|cause| StartError::Transport { transport: "TCP", cause: cause.into() })?
        .with_quic_config(quic)
        .with_dns()
        .map_err(|cause| StartError::Transport { transport: "DNS", cause: cause.into() })?
        .with_bandwidth_metrics(traffic.registry())
        .with_behaviour(|keypair| Relay::new(config, keypair))
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

/// Every interface, IPv4 and IPv6, TCP and QUIC, one free port each.
fn default_listen() -> Vec<Multiaddr> {
    let tcp = Protocol::Tcp(0);
    let v4 = Multiaddr::from(Ipv4Addr::UNSPECIFIED);
    let v6 = Multiaddr::from(std::net::Ipv6Addr::UNSPECIFIED);
    let quic = |ip: &Multiaddr| ip.clone().with(Protocol::Udp(0)).with(Protocol::QuicV1);
    vec![v4.clone().with(tcp.clone()), quic(&v4), v6.clone().with(tcp), quic(&v6)]
}

/// Listens and waits until the system has told every address, since a dial made before it would leave
/// from a port that nobody listens on. Given addresses must all work; of the default ones, one.
pub(crate) async fn listen<B>(
    swarm: &mut Swarm<B>,
    addresses: &[Multiaddr],
) -> Result<Vec<Multiaddr>, StartError>
where
    B: libp2p::swarm::NetworkBehaviour,
{
    let given = !addresses.is_empty();
    let wanted = if given { addresses.to_vec() } else { default_listen() };
    let mut waiting = Vec::new();
    for address in wanted {
        match swarm.listen_on(address.clone()) {
            Ok(listener) => waiting.push((listener, address)),
            Err(error) if given => {
                let cause = std::io::Error::other(error);
                return Err(StartError::Listen { address, cause });
            }
            Err(error) => tracing::debug!(%address, %error, "cannot listen"),
        }
    }
    if waiting.is_empty() {
        return Err(StartError::NoListener);
    }
    let found = tokio::time::timeout(LISTEN_DEADLINE, reported(swarm, waiting, given)).await;
    found.map_err(|_| StartError::ListenDeadline { deadline: LISTEN_DEADLINE })?
}

async fn reported<B>(
    swarm: &mut Swarm<B>,
    mut waiting: Vec<(ListenerId, Multiaddr)>,
    given: bool,
) -> Result<Vec<Multiaddr>, StartError>
where
    B: libp2p::swarm::NetworkBehaviour,
{
    let mut found = Vec::new();
    loop {
        // When every listener has reported, take what else is known already, and no more.
        let event = if waiting.is_empty() {
            match swarm.select_next_some().now_or_never() {
                Some(event) => event,
                None => return Ok(found),
            }
        } else {
            swarm.select_next_some().await
        };
        match event {
            SwarmEvent::NewListenAddr { listener_id, address } => {
                waiting.retain(|(listener, _)| *listener != listener_id);
                found.push(address);
            }
            SwarmEvent::ListenerClosed { listener_id, reason: Err(cause), .. } => {
                let at = waiting.iter().position(|(listener, _)| *listener == listener_id);
                let Some((_, address)) = at.map(|at| waiting.remove(at)) else { continue };
                if given {
                    return Err(StartError::Listen { address, cause });
                }
            }
            _ => {}
        }
    }
}
