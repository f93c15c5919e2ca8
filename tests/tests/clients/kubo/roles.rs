//! On loopback.

use anyhow::{Result, ensure};
use futures::{FutureExt as _, future::LocalBoxFuture};
use punchline_tests::{
    process::{Event, Place},
    scene::Transport,
};
use serde_json::json;
use tokio::net::TcpListener;

use super::{Key, Kubo, Secured, client_of, relayed};
use crate::{
    ours::{NOBODY, Ours, loopback, opened, speak},
    world::{ANY, SOON},
};

/// A node reserves at our relay and so does Kubo; each is reached by the other one's circuit.
pub(super) fn at_our_relay(transport: Transport) -> LocalBoxFuture<'static, Result<()>> {
    async move {
        let ours = Ours::new()?;
        let (relay, addresses) = ours.relay().await?;
        let relay_id = ours.id("relay").await?;
        let address = format!("{}/p2p/{relay_id}", addresses[usize::from(transport == Transport::Quic)]);
        let expose = ours.expose(transport, &address, NOBODY)?;
        expose.wait_for("reservation_held", |_| true, SOON).await?;
        let expose_id = ours.id("expose").await?;

        let kubo = start(Key::Ed25519, transport, false, client_of(&address)).await?;
        let by_it = |event: &Event| event.has("peer", &kubo.peer);
        relay.wait_for("reservation_accepted", by_it, SOON).await?;
        kubo.is_told(&relay_id, &addresses.each_ref().map(String::as_str)).await?;

        kubo.connect(&format!("{address}/p2p-circuit/p2p/{expose_id}")).await?;
        opened(&expose, &kubo.peer, "relayed", "inbound", transport).await?;
        kubo.has_connection(&expose_id, relayed).await?;

        let forward = ours.forward(transport, &kubo.peer, &["--relay", &address])?;
        opened(&forward, &kubo.peer, "relayed", "outbound", transport).await?;
        kubo.has_connection(&ours.id("forward").await?, relayed).await
    }
    .boxed_local()
}

/// A node reserves there and another one comes through it, to talk and to become direct.
pub(super) fn is_the_relay(transport: Transport) -> LocalBoxFuture<'static, Result<()>> {
    async move {
        let ours = Ours::new()?;
        let kubo =
            start(Key::Ed25519, transport, true, json!({ "RelayService": { "Enabled": true } })).await?;
        let address = format!("{}/p2p/{}", kubo.address, kubo.peer);
        let target = TcpListener::bind(ANY).await?;
        let expose = ours.expose(transport, &address, &target.local_addr()?.to_string())?;
        let there = |event: &Event| event.has("relay", &kubo.peer);
        expose.wait_for("reservation_held", there, SOON).await?;
        let expose_id = ours.id("expose").await?;
        kubo.has_connection(&expose_id, |address| !relayed(address)).await?;

        let forward = ours.forward(transport, &expose_id, &["--relay", &address])?;
        let through = opened(&forward, &expose_id, "relayed", "outbound", transport).await?;
        ensure!(through.has("relay", &kubo.peer), "{through}");
        speak(&forward, &target).await?;
        opened(&expose, &ours.id("forward").await?, "relayed", "inbound", transport).await?;
        let of_it = |event: &Event| event.has("peer", &expose_id);
        forward.wait_for("upgrade_succeeded", of_it, SOON).await?;
        Ok(())
    }
    .boxed_local()
}

/// Each dials the other, with each kind of key.
pub(super) fn without_a_relay(secured: Secured) -> LocalBoxFuture<'static, Result<()>> {
    async move {
        let ours = Ours::new()?;
        let (_relay, addresses) = ours.relay().await?;
        let relay_id = ours.id("relay").await?;
        let transport = secured.transport();
        for key in [Key::Ed25519, Key::Rsa] {
            let kubo = start(key, transport, true, secured.settings()).await?;
            let address = &addresses[usize::from(transport == Transport::Quic)];
            kubo.connect(&format!("{address}/p2p/{relay_id}")).await?;
            kubo.is_told(&relay_id, &addresses.each_ref().map(String::as_str)).await?;
            let forward = ours.forward(transport, &kubo.peer, &["--addr", &kubo.address])?;
            opened(&forward, &kubo.peer, "direct", "outbound", transport).await?;
            kubo.has_connection(&ours.id("forward").await?, |address| !relayed(address)).await?;
        }
        Ok(())
    }
    .boxed_local()
}

async fn start(
    key: Key,
    transport: Transport,
    reachable: bool,
    swarm: serde_json::Value,
) -> Result<Kubo> {
    Kubo::start(Place::Host, key, loopback(transport), reachable, swarm).await
}
