//! SIGHUP: a terminal that was closed, or a wish to have files opened anew.

use std::{
    fs::{self, File},
    os::fd::OwnedFd,
    process::Stdio,
};

use anyhow::{Context as _, Result, ensure};
use punchline_tests::process::binary;
use rustix::{
    process::Signal,
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    time::timeout,
};

use crate::{
    stopping::signal,
    world::{LISTEN, NO_PEER, NO_RELAY, SOON, STOP, World},
};

const FORWARD: &[&str] =
    &["forward", "--peer", NO_PEER, "--relay", NO_RELAY, "--service", "x", "--local", "127.0.0.1:0"];

/// Programs started from now on are ended by SIGHUP, though whoever started this one had it ignored: what is caught
/// here, and no longer ignored, is set back to the default when a program starts.
fn hang_up_on_hangup() -> Result<()> {
    drop(tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup())?);
    Ok(())
}

/// A terminal: what is behind it, and the name of what programs see.
fn terminal() -> Result<(OwnedFd, String)> {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    grantpt(&master)?;
    unlockpt(&master)?;
    let name = ptsname(&master, Vec::new())?.into_string()?;
    Ok((master, name))
}

/// Starts a program that leads the session of a terminal, and waits until it writes its first event. Its
/// events go to a pipe, as when they are piped into a program.
async fn start_at(world: &World, tty: &str, wrap: &[&str], args: &[&str]) -> Result<(Child, String)> {
    let mut command = Command::new("setsid");
    command.arg("--ctty").args(wrap).arg(binary("punchline")?).args(args);
    command.args(["--listen", LISTEN, "--identity"]).arg(world.path("identity"));
    let tty = File::options().read(true).write(true).open(tty)?;
    command.stdin(tty.try_clone()?).stderr(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.kill_on_drop(true).spawn()?;
    drop(tty);
    let mut stdout = BufReader::new(child.stdout.take().context("stdout is piped")?);
    let mut line = String::new();
    timeout(SOON, stdout.read_line(&mut line)).await??;
    // Somebody has to go on reading.
    tokio::spawn(async move { while let Ok(Some(_)) = (&mut stdout).lines().next_line().await {} });
    Ok((child, line))
}

#[tokio::test]
async fn a_closed_terminal_ends_every_program_in_order() -> Result<()> {
    hang_up_on_hangup()?;
    let world = World::new()?;
    let relay = ["relay", "--external", "auto"];
    let allowed = world.write("allowed", NO_PEER)?;
    let expose = ["expose", "--service", "x=127.0.0.1:1", "--allow-file", &allowed];
    for args in [FORWARD, &relay, &expose] {
        let (master, tty) = terminal()?;
        let (mut child, first) =
            start_at(&world, &tty, &[], &[args, &["--events", "-"]].concat()).await?;
        ensure!(first.contains("listening"), "{first}");
        drop(master);
        let status = timeout(STOP, child.wait()).await.context("5 s are over")??;
        assert_eq!(status.code(), Some(0), "{args:?}");
    }
    Ok(())
}

#[tokio::test]
async fn under_nohup_a_program_outlives_its_terminal() -> Result<()> {
    hang_up_on_hangup()?;
    let world = World::new()?;
    let (master, tty) = terminal()?;
    let args = [FORWARD, &["--events", "-"]].concat();
    let (mut child, _) = start_at(&world, &tty, &["nohup"], &args).await?;
    drop(master);
    // Not even when it is asked: there is nothing to reload.
    signal(&child, Signal::HUP)?;
    signal(&child, Signal::HUP)?;
    let ended = timeout(std::time::Duration::from_millis(500), child.wait()).await;
    assert!(ended.is_err(), "{ended:?}");
    signal(&child, Signal::TERM)?;
    assert!(timeout(STOP, child.wait()).await??.success());
    Ok(())
}

#[tokio::test]
async fn a_file_of_events_that_was_moved_away_is_opened_anew() -> Result<()> {
    hang_up_on_hangup()?;
    let world = World::new()?;
    let (events, moved) = (world.text("events"), world.path("moved"));
    let forward = world.quiet("forward", "forward")?.args(&FORWARD[1..]);
    let mut forward = forward.args(["--listen", LISTEN, "--events", &events]).spawn()?;
    let until = async |holds: &dyn Fn() -> bool| {
        let mut pause = tokio::time::interval(std::time::Duration::from_millis(20));
        let waiting = async {
            while !holds() {
                pause.tick().await;
            }
        };
        timeout(SOON, waiting).await.with_context(|| forward.report())
    };
    let has = |path: &std::path::Path, what: &str| {
        fs::read_to_string(path).is_ok_and(|text| text.contains(what))
    };
    until(&|| has(world.path("events").as_path(), "forward_listening")).await?;
    fs::rename(&events, &moved)?;
    forward.hang_up()?;
    until(&|| world.path("events").exists()).await?;
    assert!(forward.terminate(STOP).await?.success(), "{}", forward.report());
    assert!(has(&moved, "forward_listening") && has(world.path("events").as_path(), "stopped"));
    Ok(())
}

#[tokio::test]
async fn a_hangup_ends_what_has_nothing_to_reload() -> Result<()> {
    hang_up_on_hangup()?;
    let world = World::new()?;
    let forward = world.launch("forward", "forward")?.args(&FORWARD[1..]);
    let mut forward = forward.args(["--listen", LISTEN]).spawn()?;
    forward.wait_for("forward_listening", |_| true, SOON).await?;
    forward.hang_up()?;
    assert!(forward.wait(STOP).await?.success(), "{}", forward.report());
    Ok(())
}
