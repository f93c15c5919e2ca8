//! The `punchline` command: relay, server, client, demo.
//!
//! Reading order: [`cli`] and [`settings`] say what may be asked for; [`run`] does it; [`node`] starts what they have in
//! common; `by_environment` are the small mains; [`relay`], `bootstrap`, `monitor`, [`server`], [`client`], [`gateway`] (expose, forward, run) and
//! [`demo`] are the commands; `load` measures what runs over a session, and `rehearsal` lets the demo steer its processes;
//! `control` answers what [`asking`] asks, `story` tells it why a peer is reached as it is, `verify` finds out whether discovery
//! works, and `doctor` looks at host and network; [`access`] says who may use what is exposed, and [`names`] what peers are called; [`report`] says what
//! happened, `metrics` how often, over `http`, and `page` shows both to people; [`identity`] keeps the key, `certificate`
//! that of TLS, and `cautions` says what is hardly meant; `install` prints what helps to install it; `supervised` speaks with systemd; `progress`
//! shows that something is under way, and `shapes` are the versions of what is printed as JSON.

#![forbid(unsafe_code)]

pub mod access;
pub mod asking;
#[cfg(feature = "kad")]
mod bootstrap;
mod by_environment;
mod cautions;
mod certificate;
pub mod cli;
pub mod client;
mod control;
pub mod demo;
#[cfg(feature = "mainline")]
mod dht;
#[cfg(feature = "kad")]
mod discovery;
mod doctor;
mod external;
pub mod finding;
pub mod gateway;
mod http;
pub mod identity;
mod install;
mod load;
mod metrics;
#[cfg(feature = "kad")]
mod monitor;
pub mod names;
pub mod node;
mod page;
mod plain;
mod progress;
#[cfg(test)]
mod reference;
mod rehearsal;
pub mod relay;
pub mod report;
pub mod server;
mod session;
pub mod settings;
mod shapes;
mod stop;
mod story;
mod supervised;
pub mod ticket;
mod unix_socket;
#[cfg(feature = "kad")]
mod verify;

use std::{
    ffi::OsString,
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use libp2p::identity::Keypair;

pub use crate::by_environment::run_by_environment;

use crate::{
    cli::{Cli, Command, Common, Role},
    identity::{Claim, ClaimError},
    names::NamesFile,
    report::{Reporter, log::Log},
    settings::{Settings, SettingsError, show::Setting},
};

/// The commit that this program was built from, where whoever built it said so: `PUNCHLINE_BUILD_COMMIT`.
pub(crate) fn commit() -> Option<&'static str> {
    option_env!("PUNCHLINE_BUILD_COMMIT").filter(|commit| !commit.is_empty())
}

/// Runs the command that `arguments` name (the first is the program's own name) until it is done or the
/// process is told to stop. Exit codes: 0 done, 1 failed, 2 unusable arguments or settings.
pub fn run(arguments: Vec<OsString>) -> ExitCode {
    run_as(arguments, &|_| None)
}

/// As [`run`]. `complaint`: what to say of unusable arguments in place of what clap does.
fn run_as(arguments: Vec<OsString>, complaint: &dyn Fn(&clap::Error) -> Option<String>) -> ExitCode {
    let Settings { cli, warnings } = match settings::read(arguments, environment) {
        Ok(settings) => settings,
        Err(SettingsError::Arguments { error, origin }) => {
            if let Some(complaint) = complaint(&error) {
                return last_words(&Unusable(complaint).into(), 2);
            }
            let _ = error.print();
            if let Some(origin) = origin {
                let _ = writeln!(std::io::stderr(), "The value comes from {origin}; mend it there.");
            }
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
        Err(error) => return last_words(&error.into(), 2),
    };
    let unable = |cause: std::io::Error| {
        anyhow::anyhow!(
            "cannot start: {cause}; this user may have too few processes or open files (`ulimit -a`)"
        )
    };
    let log = match Log::start(&cli.common) {
        Ok(log) => log,
        Err(error) => return last_words(&unable(error), 1),
    };
    let variables = std::env::vars_os().map(|(name, _)| name.to_string_lossy().into_owned());
    for warning in warnings.into_iter().chain(settings::unknown_variables(variables)) {
        tracing::warn!("{warning}");
    }
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return last_words(&unable(error), 1),
    };
    let outcome = runtime.block_on(command(cli));
    // What is still blocked now, such as a lookup of a name, must not hold up the exit.
    runtime.shutdown_background();
    let code = match &outcome {
        Ok(()) => 0,
        Err(error) if error.is::<Unusable>() => 2,
        #[cfg(feature = "kad")]
        Err(error) if error.is::<verify::command::Verdict>() => {
            error.downcast_ref::<verify::command::Verdict>().map_or(1, verify::command::Verdict::number)
        }
        Err(_) => 1,
    };
    if let Err(error) = outcome {
        log.say(&plain::plain(&format!("error: {error:#}")));
    }
    log.finish(stop::flush_deadline());
    ExitCode::from(code)
}

