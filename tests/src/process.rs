//! Real processes under test: started on the host or in the lab, watched by their events.
//!
//! [`Launch`] says what to start and where, [`Program`] is what runs, [`Event`] what it reports.
//! Nothing here sleeps: a test waits for an event, or for an exit, within a deadline, and an error
//! carries everything that the program printed.

use std::ffi::{OsStr, OsString};
use std::io;
use std::process::{Command, ExitStatus, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::process::Child;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::lab::Namespace;

mod binaries;
mod event;

pub use binaries::{BuildError, binary, search_path};
pub use event::{EVENTS_MAX, Event, LINES_MAX, Mark};

use event::Log;

/// Where a program runs.
#[derive(Clone, Copy, Debug)]
pub enum Place<'lab> {
    /// On this machine, in the namespace of the test.
    Host,
    /// On a machine of a lab.
    Lab(&'lab Namespace),
}

impl<'lab> From<&'lab Namespace> for Place<'lab> {
    fn from(namespace: &'lab Namespace) -> Self {
        Self::Lab(namespace)
    }
}

/// A program that is to be started.
#[derive(Debug)]
pub struct Launch {
    label: String,
    command: Command,
}

impl Launch {
    /// `punchline SUBCOMMAND --events -`.
    ///
    /// # Errors
    ///
    /// If the programs do not build.
    pub fn punchline<'lab>(
        place: impl Into<Place<'lab>>,
        subcommand: &str,
    ) -> Result<Self, ProgramError> {
        let launch = Self::program(place, binary("punchline")?);
        let launch = launch.args([subcommand, "--events", "-"]);
        Ok(Self { label: format!("punchline {subcommand}"), ..launch })
    }

    /// One of the small mains, which read only the environment: `PUNCHLINE_EVENTS=-`.
    ///
    /// # Errors
    ///
    /// If the programs do not build, or there is none of that name.
    pub fn main<'lab>(place: impl Into<Place<'lab>>, name: &str) -> Result<Self, ProgramError> {
        let launch = Self::program(place, binary(name)?);
        Ok(launch.env("PUNCHLINE_EVENTS", "-"))
    }

    /// Any other program. It gets the environment of the test, less what configures ours. On this host it says nothing on
    /// the networks that it is on, and hears nothing: they are somebody's.
    pub fn program<'lab>(place: impl Into<Place<'lab>>, path: impl AsRef<OsStr>) -> Self {
        let label = path.as_ref().to_string_lossy().into_owned();
        let place = place.into();
        let on_this_host = matches!(place, Place::Host);
        let mut command = match place {
            Place::Host => Command::new(path),
            Place::Lab(namespace) => namespace.command(path),
        };
        for (name, _) in std::env::vars_os().filter(|(name, _)| configures_us(name)) {
            command.env_remove(name);
        }
        // Labs are for root.
        command.env("PUNCHLINE_ALLOW_ROOT", "true");
        if on_this_host {
            command.env("PUNCHLINE_MDNS", "off");
        }
        Self { label, command }
    }

    /// Adds arguments.
    pub fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.command.args(args);
        self
    }

    /// Adds a variable to the program's environment.
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Starts the program. Must be called on a tokio runtime, which then reads what it prints.
    ///
    /// # Errors
    ///
    /// If the operating system cannot start it.
    pub fn spawn(mut self) -> Result<Program, ProgramError> {
        let label = self.label;
        self.command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut command = tokio::process::Command::from(self.command);
        let started = command.kill_on_drop(true).spawn();
        let mut child =
            started.map_err(|source| ProgramError::Start { label: label.clone(), source })?;
        let log = Arc::new(watch::Sender::new(Log::default()));
        if let Some(stdout) = child.stdout.take() {
            let log = Arc::clone(&log);
            tokio::spawn(async move {
                read_lines(stdout, |line| log.send_modify(|log| log.push_stdout(line))).await;
                log.send_modify(Log::end);
            });
        }
        if let Some(stderr) = child.stderr.take() {
            let log = Arc::clone(&log);
            tokio::spawn(async move {
                read_lines(stderr, |line| log.send_modify(|log| log.push_stderr(line))).await;
            });
        }
        Ok(Program { label, child, log })
    }

    /// Runs the program to its end, for one that prints an answer rather than events.
    ///
    /// # Errors
    ///
    /// If it cannot be started, or has not ended within `deadline`, which kills it.
    pub async fn output(self, deadline: Duration) -> Result<Output, ProgramError> {
        let label = self.label;
        let mut command = tokio::process::Command::from(self.command);
        let running = command.stdin(Stdio::null()).kill_on_drop(true).output();
        match timeout(deadline, running).await {
            Ok(ended) => ended.map_err(|source| ProgramError::Start { label, source }),
            Err(_) => Err(ProgramError::StillRunning { label, deadline, report: String::new() }),
        }
    }
}

