//! What an operator sees of sessions that fail, come back, or carry a load.

use std::net::Ipv4Addr;

use anyhow::Result;
use punchline_tests::{
    ports::free_port,
    process::{Launch, Place},
};

use crate::world::{LISTEN, NO_PEER, SOON, STOP, World, refused};

#[tokio::test]
async fn the_small_mains_shake_hands_by_libp2p_variables_alone() -> Result<()> {
    let world = World::new()?;
    let (_relay, relay) = world.relay(&[]).await?;
    let main = |name: &str, identity: &str| {
        let launch = Launch::main(Place::Host, name)?.env("PUNCHLINE_IDENTITY", world.text(identity));
        Ok::<_, anyhow::Error>(launch.env("PUNCHLINE_NETWORK", "simnet"))
    };
    let listen = format!("{LISTEN};{relay}/p2p-circuit , /ip4/127.0.0.1/udp/0/quic-v1");
    let server = main("kaspa_p2p_server", "server")?.env("LIBP2P_LISTEN_MULTIADDRS", listen).spawn()?;
    let held = server.wait_for("reservation_held", |_| true, SOON).await?;
    let way = held.text("address").unwrap_or_default();
    let server_id = world.peer_id("server").await?;
    let client = main("kaspa_p2p_client", "client")?
        .env("LIBP2P_LISTEN_MULTIADDRS", LISTEN)
        .env("LIBP2P_RELAY_MULTIADDRS", "")
        .env("LIBP2P_REMOTE_PEER_ID", &server_id)
        .env("LIBP2P_REMOTE_MULTIADDRS", format!("/ip4/127.0.0.1/tcp/1/p2p/{server_id};{way}"))
        .spawn()?;
    let ready = client.wait_for("session_ready", |_| true, SOON).await?;
    assert!(ready.has("peer", &server_id), "{ready}");
    // The stream may be direct by the time that the handshake is done.
    client.wait_for("stream_opened", |event| event.has("path", "relayed"), SOON).await?;
    server.wait_for("session_ready", |event| event.has("network", "kaspa-simnet"), SOON).await?;
    Ok(())
}

#[tokio::test]
async fn the_wrong_network_ends_the_client_with_1_and_the_reason_at_both_ends() -> Result<()> {
    let world = World::new()?;
    let (_relay, relay) = world.relay(&[]).await?;
    let server = world.server(&relay, &[]).await?;
    let peer = world.peer_id("server").await?;
    let client = world.quiet("client", "client")?.args(["--network", "devnet", "--listen", LISTEN]);
    let output = client.args(["--relay", &relay, "--peer", &peer]).output(SOON).await?;
    refused(&output, 1, &["wrong network"]);
    let failed = server.wait_for("handshake_failed", |_| true, SOON).await?;
    let reason = failed.text("reason").unwrap_or_default();
    assert!(reason.contains("network"), "{failed}");
    assert!(failed.has("peer", &world.peer_id("client").await?));
    Ok(())
}

#[tokio::test]
async fn a_peer_that_cannot_be_reached_is_dialled_as_often_as_told() -> Result<()> {
    let world = World::new()?;
    let client = world.launch("client", "client")?.args(["--listen", LISTEN, "--peer", NO_PEER]);
    let mut client = client.args(["--addr", "/ip4/127.0.0.1/tcp/1", "--dial-attempts", "3"]).spawn()?;
    assert_eq!(client.wait(SOON).await?.code(), Some(1), "{}", client.report());
    let events = client.events();
    let failed: Vec<_> = events.iter().filter(|event| event.name() == "dial_failed").collect();
    let waits: Vec<_> = failed.iter().map(|event| event.number("retry_in_ms")).collect();
    assert_eq!(waits, [Some(500), Some(1000), None], "{}", client.report());
    assert!(failed.iter().all(|event| event.has("peer", NO_PEER)));
    Ok(())
}

#[tokio::test]
async fn a_peer_without_a_reservation_is_reported_as_such() -> Result<()> {
    let world = World::new()?;
    let (_relay, relay) = world.relay(&[]).await?;
    let client = world.quiet("client", "client")?.args(["--listen", LISTEN, "--peer", NO_PEER]);
    // The relay must see its first peer before it knows its own address, and serves nobody until then.
    let output = client.args(["--relay", &relay, "--dial-attempts", "3"]).output(SOON).await?;
    refused(&output, 1, &["holds no reservation", "is it running, and does it use this relay?"]);
    Ok(())
}

