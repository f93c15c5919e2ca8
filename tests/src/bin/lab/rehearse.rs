//! `lab rehearse`: the runbook, step by step.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use punchline_tests::lab::Miniupnpd;
use punchline_tests::process::binary;
use punchline_tests::rehearsal::{Origin, RUNBOOK, Rehearsal, Runbook, Topology, rehearse};

#[derive(Args)]
pub(crate) struct Rehearse {
    /// two-nats, mapped-port, symmetric, relay-killed, address-changed, lan; default: all of them.
    #[arg(value_name = "TOPOLOGY", default_values_t = Topology::ALL)]
    topologies: Vec<Topology>,
    /// The folder for what came of it; default: `logs` of the project.
    #[arg(long)]
    logs: Option<PathBuf>,
}

pub(crate) async fn run(asked: Rehearse) -> Result<ExitCode> {
    let runbook: Runbook = RUNBOOK.parse()?;
    ensure!(
        !asked.topologies.contains(&Topology::MappedPort) || Miniupnpd::is_installed(),
        "mapped-port needs the program `miniupnpd`: install the package miniupnpd-nftables"
    );
    binary("punchline")?;
    let project =
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the package is in a workspace")?;
    let logs = asked.logs.unwrap_or_else(|| project.join("logs"));
    let mut code = ExitCode::SUCCESS;
    for topology in asked.topologies {
        let rehearsal = rehearse(topology, &runbook).await?;
        let page = rehearsal.write(&origin(topology, project)?, &logs)?;
        println!("{topology}: {} ({})", rehearsal.verdict(), page.display());
        let Rehearsal { failure, said, .. } = rehearsal;
        if let Some(failure) = failure {
            eprintln!("{said}\n{failure}");
            code = ExitCode::FAILURE;
        }
    }
    Ok(code)
}

fn origin(topology: Topology, project: &Path) -> Result<Origin> {
    let git = |args: &[&str]| -> Result<String> {
        let output = Command::new("git").arg("-C").arg(project).args(args).output().context("git")?;
        ensure!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    };
    let changes = git(&["status", "--porcelain", "--", ".", ":!logs"])?;
    let since = if changes.is_empty() { "" } else { " with changes" };
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let kernel = release.split('.').take(2).collect::<Vec<_>>().join(".");
    let cores = std::thread::available_parallelism()?;
    let (build, flag) = if cfg!(debug_assertions) { ("debug", "") } else { ("release", " --release") };
    Ok(Origin {
        commit: git(&["rev-parse", "--short=12", "HEAD"])? + since,
        command: format!("cargo run{flag} -p punchline-tests --bin lab -- rehearse {topology}"),
        machine: format!("{cores} cores, Linux {kernel}, {build} build"),
    })
}
