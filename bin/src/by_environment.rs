//! The small mains: `server` and `client` as programs of their own, which take no arguments.

use std::{ffi::OsString, fmt::Write as _, io::Write as _, process::ExitCode};

use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::{Unusable, last_words, settings};

/// Runs `command` as a program of its own that takes no arguments but `--help`: `LIBP2P_*` and `PUNCHLINE_*` variables say
/// everything. Exit codes as for [`run`](crate::run).
pub fn run_by_environment(command: &str, arguments: Vec<OsString>) -> ExitCode {
    let program = arguments.first().cloned().unwrap_or_else(|| "punchline".into());
    let name = program.to_string_lossy();
    let name = name.rsplit('/').next().unwrap_or_default();
    match arguments.get(1).map(|argument| argument.to_string_lossy()) {
        Some(argument) if matches!(&*argument, "--help" | "-h") => {
            // That nobody reads this is no failure.
            let _ = std::io::stdout().write_all(usage(name, command).as_bytes());
            ExitCode::SUCCESS
        }
        Some(argument) => {
            let unusable = Unusable(format!(
                "unexpected argument `{argument}`: variables alone configure this program, such as \
                 LIBP2P_LISTEN_MULTIADDRS; `{name} --help` lists them; for flags, run: punchline {command}"
            ));
            last_words(&unusable.into(), 2)
        }
        None => crate::run_as(vec![program.clone(), command.into()], &|error| complaint(name, error)),
    }
}

fn usage(name: &str, command: &str) -> String {
    let mut text = format!("{name} is `punchline {command}`, configured by variables alone:\n\n");
    for (variable, flag) in settings::FOREIGN.iter().filter(|(_, flag)| takes(command, flag)) {
        let means = match *flag {
            "listen" => "where to listen; a circuit address means: reserve a place at that relay",
            "relay" => {
                "relays, each ending in /p2p/<its peer id>, or names whose _dnsaddr TXT records say that"
            }
            "peer" => "the id of the peer to dial; needed",
            _ => "where that peer may be reached, besides through the relays",
        };
        // A string takes whatever is written to it.
        let _ = writeln!(text, "  {variable:<26}{means}");
    }
    let _ = write!(
        text,
        "  PUNCHLINE_<FLAG>          any flag of `punchline {command}`, as PUNCHLINE_NETWORK=testnet-10\n\n\
         Lists are separated by commas or semicolons. `punchline {command} --help` says what each flag does.\n"
    );
    text
}

fn takes(command: &str, flag: &str) -> bool {
    command == "client" || !matches!(flag, "peer" | "addr")
}

/// clap speaks of flags, which this program does not take.
fn complaint(name: &str, error: &clap::Error) -> Option<String> {
    if error.kind() != ErrorKind::MissingRequiredArgument {
        return None;
    }
    let Some(ContextValue::Strings(flags)) = error.get(ContextKind::InvalidArg) else { return None };
    let variables: Vec<String> = flags.iter().map(|flag| variable(flag)).collect();
    let verb = if variables.len() == 1 { "is" } else { "are" };
    Some(format!("{} {verb} not set; `{name} --help` says what variables mean", variables.join(" and ")))
}

/// The variable of a flag such as `--peer <ID>`.
fn variable(flag: &str) -> String {
    let id =
        flag.split_whitespace().next().unwrap_or_default().trim_start_matches('-').replace('-', "_");
    let foreign = settings::FOREIGN.iter().find(|(_, flag)| *flag == id);
    foreign.map_or_else(
        || format!("PUNCHLINE_{}", id.to_uppercase()),
        |(variable, _)| (*variable).to_owned(),
    )
}
