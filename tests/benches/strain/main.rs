//! What others notice while somebody strains a node: how long honest work takes in calm and under strain, in turns,
//! so that the machine's noise hits both.
//!
//! `cargo bench -p punchline-tests --bench strain [-- WORD…]` runs the cases whose names hold every WORD; prints a
//! table, and a line of JSON for machines. Everything is on loopback, paced, and ends by itself.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod strains;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use punchline_bridge::{
    Config, Endpoint, Keypair, Multiaddr, PeerId, RelayAddr, Service,
    addr::GlobalScope,
    config::Upgrades,
    relay::{External, Rate, Relay, RelayConfig, StunListen},
};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    runtime::{Builder, Runtime},
};

/// Turns of calm and strain each, and samples in a turn.
const TURNS: usize = 8;
const SAMPLES: usize = 50;

/// Before samples are taken under strain: until its places are full.
const SETTLE: Duration = Duration::from_secs(1);

/// What a strain is doing: whether it may, and how often it did.
#[derive(Clone, Default)]
pub(crate) struct Switch {
    pub(crate) on: Arc<AtomicBool>,
    pub(crate) done: Arc<AtomicU64>,
}

/// Milliseconds of honest work.
struct Row {
    case: &'static str,
    calm: Vec<f64>,
    strained: Vec<f64>,
    /// Of the strain, a second.
    rate: f64,
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let wanted = |case: &str| words.iter().all(|word| case.contains(word.as_str()));
    let mut rows = Vec::new();
    if wanted(INTRODUCTIONS) {
        rows.push(introductions());
    }
    if wanted(REFUSALS) {
        rows.push(refusals());
    }
    print(&rows);
}

const INTRODUCTIONS: &str = "circuits of a relay under silent sockets";
const REFUSALS: &str = "streams of others while one peer's opens are refused";

