//! Layers of settings: flags beat the environment beats the file beats defaults.
//!
//! clap knows the first two and the defaults; the file, and the `LIBP2P_*` variables of the small
//! mains, become clap's defaults. So every value is parsed, checked and reported in one place.

mod autorelay;
mod names;
mod place;

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    path::{Path, PathBuf},
};

use clap::{
    Arg, ArgMatches, Args as _, CommandFactory as _, FromArgMatches,
    error::{ContextKind, ContextValue},
};
use toml::{Table, Value};

use crate::{
    cli::{Cli, Command, ExposeTable, ForwardTable, SystemProxy},
    names::NamesError,
};

/// A settings file is a page or two; more is the wrong file.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Most tables of one name: each forward keeps a connection, and a node keeps no more of them.
const TABLES_MAX: usize = 256;

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
    #[error("{}{}: `{key}` is not a setting{}; `punchline <command> --help` lists them", path.display(), at(*line), of(table))]
    UnknownKey {
        /// Which file.
        path: PathBuf,
        /// The table it stands in, if any.
        table: Option<String>,
        /// The key.
        key: String,
        /// Its line, from 1.
        line: Option<usize>,
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

fn at(line: Option<usize>) -> String {
    line.map(|line| format!(":{line}")).unwrap_or_default()
}

fn of(table: &Option<String>) -> String {
    table.as_ref().map(|table| format!(" of `{table}`")).unwrap_or_default()
}

impl SettingsError {
    /// With the line of the key that is none, in this text of the file.
    fn with_line(self, text: &str) -> Self {
        match self {
            Self::UnknownKey { path, table, key, line: _ } => {
                let line = place::line_of(text, table.as_deref(), &key);
                Self::UnknownKey { path, table, key, line }
            }
            other => other,
        }
    }
}

type Defaults = BTreeMap<String, Vec<String>>;

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
    let (mut warnings, mut written) = (Vec::new(), String::new());
    let mut root = without_empty(Cli::command(), &environment);
    let file = match config_path(&arguments, &environment) {
        Some(path) => {
            let (mut table, text) = load(&path)?;
            warnings = autorelay::translate(&mut table, &path)?;
            written = text;
            Some((table, path))
        }
        None => None,
    };
    let commands: Vec<String> =
        root.get_subcommands().map(|command| command.get_name().to_owned()).collect();
    if let Some((table, path)) = &file {
        check_keys(table, &root, &commands, path).map_err(|error| error.with_line(&written))?;
        root = with_defaults(root, &defaults(table, path)?);
    }
    let shared: Vec<Arg> = root.get_arguments().filter(|flag| flag.is_global_set()).cloned().collect();
    for name in &commands {
        let mut found = Defaults::new();
        if let Some((table, path)) = &file {
            found = defaults(table, path)?;
            if let Some(Value::Table(own)) = table.get(name) {
                let own = defaults(own, path)?;
                let shared = shared.iter().filter(|flag| own.contains_key(flag.get_id().as_str()));
                root = root.mut_subcommand(name, |command| command.args(shared));
                found.extend(own);
            }
        }
        if matches!(name.as_str(), "server" | "client") {
            found.extend(foreign(&environment));
        }
        root = root.mut_subcommand(name, |command| with_defaults(command, &found));
    }
    let matches: Result<ArgMatches, clap::Error> = root.try_get_matches_from(&arguments);
    let cli = matches.and_then(|mut matches| Cli::from_arg_matches_mut(&mut matches));
    let mut cli = cli.map_err(|error| {
        let origin = origin(&error, &arguments, &environment, file.as_ref());
        SettingsError::Arguments { error, origin }
    })?;
    if let (Command::Run(run), Some((table, path))) = (&mut cli.command, &file) {
        run.expose = tables::<ExposeTable>(table, "expose", path)?;
        run.forward = tables::<ForwardTable>(table, "forward", path)?;
    }
    names::check(&cli, file.as_ref().map(|(_, path)| path.as_path()), |flag, value| {
        origin_of(flag, value, &arguments, &environment, file.as_ref())
    })?;
    if let Some(node) = cli.command.node() {
        node.system_proxy = system_proxy(&environment);
    }
    if let Command::Doctor(doctor) = &mut cli.command {
        doctor.system_proxy(system_proxy(&environment));
    }
    Ok(Settings { cli, warnings })
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
    file: Option<&(Table, PathBuf)>,
) -> Option<String> {
    let Some(ContextValue::String(flag)) = error.get(ContextKind::InvalidArg) else { return None };
    let Some(ContextValue::String(value)) = error.get(ContextKind::InvalidValue) else { return None };
    let flag = flag.split_whitespace().next()?.trim_end_matches('.').strip_prefix("--")?;
    origin_of(flag, value, arguments, environment, file)
}

