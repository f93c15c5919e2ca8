//! Firewalls: who dials into one is told in time, and what the doctor prints opens one.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use punchline_tests::lab::{Lab, LabSpec, Namespace, Nat};
use punchline_tests::process::{Launch, Place, Program, binary};

use crate::world::{NO_PEER, SOON, World, listening};

/// What is promised, and what a busy machine may add.
const TIMEOUT: f64 = 10.0;
const LATE: f64 = 4.0;

/// A chain that lets in what this host asked for, and nothing else.
const CLOSED: &str = "table inet filter { chain input { type filter hook input priority 0; policy drop; \
                      ct state established,related accept; iif lo accept; }; }";

fn closed(host: &Namespace) -> Result<()> {
    done(host.command("nft").arg(CLOSED)).map(drop)
}

fn done(command: &mut Command) -> Result<String> {
    let output = command.output()?;
    ensure!(output.status.success(), "{command:?}: {output:?}");
    Ok(String::from_utf8(output.stdout)?)
}

/// Neither the peer's address nor the relay's answers: nft drops what comes there.
pub(crate) async fn black_hole() -> Result<()> {
    let world = World::new()?;
    let lab = Lab::build(&LabSpec::new([Nat::Open, Nat::Open]))?;
    closed(lab.host(1))?;
    let hole = format!("/ip4/{}/tcp/4001", lab.host(1).address());
    let relay = world.peer_id("relay").await?;
    let relay = format!("/ip4/{}/tcp/4002/p2p/{relay}", lab.host(1).address());
    for (ways, tried) in [
        (&["--addr", &hole][..], vec![hole.as_str()]),
        (&["--addr", &hole, "--relay", &relay], vec![&hole, &relay]),
    ] {
        let launch = world.launch(lab.host(0), "client", "client")?.args(ways);
        let mut client = launch.args(["--peer", NO_PEER, "--dial-attempts", "1"]).spawn()?;
        listening(&client, "/ip4/").await?;
        let failed = client.wait_for("dial_failed", |_| true, SOON).await?;
        let listens = client.wait_for("listening", |_| true, SOON).await?;
        let took = failed.time()?.duration_since(listens.time()?).as_secs_f64();
        ensure!((TIMEOUT - 0.1..TIMEOUT + 1.0 + LATE).contains(&took), "after {took} s: {failed}");
        let reason = failed.text("reason").context("a reason")?;
        ensure!(reason.starts_with("connection timeout: no stream to "), "{reason}");
        for way in tried {
            ensure!(reason.contains(way), "{way} is missing in: {reason}");
        }
        ensure!(client.wait(SOON).await?.code() == Some(1), "{}", client.report());
        let last = "error: connection timeout: no stream to ";
        ensure!(client.report().contains(last), "{}", client.report());
    }
    Ok(())
}

/// `punchline doctor …` there, whatever its exit code.
async fn doctor(place: &Namespace, args: &[&str]) -> Result<String> {
    let launch = Launch::program(Place::from(place), binary("punchline")?).args(["doctor"]).args(args);
    Ok(String::from_utf8(launch.output(SOON).await?.stdout)?)
}

/// A relay behind a firewall that lets nobody in.
pub(crate) async fn opened_by_what_is_printed() -> Result<()> {
    let world = World::new()?;
    let lab = Lab::build(&LabSpec::new([Nat::Open]))?;
    closed(lab.relay())?;
    let ip = lab.relay().address();
    let [tcp, quic] = [format!("/ip4/{ip}/tcp/4001"), format!("/ip4/{ip}/udp/4001/quic-v1")];
    let launch = world.launch(lab.relay(), "relay", "relay")?;
    let relay = launch.args(["--listen", &tcp, "--listen", &quic]).spawn()?;
    opening(&world, &lab, &[&tcp, &quic]).await.with_context(|| Program::report(&relay))
}

async fn opening(world: &World, lab: &Lab, addresses: &[&str]) -> Result<()> {
    let id = world.peer_id("relay").await?;
    let silent = "did not answer over";
    for address in addresses {
        let reach = format!("{address}/p2p/{id}");
        let said = doctor(lab.host(0), &["reach", &reach]).await?;
        ensure!(said.contains(silent), "{said}");
    }
    let control = format!("{}.sock", world.identity("relay"));
    let printed = doctor(lab.relay(), &["firewall", "--control", &control]).await?;
    ensure!(printed.contains(&format!("the relay that runs here, {id}: TCP 4001; UDP ")), "{printed}");
    let typed = |line: &str| done(lab.relay().command("sh").args(["-c", line]));
    let lines: Vec<_> = printed.lines().filter(|line| line.starts_with("nft ")).collect();
    ensure!(lines.len() == 2, "one for TCP and one for UDP: {printed}");
    lines.iter().try_for_each(|line| typed(line).map(drop))?;
    for address in addresses {
        let reach = format!("{address}/p2p/{id}");
        let said = doctor(lab.host(0), &["reach", &reach]).await?;
        ensure!(said.contains("it is a relay"), "{said}");
    }
    // Nobody listens there, and still nobody is told so.
    let other = addresses[0].replace("4001", "4002");
    let said = doctor(lab.host(0), &["reach", &other]).await?;
    ensure!(said.contains(silent), "{said}");
    let line = |begin: &str| printed.lines().find(|line| line.starts_with(begin)).context("a line");
    let listeners = typed(line("ss ")?)?;
    ensure!(listeners.contains(":4001") && listeners.contains("punchline"), "{listeners}");
    captured(lab, line("tcpdump ")?)
}

/// Where there is one, it takes the filter.
fn captured(lab: &Lab, line: &str) -> Result<()> {
    let waits = Duration::from_secs(1).as_secs();
    match lab.relay().command("tcpdump").arg("--version").output() {
        Ok(_) => {
            let typed = format!("timeout {waits} {line} 2>&1; true");
            let said = done(lab.relay().command("sh").args(["-c", &typed]))?;
            ensure!(said.contains("listening on any"), "{said}");
            Ok(())
        }
        Err(_) => Ok(()),
    }
}
