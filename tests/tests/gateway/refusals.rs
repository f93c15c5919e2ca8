//! What the far side says when it cannot serve, and what limits say.

use std::time::{Duration, Instant};

use anyhow::Result;
use punchline_tests::process::Event;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
};

use crate::world::{
    ANY, LISTEN, NO_PEER, NO_RELAY, SOON, World, connecting_is_reset, echoes, echoes_until, listener,
    tcp_echo, unusable,
};

#[tokio::test]
async fn a_dead_target_is_reported_as_refused_by_the_target_and_at_once() -> Result<()> {
    let world = World::new()?;
    let (target, address) = listener().await?;
    drop(target);
    let missing = world.text("none.sock");
    let services = format!("dead={address};missing=unix:{missing}");
    let exposing = world.expose("exposer", &["--service", &services, "--allow-any"]).await?;
    for (service, place, reason) in [
        ("dead", address.clone(), "connection refused by the target"),
        ("missing", format!("unix:{missing}"), "the target behind the service cannot be reached"),
    ] {
        let forward = world.forward(&exposing, service, ANY).await?;
        forward.program.wait_for("connection_opened", |_| true, SOON).await?;
        let before = Instant::now();
        connecting_is_reset(&forward.local).await?;
        assert!(before.elapsed() < Duration::from_secs(2), "no timeout: {:?}", before.elapsed());
        let failed = forward.program.wait_for("forward_failed", |_| true, SOON).await?;
        assert!(failed.text("reason").is_some_and(|said| said.contains(reason)), "{failed}");
        let at = |event: &Event| event.has("target", &place);
        let failed = exposing.program.wait_for("target_failed", at, SOON).await?;
        assert!(failed.has("service", service), "{failed}");
        assert!(failed.has("peer", &world.peer_id("forwarder").await?), "{failed}");
    }
    Ok(())
}

#[tokio::test]
async fn an_unreachable_peer_is_tried_again_and_again_and_the_reason_is_said() -> Result<()> {
    let world = World::new()?;
    let args =
        ["--peer", NO_PEER, "--addr", "/ip4/127.0.0.1/tcp/1", "--service", "echo", "--local", ANY];
    let forward = world.forward_with("forwarder", &args).await?;
    let again = |event: &Event| event.number("failures") >= Some(2);
    let unreachable = forward.program.wait_for("peer_unreachable", again, SOON).await?;
    assert!(unreachable.number("retry_in_ms").is_some(), "{unreachable}");
    let reason = unreachable.text("reason").unwrap_or_default();
    assert!(reason.contains("/ip4/127.0.0.1/tcp/1"), "{reason}");
    connecting_is_reset(&forward.local).await?;
    let failed = forward.program.wait_for("forward_failed", |_| true, SOON).await?;
    assert!(
        failed.text("reason").is_some_and(|reason| reason.contains("cannot be reached")),
        "{failed}"
    );
    Ok(())
}

/// A connection through the forward that is certainly being carried.
async fn carried(local: &str) -> Result<TcpStream> {
    let mut client = TcpStream::connect(local).await?;
    client.write_all(b"!").await?;
    assert_eq!(client.read_u8().await?, b'!');
    Ok(client)
}

#[tokio::test]
async fn connections_beyond_a_limit_are_refused_and_said_until_one_ends() -> Result<()> {
    let world = World::new()?;
    let service = format!("echo={}", tcp_echo().await?);
    for (at_expose, what) in [
        (["--max-connections", "2"], "service_connection"),
        (["--max-connections-per-peer", "2"], "service_connection_of_peer"),
    ] {
        let args = [&["--service", &service, "--allow-any"], &at_expose[..]].concat();
        let exposing = world.expose("exposer", &args).await?;
        let way =
            ["--peer", &exposing.peer, "--addr", &exposing.address, "--service", "echo", "--local", ANY];
        let forward = world.forward_with("forwarder", &way).await?;
        let _first = carried(&forward.local).await?;
        let mut second = carried(&forward.local).await?;
        connecting_is_reset(&forward.local).await?;
        let is = |event: &Event| event.has("what", what);
        let refused = exposing.program.wait_for("refused", is, SOON).await?;
        assert_eq!(refused.number("limit"), Some(2), "{refused}");
        second.shutdown().await?;
        assert_eq!(second.read(&mut [0]).await?, 0);
        forward.program.wait_for("stream_closed", |_| true, SOON).await?;
        exposing.program.wait_for("stream_closed", |_| true, SOON).await?;
        echoes_until(&forward.local, Instant::now() + SOON).await?;
    }
    Ok(())
}