/// What a variable says.
fn environment(name: &str) -> Option<String> {
    Some(std::env::var_os(name)?.to_string_lossy().into_owned())
}

/// Settings that parse, each for itself, but make no sense. The process exits with 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unusable(pub String);

fn last_words(error: &anyhow::Error, code: u8) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "{}", plain::plain(&format!("error: {error:#}")));
    ExitCode::from(code)
}

async fn command(cli: Cli) -> anyhow::Result<()> {
    let Cli { command, common } = cli;
    stop::heed(reloads(&command, &common))?;
    if let Some(metrics) = command.metrics() {
        metrics.address().map_err(Unusable)?;
    }
    let role = command.role();
    let name = command.name();
    let context = || Context::new(&common, role, name);
    match command {
        Command::Id(_) if common.check => context().and_then(|_| usable()),
        Command::Id(id) => print_line(&id_of(&identity(&common, role)?, &id)?),
        Command::Ticket(ticket) => ticket::run(ticket.command, &common),
        Command::Peers(peers) => names::run(peers, &names_file(&common)?, common.check),
        #[cfg(feature = "mainline")]
        Command::Dht(what) if common.check => dht::check(&what),
        #[cfg(feature = "mainline")]
        Command::Dht(what) => dht::run(what).await,
        #[cfg(feature = "kad")]
        Command::Discovery(what) if common.check => discovery::check(&what, &common),
        #[cfg(feature = "kad")]
        Command::Discovery(what) => discovery::run(*what, &common).await,
        Command::Ask(mut ask) => {
            ask.asking().identity.clone_from(&common.identity);
            asking::run(ask, common.check, common.quiet).await
        }
        Command::Doctor(_) if common.check => usable(),
        Command::Doctor(doctor) => doctor::run(*doctor, common.identity.as_deref(), common.quiet).await,
        Command::Install(_) if common.check => usable(),
        Command::Install(what) => install::run(what, &common),
        Command::Demo(_) if common.check => usable(),
        Command::Demo(demo) => demo::run(&demo).await,
        Command::Relay(relay) => reported(context()?, |context| relay::run(relay, context)).await,
        #[cfg(feature = "kad")]
        Command::Bootstrap(settings) => {
            reported(context()?, |context| bootstrap::run(settings, context)).await
        }
        #[cfg(feature = "kad")]
        Command::Monitor(settings) => {
            reported(context()?, |context| monitor::run(*settings, context)).await
        }
        Command::Server(server) => reported(context()?, |context| server::run(server, context)).await,
        Command::Client(client) => reported(context()?, |context| client::run(client, context)).await,
        Command::Expose(expose) => {
            reported(context()?, |context| gateway::expose(expose, context)).await
        }
        Command::Forward(forward) => {
            reported(context()?, |context| gateway::forward(*forward, context)).await
        }
        Command::Run(run) => reported(context()?, |context| gateway::run(run, context)).await,
    }
}

