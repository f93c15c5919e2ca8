//! Many connections at once, in bulk.

use std::{sync::Arc, time::Instant};

use anyhow::{Result, ensure};
use punchline_tests::process::Program;
use sha2::{Digest as _, Sha256};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::Barrier,
    task::JoinSet,
    time::timeout,
};

use crate::world::{ANY, Forwarding, SOON, World, listener, peak_memory_kib};

const CONNECTIONS: usize = 100;

const BYTES: usize = 10 << 20;

/// What either sidecar may need at its peak for all of it, in KiB: much less than passes through.
const PEAK_KIB_MAX: u64 = 400 << 10;

/// Answers each connection, once it has ended, with the hash of what it said; none before all are there.
fn hash_all(listener: TcpListener) {
    let all = Arc::new(Barrier::new(CONNECTIONS));
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let all = all.clone();
            tokio::spawn(async move {
                all.wait().await;
                let (mut hash, mut into) = (Sha256::new(), vec![0; 64 << 10]);
                while let Ok(read @ 1..) = socket.read(&mut into).await {
                    hash.update(&into[..read]);
                }
                socket.write_all(&hash.finalize()).await
            });
        }
    });
}

/// Says what is its own of `text`, and hears its hash.
async fn bulk(local: String, text: Arc<Vec<u8>>, turn: usize) -> Result<()> {
    let mut socket = TcpStream::connect(local).await?;
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

/// All of it through the forward, with a look at the memory.
async fn carry(forward: &Forwarding, exposer: &Program, way: &str) -> Result<()> {
    // Without a period of any power of two.
    let text: Arc<Vec<u8>> = Arc::new((0..BYTES).map(|at| (at * 31 % 251) as u8).collect());
    let (since, mut running) = (Instant::now(), JoinSet::new());
    for turn in 0..CONNECTIONS {
        running.spawn(bulk(forward.local.clone(), text.clone(), turn));
    }
    while let Some(done) = timeout(SOON * 4, running.join_next()).await? {
        done??;
    }
    for (name, program) in [("expose", exposer), ("forward", &forward.program)] {
        let peak = peak_memory_kib(program)?;
        report(&format!(
            "{way}, {CONNECTIONS} x {BYTES} bytes, {:?}: {name} had {peak} KiB at its peak",
            since.elapsed()
        ));
        ensure!(peak < PEAK_KIB_MAX, "{name}: {peak} KiB");
    }
    Ok(())
}

#[expect(clippy::print_stderr, reason = "whoever reads the run wants the numbers")]
fn report(line: &str) {
    eprintln!("{line}");
}

#[tokio::test]
async fn a_hundred_connections_in_bulk_arrive_whole_in_bounded_memory() -> Result<()> {
    let world = World::new()?;
    let (target, address) = listener().await?;
    hash_all(target);
    let service = format!("hash={address}");
    let exposing = world.expose("exposer", &["--service", &service, "--allow-any"]).await?;
    let forward = world.forward(&exposing, "hash", ANY).await?;
    carry(&forward, &exposing.program, "direct").await
}

#[tokio::test]
async fn they_do_so_through_a_relay() -> Result<()> {
    let world = World::new()?;
    let ((_relay, relay), (target, address)) = (world.relay().await?, listener().await?);
    hash_all(target);
    let service = format!("hash={address}");
    let exposing =
        world.expose("exposer", &["--service", &service, "--allow-any", "--relay", &relay]).await?;
    exposing.program.wait_for("reservation_held", |_| true, SOON).await?;
    let args = ["--peer", &exposing.peer, "--relay", &relay, "--service", "hash", "--local", ANY];
    let forward = world.forward_with("forwarder", &args).await?;
    carry(&forward, &exposing.program, "relayed").await?;
    for event in forward.program.events() {
        if event.name().starts_with("upgrade") {
            report(&event.to_string())
        }
    }
    let relayed: u64 =
        forward.program.events().iter().filter_map(|event| event.number("sent_relayed_bytes")).sum();
    report(&format!("relayed {relayed}"));
    Ok(())
}
