//! What a relay grants and refuses, and what happens when it goes away.

use std::{
    num::NonZeroU32,
    time::{Duration, Instant, SystemTime},
};

use futures::future::join_all;
use libp2p::identity::Keypair;
use punchline_bridge::{
    Event, PeerId, RelayAddr,
    error::{DialFailureReason, LimitOwner, OpenError},
    event::Asked,
    relay::{Rate, RelayConfig},
};
use tokio::runtime::Runtime;

use crate::world::{
    Node, QUIC, RelayNode, TCP, config, exchange, pair, refused, relay_config, service, through_a_relay,
    through_a_relay_with, unpunchable, until, within,
};

/// A relay on a runtime of its own: dropping that is the nearest to a kill that one process can do.
fn relay_apart(config: RelayConfig, keypair: Keypair) -> (Runtime, RelayAddr) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (tell, told) = std::sync::mpsc::channel();
    runtime.spawn(async move {
        let relay = RelayNode::start_as(config, keypair).await;
        tell.send(relay.address.clone()).unwrap();
        std::future::pending::<()>().await;
    });
    let address = tokio::task::block_in_place(|| told.recv().unwrap());
    (runtime, address)
}

/// Kills a relay and starts it again on the same port: how long the server was without a reservation.
async fn without_reservation(listen: &str) -> Duration {
    let keypair = Keypair::generate_ed25519();
    let (runtime, address) = relay_apart(relay_config(listen), keypair.clone());
    let mut server = Node::start(config(listen)).await;
    let circuit = server.reserve(&address).await;
    server.echo().await;
    runtime.shutdown_background();
    let (_again, same) = restarted(address.address().to_string(), keypair);
    assert_eq!(same, address);
    let back = Instant::now();
    server.held().await;
    let waited = back.elapsed();
    let client = Node::start(config(listen)).await;
    client.endpoint.add_addresses(server.id(), vec![circuit]).await;
    exchange(client.open(server.id()).await, b"reachable again").await;
    _again.shutdown_background();
    waited
}

