//! What relays may be used for, with real swarms: each end goes by its own setting.

use std::time::Duration;

use punchline_bridge::{
    Config, Event, Path,
    config::{RelayMode, Upgrades},
    error::{OpenError, Refusal},
    path::Direction,
};

use crate::world::{
    Node, RelayNode, TCP, config, exchange, relay_config, service, through_a_relay_with, until, within,
};

fn coordinated() -> Config {
    Config { relay_mode: RelayMode::Coordination, ..config(TCP) }
}

/// What has crossed the relay in circuits, once it has said so.
async fn forwarded(relay: &mut RelayNode) -> u64 {
    until(&mut relay.events, "the end of a circuit", |event| match event {
        Event::CircuitClosed { bytes, .. } => Some(*bytes),
        _ => None,
    })
    .await
}

#[tokio::test]
async fn a_stream_is_direct_from_its_first_byte_where_relays_only_introduce() {
    let (mut relay, server, client) = through_a_relay_with(relay_config(TCP), coordinated()).await;
    let stream = client.open(server.id()).await;
    assert_eq!(stream.path(), Path::Direct);
    let message = vec![7; 256 * 1024];
    exchange(stream, &message).await;
    let bytes = forwarded(&mut relay).await;
    assert!(bytes < message.len() as u64 / 8, "{bytes} bytes through the relay");
}

#[tokio::test]
async fn an_open_without_a_direct_path_fails_at_its_deadline_and_says_that_the_relay_only_introduces() {
    let mut impatient = Config { upgrades: Upgrades::WhenTold, ..coordinated() };
    impatient.deadlines.open = Duration::from_secs(2);
    let (_relay, server, client) = through_a_relay_with(relay_config(TCP), impatient).await;
    let error = within("an answer", client.endpoint.open(server.id(), service())).await.unwrap_err();
    assert!(matches!(error, OpenError::NotDirect { there: false, .. }), "{error:?}");
    assert!(error.to_string().contains("relay mode is coordination"), "{error}");
}

#[tokio::test]
async fn a_node_that_relays_only_introduce_refuses_what_comes_through_one_and_takes_it_directly() {
    let relay = RelayNode::start(relay_config(TCP)).await;
    let mut server = Node::start(coordinated()).await;
    let circuit = server.reserve(&relay.address).await;
    server.echo().await;
    let client = Node::start(config(TCP)).await;
    client.endpoint.add_addresses(server.id(), vec![circuit]).await;
    let stream = client.open(server.id()).await;
    assert_eq!(stream.path(), Path::Direct);
    let refused = until(&mut server.events, "the refusal", |event| match event {
        Event::StreamRefused { reason, direction: Direction::Inbound, .. } => Some(*reason),
        _ => None,
    })
    .await;
    assert_eq!(refused, Refusal::DirectOnly);
    exchange(stream, b"asked for anew").await;
}

#[tokio::test]
async fn where_relays_are_off_a_circuit_is_no_way_and_a_known_address_is() {
    let relay = RelayNode::start(relay_config(TCP)).await;
    let mut server = Node::start(config(TCP)).await;
    let circuit = server.reserve(&relay.address).await;
    server.echo().await;
    let mut client = Node::start(Config { relay_mode: RelayMode::Off, ..config(TCP) }).await;
    client.endpoint.add_addresses(server.id(), vec![circuit]).await;
    let error = within("an answer", client.endpoint.open(server.id(), service())).await.unwrap_err();
    assert!(error.to_string().contains("relay mode is off"), "{error}");
    client.endpoint.reserve(relay.address.clone()).await;
    until(&mut client.events, "that nothing is reserved", |event| match event {
        Event::ReservationFailed { cause, .. } => cause.contains("relay mode is off").then_some(()),
        _ => None,
    })
    .await;
    client.endpoint.add_addresses(server.id(), server.endpoint.listening().to_vec()).await;
    assert_eq!(client.open(server.id()).await.path(), Path::Direct);
}
