//! So many real nodes of the DHT in this process, over memory: how large their tables are, what a lookup costs, and what becomes
//! of it when nodes leave or lie.
//!
//! ```sh
//! cargo run --release -p punchline-discovery --example swarm -- <nodes> [k] [lookups] [churn, % a minute] [liars, %] [paths]
//! ```
#![allow(clippy::print_stdout, clippy::print_stderr, clippy::expect_used, dead_code)]

#[path = "../tests/swarm/liars.rs"]
mod liars;
#[path = "../tests/swarm/world.rs"]
mod world;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use punchline_discovery::kad::Event;

use self::world::{Lookups, Plan, World};

/// Lookups under way, where the machine has nothing else to do.
const AT_ONCE: usize = 4;

#[tokio::main]
async fn main() {
    let numbers: Vec<usize> = std::env::args().skip(1).filter_map(|text| text.parse().ok()).collect();
    let number = |at: usize, otherwise| numbers.get(at).copied().unwrap_or(otherwise);
    let (nodes, k, lookups) = (number(0, 60), number(1, 8) as u8, number(2, 200));
    let (churn, lying, paths) = (number(3, 0), number(4, 0), number(5, 3));
    let liars = nodes * lying / 100;
    let told = |joined: usize| {
        if joined % 100 < 10 {
            eprintln!("{joined} have joined");
        }
    };
    let plan = Plan { nodes: nodes - liars, k, separate_paths: paths > 1, seed: 7, told };
    let begun = Instant::now();
    let mut world = World::start(plan).await;
    println!("{} nodes, k = {k}, joined and found after {:.0?}", plan.nodes, begun.elapsed());
    let mut _talk = None;
    if liars > 0 {
        let met: Vec<_> = world.nodes.iter().step_by(8).map(|node| node.address.clone()).collect();
        _talk = Some(liars::start(liars, &mut world.rng, &met));
        tokio::time::sleep(Duration::from_secs(20)).await;
        println!("{liars} liars beside them, separate paths {}", plan.separate_paths);
    }
    tables(&world).await;
    traffic(&world).await;
    quiet(&world).await;
    let rest = world.lookups(lookups, AT_ONCE).await;
    println!("at rest, {AT_ONCE} at once: {rest}");
    if churn > 0 {
        println!("{churn} % leave each minute: {}", churned(&mut world, lookups, churn).await);
    }
    memory();
}

async fn tables(world: &World) {
    let mut tables = world.tables().await;
    let (real, whole) = tables.iter().fold((0, 0), |sum, table| (sum.0 + table.0, sum.1 + table.1));
    tables.sort_unstable();
    let (least, most) = (tables[0].0, tables[tables.len() - 1].0);
    let (median, mean) = (tables[tables.len() / 2].0, real as f64 / tables.len() as f64);
    let of = 100.0 * real as f64 / whole as f64;
    println!(
        "tables: min {least}, median {median}, mean {mean:.1}, max {most}; {of:.1} % of what buckets hold"
    );
}

/// What it took to join, in requests of each node.
async fn traffic(world: &World) {
    let (mut sent, mut failed) = (Vec::new(), 0);
    for status in world.statuses().await {
        sent.push(status.traffic.sent);
        failed += status.traffic.dials_failed;
    }
    let mean = |sent: &[u64]| sent.iter().sum::<u64>() as f64 / sent.len() as f64;
    let (first, last) = (mean(&sent[..sent.len() / 10]), mean(&sent[sent.len() / 10 * 9..]));
    println!(
        "requests so far: {:.0} a node; of the first tenth {first:.0}, of the last {last:.0}; dials failed: {failed}",
        mean(&sent)
    );
}

/// What the nodes do by themselves in a minute, in which nobody asks anything.
async fn quiet(world: &World) {
    let minute = Duration::from_secs(60);
    let (before, mut done) = (cpu_ticks(), BTreeMap::<String, (usize, u32)>::new());
    let listens: Vec<_> = world.nodes.iter().map(|node| node.dht.events()).collect();
    tokio::time::sleep(minute).await;
    for mut events in listens {
        while let Ok(event) = events.try_recv() {
            let (what, asked) = match event {
                Event::LookupCompleted { lookup, requests, .. } => (format!("{lookup:?}"), requests),
                other => {
                    (format!("{other:?}").split([' ', '(']).next().unwrap_or_default().to_owned(), 0)
                }
            };
            let (count, requests) = done.entry(what).or_default();
            *count += 1;
            *requests += asked;
        }
    }
    let share = (cpu_ticks() - before) as f64 / minute.as_secs_f64() / world.nodes.len() as f64;
    println!(
        "a quiet minute takes {share:.2} % of a core for each node; of all, how many, and requests: {done:?}"
    );
}

/// Lookups for two minutes, evenly, while nodes are replaced.
async fn churned(world: &mut World, lookups: usize, churn: usize) -> Lookups {
    let (minutes, begun) = (2, Instant::now());
    let leave = (world.nodes.len() * churn * minutes / 100).max(1);
    let apart = Duration::from_secs(60 * minutes as u64) / leave as u32;
    let mut all = Lookups::default();
    for number in 0..leave {
        world.replace_one().await;
        all.add(world.lookups(lookups / leave + 1, 4).await);
        tokio::time::sleep_until((begun + apart * (number as u32 + 1)).into()).await;
    }
    all
}

/// What the kernel says this process takes.
fn memory() {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let lines = status.lines().filter(|line| line.starts_with("VmHWM") || line.starts_with("Threads"));
    lines.for_each(|line| println!("{line}"));
    println!("CPU: {} s", cpu_ticks() / 100);
}

/// Hundredths of a second of a core that this process has used.
fn cpu_ticks() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    fields.iter().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum()
}
