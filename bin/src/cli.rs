//! The command line: the one place where strings and the environment are read.

mod asking;
#[cfg(feature = "kad")]
mod bootstrap;
mod demo;
#[cfg(feature = "kad")]
pub mod discovery;
mod doctor;
#[cfg(any(feature = "dns", feature = "kad", feature = "rendezvous"))]
pub(crate) mod domains;
mod finding;
mod gateway;
mod install;
#[cfg(feature = "mainline")]
pub mod mainline;
mod metrics;
#[cfg(feature = "kad")]
mod monitor;
mod nets;
mod network;
mod node;
mod page;
pub mod peers;
mod relay;
pub mod ticket;
mod time;
mod values;

use std::{net::SocketAddr, num::NonZeroU64, path::PathBuf, sync::LazyLock};

use clap::{
    Args, Parser, Subcommand, ValueEnum,
    builder::{BoolishValueParser, RangedU64ValueParser},
};
use libp2p::Multiaddr;
use punchline_protocol::Network;

use crate::{names::PeerRef, settings::show::Setting};

#[cfg(feature = "dns")]
pub use self::domains::Domain;
#[cfg(feature = "rendezvous")]
pub use self::domains::MeetingPoint;
#[cfg(feature = "mdns")]
pub use self::finding::Mdns;
#[cfg(feature = "peer-cache")]
pub use self::finding::PeerCache;
#[cfg(feature = "pkarr")]
pub use self::finding::Pkarr;
#[cfg(any(feature = "kad", feature = "mainline", feature = "rendezvous"))]
pub use self::finding::Told;
pub use self::gateway::{
    Access, Expose, ExposeTable, Forward, ForwardTable, NamedTarget, Run, SocketName, Way,
};
pub use self::{
    asking::{Ask, Asking, Events, Health, Ping, Reload, Retry, Status, WaitReady, Why},
    demo::Demo,
    doctor::{Doctor, DoctorWhat, Firewall, Reach},
    finding::Finding,
    install::{Install, Settings},
    metrics::{HttpAddr, Metrics},
    nets::Nets,
    network::{HolePunchTest, NetworkParts, Plain, Question, TableSize},
    node::{ControlSocket, Node, PortMapping, ProxyFlags, RelayMode, Rights, SystemProxy},
    page::Page,
    relay::{Relay, RelayLimits},
    time::{ConnectTimeout, Patience},
    values::{
        DhtListenAddr, ExternalAddr, ListenAddr, Many, OwnAddr, PortAddr, ProxyUrl, RelayListenAddr,
        StunAddr, all,
    },
};
#[cfg(feature = "kad")]
pub use self::{
    bootstrap::Bootstrap,
    domains::BootstrapAddr,
    finding::{DhtFlags, DhtMode},
    monitor::{Monitor, Outside},
};

/// With the commit, where whoever built the program said it.
static VERSION: LazyLock<String> = LazyLock::new(|| {
    let commit = crate::commit().map(|commit| format!(" ({commit})")).unwrap_or_default();
    format!("{}{commit}", env!("CARGO_PKG_VERSION"))
});

/// gRPC between two private peers: no port forwarding, no VPN, no server in the middle.
#[derive(Debug, Parser)]
#[command(name = "punchline", version = VERSION.as_str(), max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// What every command takes.
    #[command(flatten)]
    pub common: Common,
}

/// What every command takes.
#[derive(Args, Debug)]
pub struct Common {
    /// Settings from a TOML file: a key for each flag, without its dashes; tables named after a
    /// command hold for that command alone. Flags beat the environment, which beats the file.
    #[arg(long, global = true, env = "PUNCHLINE_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Check the settings and exit.
    #[arg(long, global = true, env = "PUNCHLINE_CHECK", value_parser = BoolishValueParser::new())]
    pub check: bool,
    /// The private key of this node, mode 0600; made if it does not exist. One process at a time uses it.
    /// Default, in the user's state directory: `identity` for expose, run, ticket and id;
    /// `identity-forward`, `identity-relay`, `identity-bootstrap`, `identity-server` and `identity-client` for those.
    #[arg(long, global = true, env = "PUNCHLINE_IDENTITY", value_name = "FILE")]
    pub identity: Option<PathBuf>,
    /// Append what happens to a file, one JSON object a line; `-` is standard output.
    #[arg(long, global = true, env = "PUNCHLINE_EVENTS", value_name = "FILE")]
    pub events: Option<PathBuf>,
    /// Before the file of events has more bytes than this, move it to FILE.1 and begin a new one. Without
    /// it, it grows; it is opened anew on SIGHUP.
    #[arg(long, global = true, env = "PUNCHLINE_EVENTS_MAX_BYTES", value_name = "N")]
    #[arg(value_parser = events_max_bytes)]
    pub events_max_bytes: Option<NonZeroU64>,
    /// How the log on standard error looks.
    #[arg(long, global = true, env = "PUNCHLINE_LOG_FORMAT", default_value = "text")]
    pub log_format: LogFormat,
    /// Log more: once for debug, twice for everything.
    #[arg(short, long, global = true, env = "PUNCHLINE_VERBOSE", action = clap::ArgAction::Count)]
    #[arg(value_parser = verbosity)]
    pub verbose: u8,
    /// Log only what failed.
    #[arg(short, long, global = true, env = "PUNCHLINE_QUIET", value_parser = BoolishValueParser::new())]
    #[arg(conflicts_with = "verbose")]
    pub quiet: bool,
    /// What holds and who said so, for the page.
    #[arg(skip)]
    pub shown: Vec<Setting>,
}

