//! What programs notice of the gateway between them: nothing.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, UnixStream},
    time::timeout,
};

use crate::world::{
    ANY, LISTEN, NO_PEER, NO_RELAY, SOON, STOP, World, echoes, is_reset, listener, peak_memory_kib,
    speaks, tcp_echo, unix_echo,
};

#[tokio::test]
async fn tcp_and_unix_sockets_serve_at_both_ends() -> Result<()> {
    let world = World::new()?;
    let (echo, path) = (tcp_echo().await?, world.text("echo.sock"));
    unix_echo(&path)?;
    let services = format!("tcp={echo},unix=unix:{path}");
    let exposing = world.expose("exposer", &["--service", &services, "--allow-any"]).await?;
    let text = vec![b'x'; 3 << 20];
    for service in ["tcp", "unix"] {
        let forward = world.forward(&exposing, service, ANY).await?;
        speaks(TcpStream::connect(&forward.local).await?, &text).await?;
        drop(forward);
        let place = world.text(format!("{service}.local"));
        let mut forward = world.forward(&exposing, service, &format!("unix:{place}")).await?;
        assert_eq!(forward.local, format!("unix:{place}"));
        speaks(UnixStream::connect(&place).await?, &text).await?;
        assert!(forward.program.terminate(STOP).await?.success());
        assert!(!world.path(format!("{service}.local")).exists(), "its socket is removed");
    }
    Ok(())
}

#[tokio::test]
async fn a_forward_finds_its_peer_through_a_relay() -> Result<()> {
    let world = World::new()?;
    let ((_relay, relay), echo) = (world.relay().await?, tcp_echo().await?);
    let service = format!("echo={echo}");
    let forwarder = world.peer_id("forwarder").await?;
    let args = ["--service", &service, "--relay", &relay, "--allow", &forwarder];
    let exposing = world.expose("exposer", &args).await?;
    exposing.program.wait_for("reservation_held", |_| true, SOON).await?;
    let args = ["--peer", &exposing.peer, "--service", "echo", "--relay", &relay, "--local", ANY];
    let forward = world.forward_with("forwarder", &args).await?;
    echoes(&forward.local).await?;
    // What expose prints is what the other side has to run.
    let said = exposing.program.report();
    let wanted =
        format!("forward --peer {} --service echo --relay {relay} --local 127.0.0.1:", exposing.peer);
    assert!(said.contains(&wanted), "{said}");
    Ok(())
}

#[tokio::test]
async fn a_held_connection_is_there_before_the_first_local_one() -> Result<()> {
    let world = World::new()?;
    let service = format!("echo={}", tcp_echo().await?);
    let exposing = world.expose("exposer", &["--service", &service, "--allow-any"]).await?;
    let forward = world.forward(&exposing, "echo", ANY).await?;
    let opened = |event: &punchline_tests::process::Event| event.has("peer", &exposing.peer);
    forward.program.wait_for("connection_opened", opened, SOON).await?;
    let streams =
        |name: &str| forward.program.events().iter().filter(|event| event.name() == name).count();
    assert_eq!(streams("stream_opened"), 0);
    echoes(&forward.local).await?;
    forward.program.wait_for("stream_opened", |_| true, SOON).await?;
    assert_eq!((streams("stream_opened"), streams("connection_opened")), (1, 1));
    Ok(())
}

#[tokio::test]
async fn a_target_tells_peers_apart_by_their_loopback_addresses() -> Result<()> {
    let world = World::new()?;
    let (target, address) = listener().await?;
    let service = format!("web={address}");
    let exposing = world.expose("exposer", &["--service", &service, "--allow-any"]).await?;
    let mut seen = Vec::new();
    for name in ["one", "another", "one"] {
        let args =
            ["--peer", &exposing.peer, "--addr", &exposing.address, "--service", "web", "--local", ANY];
        let forward = world.forward_with(name, &args).await?;
        let _client = TcpStream::connect(&forward.local).await?;
        let (_, from) = timeout(SOON, target.accept()).await??;
        ensure!(from.ip().is_loopback() && from.ip().to_string() != "127.0.0.1", "{from}");
        seen.push(from.ip());
    }
    assert_eq!(seen[0], seen[2], "stable per peer");
    assert_eq!(HashSet::<_>::from_iter(seen).len(), 2);
    Ok(())
}

