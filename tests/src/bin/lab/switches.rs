//! `lab switches`: hosts that change networks while somebody talks over them.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Args;
use punchline_tests::process::binary;
use punchline_tests::switching::Switch;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

#[derive(Args)]
pub(crate) struct Switches {
    /// Only those whose line has this in it, such as `wifi->cable`, `server`, `quic` or `ipv6`; all of these, if there
    /// are several.
    only: Vec<String>,
    /// Runs of each.
    #[arg(long, default_value_t = 1)]
    runs: usize,
    /// Labs side by side.
    #[arg(long, default_value_t = 2)]
    jobs: usize,
}

/// Promised.
const SILENCE_MAX: Duration = Duration::from_secs(3);

pub(crate) async fn run(asked: Switches) -> Result<ExitCode> {
    binary("punchline")?;
    let wanted = |switch: &Switch| asked.only.iter().all(|word| switch.to_string().contains(word));
    let switches: Vec<Switch> = Switch::all().into_iter().filter(wanted).collect();
    let room = Arc::new(Semaphore::new(asked.jobs.max(1)));
    let mut running = JoinSet::new();
    for (number, switch) in (0..asked.runs).flat_map(|_| switches.clone()).enumerate() {
        let room = Arc::clone(&room);
        running.spawn(async move {
            let _turn = room.acquire_owned().await;
            (number, switch, switch.run().await)
        });
    }
    let (mut lines, mut failed) = (Vec::new(), 0);
    while let Some(ended) = running.join_next().await {
        let (number, switch, moved) = ended.context("a run panicked")?;
        let (line, kept) = match moved {
            Ok([there, back]) => {
                let kept = there.silence.max(back.silence) < SILENCE_MAX;
                (format!("{switch:32} there: {there}; back: {back}"), kept)
            }
            Err(error) => {
                eprintln!("{switch}: {error:#}");
                let why = error.to_string().lines().next().unwrap_or_default().to_owned();
                (format!("{switch:32} {why}"), false)
            }
        };
        eprintln!("{line}");
        failed += usize::from(!kept);
        lines.push((number, line));
    }
    lines.sort();
    lines.iter().for_each(|(_, line)| println!("{line}"));
    println!("{failed} of {} were silent for {SILENCE_MAX:?} or lost something", lines.len());
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