/// As a variable or a key it is a switch or a number.
fn verbosity(text: &str) -> Result<u8, String> {
    match text.to_lowercase().as_str() {
        "true" | "yes" | "on" | "y" | "t" => Ok(1),
        "false" | "no" | "off" | "n" | "f" => Ok(0),
        number => number.parse().map_err(|_| "say true, false, or how often: 0, 1 or 2".to_owned()),
    }
}

/// Less would hold a handful of events, and be moved away all the time.
const EVENTS_BYTES_MIN: u64 = 4096;

fn events_max_bytes(text: &str) -> Result<NonZeroU64, String> {
    let bytes: NonZeroU64 = text.parse().map_err(|error| format!("{error}; say a number of bytes"))?;
    match bytes.get() {
        EVENTS_BYTES_MIN.. => Ok(bytes),
        _ => Err(format!("too few; say {EVENTS_BYTES_MIN} bytes or more")),
    }
}

/// How the log looks.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

const SIGNALS: &str = "SIGTERM and Ctrl-C end it in order, with exit code 0. SIGHUP reads --allow-file and --net-file again and opens the \
     file of --events anew; if there is none of them, or its terminal was closed, it ends as on SIGTERM, unless it runs \
     under nohup or systemd.";

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// The whole story on this machine, in seconds: two private peers meet, punch through, talk directly.
    Demo(Demo),
    /// Introduce peers to each other, and forward between them until they have a direct path.
    #[command(after_help = SIGNALS)]
    Relay(Relay),
    /// A node of the DHT that others begin with: they find each other there by their ids.
    #[cfg(feature = "kad")]
    #[command(after_help = SIGNALS)]
    Bootstrap(Bootstrap),
    /// A bootstrap node, a relay, a STUN server and a page that shows them, in one process: all that others need to find
    /// and reach each other.
    #[cfg(feature = "kad")]
    #[command(after_help = SIGNALS)]
    Monitor(Box<Monitor>),
    /// A Kaspa-style node that answers handshakes and keeps sessions.
    #[command(after_help = SIGNALS, visible_alias = "listen")]
    Server(Server),
    /// Dial a server, shake hands, keep the session.
    #[command(after_help = SIGNALS, visible_alias = "dial")]
    Client(Client),
    /// Make an unmodified TCP or gRPC program reachable to the peers that are allowed.
    #[command(after_help = SIGNALS)]
    Expose(Expose),
    /// A peer's service on a local port or Unix socket.
    #[command(after_help = SIGNALS)]
    Forward(Box<Forward>),
    /// Everything that the `[[expose]]` and `[[forward]]` tables of the settings file ask for, in one process.
    #[command(after_help = SIGNALS)]
    Run(Run),
    /// Strings that let whoever has one use a service of this node: make, show and revoke them.
    Ticket(ticket::Ticket),
    /// What peers are called here: names that every command takes in place of ids.
    Peers(peers::Peers),
    /// A node of the 160-bit network of BitTorrent clients, or of a private one like it: one where others join, or one
    /// that stores and finds something there.
    #[cfg(feature = "mainline")]
    Dht(mainline::Dht),
    /// What is stored in the DHT and found there: values, who has something, where peers are, who answers for an authority.
    #[cfg(feature = "kad")]
    Discovery(Box<discovery::Discovery>),
    /// What is asked of a node that runs on this machine.
    #[command(flatten)]
    Ask(Ask),
    /// Whether this host and its network let a node work, and what to do where they do not; no node need run.
    Doctor(Box<Doctor>),
    /// Print this node's peer id; make its identity if there is none.
    Id(Id),
    /// What helps to install it.
    #[command(flatten)]
    Install(Install),
}

