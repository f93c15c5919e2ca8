//! A relay, `expose` before a target, `forward` before the clients, and the programs on either side.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, Result, ensure};
use punchline_tests::process::{Launch, Place, Program, binary};
use tempfile::TempDir;

use crate::PYTHON;

/// For anything that a program does on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// Any free port.
pub(crate) const ANY: &str = "127.0.0.1:0";

/// One transport, any port, and loopback is public; metrics on any port.
const NODE: [&str; 6] =
    ["--listen", "/ip4/127.0.0.1/tcp/0", "--assume-global", "127.0.0.0/8", "--metrics", ANY];

/// Where every service goes.
const SERVICE: &str = "target";

/// The way between two programs that know nothing of it.
pub(crate) struct Gateway {
    /// Where clients connect, as `forward` says it.
    pub(crate) local: String,
    pub(crate) forward: Program,
    expose: Program,
    relay: Program,
    _directory: TempDir,
}

impl Gateway {
    /// From `local` to `target`; its streams begin on the relay and may move.
    pub(crate) async fn start(target: &str, local: &str) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let start = |subcommand: &str, args: &[&str]| {
            let identity = directory.path().join(subcommand);
            let launch = Launch::punchline(Place::Host, subcommand)?.args(NODE).args(args);
            launch.args(["--identity", &identity.to_string_lossy()]).spawn()
        };
        let relay = start("relay", &["--external", "auto"])?;
        let listening = relay.wait_for("listening", |_| true, SOON).await?;
        let relay_address = listening.text("address").context("an address")?;
        let relay_address = format!("{relay_address}/p2p/{}", id(&directory, "relay").await?);

        let service = format!("{SERVICE}={target}");
        let args = ["--relay", &relay_address, "--service", &service, "--allow-any"];
        let expose = start("expose", &args)?;
        expose.wait_for("reservation_held", |_| true, SOON).await?;

        let peer = id(&directory, "expose").await?;
        let args = ["--relay", &relay_address, "--peer", &peer, "--service", SERVICE, "--local", local];
        let forward = start("forward", &args)?;
        let listening = forward.wait_for("forward_listening", |_| true, SOON).await?;
        let local = listening.text("local").context("a place")?.to_owned();
        Ok(Self { local, forward, expose, relay, _directory: directory })
    }
}

impl Gateway {
    /// Where its three programs tell their numbers.
    pub(crate) async fn metrics(&self) -> Result<Vec<String>> {
        let mut addresses = Vec::new();
        for program in [&self.relay, &self.expose, &self.forward] {
            let listening = program.wait_for("metrics_listening", |_| true, SOON).await?;
            addresses.push(listening.text("address").context("an address")?.to_owned());
        }
        Ok(addresses)
    }
}

pub(crate) async fn id(directory: &TempDir, name: &str) -> Result<String> {
    let identity = directory.path().join(name);
    let launch = Launch::program(Place::Host, binary("punchline")?);
    let output = launch.args(["id", "--identity", &identity.to_string_lossy()]).output(SOON).await?;
    ensure!(output.status.success(), "{output:?}");
    Ok(String::from_utf8(output.stdout)?.trim_end().to_owned())
}

/// One of the Python programs beside this file.
pub(crate) fn python(program: &str, args: &[&str]) -> Launch {
    python_at(Place::Host, program, args)
}

/// The same, also in the lab.
pub(crate) fn python_at(place: Place<'_>, program: &str, args: &[&str]) -> Launch {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(program);
    Launch::program(place, PYTHON).args(["-u", &path.to_string_lossy()]).args(args)
}

/// Runs a client to its end; what it printed.
pub(crate) async fn succeeds(client: Launch) -> Result<String> {
    let output = client.output(SOON).await?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "the client failed ({}): {said}", output.status);
    Ok(String::from_utf8(output.stdout)?)
}

/// Starts a server that says `{"event":"listening","address":…}` when it does.
pub(crate) async fn server(program: &str) -> Result<(Program, String)> {
    let server = python(program, &[]).spawn()?;
    let listening = server.wait_for("listening", |_| true, SOON).await?;
    let address = listening.text("address").context("an address")?.to_owned();
    Ok((server, address))
}
