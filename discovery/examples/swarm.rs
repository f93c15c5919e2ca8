//! So many real nodes of the DHT in this process, over memory: how large their tables are, what a lookup costs, and what becomes
//! of it when nodes leave or lie.
//!
//! ```sh
//! cargo run --release -p punchline-discovery --example swarm -- <nodes> [k] [lookups] [churn, % a minute] [liars, %] [paths]
//! ```
#![allow(clippy::print_stdout, clippy::expect_used, dead_code)]

#[path = "../tests/swarm/liars.rs"]
mod liars;
#[path = "../tests/swarm/world.rs"]
mod world;

use std::time::{Duration, Instant};

use self::world::{Lookups, Plan, World};

#[tokio::main]
async fn main() {
    let numbers: Vec<usize> = std::env::args().skip(1).filter_map(|text| text.parse().ok()).collect();
    let number = |at: usize, otherwise| numbers.get(at).copied().unwrap_or(otherwise);
    let (nodes, k, lookups) = (number(0, 60), number(1, 8) as u8, number(2, 200));
    let (churn, lying, paths) = (number(3, 0), number(4, 0), number(5, 3));
    let liars = nodes * lying / 100;
    let plan = Plan { nodes: nodes - liars, k, separate_paths: paths > 1, seed: 7 };
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
    let rest = world.lookups(lookups, 1).await;
    println!("at rest, one by one: {rest}");
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
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks: u64 = fields.iter().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    println!("CPU: {} s", ticks / 100);
}
