//! Every open ends: with a stream or with an error that says why.

use std::time::{Duration, Instant};

use futures::StreamExt;
use libp2p::{SwarmBuilder, identity::Keypair, noise, ping, swarm::SwarmEvent, tcp, yamux};
use punchline_bridge::{
    Event, Multiaddr, PeerId, RelayAddr,
    error::{CloseCause, DialFailureReason, OpenError, Refusal, ServeError},
    event::Asked,
    stream::{frame::Code, machine::StreamError},
};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::world::{
    Node, PATIENCE, QUIC, RelayNode, TCP, config, exchange, pair, pair_with, refused, relay_config,
    service, through_a_relay, until, within,
};

fn somebody() -> PeerId {
    Keypair::generate_ed25519().public().to_peer_id()
}

/// The error of an open to `peer` at `address`.
async fn error_at(client: &Node, peer: PeerId, address: Multiaddr) -> OpenError {
    client.endpoint.add_addresses(peer, vec![address]).await;
    within("an error", client.endpoint.open(peer, service())).await.unwrap_err()
}

/// The reason of the only way that was tried.
pub(crate) fn only_reason(error: OpenError) -> DialFailureReason {
    match error {
        OpenError::NoRouteToDestination { tried: mut causes, .. } if causes.len() == 1 => {
            causes.remove(0).reason
        }
        other => panic!("{other:?}"),
    }
}

/// A dial leaves from the listened port on whatever address, and another socket may have that port on one
/// of them: another program's, or one that only waits out its minute after a connection.
#[tokio::test]
async fn a_dial_leaves_from_another_port_if_the_listened_one_is_taken_on_another_address() {
    let elsewhere = std::net::TcpListener::bind("127.0.0.2:0").unwrap();
    let port = elsewhere.local_addr().unwrap().port();
    let client = Node::start(config(&format!("/ip4/127.0.0.1/tcp/{port}"))).await;
    let server = Node::start(config(TCP)).await;
    server.echo().await;
    client.endpoint.add_addresses(server.id(), server.endpoint.listening().to_vec()).await;
    exchange(client.open(server.id()).await, b"from any port").await;
}

#[tokio::test]
async fn a_service_that_nobody_answers_for_is_refused() {
    let (server, client) = pair(TCP).await;
    let unknown = "unknown".parse().unwrap();
    let error = within("an error", client.endpoint.open(server.id(), unknown)).await.unwrap_err();
    assert!(matches!(error, OpenError::Refused { reason: Refusal::NotServed, .. }), "{error:?}");
}

#[tokio::test]
async fn a_service_has_one_owner_and_is_free_again_when_dropped() {
    let (server, client) = pair(TCP).await;
    let other: punchline_bridge::Service = "other".parse().unwrap();
    let incoming = server.endpoint.incoming(other.clone()).await.unwrap();
    let taken = server.endpoint.incoming(other.clone()).await.unwrap_err();
    assert_eq!(taken, ServeError::Taken { service: other.clone() });
    drop(incoming);
    let error = within("an error", client.endpoint.open(server.id(), other.clone())).await.unwrap_err();
    assert!(matches!(error, OpenError::Refused { reason: Refusal::NotServed, .. }), "{error:?}");
    let mut incoming = server.endpoint.incoming(other.clone()).await.unwrap();
    within("a stream", client.endpoint.open(server.id(), other)).await.unwrap();
    within("a stream", incoming.next()).await.unwrap();
}

#[tokio::test]
async fn a_peer_that_does_not_speak_our_protocol_is_told_apart() {
    let mut swarm = SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
        .unwrap()
        .with_behaviour(|_| ping::Behaviour::default())
        .unwrap()
        .build();
    let peer = *swarm.local_peer_id();
    swarm.listen_on(TCP.parse().unwrap()).unwrap();
    let address = loop {
        if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
            break address;
        }
    };
    tokio::spawn(async move { while swarm.next().await.is_some() {} });
    let client = Node::start(config(TCP)).await;
    let error = error_at(&client, peer, address).await;
    assert!(matches!(error, OpenError::Unsupported { .. }), "{error:?}");
}

#[tokio::test]
async fn somebody_else_at_the_address_is_named() {
    for listen in [TCP, QUIC] {
        let (server, client) = pair(listen).await;
        let error = error_at(&client, somebody(), server.endpoint.listening()[0].clone()).await;
        assert_eq!(only_reason(error), DialFailureReason::WrongPeer { obtained: server.id() });
    }
}

