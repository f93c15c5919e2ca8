//! SIGTERM and Ctrl-C: every program drains and exits 0, whatever it is doing.

use std::process::Stdio;

use anyhow::{Context as _, Result};
use punchline_tests::process::binary;
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

use crate::world::{LISTEN, NO_PEER, NO_RELAY, SOON, STOP, World};

const COMMANDS: [&[&str]; 3] = [
    &["server", "--relay", NO_RELAY],
    &["relay", "--external", "auto"],
    &["client", "--peer", NO_PEER, "--relay", NO_RELAY, "--dial-attempts", "0"],
];

/// A program whose output we hold ourselves.
fn start(world: &World, args: &[&str]) -> Result<(Child, BufReader<ChildStdout>)> {
    let mut command = Command::new(binary("punchline")?);
    command.args(args).args(["--listen", LISTEN, "--events", "-", "--identity"]);
    command.arg(world.path("identity")).stdin(Stdio::null());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true).spawn()?;
    let stdout = child.stdout.take().context("stdout is piped")?;
    Ok((child, BufReader::new(stdout)))
}

async fn first_event(stdout: &mut BufReader<ChildStdout>) -> Result<String> {
    let mut line = String::new();
    timeout(SOON, stdout.read_line(&mut line)).await??;
    Ok(line)
}

pub(crate) fn signal(child: &Child, signal: Signal) -> Result<()> {
    let pid = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
    Ok(kill_process(pid.context("it runs")?, signal)?)
}

#[tokio::test]
async fn a_signal_right_after_the_first_event_ends_every_program_in_order() -> Result<()> {
    let world = World::new()?;
    for stop in [Signal::TERM, Signal::INT] {
        for command in COMMANDS {
            let (mut child, mut stdout) = start(&world, command)?;
            let first = first_event(&mut stdout).await?;
            assert!(first.contains("\"listening\""), "{first}");
            signal(&child, stop)?;
            let status = timeout(STOP, child.wait()).await.context("5 s are over")??;
            assert_eq!(status.code(), Some(0), "{command:?} on {stop:?}");
            let mut last = String::new();
            while let Some(line) = (&mut stdout).lines().next_line().await? {
                last = line;
            }
            assert!(last.contains("\"stopped\""), "{command:?} on {stop:?}: {last}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn readers_that_went_away_neither_kill_a_program_nor_keep_it() -> Result<()> {
    let world = World::new()?;
    let (mut child, mut stdout) = start(&world, &["relay", "--external", "auto"])?;
    let first: serde_json::Value = serde_json::from_str(&first_event(&mut stdout).await?)?;
    let relay = first["address"].as_str().context("an address")?;
    let relay = format!("{relay}/p2p/{}", world.peer_id("identity").await?);
    drop((stdout, child.stderr.take()));
    // Two connections, each of which the relay reports to nobody.
    for name in ["server", "another"] {
        let launch = world.launch("server", name)?.args(["--relay", &relay, "--listen", LISTEN]);
        let opened = launch.spawn()?;
        opened.wait_for("connection_opened", |_| true, SOON).await?;
    }
    assert!(child.try_wait()?.is_none(), "it still runs");
    signal(&child, Signal::TERM)?;
    assert!(timeout(STOP, child.wait()).await??.success());
    Ok(())
}

#[tokio::test]
async fn a_live_session_is_drained() -> Result<()> {
    let world = World::new()?;
    let (mut relay, address) = world.relay(&[]).await?;
    let mut server = world.server(&address, &[]).await?;
    let mut client = world.client(&address, &[]).await?;
    client.wait_for("session_ready", |_| true, SOON).await?;
    server.wait_for("session_ready", |_| true, SOON).await?;
    assert!(server.terminate(STOP).await?.success(), "{}", server.report());
    client.wait_for("session_ended", |_| true, SOON).await?;
    assert!(client.terminate(STOP).await?.success(), "{}", client.report());
    assert!(relay.terminate(STOP).await?.success(), "{}", relay.report());
    for program in [&relay, &server, &client] {
        let last = program.events().pop().context("events")?;
        assert_eq!(last.name(), "stopped", "{}", program.report());
    }
    Ok(())
}

/// Neither events nor log are read; the pipes fill up.
#[tokio::test]
async fn readers_that_never_read_neither_stall_a_program_nor_keep_it() -> Result<()> {
    let world = World::new()?;
    let args = ["relay", "--external", "auto", "--assume-global", "127.0.0.0/8", "-vv"];
    let (mut child, mut stdout) = start(&world, &args)?;
    let first: serde_json::Value = serde_json::from_str(&first_event(&mut stdout).await?)?;
    let relay = first["address"].as_str().context("an address")?;
    let relay = format!("{relay}/p2p/{}", world.peer_id("identity").await?);
    // With everything logged, two servers and their pings fill a pipe of 64 KiB many times over.
    for name in ["one", "two", "three", "four"] {
        let launch = world.launch("server", name)?.args(["--relay", &relay, "--listen", LISTEN]);
        launch.spawn()?.wait_for("reservation_held", |_| true, SOON).await?;
    }
    assert!(child.try_wait()?.is_none(), "it still runs");
    signal(&child, Signal::TERM)?;
    assert!(timeout(STOP, child.wait()).await??.success());
    Ok(())
}
