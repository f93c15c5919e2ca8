//! `design/kaspad.md`, followed word by word in a lab with two NATs.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use punchline_tests::guide::{Block, Guide, Values, find};
use punchline_tests::kaspad::{self, eventually};
use punchline_tests::lab::{Lab, Namespace};
use punchline_tests::process::{Launch, Program, search_path};
use tempfile::TempDir;

use crate::world::two_nats;

const GUIDE: &str = include_str!("../../../design/kaspad.md");

/// Who follows it, with every terminal that is open.
struct Reader {
    terminals: Vec<(String, Program)>,
    lab: Lab,
    homes: TempDir,
    path: OsString,
    /// What is the same on all machines.
    values: Values,
}

pub(crate) async fn is_followed_word_by_word() -> Result<()> {
    let guide: Guide = GUIDE.parse()?;
    ensure!(guide.blocks.len() == 8, "{} blocks", guide.blocks.len());
    let mut reader = Reader::new()?;
    let began = Instant::now();
    for block in &guide.blocks {
        let at = format!("line {} of design/kaspad.md, on {}", block.line, block.machine);
        let followed = reader.types(block).await;
        followed.with_context(|| at).map_err(|error| reader.explain(&error))?;
    }
    ensure!(began.elapsed() < PROMISED, "it took {:?}", began.elapsed());
    reader.sees_a_far_peer().map_err(|error| reader.explain(&error))
}

impl Reader {
    fn new() -> Result<Self> {
        let (lab, homes) = (two_nats()?, tempfile::tempdir()?);
        let programs = homes.path().join("bin");
        fs::create_dir(&programs)?;
        symlink(kaspad::binary()?, programs.join("kaspad"))?;
        let mut path = programs.into_os_string();
        path.push(":");
        path.push(search_path()?);
        let values = [("public address".to_owned(), lab.relay().address().to_string())].into();
        Ok(Self { terminals: Vec::new(), lab, homes, path, values })
    }

    fn namespace(&self, machine: &str) -> Result<&Namespace> {
        Ok(match machine {
            "relay" => self.lab.relay(),
            "first" => self.lab.host(0),
            "second" => self.lab.host(1),
            _ => anyhow::bail!("there is no machine `{machine}`"),
        })
    }

    fn home(&self, machine: &str) -> PathBuf {
        self.homes.path().join(machine)
    }

    /// Types a block into a terminal of its own, and sees what it prints, or that it comes to its end.
    async fn types(&mut self, block: &Block) -> Result<()> {
        let machine = &block.machine;
        let home = self.home(machine);
        fs::create_dir_all(&home)?;
        let mut known = self.values.clone();
        let flags = format!("--appdir={} {KASPAD_FLAGS}", home.join("kaspad").display());
        known.insert("kaspad's flags".to_owned(), flags);
        let mut terminal = Launch::program(self.namespace(machine)?, "sh")
            .args(["-c", &block.script(&known)?])
            .env("PATH", &self.path)
            .env("HOME", &home)
            .env("XDG_STATE_HOME", home.join("state"))
            .spawn()?;
        let done = match &block.prints {
            None => terminal.wait(DEADLINE).await.map_err(Into::into).and_then(|ended| {
                ensure!(ended.success(), "it ended with {ended}");
                Ok(())
            }),
            Some(pattern) => {
                let look = async || Ok(printed(&terminal, pattern, &self.values));
                let found = eventually(format!("`{pattern}` is printed"), DEADLINE, look).await;
                found.map(|values| self.values = values)
            }
        };
        self.terminals.push((block.script.clone(), terminal));
        done
    }

    /// The first node sees the second one at a loopback address of its own, as the guide says.
    fn sees_a_far_peer(&self) -> Result<()> {
        let first = self.terminals.iter().find(|(script, _)| script.starts_with("kaspad"));
        let (_, first) = first.context("no kaspad was started")?;
        let values = printed(first, "P2P Connected to incoming peer <far> (", &BTreeMap::new());
        let values = values.context("the first node has no peer")?;
        let far = &values["far"];
        ensure!(far.starts_with("127.") && !far.starts_with("127.0.0.1:"), "it is seen at {far}");
        Ok(())
    }

    fn explain(&self, error: &anyhow::Error) -> anyhow::Error {
        let said = self
            .terminals
            .iter()
            .map(|(script, terminal)| format!("--- {script}\n{}", terminal.report()));
        anyhow::anyhow!("{error:#}\n{}", said.collect::<String>())
    }
}

/// What the first line that fits tells.
fn printed(terminal: &Program, pattern: &str, known: &Values) -> Option<Values> {
    let report = terminal.report();
    let lines = report.lines().skip(1).filter(|line| !line.starts_with("  --- "));
    lines.map(str::trim).find_map(|line| find(pattern, line, known))
}

/// On a network without others, and little of the machine that is shared with other tests.
const KASPAD_FLAGS: &str =
    "--simnet --nodnsseed --disable-upnp --nologfiles --yes --async-threads=2 --ram-scale=0.3";

/// For one block, on a machine that runs other tests.
const DEADLINE: Duration = Duration::from_secs(60);

/// What the guide says that it takes, of which typing takes the most.
const PROMISED: Duration = Duration::from_secs(300);
