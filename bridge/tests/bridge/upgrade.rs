//! From a relay to a direct path.

use punchline_bridge::{Multiaddr, Path, PeerId};

use crate::world::{self, Node, QUIC, RelayNode, TCP, service, until, upgraded};

/// A relay, a server with a reservation that echoes, and a client that knows the circuit.
async fn through_a_relay(listen: &str) -> (RelayNode, Node, Node) {
    let relay = RelayNode::start(world::relay_config(listen)).await;
    let mut server = Node::start(world::config(listen)).await;
    let circuit = server.reserve(&relay.address).await;
    server.echo().await;
    let client = Node::start(world::config(listen)).await;
    client.endpoint.add_addresses(server.id(), vec![circuit]).await;
    (relay, server, client)
}

async fn a_relayed_connection_becomes_direct(listen: &str) {
    let (relay, mut server, mut client) = through_a_relay(listen).await;
    let first = client.open(server.id()).await;
    assert_eq!(first.path(), Path::Relayed { relay: relay.relay.peer_id() });
    let server_id = server.id();
    let (took, attempts) =
        until(&mut client.events, "the upgrade", |event| upgraded(event, server_id)).await;
    println!("{listen}: upgraded after {took} ms and {attempts} punches");
    let client_id = client.id();
    until(&mut server.events, "the upgrade at the server", |event| upgraded(event, client_id)).await;
    let second = client.open(server.id()).await;
    assert_eq!(second.path(), Path::Direct);
}

#[tokio::test]
async fn a_relayed_connection_becomes_direct_over_tcp() {
    a_relayed_connection_becomes_direct(TCP).await;
}

#[tokio::test]
async fn a_relayed_connection_becomes_direct_over_quic() {
    a_relayed_connection_becomes_direct(QUIC).await;
}
