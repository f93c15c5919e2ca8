//! Layers of settings: flags beat the environment beats the file beats defaults.
//!
//! clap knows the first two and the defaults; the file, and the `LIBP2P_*` variables of the small
//! mains, become clap's defaults. So every value is parsed, checked and reported in one place.

mod autorelay;
pub mod example;
mod file;
mod kaspad;
mod left_out;
mod names;
mod network;
pub mod show;

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    fmt,
    path::PathBuf,
};

use clap::{
    Arg, ArgMatches, CommandFactory as _, FromArgMatches,
    error::{ContextKind, ContextValue, ErrorKind},
};

use self::file::{File, TABLES_MAX};
pub use self::left_out::LeftOut;
use crate::{
    cli::{Cli, Command, SystemProxy},
    names::NamesError,
};

/// `LIBP2P_*` variables, and the flags of `server` and `client` that they mean.
pub(crate) const FOREIGN: [(&str, &str); 4] = [
    ("LIBP2P_LISTEN_MULTIADDRS", "listen"),
    ("LIBP2P_RELAY_MULTIADDRS", "relay"),
    ("LIBP2P_REMOTE_PEER_ID", "peer"),
    ("LIBP2P_REMOTE_MULTIADDRS", "addr"),
];

/// Why the settings cannot be used. The process exits with 2.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// clap's own report, or its answer to `--help`.
    #[error("{error}")]
    Arguments {
        /// What it says.
        error: clap::Error,
        /// Where the value stands that it complains of, unless on the command line.
        origin: Option<String>,
    },
    /// The file cannot be read.
    #[error("cannot read the settings in {}: {cause}; name a TOML file with --config", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// The file is not TOML.
    #[error("{} is not valid TOML: {}", path.display(), cause.to_string().trim_end())]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// Where and why.
        cause: toml::de::Error,
    },
    /// A key that no command has.
    #[error("{}{}: `{key}` is not a setting{}; `punchline settings --example` lists them", path.display(), in_line(*line), of(table))]
    UnknownKey {
        /// Which file.
        path: PathBuf,
        /// Where in it, if that is known.
        line: Option<usize>,
        /// The table it stands in, if any.
        table: Option<String>,
        /// The key.
        key: String,
    },
    /// A flag or command that another build has.
    #[error("{left_out}")]
    LeftOut {
        /// Which.
        left_out: LeftOut,
    },
    /// A key that another build has.
    #[error("{}{}: {left_out}", path.display(), in_line(*line))]
    KeyLeftOut {
        /// Which file.
        path: PathBuf,
        /// Where in it, if that is known.
        line: Option<usize>,
        /// Which key.
        left_out: LeftOut,
    },
    /// A setting of another program, which means nothing here.
    #[error("{name}: {cause}")]
    Foreign {
        /// Its name.
        name: String,
        /// Why, and what to do.
        cause: String,
    },
    /// A table of a list of tables cannot be used.
    #[error("{}: {table}: {cause}", path.display())]
    Table {
        /// Which file.
        path: PathBuf,
        /// Which table.
        table: String,
        /// What is wrong with it.
        cause: String,
    },
    /// A name that no peer has.
    #[error("--{flag}: {error}{}", origin.as_ref().map(|origin| format!(". The value comes from {origin}")).unwrap_or_default())]
    Name {
        /// The flag.
        flag: &'static str,
        /// What is wrong with it.
        error: Box<NamesError>,
        /// Where the value stands, unless on the command line.
        origin: Option<String>,
    },
    /// More tables than are taken.
    #[error("{}: {count} tables [[{key}]]; at most {TABLES_MAX} are taken, use several processes", path.display())]
    TooManyTables {
        /// Which file.
        path: PathBuf,
        /// Their name.
        key: String,
        /// How many.
        count: usize,
    },
    /// A value of a kind that no flag takes.
    #[error("{}: `{key}` must be a string, a number, true or false, or a list of strings", path.display())]
    Kind {
        /// Which file.
        path: PathBuf,
        /// The key.
        key: String,
    },
}

