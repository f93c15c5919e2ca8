//! Relays that are reached over WebSockets.

use std::time::{Duration, Instant};

use libp2p::{
    SwarmBuilder, Transport as _,
    core::upgrade::Version,
    futures::StreamExt as _,
    identify,
    identity::Keypair,
    noise, relay,
    swarm::{NetworkBehaviour, SwarmEvent},
    tcp, yamux,
};
use punchline_bridge::{
    Event, Events, Multiaddr, Path, RelayAddr,
    event::Blocked,
    path::Transport,
    relay::{Certificate, RelayConfig},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UdpSocket},
};

use crate::world::{self, Node, RelayNode, exchange, relay_config, until, within};

pub(crate) const WS: &str = "/ip4/127.0.0.1/tcp/0/ws";
pub(crate) const TLS_WS: &str = "/ip4/127.0.0.1/tcp/0/tls/ws";

/// A relay's settings for WebSockets, with a certificate that nobody knows.
pub(crate) fn web_config(listen: &str) -> RelayConfig {
    let made = rcgen::generate_simple_self_signed(Vec::new()).unwrap();
    let (chain, key) = (made.cert.pem(), made.key_pair.serialize_pem());
    let certificate = Certificate::from_pem(chain.as_bytes(), key.as_bytes()).unwrap();
    RelayConfig { certificate: Some(certificate), ..relay_config(listen) }
}

/// What carries the next connection that takes a path like this.
async fn carrier(events: &mut Events, relayed: bool) -> Transport {
    until(events, "a connection", |event| match event {
        Event::ConnectionOpened { path, transport, .. } if path.is_direct() != relayed => {
            Some(*transport)
        }
        _ => None,
    })
    .await
}