/// The port may be taken for a moment, until the killed relay's sockets are closed.
fn restarted(listen: String, keypair: Keypair) -> (Runtime, RelayAddr) {
    let port: u16 = listen.split('/').nth(4).unwrap().parse().unwrap();
    let started = Instant::now();
    let free = || match listen.contains("tcp") {
        true => std::net::TcpListener::bind(("127.0.0.1", port)).is_ok(),
        false => std::net::UdpSocket::bind(("127.0.0.1", port)).is_ok(),
    };
    while !free() {
        assert!(started.elapsed() < Duration::from_secs(5), "the port stays taken");
        std::thread::yield_now();
    }
    relay_apart(relay_config(&listen), keypair)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_relay_is_found_again_within_five_seconds_over_tcp() {
    let waited = without_reservation(TCP).await;
    println!("tcp: {waited:?} without a reservation");
    assert!(waited < Duration::from_secs(5), "{waited:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_relay_is_found_again_within_five_seconds_over_quic() {
    let waited = without_reservation(QUIC).await;
    println!("quic: {waited:?} without a reservation");
    assert!(waited < Duration::from_secs(5), "{waited:?}");
}

#[tokio::test]
async fn a_reservation_announces_the_limits_and_its_end() {
    let mut limits = relay_config(TCP);
    limits.circuit_bytes = 123_456;
    limits.circuit_duration = Duration::from_secs(77);
    limits.reservation_duration = Duration::from_secs(1000);
    let relay = RelayNode::start(limits).await;
    let mut server = Node::start(config(TCP)).await;
    server.endpoint.reserve(relay.address.clone()).await;
    let (expires, bytes, seconds) = until(&mut server.events, "a reservation", |event| match event {
        Event::ReservationHeld { expires, circuit_bytes_max, circuit_seconds_max, .. } => {
            Some((expires.unwrap(), *circuit_bytes_max, *circuit_seconds_max))
        }
        _ => None,
    })
    .await;
    assert_eq!((bytes, seconds), (Some(123_456), Some(77)));
    let left = expires.duration_since(SystemTime::now()).unwrap();
    assert!((900..=1000).contains(&left.as_secs()), "{left:?}");
}

#[tokio::test]
async fn one_reservation_more_than_the_limit_is_refused_and_counted() {
    let mut limits = relay_config(TCP);
    limits.reservations = 1;
    let mut relay = RelayNode::start(limits).await;
    let mut first = Node::start(config(TCP)).await;
    first.reserve(&relay.address).await;
    let second = Node::start(config(TCP)).await;
    second.endpoint.reserve(relay.address.clone()).await;
    assert_eq!(refused(&mut relay.events).await, (Asked::Reservation, 1));
    // The first one goes, so the second one gets its place without being told.
    first.endpoint.shutdown().await;
    let second_id = second.id();
    until(&mut relay.events, "the second reservation", |event| match event {
        Event::ReservationAccepted { peer, .. } if *peer == second_id => Some(()),
        _ => None,
    })
    .await;
}

/// The reason why no circuit to `peer` was had.
async fn circuit_error(client: &Node, peer: PeerId) -> DialFailureReason {
    match within("an error", client.endpoint.open(peer, service())).await.unwrap_err() {
        OpenError::NoRouteToDestination { tried: mut causes, .. } if causes.len() == 1 => {
            causes.remove(0).reason
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn one_circuit_more_than_the_limit_is_refused_and_counted() {
    let mut limits = relay_config(TCP);
    limits.circuits = 1;
    // A direct connection, should one come about, must not free the circuit.
    let mut nodes = unpunchable(TCP);
    nodes.deadlines.relayed_grace = Duration::from_secs(600);
    let (mut relay, server, first) = through_a_relay_with(limits, nodes).await;
    let stream = first.open(server.id()).await;
    let second = Node::start(config(TCP)).await;
    second.endpoint.add_addresses(server.id(), vec![relay.address.circuit_to(server.id())]).await;
    let DialFailureReason::RelayFull(limit) = circuit_error(&second, server.id()).await else {
        panic!("another reason");
    };
    assert_eq!((limit.owner, limit.limit), (LimitOwner::Relay, Some(1)));
    assert_eq!(refused(&mut relay.events).await, (Asked::Circuit, 1));
    exchange(stream, b"the first circuit goes on").await;
}

#[tokio::test]
async fn requests_for_an_absent_peer_do_not_use_up_what_a_client_may_ask_for() {
    let mut limits = relay_config(TCP);
    limits.requests_per_peer = Rate::per_hour(NonZeroU32::new(1).unwrap());
    let (relay, server, client) = through_a_relay(limits).await;
    let absent = Keypair::generate_ed25519().public().to_peer_id();
    client.endpoint.add_addresses(absent, vec![relay.address.circuit_to(absent)]).await;
    for _ in 0..5 {
        assert_eq!(circuit_error(&client, absent).await, DialFailureReason::NoReservation);
    }
    exchange(client.open(server.id()).await, b"the one circuit of this hour").await;
}

/// The cause with which the next circuit ended.
async fn circuit_closed(relay: &mut RelayNode) -> Option<String> {
    until(&mut relay.events, "the end of a circuit", |event| match event {
        Event::CircuitClosed { cause, .. } => Some(cause.clone()),
        _ => None,
    })
    .await
}

#[tokio::test]
async fn a_stream_outlives_a_circuit_whose_bytes_are_used_up() {
    let mut limits = relay_config(TCP);
    limits.circuit_bytes = 128 * 1024;
    let (mut relay, server, client) = through_a_relay_with(limits, unpunchable(TCP)).await;
    let stream = client.open(server.id()).await;
    let facts = stream.facts().clone();
    exchange(stream, &[7; 200 * 1024]).await;
    assert!(circuit_closed(&mut relay).await.is_some());
    assert!(!facts.moves().is_empty());
}

#[tokio::test]
async fn a_stream_outlives_a_circuit_whose_time_is_over() {
    let mut limits = relay_config(TCP);
    limits.circuit_duration = Duration::from_secs(1);
    let (mut relay, server, client) = through_a_relay_with(limits, unpunchable(TCP)).await;
    let stream = client.open(server.id()).await;
    let facts = stream.facts().clone();
    assert!(circuit_closed(&mut relay).await.is_some());
    exchange(stream, &[7; 20 * 1024]).await;
    assert!(!facts.moves().is_empty());
}

#[tokio::test]
async fn a_connection_that_held_no_reservation_ends_none() {
    let (mut relay, server, client) = through_a_relay(relay_config(TCP)).await;
    client.open(server.id()).await;
    let (client_id, server_id) = (client.id(), server.id());
    client.endpoint.shutdown().await;
    server.endpoint.shutdown().await;
    let ended = until(&mut relay.events, "the end of the reservation", |event| match event {
        Event::ReservationEnded { peer } => Some(*peer),
        _ => None,
    })
    .await;
    assert_ne!(ended, client_id);
    assert_eq!(ended, server_id);
}

#[tokio::test]
async fn a_relay_is_not_a_peer_of_ours() {
    let (_server, client) = pair(TCP).await;
    let relay = RelayNode::start(relay_config(TCP)).await;
    let id = relay.relay.peer_id();
    client.endpoint.add_addresses(id, vec![relay.address.address().clone()]).await;
    let error = within("an error", client.endpoint.open(id, service())).await.unwrap_err();
    assert!(matches!(error, OpenError::Unsupported { .. }), "{error:?}");
}

/// Clients of one relay and one server at once, as the issue asks.
const CLIENTS: usize = 200;

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_clients_reach_one_server_through_one_relay_and_nobody_is_dropped() {
    let started = Instant::now();
    let relay = RelayNode::start(relay_config(TCP)).await;
    let mut server = Node::start(config(TCP)).await;
    let circuit = server.reserve(&relay.address).await;
    server.echo().await;
    let clients = join_all((0..CLIENTS).map(|_| Node::start(config(TCP)))).await;
    let ready = started.elapsed();
    let peer = server.id();
    let exchanges = clients.iter().map(|client| async {
        client.endpoint.add_addresses(peer, vec![circuit.clone()]).await;
        let stream = client.open(peer).await;
        let open = started.elapsed();
        exchange(stream, b"one of two hundred").await;
        open
    });
    let mut opened = join_all(exchanges).await;
    opened.sort();
    println!(
        "{CLIENTS} clients: up after {ready:.1?}, half open after {:.1?}, all after {:.1?}, served after {:.1?}",
        opened[CLIENTS / 2],
        opened[CLIENTS - 1],
        started.elapsed(),
    );
}
