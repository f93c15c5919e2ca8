//! Swarms with their transports: direct ones, and for nodes circuits.

use std::{io, time::Duration};

use libp2p::{
    Swarm, SwarmBuilder, Transport,
    core::transport::timeout::TransportTimeout,
    identity::Keypair,
    metrics::Registry,
    swarm::{self, NetworkBehaviour},
};

use super::{
    behaviour::Node,
    boxed::Boxed,
    cause::Kept,
    circuit, direct,
    guard::{self, Permits},
    hurry::{Hurried, Hurry},
    quic,
    reset::Sockets,
    secure::Secure,
    secured::Secured,
    turns::{InTurn, Turns},
    unread::{POOL_BYTES, Pool},
    watched::Watched,
    web::{Certificate, proxy::Proxied},
};
use crate::{config::Config, error::StartError};

/// The engine alone decides when a connection is unused, also of one that is kept for months: libp2p's own idle
/// timeout never comes.
const IDLE_TIMEOUT: Duration = Duration::from_secs(366 * 24 * 3600);

/// For a connection to come about, from the first packet to the last of its handshakes. Longer than the 10 s that a
/// program waits for a peer unless told otherwise: who waits is told by one deadline, not by whichever of two is first.
pub(crate) const CONNECT_DEADLINE: Duration = Duration::from_secs(12);

/// Likewise for a circuit: the relay's answer has a deadline of its own, and then come the handshakes.
pub(crate) const CIRCUIT_DEADLINE: Duration = Duration::from_secs(20);

/// A swarm for a server or client, not yet listening.
pub(crate) fn node(config: &Config, keypair: Keypair) -> Result<Swarm<Boxed<Node>>, StartError> {
    let local = keypair.public().to_peer_id();
    let watched = Watched::default();
    let (circuits, circuit) = circuit::new(local, watched.clone());
    let pool = Pool::new(POOL_BYTES);
    let secure = Secure::new(&keypair)?;
    let quic = quic::Config::new(&secure, watched.clone())?;
    let circuits = Secured::new(circuits, &secure, &pool);
    let circuits = TransportTimeout::new(circuits, CIRCUIT_DEADLINE).map_err(Kept);
    let permits = Permits::new(config.global.clone(), config.ranges.clone());
    let hurry = Hurry::default();
    let sockets = Sockets::default();
    let direct = direct::connections(&secure, quic, &pool, &permits, None, &sockets)?;
    let direct = match &config.proxy {
        None => direct.boxed(),
        // Before names are looked up: the proxy does that.
        Some(proxy) => {
            let proxied = Proxied::new(proxy.clone(), permits.clone()).map_err(Kept);
            let proxied = Secured::new(proxied, &secure, &pool);
            proxied.or_transport(direct).map(|either, _| either.into_inner()).boxed()
        }
    };
    let turns = Turns::default();
    let direct = InTurn::new(Hurried::new(direct, hurry.clone(), sockets), turns.clone());
    let direct = TransportTimeout::new(direct.map_err(io::Error::other), CONNECT_DEADLINE).map_err(Kept);
    // Circuits first: the others would take their addresses for those of the relay.
    let transport = circuits.or_transport(direct).map(|either, _| either.into_inner()).boxed();
    let of_transport = (hurry, turns, pool);
    let guard = guard::Behaviour::new(permits);
    let behaviour = Node::new(config, &keypair, circuit, guard, of_transport, watched);
    let swarm = swarm::Config::with_tokio_executor().with_idle_connection_timeout(IDLE_TIMEOUT);
    Ok(Swarm::new(transport, Boxed(behaviour), local, swarm))
}

/// Unread bytes of a swarm that only dials: a handful of connections, on which hardly anything is said.
const DIALER_POOL_BYTES: u64 = 1 << 20;

/// A swarm that does not listen, and gives up on a dial after `deadline`. Each dial leaves from a port that nothing
/// else uses.
pub(crate) fn dialer<B: NetworkBehaviour>(
    behaviour: B,
    permits: &Permits,
    deadline: Duration,
) -> Result<Swarm<B>, StartError> {
    let keypair = Keypair::generate_ed25519();
    let secure = Secure::new(&keypair)?;
    let direct = direct::connections(
        &secure,
        quic::Config::new(&secure, Watched::default())?,
        &Pool::new(DIALER_POOL_BYTES),
        permits,
        None,
        &Sockets::default(),
    )?;
    let transport = TransportTimeout::new(direct, deadline).map_err(Kept).boxed();
    let swarm = swarm::Config::with_tokio_executor();
    Ok(Swarm::new(transport, behaviour, keypair.public().to_peer_id(), swarm))
}

/// A swarm for a relay, not yet listening; what it carries is counted in `registry`, and `permits` says whom it dials.
/// `certificate` is to listen on WebSockets over TLS with.
pub(crate) fn relay<B: NetworkBehaviour>(
    keypair: Keypair,
    certificate: Option<Certificate>,
    registry: &mut Registry,
    permits: &Permits,
    behaviour: impl FnOnce(&Keypair) -> B,
) -> Result<Swarm<Boxed<B>>, StartError> {
    let swarm = SwarmBuilder::with_existing_identity(keypair)
        .with_tokio()
        .with_other_transport(|keypair| {
            let pool = Pool::new(POOL_BYTES);
            let secure = Secure::new(keypair)?;
            let sockets = Sockets::default();
            let quic = quic::Config::new(&secure, Watched::default())?;
            Ok(direct::connections(&secure, quic, &pool, permits, certificate, &sockets)?)
        })
        .map_err(|cause| StartError::Transport { transport: "TCP and QUIC", cause: cause.into() })?
        .with_bandwidth_metrics(registry)
        .with_behaviour(|keypair| Boxed(behaviour(keypair)))
        .unwrap_or_else(|infallible| match infallible {})
        .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_secs(60)))
        .build();
    Ok(swarm)
}