#[tokio::test]
async fn an_address_where_nobody_listens_is_a_network_failure() {
    let client = Node::start(config(TCP)).await;
    // Port 1 is reserved and refuses at once.
    let error = error_at(&client, somebody(), "/ip4/127.0.0.1/tcp/1".parse().unwrap()).await;
    let DialFailureReason::Network { cause } = only_reason(error) else { panic!("another reason") };
    assert!(cause.contains("refused"), "{cause}");
}

#[tokio::test]
async fn an_address_that_no_transport_of_ours_takes_is_a_network_failure() {
    let client = Node::start(config(TCP)).await;
    let error = error_at(&client, somebody(), "/ip4/127.0.0.1/udp/1".parse().unwrap()).await;
    assert!(matches!(only_reason(error), DialFailureReason::Network { .. }));
}

#[tokio::test]
async fn a_peer_without_a_reservation_is_told_apart() {
    for listen in [TCP, QUIC] {
        let (relay, _server, client) = through_a_relay(relay_config(listen)).await;
        let absent = somebody();
        let error = error_at(&client, absent, relay.address.circuit_to(absent)).await;
        assert_eq!(only_reason(error), DialFailureReason::NoReservation);
    }
}

#[tokio::test]
async fn a_peer_that_is_no_relay_refuses_the_circuit() {
    let (server, client) = pair(TCP).await;
    let listening = server.endpoint.listening()[0].clone();
    let no_relay = RelayAddr::new(listening.with_p2p(server.id()).unwrap()).unwrap();
    let absent = somebody();
    let error = error_at(&client, absent, no_relay.circuit_to(absent)).await;
    assert!(matches!(only_reason(error), DialFailureReason::CircuitRefused { .. }));
}

#[tokio::test]
async fn a_relay_that_is_down_fails_the_circuit() {
    let relay = RelayNode::start(relay_config(TCP)).await;
    let address = relay.address.clone();
    relay.relay.shutdown().await;
    let client = Node::start(config(TCP)).await;
    let absent = somebody();
    let error = error_at(&client, absent, address.circuit_to(absent)).await;
    assert!(matches!(only_reason(error), DialFailureReason::Network { .. }));
}

#[tokio::test]
async fn a_full_queue_refuses_counts_and_does_not_stall_the_rest() {
    let mut narrow = config(TCP);
    narrow.limits.unaccepted_streams = 2;
    let (mut server, client) = pair_with(narrow, config(TCP)).await;
    let slow: punchline_bridge::Service = "slow".parse().unwrap();
    let mut incoming = server.endpoint.incoming(slow.clone()).await.unwrap();
    let open = || within("an answer", client.endpoint.open(server.endpoint.peer_id(), slow.clone()));
    let _first = open().await.unwrap();
    let _second = open().await.unwrap();
    for _ in 0..3 {
        let error = open().await.unwrap_err();
        assert!(matches!(error, OpenError::Refused { reason: Refusal::Busy, .. }), "{error:?}");
        assert_eq!(refused(&mut server.events).await, (Asked::Stream, 2));
    }
    exchange(client.open(server.id()).await, b"another service goes on").await;
    within("a stream", incoming.next()).await.unwrap();
    within("an answer", client.endpoint.open(server.id(), slow)).await.unwrap();
}

#[tokio::test]
async fn one_stream_more_than_a_peer_may_have_is_refused_and_counted() {
    let mut narrow = config(TCP);
    narrow.limits.streams_per_peer = 2;
    let (mut server, client) = pair_with(narrow, config(TCP)).await;
    let _first = client.open(server.id()).await;
    let _second = client.open(server.id()).await;
    let error = within("an answer", client.endpoint.open(server.id(), service())).await.unwrap_err();
    assert!(matches!(error, OpenError::Refused { reason: Refusal::Busy, .. }), "{error:?}");
    assert_eq!(refused(&mut server.events).await, (Asked::StreamOfPeer, 2));
}

#[tokio::test]
async fn one_connection_more_than_the_limit_is_refused_and_counted() {
    let mut narrow = config(TCP);
    narrow.limits.connections = 1;
    let (mut server, client) = pair_with(narrow, config(TCP)).await;
    let stream = client.open(server.id()).await;
    let other = Node::start(config(TCP)).await;
    other.endpoint.add_addresses(server.id(), server.endpoint.listening().to_vec()).await;
    assert!(within("an answer", other.endpoint.open(server.id(), service())).await.is_err());
    assert_eq!(refused(&mut server.events).await, (Asked::Connection, 1));
    exchange(stream, b"the first one goes on").await;
}

