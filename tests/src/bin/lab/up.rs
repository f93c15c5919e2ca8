//! `lab up`, `lab shell` and `lab down`: one lab at a time, to walk into.

use std::fs;
use std::num::NonZeroU64;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use punchline_tests::lab::{Lab, LabSpec, Line, Namespace, Nat, sweep};
use punchline_tests::process::search_path;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep};

use crate::milliseconds;

/// Where what is up is noted.
#[derive(Args)]
struct State {
    /// The file that says which lab is up.
    #[arg(long = "state", default_value = "/run/punchline-lab", hide = true)]
    file: PathBuf,
}

#[derive(Args)]
pub(crate) struct Up {
    /// The NAT of each host: full, address, port, changing, sym, firewall, none.
    #[arg(value_name = "TYPE", default_values_t = [Nat::PortPreserving; 2])]
    types: Vec<Nat>,
    /// One-way delay between each host and the relay, in milliseconds; between the hosts it is twice that.
    #[arg(long, default_value = "0", value_parser = milliseconds)]
    delay: Duration,
    /// How much longer a packet may take on each line, at random, in milliseconds.
    #[arg(long, default_value = "0", value_parser = milliseconds)]
    jitter: Duration,
    /// How many packets of a thousand each line loses.
    #[arg(long, default_value = "0", value_name = "PERMILLE")]
    loss: u16,
    /// Bytes a second that each line takes in each direction; what comes faster waits for 100 ms and is lost then.
    #[arg(long, value_name = "BYTES")]
    rate: Option<NonZeroU64>,
    /// Seconds that each router remembers a UDP flow after its last packet; 30, and 120 where there were answers, unless
    /// given.
    #[arg(long, value_name = "SECONDS")]
    udp_timeout: Option<NonZeroU64>,
    #[command(flatten)]
    state: State,
}

impl Up {
    fn spec(&self) -> LabSpec {
        let Self { delay, jitter, loss: loss_permille, rate, .. } = *self;
        let line = Line { delay, jitter, loss_permille, rate };
        let mut spec = LabSpec::new(self.types.iter().copied()).line(line);
        for router in &mut spec.routers {
            router.udp_timeout = self.udp_timeout.map(|seconds| Duration::from_secs(seconds.get()));
        }
        spec
    }
}

#[derive(Args)]
pub(crate) struct Shell {
    /// a, b, … for the hosts, router-a, … for their routers, relay, or internet.
    machine: String,
    #[command(flatten)]
    state: State,
}

#[derive(Args)]
pub(crate) struct Down {
    #[command(flatten)]
    state: State,
}

pub(crate) async fn up(asked: Up) -> Result<ExitCode> {
    let file = &asked.state.file;
    if let Ok(Noted { pid, .. }) = noted(file)
        && is_alive(pid)
    {
        bail!("a lab is up already: end it with `lab down`");
    }
    let mut terminated = signal(SignalKind::terminate())?;
    let lab = Lab::build(&asked.spec())?;
    let machines = machines(&lab);
    let lines = machines.iter().map(|(name, machine)| format!("{name} {}\n", machine.name()));
    let text = format!("{}\n{}", std::process::id(), lines.collect::<String>());
    fs::write(file, text).with_context(|| file.display().to_string())?;
    explain(&lab, &asked);
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted.context("cannot wait for Ctrl-C")?,
        _ = terminated.recv() => {}
    }
    drop(lab);
    fs::remove_file(file)?;
    Ok(ExitCode::SUCCESS)
}

/// Each machine with the name that `lab shell` takes.
fn machines(lab: &Lab) -> Vec<(String, &Namespace)> {
    let mut machines = vec![("relay".to_owned(), lab.relay()), ("internet".to_owned(), lab.internet())];
    for (index, letter) in ('a'..='z').enumerate().take(lab.hosts()) {
        machines.push((letter.to_string(), lab.host(index)));
        machines.push((format!("router-{letter}"), lab.router(index)));
    }
    machines
}

fn explain(lab: &Lab, asked: &Up) {
    for (name, machine) in machines(lab) {
        println!("{name:<9} {:<13} ip netns exec {} sh", machine.address(), machine.name());
    }
    for (index, (nat, letter)) in asked.types.iter().zip('a'..='z').enumerate() {
        println!("host {letter} is behind {nat}, and seen as {}", lab.seen_address(index));
    }
    let way = 2 * asked.delay;
    println!("round trips: {way:?} between a host and the relay, {:?} between hosts", 2 * way);
    if let Some(rate) = asked.rate {
        println!("each line takes {rate} bytes a second in each direction");
    }
    let relay = format!("/ip4/{}/tcp/4001", lab.relay().address());
    println!("on relay:  punchline relay --identity /tmp/relay --listen {relay} --external {relay}");
    println!("on a:      punchline server --identity /tmp/a --relay WHAT_THE_RELAY_SAYS");
    println!("on b:      punchline client --identity /tmp/b --relay WHAT_THE_RELAY_SAYS --peer ID_OF_A");
    println!(
        "`lab shell a` enters from another terminal; Ctrl-C here, or `lab down` there, takes it all down"
    );
}

pub(crate) fn shell(asked: &Shell) -> Result<ExitCode> {
    let Noted { pid, machines } = noted(&asked.state.file)?;
    ensure!(is_alive(pid), "the lab that was up is gone: build another one with `lab up`");
    let found = machines.iter().find(|(name, _)| *name == asked.machine);
    let names = || machines.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ");
    let (name, namespace) = found.with_context(|| format!("no such machine: say one of {}", names()))?;
    let shell = std::env::var_os("SHELL").unwrap_or_else(|| "sh".into());
    let mut command = Command::new("ip");
    command.args(["netns", "exec", namespace]).arg(shell).env("PS1", format!("{name}# "));
    command.env("PATH", search_path()?);
    // It only returns if there is no such program.
    Err(command.exec()).context("cannot run ip")
}

pub(crate) async fn down(asked: &Down) -> Result<ExitCode> {
    let file = &asked.state.file;
    if let Ok(Noted { pid, .. }) = noted(file) {
        let until = Instant::now() + DOWN_DEADLINE;
        // The file is the last thing that it removes.
        while file.exists() && is_alive(pid) {
            ensure!(Instant::now() < until, "the lab is still up after {DOWN_DEADLINE:?}");
            let _: rustix::io::Result<()> = kill_process(pid, Signal::TERM);
            sleep(DOWN_POLL).await;
        }
        // Left there by one that was killed.
        let _: std::io::Result<()> = fs::remove_file(file);
    }
    sweep()?;
    Ok(ExitCode::SUCCESS)
}

struct Noted {
    pid: Pid,
    /// Name and namespace of each.
    machines: Vec<(String, String)>,
}

fn noted(file: &Path) -> Result<Noted> {
    let text = fs::read_to_string(file).context("no lab is up: build one with `lab up`")?;
    let mut lines = text.lines();
    let pid = lines.next().and_then(|line| Pid::from_raw(line.parse().ok()?));
    let machine =
        |line: &str| line.split_once(' ').map(|(name, namespace)| (name.into(), namespace.into()));
    let machines = lines.filter_map(machine).collect();
    Ok(Noted { pid: pid.with_context(|| format!("{} says nothing useful", file.display()))?, machines })
}

fn is_alive(pid: Pid) -> bool {
    test_kill_process(pid).is_ok()
}

/// How long a lab may take to end: it kills what runs in it.
const DOWN_DEADLINE: Duration = Duration::from_secs(10);
const DOWN_POLL: Duration = Duration::from_millis(50);
