//! Running the machine's own tools (`ip`, `nft`, `conntrack`), and what can go wrong with that.

use std::io::{self, Write};
use std::process::{Command, ExitStatus, Stdio};

use serde_json::Value;

use super::{CARRIERS_MAX, Nat, ROUTERS_MAX};

/// Why a lab could not be built, measured or changed.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// More routers than a lab can have.
    #[error("{asked} routers asked for, at most {ROUTERS_MAX} fit, and {CARRIERS_MAX} carriers")]
    TooManyRouters {
        /// The number in the spec.
        asked: usize,
    },
    /// Behind a carrier's NAT there are private addresses alone.
    #[error(
        "a router of kind `{nat}`, whose hosts have global addresses, cannot be behind a carrier, nor be one"
    )]
    GlobalBehindCarrier {
        /// Its kind.
        nat: Nat,
    },
    /// A router is to be behind a carrier that is not there.
    #[error("there is no carrier {carrier} for a router to be behind")]
    NoSuchCarrier {
        /// Its index.
        carrier: usize,
    },
    /// A host is to have a network card for a network that is not there, or that it is at home in.
    #[error("host {host} cannot be a guest of router {router}")]
    NoUplink {
        /// The index of the host.
        host: usize,
        /// The index of the router.
        router: usize,
    },
    /// A NAT that translates was to take the place of one that does not, or the other way round.
    #[error("hosts keep their addresses while a lab runs, and those do not fit a NAT of kind `{nat}`")]
    OtherAddresses {
        /// The kind that does not fit.
        nat: Nat,
    },
    /// A tool could not be started or spoken to.
    #[error("cannot run {command}")]
    Start {
        /// The command line.
        command: String,
        /// What the operating system said.
        source: io::Error,
    },
    /// A tool ran and failed.
    #[error("{command} ended with {status}: {stderr}")]
    Failed {
        /// The command line.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// What it said.
        stderr: String,
    },
    /// A tool's answer is not what the lab understands.
    #[error("{command} gave an unusable answer: {problem}")]
    Answer {
        /// The command line.
        command: String,
        /// What is wrong with the answer.
        problem: String,
    },
    /// A thread could not enter a namespace.
    #[error("cannot enter namespace {namespace}")]
    Enter {
        /// The namespace's name.
        namespace: String,
        /// What the operating system said.
        source: io::Error,
    },
    /// A link that delays packets could not be made.
    #[error("cannot make the link {link} in namespace {namespace}")]
    Link {
        /// The namespace's name.
        namespace: String,
        /// The name of the link in it.
        link: String,
        /// What the operating system said.
        source: io::Error,
    },
    /// A kernel setting could not be written in a namespace.
    #[error("cannot set net/{key} in namespace {namespace}")]
    Sysctl {
        /// The namespace's name.
        namespace: String,
        /// The setting, below `/proc/sys/net`.
        key: String,
        /// What the operating system said.
        source: io::Error,
    },
}

impl LabError {
    pub(super) fn answer(command: &Command, problem: impl ToString) -> Self {
        let (command, problem) = (line(command), problem.to_string());
        Self::Answer { command, problem }
    }
}

/// The `ip` tool, outside of any namespace.
pub(super) fn ip() -> Command {
    Command::new("ip")
}

/// Runs `command` to its end, feeding it `input`; returns its standard output.
pub(super) fn run(command: &mut Command, input: Option<&str>) -> Result<String, LabError> {
    let line = line(command);
    let start = |source| LabError::Start { command: line.clone(), source };
    let stdin = if input.is_some() { Stdio::piped() } else { Stdio::null() };
    command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(start)?;
    // A tool that ends early breaks the pipe; its exit status then says more than the pipe does.
    let written = match (child.stdin.take(), input) {
        (Some(mut stdin), Some(input)) => stdin.write_all(input.as_bytes()),
        _ => Ok(()),
    };
    let output = child.wait_with_output().map_err(start)?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(LabError::Failed { command: line, status: output.status, stderr });
    }
    written.map_err(start)?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs `command` and reads its standard output as JSON.
pub(super) fn json(command: &mut Command) -> Result<Value, LabError> {
    let answer = run(command, None)?;
    serde_json::from_str(&answer).map_err(|problem| LabError::answer(command, problem))
}

fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_failed_tool_is_quoted() {
        let failed = run(Command::new("sh").args(["-c", "echo no >&2; exit 3"]), None);
        let said = failed.unwrap_err().to_string();
        assert!(said.contains("exit 3") && said.ends_with("no"), "{said}");
    }

    #[test]
    fn a_tool_reads_its_input_to_the_end() {
        assert_eq!(run(&mut Command::new("cat"), Some("all of it")).unwrap(), "all of it");
    }

    #[test]
    fn an_answer_that_is_not_json_is_an_error() {
        let answer = json(Command::new("echo").arg("{"));
        assert!(matches!(answer, Err(LabError::Answer { .. })));
    }
}
