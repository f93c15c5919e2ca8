//! The settings file: TOML, a key for each flag, a table for each command, and lists of tables for `run`.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    path::{Path, PathBuf},
};

use clap::{Args as _, FromArgMatches};
use toml::{
    Table, Value,
    de::{DeTable, DeValue},
};

use super::{Defaults, Given, SettingsError, Source, autorelay, left_out, network, with_defaults};
use crate::cli::{ExposeTable, ForwardTable};

/// A settings file is a page or two; more is the wrong file.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Most tables of one name: each forward keeps a connection, and a node keeps no more of them.
pub(super) const TABLES_MAX: usize = 256;

/// A file that was read.
pub(super) struct File {
    pub(super) path: PathBuf,
    table: Table,
    /// In which line a key stands: those of the top under no table's name, and of tables by command.
    lines: BTreeMap<(Option<String>, String), usize>,
}

impl File {
    /// Reads it, and says what whoever wrote it should know, a line each.
    pub(super) fn load(path: PathBuf) -> Result<(Self, Vec<String>), SettingsError> {
        let text = text(&path)?;
        let malformed = |cause| SettingsError::Malformed { path: path.clone(), cause };
        let mut table: Table = text.parse().map_err(malformed)?;
        let lines = lines(&text);
        let mut warnings = network::translate(&mut table, &path)?;
        warnings.extend(autorelay::translate(&mut table, &path)?);
        Ok((Self { path, table, lines }, warnings))
    }

    /// # Errors
    /// If a key is none of ours, or has a value of a kind that no flag takes.
    pub(super) fn check(&self, root: &clap::Command, commands: &[String]) -> Result<(), SettingsError> {
        check_keys(self, root, commands)
    }

    /// What it says for this command; for none, what it says for all.
    pub(super) fn of(&self, command: Option<&str>) -> Result<Defaults, SettingsError> {
        let mut found = self.keys(None, &self.table)?;
        if let Some((name, own)) = command.and_then(|name| Some((name, self.own(name)?))) {
            found.extend(self.keys(Some(name), own)?);
        }
        Ok(found)
    }

    /// The keys in the table of this command.
    pub(super) fn own_keys(&self, command: &str) -> Vec<String> {
        self.own(command).into_iter().flat_map(Table::keys).map(|key| key.replace('-', "_")).collect()
    }

    fn own(&self, command: &str) -> Option<&Table> {
        self.table.get(command)?.as_table()
    }

    fn keys(&self, table: Option<&str>, keys: &Table) -> Result<Defaults, SettingsError> {
        let found = defaults(keys, &self.path)?.into_iter().map(|(key, values)| {
            let source = Source::File { path: self.path.clone(), line: self.line(table, &key) };
            (key.replace('-', "_"), Given { values, source })
        });
        Ok(found.collect())
    }

    fn line(&self, table: Option<&str>, key: &str) -> Option<usize> {
        self.lines.get(&(table.map(str::to_owned), key.to_owned())).copied()
    }

    /// The tables that it lists under this name, each read as if its keys were flags.
    pub(super) fn tables<T: FromArgMatches>(&self, key: &str) -> Result<Vec<T>, SettingsError> {
        tables(&self.table, key, &self.path)
    }
}

fn text(path: &Path) -> Result<String, SettingsError> {
    let unreadable = |cause| SettingsError::Unreadable { path: path.to_owned(), cause };
    let length = std::fs::metadata(path).map_err(unreadable)?.len();
    if length > FILE_BYTES_MAX {
        let cause = std::io::Error::other(format!("{length} bytes are too many for settings"));
        return Err(unreadable(cause));
    }
    std::fs::read_to_string(path).map_err(unreadable)
}

/// Counted from 1, as editors do.
fn lines(text: &str) -> BTreeMap<(Option<String>, String), usize> {
    let mut found = BTreeMap::new();
    let Ok(root) = DeTable::parse(text) else { return found };
    let mut note = |table: Option<String>, keys: &DeTable| {
        for key in keys.keys() {
            let line = text[..key.span().start].matches('\n').count() + 1;
            found.insert((table.clone(), key.get_ref().to_string()), line);
        }
    };
    note(None, root.get_ref());
    for (name, value) in root.get_ref() {
        match value.get_ref() {
            DeValue::Table(own) => note(Some(name.get_ref().to_string()), own),
            DeValue::Array(listed) => {
                for (at, listed) in listed.iter().enumerate() {
                    let own = listed.get_ref().as_table();
                    own.into_iter().for_each(|own| note(Some(place(name.get_ref(), at)), own));
                }
            }
            _ => {}
        }
    }
    found
}

fn check_keys(file: &File, root: &clap::Command, commands: &[String]) -> Result<(), SettingsError> {
    let File { path, table, .. } = file;
    // A file cannot name another one: it would not be read.
    let has = |command: &clap::Command, key: &str| {
        let key = key.replace('_', "-");
        key != "config" && command.get_arguments().any(|flag| flag.get_long() == Some(&key))
    };
    // The table of `ticket` is that of `ticket new` and its sisters too.
    let takes = |command: &clap::Command, key: &str| {
        has(command, key) || command.get_subcommands().any(|own| has(own, key))
    };
    let unknown = |table: Option<&str>, key: &str| {
        let (path, line) = (path.to_owned(), file.line(table, key));
        match left_out::flag(key) {
            Some(left_out) => SettingsError::KeyLeftOut { path, line, left_out },
            None => {
                let table = table.map(str::to_owned);
                SettingsError::UnknownKey { path, line, table, key: key.to_owned() }
            }
        }
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
pub(super) fn table_command(key: &str) -> Option<clap::Command> {
    let command = clap::Command::new(key.to_owned()).no_binary_name(true);
    let command = match key {
        "expose" => ExposeTable::augment_args(command),
        "forward" => ForwardTable::augment_args(command),
        _ => return None,
    };
    // A variable cannot say which of several tables it means.
    Some(command.mut_args(|flag| flag.env(None::<&'static str>)))
}

pub(super) fn place(key: &str, at: usize) -> String {
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
        let given = |(key, values): (String, _)| {
            (key.replace('-', "_"), Given { values, source: Source::Default })
        };
        let found = defaults(table, path)?.into_iter().map(given).collect();
        let command = with_defaults(command.clone(), &found);
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

/// Its keys as they are written, and what each says.
fn defaults(table: &Table, path: &Path) -> Result<BTreeMap<String, Vec<String>>, SettingsError> {
    let mut found = BTreeMap::new();
    for (key, value) in table.iter().filter(|(_, value)| !value.is_table() && !is_list_of_tables(value))
    {
        let texts = texts(value)
            .ok_or_else(|| SettingsError::Kind { path: path.to_owned(), key: key.clone() })?;
        found.insert(key.clone(), texts);
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
