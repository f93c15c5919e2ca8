//! No wait for a peer goes on for longer than ten seconds without a word on what it is for.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use punchline_tests::process::{Event, Program};
use serde_json::Value;
use tokio::net::TcpListener;

use crate::world::{LISTEN, NO_PEER, SOON, World};

/// When it is said, the promise, and what a busy machine may add.
const SAID_AFTER: Duration = Duration::from_secs(9);
const TEN_SECONDS: Duration = Duration::from_secs(10);
const LATE: Duration = Duration::from_secs(5);

/// What is said to be waited for after ten seconds.
async fn waiting(program: &Program, start: Instant) -> Result<Event> {
    let waiting = program.wait_for("waiting", |event| event.has("peer", NO_PEER), SOON).await?;
    let waited = waiting.number("waited_ms").context("a duration")?;
    ensure!(Duration::from_millis(waited) >= SAID_AFTER, "{waiting:?}");
    ensure!(start.elapsed() < TEN_SECONDS + LATE, "{:?}", start.elapsed());
    Ok(waiting)
}

#[tokio::test]
async fn a_forward_whose_peer_is_offline_says_by_its_name_what_it_waits_for() -> Result<()> {
    let world = World::new()?;
    let (_relay, relay) = world.relay(&[]).await?;
    let named = world.quiet("peers", "forward")?.args(["name", NO_PEER, "alice"]).output(SOON).await?;
    ensure!(named.status.success(), "{named:?}");
    let start = Instant::now();
    let launch = world.launch("forward", "forward")?.args(["--service", "web", "--peer", "alice"]);
    let launch = launch.args(["--listen", LISTEN, "--local", "127.0.0.1:0", "--relay", &relay]);
    let forward = launch.spawn()?;
    forward.wait_for_text("alice is not reached: through relay", SOON).await?;
    forward.wait_for_text("holds no reservation of it", SOON).await?;
    let waiting = waiting(&forward, start).await?;
    let awaited = &waiting.fields()["awaits"][0];
    ensure!(awaited["stage"] == "next_attempt", "{waiting:?}");
    let socket = world.text("forward.sock");
    let status = world.bare()?.args(["status", "--json", "--control", &socket]).output(SOON).await?;
    let status: Value = serde_json::from_slice(&status.stdout)?;
    ensure!(status["waits"][0]["name"] == "alice" && status["shape"] == 1, "{status:#}");
    let why = world.bare()?.args(["why", "alice", "--control", &socket]).output(SOON).await?;
    let why = String::from_utf8(why.stdout)?;
    ensure!(why.starts_with("alice (…") && why.contains("; this node waits for it for "), "{why}");
    Ok(())
}

#[tokio::test]
async fn a_client_whose_relay_never_answers_says_so_after_ten_seconds() -> Result<()> {
    let world = World::new()?;
    // The system takes connections for it, and nobody reads them.
    let silent = TcpListener::bind("127.0.0.1:0").await?;
    let id = world.peer_id("relay").await?;
    let relay = format!("/ip4/127.0.0.1/tcp/{}/p2p/{id}", silent.local_addr()?.port());
    let start = Instant::now();
    let launch = world.launch("client", "client")?.args(["--network", "simnet", "--listen", LISTEN]);
    let client = launch.args(["--relay", &relay, "--peer", NO_PEER]).spawn()?;
    let waiting = waiting(&client, start).await?;
    let stage = waiting.fields()["awaits"][0]["stage"].as_str().unwrap_or_default().to_owned();
    ensure!(["relay_link", "relay_again"].contains(&stage.as_str()), "{waiting:?}");
    Ok(client.wait_for_text("still waiting for 12D3…", SOON).await?)
}
