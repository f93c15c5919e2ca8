//! Hosts that change networks while a program talks over them: how long it hears nothing, and when the path is direct
//! again.
//!
//! [`Switch::all`] is the table of what is tried, [`Switch::eighteen`] a part of it. Each is done and undone within one
//! conversation: numbered messages that a program sends through `forward` and `expose` and gets back, each once and in
//! order.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use jiff::Timestamp;
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

use crate::lab::{Families, LabSpec, Nat, RouterSpec};
use crate::process::{Event, Launch, Mark, Program};
use crate::scene::{START_DEADLINE, Scene, Transport};

mod talk;

use talk::Talk;

/// A network that a host may be in. Each has a router of its own, which keeps ports and lets in whoever was sent to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Network {
    /// At home.
    Wifi,
    /// In the office.
    Cable,
    /// Behind the NAT of a carrier.
    Mobile,
}

impl Network {
    /// What network managers give default routes: the lowest is taken.
    fn metric(self) -> u32 {
        match self {
            Self::Cable => 100,
            Self::Wifi => 600,
            Self::Mobile => 700,
        }
    }
}

/// Who changes networks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Who {
    /// The one that opened the stream.
    Client,
    /// The one that accepted it.
    Server,
    /// Both, at the same moment.
    Both,
}

impl Who {
    fn hosts(self) -> &'static [usize] {
        match self {
            Self::Client => &[CLIENT],
            Self::Server => &[SERVER],
            Self::Both => &[SERVER, CLIENT],
        }
    }
}

/// From one network to another, and back. Which one goes before the other has come follows from what the two are:
///
/// - Wi-Fi to cable: the cable is plugged in and preferred; Wi-Fi stays. Back: the cable is pulled.
/// - Cable to mobile: the cable is pulled, and [`OFFLINE`] later the phone is there. Back: the cable is plugged in,
///   and [`OVERLAP`] later the phone is gone.
/// - Mobile to Wi-Fi: Wi-Fi is there and preferred, and [`OVERLAP`] later the phone is gone. Back: Wi-Fi is lost, and
///   [`OFFLINE`] later the phone is there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Switch {
    /// Where the hosts are at first.
    pub from: Network,
    /// Where they go.
    pub to: Network,
    /// Which of them.
    pub who: Who,
    /// By what nodes and relay speak.
    pub over: Transport,
    /// Which addresses everybody has.
    pub families: Families,
}

impl Switch {
    /// Each of the nine, over each transport, with addresses of each choice of families.
    pub fn all() -> Vec<Self> {
        let with = |(over, families)| Self::nine().map(|switch| Self { over, families, ..switch });
        let over = |over| [Families::V4, Families::V6, Families::Both].map(|families| (over, families));
        [Transport::Tcp, Transport::Quic].into_iter().flat_map(over).flat_map(with).collect()
    }

    /// Eighteen of them: each of the nine over both transports, with addresses of each choice of families in turn.
    pub fn eighteen() -> Vec<Self> {
        let turns = [Families::V4, Families::V6, Families::Both];
        let over = |(turn, over)| {
            let all = Self::nine().into_iter().enumerate();
            all.map(move |(at, switch)| Self { over, families: turns[(at + turn) % 3], ..switch })
        };
        // Three kinds by three ends: from kind to kind, each end has its turn with all of them.
        [(0, Transport::Tcp), (1, Transport::Quic)].into_iter().flat_map(over).collect()
    }

    /// Each kind, by each end and by both.
    fn nine() -> [Self; 9] {
        let (over, families) = (Transport::Tcp, Families::V4);
        let kinds = [
            (Network::Wifi, Network::Cable),
            (Network::Cable, Network::Mobile),
            (Network::Mobile, Network::Wifi),
        ];
        let ends = [Who::Client, Who::Server, Who::Both];
        std::array::from_fn(|at| {
            let ((from, to), who) = (kinds[at / 3], ends[(at + at / 3) % 3]);
            Self { from, to, who, over, families }
        })
    }

    /// The lab: each end has its first network (0 and 1) and the other one (2 and 3).
    fn lab(self) -> LabSpec {
        let spec = LabSpec::new([Nat::PortPreserving; 4]).families(self.families);
        let mut spec = spec.uplink(SERVER, 2).uplink(CLIENT, 3);
        for (network, routers) in [(self.from, [0, 1]), (self.to, [2, 3])] {
            if network == Network::Mobile {
                for router in routers {
                    spec = spec.behind_carrier(router, RouterSpec::new(Nat::PortPreserving));
                }
            }
        }
        spec
    }