impl Command {
    /// The settings of its node, if it is one that reaches relays.
    pub fn node(&mut self) -> Option<&mut Node> {
        match self {
            Self::Server(server) => Some(&mut server.node),
            Self::Client(client) => Some(&mut client.node),
            Self::Expose(expose) => Some(&mut expose.node),
            Self::Forward(forward) => Some(&mut forward.node),
            Self::Run(run) => Some(&mut run.node),
            Self::Demo(_) | Self::Relay(_) | Self::Ticket(_) | Self::Peers(_) => None,
            #[cfg(feature = "mainline")]
            Self::Dht(_) => None,
            Self::Ask(_) | Self::Doctor(_) | Self::Id(_) | Self::Install(_) => None,
            #[cfg(feature = "kad")]
            Self::Bootstrap(_) | Self::Monitor(_) => None,
            #[cfg(feature = "kad")]
            Self::Discovery(discovery) => discovery.what.node(),
        }
    }

    /// Whether it shows a page.
    pub fn shows_page(&mut self) -> bool {
        match self {
            Self::Relay(relay) => relay.page.page.is_some(),
            #[cfg(feature = "kad")]
            Self::Monitor(_) => true,
            other => other.node().is_some_and(|node| node.page.page.is_some()),
        }
    }

    /// Where it tells numbers about itself, if it runs for long.
    pub fn metrics(&self) -> Option<&Metrics> {
        match self {
            Self::Relay(relay) => Some(&relay.metrics),
            Self::Server(server) => Some(&server.node.metrics),
            Self::Client(client) => Some(&client.node.metrics),
            Self::Expose(expose) => Some(&expose.node.metrics),
            Self::Forward(forward) => Some(&forward.node.metrics),
            Self::Run(run) => Some(&run.node.metrics),
            Self::Demo(_) | Self::Ticket(_) | Self::Peers(_) | Self::Ask(_) => None,
            #[cfg(feature = "mainline")]
            Self::Dht(_) => None,
            Self::Doctor(_) | Self::Id(_) | Self::Install(_) => None,
            #[cfg(feature = "kad")]
            Self::Bootstrap(bootstrap) => Some(&bootstrap.metrics),
            #[cfg(feature = "kad")]
            Self::Monitor(monitor) => Some(&monitor.metrics),
            #[cfg(feature = "kad")]
            Self::Discovery(_) => None,
        }
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Demo(_) => "demo",
            Self::Relay(_) => "relay",
            #[cfg(feature = "kad")]
            Self::Bootstrap(_) => "bootstrap",
            #[cfg(feature = "kad")]
            Self::Monitor(_) => "monitor",
            Self::Server(_) => "server",
            Self::Client(_) => "client",
            Self::Expose(_) => "expose",
            Self::Forward(_) => "forward",
            Self::Run(_) => "run",
            Self::Ticket(_) => "ticket",
            Self::Peers(_) => "peers",
            #[cfg(feature = "mainline")]
            Self::Dht(_) => "dht",
            #[cfg(feature = "kad")]
            Self::Discovery(_) => "discovery",
            Self::Ask(ask) => ask.name(),
            Self::Doctor(_) => "doctor",
            Self::Id(_) => "id",
            Self::Install(install) => install.name(),
        }
    }

    /// As whom it runs unless told otherwise.
    pub fn role(&self) -> Role {
        match self {
            Self::Demo(_) | Self::Expose(_) | Self::Run(_) | Self::Ticket(_) => Role::Expose,
            Self::Peers(_) | Self::Ask(_) | Self::Doctor(_) | Self::Install(_) => Role::Expose,
            #[cfg(feature = "mainline")]
            Self::Dht(_) => Role::Expose,
            #[cfg(feature = "kad")]
            Self::Discovery(_) => Role::Expose,
            Self::Forward(_) => Role::Forward,
            Self::Relay(_) => Role::Relay,
            #[cfg(feature = "kad")]
            Self::Bootstrap(_) => Role::Bootstrap,
            #[cfg(feature = "kad")]
            Self::Monitor(_) => Role::Monitor,
            Self::Server(_) => Role::Server,
            Self::Client(_) => Role::Client,
            Self::Id(id) => id.of,
        }
    }
}

/// `punchline id`.
#[derive(Args, Debug)]
pub struct Id {
    /// The command whose identity is meant, unless --identity names one: a forward is let in elsewhere
    /// by the id that `punchline id --of forward` prints.
    #[arg(long, env = "PUNCHLINE_OF", value_name = "COMMAND", default_value = "expose")]
    pub of: Role,
    /// Print the public key as pkarr writes it, in 52 letters and digits. It names this node as its id does: `--peer pk:KEY`.
    #[arg(long = "pkarr-key", env = "PUNCHLINE_PKARR_KEY", value_parser = BoolishValueParser::new())]
    pub pkarr_key: bool,
}

