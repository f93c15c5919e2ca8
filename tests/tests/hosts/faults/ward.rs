//! A lab with a node that may ask, and the comparison of what it is told with the document.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use punchline_tests::lab::{self, Lab, LabSpec};
use punchline_tests::process::{Event, Launch, Place, Program, binary};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpSocket;
use tokio::time::{interval, timeout};

use crate::world::{SOON, World, listening};

/// The doctor promises 10 s; a busy machine takes longer to start it.
const DOCTOR: Duration = Duration::from_secs(25);

/// The service that the peer exposes. Nobody answers at its target.
pub(super) const WEB: &str = "web";

const DOCUMENT: &str = include_str!("../../../../design/doctor.md");

/// Who is who.
pub(super) struct Ids {
    pub(super) relay: String,
    /// Behind router 0: it forwards, and is asked.
    pub(super) me: String,
    /// Behind router 1: it exposes.
    pub(super) peer: String,
}

pub(super) struct Ward {
    pub(super) world: World,
    pub(super) lab: Lab,
    pub(super) ids: Ids,
    /// The addresses of the relay that nodes are given.
    pub(super) relays: Vec<String>,
    /// How far the hosts' clocks are off.
    pub(super) clock: Option<&'static str>,
    /// How many files the doctor may open.
    pub(super) open_files: Option<u32>,
}

impl Ward {
    pub(super) async fn new(spec: &LabSpec) -> Result<Self> {
        let world = World::new()?;
        let ids = Ids {
            relay: world.peer_id("relay").await?,
            me: world.peer_id("me").await?,
            peer: world.peer_id("peer").await?,
        };
        world.peer_id("own").await?;
        let lab = Lab::build(spec)?;
        let ip = lab.relay().address();
        let relays = ["tcp/4001", "udp/4001/quic-v1"]
            .map(|suffix| format!("/ip4/{ip}/{suffix}/p2p/{}", ids.relay))
            .to_vec();
        Ok(Self { world, lab, ids, relays, clock: None, open_files: None })
    }

    /// Which listens over TCP and QUIC, and with each family.
    pub(super) async fn relay(&self) -> Result<Program> {
        let machine = self.lab.relay();
        let mut hosts = vec![format!("/ip4/{}", machine.address())];
        hosts.extend(machine.address_v6().map(|ip| format!("/ip6/{ip}")));
        let mut launch = self.world.launch(machine, "relay", "relay")?;
        for host in &hosts {
            for suffix in ["tcp/4001", "udp/4001/quic-v1"] {
                let address = format!("{host}/{suffix}");
                launch = launch.args(["--listen", &address, "--external", &address]);
            }
        }
        let relay = launch.spawn()?;
        listening(&relay, &format!("{}/udp/", hosts[0])).await?;
        Ok(relay)
    }

    /// The peer, with a place at the relay.
    pub(super) async fn expose(&self, access: &[&str]) -> Result<Program> {
        let launch = self.on_time(self.world.launch(self.lab.host(1), "expose", "peer")?);
        let launch = launch.args(["--service", &format!("{WEB}=127.0.0.1:1")]).args(access);
        let peer = launch.args(self.relay_flags()).spawn()?;
        peer.wait_for("reservation_held", |_| true, SOON).await?;
        Ok(peer)
    }

    /// The node that is asked, once it can be.
    pub(super) async fn forward(&self, args: &[&str]) -> Result<Program> {
        let launch = self.on_time(self.world.launch(self.lab.host(0), "forward", "me")?);
        let launch = launch.args(["--peer", &self.ids.peer, "--service", WEB]);
        let launch = launch.args(["--local", "127.0.0.1:0"]).args(args);
        let me = launch.args(self.relay_flags()).spawn()?;
        me.wait_for("forward_listening", |_| true, SOON).await?;
        Ok(me)
    }

    fn relay_flags(&self) -> impl Iterator<Item = &str> {
        self.relays.iter().flat_map(|relay| ["--relay", relay])
    }

    fn on_time(&self, launch: Launch) -> Launch {
        match (self.clock, faketime()) {
            // The clock that durations are measured by goes on as it is.
            (Some(off), Some(library)) => launch
                .env("LD_PRELOAD", library)
                .env("FAKETIME", off)
                .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
                .env("DONT_FAKE_MONOTONIC", "1"),
            _ => launch,
        }
    }