fn of(table: &Option<String>) -> String {
    table.as_ref().map(|table| format!(" of `{table}`")).unwrap_or_default()
}

fn in_line(line: Option<usize>) -> String {
    line.map(|line| format!(" line {line}")).unwrap_or_default()
}

/// What holds unless a flag or a variable of ours says otherwise, by the flag's id.
type Defaults = BTreeMap<String, Given>;

/// What somebody said, and where.
#[derive(Clone, Debug)]
struct Given {
    values: Vec<String>,
    source: Source,
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The command line.
    Flag,
    /// This environment variable.
    Variable(String),
    /// The settings file.
    File {
        /// Which file.
        path: PathBuf,
        /// Where in it, counted from 1.
        line: Option<usize>,
    },
    /// Nobody said anything.
    Default,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag => f.write_str("flag"),
            Self::Variable(name) => write!(f, "environment {name}"),
            Self::File { path, line } => write!(f, "file {}{}", path.display(), in_line(*line)),
            Self::Default => f.write_str("default"),
        }
    }
}

/// What was asked for, and what whoever asked should know about it.
#[derive(Debug)]
pub struct Settings {
    /// The command and its settings.
    pub cli: Cli,
    /// One line each.
    pub warnings: Vec<String>,
}

/// Reads all layers. `environment` looks a variable up.
///
/// # Errors
/// If an argument, a variable or a key of the file is unusable.
pub fn read(
    arguments: Vec<OsString>,
    environment: impl Fn(&str) -> Option<String>,
) -> Result<Settings, SettingsError> {
    let typed = arguments.clone();
    let Layers { root, arguments, given, file, warnings } = layers(arguments, &environment)?;
    let matches: Result<ArgMatches, clap::Error> = root.try_get_matches_from(&arguments);
    let cli = matches.and_then(|mut matches| Cli::from_arg_matches_mut(&mut matches));
    let mut cli = cli.map_err(|error| {
        if let Some(left_out) = left_out::of(&error) {
            return SettingsError::LeftOut { left_out };
        }
        let origin = origin(&error, &arguments, &environment, &given);
        SettingsError::Arguments { error, origin }
    })?;
    if cli.command.shows_page() {
        cli.common.shown = show::settings(typed, &environment)?;
    }
    if let Some(error) = without_peer(&cli) {
        return Err(SettingsError::Arguments { error, origin: None });
    }
    if let (Command::Run(run), Some(file)) = (&mut cli.command, &file) {
        run.expose = file.tables("expose")?;
        run.forward = file.tables("forward")?;
    }
    names::check(&cli, file.as_ref().map(|file| file.path.as_path()), |flag, value| {
        origin_of(flag, value, &arguments, &environment, &given)
    })?;
    if let Some(node) = cli.command.node() {
        node.proxy.system_proxy = system_proxy(&environment);
    }
    if let Command::Doctor(doctor) = &mut cli.command {
        doctor.system_proxy(system_proxy(&environment));
    }
    Ok(Settings { cli, warnings })
}

/// A client needs a peer or a namespace. clap would not count those that a file or a variable of others says.
fn without_peer(cli: &Cli) -> Option<clap::Error> {
    let Command::Client(client) = &cli.command else { return None };
    #[cfg(feature = "kad")]
    let is_named = !client.node.finding.dht.namespace.is_empty();
    #[cfg(not(feature = "kad"))]
    let is_named = false;
    if client.peer.is_some() || is_named {
        return None;
    }
    let mut root = Cli::command();
    root.build();
    let command = root.find_subcommand_mut("client")?;
    let usage = ContextValue::StyledStr(command.render_usage());
    let mut error = clap::Error::new(ErrorKind::MissingRequiredArgument).with_cmd(command);
    let flags = ContextValue::Strings(vec!["--peer <ID|NAME>".to_owned()]);
    error.insert(ContextKind::InvalidArg, flags);
    error.insert(ContextKind::Usage, usage);
    Some(error)
}

/// The layers below flags and our variables, as clap's defaults.
struct Layers {
    root: clap::Command,
    /// In our words.
    arguments: Vec<OsString>,
    /// What they say, by command.
    given: BTreeMap<String, Defaults>,
    file: Option<File>,
    warnings: Vec<String>,
}