#[tokio::test]
async fn after_shutdown_everything_ends_and_every_call_says_so() {
    let (mut server, client) = pair(TCP).await;
    let other: punchline_bridge::Service = "other".parse().unwrap();
    let mut incoming = server.endpoint.incoming(other.clone()).await.unwrap();
    let _stream = client.open(server.id()).await;
    let started = Instant::now();
    within("the shutdown", server.endpoint.shutdown()).await;
    assert!(started.elapsed() < Duration::from_secs(3));
    assert!(within("the end of the service", incoming.next()).await.is_none());
    assert!(matches!(server.endpoint.open(client.id(), service()).await, Err(OpenError::Shutdown)));
    assert_eq!(server.endpoint.incoming(other).await.unwrap_err(), ServeError::Shutdown);
    until(&mut server.events, "the last event", |event| {
        matches!(event, Event::Stopped {}).then_some(())
    })
    .await;
    assert!(within("the end of the events", server.events.next()).await.is_none());
    assert!(within("no events", server.endpoint.events().next()).await.is_none());
}

/// On several threads: on one, a stream's last word leaves before its connection closes even if nobody waits for that.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_peer_of_a_stream_is_told_of_a_shutdown() {
    for _ in 0..5 {
        let (server, client) = pair(TCP).await;
        let mut streams = Vec::new();
        for _ in 0..8 {
            let mut stream = client.open(server.id()).await;
            within("a request", stream.write_all(&vec![7; 64 << 10])).await.unwrap();
            streams.push(stream);
        }
        within("the shutdown", server.endpoint.shutdown()).await;
        for mut stream in streams {
            let read = within("the end", stream.read_to_end(&mut Vec::new())).await;
            let error = read.unwrap_err();
            let told = error.get_ref().and_then(|cause| cause.downcast_ref::<StreamError>());
            assert_eq!(told, Some(&StreamError::PeerReset { code: Code::Shutdown }));
        }
    }
}

#[tokio::test]
async fn a_node_ends_when_its_last_handle_is_dropped() {
    let (server, client) = pair(TCP).await;
    let _stream = client.open(server.id()).await;
    let Node { endpoint, mut events } = client;
    drop(endpoint);
    within("the end of the events", async { while events.next().await.is_some() {} }).await;
}

#[tokio::test]
async fn an_open_that_waits_is_answered_when_the_node_is_shut_down() {
    // A listener that never says a word: the dial hangs in its handshake.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = silent.local_addr().unwrap().port();
    let client = Node::start(config(TCP)).await;
    let peer = somebody();
    let address = format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap();
    client.endpoint.add_addresses(peer, vec![address]).await;
    let endpoint = client.endpoint.clone();
    let open = tokio::spawn(async move { endpoint.open(peer, service()).await });
    let (_socket, _) = within("the dial", silent.accept()).await.unwrap();
    client.endpoint.shutdown().await;
    assert!(matches!(within("an answer", open).await.unwrap(), Err(OpenError::Shutdown)));
}

#[tokio::test]
async fn an_open_to_a_silent_address_ends_at_its_deadline() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = silent.local_addr().unwrap().port();
    let mut hasty = config(TCP);
    hasty.deadlines.open = Duration::from_millis(300);
    let client = Node::start(hasty).await;
    let started = Instant::now();
    let address = format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap();
    let error = error_at(&client, somebody(), address).await;
    assert!(matches!(error, OpenError::Deadline { .. }), "{error:?}");
    assert!(started.elapsed() < PATIENCE / 20);
}

/// Over QUIC that is told by the text of an error of libp2p-quic 0.14, which has no type for it: should this
/// fail after an upgrade, see `net/translate.rs`.
#[tokio::test]
async fn a_connection_that_the_peer_closed_is_told_from_one_that_broke() {
    for listen in [TCP, QUIC] {
        let (server, mut client) = pair(listen).await;
        client.open(server.id()).await;
        server.endpoint.shutdown().await;
        let cause = until(&mut client.events, "the end of the connection", |event| match event {
            Event::ConnectionClosed { cause, .. } => Some(cause.clone()),
            _ => None,
        })
        .await;
        assert_eq!(cause, CloseCause::Peer, "{listen}");
    }
}