/// What names the node with this key.
fn id_of(keypair: &Keypair, id: &cli::Id) -> anyhow::Result<String> {
    let peer = keypair.public().to_peer_id();
    match id.pkarr_key {
        false => Ok(peer.to_string()),
        true => punchline_discovery::pkarr::key_of(peer).ok_or_else(|| {
            anyhow::anyhow!("this identity has another kind of key than pkarr's, ed25519")
        }),
    }
}

/// Whether there is anything that SIGHUP reads or opens again.
fn reloads(command: &Command, common: &Common) -> bool {
    let allow_file = match command {
        Command::Expose(expose) => expose.access.allow_file.is_some(),
        Command::Run(run) => run.expose.iter().any(|table| table.access.allow_file.is_some()),
        _ => false,
    };
    let nets = match command {
        Command::Relay(relay) => Some(&relay.nets),
        #[cfg(feature = "kad")]
        Command::Bootstrap(bootstrap) => Some(&bootstrap.nets),
        #[cfg(feature = "kad")]
        Command::Monitor(monitor) => Some(&monitor.nets),
        Command::Server(server) => Some(&server.node.nets),
        Command::Client(client) => Some(&client.node.nets),
        Command::Expose(expose) => Some(&expose.node.nets),
        Command::Forward(forward) => Some(&forward.node.nets),
        Command::Run(run) => Some(&run.node.nets),
        Command::Demo(_) | Command::Ticket(_) | Command::Peers(_) | Command::Ask(_) => None,
        #[cfg(feature = "mainline")]
        Command::Dht(_) => None,
        #[cfg(feature = "kad")]
        Command::Discovery(_) => None,
        Command::Doctor(_) | Command::Id(_) | Command::Install(_) => None,
    };
    let net_file = nets.is_some_and(|nets| nets.net_file.is_some());
    allow_file || net_file || common.events.as_deref().is_some_and(report::is_file)
}

/// Runs a command whose events are written when this returns.
async fn reported<F>(context: Context, run: impl FnOnce(Context) -> F) -> anyhow::Result<()>
where
    F: Future<Output = anyhow::Result<()>>,
{
    let reporter = context.reporter.clone();
    let mut reloads = stop::reloads();
    let reopening = async {
        while reloads.changed().await.is_ok() {
            reporter.reopen();
        }
        std::future::pending().await
    };
    let stopping = async {
        stop::told().await;
        reporter.stops();
        std::future::pending().await
    };
    let naming = names::follow(context.names.clone(), reporter.clone());
    let outcome = tokio::select! {
        // So that it is known before the program begins to end.
        biased;
        outcome = stopping => outcome,
        outcome = run(context) => outcome,
        outcome = reopening => outcome,
        never = reporter.sum_up() => match never {},
        never = naming => match never {},
    };
    tokio::task::block_in_place(|| reporter.finish(stop::flush_deadline()));
    outcome
}

/// The answer to `--check`.
fn usable() -> anyhow::Result<()> {
    print_line("the settings are usable")
}

/// A line for whoever reads or pipes our standard output.
fn print_line(line: &str) -> anyhow::Result<()> {
    writeln!(std::io::stdout(), "{line}").map_err(|cause| {
        anyhow::anyhow!("cannot print the answer: {cause}; let somebody read standard output")
    })
}

/// What every command that runs a swarm starts from.
pub struct Context {
    /// Who we are.
    pub keypair: Keypair,
    /// The ledger of our tickets, beside the identity.
    pub ledger: PathBuf,
    /// Where the node answers questions unless told otherwise, beside the identity.
    pub control: PathBuf,
    /// Where it is remembered where peers were reached, unless told otherwise, beside the identity.
    pub peer_cache: PathBuf,
    /// Where nodes of the DHT are remembered, beside the identity.
    pub dht_cache: PathBuf,
    /// Where the number of the last record that this node signed is written down, beside the identity.
    pub dht_number: PathBuf,
    /// What peers are called, beside the identity.
    pub names: NamesFile,
    /// The identity's file, if the settings name it.
    pub named_identity: Option<PathBuf>,
    /// The command that runs.
    pub command: &'static str,
    /// The certificate of a relay, beside the identity.
    pub certificate: PathBuf,
    /// Where events go.
    pub reporter: Reporter,
    /// What holds and who said so, where that is shown.
    pub shown: Vec<Setting>,
    /// Only check the settings.
    pub check: bool,
    /// Nobody else is who we are meanwhile; none for a check.
    pub claim: Option<Claim>,
}

