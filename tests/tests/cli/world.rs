//! A directory, identities in it, and programs on loopback.

use std::fmt::Display;
use std::path::PathBuf;
use std::process::Output;
use std::time::Duration;

use anyhow::{Result, ensure};
use punchline_tests::process::{Launch, Place, Program, binary};
use tempfile::TempDir;

/// For anything that a program does on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// The promise: told to stop, a program has ended.
pub(crate) const STOP: Duration = Duration::from_secs(5);

/// A relay that nobody runs.
pub(crate) const NO_RELAY: &str =
    "/ip4/127.0.0.1/tcp/1/p2p/12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp";

/// A peer that nobody is.
pub(crate) const NO_PEER: &str = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";

/// One transport, any port.
pub(crate) const LISTEN: &str = "/ip4/127.0.0.1/tcp/0";

pub(crate) struct World {
    directory: TempDir,
}

impl World {
    pub(crate) fn new() -> Result<Self> {
        binary("punchline")?;
        Ok(Self { directory: tempfile::tempdir()? })
    }

    pub(crate) fn path(&self, name: impl Display) -> PathBuf {
        self.directory.path().join(name.to_string())
    }

    pub(crate) fn text(&self, name: impl Display) -> String {
        self.path(name).to_string_lossy().into_owned()
    }

    pub(crate) fn write(&self, name: &str, content: &str) -> Result<String> {
        std::fs::write(self.path(name), content)?;
        Ok(self.text(name))
    }

    /// What lies in the directory.
    pub(crate) fn files(&self) -> Result<Vec<String>> {
        let entries = std::fs::read_dir(self.directory.path())?;
        entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    }

    /// `punchline`.
    pub(crate) fn bare(&self) -> Result<Launch> {
        Ok(Launch::program(Place::Host, binary("punchline")?))
    }

    /// `punchline SUBCOMMAND --identity <that of the name>`, with nothing else said.
    pub(crate) fn quiet(&self, subcommand: &str, name: &str) -> Result<Launch> {
        Ok(self.bare()?.args([subcommand, "--identity", &self.text(name)]))
    }

    /// The same with `--events -`.
    pub(crate) fn launch(&self, subcommand: &str, name: &str) -> Result<Launch> {
        Ok(self.quiet(subcommand, name)?.args(["--events", "-"]))
    }

    pub(crate) async fn peer_id(&self, name: &str) -> Result<String> {
        let output = self.quiet("id", name)?.output(SOON).await?;
        ensure!(output.status.success(), "{output:?}");
        Ok(String::from_utf8(output.stdout)?.trim_end().to_owned())
    }

    /// A relay that believes how its first peers see it; and its address.
    pub(crate) async fn relay(&self, args: &[&str]) -> Result<(Program, String)> {
        let launch = self.launch("relay", "relay")?.args(["--listen", LISTEN, "--external", "auto"]);
        let relay = launch.args(["--assume-global", "127.0.0.0/8"]).args(args).spawn()?;
        let listening = relay.wait_for("listening", |_| true, SOON).await?;
        let address = listening.text("address").unwrap_or_default();
        Ok((relay, format!("{address}/p2p/{}", self.peer_id("relay").await?)))
    }

    /// A server with a reservation.
    pub(crate) async fn server(&self, relay: &str, args: &[&str]) -> Result<Program> {
        let launch = self.launch("server", "server")?.args(["--network", "simnet", "--listen", LISTEN]);
        let server = launch.args(["--relay", relay]).args(args).spawn()?;
        server.wait_for("reservation_held", |_| true, SOON).await?;
        Ok(server)
    }

    pub(crate) async fn client(&self, relay: &str, args: &[&str]) -> Result<Program> {
        let server = self.peer_id("server").await?;
        let launch = self.launch("client", "client")?.args(["--network", "simnet", "--listen", LISTEN]);
        Ok(launch.args(["--relay", relay, "--peer", &server]).args(args).spawn()?)
    }
}

/// The program refused to start: with this exit code, and a last line that says what and what to do.
#[track_caller]
pub(crate) fn refused(output: &Output, code: i32, hints: &[&str]) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{said}");
    for hint in hints {
        assert!(said.contains(hint), "`{hint}` is missing in: {said}");
    }
    assert!(!said.contains("panicked") && !said.contains("RUST_BACKTRACE"), "{said}");
    let last = said.trim_end().lines().last().unwrap_or_default();
    assert!(last.len() > 10, "no last words: {said}");
}