/// A running program.
///
/// # Drop
///
/// Kills it.
#[derive(Debug)]
pub struct Program {
    label: String,
    child: Child,
    log: Arc<watch::Sender<Log>>,
}

impl Program {
    /// Starts `punchline SUBCOMMAND --events - ARGS…`.
    ///
    /// # Errors
    ///
    /// If the programs do not build or start.
    pub fn spawn<'lab>(
        place: impl Into<Place<'lab>>,
        subcommand: &str,
        args: impl IntoIterator<Item = impl AsRef<OsStr>>,
    ) -> Result<Self, ProgramError> {
        Launch::punchline(place, subcommand)?.args(args).spawn()
    }

    /// The first event called `name` that `matches`, already seen or to come.
    ///
    /// # Errors
    ///
    /// If there is none within `deadline`, or there will be none, because the program ended or
    /// printed more than [`EVENTS_MAX`] events.
    pub async fn wait_for(
        &self,
        name: &str,
        matches: impl Fn(&Event) -> bool,
        deadline: Duration,
    ) -> Result<Event, ProgramError> {
        self.wait_for_after(Mark::default(), name, matches, deadline).await
    }

    /// Like [`Program::wait_for`], blind to what was printed before `mark`.
    ///
    /// # Errors
    ///
    /// As for [`Program::wait_for`].
    pub async fn wait_for_after(
        &self,
        mark: Mark,
        name: &str,
        matches: impl Fn(&Event) -> bool,
        deadline: Duration,
    ) -> Result<Event, ProgramError> {
        let mut log = self.log.subscribe();
        let decided = |log: &Log| {
            log.has_ended() || log.has_overflowed() || log.find(mark, name, &matches).is_some()
        };
        let waited = timeout(deadline, log.wait_for(decided)).await.is_ok();
        let log = self.log.borrow();
        if let Some(event) = log.find(mark, name, &matches) {
            return Ok(event.clone());
        }
        let (label, event, report) = (self.label.clone(), name.to_owned(), log.report());
        Err(match waited {
            false => ProgramError::Deadline { label, event, deadline, report },
            true if log.has_overflowed() => ProgramError::TooManyEvents { label, event, report },
            true => ProgramError::Ended { label, event, report },
        })
    }

    /// Waits until the program has printed `text`, in an event or beside them; also what comes after its end.
    ///
    /// # Errors
    ///
    /// If it has not within `deadline`.
    pub async fn wait_for_text(&self, text: &str, deadline: Duration) -> Result<(), ProgramError> {
        let mut log = self.log.subscribe();
        let printed = log.wait_for(|log| log.report().contains(text));
        if timeout(deadline, printed).await.is_ok_and(|printed| printed.is_ok()) {
            return Ok(());
        }
        let (label, report) = (self.label.clone(), self.log.borrow().report());
        Err(ProgramError::Deadline { label, event: text.to_owned(), deadline, report })
    }

    /// A mark after what was printed so far.
    pub fn mark(&self) -> Mark {
        self.log.borrow().mark()
    }

    /// The events so far.
    pub fn events(&self) -> Vec<Event> {
        self.log.borrow().events().to_vec()
    }

    /// Its process id; none once it was waited for.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// All that the program printed so far, for a person.
    pub fn report(&self) -> String {
        format!("{}:\n{}", self.label, self.log.borrow().report())
    }

    /// Asks the program to stop (SIGTERM) and waits for its exit, and for its last events.
    ///
    /// # Errors
    ///
    /// If it has not ended within `deadline`; it then runs on.
    pub async fn terminate(&mut self, deadline: Duration) -> Result<ExitStatus, ProgramError> {
        self.signal(Signal::TERM)?;
        self.wait(deadline).await
    }

    /// Kills the program (SIGKILL) and waits until it is gone.
    ///
    /// # Errors
    ///
    /// If it has ended before, or is not gone within 10 s.
    pub async fn kill(&mut self) -> Result<(), ProgramError> {
        self.signal(Signal::KILL)?;
        self.wait(KILL_DEADLINE).await.map(drop)
    }

    /// Halts the program (SIGSTOP): it keeps its sockets and says nothing any more.
    ///
    /// # Errors
    ///
    /// If it has ended before.
    pub fn halt(&self) -> Result<(), ProgramError> {
        self.signal(Signal::STOP)
    }

    /// Has a halted program go on (SIGCONT).
    ///
    /// # Errors
    ///
    /// If it has ended before.
    pub fn resume(&self) -> Result<(), ProgramError> {
        self.signal(Signal::CONT)
    }

    /// Tells the program that its terminal is gone or that files are to be read again (SIGHUP).
    ///
    /// # Errors
    ///
    /// If it has ended before.
    pub fn hang_up(&self) -> Result<(), ProgramError> {
        self.signal(Signal::HUP)
    }

    /// Waits for the program to end of its own accord, and for its last events.
    ///
    /// # Errors
    ///
    /// If it has not ended within `deadline`; it then runs on.
    pub async fn wait(&mut self, deadline: Duration) -> Result<ExitStatus, ProgramError> {
        let mut log = self.log.subscribe();
        let ended = async {
            let status = self.child.wait().await;
            let _ = log.wait_for(Log::has_ended).await;
            status
        };
        let Ok(status) = timeout(deadline, ended).await else {
            let (label, report) = (self.label.clone(), self.log.borrow().report());
            return Err(ProgramError::StillRunning { label, deadline, report });
        };
        status.map_err(|source| ProgramError::Start { label: self.label.clone(), source })
    }

    fn signal(&self, signal: Signal) -> Result<(), ProgramError> {
        let pid = self.child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        let gone =
            || ProgramError::Gone { label: self.label.clone(), report: self.log.borrow().report() };
        kill_process(pid.ok_or_else(gone)?, signal).map_err(|_| gone())
    }
}