#[tokio::test]
async fn resets_pass_both_ways_and_ends_do_not_become_resets() -> Result<()> {
    let world = World::new()?;
    let (target, address) = listener().await?;
    let service = format!("raw={address}");
    let exposing = world.expose("exposer", &["--service", &service, "--allow-any"]).await?;
    let forward = world.forward(&exposing, "raw", ANY).await?;
    let pair = async || -> Result<(TcpStream, TcpStream)> {
        let mut client = TcpStream::connect(&forward.local).await?;
        client.write_all(b"!").await?;
        let (mut server, _) = timeout(SOON, target.accept()).await??;
        assert_eq!(server.read_u8().await?, b'!');
        Ok((client, server))
    };
    let (client, mut server) = pair().await?;
    client.set_zero_linger()?;
    drop(client);
    is_reset(&mut server, SOON).await?;
    let (mut client, server) = pair().await?;
    server.set_zero_linger()?;
    drop(server);
    is_reset(&mut client, SOON).await?;
    let (mut client, mut server) = pair().await?;
    server.write_all(b"last words").await?;
    drop(server);
    let mut heard = String::new();
    timeout(SOON, client.read_to_string(&mut heard)).await??;
    assert_eq!(heard, "last words");
    Ok(())
}

#[tokio::test]
async fn a_reader_that_stops_bounds_the_memory_of_both_ends() -> Result<()> {
    let world = World::new()?;
    let (target, address) = listener().await?;
    let service = format!("raw={address}");
    let exposing = world.expose("exposer", &["--service", &service, "--allow-any"]).await?;
    let forward = world.forward(&exposing, "raw", ANY).await?;
    let mut client = TcpStream::connect(&forward.local).await?;
    let chunk = vec![7; 1 << 20];
    let mut sent = 0_u64;
    client.write_all(&chunk).await?;
    let (mut server, _) = timeout(SOON, target.accept()).await??;
    // Nobody reads: at last nothing more is taken, and that stays so.
    while let Ok(written) = timeout(Duration::from_secs(1), client.write(&chunk)).await {
        sent += written? as u64;
        ensure!(sent < SENT_MAX, "{sent} bytes were taken though nobody reads");
    }
    for program in [&exposing.program, &forward.program] {
        let peak = peak_memory_kib(program)?;
        ensure!(peak < PEAK_KIB_MAX, "{peak} KiB");
    }
    // Then somebody reads, and all of it arrives.
    client.shutdown().await?;
    let mut arrived = 0;
    let mut into = vec![0; 1 << 20];
    loop {
        let read = timeout(SOON, server.read(&mut into)).await;
        match read.with_context(|| {
            format!("stuck after {arrived} of {sent}\n{}", exposing.program.report())
        })?? {
            0 => break,
            read => arrived += read as u64,
        }
    }
    assert_eq!(arrived, sent + chunk.len() as u64);
    Ok(())
}

/// The windows of a stream and the buffers of sockets are a few tens of MiB.
const SENT_MAX: u64 = 128 << 20;

/// What a program may need for one stuck stream, in KiB.
const PEAK_KIB_MAX: u64 = 128 << 10;

#[tokio::test]
async fn told_to_stop_both_ends_give_streams_their_end_and_exit() -> Result<()> {
    let world = World::new()?;
    let service = format!("echo={}", tcp_echo().await?);
    for stops_first in ["expose", "forward"] {
        let mut exposing = world.expose("exposer", &["--service", &service, "--allow-any"]).await?;
        let mut forward = world.forward(&exposing, "echo", ANY).await?;
        let mut client = TcpStream::connect(&forward.local).await?;
        client.write_all(b"!").await?;
        assert_eq!(timeout(SOON, client.read_u8()).await??, b'!');
        let (first, second) = match stops_first {
            "expose" => (&mut exposing.program, &mut forward.program),
            _ => (&mut forward.program, &mut exposing.program),
        };
        assert!(first.terminate(STOP).await?.success(), "{}", first.report());
        assert_eq!(first.events().last().context("events")?.name(), "stopped");
        is_reset(&mut client, Duration::from_secs(2)).await.context(stops_first)?;
        second.wait_for("stream_closed", |_| true, Duration::from_secs(2)).await?;
        assert!(second.terminate(STOP).await?.success(), "{}", second.report());
    }
    Ok(())
}

#[tokio::test]
async fn with_nothing_to_end_they_exit_at_once_whatever_they_wait_for() -> Result<()> {
    let world = World::new()?;
    let nobody = ["--peer", NO_PEER, "--addr", "/ip4/127.0.0.1/tcp/1", "--service", "x", "--local", ANY];
    let somebody = ["--service", "x=127.0.0.1:1", "--allow-any", "--relay", NO_RELAY];
    for (command, args) in [("forward", &nobody[..]), ("expose", &somebody)] {
        let mut program = world.start(command, "node", &[&["--listen", LISTEN], args].concat())?;
        program.wait_for("listening", |_| true, SOON).await?;
        let before = Instant::now();
        assert!(program.terminate(STOP).await?.success(), "{}", program.report());
        assert!(before.elapsed() < Duration::from_secs(3), "{command}: {:?}", before.elapsed());
        assert_eq!(program.events().last().context("events")?.name(), "stopped");
    }
    Ok(())
}
