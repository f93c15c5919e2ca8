//! `lab matrix`: every pair of NATs, side by side.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Args;
use punchline_tests::lab::Nat;
use punchline_tests::matrix::{Cell, Over, Run, Table};
use punchline_tests::process::binary;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::milliseconds;

#[derive(Args)]
pub(crate) struct Matrix {
    /// Kinds of NAT: full, address, port, changing, sym, firewall, none; default: the first five.
    #[arg(long, value_delimiter = ',', default_values_t = Nat::CLASSIC)]
    types: Vec<Nat>,
    /// What the nodes listen on and dial by: tcp, quic, both.
    #[arg(long, value_delimiter = ',', default_values_t = Over::ALL)]
    transports: Vec<Over>,
    /// Runs of each cell.
    #[arg(long, default_value_t = 1)]
    runs: usize,
    /// Labs side by side.
    #[arg(long, default_value_t = 3)]
    jobs: usize,
    /// One-way delay between each host and the relay, in milliseconds; between the hosts it is twice that.
    #[arg(long, default_value = "0", value_parser = milliseconds)]
    delay: Duration,
    /// A folder for all that the programs printed, a file for each run.
    #[arg(long)]
    logs: Option<PathBuf>,
}

pub(crate) async fn run(asked: Matrix) -> Result<ExitCode> {
    binary("punchline")?;
    let cells = Cell::all(&asked.types, &asked.transports);
    let mut table = Table::new(&cells);
    let room = Arc::new(Semaphore::new(asked.jobs.max(1)));
    let mut running = JoinSet::new();
    for (number, cell) in (0..asked.runs).flat_map(|_| cells.clone()).enumerate() {
        let room = Arc::clone(&room);
        running.spawn(async move {
            let _turn = room.acquire_owned().await;
            (number, cell.run(asked.delay).await)
        });
    }
    let total = running.len();
    let mut done = 0;
    while let Some(ended) = running.join_next().await {
        let (number, run) = ended.context("a run panicked")?;
        done += 1;
        eprintln!("{done}/{total} {}: {:?}", run.cell, run.outcome);
        if let Some(folder) = asked.logs.as_deref() {
            keep_log(folder, number, &run)?;
        }
        table.add(&run);
    }
    let way = 2 * asked.delay;
    println!("Round trips: {way:?} between a host and the relay, {:?} between the hosts.", 2 * way);
    println!("{table}");
    Ok(if table.differences() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn keep_log(folder: &Path, number: usize, run: &Run) -> Result<()> {
    let Run { cell, outcome, report } = run;
    fs::create_dir_all(folder)?;
    let Cell { over, server, client } = cell;
    let file = folder.join(format!("{over}-{server}-{client}-{number}.log"));
    fs::write(&file, format!("{cell}: {outcome:?}\n{report}"))
        .with_context(|| file.display().to_string())
}