fn port_of(relay: &RelayNode) -> u16 {
    let mut parts = relay.address.address().iter();
    parts
        .find_map(|part| match part {
            libp2p::multiaddr::Protocol::Tcp(port) => Some(port),
            _ => None,
        })
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_peers_meet_over_a_relay_of_websockets_with_tls_or_without() {
    for listen in [WS, TLS_WS] {
        let relay = RelayNode::start(web_config(listen)).await;
        let mut server = Node::start(world::unpunchable(world::TCP)).await;
        let circuit = server.reserve(&relay.address).await;
        assert!(circuit.to_string().contains("/ws/p2p/"), "{circuit}");
        server.echo().await;
        let mut client = Node::start(world::unpunchable(world::TCP)).await;
        client.endpoint.add_addresses(server.id(), vec![circuit]).await;
        let stream = client.open(server.id()).await;
        assert_eq!(carrier(&mut client.events, false).await, Transport::Websocket);
        assert_eq!(carrier(&mut client.events, true).await, Transport::Websocket);
        exchange(stream, &[7; 200_000]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_relay_of_websockets_is_seen_at_once() {
    let relay = RelayNode::start(web_config(TLS_WS)).await;
    let mut server = Node::start(world::unpunchable(world::TCP)).await;
    server.reserve(&relay.address).await;
    relay.relay.shutdown().await;
    let cause = until(&mut server.events, "the loss of the reservation", |event| match event {
        Event::ReservationLost { cause, .. } => Some(cause.clone()),
        _ => None,
    });
    // Which of the two depends on what its system had not read yet.
    let cause = cause.await;
    let causes = ["closed by the peer", "closed by the peer's system", "reset by the peer"];
    assert!(causes.contains(&cause.as_str()), "{cause}");
}

#[derive(NetworkBehaviour)]
struct Stock {
    relay: relay::client::Behaviour,
    identify: identify::Behaviour,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stock_client_reserves_over_a_websocket_of_ours() {
    let relay = RelayNode::start(web_config(WS)).await;
    // It takes reservations once it knows its address.
    Node::start(world::config(world::TCP)).await.reserve(&relay.address).await;
    let mut swarm = SwarmBuilder::with_existing_identity(Keypair::generate_ed25519())
        .with_tokio()
        .with_other_transport(|keypair| {
            libp2p_websocket::Config::new(tcp::tokio::Transport::default())
                .upgrade(Version::V1)
                .authenticate(noise::Config::new(keypair).unwrap())
                .multiplex(yamux::Config::default())
        })
        .unwrap()
        .with_relay_client(noise::Config::new, yamux::Config::default)
        .unwrap()
        .with_behaviour(|keypair, relay| Stock {
            relay,
            identify: identify::Behaviour::new(identify::Config::new(
                "/stock/1".into(),
                keypair.public(),
            )),
        })
        .unwrap()
        .build();
    swarm.listen_on(relay.address.circuit()).unwrap();
    within("a reservation", async {
        loop {
            match swarm.select_next_some().await {
                SwarmEvent::Behaviour(StockEvent::Relay(
                    relay::client::Event::ReservationReqAccepted { .. },
                )) => return,
                SwarmEvent::ListenerClosed { reason, .. } => panic!("{reason:?}"),
                _ => {}
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_addresses_of_a_relay_the_one_that_works_is_found_within_two_seconds() {
    let relay = RelayNode::start(web_config(TLS_WS)).await;
    // They take what is sent and never answer.
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let silent = [
        format!("/ip4/127.0.0.1/udp/{}/quic-v1", udp.local_addr().unwrap().port()),
        format!("/ip4/127.0.0.1/tcp/{}", tcp.local_addr().unwrap().port()),
    ];
    let peer = relay.address.peer();
    let silent = silent.iter().map(|text| format!("{text}/p2p/{peer}").parse::<RelayAddr>().unwrap());
    let relays = std::iter::once(relay.address.clone()).chain(silent).collect();
    let mut node = Node::start(world::config(world::TCP)).await;
    let begun = Instant::now();
    node.endpoint.reserve_all(relays).await;
    node.held().await;
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    let (transports, what) = until(&mut node.events, "a word of what is blocked", |event| match event {
        Event::NetworkBlocks { transports, what, .. } => Some((transports.clone(), *what)),
        _ => None,
    })
    .await;
    assert_eq!(transports, [Transport::Tcp, Transport::Quic]);
    assert_eq!(what, Blocked::AllButWeb);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_tcp_answers_it_is_taken_and_nothing_is_said_to_be_blocked() {
    let listen = [world::TCP, TLS_WS].map(|text| text.parse::<Multiaddr>().unwrap());
    let relay = RelayNode::start(RelayConfig { listen: listen.to_vec(), ..web_config(WS) }).await;
    let peer = relay.relay.peer_id();
    let address = |at: &Multiaddr| RelayAddr::new(at.clone().with_p2p(peer).unwrap()).unwrap();
    let relays: Vec<_> = relay.relay.listening().iter().rev().map(address).collect();
    let mut node = Node::start(world::config(world::TCP)).await;
    node.endpoint.reserve_all(relays).await;
    // On a busy machine the WebSocket may be there first; then TCP is given another chance.
    within("a connection over TCP", async {
        loop {
            match node.events.next().await.unwrap() {
                Event::ConnectionOpened { transport: Transport::Tcp, path: Path::Direct, .. } => return,
                Event::NetworkBlocks { what, .. } => panic!("{what}"),
                _ => {}
            }
        }
    })
    .await;
}

/// The end of a connection that the relay closes.
async fn end_of(mut tcp: TcpStream) {
    let mut rest = Vec::new();
    let _ = within("the end of a connection", tcp.read_to_end(&mut rest)).await;
}

/// Why a node has no reservation.
async fn failure(node: &mut Node, relay: &str) -> String {
    node.endpoint.reserve(relay.parse().unwrap()).await;
    until(&mut node.events, "a failure", |event| match event {
        Event::ReservationFailed { cause, .. } => Some(cause.clone()),
        _ => None,
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_says_nothing_or_too_much_before_the_websocket_is_there_is_sent_away() {
    for listen in [WS, TLS_WS] {
        let relay = RelayNode::start(web_config(listen)).await;
        let silent = TcpStream::connect(("127.0.0.1", port_of(&relay))).await.unwrap();
        let mut chatty = TcpStream::connect(("127.0.0.1", port_of(&relay))).await.unwrap();
        let flood = tokio::spawn(async move {
            let _ = chatty.write_all(b"GET / HTTP/1.1\r\n").await;
            while chatty.write_all(&[b'x'; 4096]).await.is_ok() {}
        });
        within("the end of the flood", flood).await.unwrap();
        end_of(silent).await;
        let mut node = Node::start(world::config(world::TCP)).await;
        node.reserve(&relay.address).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_never_become_websockets_take_no_more_places_than_handshakes_have() {
    let limit = RelayConfig { pending_inbound: 4, ..web_config(TLS_WS) };
    let mut relay = RelayNode::start(limit).await;
    let mut silent = Vec::new();
    for _ in 0..5 {
        silent.push(TcpStream::connect(("127.0.0.1", port_of(&relay))).await.unwrap());
    }
    assert_eq!(world::refused(&mut relay.events).await.1, 4);
    end_of(silent.pop().unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_answers_in_place_of_a_websocket_is_told() {
    let relay = RelayNode::start(relay_config(world::TCP)).await;
    let port = port_of(&relay);
    let web = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let page = web.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (mut tcp, _) = web.accept().await.unwrap();
            let _ = tcp.read(&mut [0; 16 << 10]).await;
            let _ = tcp.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").await;
        }
    });
    let mut node = Node::start(world::config(world::TCP)).await;
    for (layers, port, wanted) in [
        ("ws", page, "HTTP status 404 Not Found instead of a WebSocket"),
        ("tls/ws", page, "no TLS could be agreed on"),
        ("tls/ws", port, "no TLS could be agreed on"),
    ] {
        let peer = Keypair::generate_ed25519().public().to_peer_id();
        let said = failure(&mut node, &format!("/ip4/127.0.0.1/tcp/{port}/{layers}/p2p/{peer}")).await;
        assert!(said.contains(wanted), "{said}");
    }
}
