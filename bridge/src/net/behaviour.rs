//! The libp2p protocols of a node, and those that it shares with a relay.

use std::sync::Arc;

use libp2p::{Multiaddr, identify, identity::Keypair, swarm::NetworkBehaviour};

use super::{
    autonat, boxed::Boxed, circuit, control, dcutr, door, guard, hurry, ping, substream, turns, unread,
    watched,
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
    identify: Boxed<identify::Behaviour>,
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
            identify: Boxed(identify::Behaviour::new(
                identify_config(keypair, agent).with_hide_listen_addrs(true),
            )),
            ping: ping::Behaviour::new(watched),
            circuit,
            dcutr: dcutr::Behaviour::new(keypair.public().to_peer_id()),
            substream: substream::Behaviour::new(config.deadlines.negotiate),
            control: control::Behaviour::default(),
            autonat: autonat::Behaviour::default(),
        }
    }
}

/// For relays, which name their external addresses and not those of their own networks. They are `told` as well by a record
/// that the relay signs, if both fit into a message.
pub(crate) fn identify_behaviour(
    keypair: &Keypair,
    agent: String,
    told: &[Multiaddr],
) -> Boxed<identify::Behaviour> {
    let bytes: usize = told.iter().map(Multiaddr::len).sum();
    let config = match bytes <= SIGNED_BYTES_MAX {
        true => identify_config(keypair, agent),
        false => told_as(identify::Config::new(PROTOCOL_VERSION.to_owned(), keypair.public()), agent),
    };
    Boxed(identify::Behaviour::new(config.with_hide_listen_addrs(true)))
}

/// A message of identify has 4,096 bytes at most, and whoever reads a longer one learns nothing. What a record signs stands
/// in it twice; the protocols and all else take 1 KiB.
const SIGNED_BYTES_MAX: usize = 1400;

/// What it says of where the node is reached, it signs as well (`PeerRecord`): who passes it on can change nothing, and whoever
/// reads it takes what is signed.
fn identify_config(keypair: &Keypair, agent: String) -> identify::Config {
    told_as(identify::Config::new_with_signed_peer_record(PROTOCOL_VERSION.to_owned(), keypair), agent)
}

fn told_as(config: identify::Config, agent: String) -> identify::Config {
    config
        .with_agent_version(agent)
        // Each new listen address would be pushed to every peer; nobody here reads them.
        .with_push_listen_addr_updates(false)
}
