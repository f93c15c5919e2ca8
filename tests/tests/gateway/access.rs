//! Who gets in, who does not, and what those learn.

use std::time::{Duration, Instant};

use anyhow::Result;
use punchline_tests::process::Event;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::world::{
    ANY, NO_PEER, SOON, World, connecting_is_reset, echoes, is_reset, listener, tcp_echo, unusable,
};

#[tokio::test]
async fn nobody_is_served_unless_somebody_is_named_or_everybody_is_meant() -> Result<()> {
    let world = World::new()?;
    let output =
        world.quiet("exposer", &["expose", "--service", "web=127.0.0.1:80"])?.output(SOON).await?;
    unusable(&output, &["nobody may use `web`", "--allow <ID>", "--allow-any lets in every peer"]);
    Ok(())
}

/// What a forward was told when it asked for the service, without the name of that.
async fn told(world: &World, service: &str, args: &[&str]) -> Result<(Value, String)> {
    let forward = world.forward_with("forwarder", &[args, &["--service", service]].concat()).await?;
    connecting_is_reset(&forward.local).await?;
    let failed = forward.program.wait_for("forward_failed", |_| true, SOON).await?;
    let refused = forward.program.wait_for("stream_refused", |_| true, SOON).await?;
    let mut refused = refused.fields().clone();
    refused["ts"].take();
    refused["service"].take();
    Ok((refused, failed.text("reason").unwrap_or_default().replace(service, "")))
}

#[tokio::test]
async fn who_is_not_allowed_learns_nothing_and_reaches_nothing() -> Result<()> {
    let world = World::new()?;
    let (target, address) = listener().await?;
    let service = format!("secret={address}");
    let exposing = world.expose("exposer", &["--service", &service, "--allow", NO_PEER]).await?;
    let args = ["--peer", &exposing.peer, "--addr", &exposing.address, "--local", ANY];
    let secret = told(&world, "secret", &args).await?;
    let absent = told(&world, "absent", &args).await?;
    assert_eq!(secret, absent, "the two cannot be told apart");
    assert!(secret.1.contains("does not answer for this service, or not to this peer"), "{}", secret.1);
    let forwarder = world.peer_id("forwarder").await?;
    let refused = exposing.program.wait_for("access_refused", |_| true, SOON).await?;
    assert!(refused.has("peer", &forwarder) && refused.has("service", "secret"), "{refused}");
    assert!(refused.text("reason").is_some_and(|reason| reason.contains("not on the allow list")));
    // Not even a connection came: ours is the first.
    let ours = TcpStream::connect(&address).await?;
    let (_, from) = timeout(SOON, target.accept()).await??;
    assert_eq!(from, ours.local_addr()?);
    Ok(())
}

#[tokio::test]
async fn a_peer_that_is_struck_off_the_list_is_cut_within_a_second_and_others_are_not() -> Result<()> {
    let world = World::new()?;
    let service = format!("echo={}", tcp_echo().await?);
    let (stays, goes) = (world.peer_id("stays").await?, world.peer_id("goes").await?);
    let list = world.write("allowed", &format!("# friends\n{stays}\n{goes} # for now\n"))?;
    let exposing = world.expose("exposer", &["--service", &service, "--allow-file", &list]).await?;
    let mut clients = Vec::new();
    for name in ["stays", "goes"] {
        let args =
            ["--peer", &exposing.peer, "--addr", &exposing.address, "--service", "echo", "--local", ANY];
        let forward = world.forward_with(name, &args).await?;
        let mut client = TcpStream::connect(&forward.local).await?;
        client.write_all(b"!").await?;
        assert_eq!(timeout(SOON, client.read_u8()).await??, b'!');
        clients.push((forward, client));
    }
    // A file that cannot be used changes nothing.
    world.write("allowed", "nonsense")?;
    let mark = exposing.program.mark();
    exposing.program.hang_up()?;
    let said = |event: &Event| event.text("error").is_some_and(|error| error.contains("line 1"));
    exposing.program.wait_for_after(mark, "access_reloaded", said, SOON).await?;
    world.write("allowed", &stays)?;
    let (mark, signalled) = (exposing.program.mark(), Instant::now());
    exposing.program.hang_up()?;
    is_reset(&mut clients[1].1, Duration::from_secs(1)).await?;
    assert!(signalled.elapsed() < Duration::from_secs(1));
    let fine = |event: &Event| event.fields()["error"].is_null();
    exposing.program.wait_for_after(mark, "access_reloaded", fine, SOON).await?;
    let cut = exposing.program.wait_for("access_revoked", |_| true, SOON).await?;
    assert!(cut.has("peer", &goes) && cut.has("service", "echo"), "{cut}");
    connecting_is_reset(&clients[1].0.local).await?;
    exposing.program.wait_for("access_refused", |event| event.has("peer", &goes), SOON).await?;
    // The other never noticed.
    clients[0].1.write_all(b"?").await?;
    assert_eq!(timeout(SOON, clients[0].1.read_u8()).await??, b'?');
    Ok(())
}

#[tokio::test]
async fn somebody_else_at_the_peers_address_is_found_out() -> Result<()> {
    let world = World::new()?;
    let service = format!("echo={}", tcp_echo().await?);
    let impostor = world.expose("impostor", &["--service", &service, "--allow-any"]).await?;
    let wanted = world.peer_id("exposer").await?;
    let args = ["--peer", &wanted, "--addr", &impostor.address, "--service", "echo", "--local", ANY];
    let forward = world.forward_with("forwarder", &args).await?;
    connecting_is_reset(&forward.local).await?;
    let failed = forward.program.wait_for("forward_failed", |_| true, SOON).await?;
    let reason = failed.text("reason").unwrap_or_default();
    assert!(reason.contains(&format!("{} answered there instead", impostor.peer)), "{reason}");
    let unreachable = forward.program.wait_for("peer_unreachable", |_| true, SOON).await?;
    assert!(unreachable.has("peer", &wanted), "{unreachable}");
    assert!(unreachable.text("reason").is_some_and(|reason| reason.contains(&impostor.peer)));
    // The right one comes, and is found without a restart.
    let at = &impostor.address;
    drop(impostor.program);
    let right =
        world.expose_at("expose", "exposer", at, &["--service", &service, "--allow-any"]).await?;
    let opened = |event: &Event| event.has("peer", &right.peer);
    forward.program.wait_for("connection_opened", opened, SOON).await?;
    echoes(&forward.local).await
}