impl Context {
    fn new(common: &Common, role: Role, command: &'static str) -> anyhow::Result<Self> {
        let keypair = identity(common, role)?;
        let claim = match common.check {
            true => None,
            false => Some(tokio::task::block_in_place(|| claim(&identity_path(common, role)?))?),
        };
        let unwritable = |cause| {
            let path = common.events.as_deref().unwrap_or(Path::new("-")).display();
            Unusable(format!(
                "cannot write events to {path}: {cause}; name a file in a directory that exists with --events"
            ))
        };
        let reporter = match &common.events {
            Some(path) if common.check => Reporter::check(path).map(|()| Reporter::none()),
            Some(path) => Reporter::open(path, common.events_max_bytes),
            None => Ok(Reporter::none()),
        };
        let ledger = ledger(common, role)?;
        let certificate = beside_identity(common, role, ".tls")?;
        let reporter = reporter.map_err(unwritable)?;
        let control = beside_identity(common, role, control::SUFFIX)?;
        let peer_cache = beside_identity(common, role, ".peers")?;
        let dht_cache = beside_identity(common, role, ".dht")?;
        let dht_number = beside_identity(common, role, ".dht-number")?;
        let names = names_file(common)?;
        // A file that is wrong is told of by whoever needs a name of it.
        reporter.calls(names.read().unwrap_or_default());
        let (named_identity, check) = (common.identity.clone(), common.check);
        Ok(Self {
            keypair,
            ledger,
            control,
            peer_cache,
            dht_cache,
            dht_number,
            names,
            named_identity,
            command,
            certificate,
            reporter,
            shown: common.shown.clone(),
            check,
            claim,
        })
    }
}

fn identity_path(common: &Common, role: Role) -> Result<PathBuf, Unusable> {
    let path = common.identity.clone().map_or_else(|| identity::default_path(role.identity()), Ok);
    path.map_err(|error| Unusable(error.to_string()))
}

/// That nobody else is who we are cannot be seen in the settings: the process exits with 1.
fn claim(path: &Path) -> anyhow::Result<Claim> {
    identity::claim(path).map_err(|error| match error {
        ClaimError::InUse(in_use) => in_use.into(),
        ClaimError::Identity(error) => Unusable(error.to_string()).into(),
    })
}

/// Where the tickets of the identity are kept.
fn ledger(common: &Common, role: Role) -> Result<PathBuf, Unusable> {
    beside_identity(common, role, ".tickets")
}

/// What peers are called: one file for all identities in a folder.
fn names_file(common: &Common) -> Result<NamesFile, Unusable> {
    let path = identity_path(common, Role::Expose)?;
    let path = path.canonicalize().unwrap_or(path);
    Ok(NamesFile::at(path.with_file_name(names::FILE_NAME)))
}

/// Where something of the identity is kept.
fn beside_identity(common: &Common, role: Role, suffix: &str) -> Result<PathBuf, Unusable> {
    let path = identity_path(common, role)?;
    // By whatever links an identity is named, it has one of each.
    let mut path = path.canonicalize().unwrap_or(path).into_os_string();
    path.push(suffix);
    Ok(path.into())
}

/// The identity that the settings name. With `--check`, one that is not there yet is not made either:
/// a passing one stands in.
fn identity(common: &Common, role: Role) -> Result<Keypair, Unusable> {
    let path = identity_path(common, role)?;
    let identity = match common.check {
        true => identity::load(&path).map(|found| found.unwrap_or_else(Keypair::generate_ed25519)),
        false => identity::load_or_create(&path),
    };
    identity.map_err(|error| Unusable(error.to_string()))
}
