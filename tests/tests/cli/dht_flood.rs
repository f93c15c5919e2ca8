//! The DHT has a swarm, limits and connections of its own: who asks a node there all the time does not slow its streams.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use futures::StreamExt as _;
use libp2p::{
    Multiaddr, PeerId, StreamProtocol, SwarmBuilder, kad, noise, swarm::SwarmEvent, tcp, yamux,
};
use punchline_tests::process::Program;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use crate::seen::echo;
use crate::world::{LISTEN, SOON, World};

/// Peers that ask, and questions that each has under way.
const ASKERS: usize = 6;
const AT_ONCE: usize = 16;

/// Questions that have to be answered for it to be a flood, and round trips that are measured.
const ANSWERED: usize = 1000;
const ROUNDS: usize = 200;

/// A round trip under the flood, against one without: everything shares two cores here, the askers as well.
const SLOWER_MAX: u32 = 10;
const SLOWER_BY_MAX: Duration = Duration::from_millis(50);

/// A stock node that asks all the time who is near to somebody.
fn ask(node: PeerId, at: Multiaddr, answered: Arc<AtomicUsize>) -> Result<()> {
    let mut swarm = SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)?
        .with_behaviour(|keypair| {
            let local = keypair.public().to_peer_id();
            let config = kad::Config::new(StreamProtocol::new("/punchline/main/kad/1.0.0"));
            kad::Behaviour::with_config(local, kad::store::MemoryStore::new(local), config)
        })?
        .build();
    swarm.behaviour_mut().set_mode(Some(kad::Mode::Client));
    swarm.behaviour_mut().add_address(&node, at);
    for _ in 0..AT_ONCE {
        swarm.behaviour_mut().get_closest_peers(PeerId::random());
    }
    tokio::spawn(async move {
        loop {
            if let SwarmEvent::Behaviour(kad::Event::OutboundQueryProgressed { stats, step, .. }) =
                swarm.select_next_some().await
                && step.last
            {
                answered.fetch_add(stats.num_successes() as usize, Ordering::Relaxed);
                swarm.behaviour_mut().get_closest_peers(PeerId::random());
            }
        }
    });
    Ok(())
}

/// The median of so many round trips, and of more until `enough`.
async fn round_trip(socket: &mut UnixStream, enough: impl Fn() -> bool) -> Result<Duration> {
    let (mut all, end) = (Vec::new(), Instant::now() + SOON);
    while all.len() < ROUNDS || !enough() {
        let (began, mut heard) = (Instant::now(), [0; 64]);
        ensure!(began < end, "not enough questions were answered");
        socket.write_all(&[7; 64]).await?;
        tokio::time::timeout(SOON, socket.read_exact(&mut heard)).await??;
        all.push(began.elapsed());
    }
    all.sort();
    all.get(all.len() / 2).copied().context("a round trip")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_questions_to_a_node_of_the_dht_leaves_its_streams_nearly_as_fast() -> Result<()> {
    let world = World::new()?;
    let (ours, theirs) = (world.peer_id("forward").await?, world.peer_id("expose").await?);
    let service = format!("echo=127.0.0.1:{}", echo().await?);
    let launch = world.launch("expose", "expose")?.args(["--listen", LISTEN, "--dht-listen", LISTEN]);
    let launch = launch.args(["--dht", "server", "--assume-global", "127.0.0.0/8"]);
    let expose = launch.args(["--allow", &ours, "--service", &service]).spawn()?;
    let listens = expose.wait_for("listening", |_| true, SOON).await?;
    let dht = expose.wait_for("dht_listening", |_| true, SOON).await?;
    let local = world.text("local");
    let launch = world.launch("forward", "forward")?.args(["--listen", LISTEN, "--peer", &theirs]);
    let launch = launch.args(["--addr", listens.text("address").context("an address")?]);
    let launch = launch.args(["--service", "echo", "--local", &format!("unix:{local}")]);
    let forward = launch.spawn()?;
    let measured = async {
        forward.wait_for("connection_opened", |_| true, SOON).await?;
        let mut socket = UnixStream::connect(&local).await?;
        let quiet = round_trip(&mut socket, || true).await?;
        let answered = Arc::new(AtomicUsize::new(0));
        let at: Multiaddr = dht.text("address").context("an address")?.parse()?;
        for _ in 0..ASKERS {
            ask(theirs.parse()?, at.clone(), answered.clone())?;
        }
        let flooded = round_trip(&mut socket, || answered.load(Ordering::Relaxed) >= ANSWERED).await?;
        let most = (quiet * SLOWER_MAX).max(SLOWER_BY_MAX);
        ensure!(flooded <= most, "{flooded:?} instead of {quiet:?}");
        Ok(())
    };
    measured.await.with_context(|| [&expose, &forward].map(Program::report).concat())
}
