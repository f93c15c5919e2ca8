//! When and for whom holes are punched, with real swarms.

use punchline_bridge::{
    Config, Event, Path, PeerId, addr::GlobalScope, config::Upgrades, error::UpgradeFailure,
};

use crate::world::{Node, TCP, config, exchange, relay_config, service, through_a_relay_with, until};

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
