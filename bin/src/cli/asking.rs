//! What can be asked of a node that runs on this machine.

use std::{path::PathBuf, str::FromStr, time::Duration};

use clap::{Args, Subcommand, builder::BoolishValueParser};

use super::{ControlSocket, NetworkParts, time::length};
use crate::names::PeerRef;

/// The questions.
#[derive(Debug, Subcommand)]
pub enum Ask {
    /// How a node that runs on this machine is: its relays, its peers, direct or relayed and why.
    Status(Status),
    /// How long a peer takes to answer, and by which path; says when the path becomes another.
    Ping(Ping),
    /// Why a peer is reached as it is: what was tried, what is in the way, and what would help.
    Why(Why),
    /// Parts of the same, one by one.
    Network(NetworkParts),
    /// What happened to it lately, one JSON object a line, as --events writes them.
    Events(Events),
    /// Have it read its files again, as on SIGHUP: allow lists, ranges, names of peers; and open that of events anew. If
    /// anything in them is wrong, that is said, and everything stays as it was.
    Reload(Reload),
    /// Have it try now what waits for its next attempt: direct paths to peers that are relayed, relays that are down or
    /// refused it a place, peers that are missing.
    Retry(Retry),
    /// Wait until it is usable. A node is usable once a relay that answers holds a place for it, or four peers that it uses or
    /// lets in are connected, or if it was given no relay; a client, or a process that only forwards, once a peer that it is
    /// for is connected; a relay once it listens.
    WaitReady(WaitReady),
    /// Whether it is usable: exit code 0 or 1, for timers and probes.
    Health(Health),
}

impl Ask {
    /// Which node is meant.
    pub fn asking(&mut self) -> &mut Asking {
        match self {
            Self::Status(status) => &mut status.asking,
            Self::Ping(ping) => &mut ping.asking,
            Self::Why(why) => &mut why.asking,
            Self::Network(network) => network.question.asking(),
            Self::Events(events) => &mut events.asking,
            Self::Reload(reload) => &mut reload.asking,
            Self::Retry(retry) => &mut retry.asking,
            Self::WaitReady(wait) => &mut wait.asking,
            Self::Health(health) => &mut health.asking,
        }
    }

    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Status(_) => "status",
            Self::Ping(_) => "ping",
            Self::Why(_) => "why",
            Self::Network(_) => "network",
            Self::Events(_) => "events",
            Self::Reload(_) => "reload",
            Self::Retry(_) => "retry",
            Self::WaitReady(_) => "wait-ready",
            Self::Health(_) => "health",
        }
    }
}

/// Which running node is asked.
#[derive(Args, Clone, Debug)]
pub struct Asking {
    /// The socket that the node answers on. Default: beside --identity, or the only one in the user's state directory
    /// on which a node answers.
    #[arg(long, env = "PUNCHLINE_CONTROL", value_name = "PATH")]
    pub control: Option<ControlSocket>,
    /// The node by its command, where several run: expose, forward, server, client, relay. It counts more than --control.
    #[arg(long, env = "PUNCHLINE_NODE", value_name = "NAME")]
    pub node: Option<String>,
    /// Whose identity it is, if that was said.
    #[arg(skip)]
    pub identity: Option<PathBuf>,
}

/// `punchline status`.
#[derive(Args, Debug)]
pub struct Status {
    /// Which node.
    #[command(flatten)]
    pub asking: Asking,
    /// Print one JSON object, in the shape of `punchline.v1.Status`.
    #[arg(long, env = "PUNCHLINE_JSON", value_parser = BoolishValueParser::new())]
    pub json: bool,
    /// Ask again every second, until interrupted.
    #[arg(long, env = "PUNCHLINE_WATCH", value_parser = BoolishValueParser::new())]
    pub watch: bool,
}

/// `punchline ping`.
#[derive(Args, Debug)]
pub struct Ping {
    /// The peer, by its id or the name that the node knows; they are connected: `punchline status` lists those.
    #[arg(value_name = "PEER")]
    pub peer: PeerRef,
    /// Which node.
    #[command(flatten)]
    pub asking: Asking,
    /// Stop after so many; 0: never.
    #[arg(short, long, env = "PUNCHLINE_COUNT", default_value_t = 0)]
    pub count: u64,
    /// Stop at the first answer by a direct path.
    #[arg(long, env = "PUNCHLINE_UNTIL_DIRECT", value_parser = BoolishValueParser::new())]
    pub until_direct: bool,
    /// Print one JSON object a line: of each answer, and at the end of all of them.
    #[arg(long, env = "PUNCHLINE_JSON", value_parser = BoolishValueParser::new())]
    pub json: bool,
}

/// `punchline why`.
#[derive(Args, Debug)]
pub struct Why {
    /// The peer, or a relay that the node uses.
    #[arg(value_name = "PEER")]
    pub peer: PeerRef,
    /// Which node.
    #[command(flatten)]
    pub asking: Asking,
    /// Print one JSON object, in the shape of `punchline.v1.Story`.
    #[arg(long, env = "PUNCHLINE_JSON", value_parser = BoolishValueParser::new())]
    pub json: bool,
}

/// `punchline events`.
#[derive(Args, Debug)]
pub struct Events {
    /// Which node.
    #[command(flatten)]
    pub asking: Asking,
    /// Go on with what happens from now on, until interrupted.
    #[arg(short, long, env = "PUNCHLINE_FOLLOW", value_parser = BoolishValueParser::new())]
    pub follow: bool,
}

/// `punchline reload`.
#[derive(Args, Debug)]
pub struct Reload {
    /// Which node.
    #[command(flatten)]
    pub asking: Asking,
}

/// `punchline retry`.
#[derive(Args, Debug)]
pub struct Retry {
    /// Only this peer or relay, by its id or the name that the node knows.
    #[arg(value_name = "PEER")]
    pub peer: Option<PeerRef>,
    /// Which node.
    #[command(flatten)]
    pub asking: Asking,
    /// Print one JSON object, in the shape of `punchline.v1.Retried`.
    #[arg(long, env = "PUNCHLINE_JSON", value_parser = BoolishValueParser::new())]
    pub json: bool,
}

/// `punchline wait-ready`.
#[derive(Args, Debug)]
pub struct WaitReady {
    /// Which node. It need not run yet.
    #[command(flatten)]
    pub asking: Asking,
    /// Give up after this: `30s`, `5m`.
    #[arg(long, env = "PUNCHLINE_TIMEOUT", value_name = "TIME", default_value = "60s")]
    pub timeout: Timeout,
    /// Wait also until it has joined the DHT: nodes are in its table, and answer. Without this a node is usable before.
    #[arg(long, env = "PUNCHLINE_IN_DHT", value_parser = BoolishValueParser::new())]
    pub in_dht: bool,
}

/// `punchline health`.
#[derive(Args, Debug)]
pub struct Health {
    /// Which node.
    #[command(flatten)]
    pub asking: Asking,
    /// Print one JSON object.
    #[arg(long, env = "PUNCHLINE_JSON", value_parser = BoolishValueParser::new())]
    pub json: bool,
}

/// How long is waited: from 1 second to an hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeout(Duration);

impl Timeout {
    /// As a duration.
    pub fn duration(self) -> Duration {
        self.0
    }
}

impl FromStr for Timeout {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        length(text, Duration::from_secs(3600), "say 30s or 5m; from 1 second to an hour").map(Self)
    }
}