/// As many as it takes to fill a forward several times over.
const CROWD: usize = 200;

#[tokio::test]
async fn a_crowd_beyond_the_limit_of_a_forward_waits_and_all_of_it_is_served() -> Result<()> {
    let world = World::new()?;
    let service = format!("echo={}", tcp_echo().await?);
    for (at_expose, at_forward, limit) in [
        (&[][..], &["--max-connections", "64"][..], 64),
        // The far side's limit is reached while the forward has seats left.
        (&["--max-connections-per-peer", "16"], &["--max-connections", "20"], 20),
    ] {
        let args = [&["--service", &service, "--allow-any"], at_expose].concat();
        let exposing = world.expose("exposer", &args).await?;
        let way =
            ["--peer", &exposing.peer, "--addr", &exposing.address, "--service", "echo", "--local", ANY];
        let forward = world.forward_with("forwarder", &[&way[..], at_forward].concat()).await?;
        let mut crowd = JoinSet::new();
        for _ in 0..CROWD {
            let local = forward.local.clone();
            crowd.spawn(async move { echoes(&local).await });
        }
        while let Some(served) = crowd.join_next().await {
            served??;
        }
        let full = forward.program.wait_for("forward_full", |_| true, SOON).await?;
        assert_eq!(full.number("limit"), Some(limit), "{full}");
    }
    Ok(())
}

#[tokio::test]
async fn a_limit_beyond_the_streams_of_a_peer_is_refused_with_the_flag_that_raises_them() -> Result<()> {
    let world = World::new()?;
    let way = ["--peer", NO_PEER, "--relay", NO_RELAY, "--service", "x", "--local", ANY, "--check"];
    for (most, limit, fits) in [("129", "128", false), ("129", "129", true), ("224", "224", true)] {
        let launch = world.quiet("node", &[&["forward"], &way[..]].concat())?;
        let launch = launch.args(["--max-connections", most, "--max-streams-per-peer", limit]);
        let output = launch.output(SOON).await?;
        assert_eq!(output.status.success(), fits, "{output:?}");
        if !fits {
            unusable(&output, &["--max-connections 129", "--max-streams-per-peer"]);
        }
    }
    let launch = world.quiet("node", &["server", "--check", "--max-streams-per-peer", "225"])?;
    unusable(&launch.output(SOON).await?, &["224"]);
    Ok(())
}

#[tokio::test]
async fn a_service_cannot_take_another_ones_share_of_a_peer() -> Result<()> {
    let world = World::new()?;
    let echo = tcp_echo().await?;
    let services = format!("greedy={echo},modest={echo}");
    let args = ["--service", &services, "--allow-any", "--max-streams-per-peer", "4"];
    let exposing = world.expose("exposer", &args).await?;
    let table = |service: &str| {
        format!(
            "[[forward]]\npeer = \"{}\"\naddr = \"{}\"\nservice = \"{service}\"\nlocal = \"{ANY}\"\n",
            exposing.peer, exposing.address
        )
    };
    let file = world.write("run.toml", &[table("greedy"), table("modest")].concat())?;
    let program = world.start("run", "forwarder", &["--listen", LISTEN, "--config", &file])?;
    let mut locals = Vec::new();
    for service in ["greedy", "modest"] {
        let is = |event: &Event| event.has("service", service);
        let listening = program.wait_for("forward_listening", is, SOON).await?;
        locals.push(listening.text("local").unwrap_or_default().to_owned());
    }
    let (_first, _second) = (carried(&locals[0]).await?, carried(&locals[0]).await?);
    let _waits = TcpStream::connect(&locals[0]).await?;
    exposing.program.wait_for("refused", |_| true, SOON).await?;
    echoes(&locals[1]).await
}
