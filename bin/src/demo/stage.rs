//! The demo's processes: this same program, three times, each with its own identity.

use std::{
    collections::VecDeque,
    fmt,
    path::PathBuf,
    process::{ExitStatus, Stdio},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, AsyncWriteExt as _, BufReader},
    process::{Child, ChildStdin, Command},
    sync::mpsc,
};

use crate::{identity, rehearsal::Cue, stop::DRAIN_DEADLINE};

/// Events of all processes that wait for the story; a process that says more waits itself.
const EVENTS_MAX: usize = 1024;

/// Lines of a process's log that are kept for the case that something goes wrong.
const COMPLAINTS_MAX: usize = 5;

/// Beyond what a process may take to drain.
const EXIT_DEADLINE: Duration = DRAIN_DEADLINE.saturating_add(Duration::from_millis(500));

/// Who is on stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Actor {
    Relay,
    Server,
    Client,
    /// The demo itself, which tells the others what to do.
    Demo,
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Relay => "relay",
            Self::Server => "server",
            Self::Client => "client",
            Self::Demo => "demo",
        })
    }
}

/// One event of one process.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) actor: Actor,
    /// Since the demo began.
    pub(super) at: Duration,
    pub(super) event: Value,
}

/// The name of the event by which the demo says that it told somebody something.
const CUE: &str = "cue";

/// The demo tells the others to stop.
const CURTAIN: &str = "stop";

impl Seen {
    pub(super) fn is(&self, actor: Actor, name: &str) -> bool {
        self.actor == actor && self.name() == name
    }

    /// The demo gave this cue.
    pub(super) fn is_cue(&self, cue: Cue) -> bool {
        self.is(Actor::Demo, CUE) && self.text(CUE) == cue.line()
    }

    /// The demo told the others to stop.
    pub(super) fn is_curtain(&self) -> bool {
        self.is(Actor::Demo, CUE) && self.text(CUE) == CURTAIN
    }

    pub(super) fn name(&self) -> &str {
        self.text("event")
    }

    pub(super) fn text(&self, field: &str) -> &str {
        self.event.get(field).and_then(Value::as_str).unwrap_or_default()
    }

    pub(super) fn number(&self, field: &str) -> u64 {
        self.event.get(field).and_then(Value::as_u64).unwrap_or_default()
    }

    pub(super) fn float(&self, field: &str) -> f64 {
        self.event.get(field).and_then(Value::as_f64).unwrap_or_default()
    }
}

enum Heard {
    Event(Seen),
    Silence(Actor),
    Complaint(Actor, String),
}

pub(super) struct Stage {
    directory: tempfile::TempDir,
    program: PathBuf,
    began: Instant,
    running: Vec<(Actor, Child)>,
    told: Vec<(Actor, ChildStdin)>,
    heard: (mpsc::Sender<Heard>, mpsc::Receiver<Heard>),
    silent: Vec<Actor>,
    last: VecDeque<Seen>,
    complaints: VecDeque<String>,
}

/// Whether an inherited variable would change what a process of ours does.
fn configures_us(name: &str) -> bool {
    let ours = ["PUNCHLINE_", "LIBP2P_", "KASPAD_LIBP2P_", "NOTIFY_SOCKET", "WATCHDOG_"];
    ours.iter().any(|prefix| name.starts_with(prefix))
}

impl Stage {
    pub(super) fn new() -> anyhow::Result<Self> {
        Ok(Self {
            directory: tempfile::tempdir().context("no temporary directory for identities")?,
            program: std::env::current_exe().context("cannot find this program's own file")?,
            began: Instant::now(),
            running: Vec::new(),
            told: Vec::new(),
            heard: mpsc::channel(EVENTS_MAX),
            silent: Vec::new(),
            last: VecDeque::new(),
            complaints: VecDeque::new(),
        })
    }