/// Where this value of a flag stands, unless it is on the command line. One of a list may stand among others.
fn origin_of(
    flag: &str,
    value: &str,
    arguments: &[OsString],
    environment: &impl Fn(&str) -> Option<String>,
    file: Option<&(Table, PathBuf)>,
) -> Option<String> {
    let given = format!("--{flag}");
    let is_flag = |text: &str| text == given || text.starts_with(&format!("{given}="));
    if arguments.iter().filter_map(|argument| argument.to_str()).any(is_flag) {
        return None;
    }
    let id = flag.replace('-', "_");
    let own = format!("PUNCHLINE_{}", id.to_uppercase());
    let foreign = FOREIGN.iter().filter(|(_, flag)| *flag == id).map(|(variable, _)| *variable);
    let mut variables = std::iter::once(own.as_str()).chain(foreign);
    let is_or_has =
        |text: String| text == value || text.split([',', ';']).any(|part| part.trim() == value);
    let holds = |variable: &&str| environment(variable).is_some_and(is_or_has);
    if let Some(variable) = variables.find(holds) {
        return Some(format!("the environment variable {variable}"));
    }
    file.map(|(_, path)| format!("`{id}` in {}", path.display()))
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

/// What the file holds, and its text.
fn load(path: &Path) -> Result<(Table, String), SettingsError> {
    let unreadable = |cause| SettingsError::Unreadable { path: path.to_owned(), cause };
    let length = std::fs::metadata(path).map_err(unreadable)?.len();
    if length > FILE_BYTES_MAX {
        let cause = std::io::Error::other(format!("{length} bytes are too many for settings"));
        return Err(unreadable(cause));
    }
    let text = std::fs::read_to_string(path).map_err(unreadable)?;
    match text.parse() {
        Ok(table) => Ok((table, text)),
        Err(cause) => Err(SettingsError::Malformed { path: path.to_owned(), cause }),
    }
}

fn check_keys(
    table: &Table,
    root: &clap::Command,
    commands: &[String],
    path: &Path,
) -> Result<(), SettingsError> {
    // A file cannot name another one: it would not be read.
    let has = |command: &clap::Command, key: &str| {
        let key = key.replace('_', "-");
        key != "config" && command.get_arguments().any(|flag| flag.get_long() == Some(&key))
    };
    // The table of `ticket` is that of `ticket new` and its sisters too.
    let takes = |command: &clap::Command, key: &str| {
        has(command, key) || command.get_subcommands().any(|own| has(own, key))
    };
    let unknown = |table: Option<&str>, key: &str| SettingsError::UnknownKey {
        path: path.to_owned(),
        table: table.map(str::to_owned),
        key: key.to_owned(),
        line: None,
    };
    let known_anywhere =
        |key: &str| has(root, key) || root.get_subcommands().any(|command| takes(command, key));
    for (key, value) in table {
        match value {
            Value::Table(own) if commands.contains(key) => {
                let command = root.find_subcommand(key);
                let known = |key: &str| has(root, key) || command.is_some_and(|c| takes(c, key));
                if let Some((other, _)) = own.iter().find(|(other, _)| !known(other)) {
                    return Err(unknown(Some(key), other));
                }
                if let Some((other, _)) = own.iter().find(|(_, value)| value.is_table()) {
                    return Err(SettingsError::Kind { path: path.to_owned(), key: other.clone() });
                }
            }
            Value::Array(tables) if is_list_of_tables(value) => match table_command(key) {
                None => return Err(unknown(None, key)),
                Some(_) if tables.len() > TABLES_MAX => {
                    let (path, key, count) = (path.to_owned(), key.clone(), tables.len());
                    return Err(SettingsError::TooManyTables { path, key, count });
                }
                Some(command) => {
                    for (at, own) in tables.iter().filter_map(Value::as_table).enumerate() {
                        if let Some((other, _)) = own.iter().find(|(other, _)| !has(&command, other)) {
                            return Err(unknown(Some(&place(key, at)), other));
                        }
                    }
                }
            },
            Value::Table(_) if !known_anywhere(key) => return Err(unknown(None, key)),
            Value::Table(_) => {
                return Err(SettingsError::Kind { path: path.to_owned(), key: key.clone() });
            }
            _ if known_anywhere(key) => {}
            _ => return Err(unknown(None, key)),
        }
    }
    Ok(())
}

fn is_list_of_tables(value: &Value) -> bool {
    value.as_array().is_some_and(|values| !values.is_empty() && values.iter().all(Value::is_table))
}

/// The keys of the tables that a file may list under this name, as the flags of a command.
fn table_command(key: &str) -> Option<clap::Command> {
    let command = clap::Command::new(key.to_owned()).no_binary_name(true);
    let command = match key {
        "expose" => ExposeTable::augment_args(command),
        "forward" => ForwardTable::augment_args(command),
        _ => return None,
    };
    // A variable cannot say which of several tables it means.
    Some(command.mut_args(|flag| flag.env(None::<&'static str>)))
}

fn place(key: &str, at: usize) -> String {
    format!("[[{key}]] number {}", at + 1)
}

/// The tables that the file lists under this name, each read as if its keys were flags.
fn tables<T: FromArgMatches>(file: &Table, key: &str, path: &Path) -> Result<Vec<T>, SettingsError> {
    let Some(value) = file.get(key).filter(|value| is_list_of_tables(value)) else {
        return Ok(Vec::new());
    };
    let tables = value.as_array().into_iter().flatten().filter_map(Value::as_table);
    let Some(command) = table_command(key) else { return Ok(Vec::new()) };
    let tables = tables.enumerate().map(|(at, table)| {
        if let Some((key, _)) = table.iter().find(|(_, value)| value.is_table()) {
            return Err(SettingsError::Kind { path: path.to_owned(), key: key.clone() });
        }
        let command = with_defaults(command.clone(), &defaults(table, path)?);
        let parsed = command.try_get_matches_from(std::iter::empty::<OsString>());
        parsed.and_then(|matches| T::from_arg_matches(&matches)).map_err(|error| SettingsError::Table {
            path: path.to_owned(),
            table: place(key, at),
            cause: first_paragraph(&error),
        })
    });
    tables.collect()
}

/// What clap says, without its advice on the command line.
fn first_paragraph(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let first = text.split("\n\n").next().unwrap_or_default().trim_start_matches("error: ");
    first.lines().map(str::trim).collect::<Vec<_>>().join(" ")
}

fn defaults(table: &Table, path: &Path) -> Result<Defaults, SettingsError> {
    let mut found = Defaults::new();
    for (key, value) in table.iter().filter(|(_, value)| !value.is_table() && !is_list_of_tables(value))
    {
        let texts = texts(value)
            .ok_or_else(|| SettingsError::Kind { path: path.to_owned(), key: key.clone() })?;
        found.insert(key.replace('-', "_"), texts);
    }
    Ok(found)
}

fn texts(value: &Value) -> Option<Vec<String>> {
    Some(match value {
        Value::String(text) => vec![text.clone()],
        Value::Integer(number) => vec![number.to_string()],
        Value::Boolean(flag) => vec![flag.to_string()],
        Value::Array(values) => {
            values.iter().map(|value| Some(value.as_str()?.to_owned())).collect::<Option<_>>()?
        }
        _ => return None,
    })
}

fn foreign(environment: &impl Fn(&str) -> Option<String>) -> Defaults {
    FOREIGN
        .iter()
        .filter_map(|(variable, flag)| Some((flag.to_string(), vec![environment(variable)?])))
        .filter(|(_, values)| values.iter().any(|value| !value.trim().is_empty()))
        .collect()
}

fn with_defaults(mut command: clap::Command, defaults: &Defaults) -> clap::Command {
    let known: Vec<String> = command.get_arguments().map(|flag| flag.get_id().to_string()).collect();
    for (id, values) in defaults.iter().filter(|(id, _)| known.contains(id)) {
        command = command.mut_arg(id, |flag: Arg| {
            flag.required(false).default_values(values.iter().cloned().map(OsString::from))
        });
    }
    let own: Vec<String> = command.get_subcommands().map(|own| own.get_name().to_owned()).collect();
    own.iter()
        .fold(command, |command, name| command.mut_subcommand(name, |own| with_defaults(own, defaults)))
}