/// Why a program under test did not do what was waited for. Every text ends with all the program
/// printed.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// There is no program.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The operating system could not start it, or lost track of it.
    #[error("cannot run {label}")]
    Start {
        /// Which program.
        label: String,
        /// What the operating system said.
        source: io::Error,
    },
    /// The event did not come in time.
    #[error("{label}: no {event} within {deadline:?}\n{report}")]
    Deadline {
        /// Which program.
        label: String,
        /// The event waited for.
        event: String,
        /// How long.
        deadline: Duration,
        /// What it printed.
        report: String,
    },
    /// The program ended without the event.
    #[error("{label}: ended without {event}\n{report}")]
    Ended {
        /// Which program.
        label: String,
        /// The event waited for.
        event: String,
        /// What it printed.
        report: String,
    },
    /// The program printed more events than are kept.
    #[error("{label}: more than {EVENTS_MAX} events, and no {event} among them\n{report}")]
    TooManyEvents {
        /// Which program.
        label: String,
        /// The event waited for.
        event: String,
        /// What it printed.
        report: String,
    },
    /// The program did not end in time.
    #[error("{label}: still running after {deadline:?}\n{report}")]
    StillRunning {
        /// Which program.
        label: String,
        /// How long it was waited for.
        deadline: Duration,
        /// What it printed.
        report: String,
    },
    /// A signal was meant for a program that had ended.
    #[error("{label}: has ended before\n{report}")]
    Gone {
        /// Which program.
        label: String,
        /// What it printed.
        report: String,
    },
}

async fn read_lines(output: impl AsyncRead + Unpin, mut each: impl FnMut(&str)) {
    let mut output = BufReader::new(output);
    let mut line = Vec::new();
    while let Ok(1..) = (&mut output).take(LINE_BYTES_MAX).read_until(b'\n', &mut line).await {
        each(String::from_utf8_lossy(&line).trim_end());
        line.clear();
    }
}

/// Whether an inherited variable would change what our programs do.
fn configures_us(name: &OsString) -> bool {
    let name = name.to_string_lossy();
    ["PUNCHLINE_", "LIBP2P_", "KASPAD_LIBP2P_", "NOTIFY_SOCKET", "WATCHDOG_"]
        .iter()
        .any(|prefix| name.starts_with(prefix))
}

/// The longest line read in one piece; a longer one is split, and so is no event.
const LINE_BYTES_MAX: u64 = 64 * 1024;

/// A killed process is gone at once; only a machine that hangs takes this long.
const KILL_DEADLINE: Duration = Duration::from_secs(10);
