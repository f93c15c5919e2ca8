//! `design/settings.md` says of every key what this program takes.

#![allow(clippy::unwrap_used)]

use std::fmt::Write as _;

use clap::{Arg, CommandFactory as _};

use super::{is_key, keys, table_command, value};
use crate::{cli::Cli, reference::assert_written};

const REFERENCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../design/settings.md");

const HEAD: &str = "\
# Settings

Every key, by the commands that have it. A key is a flag as well (`metrics_public` is `--metrics-public`), and an environment
variable (`PUNCHLINE_METRICS_PUBLIC`, unless another one is named). Flags beat the environment, which beats the file of
`--config`, which beats the defaults. A key at the top of the file holds for every command that has it; in a table that is
named after a command, for that command alone. Lists may be one string, with commas. `punchline settings --example` prints
the same as a file to edit, with examples, `punchline settings --show COMMAND` what holds and who said so.

This file is written from the program: `PUNCHLINE_WRITE_REFERENCE=1 cargo test -p punchline the_reference_has_every_key` does
so again.
";

/// A key, and the commands or tables that have it.
struct Key {
    flag: Arg,
    help: String,
    commands: Vec<String>,
}

fn all() -> Vec<Key> {
    let root = Cli::command();
    let mut found: Vec<Key> = Vec::new();
    let mut add = |flag: Arg, command: &str| {
        let help = flag.get_long_help().or(flag.get_help()).map(ToString::to_string).unwrap_or_default();
        let same = |key: &&mut Key| key.flag.get_long() == flag.get_long() && key.help == help;
        match found.iter_mut().find(same) {
            Some(key) => key.commands.push(command.to_owned()),
            None => found.push(Key { flag, help, commands: vec![command.to_owned()] }),
        }
    };
    let everywhere = root.get_arguments().filter(|flag| flag.is_global_set() && is_key(flag));
    everywhere.for_each(|flag| add(flag.clone(), "every command"));
    for command in root.get_subcommands() {
        let name = format!("`{}`", command.get_name());
        keys(command).into_iter().for_each(|flag| add(flag, &name));
    }
    for name in ["expose", "forward"] {
        let table = table_command(name).unwrap();
        let name = format!("each `[[{name}]]` table of `run`");
        table.get_arguments().filter(|flag| is_key(flag)).for_each(|flag| add(flag.clone(), &name));
    }
    found
}

fn reference() -> String {
    let (mut text, mut keys) = (HEAD.to_owned(), all());
    while let Some(first) = keys.first() {
        let commands = first.commands.clone();
        write!(text, "\n## {}\n\n", commands.join(", ")).unwrap();
        let (here, rest) = keys.into_iter().partition(|key| key.commands == commands);
        keys = rest;
        let here: Vec<Key> = here;
        here.iter().for_each(|key| text += &entry(key));
    }
    text
}

fn entry(Key { flag, help, .. }: &Key) -> String {
    let key = flag.get_long().unwrap().replace('-', "_");
    let usual = format!("PUNCHLINE_{}", key.to_uppercase());
    let variable = flag.get_env().map(|variable| variable.to_string_lossy().into_owned());
    let mut facts = Vec::new();
    match variable {
        Some(variable) if variable != usual => facts.push(format!("variable `{variable}`")),
        Some(_) => {}
        None => facts.push("no variable".to_owned()),
    }
    if !flag.get_default_values().is_empty() {
        facts.push(format!("default `{}`", value(flag)));
    }
    let values = flag.get_possible_values();
    if flag.get_action().takes_values() && !values.is_empty() {
        let names: Vec<_> = values.iter().map(|value| format!("`{}`", value.get_name())).collect();
        facts.push(names.join(", "));
    }
    let facts = if facts.is_empty() { String::new() } else { format!(" ({})", facts.join("; ")) };
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    format!("- **`{key}`**{facts}: {help}\n")
}

#[test]
fn the_reference_has_every_key() {
    let written = reference();
    assert_written(REFERENCE, &written, "the_reference_has_every_key");
    let example = super::example();
    for line in example.lines().filter(|line| line.starts_with('#') && !line.starts_with("# ")) {
        let Some((key, _)) = line[1..].split_once(" = ") else { continue };
        assert!(written.contains(&format!("- **`{key}`**")), "the example has {key}");
    }
}
