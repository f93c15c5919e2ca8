//! A peer that means no good, and a node that goes on.

use futures::{AsyncWriteExt, StreamExt};
use libp2p::{
    Multiaddr, PeerId, StreamProtocol, SwarmBuilder,
    identity::Keypair,
    noise,
    swarm::{SwarmEvent, dial_opts::DialOpts},
    tcp, yamux,
};
use libp2p_stream as stream;

use crate::world::{QUIC, TCP, config, exchange, pair_with, within};

pub(crate) const PROTOCOL: StreamProtocol = StreamProtocol::new("/punchline/stream/1");

/// A swarm that opens substreams of our protocol and then does as it likes. It is connected: libp2p-stream loses
/// an open that comes while another dial is under way.
pub(crate) async fn attacker(peer: PeerId, address: Multiaddr) -> stream::Control {
    attacker_as(Keypair::generate_ed25519(), peer, address).await
}

/// As [`attacker`]; with an identity that was here before.
pub(crate) async fn attacker_as(keypair: Keypair, peer: PeerId, address: Multiaddr) -> stream::Control {
    let mut swarm = SwarmBuilder::with_existing_identity(keypair)
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
        .unwrap()
        .with_quic()
        .with_behaviour(|_| stream::Behaviour::new())
        .unwrap()
        .build();
    let control = swarm.behaviour().new_control();
    swarm.dial(DialOpts::peer_id(peer).addresses(vec![address]).build()).unwrap();
    within("the attacker's connection", async {
        while !matches!(swarm.next().await, Some(SwarmEvent::ConnectionEstablished { .. })) {}
    })
    .await;
    tokio::spawn(async move { while swarm.next().await.is_some() {} });
    control
}

/// Substreams that an attacker holds open: more than libp2p negotiates at once on one connection.
const SILENT: usize = 150;

async fn silence_neither_stalls_nor_kills_the_node(listen: &str) {
    let (server, client) = pair_with(config(listen), config(listen)).await;
    let mut attacker = attacker(server.id(), server.endpoint.listening()[0].clone()).await;
    let mut held = Vec::new();
    for _ in 0..SILENT {
        // Past what the victim negotiates at once an open waits; one that does is proof enough.
        let open = attacker.open_stream(server.id(), PROTOCOL);
        match tokio::time::timeout(std::time::Duration::from_millis(200), open).await {
            Ok(opened) => held.push(opened.unwrap()),
            Err(_) => break,
        }
    }
    assert!(held.len() > 50, "only {} silent substreams", held.len());
    exchange(client.open(server.id()).await, b"not impressed").await;
}

#[tokio::test]
async fn silent_substreams_neither_stall_nor_kill_the_node_over_tcp() {
    silence_neither_stalls_nor_kills_the_node(TCP).await;
}

#[tokio::test]
async fn silent_substreams_neither_stall_nor_kill_the_node_over_quic() {
    silence_neither_stalls_nor_kills_the_node(QUIC).await;
}

#[tokio::test]
async fn garbage_neither_stalls_nor_kills_the_node() {
    let (server, client) = pair_with(config(TCP), config(TCP)).await;
    let mut attacker = attacker(server.id(), server.endpoint.listening()[0].clone()).await;
    for length in [1, 17, 18, 19, 100, 65_536] {
        for _ in 0..10 {
            let opened = attacker.open_stream(server.id(), PROTOCOL);
            let mut stream = within("a substream", opened).await.unwrap();
            let garbage: Vec<u8> = (0..length).map(|_| rand::random()).collect();
            // The victim may be gone from this substream before it has read everything.
            let _ = within("the write", stream.write_all(&garbage)).await;
            let _ = within("the close", stream.close()).await;
        }
    }
    exchange(client.open(server.id()).await, b"not impressed").await;
}
