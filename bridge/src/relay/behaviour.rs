//! The libp2p protocols of a relay.

use libp2p::{
    connection_limits::{self, ConnectionLimits},
    identify,
    identity::Keypair,
    ping, relay,
    swarm::NetworkBehaviour,
};

use super::RelayConfig;
use crate::net::{
    behaviour::{identify_behaviour, ping_behaviour},
    translate::relay_agent,
};

/// What a relay speaks.
#[derive(NetworkBehaviour)]
pub(crate) struct Behaviour {
    limits: connection_limits::Behaviour,
    identify: identify::Behaviour,
    ping: ping::Behaviour,
    pub(crate) relay: relay::Behaviour,
}

impl Behaviour {
    pub(crate) fn new(config: &RelayConfig, keypair: &Keypair) -> Self {
        let agent = relay_agent(config.reservation_duration);
        Self {
            limits: connection_limits::Behaviour::new(
                ConnectionLimits::default()
                    .with_max_pending_incoming(Some(config.pending_inbound))
                    .with_max_established(Some(config.connections))
                    .with_max_established_per_peer(Some(config.connections_per_peer)),
            ),
            identify: identify_behaviour(keypair, agent),
            ping: ping_behaviour(),
            relay: relay::Behaviour::new(keypair.public().to_peer_id(), config.to_libp2p()),
        }
    }
}