    pub(super) fn punchline<'lab>(
        &self,
        place: impl Into<Place<'lab>>,
        args: &[&str],
    ) -> Result<Launch> {
        let launch = match self.open_files {
            None => Launch::program(place, binary("punchline")?),
            Some(most) => Launch::program(place, "/bin/sh")
                .args(["-c", &format!("ulimit -n {most}; exec \"$@\""), "sh"])
                .args([binary("punchline")?]),
        };
        Ok(self.on_time(launch.args(args)))
    }

    /// A program connects to the forward until it fails for this reason.
    pub(super) async fn connect_in_vain(&self, me: &Program, reason: &str) -> Result<()> {
        let listening = me.wait_for("forward_listening", |_| true, SOON).await?;
        let local = listening.text("local").context("an address")?.parse()?;
        me.wait_for("connection_opened", |event| event.has("peer", &self.ids.peer), SOON).await?;
        let mut pause = interval(Duration::from_millis(200));
        let failing = async {
            loop {
                pause.tick().await;
                let socket = self.lab.host(0).within(TcpSocket::new_v4)??;
                drop(socket.connect(local).await);
                let fails =
                    |event: &Event| event.text("reason").is_some_and(|said| said.contains(reason));
                let failed = me.wait_for("forward_failed", fails, Duration::from_secs(1)).await;
                if failed.is_ok() {
                    return anyhow::Ok(());
                }
            }
        };
        timeout(SOON, failing).await.with_context(|| me.report())?
    }

    /// `punchline doctor`, asked on host 0 about the relays of the node there, says what stands in the document of this
    /// fault, to people and to programs.
    pub(super) async fn doctor_says(&self, fault: &str, args: &[&str]) -> Result<()> {
        self.doctor_says_with(fault, args, &[]).await
    }

    /// Likewise, with further words that differ from run to run.
    pub(super) async fn doctor_says_with(
        &self,
        fault: &str,
        args: &[&str],
        words: &[(&str, &str)],
    ) -> Result<()> {
        let asked = |json: &[&str]| -> Result<_> {
            let launch =
                self.punchline(self.lab.host(0), &["doctor", "--control", &self.socket("me")])?;
            let own = self.world.identity("own");
            let named: &[&str] = if args.contains(&"--identity") { &[] } else { &["--identity", &own] };
            Ok(launch.args(named).args(json).args(args).output(DOCTOR))
        };
        // Each asks for what the other would have: ports, and the time of a busy machine.
        let (json, text) = (asked(&["--json"])?.await?, asked(&[])?.await?);
        let text = self.plain(&String::from_utf8_lossy(&text.stdout), words);
        let said: Value =
            serde_json::from_str(&self.plain(&String::from_utf8_lossy(&json.stdout), words))
                .with_context(|| format!("{json:?}"))?;
        let blamed: Vec<&Value> = said["checks"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|check| check["verdict"] == "bad" || check["verdict"] == "warning")
            .collect();
        let documented = documented(fault, "doctor")?;
        ensure!(fit(&documented, &json!(blamed)), "{}\n{text}\n{said:#}", json!(blamed));
        let is_bad = documented.as_array().into_iter().flatten().any(|check| check["verdict"] == "bad");
        ensure!(json.status.success() != is_bad, "{json:?}");
        for check in documented.as_array().into_iter().flatten() {
            let line = line_of(check);
            ensure!(text.lines().any(|said| fits(&line, said)), "`{line}` is missing in:\n{text}");
        }
        Ok(())
    }

    /// `punchline why`, asked at the node here (`why`) about the peer, or there (`why_there`) about the one here, comes to
    /// say what stands in the document of this fault, to people and to programs.
    pub(super) async fn why_says(&self, fault: &str, asked: &str) -> Result<()> {
        let documented = documented(fault, asked)?;
        let (node, about) = if asked == "why" { ("me", &self.ids.peer) } else { ("peer", &self.ids.me) };
        let mut pause = interval(Duration::from_millis(300));
        let mut story = Value::Null;
        let comes = async {
            while !fit(&documented, &story["findings"]) || story.is_null() {
                pause.tick().await;
                let said = self.why(node, &[about, "--json"]).await?;
                let said = self.plain(&String::from_utf8_lossy(&said.stdout), &[]);
                story = serde_json::from_str(&said).unwrap_or_default();
            }
            anyhow::Ok(())
        };
        match timeout(SOON, comes).await {
            Ok(came) => came?,
            Err(_) => anyhow::bail!("{}\n{story:#}", story["findings"]),
        }
        let text = self.why(node, &[about]).await?;
        let text = self.plain(&String::from_utf8_lossy(&text.stdout), &[]);
        let text: Vec<&str> = text.lines().collect();
        for finding in documented.as_array().into_iter().flatten() {
            let words = |key: &str| finding[key].as_str().unwrap_or_default().to_owned();
            let [why, help] =
                [format!("why: {}", words("why")), format!("  what would help: {}", words("help"))];
            let said = text.windows(2).any(|lines| fits(&why, lines[0]) && fits(&help, lines[1]));
            ensure!(said, "`{why}\n{help}` is missing in:\n{}", text.join("\n"));
        }
        Ok(())
    }

    async fn why(&self, node: &str, args: &[&str]) -> Result<Output> {
        let launch = self.punchline(Place::Host, &["why", "--control", &self.socket(node)])?;
        Ok(launch.args(args).output(SOON).await?)
    }

    fn socket(&self, name: &str) -> String {
        self.world.identity(name) + ".sock"
    }

    /// The same whoever is who.
    fn plain(&self, text: &str, words: &[(&str, &str)]) -> String {
        let Ids { relay, me, peer } = &self.ids;
        let ids = [(relay.as_str(), "<relay>"), (me, "<this node>"), (peer, "<peer>")];
        let replaced = |text: String, (id, name): &(&str, &str)| text.replace(id, name);
        ids.iter().chain(words).fold(text.to_owned(), replaced)
    }
}

