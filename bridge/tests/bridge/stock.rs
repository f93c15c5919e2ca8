//! Hole punches with stock libp2p peers, in both roles.

use futures::StreamExt;
use libp2p::{
    Multiaddr, PeerId, Swarm, SwarmBuilder, dcutr, identify,
    multiaddr::Protocol,
    noise, relay,
    swarm::{NetworkBehaviour, SwarmEvent, dial_opts::DialOpts},
    tcp, yamux,
};
use punchline_bridge::{Event, Path, RelayAddr};

use crate::world::{Node, QUIC, RelayNode, TCP, config, relay_config, until, within};

#[derive(NetworkBehaviour)]
struct Stock {
    relay: relay::client::Behaviour,
    dcutr: dcutr::Behaviour,
    identify: identify::Behaviour,
}

/// A stock peer that listens on loopback and is connected to the relay, which told it how it sees it.
async fn stock(listen: &str, relay: &RelayAddr) -> Swarm<Stock> {
    let mut swarm = SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
        .unwrap()
        .with_quic()
        .with_relay_client(noise::Config::new, yamux::Config::default)
        .unwrap()
        .with_behaviour(|keypair, relay| Stock {
            relay,
            dcutr: dcutr::Behaviour::new(keypair.public().to_peer_id()),
            identify: identify::Behaviour::new(identify::Config::new(
                "/test/1".to_owned(),
                keypair.public(),
            )),
        })
        .unwrap()
        .build();
    swarm.listen_on(listen.parse().unwrap()).unwrap();
    run(&mut swarm, "to listen", |event| matches!(event, SwarmEvent::NewListenAddr { .. })).await;
    let opts = DialOpts::peer_id(relay.peer()).addresses(vec![relay.address().clone()]).build();
    swarm.dial(opts).unwrap();
    run(&mut swarm, "a candidate", |event| matches!(event, SwarmEvent::NewExternalAddrCandidate { .. }))
        .await;
    swarm
}

async fn run(swarm: &mut Swarm<Stock>, what: &str, is: impl Fn(&SwarmEvent<StockEvent>) -> bool) {
    within(what, async { while !is(&swarm.select_next_some().await) {} }).await;
}

/// Waits until the stock peer says that its punch went through, and goes on serving it.
fn punched(mut swarm: Swarm<Stock>) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move { while swarm.next().await.is_some() {} })
}

async fn direct(node: &mut Node, wanted: PeerId) {
    until(&mut node.events, "an upgrade", |event| match event {
        Event::UpgradeSucceeded { peer, .. } if *peer == wanted => Some(()),
        Event::UpgradeFailed { reason, .. } => panic!("{reason}"),
        _ => None,
    })
    .await;
}

fn circuit(relay: &RelayAddr, peer: PeerId) -> Multiaddr {
    relay
        .address()
        .clone()
        .with(Protocol::P2p(relay.peer()))
        .with(Protocol::P2pCircuit)
        .with(Protocol::P2p(peer))
}

async fn a_stock_peer_that_comes_through_a_relay(listen: &str) {
    let relay = RelayNode::start(relay_config(listen)).await;
    let mut server = Node::start(config(listen)).await;
    server.reserve(&relay.address).await;
    let mut client = stock(listen, &relay.address).await;
    let id = *client.local_peer_id();
    client.dial(circuit(&relay.address, server.id())).unwrap();
    let _serving = punched(client);
    direct(&mut server, id).await;
}

#[tokio::test]
async fn a_stock_peer_that_comes_through_a_relay_becomes_direct_over_tcp() {
    a_stock_peer_that_comes_through_a_relay(TCP).await;
}

#[tokio::test]
async fn a_stock_peer_that_comes_through_a_relay_becomes_direct_over_quic() {
    a_stock_peer_that_comes_through_a_relay(QUIC).await;
}

async fn a_stock_peer_that_we_reach_through_a_relay(listen: &str) {
    let relay = RelayNode::start(relay_config(listen)).await;
    // From this the relay learns its own address. A stock peer asks once, and does not take an answer without.
    Node::start(config(listen)).await.reserve(&relay.address).await;
    let mut server = stock(listen, &relay.address).await;
    let id = *server.local_peer_id();
    server.listen_on(relay.address.circuit()).unwrap();
    let held = |event: &SwarmEvent<StockEvent>| {
        matches!(
            event,
            SwarmEvent::Behaviour(StockEvent::Relay(
                relay::client::Event::ReservationReqAccepted { .. }
            ))
        )
    };
    run(&mut server, "a reservation", held).await;
    let _serving = punched(server);
    let mut client = Node::start(config(listen)).await;
    client.endpoint.add_addresses(id, vec![circuit(&relay.address, id)]).await;
    client.endpoint.hold(id).await;
    let path = until(&mut client.events, "a circuit", |event| match event {
        Event::ConnectionOpened { peer, path, .. } if *peer == id => Some(*path),
        _ => None,
    })
    .await;
    assert_eq!(path, Path::Relayed { relay: relay.address.peer() });
    direct(&mut client, id).await;
}

#[tokio::test]
async fn a_stock_peer_that_we_reach_through_a_relay_becomes_direct_over_tcp() {
    a_stock_peer_that_we_reach_through_a_relay(TCP).await;
}

#[tokio::test]
async fn a_stock_peer_that_we_reach_through_a_relay_becomes_direct_over_quic() {
    a_stock_peer_that_we_reach_through_a_relay(QUIC).await;
}