#[tokio::test]
async fn a_server_that_was_killed_and_started_again_has_its_client_back() -> Result<()> {
    let world = World::new()?;
    // Each start uses it again.
    let port = free_port(Ipv4Addr::LOCALHOST)?.port();
    let listen = format!("/ip4/127.0.0.1/tcp/{port}");
    let server = || {
        let launch = world.launch("server", "server")?.args(["--network", "simnet"]);
        Ok::<_, anyhow::Error>(launch.args(["--listen", &listen]).spawn()?)
    };
    let mut first = server()?;
    first.wait_for("listening", |_| true, SOON).await?;
    let peer = world.peer_id("server").await?;
    let client = world.launch("client", "client")?.args(["--network", "simnet", "--listen", LISTEN]);
    let mut client = client.args(["--peer", &peer, "--addr", &listen]).spawn()?;
    client.wait_for("session_ready", |_| true, SOON).await?;
    first.kill().await?;
    client.wait_for("connection_closed", |_| true, SOON).await?;
    let mark = client.mark();
    let again = server()?;
    client.wait_for_after(mark, "session_ready", |event| event.has("path", "direct"), SOON).await?;
    again.wait_for("session_ready", |_| true, SOON).await?;
    assert!(client.terminate(STOP).await?.success());
    Ok(())
}

#[tokio::test]
async fn a_load_that_does_not_wait_for_the_direct_path_arrives_whole() -> Result<()> {
    let world = World::new()?;
    let (_relay, relay) = world.relay(&[]).await?;
    let server = world.server(&relay, &[]).await?;
    let client = world.client(&relay, &["--load-mib", "4"]).await?;
    let sent = client.wait_for("load_done", |_| true, SOON * 2).await?;
    let arrived = server.wait_for("load_done", |_| true, SOON).await?;
    for end in [&sent, &arrived] {
        assert_eq!(end.number("bytes"), Some(4 << 20));
    }
    assert!(sent.text("sha256").is_some_and(|hash| hash.len() == 64));
    assert_eq!(sent.text("sha256"), arrived.text("sha256"));
    let opened = client.wait_for("stream_opened", |_| true, SOON).await?;
    assert!(opened.has("path", "relayed"), "the session began on the relay: {opened}");
    Ok(())
}

#[tokio::test]
async fn a_load_until_direct_sends_its_share_on_the_direct_path() -> Result<()> {
    let world = World::new()?;
    let (_relay, relay) = world.relay(&[]).await?;
    let server = world.server(&relay, &[]).await?;
    let mut client = world.client(&relay, &["--load-mib", "2", "--load-until-direct"]).await?;
    let sent = client.wait_for("load_done", |event| event.has("path", "direct"), SOON).await?;
    let arrived = server.wait_for("load_done", |event| event.has("path", "direct"), SOON).await?;
    assert!(sent.number("bytes") >= Some(2 << 20), "{sent}");
    assert_eq!(sent.number("bytes"), arrived.number("bytes"));
    assert_eq!(sent.text("sha256"), arrived.text("sha256"));
    assert!(client.terminate(STOP).await?.success());
    let closed = client.wait_for("stream_closed", |_| true, SOON).await?;
    assert!(closed.number("sent_direct_bytes") >= Some(2 << 20), "{closed}");
    Ok(())
}

#[tokio::test]
async fn a_relay_that_is_full_reports_whom_it_refused() -> Result<()> {
    let world = World::new()?;
    let (relay, address) = world.relay(&["--max-reservations", "1"]).await?;
    let mut first = world.server(&address, &[]).await?;
    let launch = world.launch("server", "second")?.args(["--listen", LISTEN, "--relay", &address]);
    let second = launch.spawn()?;
    let is_second = world.peer_id("second").await?;
    let refused = relay.wait_for("refused", |event| event.has("peer", &is_second), SOON).await?;
    assert!(refused.has("what", "reservation"), "{refused}");
    assert_eq!(refused.number("limit"), Some(1));
    // The place is free again, and the second asks when the relay said, half a minute later.
    assert!(first.terminate(STOP).await?.success());
    second.wait_for("reservation_held", |_| true, 2 * SOON).await?;
    Ok(())
}
