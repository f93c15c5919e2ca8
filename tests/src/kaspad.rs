//! Stock kaspad nodes under test: unmodified, on simnet, on the host or in the lab.
//!
//! [`Kaspad`] is a running node, watched by its log; [`Rpc`] asks it. A node announces neither its
//! peers nor what it has, so a test looks [`eventually`], within a deadline. What binary is meant by
//! "stock" says the variable `KASPAD`, see [`binary`].

use std::env;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::Child;
use tokio::sync::watch;
use tokio::time::{Instant, interval, timeout};

use crate::process::Place;

mod rpc;

pub use rpc::{Dag, Peer, Rpc};

/// A running node, with a directory and a loopback address of its own.
///
/// # Drop
///
/// Kills it.
#[derive(Debug)]
pub struct Kaspad {
    p2p: SocketAddr,
    rpc: Rpc,
    log: Arc<watch::Sender<Log>>,
    _process: Child,
    _directory: TempDir,
}

/// What a node has printed.
#[derive(Debug, Default)]
struct Log {
    lines: Vec<String>,
    /// Nothing more will be kept: the node is gone, or has printed more than [`LINES_MAX`].
    ended: bool,
}

impl Kaspad {
    /// Starts a node that knows of no other, and waits until it serves peers and RPC.
    ///
    /// # Errors
    ///
    /// If there is no binary, or it does not get that far within [`START_DEADLINE`].
    pub async fn start<'lab>(place: impl Into<Place<'lab>>) -> Result<Self> {
        let (place, directory, address) = (place.into(), TempDir::new()?, own_address());
        let p2p = SocketAddr::from((address, P2P_PORT));
        let rpc = SocketAddr::from((address, RPC_PORT));
        let mut command = command(place, &binary()?);
        command.args(FLAGS).arg(format!("--appdir={}", directory.path().display()));
        command.arg(format!("--listen={p2p}")).arg(format!("--rpclisten={rpc}"));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut command = tokio::process::Command::from(command);
        let mut process = command.kill_on_drop(true).spawn().context("cannot run kaspad")?;
        let log = Arc::new(watch::Sender::new(Log::default()));
        if let Some(stderr) = process.stderr.take() {
            tokio::spawn(read(stderr, Arc::clone(&log)));
        }
        if let Some(stdout) = process.stdout.take() {
            let log = Arc::clone(&log);
            tokio::spawn(async move {
                read(stdout, Arc::clone(&log)).await;
                log.send_modify(|log| log.ended = true);
            });
        }
        let up = serves(place, [p2p, rpc], &log).await;
        let rpc = up.with_context(|| report(p2p, &log))?;
        Ok(Self { p2p, rpc, log, _process: process, _directory: directory })
    }

    /// Where its peers reach it.
    pub fn p2p(&self) -> SocketAddr {
        self.p2p
    }

    /// Asks the node.
    pub fn rpc(&self) -> &Rpc {
        &self.rpc
    }

    /// The first line of the log with all of `parts`, printed or to come.
    ///
    /// # Errors
    ///
    /// If there is none within `deadline`, or there will be none because the node has ended.
    pub async fn wait_for_line(&self, parts: &[&str], deadline: Duration) -> Result<String> {
        line(&self.log, parts, deadline).await.with_context(|| self.report())
    }

    /// The lines of the log so far with any of `parts`.
    pub fn lines_with(&self, parts: &[&str]) -> Vec<String> {
        let log = self.log.borrow();
        let has = |line: &&String| parts.iter().any(|part| line.contains(part));
        log.lines.iter().filter(has).cloned().collect()
    }

    /// All that the node printed so far, for a person.
    pub fn report(&self) -> String {
        report(self.p2p, &self.log)
    }
}

/// The binary that the variable `KASPAD` names.
///
/// # Errors
///
/// If it names none.
pub fn binary() -> Result<PathBuf, Missing> {
    let named = env::var_os("KASPAD").filter(|named| !named.is_empty()).map(PathBuf::from);
    match named {
        None => Err(Missing::Unset),
        Some(path) if path.is_file() => Ok(path),
        Some(path) => Err(Missing::NoFile(path)),
    }
}

/// Whether its absence is a failure rather than a reason to skip: where it was named in vain, and
/// with `CI=true` where the packed one lies next to the checkout.
pub fn required(missing: &Missing) -> bool {
    let packed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(PACKED);
    let ci = env::var("CI").is_ok_and(|ci| ci == "true");
    matches!(missing, Missing::NoFile(_)) || ci && packed.is_file()
}

/// Why there is no stock node to test with.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Missing {
    /// Nobody named one.
    #[error("KASPAD does not name a kaspad 2.1.0 (unpack {PACKED}, next to the checkout, and set it)")]
    Unset,
    /// There is nothing at the place named.
    #[error("KASPAD names {}, where there is no file", .0.display())]
    NoFile(PathBuf),
}

/// A loopback address that no other node or tunnel of this machine's tests uses, so that all may
/// use fixed ports: two processes that look for a free port at the same time may find the same.
pub fn own_address() -> Ipv4Addr {
    static TAKEN: AtomicU8 = AtomicU8::new(0);
    let taken = TAKEN.fetch_add(1, Ordering::Relaxed) % 250;
    let [.., high, low] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, 1 + taken, high, low)
}