    /// Starts a process; returns its peer id.
    pub(super) fn spawn(&mut self, actor: Actor, arguments: &[&str]) -> anyhow::Result<String> {
        let identity = self.directory.path().join(actor.to_string());
        let peer = identity::load_or_create(&identity)?.public().to_peer_id();
        let mut command = Command::new(&self.program);
        command.arg(actor.to_string()).args(["--listen", "/ip4/127.0.0.1/tcp/0"]);
        command.args(["--assume-global", "127.0.0.0/8", "--events", "-"]);
        command.arg("--identity").arg(identity).args(arguments);
        if actor != Actor::Relay {
            command.args(["--network", "simnet", "--rehearse"]);
        }
        // The operator's own settings are not part of the story.
        for (name, _) in std::env::vars_os().filter(|(name, _)| configures_us(&name.to_string_lossy())) {
            command.env_remove(name);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().with_context(|| format!("cannot run the {actor}"))?;
        if let (Some(events), Some(log)) = (child.stdout.take(), child.stderr.take()) {
            tokio::spawn(listen(actor, self.began, events, self.heard.0.clone()));
            tokio::spawn(overhear(actor, log, self.heard.0.clone()));
        }
        self.told.extend(child.stdin.take().map(|told| (actor, told)));
        self.running.push((actor, child));
        Ok(peer.to_string())
    }

    /// Tells the `actors` to do something; what the story is to know of it.
    pub(super) async fn cue(&mut self, actors: &[Actor], cue: Cue) -> anyhow::Result<Seen> {
        let line = format!("{}\n", cue.line());
        for (actor, told) in self.told.iter_mut().filter(|(actor, _)| actors.contains(actor)) {
            let sent = told.write_all(line.as_bytes()).await;
            sent.with_context(|| format!("the {actor} does not listen any more"))?;
        }
        Ok(self.say(cue.line()))
    }

    /// The demo is about to tell everybody to stop.
    pub(super) fn curtain(&self) -> Seen {
        self.say(CURTAIN)
    }

    fn say(&self, cue: &str) -> Seen {
        let event = json!({ "event": CUE, "cue": cue });
        Seen { actor: Actor::Demo, at: self.began.elapsed(), event }
    }

    /// The next event of any process.
    pub(super) async fn next(&mut self) -> anyhow::Result<Seen> {
        loop {
            match self.heard.1.recv().await {
                Some(Heard::Event(seen)) => return Ok(seen),
                Some(Heard::Complaint(actor, line)) => self.keep(actor, line),
                Some(Heard::Silence(actor)) => anyhow::bail!("the {actor} ended on its own"),
                None => anyhow::bail!("every process ended on its own"),
            }
        }
    }

    /// Ends a process in order and collects its last words.
    pub(super) async fn terminate(&mut self, actor: Actor) -> anyhow::Result<ExitStatus> {
        let at = self.running.iter().position(|(other, _)| *other == actor);
        let (_, mut child) = self.running.swap_remove(at.context("it is not running")?);
        if let Some(pid) = child.id() {
            let pid = rustix::process::Pid::from_raw(pid as i32).context("it has ended already")?;
            rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        }
        let ended = async {
            while !self.silent.contains(&actor) {
                match self.heard.1.recv().await {
                    Some(Heard::Event(seen)) => self.last.push_back(seen),
                    Some(Heard::Silence(other)) => self.silent.push(other),
                    Some(Heard::Complaint(actor, line)) => self.keep(actor, line),
                    None => break,
                }
            }
            child.wait().await
        };
        let status = tokio::time::timeout(EXIT_DEADLINE, ended).await;
        Ok(status.with_context(|| format!("the {actor} did not end within 5 s of SIGTERM"))??)
    }

    /// What was said while a process ended.
    pub(super) fn seen_last(&mut self) -> Option<Seen> {
        self.last.pop_front()
    }

    pub(super) async fn kill(&mut self) {
        for (_, child) in &mut self.running {
            let _ = child.kill().await;
        }
        while let Ok(heard) = self.heard.1.try_recv() {
            if let Heard::Complaint(actor, line) = heard {
                self.keep(actor, line);
            }
        }
    }

    /// The last warnings of the processes, for an error message.
    pub(super) fn complaints(&self) -> String {
        if self.complaints.is_empty() {
            return "the demo failed".to_owned();
        }
        let lines: Vec<&str> = self.complaints.iter().map(String::as_str).collect();
        format!("the demo failed; last heard: {}", lines.join(" | "))
    }

    fn keep(&mut self, actor: Actor, line: String) {
        if self.complaints.len() == COMPLAINTS_MAX {
            self.complaints.pop_front();
        }
        self.complaints.push_back(format!("{actor}: {line}"));
    }
}

async fn listen(actor: Actor, began: Instant, events: impl AsyncRead + Unpin, to: mpsc::Sender<Heard>) {
    let mut lines = BufReader::new(events).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let Ok(event) = serde_json::from_str(&line) else { continue };
        let seen = Seen { actor, at: began.elapsed(), event };
        if to.send(Heard::Event(seen)).await.is_err() {
            return;
        }
    }
    let _ = to.send(Heard::Silence(actor)).await;
}

async fn overhear(actor: Actor, log: impl AsyncRead + Unpin, to: mpsc::Sender<Heard>) {
    let mut lines = BufReader::new(log).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let grave = ["WARN", "ERROR", "error:", "panicked"].iter().any(|mark| line.contains(mark));
        if grave && to.send(Heard::Complaint(actor, line)).await.is_err() {
            return;
        }
    }
}