/// A node by what it does. Each has an identity of its own, so that one of each can run on a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// Whatever others come to by a ticket or an invitation: `expose` and `run`.
    #[value(alias = "run")]
    Expose,
    /// `forward`.
    Forward,
    /// `relay`.
    Relay,
    /// `bootstrap`.
    Bootstrap,
    /// `monitor`.
    Monitor,
    /// `server`.
    Server,
    /// `client`.
    Client,
}

impl Role {
    /// The file of its identity, in the user's state directory.
    pub fn identity(self) -> &'static str {
        match self {
            Self::Expose => "identity",
            Self::Forward => "identity-forward",
            Self::Relay => "identity-relay",
            Self::Bootstrap => "identity-bootstrap",
            Self::Monitor => "identity-monitor",
            Self::Server => "identity-server",
            Self::Client => "identity-client",
        }
    }
}

/// `punchline server`.
#[derive(Args, Debug)]
pub struct Server {
    /// Its node.
    #[command(flatten)]
    pub node: Node,
    /// The Kaspa network: mainnet, testnet-10, devnet or simnet.
    #[arg(long, env = "PUNCHLINE_NETWORK", default_value = "mainnet")]
    pub network: Network,
    /// The socket address to tell peers as ours, for them to gossip.
    #[arg(long, env = "PUNCHLINE_ADVERTISE", value_name = "IP:PORT")]
    pub advertise: Option<SocketAddr>,
    /// For the demo: take cues from standard input.
    #[arg(long, hide = true, env = "PUNCHLINE_REHEARSE", value_parser = BoolishValueParser::new())]
    pub rehearse: bool,
}

/// `punchline client`.
#[derive(Args, Debug)]
pub struct Client {
    /// Its node.
    #[command(flatten)]
    pub node: Node,
    /// Whom to dial. With --namespace it may be left out: then the member that is found first.
    #[arg(long, env = "PUNCHLINE_PEER", value_name = "ID|NAME")]
    pub peer: Option<PeerRef>,
    /// Where the peer may be reached, besides through the relays.
    #[arg(long, env = "PUNCHLINE_ADDR", value_name = "ADDR")]
    pub addr: Vec<Many<Multiaddr>>,
    /// The Kaspa network: mainnet, testnet-10, devnet or simnet.
    #[arg(long, env = "PUNCHLINE_NETWORK", default_value = "mainnet")]
    pub network: Network,
    /// Once the session is ready, send this many MiB over its stream, beside Kaspa's messages.
    #[arg(long, env = "PUNCHLINE_LOAD_MIB", value_name = "N")]
    #[arg(value_parser = RangedU64ValueParser::<u64>::new().range(1..=LOAD_MIB_MAX))]
    pub load_mib: Option<u64>,
    /// Start the load only when the session's path is direct.
    #[arg(long, env = "PUNCHLINE_LOAD_AFTER_DIRECT", value_parser = BoolishValueParser::new())]
    pub load_after_direct: bool,
    /// Start the load at once, and let it go on until the MiB of --load-mib went over the direct path. If
    /// the path does not become direct, the load ends after 256 MiB more.
    #[arg(long, env = "PUNCHLINE_LOAD_UNTIL_DIRECT", value_parser = BoolishValueParser::new())]
    pub load_until_direct: bool,
    /// Give up after this many failed attempts before the first session; 0: never. Once a session was
    /// ready, it is dialled again for ever.
    #[arg(long, env = "PUNCHLINE_DIAL_ATTEMPTS", default_value_t = 5)]
    pub dial_attempts: u32,
    /// How long the way to the peer may take, whichever it is, until an attempt has failed. It then says what was still
    /// awaited. Between slow networks, or with --relay-mode coordination, it may take longer than the default.
    #[arg(long, env = "PUNCHLINE_CONNECT_TIMEOUT", value_name = "TIME", default_value = "10s")]
    pub connect_timeout: ConnectTimeout,
    /// For the demo: take cues from standard input.
    #[arg(long, hide = true, env = "PUNCHLINE_REHEARSE", value_parser = BoolishValueParser::new())]
    pub rehearse: bool,
}

/// A load of a tebibyte: more is a typo.
const LOAD_MIB_MAX: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_flag_has_its_environment_variable() {
        let mut commands: Vec<clap::Command> = Cli::command().get_subcommands().cloned().collect();
        while let Some(command) = commands.pop() {
            commands.extend(command.get_subcommands().cloned());
            for flag in command.get_arguments().filter(|flag| flag.get_long().is_some()) {
                let name = flag.get_id().as_str();
                if matches!(name, "help" | "version") {
                    continue;
                }
                let wanted = format!("PUNCHLINE_{}", name.to_uppercase());
                assert_eq!(flag.get_env().and_then(|env| env.to_str()), Some(wanted.as_str()));
            }
        }
    }
}