    /// Does it and undoes it, in a lab of its own.
    ///
    /// # Errors
    ///
    /// If the conversation ends, loses or repeats a message, or a path is not direct again in time, with what the
    /// programs printed.
    pub async fn run(self) -> Result<[Moved; 2]> {
        let stage = Stage::set(self).await?;
        let moved = stage.there_and_back().await;
        stage.explain(moved)
    }
}

/// A conversation whose client loses its only network for `lasting`, and gets it again. How long until the client hears
/// anything then.
///
/// # Errors
///
/// As for [`Switch::run`].
pub async fn outage(over: Transport, lasting: Duration) -> Result<Duration> {
    let stage = Stage::set(Switch { over, ..CLIENT_AT_HOME }).await?;
    let heard = async {
        stage.is_direct(Mark::default()).await?;
        stage.scene.lab.leave(CLIENT, CLIENT)?;
        sleep(lasting).await;
        let began = Instant::now();
        stage.scene.lab.join(CLIENT, CLIENT, Network::Wifi.metric())?;
        stage.hears_again(began).await
    };
    stage.explain(heard.await)
}

/// What a program that slept took until it had its relay again, and until it heard anything.
#[derive(Clone, Copy, Debug)]
pub struct Awake {
    /// Until there was a connection to the relay again.
    pub relay: Duration,
    /// Until the client heard anything.
    pub heard: Duration,
}

/// A conversation whose client is halted for `lasting`.
///
/// # Errors
///
/// As for [`Switch::run`].
pub async fn sleeps(over: Transport, lasting: Duration) -> Result<Awake> {
    let stage = Stage::set(Switch { over, ..CLIENT_AT_HOME }).await?;
    let awake = async {
        stage.is_direct(Mark::default()).await?;
        stage.forward.halt()?;
        sleep(lasting).await;
        let (began, mark) = (Instant::now(), stage.forward.mark());
        stage.forward.resume()?;
        let relay = |event: &Event| event.has("peer", &stage.scene.relay_id);
        stage.forward.wait_for_after(mark, "connection_opened", relay, DIRECT_DEADLINE).await?;
        Ok(Awake { relay: began.elapsed(), heard: stage.hears_again(began).await? })
    };
    stage.explain(awake.await)
}

impl fmt::Display for Switch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, to, who, over, families } = self;
        let families = match families {
            Families::V4 => "IPv4",
            Families::V6 => "IPv6",
            Families::Both => "IPv4+6",
        };
        let text = format!("{who:?} {from:?}->{to:?} {over} {families}").to_lowercase();
        formatter.pad(&text)
    }
}

/// What one change of networks came to.
#[derive(Clone, Copy, Debug)]
pub struct Moved {
    /// The longest time in which the client heard nothing.
    pub silence: Duration,
    /// From the change until the path was direct, at both ends, for good.
    pub direct: Duration,
}

impl fmt::Display for Moved {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { silence, direct } = self;
        write!(
            formatter,
            "silent for {} ms, direct after {} ms",
            silence.as_millis(),
            direct.as_millis()
        )
    }
}

/// The programs, and the conversation through them.
struct Stage {
    switch: Switch,
    scene: Scene,
    relay: Program,
    expose: Program,
    forward: Program,
    talk: Talk,
    _directory: TempDir,
}

