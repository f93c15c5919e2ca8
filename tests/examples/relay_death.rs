//! How long a session takes to go on over the other of two relays when the one it runs over dies; as root.
//!
//! `cargo run -p punchline-tests --example relay_death -- killed tcp idle 50`: a relay that is `killed`, `halted` or
//! `cut` off, links over `tcp` or `quic`, a session that is `idle` or has a `load`, so many runs, each in a lab of its own.

#![allow(clippy::print_stdout)]

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use punchline_tests::lab::capability;
use punchline_tests::relay_death::{Death, Talk, relay_dies};
use punchline_tests::scene::Transport;

#[tokio::main]
async fn main() -> Result<()> {
    capability()?;
    let named: Vec<String> = std::env::args().skip(1).collect();
    let [death, transport, talk, runs] = named.as_slice() else {
        bail!(
            "say how the relay dies, the transport, what the session does and how many runs: killed tcp idle 50"
        );
    };
    let death = match death.as_str() {
        "killed" => Death::Killed,
        "halted" => Death::Halted,
        "cut" => Death::Cut,
        other => bail!("`{other}` is no death; say killed, halted or cut"),
    };
    let on = match transport.as_str() {
        "tcp" => Transport::Tcp,
        "quic" => Transport::Quic,
        other => bail!("`{other}` is no transport; say tcp or quic"),
    };
    let does = match talk.as_str() {
        "idle" => Talk::Idle,
        "load" => Talk::Load,
        other => bail!("a session does not do `{other}`; say idle or load"),
    };
    let runs: usize = runs.parse().context("runs must be a number")?;
    ensure!(runs > 0, "no run tells nothing");
    let (mut took, mut gaps, mut failed) = (Vec::new(), Vec::new(), 0);
    for run in 1..=runs {
        match relay_dies(on, death, does).await {
            Ok(elsewhere) => {
                println!("run {run}: {elsewhere}");
                took.push(elsewhere.took);
                gaps.push(elsewhere.gap);
            }
            Err(error) => {
                failed += 1;
                println!("run {run} FAILED: {error:#}");
            }
        }
    }
    println!("{death:?} {on} {talk}: {} runs, {failed} failed", took.len() + failed);
    for (name, mut all) in [("took", took), ("gap", gaps)] {
        all.sort();
        let [p50, p90, p99] = [50, 90, 99].map(|percent| percentile(&all, percent).as_millis());
        let longest = all.last().map_or(0, Duration::as_millis);
        println!("  {name}: p50 {p50} ms, p90 {p90} ms, p99 {p99} ms, longest {longest} ms");
    }
    ensure!(failed == 0, "{failed} of {runs} runs failed");
    Ok(())
}

/// The nearest rank: of few runs the 99th percentile is the longest.
fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}
