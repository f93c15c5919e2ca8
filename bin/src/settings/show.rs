//! `punchline settings --show`: what holds for a command, and where each value comes from.

use std::{ffi::OsString, fmt};

use clap::{Arg, ArgMatches, parser::ValueSource};
use serde_json::{Value, json};

use super::{Defaults, Layers, SettingsError, Source, layers};

/// A setting of a command, with what holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Its name in a settings file.
    pub key: String,
    /// What holds; empty if nothing was said and there is no default.
    pub values: Vec<String>,
    /// Who said so.
    pub source: Source,
    /// It is not for others' eyes.
    pub secret: bool,
}

/// All settings of the command that `arguments` name (the first is the program's own name), whether it could run or not.
///
/// # Errors
/// If an argument, a variable or a key of the file is unusable.
pub fn settings(
    arguments: Vec<OsString>,
    environment: impl Fn(&str) -> Option<String>,
) -> Result<Vec<Setting>, SettingsError> {
    let Layers { root, arguments, given, .. } = layers(arguments, &environment)?;
    let root = without_duties(root);
    let unusable = |error| SettingsError::Arguments { error, origin: None };
    let matches = root.clone().try_get_matches_from(&arguments).map_err(unusable)?;
    let (mut command, mut matches, mut name) = (&root, &matches, None);
    while let Some((next, own)) = matches.subcommand() {
        let Some(found) = command.find_subcommand(next) else { break };
        (command, matches, name) = (found, own, name.or(Some(next)));
    }
    let nothing = Defaults::new();
    let given = name.and_then(|name| given.get(name)).unwrap_or(&nothing);
    let is_setting = |flag: &&Arg| {
        let long = flag.get_long().filter(|long| !matches!(*long, "help" | "version"));
        long.is_some() && !flag.is_hide_set()
    };
    let mut flags: Vec<&Arg> = command.get_arguments().filter(is_setting).collect();
    for common in root.get_arguments().filter(is_setting).filter(|flag| flag.is_global_set()) {
        if !flags.iter().any(|flag| flag.get_id() == common.get_id()) {
            flags.push(common);
        }
    }
    Ok(flags.into_iter().map(|flag| setting(flag, matches, given)).collect())
}

/// Nothing is required to be told what holds.
fn without_duties(command: clap::Command) -> clap::Command {
    let command = command.mut_args(|flag| flag.required(false)).subcommand_required(false);
    command.arg_required_else_help(false).mut_subcommands(without_duties)
}

fn setting(flag: &Arg, matches: &ArgMatches, given: &Defaults) -> Setting {
    let id = flag.get_id().as_str();
    let values = matches.try_get_raw(id).ok().flatten().into_iter().flatten();
    let values = values.map(|value| value.to_string_lossy().into_owned()).collect();
    let variable = || flag.get_env().unwrap_or_default().to_string_lossy().into_owned();
    let source = match matches.value_source(id) {
        Some(ValueSource::CommandLine) => Source::Flag,
        Some(ValueSource::EnvVariable) => Source::Variable(variable()),
        _ => given.get(id).map_or(Source::Default, |given| given.source.clone()),
    };
    let key = flag.get_long().unwrap_or(id).replace('-', "_");
    Setting { key, values, source, secret: flag.is_hide_env_values_set() }
}

impl Setting {
    fn shown(&self) -> Vec<String> {
        match self.secret && !self.values.is_empty() {
            true => vec!["(set, and not shown)".to_owned()],
            false => self.values.clone(),
        }
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let (source, place) = match &self.source {
            Source::Flag => ("flag", json!({})),
            Source::Variable(name) => ("environment", json!({ "variable": name })),
            Source::File { path, line } => ("file", json!({ "file": path, "line": line })),
            Source::Default => ("default", json!({})),
        };
        let mut json = json!({ "key": self.key, "values": self.shown(), "source": source });
        if let (Value::Object(json), Value::Object(place)) = (&mut json, place) {
            json.extend(place);
        }
        json
    }
}

/// One line: key, value, and where it comes from.
impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let values = match self.shown().join(", ") {
            nothing if nothing.is_empty() => "-".to_owned(),
            values => values,
        };
        write!(f, "{:28} {:36} {}", self.key, values, self.source)
    }
}