/// A thread of its own for each party.
fn party() -> Runtime {
    Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

/// Real strain comes from other machines: here it gets what processor time the others leave.
fn stranger() -> Runtime {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(1).enable_all().on_thread_start(|| {
        let _ = rustix::process::nice(19);
    });
    builder.build().unwrap()
}

fn node_config() -> Config {
    Config {
        listen: vec!["/ip4/127.0.0.1/tcp/0".parse().unwrap()],
        upgrades: Upgrades::WhenTold,
        ..Config::default()
    }
}

async fn node() -> Endpoint {
    let (endpoint, mut events) =
        Endpoint::start(node_config(), Keypair::generate_ed25519()).await.unwrap();
    tokio::spawn(async move { while events.next().await.is_some() {} });
    endpoint
}

pub(crate) fn echo() -> Service {
    "echo".parse().unwrap()
}

/// Answers with what it hears.
async fn serve(endpoint: &Endpoint) {
    let mut incoming = endpoint.incoming(echo()).await.unwrap();
    tokio::spawn(async move {
        while let Some(stream) = incoming.next().await {
            tokio::spawn(async move {
                let (mut read, mut write) = tokio::io::split(stream);
                let _ = tokio::io::copy(&mut read, &mut write).await;
            });
        }
    });
}

/// From nothing to one byte there and back, over a circuit of its own.
fn introductions() -> Row {
    let (relaying, serving, asking, straining) = (party(), party(), party(), stranger());
    let (relay, address) = relaying.block_on(relay());
    let tcp = relay.listening()[0].clone();
    let (server, _served) = serving.block_on(async {
        let server = node().await;
        serve(&server).await;
        let mut events = server.events();
        server.reserve(address.clone()).await;
        while let Some(event) = events.next().await {
            if matches!(event, punchline_bridge::Event::ReservationHeld { .. }) {
                break;
            }
        }
        (server.peer_id(), server)
    });
    let client = asking.block_on(async {
        let client = node().await;
        client.add_addresses(server, vec![address.circuit_to(server)]).await;
        client
    });
    let switch = Switch::default();
    let row = measure(
        INTRODUCTIONS,
        &switch,
        &straining,
        strains::silent_sockets(tcp, switch.clone()),
        || {
            asking.block_on(async {
                let (took, stream) = round_trip(&client, server).await;
                client.close(stream.facts().route().connection).await;
                took
            })
        },
    );
    drop(relay);
    row
}

async fn relay() -> (Relay, RelayAddr) {
    let often = Rate::per_hour(1_000_000.try_into().unwrap());
    let config = RelayConfig {
        listen: vec!["/ip4/127.0.0.1/tcp/0".parse().unwrap()],
        external: External::Observed,
        stun: StunListen::Off,
        global: GlobalScope::with_assumed(vec!["127.0.0.0/8".parse().unwrap()]),
        requests_per_peer: often,
        requests_per_ip: often,
        ..RelayConfig::default()
    };
    let (relay, mut events) = Relay::start(config, Keypair::generate_ed25519()).await.unwrap();
    tokio::spawn(async move { while events.next().await.is_some() {} });
    let address = relay.listening()[0].clone().with_p2p(relay.peer_id()).unwrap();
    (relay, RelayAddr::new(address).unwrap())
}

/// A new stream, one byte there and back.
fn refusals() -> Row {
    let (serving, asking, straining) = (party(), party(), stranger());
    let server = serving.block_on(async {
        let server = node().await;
        serve(&server).await;
        server
    });
    let (peer, addresses) = (server.peer_id(), server.listening().to_vec());
    let known = |addresses: Vec<Multiaddr>| async move {
        let client = node().await;
        client.add_addresses(peer, addresses).await;
        client
    };
    let client = asking.block_on(known(addresses.clone()));
    let stranger = straining.block_on(known(addresses));
    let switch = Switch::default();
    let strain = strains::refused_opens(stranger, peer, switch.clone());
    measure(REFUSALS, &switch, &straining, strain, || {
        asking.block_on(async { round_trip(&client, peer).await.0 })
    })
}

async fn round_trip(client: &Endpoint, server: PeerId) -> (f64, punchline_bridge::Stream) {
    let began = Instant::now();
    let mut stream = client.open(server, echo()).await.unwrap();
    stream.write_u8(1).await.unwrap();
    assert_eq!(stream.read_u8().await.unwrap(), 1);
    (began.elapsed().as_secs_f64() * 1e3, stream)
}

fn measure(
    case: &'static str,
    switch: &Switch,
    straining: &Runtime,
    strain: impl Future<Output = ()> + Send + 'static,
    mut sample: impl FnMut() -> f64,
) -> Row {
    straining.spawn(strain);
    let (mut calm, mut strained) = (Vec::new(), Vec::new());
    let (mut done, mut time) = (0, 0.0);
    sample();
    for _ in 0..TURNS {
        calm.extend((0..SAMPLES).map(|_| sample()));
        let (began, before) = (Instant::now(), switch.done.load(Relaxed));
        switch.on.store(true, Relaxed);
        std::thread::sleep(SETTLE);
        strained.extend((0..SAMPLES).map(|_| sample()));
        switch.on.store(false, Relaxed);
        done += switch.done.load(Relaxed) - before;
        time += began.elapsed().as_secs_f64();
        std::thread::sleep(SETTLE);
    }
    Row { case, calm, strained, rate: done as f64 / time }
}

/// The part of the samples that is `at` or less.
fn percentile(samples: &[f64], at: f64) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[((sorted.len() - 1) as f64 * at).round() as usize]
}

fn print(rows: &[Row]) {
    println!(
        "{:<54} {:>9} {:>19} {:>19} {:>12}",
        "", "strain/s", "p50 ms calm, under", "p99 ms calm, under", "p99 ratio"
    );
    let mut told = Vec::new();
    for Row { case, calm, strained, rate } in rows {
        let [a, b] = [0.5, 0.99].map(|at| (percentile(calm, at), percentile(strained, at)));
        let ratio = b.1 / b.0;
        println!(
            "{case:<54} {rate:>9.0} {:>9.2} {:>9.2} {:>9.2} {:>9.2} {ratio:>12.2}",
            a.0, a.1, b.0, b.1
        );
        told.push(
            json!({"case": case, "strain_per_s": rate, "p50_ms": [a.0, a.1], "p99_ms": [b.0, b.1]}),
        );
    }
    println!("{}", json!(told));
}
