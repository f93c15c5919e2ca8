//! A directory, identities in it, programs on loopback, and what is behind and before them.

use std::{
    fmt::Display,
    path::PathBuf,
    process::Output,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use punchline_tests::process::{Launch, Place, Program, binary};
use tempfile::TempDir;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, copy, split},
    net::{TcpListener, TcpStream, UnixListener},
    time::{interval, timeout, timeout_at},
};

/// For anything that a program does on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// The promise: told to stop, a program has ended.
pub(crate) const STOP: Duration = Duration::from_secs(5);

/// One transport, any port.
pub(crate) const LISTEN: &str = "/ip4/127.0.0.1/tcp/0";

/// A relay that nobody runs.
pub(crate) const NO_RELAY: &str =
    "/ip4/127.0.0.1/tcp/1/p2p/12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp";

/// A peer that nobody is.
pub(crate) const NO_PEER: &str = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";

pub(crate) struct World {
    directory: TempDir,
}

/// A running `expose` or `run`, and where peers find it.
pub(crate) struct Exposing {
    pub(crate) program: Program,
    pub(crate) peer: String,
    pub(crate) address: String,
}

/// A running `forward`, and where it listens.
pub(crate) struct Forwarding {
    pub(crate) program: Program,
    pub(crate) local: String,
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

    /// `punchline ARGS… --identity <that of the name>`, with nothing else said.
    pub(crate) fn quiet(&self, name: &str, args: &[&str]) -> Result<Launch> {
        let launch = Launch::program(Place::Host, binary("punchline")?);
        Ok(launch.args(args).args(["--identity", &self.text(name)]))
    }

    /// What such a command prints, without the end of the line.
    pub(crate) async fn printed(&self, name: &str, args: &[&str]) -> Result<String> {
        let output = self.quiet(name, args)?.output(SOON).await?;
        ensure!(output.status.success(), "{output:?}");
        Ok(String::from_utf8(output.stdout)?.trim_end().to_owned())
    }

    pub(crate) async fn peer_id(&self, name: &str) -> Result<String> {
        self.printed(name, &["id"]).await
    }

    /// A program with a node that reports its events.
    pub(crate) fn start(&self, subcommand: &str, name: &str, args: &[&str]) -> Result<Program> {
        let launch = self.quiet(name, &[subcommand, "--events", "-"])?;
        Ok(launch.args(args).spawn()?)
    }

    /// A relay that believes how its first peers see it; and its address.
    pub(crate) async fn relay(&self) -> Result<(Program, String)> {
        let args = ["--listen", LISTEN, "--external", "auto", "--assume-global", "127.0.0.0/8"];
        let relay = self.start("relay", "relay", &[&args[..], &["--circuit-bytes", "0"]].concat())?;
        let listening = relay.wait_for("listening", |_| true, SOON).await?;
        let address = listening.text("address").unwrap_or_default();
        let address = format!("{address}/p2p/{}", self.peer_id("relay").await?);
        Ok((relay, address))
    }

    /// `expose`, reached at its own address.
    pub(crate) async fn expose(&self, name: &str, args: &[&str]) -> Result<Exposing> {
        self.expose_at("expose", name, LISTEN, args).await
    }

    pub(crate) async fn expose_at(
        &self,
        subcommand: &str,
        name: &str,
        listen: &str,
        args: &[&str],
    ) -> Result<Exposing> {
        let program = self.start(subcommand, name, &[&["--listen", listen], args].concat())?;
        let listening = program.wait_for("listening", |_| true, SOON).await?;
        let address = listening.text("address").context("an address")?.to_owned();
        Ok(Exposing { program, peer: self.peer_id(name).await?, address })
    }

    /// `forward` to the address of a node that exposes the service.
    pub(crate) async fn forward(&self, to: &Exposing, service: &str, local: &str) -> Result<Forwarding> {
        let args = ["--peer", &to.peer, "--addr", &to.address, "--service", service, "--local", local];
        self.forward_with("forwarder", &args).await
    }

