//! When and for whom holes are punched, with real swarms.

use libp2p::multiaddr::Protocol;
use punchline_bridge::{
    Config, Event, Multiaddr, Path, PeerId, RelayAddr, addr::GlobalScope, config::Upgrades,
    error::UpgradeFailure,
};

use crate::world::{
    Node, TCP, config, exchange, relay_config, service, through_a_relay_with, until, within,
};

/// Loopback is what it is: private to this host.
fn private(listen: &str) -> Config {
    Config { global: GlobalScope::default(), ..config(listen) }
}

async fn upgraded(node: &mut Node, wanted: PeerId) {
    until(&mut node.events, "an upgrade", |event| match event {
        Event::UpgradeSucceeded { peer, .. } if *peer == wanted => Some(()),
        _ => None,
    })
    .await;
}

#[tokio::test]
async fn two_processes_of_one_host_that_know_each_other_become_direct() {
    let (_relay, mut server, mut client) = through_a_relay_with(relay_config(TCP), private(TCP)).await;
    // The client is a stranger to the server until its stream is accepted.
    let stream = client.open(server.id()).await;
    assert!(!stream.path().is_direct());
    upgraded(&mut client, server.id()).await;
    upgraded(&mut server, client.id()).await;
    exchange(stream, b"on the same host").await;
}

#[tokio::test]
async fn a_peer_that_a_service_would_let_in_need_not_ask_first() {
    let (_relay, mut server, mut client) = through_a_relay_with(relay_config(TCP), private(TCP)).await;
    server.endpoint.welcome(service(), vec![client.id()]).await;
    client.endpoint.hold(server.id()).await;
    upgraded(&mut client, server.id()).await;
    upgraded(&mut server, client.id()).await;
}

#[tokio::test]
async fn two_processes_of_one_host_that_are_strangers_stay_relayed() {
    let (_relay, mut server, client) = through_a_relay_with(relay_config(TCP), private(TCP)).await;
    // It knows whom it wants, and names its addresses; nobody there knows it.
    client.endpoint.hold(server.id()).await;
    let refused = until(&mut server.events, "a refusal", |event| match event {
        Event::CandidatesRefused { allowed: 0, refused, .. } => Some(*refused),
        Event::ConnectionOpened { peer, path: Path::Direct, .. } if *peer == client.id() => {
            panic!("a stranger on this host was dialled")
        }
        _ => None,
    })
    .await;
    assert_eq!((refused.private, refused.total()), (1, 1));
    let reason = until(&mut server.events, "the end of the upgrade", |event| match event {
        Event::UpgradeFailed { reason, .. } => Some(reason.clone()),
        Event::ConnectionOpened { path: Path::Direct, .. } => panic!("a direct connection"),
        _ => None,
    })
    .await;
    assert_eq!(reason, UpgradeFailure::AllRefused { refused });
}

#[tokio::test]
async fn held_back_a_connection_stays_relayed_until_upgrades_are_allowed() {
    let held = Config { upgrades: Upgrades::WhenTold, ..config(TCP) };
    let (_relay, mut server, mut client) = through_a_relay_with(relay_config(TCP), held).await;
    let stream = client.open(server.id()).await;
    for _ in 0..20 {
        let another = client.open(server.id()).await;
        assert!(!another.path().is_direct());
        exchange(another, &[7; 100_000]).await;
    }
    // One end alone does not suffice.
    server.endpoint.allow_upgrades(true).await;
    let another = client.open(server.id()).await;
    assert!(!another.path().is_direct());
    exchange(another, b"still relayed").await;
    assert!(!client.open(server.id()).await.path().is_direct());
    client.endpoint.allow_upgrades(true).await;
    upgraded(&mut client, server.id()).await;
    upgraded(&mut server, client.id()).await;
    exchange(stream, b"and direct").await;
}

/// The relay by a name that leads to this host.
fn by_name(relay: &RelayAddr, peer: PeerId) -> Multiaddr {
    let named = relay.address().iter().map(|part| match part {
        Protocol::Ip4(_) => Protocol::Dns4("localhost".into()),
        other => other,
    });
    RelayAddr::new(named.collect::<Multiaddr>().with_p2p(relay.peer()).unwrap())
        .unwrap()
        .circuit_to(peer)
}

#[tokio::test]
async fn a_name_leads_inside_if_the_operator_gave_it_and_not_if_a_peer_did() {
    let (relay, server, _) = through_a_relay_with(relay_config(TCP), private(TCP)).await;
    let circuit = by_name(&relay.address, server.id());
    let misled = Node::start(private(TCP)).await;
    misled.endpoint.add_addresses_of_peer(server.id(), vec![circuit.clone()]).await;
    let error = within("an error", misled.endpoint.open(server.id(), service())).await.unwrap_err();
    assert!(error.to_string().contains("which is private"), "{error}");
    let told = Node::start(private(TCP)).await;
    told.endpoint.add_addresses(server.id(), vec![circuit]).await;
    exchange(told.open(server.id()).await, b"by name").await;
}
