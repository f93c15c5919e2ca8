//! A hundred connections at once, ten MiB on each.

use std::{io, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, ensure};
use punchline_tests::process::Program;
use sha2::{Digest as _, Sha256};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    sync::Barrier,
    task::JoinSet,
    time::timeout,
};

use crate::world::peak_memory_kib;

pub(crate) const CONNECTIONS: usize = 100;

pub(crate) const BYTES: usize = 10 << 20;

/// What either sidecar may need at its peak for all of it, in KiB: much less than passes through.
const PEAK_KIB_MAX: u64 = 400 << 10;

/// For all of it, on a busy machine.
const DEADLINE: Duration = Duration::from_secs(180);

/// Where it goes to: it hears each connection out, and answers with the hash. Nothing is heard before
/// all connections are there.
#[derive(Clone)]
pub(crate) struct Hasher(Arc<Barrier>);

impl Hasher {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Barrier::new(CONNECTIONS)))
    }

    /// Attends to one connection.
    pub(crate) fn hear(&self, mut socket: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let all = self.0.clone();
        tokio::spawn(async move {
            all.wait().await;
            let (mut hash, mut into) = (Sha256::new(), vec![0; 64 << 10]);
            while let Ok(read @ 1..) = socket.read(&mut into).await {
                hash.update(&into[..read]);
            }
            socket.write_all(&hash.finalize()).await
        });
    }
}

/// Sends it over as many connections as `connect` makes; every hash must be right.
pub(crate) async fn send<Socket, Connecting>(connect: impl Fn() -> Connecting) -> Result<()>
where
    Socket: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    Connecting: Future<Output = io::Result<Socket>>,
{
    // Its period is no power of two.
    let text: Arc<Vec<u8>> = Arc::new((0..BYTES).map(|at| (at * 31 % 251) as u8).collect());
    let mut running = JoinSet::new();
    for turn in 0..CONNECTIONS {
        running.spawn(say(connect().await?, text.clone(), turn));
    }
    let all = async {
        while let Some(done) = running.join_next().await {
            done??;
        }
        Ok(())
    };
    timeout(DEADLINE, all).await.context("the bulk does not arrive")?
}

/// Says `text`, turned by so many bytes, and hears its hash.
async fn say(
    mut socket: impl AsyncRead + AsyncWrite + Unpin,
    text: Arc<Vec<u8>>,
    turn: usize,
) -> Result<()> {
    let (end, start) = text.split_at(turn);
    socket.write_all(start).await?;
    socket.write_all(end).await?;
    socket.shutdown().await?;
    let mut heard = Vec::new();
    socket.read_to_end(&mut heard).await?;
    let said = Sha256::new().chain_update(start).chain_update(end).finalize();
    ensure!(heard == said.as_slice(), "connection {turn}: {heard:?}");
    Ok(())
}

/// Says how much memory the programs have had at most, and that it is not too much.
#[expect(clippy::print_stderr, reason = "whoever reads the run wants the numbers")]
pub(crate) fn check_memory(way: &str, programs: &[(&str, &Program)]) -> Result<()> {
    for (name, program) in programs {
        let peak = peak_memory_kib(program)?;
        eprintln!("{CONNECTIONS} x {BYTES} bytes, {way}: {name} had {peak} KiB at its peak");
        ensure!(peak < PEAK_KIB_MAX, "{name}: {peak} KiB");
    }
    Ok(())
}
