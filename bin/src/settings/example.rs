//! `punchline settings --example`: a settings file with every key of every command, all of them commented out.
//!
//! It is made from what clap knows of the flags; only values that have no default are examples from here.

use clap::{Arg, ArgAction, Command, CommandFactory as _};

use super::file::table_command;
use crate::cli::Cli;

/// Columns of the text.
const WIDTH: usize = 100;

const HEAD: &str = "\
Settings of punchline. Name this file with --config FILE or PUNCHLINE_CONFIG.

Flags beat the environment, which beats this file, which beats the defaults. A key at the top holds for every command \
that has it; in a table that is named after a command, for that command alone. Lists may be one string, with commas. \
What is commented out here is the default, or an example where there is none. `punchline settings --show COMMAND` tells \
what holds, and why.";

/// The file.
pub fn example() -> String {
    let root = Cli::command();
    let mut text = comment(HEAD);
    text += "\n# ---- Every command ----\n";
    for flag in root.get_arguments().filter(|flag| flag.is_global_set() && is_key(flag)) {
        text += &entry(flag);
    }
    for command in root.get_subcommands() {
        let flags = keys(command);
        if flags.is_empty() {
            continue;
        }
        let name = command.get_name();
        text += &format!("\n# ---- punchline {name} ----\n");
        text += &comment(&command.get_about().map(ToString::to_string).unwrap_or_default());
        text += &format!("#[{name}]\n");
        flags.iter().for_each(|flag| text += &entry(flag));
    }
    for name in ["expose", "forward"] {
        let Some(command) = table_command(name) else { continue };
        text += &format!(
            "\n# ---- punchline run: one such table for each {name}, in place of [{name}] ----\n"
        );
        text += &format!("#[[{name}]]\n");
        command.get_arguments().filter(|flag| is_key(flag)).for_each(|flag| text += &entry(flag));
    }
    text
}

/// The keys of a command's table: those of its flags, and of the commands below it.
fn keys(command: &Command) -> Vec<Arg> {
    let mut found: Vec<Arg> = Vec::new();
    let below = command.get_subcommands().flat_map(Command::get_arguments);
    for flag in command.get_arguments().chain(below).filter(|flag| is_key(flag)) {
        if !found.iter().any(|known| known.get_id() == flag.get_id()) {
            found.push(flag.clone());
        }
    }
    found
}

/// A file cannot name another one.
fn is_key(flag: &Arg) -> bool {
    let named = flag.get_long().is_some_and(|long| !matches!(long, "help" | "version" | "config"));
    named && !flag.is_hide_set()
}

fn entry(flag: &Arg) -> String {
    let help = flag.get_long_help().or(flag.get_help()).map(ToString::to_string).unwrap_or_default();
    let key = flag.get_long().unwrap_or_default().replace('-', "_");
    let mut text = format!("\n{}", comment(&help));
    if let Some(variable) = flag.get_env() {
        text += &comment(&format!("Variable: {}", variable.to_string_lossy()));
    }
    format!("{text}#{key} = {}\n", value(flag))
}

/// The default, or an example.
fn value(flag: &Arg) -> String {
    let text = match (flag.get_action(), flag.get_default_values()) {
        (ArgAction::SetTrue, _) => return "false".to_owned(),
        (ArgAction::Count, _) => return "0".to_owned(),
        (_, [default, ..]) => default.to_string_lossy().into_owned(),
        (_, []) => {
            let named = flag.get_value_names().and_then(|names| Some(names.first()?.to_string()));
            sample(flag.get_id().as_str(), named.as_deref().unwrap_or_default()).to_owned()
        }
    };
    let is_bare = text.parse::<u64>().is_ok() || text.parse::<bool>().is_ok();
    let text = if is_bare { text } else { toml::Value::String(text).to_string() };
    match flag.get_action() {
        ArgAction::Append => format!("[{text}]"),
        _ => text,
    }
}