/// What `look` finds, looked for again and again.
///
/// # Errors
///
/// If it fails, or has not found anything within `deadline`; `what` then says what is missing.
pub async fn eventually<T>(
    what: impl fmt::Display,
    deadline: Duration,
    mut look: impl AsyncFnMut() -> Result<Option<T>>,
) -> Result<T> {
    let started = Instant::now();
    let mut looks = interval(LOOK_EVERY);
    loop {
        looks.tick().await;
        if let Some(found) = look().await? {
            return Ok(found);
        }
        if started.elapsed() > deadline {
            bail!("{what}: not within {deadline:?}");
        }
    }
}

fn command(place: Place<'_>, program: &Path) -> Command {
    let mut command = match place {
        Place::Host => Command::new(program),
        Place::Lab(namespace) => namespace.command(program),
    };
    // Every flag of kaspad has a variable.
    for (name, _) in env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("KASPAD_")) {
        command.env_remove(name);
    }
    command
}

/// The RPC of a node that has just been started, once it also takes peers.
async fn serves(place: Place<'_>, [p2p, rpc]: [SocketAddr; 2], log: &watch::Sender<Log>) -> Result<Rpc> {
    line(log, &["P2P Server starting on"], START_DEADLINE).await?;
    // It announces its servers before they listen.
    let listens =
        |address| eventually(address, START_DEADLINE, async move || Ok(connect(place, address).ok()));
    drop(listens(p2p).await?);
    Rpc::connect(listens(rpc).await?).await
}

fn connect(place: Place<'_>, address: SocketAddr) -> Result<TcpStream> {
    Ok(match place {
        Place::Host => TcpStream::connect(address)?,
        Place::Lab(namespace) => namespace.within(|| TcpStream::connect(address))??,
    })
}

async fn read(output: impl AsyncRead + Unpin, log: Arc<watch::Sender<Log>>) {
    let mut lines = BufReader::new(output).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        log.send_modify(|log| match log.lines.len() < LINES_MAX {
            true => log.lines.push(line),
            false => log.ended = true,
        });
    }
}

async fn line(log: &watch::Sender<Log>, parts: &[&str], deadline: Duration) -> Result<String> {
    let find = |log: &Log| {
        let has = |line: &&String| parts.iter().all(|part| line.contains(part));
        log.lines.iter().find(has).cloned()
    };
    let mut reader = log.subscribe();
    let decided = reader.wait_for(|log| log.ended || find(log).is_some());
    let _ = timeout(deadline, decided).await;
    let found = find(&log.borrow());
    found.ok_or_else(|| anyhow!("kaspad did not print {parts:?} within {deadline:?}"))
}

fn report(p2p: SocketAddr, log: &watch::Sender<Log>) -> String {
    format!("kaspad at {p2p}:\n  {}\n", log.borrow().lines.join("\n  "))
}

/// How long a node may take to start, on a machine that starts several.
pub const START_DEADLINE: Duration = Duration::from_secs(30);

/// Lines kept of one node: ten times what the longest trial makes it print.
pub const LINES_MAX: usize = 20_000;

/// Often enough that waiting costs a trial nothing, seldom enough that looking costs nothing.
const LOOK_EVERY: Duration = Duration::from_millis(100);

const P2P_PORT: u16 = 16_511;
const RPC_PORT: u16 = 16_510;

/// Relative to the directory that holds the checkout.
const PACKED: &str = "shared/bin/kaspad-2.1.0-x86_64-linux.xz";

/// Nothing from the outside, nothing on the disk that is not needed; and a log that names pings and
/// refused handshakes.
const FLAGS: [&str; 11] = [
    "--simnet",
    "--nodnsseed",
    "--disable-upnp",
    "--unsaferpc",
    "--enable-unsynced-mining",
    "--utxoindex",
    "--nologfiles",
    "--yes",
    "--async-threads=2",
    "--ram-scale=0.3",
    "--loglevel=info,kaspa_p2p_lib=debug,kaspa_p2p_flows=debug",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_nodes_of_a_process_share_an_address() {
        let (first, second) = (own_address(), own_address());
        assert_ne!(first, second);
        assert!(first.is_loopback() && first != Ipv4Addr::LOCALHOST);
    }

    #[test]
    fn a_binary_that_was_named_in_vain_is_never_skipped() {
        assert!(required(&Missing::NoFile(PathBuf::from("nowhere"))));
    }

    #[tokio::test]
    async fn a_log_is_kept_up_to_its_limit_and_then_counts_as_ended() {
        let log = Arc::new(watch::Sender::new(Log::default()));
        let printed = "a line\n".repeat(LINES_MAX + 1);
        read(printed.as_bytes(), Arc::clone(&log)).await;
        assert_eq!((log.borrow().lines.len(), log.borrow().ended), (LINES_MAX, true));
        let sought = line(&log, &["another"], START_DEADLINE).await;
        assert!(sought.is_err_and(|error| error.to_string().contains("another")));
    }

    #[tokio::test]
    async fn what_never_happens_is_an_error_that_says_what() {
        let never = eventually("the end of days", Duration::ZERO, async || Ok(None::<()>)).await;
        assert!(never.is_err_and(|error| error.to_string().contains("the end of days")));
    }
}
