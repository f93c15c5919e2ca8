//! The first hour: one command here, the line that it prints there, and it works.

use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use punchline_tests::process::{Launch, Place, Program, binary};
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader},
    net::TcpListener,
    process::{Child, Command},
    time::timeout,
};

use crate::world::{LISTEN, SOON, World, connecting_is_reset, echoes, unusable};

/// A program that sends everything back, at a port that has room for the one proposed to the other side.
async fn echo_port() -> Result<u16> {
    for _ in 0..100 {
        let port = TcpListener::bind("127.0.0.1:0").await?.local_addr()?.port();
        let free = TcpListener::bind(("127.0.0.1", port.saturating_add(10_000))).await.is_ok();
        let Ok(listener) = TcpListener::bind(("127.0.0.1", port)).await else { continue };
        if !free || port > 55_535 {
            continue;
        }
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut read, mut write) = socket.split();
                    let _ = tokio::io::copy(&mut read, &mut write).await;
                });
            }
        });
        return Ok(port);
    }
    anyhow::bail!("no port with room above it")
}

/// `punchline expose ARGS…` as somebody types it, with what a test on loopback needs in the environment.
fn expose(world: &World, args: &[&str]) -> Result<Child> {
    let mut command = Command::new(binary("punchline")?);
    for (name, _) in
        std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PUNCHLINE_"))
    {
        command.env_remove(name);
    }
    command.arg("expose").args(args).env("PUNCHLINE_IDENTITY", world.path("exposer"));
    command.env("PUNCHLINE_LISTEN", LISTEN).env("PUNCHLINE_ASSUME_GLOBAL", "127.0.0.0/8");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Ok(command.kill_on_drop(true).spawn()?)
}

/// The next line with these words.
async fn line(lines: &mut (impl AsyncRead + Unpin), words: &str) -> Result<String> {
    let mut lines = BufReader::new(lines).lines();
    let found = async {
        let mut seen = Vec::new();
        while let Some(line) = lines.next_line().await? {
            if line.contains(words) {
                return Ok(line);
            }
            seen.push(line);
        }
        anyhow::bail!("`{words}` is not in {seen:#?}")
    };
    timeout(SOON, found).await.with_context(|| format!("no `{words}`"))?
}

/// Runs the printed command as another user of another machine.
fn run_there(world: &World, name: &str, command: &str) -> Result<Program> {
    let (ticket, args) = command.split_once(" punchline ").context("a command of ours")?;
    let ticket = ticket.strip_prefix("PUNCHLINE_TICKET=").context("a ticket")?;
    let launch = Launch::program(Place::Host, binary("punchline")?).args(args.split(' '));
    let launch = launch.env("PUNCHLINE_TICKET", ticket);
    let launch = launch.env("PUNCHLINE_IDENTITY", world.text(name)).env("PUNCHLINE_EVENTS", "-");
    let launch = launch.env("PUNCHLINE_LISTEN", LISTEN).env("PUNCHLINE_ASSUME_GLOBAL", "127.0.0.0/8");
    Ok(launch.spawn()?)
}

#[tokio::test]
async fn the_one_line_that_expose_prints_works_on_the_other_side() -> Result<()> {
    let world = World::new()?;
    let (_relay, relay) = world.relay().await?;
    let port = echo_port().await?;
    let mut exposing = expose(&world, &["web", &port.to_string(), "--relay", &relay])?;
    let mut stdout = exposing.stdout.take().context("piped")?;
    let command = line(&mut stdout, "punchline").await?;
    let (ticket, args) = command.split_once(" punchline forward ").context("a command")?;
    ensure!(ticket.starts_with("PUNCHLINE_TICKET=punchline-ticket:"), "{command}");
    ensure!(!args.contains("ticket"), "every user of the machine reads arguments: {command}");
    let there = run_there(&world, "forwarder", &command)?;
    let listening = there.wait_for("forward_listening", |_| true, SOON).await?;
    let local = listening.text("local").context("a place")?.to_owned();
    ensure!(local == format!("127.0.0.1:{}", port + 10_000), "{local}");
    echoes(&local).await?;
    // The log says who it is, what it does, for whom and for how long, and holds no ticket.
    let mut stderr = exposing.stderr.take().context("piped")?;
    let said = line(&mut stderr, "until").await?;
    ensure!(said.contains("whoever has it may use `web`, and nobody else"), "{said}");
    ensure!(said.contains("punchline ticket revoke "), "{said}");
    exposing.kill().await?;
    let mut rest = String::new();
    stderr.read_to_string(&mut rest).await?;
    ensure!(
        !said.contains("punchline-ticket:") && !rest.contains("punchline-ticket:"),
        "{said}\n{rest}"
    );
    Ok(())
}

/// Tells it to stop, or kills it, and waits for its end. What else it said.
async fn end(mut exposing: Child, in_order: bool) -> Result<String> {
    match in_order {
        true => {
            let id = exposing.id().and_then(|id| Pid::from_raw(id as i32)).context("it runs")?;
            kill_process(id, Signal::TERM)?;
        }
        false => exposing.start_kill()?,
    }
    let output = timeout(SOON, exposing.wait_with_output()).await??;
    Ok(String::from_utf8(output.stderr)?)
}