const RELAY: &str = "/ip4/203.0.113.7/tcp/4001/p2p/12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp";
const PEER: &str = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";
const TICKET: &str = "punchline-ticket:AQEAAQIDBAUGBwgJCgsMDQ4PAAAAAGtJ0grqSmxj4pxSCr71UHsTLsX5lUd2rr6-e5JCHuppFEbSLAZrYXNwYWSEC3k5xEd1wbrjrFkl-F0UFCynOCYfo_eQVaM06eBJdsA4-sqUoLxCgKI0xTdGQVrZ3kW8T2_SnzEYD-K_gWgAAQAxBMsAcQcGD6GlAyYAJAgBEiBMtav2rXn79au8yvzCadhc0mUe1LiFtYafJBrt8KW6KQEACwTGM2QJkQIPoc0D3LpOnQ";

/// An example for a flag, by its id, or by what it calls its value.
fn sample(id: &str, named: &str) -> &'static str {
    match (id, named) {
        ("relay", _) => RELAY,
        ("listen", _) => "/ip4/0.0.0.0/tcp/4001",
        ("addr", _) => "/ip4/198.51.100.20/tcp/4001",
        (_, "true|false") => "true",
        ("external", _) => "/ip4/203.0.113.7/tcp/4001",
        ("namespace", _) => "kaspa-mainnet",
        ("authority", _) => "/etc/punchline/authority",
        ("max", _) => "8",
        ("addresses_file", _) => "/run/punchline/addresses",
        ("file", _) => "/etc/punchline/value",
        ("name", _) => "motd",
        ("namespace_secret", _) => "/etc/punchline/secret",
        ("bootstrap", _) => RELAY,
        ("dns", _) => "peers.example.org",
        ("rendezvous", _) => RELAY,
        ("dht_listen", _) => "/ip4/0.0.0.0/tcp/4002",
        ("dht_external", _) => "/ip4/203.0.113.7/tcp/4002",
        ("stun_listen", _) => "0.0.0.0:3478",
        ("stun_server", _) => "stun.example.org:3478",
        ("deny_net", _) => "198.51.100.0/24",
        ("identity", _) => "/var/lib/punchline/identity",
        ("events", _) => "/var/log/punchline/events.jsonl",
        ("events_max_bytes", _) => "104857600",
        ("control", _) => "/run/punchline/control.sock",
        ("node", _) => "server",
        ("local", _) => "127.0.0.1:26111",
        ("target", _) | ("advertise", _) => "127.0.0.1:16111",
        ("proxy", _) => "http://proxy.example:3128",
        ("service", "NAME=TARGET") => "kaspad=127.0.0.1:16111",
        ("service", _) => "kaspad",
        ("max_connections_per_ip" | "max_reservations_per_ip" | "max_circuits_per_ip", _) => "256",
        (_, "TICKET") => TICKET,
        (_, "ID" | "PEER" | "ID|NAME") => PEER,
        (_, "CIDR") => "10.0.0.0/8",
        (_, "HOSTS") => "localhost,10.0.0.0/8",
        (_, "TIME") => "60s",
        ("page", _) => "127.0.0.1:9465",
        ("mainline_bootstrap", _) => "dht.example.org:6881",
        ("mainline_listen", _) => "0.0.0.0:6881",
        (_, "PORT") => "4001",
        (_, "TEXT") => "text",
        (_, "HOST:PORT" | "IP:PORT") => "127.0.0.1:9464",
        (_, "N") => "16",
        ("tls_cert", _) => "/etc/punchline/fullchain.pem",
        ("tls_key", _) => "/etc/punchline/privkey.pem",
        ("allow_file", _) => "/etc/punchline/peers",
        ("net_file", _) => "/etc/punchline/ranges",
        ("journal", _) => "/tmp/punchline.journal",
        (_, "FILE" | "PATH") => "/etc/punchline/file",
        _ => "",
    }
}

/// Lines that begin with `# `, none wider than the text.
fn comment(text: &str) -> String {
    let mut lines = String::new();
    for paragraph in text.lines() {
        let mut line = String::from("#");
        for word in paragraph.split_whitespace() {
            if line.chars().count() + 1 + word.chars().count() > WIDTH && line != "#" {
                lines += &(line + "\n");
                line = String::from("#");
            }
            line += &format!(" {word}");
        }
        lines += &(line + "\n");
    }
    lines
}

