//! From a relay to a direct path.

use std::time::Duration;

use futures::future::join_all;
use punchline_bridge::{Event, Events, Path, PeerId, error::CloseCause};

use crate::world::{Node, QUIC, TCP, config, exchange, relay_config, through_a_relay, until, within};

/// Waits until `wanted` is reached directly: milliseconds it took, and punches.
async fn upgraded(events: &mut Events, wanted: PeerId) -> (u64, u32) {
    until(events, "an upgrade", |event| match event {
        Event::UpgradeSucceeded { peer, took_ms, attempts, .. } if *peer == wanted => {
            Some((*took_ms, *attempts))
        }
        _ => None,
    })
    .await
}

async fn a_relayed_connection_becomes_direct(listen: &str) {
    let (relay, mut server, mut client) = through_a_relay(relay_config(listen)).await;
    let first = client.open(server.id()).await;
    assert_eq!(first.path(), Path::Relayed { relay: relay.relay.peer_id() });
    let (took, attempts) = upgraded(&mut client.events, server.id()).await;
    println!("{listen}: upgraded after {took} ms and {attempts} punches");
    upgraded(&mut server.events, client.id()).await;
    assert_eq!(client.open(server.id()).await.path(), Path::Direct);
    exchange(first, b"the relayed stream goes on").await;
}

#[tokio::test]
async fn a_relayed_connection_becomes_direct_over_tcp() {
    a_relayed_connection_becomes_direct(TCP).await;
}

#[tokio::test]
async fn a_relayed_connection_becomes_direct_over_quic() {
    a_relayed_connection_becomes_direct(QUIC).await;
}

#[tokio::test]
async fn with_both_paths_alive_a_thousand_of_a_thousand_streams_go_direct() {
    let (_relay, server, mut client) = through_a_relay(relay_config(TCP)).await;
    // Kept open, so that the relayed connection stays in use and could be chosen.
    let relayed = client.open(server.id()).await;
    upgraded(&mut client.events, server.id()).await;
    for _ in 0..20 {
        let streams = join_all((0..50).map(|_| client.open(server.id()))).await;
        assert!(streams.iter().all(|stream| stream.path() == Path::Direct));
        join_all(streams.into_iter().map(|stream| exchange(stream, b"hello"))).await;
    }
    exchange(relayed, b"still alive").await;
}

#[tokio::test]
async fn the_unused_relayed_connection_is_closed_and_the_reservation_stays() {
    let relay = crate::world::RelayNode::start(relay_config(TCP)).await;
    let mut short = config(TCP);
    short.deadlines.relayed_grace = Duration::from_millis(500);
    let mut server = Node::start(short.clone()).await;
    let circuit = server.reserve(&relay.address).await;
    server.echo().await;
    let mut client = Node::start(short).await;
    client.endpoint.add_addresses(server.id(), vec![circuit.clone()]).await;
    let relayed = client.open(server.id()).await;
    upgraded(&mut client.events, server.id()).await;
    drop(relayed);
    let cause = until(&mut client.events, "the end of the relayed connection", |event| match event {
        Event::ConnectionClosed { path: Path::Relayed { .. }, cause, .. } => Some(cause.clone()),
        _ => None,
    })
    .await;
    assert!(matches!(cause, CloseCause::Unused | CloseCause::Peer), "{cause:?}");
    assert_eq!(client.open(server.id()).await.path(), Path::Direct);
    let third = Node::start(config(TCP)).await;
    third.endpoint.add_addresses(server.id(), vec![circuit]).await;
    let stream = third.open(server.id()).await;
    assert!(!stream.path().is_direct());
    within("an echo", exchange(stream, b"through the same reservation")).await;
}
