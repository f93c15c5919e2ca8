//! Where the shipped programs are: built by cargo, once per test process.

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, OnceLock};

use anyhow::{Context as _, Result};
use serde_json::Value;

/// Why there is no program to test.
#[derive(Clone, Debug, thiserror::Error)]
pub enum BuildError {
    /// Cargo could not be started.
    #[error("cannot run cargo")]
    Start(#[source] Arc<io::Error>),
    /// The programs do not compile; cargo has said why on standard error.
    #[error("cargo build -p punchline ended with {status}")]
    Failed {
        /// How cargo ended.
        status: ExitStatus,
    },
    /// The package has no such program.
    #[error("the package punchline has no program called {name}")]
    Unknown {
        /// The name asked for.
        name: String,
    },
}

/// The executable of the program called `name`, of the package `punchline`, built in the profile
/// of the running tests. The first call builds all of them; whoever has deadlines calls it before.
///
/// # Errors
///
/// If the programs do not build, or there is none of that name.
pub fn binary(name: &str) -> Result<&'static Path, BuildError> {
    static BUILT: OnceLock<Result<BTreeMap<String, PathBuf>, BuildError>> = OnceLock::new();
    let programs = BUILT.get_or_init(build).as_ref().map_err(BuildError::clone)?;
    let found = programs.get(name).map(PathBuf::as_path);
    found.ok_or_else(|| BuildError::Unknown { name: name.to_owned() })
}

/// What `PATH` is to be where people or scripts type `punchline`: the folder of the programs, before what is inherited.
///
/// # Errors
///
/// If the programs do not build.
pub fn search_path() -> Result<OsString> {
    let programs = binary("punchline")?.parent().context("programs are in a folder")?;
    let inherited = env::var_os("PATH").unwrap_or_default();
    Ok(env::join_paths([programs.to_owned()].into_iter().chain(env::split_paths(&inherited)))?)
}

fn build() -> Result<BTreeMap<String, PathBuf>, BuildError> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "-p", "punchline", "--bins", "--message-format=json"]);
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    command.current_dir(env!("CARGO_MANIFEST_DIR"));
    // What cargo tells a test about its own package makes build scripts of others run anew.
    for (name, _) in env::vars_os() {
        let told = name.to_str().is_some_and(|name| {
            name == "OUT_DIR"
                || name.starts_with("CARGO_") && !matches!(name, "CARGO_HOME" | "CARGO_TARGET_DIR")
        });
        if told {
            command.env_remove(name);
        }
    }
    let output =
        command.stderr(Stdio::inherit()).output().map_err(|error| BuildError::Start(Arc::new(error)))?;
    if !output.status.success() {
        return Err(BuildError::Failed { status: output.status });
    }
    Ok(executables(&String::from_utf8_lossy(&output.stdout)))
}

/// Names and paths of the executables in cargo's messages, one JSON object a line.
fn executables(messages: &str) -> BTreeMap<String, PathBuf> {
    let executable = |message: Value| {
        let name = message.pointer("/target/name")?.as_str()?.to_owned();
        let path = PathBuf::from(message.get("executable")?.as_str()?);
        Some((name, path))
    };
    let messages = messages.lines().filter_map(|line| serde_json::from_str(line).ok());
    messages.filter_map(executable).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_messages_with_an_executable_name_a_program() {
        let messages = r#"{"reason":"compiler-artifact","target":{"name":"libc"},"executable":null}
{"reason":"compiler-artifact","target":{"name":"punchline"},"executable":"/target/debug/punchline"}
{"reason":"build-finished","success":true}
"#;
        let found = executables(messages);
        assert_eq!(found.len(), 1);
        assert_eq!(found["punchline"], Path::new("/target/debug/punchline"));
    }
}