    pub(crate) async fn forward_with(&self, name: &str, args: &[&str]) -> Result<Forwarding> {
        let program = self.start("forward", name, &[&["--listen", LISTEN], args].concat())?;
        let listening = program.wait_for("forward_listening", |_| true, SOON).await?;
        let local = listening.text("local").context("a place")?.to_owned();
        Ok(Forwarding { program, local })
    }
}

/// Any free port.
pub(crate) const ANY: &str = "127.0.0.1:0";

/// The most memory that a program has had at once, in KiB.
pub(crate) fn peak_memory_kib(program: &Program) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", program.id().context("it runs")?))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("VmHWM")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse()?)
}

/// A program behind the gateway: a port that nobody of us reads from yet.
pub(crate) async fn listener() -> Result<(TcpListener, String)> {
    let listener = TcpListener::bind(ANY).await?;
    let address = listener.local_addr()?.to_string();
    Ok((listener, address))
}

/// Sends everything back, over TCP.
pub(crate) async fn tcp_echo() -> Result<String> {
    let (listener, address) = listener().await?;
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(echo(socket));
        }
    });
    Ok(address)
}

/// Sends everything back, over a Unix socket.
pub(crate) fn unix_echo(path: &str) -> Result<()> {
    let listener = UnixListener::bind(path)?;
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(echo(socket));
        }
    });
    Ok(())
}

async fn echo(socket: impl AsyncRead + AsyncWrite) {
    let (mut read, mut write) = split(socket);
    let _ = copy(&mut read, &mut write).await;
    let _ = write.shutdown().await;
}

/// Says something, ends, and hears all of it back, and the end.
pub(crate) async fn speaks(socket: impl AsyncRead + AsyncWrite, text: &[u8]) -> Result<()> {
    let (mut read, mut write) = split(socket);
    let mut heard = Vec::new();
    // Both at once: what is not heard holds up what is said.
    let saying = async {
        write.write_all(text).await?;
        write.shutdown().await
    };
    let spoken = async { tokio::try_join!(saying, read.read_to_end(&mut heard)) };
    timeout(SOON, spoken).await.context("no end of it")??;
    ensure!(heard == text, "heard {} bytes of {}", heard.len(), text.len());
    Ok(())
}

/// Connects to a forward and has what it says echoed.
pub(crate) async fn echoes(local: &str) -> Result<()> {
    speaks(TcpStream::connect(local).await?, b"is there anybody?").await
}

/// Pauses between attempts of a program that wants its connection back.
const ATTEMPT_INTERVAL: Duration = Duration::from_millis(100);

/// Tries as a stubborn program does.
pub(crate) async fn echoes_until(local: &str, deadline: Instant) -> Result<()> {
    let mut pause = interval(ATTEMPT_INTERVAL);
    let tried = timeout_at(deadline.into(), async {
        loop {
            pause.tick().await;
            if echoes(local).await.is_ok() {
                break;
            }
        }
    });
    tried.await.context("no connection works in time")
}

/// A new connection is reset, perhaps before we know that there is one.
pub(crate) async fn connecting_is_reset(local: &str) -> Result<()> {
    match TcpStream::connect(local).await {
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => Ok(()),
        connected => is_reset(&mut connected?, SOON).await,
    }
}

/// The connection is reset, within the deadline.
pub(crate) async fn is_reset(socket: &mut TcpStream, deadline: Duration) -> Result<()> {
    let mut scratch = [0; 1024];
    let ended = async {
        loop {
            match socket.read(&mut scratch).await {
                Ok(0) => anyhow::bail!("an end of file instead of a reset"),
                Ok(_) => {}
                Err(error) => break Ok(error),
            }
        }
    };
    let error = timeout(deadline, ended).await.context("not reset in time")??;
    ensure!(error.kind() == std::io::ErrorKind::ConnectionReset, "{error}");
    Ok(())
}

/// The program refused to start: with exit code 2, and a last line that says what and what to do.
#[track_caller]
pub(crate) fn unusable(output: &Output, hints: &[&str]) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    for hint in hints {
        assert!(said.contains(hint), "`{hint}` is missing in: {said}");
    }
    assert!(!said.contains("panicked"), "{said}");
}
