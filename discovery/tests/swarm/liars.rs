//! Nodes that lie: whoever asks is told of the nearest liars and of nobody else, and nothing is kept. They are stock libp2p
//! with a table of liars.

use futures::StreamExt as _;
use libp2p::{
    Multiaddr, PeerId, Swarm, Transport as _,
    core::{
        transport::{ListenerId, MemoryTransport},
        upgrade::Version,
    },
    identify,
    identity::Keypair,
    kad::{self, QueryResult, store::MemoryStore, store::MemoryStoreConfig},
    noise,
    swarm::{self, NetworkBehaviour, SwarmEvent},
    yamux,
};
use punchline_discovery::keys::RecordKey;
use rand::{RngExt as _, rngs::ChaCha8Rng};
use tokio::sync::watch;

use crate::world::Node;

#[derive(NetworkBehaviour)]
struct Lies {
    identify: identify::Behaviour,
    kad: kad::Behaviour<MemoryStore>,
}

/// Starts so many, which meet these nodes. They end with the runtime, and answer nobody any more once what this
/// returns says so or is dropped.
pub(crate) fn start(count: usize, rng: &mut ChaCha8Rng, honest: &[Multiaddr]) -> watch::Sender<bool> {
    let (silence, _) = watch::channel(false);
    let liars: Vec<(Keypair, Multiaddr)> = (0..count).map(|_| identity(rng)).collect();
    let all: Vec<(PeerId, Multiaddr)> =
        liars.iter().map(|(keypair, address)| (id(keypair), address.clone())).collect();
    for (keypair, address) in liars {
        let mut swarm = liar(&keypair, &all);
        swarm.listen_on(address.clone()).expect("memory has room");
        swarm.add_external_address(address);
        for address in honest {
            swarm.dial(address.clone()).expect("an address that can be dialled");
        }
        let mut silenced = silence.subscribe();
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = swarm.select_next_some() => {}
                    _ = silenced.changed() => break,
                }
            }
            // Its connections stay.
            std::future::pending::<()>().await;
        });
    }
    silence
}

/// One that answers each question with so many peers at whose addresses nobody ever answers. Returns where it is.
pub(crate) fn names_the_mute(count: usize, rng: &mut ChaCha8Rng) -> Multiaddr {
    let mut all = vec![identity(rng)];
    let mute: Vec<Multiaddr> = (0..count)
        .map(|_| {
            let (keypair, address) = identity(rng);
            all.push((keypair, address.clone()));
            address
        })
        .collect();
    // Whoever dials them waits: they listen, and take nobody.
    let mut deaf = MemoryTransport::default();
    for (number, address) in mute.into_iter().enumerate() {
        deaf.listen_on(ListenerId::next(), address).unwrap_or_else(|error| panic!("{number}: {error}"));
    }
    let named: Vec<_> = all.iter().map(|(keypair, address)| (id(keypair), address.clone())).collect();
    let (keypair, address) = all.swap_remove(0);
    let mut swarm = liar(&keypair, &named);
    swarm.listen_on(address.clone()).expect("memory has room");
    swarm.add_external_address(address.clone());
    tokio::spawn(async move {
        let _deaf = deaf;
        loop {
            swarm.select_next_some().await;
        }
    });
    address.with_p2p(id(&keypair)).expect("no identity in it")
}

/// Somebody who is in nobody's table writes all of these records to a node. Returns how many it refused.
pub(crate) async fn flood(to: &Node, records: Vec<(RecordKey, Vec<u8>)>) -> usize {
    let mut swarm = liar(&Keypair::generate_ed25519(), &[(to.peer, to.address.clone())]);
    swarm.behaviour_mut().kad.set_mode(Some(kad::Mode::Client));
    let (mut left, mut under_way, mut refused) = (records.into_iter(), 0, 0);
    loop {
        while under_way < 16
            && let Some((key, value)) = left.next()
        {
            let record = kad::Record::new(key.to_bytes(), value);
            let kad = &mut swarm.behaviour_mut().kad;
            kad.put_record_to(record, std::iter::once(to.peer), kad::Quorum::One);
            under_way += 1;
        }
        if under_way == 0 {
            return refused;
        }
        if let SwarmEvent::Behaviour(LiesEvent::Kad(kad::Event::OutboundQueryProgressed {
            result: QueryResult::PutRecord(outcome),
            ..
        })) = swarm.select_next_some().await
        {
            under_way -= 1;
            refused += usize::from(outcome.is_err());
        }
    }
}

fn identity(rng: &mut ChaCha8Rng) -> (Keypair, Multiaddr) {
    let mut secret: [u8; 32] = rng.random();
    let address = format!("/memory/{}", rand::random_range(1..=u64::MAX));
    let keypair = Keypair::ed25519_from_bytes(&mut secret).expect("32 bytes");
    (keypair, address.parse().expect("an address"))
}

fn id(keypair: &Keypair) -> PeerId {
    keypair.public().to_peer_id()
}

fn liar(keypair: &Keypair, all: &[(PeerId, Multiaddr)]) -> Swarm<Lies> {
    let local = keypair.public().to_peer_id();
    let transport = MemoryTransport::new().upgrade(Version::V1Lazy);
    let transport = transport.authenticate(noise::Config::new(keypair).expect("a key"));
    let transport = transport.multiplex(yamux::Config::default()).boxed();
    let protocol = libp2p::StreamProtocol::new("/punchline/swarm/kad/1.0.0");
    let mut config = kad::Config::new(protocol);
    config.set_kbucket_inserts(kad::BucketInserts::Manual).set_periodic_bootstrap_interval(None);
    let keeps =
        MemoryStoreConfig { max_records: 0, max_provided_keys: 0, ..MemoryStoreConfig::default() };
    let store = MemoryStore::with_config(local, keeps);
    let mut kad = kad::Behaviour::with_config(local, store, config);
    kad.set_mode(Some(kad::Mode::Server));
    for (peer, address) in all.iter().filter(|(peer, _)| *peer != local) {
        kad.add_address(peer, address.clone());
    }
    let identify = identify::Config::new("/punchline/swarm/dht/1".to_owned(), keypair.public());
    let behaviour = Lies { identify: identify::Behaviour::new(identify), kad };
    Swarm::new(transport, behaviour, local, swarm::Config::with_tokio_executor())
}
