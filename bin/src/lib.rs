//! The `punchline` command: relay, server, client, demo.
//!
//! Reading order: [`cli`] and [`settings`] say what may be asked for; [`run`] does it; [`node`] starts
//! what server and client have in common; [`relay`], [`server`], [`client`], [`demo`] are the commands;
//! [`report`] says what happened; [`identity`] keeps the key.

#![forbid(unsafe_code)]

pub mod cli;
pub mod client;
pub mod demo;
pub mod identity;
pub mod node;
pub mod relay;
pub mod report;
pub mod server;
mod session;
pub mod settings;
mod stop;

use std::{
    ffi::OsString,
    io::{IsTerminal as _, Write as _},
    process::ExitCode,
};

use libp2p::identity::Keypair;
use tracing_subscriber::{EnvFilter, util::SubscriberInitExt as _};

use crate::{
    cli::{Cli, Command, Common, LogFormat},
    report::Reporter,
    settings::SettingsError,
};

/// Runs the command that `arguments` name (the first is the program's own name) until it is done or the
/// process is told to stop. Exit codes: 0 done, 1 failed, 2 unusable arguments or settings.
pub fn run(arguments: Vec<OsString>) -> ExitCode {
    let environment = |name: &str| std::env::var(name).ok();
    let cli = match settings::read(arguments, environment) {
        Ok(cli) => cli,
        Err(SettingsError::Arguments(error)) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
        Err(error) => return last_words(&error.into(), 2),
    };
    start_log(&cli.common);
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return last_words(&error.into(), 1),
    };
    match runtime.block_on(command(cli)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<Unusable>() => last_words(&error, 2),
        Err(error) => last_words(&error, 1),
    }
}

/// Settings that parse, each for itself, but make no sense. The process exits with 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unusable(pub String);

fn last_words(error: &anyhow::Error, code: u8) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "error: {error:#}");
    ExitCode::from(code)
}

fn start_log(common: &Common) {
    let level = match common.verbose {
        0 => "warn,punchline=info,punchline_bridge=info,punchline_protocol=info",
        1 => "info,punchline=debug,punchline_bridge=debug,punchline_protocol=debug",
        _ => "trace",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false);
    match common.log_format {
        LogFormat::Text => log.finish().init(),
        LogFormat::Json => log.json().finish().init(),
    }
}

async fn command(cli: Cli) -> anyhow::Result<()> {
    let Cli { command, common } = cli;
    let context = || Context::new(&common);
    match command {
        Command::Id => print_line(&context()?.keypair.public().to_peer_id().to_string()),
        Command::Demo(demo) if common.check => checked(demo.json),
        Command::Demo(demo) => demo::run(demo.json).await,
        Command::Relay(relay) => relay::run(relay, context()?).await,
        Command::Server(server) => server::run(server, context()?).await,
        Command::Client(client) => client::run(client, context()?).await,
    }
}

fn checked(_json: bool) -> anyhow::Result<()> {
    print_line("the settings are usable")
}

/// A line for whoever reads or pipes our standard output.
fn print_line(line: &str) -> anyhow::Result<()> {
    Ok(writeln!(std::io::stdout(), "{line}")?)
}

/// What every command that runs a swarm starts from.
pub struct Context {
    /// Who we are.
    pub keypair: Keypair,
    /// Where events go.
    pub reporter: Reporter,
    /// Only check the settings.
    pub check: bool,
}

impl Context {
    fn new(common: &Common) -> anyhow::Result<Self> {
        let path = match &common.identity {
            Some(path) => path.clone(),
            None => identity::default_path()?,
        };
        let keypair = identity::load_or_create(&path)?;
        let reporter = Reporter::open(common.events.as_deref()).map_err(|error| {
            let path = common.events.clone().unwrap_or_default();
            anyhow::anyhow!("cannot write events to {}: {error}", path.display())
        })?;
        Ok(Self { keypair, reporter, check: common.check })
    }
}
