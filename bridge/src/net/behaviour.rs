//! The libp2p protocols of a node, and those that it shares with a relay.

use std::sync::Arc;

use libp2p::{identify, identity::Keypair, swarm::NetworkBehaviour};

use super::{
    autonat, circuit, control, dcutr, door, guard, hurry, ping, substream, turns, unread, watched,
};
use crate::config::Config;

/// Said in identify, so that one of ours can be told from others.
const PROTOCOL_VERSION: &str = "/punchline/1";

/// What relays of ours say in identify.
pub(crate) const RELAY_AGENT: &str = concat!("punchline-relay/", env!("CARGO_PKG_VERSION"));

/// What nodes of ours say in identify begins like this.
pub(crate) const NODE_AGENT: &str = "punchline/";

/// What a server or client speaks. The guard and the door come first: they must see a connection before the others, and
/// whom the guard does not answer takes no place at the door.
#[derive(NetworkBehaviour)]
pub(crate) struct Node {
    pub(crate) guard: guard::Behaviour,
    pub(crate) door: door::Behaviour,
    identify: identify::Behaviour,
    pub(crate) ping: ping::Behaviour,
    pub(crate) circuit: circuit::Behaviour,
    pub(crate) dcutr: dcutr::Behaviour,
    pub(crate) substream: substream::Behaviour,
    pub(crate) control: control::Behaviour,
    pub(crate) autonat: autonat::Behaviour,
}

impl Node {
    pub(crate) fn new(
        config: &Config,
        keypair: &Keypair,
        circuit: circuit::Behaviour,
        guard: guard::Behaviour,
        (hurry, turns, unread): (hurry::Hurry, turns::Turns, Arc<unread::Pool>),
        watched: watched::Watched,
    ) -> Self {
        let agent = format!("{}{}", NODE_AGENT, env!("CARGO_PKG_VERSION"));
        Self {
            door: door::Behaviour::new(&config.limits, hurry, turns, unread),
            guard,
            // Strangers are told the addresses that relays confirmed, and not what we listen on.
            identify: identify_behaviour(keypair, agent),
            ping: ping::Behaviour::new(watched),
            circuit,
            dcutr: dcutr::Behaviour::new(keypair.public().to_peer_id()),
            substream: substream::Behaviour::new(config.deadlines.negotiate),
            control: control::Behaviour::default(),
            autonat: autonat::Behaviour::default(),
        }
    }
}

/// Says the external addresses and not those of own networks. They are not signed: what libp2p's identify signs (`PeerRecord`)
/// is readable to rust-libp2p alone. js-libp2p throws the whole message away for it, protocols and all, and go-libp2p complains
/// each time. It would prove nothing to whoever reads it, which is the connected peer and nobody else.
pub(crate) fn identify_behaviour(keypair: &Keypair, agent: String) -> identify::Behaviour {
    let config = identify::Config::new(PROTOCOL_VERSION.to_owned(), keypair.public())
        .with_agent_version(agent)
        .with_hide_listen_addrs(true)
        // Each new listen address would be pushed to every peer; nobody here reads them.
        .with_push_listen_addr_updates(false);
    identify::Behaviour::new(config)
}
