//! A sidecar that dies takes its connections with it at once, and one that comes back serves at once.

use std::{
    io::ErrorKind,
    net::TcpListener,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use punchline_tests::process::Event;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::world::{ANY, Exposing, Forwarding, SOON, World, echoes_until, is_reset, listener, tcp_echo};

/// The promise: a dead sidecar is noticed by then.
const NOTICED: Duration = Duration::from_secs(2);

/// The promise: after a restart new connections work by then.
const BACK: Duration = Duration::from_secs(5);

async fn exposing(world: &World, relay: &str, service: &str) -> Result<Exposing> {
    let args = ["--service", service, "--allow-any", "--relay", relay, "--assume-global", "127.0.0.0/8"];
    let exposing = world.expose("exposer", &args).await?;
    exposing.program.wait_for("reservation_held", |_| true, SOON).await?;
    Ok(exposing)
}

/// Which has a direct connection when this returns.
async fn forwarding(world: &World, relay: &str, service: &str, local: &str) -> Result<Forwarding> {
    let peer = world.peer_id("exposer").await?;
    let args = ["--peer", &peer, "--relay", relay, "--service", service, "--local", local];
    let args = [&args[..], &["--assume-global", "127.0.0.0/8"]].concat();
    let forward = world.forward_with("forwarder", &args).await?;
    let direct = |event: &Event| event.has("path", "direct") && event.has("peer", &peer);
    forward.program.wait_for("connection_opened", direct, SOON).await?;
    Ok(forward)
}

#[tokio::test]
async fn a_killed_exposer_resets_local_sockets_and_its_successor_is_found() -> Result<()> {
    let world = World::new()?;
    let ((_relay, relay), service) = (world.relay().await?, format!("echo={}", tcp_echo().await?));
    let mut first = exposing(&world, &relay, &service).await?;
    let forward = forwarding(&world, &relay, "echo", ANY).await?;
    let mut client = TcpStream::connect(&forward.local).await?;
    client.write_all(b"!").await?;
    assert_eq!(timeout(SOON, client.read_u8()).await??, b'!');
    first.program.kill().await?;
    is_reset(&mut client, NOTICED).await.with_context(|| forward.program.report())?;
    let started = Instant::now();
    let _second = exposing(&world, &relay, &service).await?;
    echoes_until(&forward.local, started + BACK).await.with_context(|| forward.program.report())
}

#[tokio::test]
async fn a_killed_forwarder_resets_the_targets_sockets_and_its_successor_serves() -> Result<()> {
    let world = World::new()?;
    let (target, address) = listener().await?;
    let services = format!("raw={address},echo={}", tcp_echo().await?);
    let (_relay, relay) = world.relay().await?;
    let exposing = exposing(&world, &relay, &services).await?;
    let mut first = forwarding(&world, &relay, "raw", ANY).await?;
    let mut client = TcpStream::connect(&first.local).await?;
    client.write_all(b"!").await?;
    let (mut server, _) = timeout(SOON, target.accept()).await??;
    assert_eq!(server.read_u8().await?, b'!');
    first.program.kill().await?;
    let own = timeout(NOTICED, client.read(&mut [0])).await?;
    assert!(matches!(own, Ok(0) | Err(_)), "the local end is over");
    is_reset(&mut server, NOTICED).await.with_context(|| exposing.program.report())?;
    let peer = &exposing.peer;
    let started = Instant::now();
    let args = ["--peer", peer, "--relay", &relay, "--service", "echo", "--local", &first.local];
    let second = world.forward_with("forwarder", &args).await?;
    assert_eq!(second.local, first.local, "the same place");
    echoes_until(&second.local, started + BACK).await.with_context(|| second.program.report())
}

#[tokio::test]
async fn an_exposer_killed_in_the_middle_of_a_transfer_resets_local_sockets_too() -> Result<()> {
    let world = World::new()?;
    let ((_relay, relay), service) = (world.relay().await?, format!("echo={}", tcp_echo().await?));
    let mut first = exposing(&world, &relay, &service).await?;
    let forward = forwarding(&world, &relay, "echo", ANY).await?;
    let (mut read, mut write) = TcpStream::connect(&forward.local).await?.into_split();
    let writing = tokio::spawn(async move {
        let chunk = vec![7; 1 << 20];
        while write.write_all(&chunk).await.is_ok() {}
    });
    // The transfer is well under way.
    let mut into = vec![0; 8 << 20];
    timeout(SOON, read.read_exact(&mut into)).await??;
    first.program.kill().await?;
    let over = async {
        loop {
            match read.read(&mut into).await {
                Ok(0) => return None,
                Ok(_) => {}
                Err(error) => return Some(error.kind()),
            }
        }
    };
    let end = timeout(NOTICED, over).await.with_context(|| forward.program.report())?;
    assert_eq!(end, Some(ErrorKind::ConnectionReset), "no end in order: {}", forward.program.report());
    timeout(NOTICED, writing).await??;
    Ok(())
}

#[tokio::test]
async fn a_unix_socket_that_a_killed_forwarder_left_is_taken_over() -> Result<()> {
    let world = World::new()?;
    let service = format!("echo={}", tcp_echo().await?);
    let exposing = world.expose("exposer", &["--service", &service, "--allow-any"]).await?;
    let local = format!("unix:{}", world.text("local.sock"));
    let mut first = world.forward(&exposing, "echo", &local).await?;
    first.program.kill().await?;
    assert!(world.path("local.sock").exists(), "left behind");
    let second = world.forward(&exposing, "echo", &local).await?;
    let client = tokio::net::UnixStream::connect(world.path("local.sock")).await?;
    crate::world::speaks(client, b"hello").await?;
    drop(second);
    Ok(())
}

#[tokio::test]
async fn a_taken_port_is_said_and_nothing_is_started() -> Result<()> {
    let world = World::new()?;
    let taken = TcpListener::bind(ANY)?;
    let (local, peer) = (taken.local_addr()?.to_string(), world.peer_id("exposer").await?);
    let args = [
        "forward",
        "--peer",
        &peer,
        "--addr",
        "/ip4/127.0.0.1/tcp/1",
        "--service",
        "x",
        "--local",
        &local,
    ];
    let output = world.quiet("forwarder", &args)?.output(SOON).await?;
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let last = said.trim_end().lines().last().unwrap_or_default();
    assert!(last.contains("another program listens on") && last.contains("--local"), "{said}");
    Ok(())
}