impl Stage {
    async fn set(switch: Switch) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let path = |name: &str| directory.path().join(name).to_string_lossy().into_owned();
        let scene = Scene::prepare(&switch.lab(), switch.over).await?;
        for host in [SERVER, CLIENT] {
            scene.lab.join(host, host, switch.from.metric())?;
        }
        let relay = scene.start_relay().await?;
        let listen = |any| ["--listen".to_owned(), format!("{any}/{}", switch.over.suffix(0))];
        let v4 = switch.families.has_v4().then(|| listen("/ip4/0.0.0.0"));
        let v6 = switch.families.has_v6().then(|| listen("/ip6/::"));
        let listen: Vec<_> = v4.into_iter().chain(v6).flatten().collect();
        let node = |host: usize, command: &str| {
            let launch = Launch::punchline(scene.lab.host(host), command)?;
            let relays = scene.relay_addresses().flat_map(|relay| ["--relay".to_owned(), relay]);
            anyhow::Ok(launch.args(["--identity", &path(command)]).args(relays).args(&listen))
        };
        talk::echo(&path("target"))?;
        let service = format!("echo=unix:{}", path("target"));
        let expose = node(SERVER, "expose")?.args(["--service", &service, "--allow-any"]).spawn()?;
        let held = expose.wait_for("reservation_held", |_| true, START_DEADLINE).await?;
        let peer = held.text("address").and_then(|address| address.rsplit('/').next());
        let args = ["--peer", peer.context("a peer")?, "--service", "echo", "--local"];
        let local = format!("unix:{}", path("local"));
        let forward = node(CLIENT, "forward")?.args(args).args([&local]).spawn()?;
        let opened =
            forward.wait_for("connection_opened", |event| event.text("relay").is_some(), START_DEADLINE);
        opened.await.map_err(|error| anyhow!("{error}\n{}{}", expose.report(), forward.report()))?;
        let talk = Talk::begin(path("local").as_ref()).await?;
        Ok(Self { switch, scene, relay, expose, forward, talk, _directory: directory })
    }

    /// When the client hears anything again after `began`.
    async fn hears_again(&self, began: Instant) -> Result<Duration> {
        timeout(DIRECT_DEADLINE, self.talk.heard_since(began)).await.context("it stays silent")?;
        self.talk.goes_on()?;
        Ok(began.elapsed())
    }

    async fn there_and_back(&self) -> Result<[Moved; 2]> {
        self.is_direct(Mark::default()).await?;
        let Switch { from, to, .. } = self.switch;
        let there = self.moved(from, to, 0, 2).await.context("there")?;
        // A person stays a while; and nothing of the first change is to be under way at the next.
        sleep(SETTLED).await;
        let back = self.moved(to, from, 2, 0).await.context("and back")?;
        Ok([there, back])
    }

    /// `here` and `there` are the server's routers; the client's are one further.
    async fn moved(&self, from: Network, to: Network, here: usize, there: usize) -> Result<Moved> {
        let mark = self.forward.mark();
        self.talk.listen_anew();
        let began = Timestamp::now();
        let lab = &self.scene.lab;
        let hosts = self.switch.who.hosts().iter().map(|host| (*host, here + host, there + host));
        let leave = || hosts.clone().try_for_each(|(host, here, _)| lab.leave(host, here));
        let join = || hosts.clone().try_for_each(|(host, _, there)| lab.join(host, there, to.metric()));
        match (from, to) {
            (Network::Wifi, Network::Cable) => join()?,
            (Network::Cable, Network::Wifi) => leave()?,
            (Network::Cable | Network::Wifi, Network::Mobile) => {
                leave()?;
                sleep(OFFLINE).await;
                join()?;
            }
            _ => {
                join()?;
                sleep(OVERLAP).await;
                leave()?;
            }
        }
        let direct = self.is_direct(mark).await?.duration_since(began);
        self.talk.goes_on()?;
        Ok(Moved { silence: self.talk.silence(), direct: direct.unsigned_abs() })
    }
}

impl Stage {
    /// Waits until the stream has come to a direct path after `mark`, and stays there for [`SETTLED`]; returns when it
    /// came to the last one.
    async fn is_direct(&self, mark: Mark) -> Result<Timestamp> {
        let direct = |event: &Event| event.has("path", "direct") || event.has("to", "direct");
        let opened = self.forward.wait_for_after(mark, "stream_opened", direct, DIRECT_DEADLINE);
        let moved = self.forward.wait_for_after(mark, "stream_moved", direct, DIRECT_DEADLINE);
        tokio::select! {
            Ok(_) = opened => {}
            moved = moved => drop(moved?),
        }
        sleep(SETTLED).await;
        let events = self.forward.events();
        let placed = |event: &&Event| matches!(event.name(), "stream_opened" | "stream_moved");
        let last = events.iter().rfind(placed).context("the stream is gone")?;
        ensure!(direct(last), "not direct any more: {last}");
        let ended = |event: &&Event| event.name() == "stream_closed";
        ensure!(!events.iter().any(|event| ended(&event)), "the stream ended");
        Ok(last.text("ts").context("a time")?.parse()?)
    }

    fn explain<T>(&self, result: Result<T>) -> Result<T> {
        let reports = || [&self.relay, &self.expose, &self.forward].map(Program::report).concat();
        result.map_err(|error| anyhow!("{error:#}\n{}", reports()))
    }
}

/// Host, and first router.
const SERVER: usize = 0;
const CLIENT: usize = 1;

/// What has no second network.
const CLIENT_AT_HOME: Switch = Switch {
    from: Network::Wifi,
    to: Network::Cable,
    who: Who::Client,
    over: Transport::Tcp,
    families: Families::V4,
};

/// Without any network, while the phone takes over.
pub const OFFLINE: Duration = Duration::from_millis(300);

/// With both networks, before the phone lets go.
pub const OVERLAP: Duration = Duration::from_secs(1);

/// A path that carries a stream for so long is more than a moment's.
const SETTLED: Duration = Duration::from_secs(3);

/// Far longer than promised: what takes so long never comes.
const DIRECT_DEADLINE: Duration = Duration::from_secs(45);
