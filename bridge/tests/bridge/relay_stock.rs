//! Clients of rust-libp2p at a relay of ours.

use std::time::Duration;

use futures::{AsyncReadExt, AsyncWriteExt, StreamExt};
use libp2p::{
    Multiaddr, PeerId, StreamProtocol, Swarm, SwarmBuilder, identify,
    identity::Keypair,
    multiaddr::Protocol,
    noise, relay,
    swarm::{NetworkBehaviour, SwarmEvent},
    tcp, yamux,
};
use libp2p_stream as stream;
use punchline_bridge::relay::RelayConfig;

use crate::{
    relay_hand::reachable,
    world::{QUIC, RelayNode, TCP, within},
};

const ECHO: StreamProtocol = StreamProtocol::new("/test/echo/1");

#[derive(NetworkBehaviour)]
struct Stock {
    relay: relay::client::Behaviour,
    identify: identify::Behaviour,
    stream: stream::Behaviour,
}

fn stock() -> Swarm<Stock> {
    SwarmBuilder::with_existing_identity(Keypair::generate_ed25519())
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
        .unwrap()
        .with_quic()
        .with_relay_client(noise::Config::new, yamux::Config::default)
        .unwrap()
        .with_behaviour(|keypair, relay| Stock {
            relay,
            identify: identify::Behaviour::new(identify::Config::new(
                "/stock/1".to_owned(),
                keypair.public(),
            )),
            stream: stream::Behaviour::new(),
        })
        .unwrap()
        .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_secs(600)))
        .build()
}

/// Reserves and answers with an echo; what happens to it is told.
async fn server(circuit: Multiaddr) -> (PeerId, tokio::task::JoinHandle<()>) {
    let mut swarm = stock();
    let id = *swarm.local_peer_id();
    let mut incoming = swarm.behaviour().stream.new_control().accept(ECHO).unwrap();
    tokio::spawn(async move {
        while let Some((_, io)) = incoming.next().await {
            tokio::spawn(async move {
                let (mut read, mut write) = io.split();
                let _ = futures::io::copy(&mut read, &mut write).await;
                let _ = write.close().await;
            });
        }
    });
    swarm.listen_on(circuit).unwrap();
    within("a reservation", async {
        loop {
            match swarm.select_next_some().await {
                SwarmEvent::Behaviour(StockEvent::Relay(
                    relay::client::Event::ReservationReqAccepted { limit: Some(limit), .. },
                )) => return assert_eq!(limit.duration(), Some(Duration::from_secs(7200))),
                SwarmEvent::ListenerClosed { reason, .. } => panic!("{reason:?}"),
                _ => {}
            }
        }
    })
    .await;
    (id, tokio::spawn(async move { while swarm.next().await.is_some() {} }))
}

async fn stock_clients_meet(listen: &str) {
    let config = RelayConfig { listen: vec![listen.parse().unwrap()], ..reachable() };
    let relay = RelayNode::start(config).await;
    let address = relay.address.circuit();
    let (server, serving) = server(address.clone()).await;
    let mut swarm = stock();
    let mut control = swarm.behaviour().stream.new_control();
    swarm.dial(address.with(Protocol::P2p(server))).unwrap();
    let client = tokio::spawn(async move { while swarm.next().await.is_some() {} });
    let io = within("a substream", control.open_stream(server, ECHO)).await.unwrap();
    let (mut read, mut write) = io.split();
    let sent: Vec<u8> = (0..1_000_000).map(|at: u32| at as u8).collect();
    let sending = async {
        write.write_all(&sent).await.unwrap();
        write.close().await.unwrap();
    };
    let mut back = Vec::new();
    let (_, received) =
        within("an echo", async { tokio::join!(sending, read.read_to_end(&mut back)) }).await;
    received.unwrap();
    assert!(back == sent);
    serving.abort();
    client.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn stock_clients_reserve_and_reach_each_other_over_tcp() {
    stock_clients_meet(TCP).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stock_clients_reserve_and_reach_each_other_over_quic() {
    stock_clients_meet(QUIC).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stock_client_is_told_that_there_is_no_room() {
    let mut limits = reachable();
    limits.reservations = 1;
    let relay = RelayNode::start(limits).await;
    let _first = server(relay.address.circuit()).await;
    let mut second = stock();
    second.listen_on(relay.address.circuit()).unwrap();
    let reason = within("a refusal", async {
        loop {
            if let SwarmEvent::ListenerClosed { reason, .. } = second.select_next_some().await {
                return reason;
            }
        }
    })
    .await;
    assert!(format!("{reason:?}").contains("ResourceLimitExceeded"), "{reason:?}");
}
