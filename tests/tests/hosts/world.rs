//! Identities, and programs with nothing said that is not needed.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use punchline_tests::process::{Event, Launch, Place, Program, binary};
use tempfile::TempDir;

/// For anything that a program does on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// A peer that nobody is.
pub(crate) const NO_PEER: &str = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";

/// Treats loopback as public.
pub(crate) const LOOPBACK: [&str; 2] = ["--assume-global", "127.0.0.0/8"];

pub(crate) struct World {
    directory: TempDir,
}

impl World {
    pub(crate) fn new() -> Result<Self> {
        binary("punchline")?;
        Ok(Self { directory: tempfile::tempdir()? })
    }

    pub(crate) fn identity(&self, name: &str) -> String {
        let path: PathBuf = self.directory.path().join(name);
        path.to_string_lossy().into_owned()
    }

    /// `punchline SUBCOMMAND --events - --identity <that of the name>`.
    pub(crate) fn launch<'lab>(
        &self,
        place: impl Into<Place<'lab>>,
        subcommand: &str,
        name: &str,
    ) -> Result<Launch> {
        let launch = Launch::punchline(place, subcommand)?;
        Ok(launch.args(["--identity", &self.identity(name)]))
    }

    /// The same for a program that may not open some kinds of sockets.
    pub(crate) fn confined<'lab>(
        &self,
        place: impl Into<Place<'lab>>,
        denied: &[&str],
        subcommand: &str,
        name: &str,
    ) -> Result<Launch> {
        let launch = Launch::program(place, env!("CARGO_BIN_EXE_confined")).args(denied).args(["--"]);
        let launch = launch.args([binary("punchline")?]).args([subcommand, "--events", "-"]);
        Ok(launch.args(["--identity", &self.identity(name)]))
    }

    pub(crate) async fn peer_id(&self, name: &str) -> Result<String> {
        let launch = Launch::program(Place::Host, binary("punchline")?);
        let output = launch.args(["id", "--identity", &self.identity(name)]).output(SOON).await?;
        ensure!(output.status.success(), "{output:?}");
        Ok(String::from_utf8(output.stdout)?.trim_end().to_owned())
    }

    /// A relay on loopback; and its address.
    pub(crate) async fn relay(&self) -> Result<(Program, String)> {
        let launch = self.launch(Place::Host, "relay", "relay")?.args(LOOPBACK);
        let launch = launch.args(["--listen", "/ip4/127.0.0.1/tcp/0", "--external", "auto"]);
        let relay = launch.spawn()?;
        let address = listening(&relay, "/ip4/127.0.0.1/tcp/").await?;
        Ok((relay, format!("{address}/p2p/{}", self.peer_id("relay").await?)))
    }
}

/// The first address that the program listens on and that begins like this.
pub(crate) async fn listening(program: &Program, prefix: &str) -> Result<String> {
    let listens = program.wait_for("listening", |event| begins(event, prefix), SOON).await?;
    Ok(listens.text("address").context("an address")?.to_owned())
}

/// The cause for which the program does not listen on an address that begins like this.
pub(crate) async fn not_listening(program: &Program, prefix: &str) -> Result<String> {
    let failed = program.wait_for("listen_failed", |event| begins(event, prefix), SOON).await?;
    Ok(failed.text("cause").context("a cause")?.to_owned())
}

fn begins(event: &Event, prefix: &str) -> bool {
    event.text("address").is_some_and(|address| address.starts_with(prefix))
}