#[cfg(test)]
mod reference;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::{ffi::OsString, io::Write as _};

    use super::*;
    use crate::settings;

    const HASH: &str = "0123456789abcdef0123456789abcdef01234567";

    /// Whether a command takes a file with these lines.
    fn take(command: &str, lines: &[&str]) -> Result<(), String> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(lines.join("\n").as_bytes()).unwrap();
        let path = file.path().to_str().unwrap();
        let needed: &[&str] = match command {
            "client" => &["--peer", PEER],
            "expose" => &["--service", "kaspad=127.0.0.1:16111"],
            "forward" => &["--local", "127.0.0.1:26111"],
            // Of those with all its flags, one each.
            "dht" if lines.iter().any(|line| line.starts_with("salt")) => &["find-value", HASH],
            "dht" => &["announce", HASH],
            "discovery" => match lines.last().and_then(|line| line.split(" = ").next()) {
                Some("file") => &["put"],
                Some("name") => &["get", PEER],
                Some("authority" | "to" | "once") => &["delegate", "--authority", "a", "--to", PEER],
                _ => &["find-peer", PEER],
            },
            "ticket" => &["list"],
            "ping" | "why" => &[PEER],
            "network" => &["nat-status"],
            "completions" => &["bash"],
            "man-pages" => &["."],
            _ => &[],
        };
        let words = ["punchline", "--config", path, command].into_iter().chain(needed.iter().copied());
        let arguments: Vec<OsString> = words.map(OsString::from).collect();
        settings::read(arguments, |_| None)
            .map(drop)
            .map_err(|error| format!("{command} {lines:?}: {error}"))
    }

    fn is_entry(line: &&str) -> bool {
        line.starts_with('#') && !line.starts_with("# ") && line.len() > 1
    }

    #[test]
    fn the_example_changes_nothing_as_it_is_and_is_all_comments() {
        let example = example();
        assert!(example.lines().all(|line| line.is_empty() || line.starts_with('#')), "{example}");
        assert_eq!(example.parse::<toml::Table>().unwrap(), toml::Table::new());
        let widest = example.lines().filter(|line| line.starts_with("# ")).map(str::len).max();
        assert!(widest.unwrap() <= WIDTH + 20, "few words are that long");
    }

    #[test]
    fn every_line_of_the_example_is_accepted_by_its_command_when_it_is_uncommented_alone() {
        let example = example();
        let (mut header, mut command) = (None, "server".to_owned());
        let mut required = Vec::new();
        for line in example.lines().filter(is_entry).map(|line| &line[1..]) {
            if line.starts_with('[') {
                header = Some(line);
                let name = line.trim_matches(['[', ']']).to_owned();
                let is_list = line.starts_with("[[");
                command = if is_list { "run".to_owned() } else { name.clone() };
                required = match (is_list, name.as_str()) {
                    (true, "expose") => vec!["service = \"a\"", "target = \"127.0.0.1:1\""],
                    (true, _) => vec!["local = \"127.0.0.1:1\""],
                    (false, _) => Vec::new(),
                };
            }
            let key = line.split(" = ").next().unwrap_or_default();
            let mut lines: Vec<&str> = header.into_iter().collect();
            lines.extend(required.iter().filter(|line| line.split(" = ").next() != Some(key)));
            if !line.starts_with('[') {
                lines.push(line);
            }
            take(&command, &lines).unwrap();
        }
    }

    #[test]
    fn the_example_has_every_key_of_every_command() {
        let (example, root) = (example(), Cli::command());
        let mut count = 0;
        for command in root.get_subcommands() {
            let table = format!("\n#[{}]\n", command.get_name());
            let own = example.split(&table).nth(1).unwrap_or_default();
            let own = own.split("\n# ----").next().unwrap_or_default();
            for flag in keys(command) {
                let key = format!("\n#{} = ", flag.get_long().unwrap().replace('-', "_"));
                assert!(own.contains(&key), "{} has no {key}", command.get_name());
                count += 1;
            }
        }
        assert!(count > 100, "{count} keys");
    }
}
