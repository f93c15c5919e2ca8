//! From a relay to a direct path.

use std::time::Duration;

use futures::{FutureExt as _, future::join_all};
use punchline_bridge::{Event, Events, Path, PeerId, error::CloseCause, event::UpgradeCount};

use crate::world::{
    Node, QUIC, TCP, config, exchange, relay_config, through_a_relay, through_a_relay_with, until,
    within,
};

/// Waits until `wanted` is reached directly: milliseconds it took, and punches.
pub(crate) async fn upgraded(events: &mut Events, wanted: PeerId) -> (u64, u32) {
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
    counted(client).await;
}

/// A running node is asked what its upgrades came to, and tells it at its end.
async fn counted(mut node: Node) {
    let counts = node.endpoint.upgrade_counts().await;
    assert!(matches!(counts[..], [UpgradeCount { count: 1, .. }]), "{counts:?}");
    node.endpoint.shutdown().await;
    let told = until(&mut node.events, "what the upgrades came to", |event| match event {
        Event::UpgradesCounted(count) => Some(*count),
        _ => None,
    });
    assert_eq!([told.await], counts[..]);
    assert_eq!(node.endpoint.upgrade_counts().await, [], "it has ended");
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
    let mut patient = config(TCP);
    // No stream uses the relayed connection soon, and still it could be chosen.
    patient.deadlines.relayed_grace = Duration::from_secs(3600);
    let (_relay, server, mut client) = through_a_relay_with(relay_config(TCP), patient).await;
    let first = client.open(server.id()).await;
    let relayed = first.facts().route().connection;
    assert!(!first.path().is_direct());
    upgraded(&mut client.events, server.id()).await;
    for _ in 0..20 {
        let streams = join_all((0..50).map(|_| client.open(server.id()))).await;
        assert!(streams.iter().all(|stream| stream.path() == Path::Direct));
        join_all(streams.into_iter().map(|stream| exchange(stream, b"hello"))).await;
    }
    exchange(first, b"still alive").await;
    while let Some(event) = client.events.next().now_or_never() {
        let closed =
            matches!(event, Some(Event::ConnectionClosed { connection, .. }) if connection == relayed);
        assert!(!closed, "there was one path only: {event:?}");
    }
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
    let mut causes = Vec::new();
    for events in [&mut client.events, &mut server.events] {
        let cause = until(events, "the end of the relayed connection", |event| match event {
            Event::ConnectionClosed { path: Path::Relayed { .. }, cause, .. } => Some(cause.clone()),
            _ => None,
        });
        causes.push(cause.await);
    }
    // The other may hear of it before its own grace is over.
    assert!(causes.iter().any(|cause| matches!(cause, CloseCause::Unused)), "{causes:?}");
    assert_eq!(client.open(server.id()).await.path(), Path::Direct);
    let third = Node::start(config(TCP)).await;
    third.endpoint.add_addresses(server.id(), vec![circuit]).await;
    let stream = third.open(server.id()).await;
    assert!(!stream.path().is_direct());
    within("an echo", exchange(stream, b"through the same reservation")).await;
}