/// The one ticket that stands in the ledger and is good.
async fn good_ticket(world: &World) -> Result<Option<String>> {
    let list = world.quiet("exposer", &["ticket", "list", "--json"])?.output(SOON).await?;
    let rows: Vec<serde_json::Value> = serde_json::from_slice(&list.stdout)?;
    let mut good = rows.iter().filter(|row| row["standing"] == "valid");
    let one = good.next().map(|row| row["id"].to_string());
    ensure!(good.next().is_none(), "one live ticket a service: {rows:#?}");
    Ok(one)
}

#[tokio::test]
async fn the_ticket_that_was_printed_ends_with_its_program() -> Result<()> {
    let world = World::new()?;
    let port = echo_port().await?.to_string();
    let mut exposing = expose(&world, &["web", &port])?;
    let mut stdout = exposing.stdout.take().context("piped")?;
    line(&mut stdout, "PUNCHLINE_TICKET=").await?;
    ensure!(good_ticket(&world).await?.is_some());
    let said = end(exposing, true).await?;
    ensure!(said.contains("printed for `web` opens nothing any more"), "{said}");
    ensure!(good_ticket(&world).await?.is_none(), "it was taken back");
    Ok(())
}

#[tokio::test]
async fn a_program_that_was_killed_prints_the_same_ticket_again_and_none_for_another_target()
-> Result<()> {
    let world = World::new()?;
    let (port, other) = (echo_port().await?.to_string(), echo_port().await?.to_string());
    let mut ids = Vec::new();
    for port in [&port, &port, &other] {
        let mut exposing = expose(&world, &["web", port])?;
        let mut stdout = exposing.stdout.take().context("piped")?;
        line(&mut stdout, "PUNCHLINE_TICKET=").await?;
        ids.push(good_ticket(&world).await?.context("a ticket")?);
        end(exposing, false).await?;
    }
    ensure!(ids[0] == ids[1], "whoever has the line from before goes on: {ids:?}");
    ensure!(ids[1] != ids[2], "it does not lead to another program: {ids:?}");
    // Nor does one that is named in another way.
    let service = format!("web=127.0.0.1:{port}");
    let exposing = world.expose("exposer", &["--service", &service, "--tickets"]).await?;
    ensure!(good_ticket(&world).await?.is_none(), "nothing was printed by this one");
    drop(exposing);
    Ok(())
}

#[tokio::test]
async fn without_the_ticket_nobody_may_use_what_a_name_and_a_port_expose() -> Result<()> {
    let world = World::new()?;
    let port = echo_port().await?.to_string();
    let exposing = world.expose("exposer", &["web", &port]).await?;
    let stranger = world.forward(&exposing, "web", "127.0.0.1:0").await?;
    connecting_is_reset(&stranger.local).await?;
    exposing.program.wait_for("access_refused", |_| true, SOON).await?;
    Ok(())
}

#[tokio::test]
async fn a_qr_code_follows_the_command() -> Result<()> {
    let world = World::new()?;
    let port = echo_port().await?.to_string();
    let mut exposing = expose(&world, &["web", &port, "--qr"])?;
    let mut stdout = BufReader::new(exposing.stdout.take().context("piped")?).lines();
    let mut lines = Vec::new();
    for _ in 0..20 {
        lines.push(timeout(SOON, stdout.next_line()).await??.context("a line")?);
    }
    ensure!(lines[0].starts_with("PUNCHLINE_TICKET=punchline-ticket:"), "{}", lines[0]);
    let is_drawn = |line: &String| line.chars().all(|letter| " ▀▄█".contains(letter));
    ensure!(lines[1..].iter().all(is_drawn), "{lines:#?}");
    Ok(())
}

#[tokio::test]
async fn what_newcomers_type_wrong_is_answered_with_what_to_type() -> Result<()> {
    let world = World::new()?;
    for (args, hints) in [
        (&["expose"][..], &["punchline expose web 8000"][..]),
        (&["expose", "web"], &["PORT"]),
        (&["expose", "web", "http://localhost:8000/"], &["is a URL", "say localhost:8000"]),
        (&["expose", "web", "udp:localhost:53"], &["UDP is not carried"]),
        (&["expose", "--service", "web=http://localhost:8000"], &["is a URL", "say localhost:8000"]),
        (&["expose", "web", "8000", "--qr", "--allow-any"], &["--qr draws the command"]),
    ] {
        unusable(&world.quiet("exposer", args)?.output(SOON).await?, hints);
    }
    Ok(())
}

#[tokio::test]
async fn the_log_has_no_fields_and_obeys_quiet() -> Result<()> {
    let world = World::new()?;
    let port = echo_port().await?.to_string();
    let mut exposing = expose(&world, &["web", &port])?;
    let mut stderr = exposing.stderr.take().context("piped")?;
    let ready = line(&mut stderr, "ready: ").await?;
    ensure!(ready.contains("Z INFO  ready: this node is 12D3KooW") && !ready.contains('='), "{ready}");
    exposing.kill().await?;

    let mut exposing = expose(&world, &["web", &port, "--quiet"])?;
    let mut stdout = exposing.stdout.take().context("piped")?;
    line(&mut stdout, " punchline forward ").await?;
    let mut said = String::new();
    exposing.start_kill()?;
    exposing.stderr.take().context("piped")?.read_to_string(&mut said).await?;
    ensure!(!said.contains("INFO"), "{said}");
    Ok(())
}
