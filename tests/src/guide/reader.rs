//! Whoever follows a guide, in a lab: with a terminal for each block, on the relay's machine or behind a NAT.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use tempfile::TempDir;

use super::{Block, Guide, Values, find};
use crate::kaspad::eventually;
use crate::lab::{Lab, Namespace};
use crate::process::{Launch, Program, search_path};

/// Whoever follows a guide, with every terminal that is open.
///
/// # Drop
///
/// Kills what runs in them.
#[derive(Debug)]
pub struct Reader {
    terminals: Vec<(Block, Program)>,
    lab: Lab,
    /// What the guide calls the hosts of the lab, in their order.
    hosts: Vec<String>,
    homes: TempDir,
    path: OsString,
    /// What is the same on all machines.
    values: Values,
    /// What is another on each.
    own: BTreeMap<String, Values>,
}

impl Reader {
    /// In `lab`, whose relay is called `relay` and whose hosts are called so; with a home on each, and our programs in the
    /// `PATH`. It knows the relay's `<public address>`.
    ///
    /// # Errors
    ///
    /// If the programs do not build, or there is no room for the homes.
    pub fn new(lab: Lab, hosts: &[&str]) -> Result<Self> {
        let homes = tempfile::tempdir()?;
        let hosts: Vec<_> = hosts.iter().map(|&host| host.to_owned()).collect();
        let programs = homes.path().join("bin");
        fs::create_dir(&programs)?;
        for machine in hosts.iter().map(String::as_str).chain([RELAY]) {
            fs::create_dir(homes.path().join(machine))?;
        }
        let mut path = programs.into_os_string();
        path.push(":");
        path.push(search_path()?);
        let values = [("public address".to_owned(), lab.relay().address().to_string())].into();
        let (terminals, own) = (Vec::new(), BTreeMap::new());
        Ok(Self { terminals, lab, hosts, homes, path, values, own })
    }

    /// One more program in the `PATH`.
    ///
    /// # Errors
    ///
    /// If there is one of that name.
    pub fn has(&self, name: &str, program: &Path) -> Result<()> {
        Ok(symlink(program, self.homes.path().join("bin").join(name))?)
    }

    /// What `<name>` is on `machine`.
    pub fn knows(&mut self, machine: &str, name: &str, value: String) {
        self.own.entry(machine.to_owned()).or_default().insert(name.to_owned(), value);
    }

    /// Where `machine` keeps its files.
    pub fn home(&self, machine: &str) -> PathBuf {
        self.homes.path().join(machine)
    }

    /// Types each block, and sees what it prints or that it comes to its end.
    ///
    /// # Errors
    ///
    /// At the first one where that is not so within [`BLOCK_DEADLINE`], with all that was printed up to then.
    pub async fn follows(&mut self, guide: &Guide) -> Result<()> {
        for block in &guide.blocks {
            let typed = self.types(block).await;
            typed.with_context(|| format!("line {}, on {}", block.line, block.machine)).map_err(
                |error| {
                    let said = self.terminals.iter().map(|(block, terminal)| {
                        format!("--- {}: {}\n{}", block.machine, block.script, terminal.report())
                    });
                    anyhow!("{error:#}\n{}", said.collect::<String>())
                },
            )?;
        }
        Ok(())
    }

    /// What a line of a terminal tells where the first block was typed that begins so.
    pub fn saw(&self, script: &str, pattern: &str) -> Option<Values> {
        let mut terminals = self.terminals.iter();
        let (_, terminal) = terminals.find(|(block, _)| block.script.starts_with(script))?;
        printed(terminal, pattern, &self.values)
    }

    async fn types(&mut self, block: &Block) -> Result<()> {
        let mut known = self.values.clone();
        known.extend(self.own.get(&block.machine).cloned().unwrap_or_default());
        let home = self.home(&block.machine);
        let mut terminal = Launch::program(self.namespace(&block.machine)?, "sh")
            .args(["-c", &block.script(&known)?])
            .env("PATH", &self.path)
            .env("HOME", &home)
            .env("XDG_STATE_HOME", home.join("state"))
            .spawn()?;
        let done = match &block.prints {
            None => match terminal.wait(BLOCK_DEADLINE).await {
                Ok(ended) if !ended.success() => Err(anyhow!("it ended with {ended}")),
                ended => ended.map(drop).map_err(Into::into),
            },
            Some(pattern) => {
                let look = async || Ok(printed(&terminal, pattern, &self.values));
                let found = eventually(format!("`{pattern}` is printed"), BLOCK_DEADLINE, look).await;
                found.map(|values| self.values = values)
            }
        };
        self.terminals.push((block.clone(), terminal));
        done
    }

    fn namespace(&self, machine: &str) -> Result<&Namespace> {
        if machine == RELAY {
            return Ok(self.lab.relay());
        }
        let host = self.hosts.iter().position(|host| host == machine);
        let host = host.with_context(|| format!("there is no machine `{machine}`"))?;
        ensure!(host < self.lab.hosts(), "the lab has no host for `{machine}`");
        Ok(self.lab.host(host))
    }
}

/// What the first line that fits tells.
fn printed(terminal: &Program, pattern: &str, known: &Values) -> Option<Values> {
    let report = terminal.report();
    // Its first line names the program, and each part has a heading.
    let lines = report.lines().skip(1).filter(|line| !line.starts_with("  --- "));
    lines.map(str::trim).find_map(|line| find(pattern, line, known))
}

/// What guides call the machine with a public address.
const RELAY: &str = "relay";

/// For one block, on a machine that runs other tests.
pub const BLOCK_DEADLINE: Duration = Duration::from_secs(60);