fn layers(
    arguments: Vec<OsString>,
    environment: &impl Fn(&str) -> Option<String>,
) -> Result<Layers, SettingsError> {
    let mut root = without_empty(Cli::command(), environment);
    let (arguments, mut theirs) = match chosen(&root, &arguments).filter(|name| kaspad::concerns(name)) {
        Some(name) => {
            let (arguments, given) = kaspad::translate(&arguments, environment)?;
            (arguments, BTreeMap::from([(name, given)]))
        }
        None => (arguments, BTreeMap::new()),
    };
    let (file, warnings) = config_path(&arguments, environment).map(File::load).transpose()?.unzip();
    let commands: Vec<String> =
        root.get_subcommands().map(|command| command.get_name().to_owned()).collect();
    if let Some(file) = &file {
        file.check(&root, &commands)?;
        root = with_defaults(root, &file.of(None)?);
    }
    let shared: Vec<Arg> = root.get_arguments().filter(|flag| flag.is_global_set()).cloned().collect();
    let mut given = BTreeMap::new();
    for name in &commands {
        let theirs = theirs.remove(name).unwrap_or_default();
        let (usual, mut theirs): (Defaults, Defaults) =
            theirs.into_iter().partition(|(_, given)| given.source == Source::Default);
        let mut found = usual;
        if let Some(file) = &file {
            found.extend(file.of(Some(name))?);
            let own = file.own_keys(name);
            let own = shared.iter().filter(|flag| own.iter().any(|key| flag.get_id() == key));
            root = root.mut_subcommand(name, |command| command.args(own));
        }
        found.append(&mut theirs);
        if matches!(name.as_str(), "server" | "client") {
            found.extend(foreign(environment));
        }
        root = root.mut_subcommand(name, |command| with_defaults(command, &found));
        given.insert(name.clone(), found);
    }
    Ok(Layers { root, arguments, given, file, warnings: warnings.unwrap_or_default() })
}

/// The command that the arguments name, whatever else is wrong with them.
fn chosen(root: &clap::Command, arguments: &[OsString]) -> Option<String> {
    let matches = root.clone().ignore_errors(true).try_get_matches_from(arguments).ok()?;
    matches.subcommand_name().map(str::to_owned)
}

/// As every program reads it. Capital letters first, as curl does.
fn system_proxy(environment: &impl Fn(&str) -> Option<String>) -> SystemProxy {
    let first = |names: [&str; 2]| {
        let set = |name| environment(name).filter(|value| !value.trim().is_empty());
        names.into_iter().find_map(set)
    };
    let proxy = first(["HTTPS_PROXY", "https_proxy"]);
    let proxy = proxy.and_then(|url| url.parse().ok());
    SystemProxy { proxy, exceptions: first(["NO_PROXY", "no_proxy"]).unwrap_or_default() }
}