/// What the document says of a fault.
fn documented(fault: &str, asked: &str) -> Result<Value> {
    if fault == "none" {
        return Ok(json!([]));
    }
    let listed = faults()?;
    let mut listed = listed.as_array().into_iter().flatten();
    let found = listed.find(|listed| listed["fault"] == fault).cloned().unwrap_or_default();
    Ok(found[asked].clone())
}

/// The list in the document.
pub(super) fn faults() -> Result<Value> {
    let (_, after) = DOCUMENT.split_once("## The fifteen faults").context("a list of faults")?;
    let block = after.split("```json\n").nth(1).context("a block")?;
    Ok(serde_json::from_str(block.split("```").next().unwrap_or_default())?)
}

/// As `screen` writes it.
fn line_of(check: &Value) -> String {
    let text = |key: &str| check[key].as_str().unwrap_or_default();
    let of = |key: &str| check[key].as_str().map(|text| format!("{text}: ")).unwrap_or_default();
    let layer = check["layer"].as_str().map(|layer| match layer {
        "tcp" => "TCP fails: ".to_owned(),
        "quic" => "QUIC fails: ".to_owned(),
        "security" => "handshake fails: ".to_owned(),
        layer => format!("{layer} fails: "),
    });
    let advice = check["advice"].as_str().map(|advice| format!("; {advice}")).unwrap_or_default();
    let (verdict, name) = (text("verdict"), text("check"));
    let (subject, layer) = (of("subject"), layer.unwrap_or_default());
    format!("{verdict:8} {name:16} {subject}{layer}{}{advice}", text("found"))
}

/// Whether all that was said is what is documented.
fn fit(documented: &Value, said: &Value) -> bool {
    match (documented, said) {
        (Value::String(documented), Value::String(said)) => fits(documented, said),
        (Value::Array(documented), Value::Array(said)) => {
            documented.len() == said.len()
                && documented.iter().zip(said).all(|(one, other)| fit(one, other))
        }
        (Value::Object(documented), Value::Object(said)) => {
            documented.len() == said.len()
                && documented
                    .iter()
                    .all(|(key, value)| said.get(key).is_some_and(|said| fit(value, said)))
        }
        (documented, said) => documented == said,
    }
}

/// Whether the text is the pattern, in which `<n>` stands for any number and `<cause>` for any words.
fn fits(pattern: &str, text: &str) -> bool {
    let number = pattern.split_once("<n>").map(|(before, after)| (before, after, true));
    let cause = pattern.split_once("<cause>").map(|(before, after)| (before, after, false));
    let first = [number, cause].into_iter().flatten().min_by_key(|(before, ..)| before.len());
    let Some((before, after, is_number)) = first else { return pattern == text };
    let Some(rest) = text.strip_prefix(before) else { return false };
    let may_be = |length: &usize| {
        rest.is_char_boundary(*length)
            && (!is_number || rest[..*length].bytes().all(|byte| byte.is_ascii_digit()))
    };
    (1..=rest.len()).filter(may_be).any(|length| fits(after, &rest[length..]))
}

/// A small disk.
pub(super) struct Tmpfs(TempDir);

impl Tmpfs {
    pub(super) fn mount() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=64k,mode=700", "tmpfs"])
            .arg(folder.path())
            .status()?;
        ensure!(mounted.success(), "no tmpfs can be mounted: {mounted}");
        Ok(Self(folder))
    }

    pub(super) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Until nothing more fits in.
    pub(super) fn fill(&self) -> Result<()> {
        let full = fs::write(self.path().join("ballast"), vec![0; 128 << 10]);
        ensure!(full.is_err(), "more fits in than there is room");
        Ok(())
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
    }
}

/// The library that shows a program another time; with it, clocks are set for one program alone.
fn faketime() -> Option<PathBuf> {
    let folders = fs::read_dir("/usr/lib").ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    folders.map(|folder| folder.join("faketime/libfaketimeMT.so.1")).find(|library| library.exists())
}

/// Why no clock can be set.
pub(crate) fn no_faketime() -> Option<String> {
    if let Err(missing) = lab::capability() {
        return Some(missing.to_string());
    }
    faketime().is_none().then(|| "there is no libfaketimeMT.so.1: install faketime".to_owned())
}
