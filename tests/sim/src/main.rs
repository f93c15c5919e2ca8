//! Prints the figures of the model, or writes them where the documents have them.

#![allow(clippy::print_stdout)]

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use punchline_sim::{chart, document, report::Part};

#[derive(Parser)]
#[command(name = "punchline-sim", about = "A model of how peers are found by a key")]
struct Command {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Tables, hops and requests for 100 to 100,000 peers; dead peers.
    Table,
    /// Peers that come and go, and how long records last.
    Churn,
    /// Liars, and an attacker's identities nearest to a key, with and without each defence.
    Sybil,
    /// A network that splits and heals.
    Split,
    /// Hops by the number of peers, as SVG.
    Chart,
    /// Writes the tables and the chart into this directory of documents.
    Write { directory: PathBuf },
}

fn main() -> ExitCode {
    match Command::parse().verb {
        Verb::Table => print!("{}", Part::Table.text()),
        Verb::Churn => print!("{}", Part::Churn.text()),
        Verb::Sybil => print!("{}", Part::Sybil.text()),
        Verb::Split => print!("{}", Part::Split.text()),
        Verb::Chart => print!("{}", chart::svg()),
        Verb::Write { directory } => {
            if let Err(error) = document::write(&directory) {
                println!("{}: {error}", directory.display());
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}