/// A variable that is set to nothing is not set: so templates say that there is no value.
fn without_empty(
    command: clap::Command,
    environment: &impl Fn(&str) -> Option<String>,
) -> clap::Command {
    let is_empty = |flag: &Arg| {
        let value = flag.get_env().and_then(|name| environment(name.to_str()?));
        value.is_some_and(|value| value.trim().is_empty())
    };
    command
        .mut_args(|flag| if is_empty(&flag) { flag.env(None::<&'static str>) } else { flag })
        .mut_subcommands(|own| without_empty(own, environment))
}

/// A warning for each variable that looks like a setting and is none.
pub fn unknown_variables(names: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut known = BTreeSet::new();
    let mut commands = vec![Cli::command()];
    while let Some(command) = commands.pop() {
        let variables = command.get_arguments().filter_map(|flag| flag.get_env()?.to_str());
        known.extend(variables.map(str::to_owned));
        commands.extend(command.get_subcommands().cloned());
    }
    let unknown = names.into_iter().filter(|name| name.starts_with(PREFIX) && !known.contains(name));
    let warnings = unknown.map(|name| {
        if let Some(left_out) = left_out::flag(&name) {
            return left_out.to_string();
        }
        let likeness = |other: &&String| (strsim::jaro_winkler(&name, other) * 1000.0) as u32;
        let nearest = known.iter().max_by_key(likeness).map_or("", String::as_str);
        format!("the variable {name} is no setting and changes nothing; did you mean {nearest}?")
    });
    warnings.collect()
}

/// What the variables of our settings begin with.
const PREFIX: &str = "PUNCHLINE_";

/// Where the value stands that clap complains of: it takes all for arguments.
fn origin(
    error: &clap::Error,
    arguments: &[OsString],
    environment: &impl Fn(&str) -> Option<String>,
    given: &BTreeMap<String, Defaults>,
) -> Option<String> {
    let Some(ContextValue::String(flag)) = error.get(ContextKind::InvalidArg) else { return None };
    let Some(ContextValue::String(value)) = error.get(ContextKind::InvalidValue) else { return None };
    let flag = flag.split_whitespace().next()?.trim_end_matches('.').strip_prefix("--")?;
    origin_of(flag, value, arguments, environment, given)
}

/// Where this value of a flag stands, unless it is on the command line. One of a list may stand among others.
fn origin_of(
    flag: &str,
    value: &str,
    arguments: &[OsString],
    environment: &impl Fn(&str) -> Option<String>,
    given: &BTreeMap<String, Defaults>,
) -> Option<String> {
    let is_flag =
        |text: &str| text.strip_prefix("--").is_some_and(|text| text.split('=').next() == Some(flag));
    if arguments.iter().filter_map(|argument| argument.to_str()).any(is_flag) {
        return None;
    }
    let id = flag.replace('-', "_");
    let own = format!("{PREFIX}{}", id.to_uppercase());
    let is_or_has =
        |text: &String| text == value || text.split([',', ';']).any(|part| part.trim() == value);
    if environment(&own).as_ref().is_some_and(is_or_has) {
        return Some(format!("the environment variable {own}"));
    }
    let given = given.values().filter_map(|given| given.get(&id));
    let given = given.into_iter().find(|given| given.values.iter().any(is_or_has))?;
    Some(match &given.source {
        Source::Variable(name) => format!("the environment variable {name}"),
        Source::File { path, line } => format!("`{id}` in {}{}", path.display(), in_line(*line)),
        Source::Flag | Source::Default => return None,
    })
}

/// The file must be known before clap can parse the rest, since it holds clap's defaults.
fn config_path(
    arguments: &[OsString],
    environment: &impl Fn(&str) -> Option<String>,
) -> Option<PathBuf> {
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        match argument.to_str() {
            Some("--config") => return rest.next().map(PathBuf::from),
            Some(text) => {
                if let Some(path) = text.strip_prefix("--config=") {
                    return Some(path.into());
                }
            }
            None => {}
        }
    }
    environment("PUNCHLINE_CONFIG").filter(|path| !path.trim().is_empty()).map(PathBuf::from)
}

fn foreign(environment: &impl Fn(&str) -> Option<String>) -> Defaults {
    let said = FOREIGN.iter().filter_map(|(variable, flag)| {
        let value = environment(variable).filter(|value| !value.trim().is_empty())?;
        let source = Source::Variable((*variable).to_owned());
        Some(((*flag).to_owned(), Given { values: vec![value], source }))
    });
    said.collect()
}

fn with_defaults(mut command: clap::Command, defaults: &Defaults) -> clap::Command {
    let known: Vec<String> = command.get_arguments().map(|flag| flag.get_id().to_string()).collect();
    for (id, given) in defaults.iter().filter(|(id, _)| known.contains(id)) {
        command = command.mut_arg(id, |flag: Arg| {
            flag.required(false).default_values(given.values.iter().cloned().map(OsString::from))
        });
    }
    let own: Vec<String> = command.get_subcommands().map(|own| own.get_name().to_owned()).collect();
    own.iter()
        .fold(command, |command, name| command.mut_subcommand(name, |own| with_defaults(own, defaults)))
}
