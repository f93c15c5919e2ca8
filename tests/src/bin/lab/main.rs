//! The NAT lab for people: `lab up` builds one to walk into, `lab matrix` puts the shipped programs behind every pair of
//! NATs and prints what becomes direct, `lab switches` has hosts change networks, `lab rehearse` does what the runbook
//! says. Wants root.

#![allow(clippy::print_stdout, clippy::print_stderr)]

mod matrix;
mod rehearse;
mod switches;
mod up;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::{Parser, Subcommand};
use punchline_tests::lab::capability;

#[derive(Parser)]
#[command(name = "lab", about = "A small internet with NATs, in network namespaces")]
struct Command {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Builds a lab and keeps it until Ctrl-C or `lab down`; says how to enter its machines.
    Up(up::Up),
    /// Opens a shell on a machine of the lab that is up.
    Shell(up::Shell),
    /// Takes down the lab that is up, and what ended programs left behind.
    Down(up::Down),
    /// Runs relay, server and client behind every pair of NATs; exits 1 if an outcome is not the expected one.
    Matrix(matrix::Matrix),
    /// Has hosts change networks while somebody talks over them; exits 1 if anybody is silent for too long.
    Switches(switches::Switches),
    /// Does what `design/runbook.md` says, and writes what came of it to `logs`; exits 1 if it was something else.
    Rehearse(rehearse::Rehearse),
}

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let Command { verb } = Command::parse();
    capability()?;
    match verb {
        Verb::Up(asked) => up::up(asked).await,
        Verb::Shell(asked) => up::shell(&asked),
        Verb::Down(asked) => up::down(&asked).await,
        Verb::Matrix(asked) => matrix::run(asked).await,
        Verb::Switches(asked) => switches::run(asked).await,
        Verb::Rehearse(asked) => rehearse::run(asked).await,
    }
}

/// A duration, as people write it on a command line.
fn milliseconds(text: &str) -> Result<Duration> {
    Ok(Duration::try_from_secs_f64(text.parse::<f64>()? / 1000.0)?)
}
