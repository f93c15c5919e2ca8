//! What the DHT's swarm is made of, with its limits.

use std::{collections::BTreeSet, num::NonZeroUsize, time::Duration};

#[cfg(feature = "rendezvous")]
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::{
    PeerId, StreamProtocol, Swarm,
    connection_limits::{self, ConnectionLimits},
    identify,
    identity::Keypair,
    kad, ping,
    swarm::{self, NetworkBehaviour},
};

use super::{Config, asker::Asker, door::Door, guard::Guarded};
#[cfg(feature = "rendezvous")]
use crate::rendezvous::server::{self as meetings, Meetings};
use crate::{
    Network,
    record::LIFETIME_MAX,
    store::{PROVIDER_LIFETIME_MAX, Store},
    transport::{self, NoTransport},
};

/// A lookup that is not done by then ends with what it has.
const QUERY_DEADLINE: Duration = Duration::from_secs(10);

/// Whoever does not answer within this makes room for others: a lookup asks many.
const ANSWER_DEADLINE: Duration = Duration::from_secs(3);

/// Nothing was said on a connection for so long: it is closed. A bootstrap node is looked at more often.
const IDLE: Duration = Duration::from_secs(60);

/// The largest message: twenty peers with four addresses each are below 8 KiB, a record is below 10.
const PACKET_BYTES_MAX: usize = 16 * 1024;

/// Connections of a node that only asks: a lookup has three under way, and leaves them for a minute.
const CLIENT_CONNECTIONS: u32 = 256;

/// And of one that answers: each costs up to 100 KiB.
const SERVER_CONNECTIONS: u32 = 2048;

/// Connections with one peer: one that it made, one that we made to see whether it is where it says, and one more.
const CONNECTIONS_PER_PEER: u32 = 3;

/// Handshakes that others began and have not ended.
const PENDING_INCOMING: u32 = 128;

/// Dials under way: 16 lookups with three each, and those that see whether a peer is where it says.
const PENDING_OUTGOING: u32 = 64;

#[derive(NetworkBehaviour)]
pub(super) struct Dht {
    limits: connection_limits::Behaviour,
    door: Door,
    identify: identify::Behaviour,
    ping: ping::Behaviour,
    pub(super) asker: Asker,
    pub(super) guard: Guarded,
    #[cfg(feature = "rendezvous")]
    pub(super) meetings: Toggle<Meetings>,
}

/// What nodes of this network speak.
pub(super) fn protocol(network: &Network) -> StreamProtocol {
    StreamProtocol::try_from_owned(network.kad_protocol()).expect("it begins with a slash")
}

/// A swarm that does not listen yet.
pub(super) fn swarm(
    config: &Config,
    protocol: StreamProtocol,
    trusted: BTreeSet<PeerId>,
    store: Store,
) -> Result<Swarm<Dht>, NoTransport> {
    let (keypair, local) = (&config.keypair, config.keypair.public().to_peer_id());
    let given = config.bootstrap.iter().map(transport::without_peer).collect();
    let transport = transport::new(config.carrier, keypair, config.policy.dials.clone(), given)?;
    let behaviour = Dht {
        limits: connection_limits::Behaviour::new(limits(config)),
        door: Door::default(),
        identify: identify::Behaviour::new(identify(&config.network, keypair)),
        ping: ping::Behaviour::new(ping_config()),
        asker: Asker::new(protocol.clone(), local),
        guard: Guarded::new(
            kademlia(config, local, protocol, store),
            trusted,
            config.policy.exempt.clone(),
        ),
        #[cfg(feature = "rendezvous")]
        meetings: config.meeting_point.then(meetings::behaviour).into(),
    };
    let swarm = swarm::Config::with_tokio_executor().with_idle_connection_timeout(IDLE);
    Ok(Swarm::new(transport, behaviour, local, swarm))
}

/// Pings tell how far a peer is, and as often as a bootstrap node is asked is enough for that. Whether it lives, questions tell.
fn ping_config() -> ping::Config {
    ping::Config::new().with_interval(Duration::from_secs(30)).with_timeout(Duration::from_secs(10))
}

fn limits(config: &Config) -> ConnectionLimits {
    let all = if config.listen.is_empty() { CLIENT_CONNECTIONS } else { SERVER_CONNECTIONS };
    ConnectionLimits::default()
        .with_max_pending_incoming(Some(PENDING_INCOMING))
        .with_max_pending_outgoing(Some(PENDING_OUTGOING))
        // Whoever comes must not keep us from asking.
        .with_max_established_incoming(Some(all / 4 * 3))
        .with_max_established(Some(all))
        .with_max_established_per_peer(Some(CONNECTIONS_PER_PEER))
}

/// Strangers are told where this node serves the DHT, and nothing of where else it listens.
fn identify(network: &Network, keypair: &Keypair) -> identify::Config {
    identify::Config::new(format!("/punchline/{network}/dht/1"), keypair.public())
        .with_agent_version("punchline".to_owned())
        .with_hide_listen_addrs(true)
        .with_push_listen_addr_updates(true)
        // Where a peer says that it is, nobody dials before it is judged.
        .with_cache_size(0)
}

fn kademlia(
    config: &Config,
    local: PeerId,
    protocol: StreamProtocol,
    store: Store,
) -> kad::Behaviour<Store> {
    let mut kad = kad::Config::new(protocol);
    // Who is in the table, when it is refreshed and what is said again is for our own loops to decide.
    kad.set_kbucket_inserts(kad::BucketInserts::Manual)
        .set_periodic_bootstrap_interval(None)
        .set_publication_interval(None)
        .set_provider_publication_interval(None)
        .set_record_ttl(Some(LIFETIME_MAX))
        .set_provider_record_ttl(Some(PROVIDER_LIFETIME_MAX))
        .disjoint_query_paths(config.separate_paths)
        .set_query_timeout(QUERY_DEADLINE)
        .set_substreams_timeout(ANSWER_DEADLINE)
        .set_max_packet_size(PACKET_BYTES_MAX);
    if let Some(size) = config.bucket_size {
        let size = NonZeroUsize::from(size);
        kad.set_kbucket_size(size).set_replication_factor(size);
    }
    let mut kad = kad::Behaviour::with_config(local, store, kad);
    kad.set_mode(Some(kad::Mode::Client));
    kad
}
