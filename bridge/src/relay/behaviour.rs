//! The libp2p protocols of a relay.

use libp2p::{identify, identity::Keypair, swarm::NetworkBehaviour};

use super::{RelayConfig, dialback, hop::Hop};
use crate::net::{
    behaviour::{RELAY_AGENT, identify_behaviour},
    control,
    guard::{self, Permits},
    ping,
};

/// What a relay speaks. The guard and the hop come first: the one knows who is answered, the other holds the limits of
/// connections.
#[derive(NetworkBehaviour)]
pub(super) struct Behaviour {
    pub(super) guard: guard::Behaviour,
    pub(super) hop: Hop,
    identify: identify::Behaviour,
    ping: ping::Behaviour,
    pub(super) control: control::Behaviour,
    dialback: dialback::Behaviour,
}

impl Behaviour {
    pub(super) fn new(
        config: &RelayConfig,
        keypair: &Keypair,
        permits: Permits,
        dialback: dialback::Behaviour,
    ) -> Self {
        let agent = RELAY_AGENT.to_owned();
        Self {
            guard: guard::Behaviour::new(permits),
            hop: Hop::new(keypair.public().to_peer_id(), config.clone()),
            identify: identify_behaviour(keypair, agent),
            ping: ping::Behaviour::default(),
            control: control::Behaviour::default(),
            dialback,
        }
    }
}
