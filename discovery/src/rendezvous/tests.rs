//! Our meeting point and our clients, and stock ones of libp2p.

#![allow(clippy::unwrap_used)]
use std::{collections::BTreeSet, future::poll_fn};

use libp2p::{
    Transport as _,
    core::{transport::MemoryTransport, upgrade::Version},
    noise, rendezvous as stock, yamux,
};
use tokio::time::timeout;

use super::*;
use crate::{
    kad::{self, Dht, Event as DhtEvent, Mode, Policy},
    network::Network,
    source::{Lookup as _, Publish as _},
};

const SOON: Duration = Duration::from_secs(60);

fn at(port: usize) -> Multiaddr {
    format!("/ip4/203.0.113.7/tcp/{port}").parse().unwrap()
}

fn everything() -> Arc<dyn AddressPolicy> {
    Arc::new(|address: &Multiaddr, _: PeerId| !address.to_string().contains("/ip4/10."))
}

/// A node of a DHT that is a meeting point as well, and where it is.
async fn meeting_point() -> (Dht, Multiaddr) {
    let keypair = Keypair::generate_ed25519();
    let id = keypair.public().to_peer_id();
    let network: Network = "test".parse().unwrap();
    let policy = Policy { dials: everything(), hands_on: everything(), exempt: Arc::new(|_| true) };
    let mut config = kad::Config::new(keypair, network, policy);
    config.mode = Mode::Server;
    config.listen = vec!["/memory/0".parse().unwrap()];
    config.meeting_point = true;
    config.carrier = Carrier::Memory;
    let dht = Dht::start(config).unwrap();
    let mut events = dht.events();
    loop {
        if let DhtEvent::Listening { address } = events.recv().await.unwrap() {
            return (dht, address.with_p2p(id).unwrap());
        }
    }
}

struct Node {
    peer: PeerId,
    asker: Asker,
    teller: Teller,
}

fn node(points: &[Multiaddr]) -> Node {
    let keypair = Keypair::generate_ed25519();
    let peer = keypair.public().to_peer_id();
    let (policy, carrier) = (everything(), Carrier::Memory);
    let (asker, teller) = start(Config { keypair, points: points.to_vec(), policy, carrier }).unwrap();
    Node { peer, asker, teller }
}

impl Node {
    async fn finds(&mut self, peer: PeerId) -> Hint {
        self.asker.seek(&BTreeSet::from([peer]), peer);
        timeout(SOON, poll_fn(|cx| self.asker.poll_hint(cx))).await.unwrap()
    }
}

#[tokio::test]
async fn a_peer_that_registered_is_found_by_its_id_where_the_policy_lets_it_be() {
    let (_dht, point) = meeting_point().await;
    // One that is down does no harm.
    let down = format!("/memory/1/p2p/{}", PeerId::random()).parse().unwrap();
    let (mut a, mut b) = (node(&[down, point.clone()]), node(&[point]));
    let circuit =
        at(9).with_p2p(PeerId::random()).unwrap().with(libp2p::multiaddr::Protocol::P2pCircuit);
    b.teller.publish(&[at(1), "/ip4/10.0.0.1/tcp/1".parse().unwrap()]);
    b.teller.reachable(std::slice::from_ref(&circuit));
    let hint = a.finds(b.peer).await;
    assert_eq!(
        (hint.peer, hint.source, &hint.addresses),
        (b.peer, Source::Rendezvous, &vec![circuit, at(1)])
    );
    assert!(hint.lasts.unwrap() <= LASTS_MAX);
}

/// A stock node of libp2p.
fn stock_node<B: swarm::NetworkBehaviour>(keypair: &Keypair, behaviour: B) -> Swarm<B> {
    let transport = MemoryTransport::new()
        .upgrade(Version::V1Lazy)
        .authenticate(noise::Config::new(keypair).unwrap())
        .multiplex(yamux::Config::default())
        .boxed();
    let settings = swarm::Config::with_tokio_executor().with_idle_connection_timeout(SOON);
    Swarm::new(transport, behaviour, keypair.public().to_peer_id(), settings)
}

#[tokio::test]
async fn a_stock_client_registers_here_and_finds_who_did() {
    let (_dht, point) = meeting_point().await;
    let point_id = transport::peer_of(&point).unwrap();
    let mut ours = node(std::slice::from_ref(&point));
    let keypair = Keypair::generate_ed25519();
    let theirs = keypair.public().to_peer_id();
    let mut stock = stock_node(&keypair, stock::client::Behaviour::new(keypair.clone()));
    stock.add_external_address(at(5));
    stock.dial(point).unwrap();
    ours.teller.publish(&[at(1)]);
    let named = |peer| stock::Namespace::new(namespace(peer)).unwrap();
    let mut found = None;
    let meets = async {
        while found.is_none() {
            match stock.select_next_some().await {
                SwarmEvent::ConnectionEstablished { .. } => {
                    stock.behaviour_mut().register(named(theirs), point_id, None).unwrap();
                }
                SwarmEvent::Behaviour(stock::client::Event::Registered { ttl, .. }) => {
                    assert_eq!(ttl, 7200);
                    stock.behaviour_mut().discover(Some(named(ours.peer)), None, None, point_id);
                }
                SwarmEvent::Behaviour(stock::client::Event::Discovered { registrations, .. }) => {
                    found = registrations.first().map(|one| one.record.clone());
                    if found.is_none() {
                        // Ours tells a little later.
                        stock.behaviour_mut().discover(Some(named(ours.peer)), None, None, point_id);
                    }
                }
                _ => {}
            }
        }
    };
    timeout(SOON, meets).await.unwrap();
    let found = found.unwrap();
    assert_eq!((found.peer_id(), found.addresses()), (ours.peer, &[at(1)][..]));
    assert_eq!(ours.finds(theirs).await.addresses, [at(5)]);
}

#[tokio::test]
async fn a_stock_server_is_a_meeting_point_for_us() {
    let keypair = Keypair::generate_ed25519();
    let mut stock =
        stock_node(&keypair, stock::server::Behaviour::new(stock::server::Config::default()));
    stock.listen_on("/memory/0".parse().unwrap()).unwrap();
    let address = loop {
        if let SwarmEvent::NewListenAddr { address, .. } = stock.select_next_some().await {
            break address.with_p2p(keypair.public().to_peer_id()).unwrap();
        }
    };
    tokio::spawn(async move {
        loop {
            stock.select_next_some().await;
        }
    });
    let (mut a, mut b) = (node(std::slice::from_ref(&address)), node(&[address]));
    b.teller.publish(&[at(1)]);
    assert_eq!(a.finds(b.peer).await.addresses, [at(1)]);
}
