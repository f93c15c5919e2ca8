//! What every command with a node takes.

use std::path::PathBuf;

use clap::{
    ArgAction, Args, ValueEnum,
    builder::{BoolishValueParser, RangedU64ValueParser},
};
use ipnet::IpNet;
use libp2p::Multiaddr;
use punchline_bridge::{RelayLocator, addr::StunServer, config::EXTERNAL_MAX};

use super::{
    finding::Finding,
    metrics::Metrics,
    nets::Nets,
    page::Page,
    time::Patience,
    values::{ListenAddr, Many, OwnAddr, ProxyUrl},
};

/// Where a node answers questions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ControlSocket {
    /// Nowhere.
    Off,
    /// On this Unix socket.
    At(PathBuf),
}

impl From<std::ffi::OsString> for ControlSocket {
    fn from(text: std::ffi::OsString) -> Self {
        if text == "off" { Self::Off } else { Self::At(text.into()) }
    }
}

/// What every command with a node takes.
#[derive(Args, Debug)]
pub struct Node {
    /// Listen here; one address per transport and family. Default: every interface, IPv4 and IPv6, TCP
    /// and QUIC, one free port each. A circuit address means: reserve a place at its relay.
    #[arg(long, env = "PUNCHLINE_LISTEN", value_name = "ADDR")]
    pub listen: Vec<Many<ListenAddr>>,
    /// Where others reach this node: the public address, and the port that a router was told to forward to a port of
    /// --listen, as `/ip4/203.0.113.7/tcp/4001`; 4 at most. Peers are told at once, relays look whether it leads here, and if
    /// it does not, a warning says so. Without it, relays tell the node where they see it.
    #[arg(long, env = "PUNCHLINE_EXTERNAL", value_name = "ADDR")]
    pub external: Vec<Many<OwnAddr>>,
    /// A relay, as `/ip4/203.0.113.7/tcp/4001/p2p/12D3KooW…`. One that has several addresses may be given with all of
    /// them: it is reached by the first that answers, over TCP, QUIC or a WebSocket (`…/tcp/443/tls/ws/p2p/…`). Or a name,
    /// as `relay.example.org` or `/dnsaddr/relay.example.org`: TXT records of `_dnsaddr.relay.example.org` that say
    /// `dnsaddr=` and such an address name one or several relays, and whoever writes them chooses these.
    #[arg(long, env = "PUNCHLINE_RELAY", value_name = "ADDR")]
    pub relay: Vec<Many<RelayLocator>>,
    /// What relays are used for.
    #[arg(long, env = "PUNCHLINE_RELAY_MODE", value_name = "MODE", default_value = "fallback")]
    pub relay_mode: RelayMode,
    /// How WebSockets are reached.
    #[command(flatten)]
    pub proxy: ProxyFlags,
    /// How peers are found.
    #[command(flatten)]
    pub finding: Finding,
    /// Treat these ranges as public: labs, private networks.
    #[arg(long, env = "PUNCHLINE_ASSUME_GLOBAL", value_name = "CIDR")]
    pub assume_global: Vec<Many<IpNet>>,
    /// Whom it speaks with, by address.
    #[command(flatten)]
    pub nets: Nets,
    /// Whether the router is asked to forward the ports of --listen to this node, by PCP, NAT-PMP or UPnP, and over IPv6
    /// to open its firewall at them, by PCP, and told to stop when the node ends. Then peers reach it directly where a
    /// hole punch would fail.
    #[arg(long, env = "PUNCHLINE_PORT_MAPPING", value_name = "WHEN", default_value = "on")]
    pub port_mapping: PortMapping,
    /// As other programs call it: `true` is --port-mapping on, `false` is off.
    #[arg(long, env = "PUNCHLINE_ENABLE_UPNP", value_name = "true|false", value_parser = BoolishValueParser::new())]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub enable_upnp: Option<bool>,
    /// Whether relayed connections are made direct by hole punches. Without them, a direct path takes an address at which
    /// one of the two is reached.
    #[arg(long, env = "PUNCHLINE_ENABLE_HOLE_PUNCHING", value_name = "true|false")]
    #[arg(value_parser = BoolishValueParser::new(), action = ArgAction::Set, default_value = "true")]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub enable_hole_punching: bool,
    /// Ask this STUN server, too, what kind of NAT this node is behind; `stun:` may stand before it. Relays of
    /// ours are asked anyway; of more than 8 the first 8.
    #[arg(long, env = "PUNCHLINE_STUN_SERVER", value_name = "HOST:PORT")]
    pub stun_server: Vec<Many<StunServer>>,
    /// Most streams to and from one peer at once, 224 at most; services share them equally. Of both ends'
    /// numbers the lower one counts. Each stream may cost a window of memory.
    #[arg(long, env = "PUNCHLINE_MAX_STREAMS_PER_PEER", default_value = "128", value_name = "N")]
    #[arg(value_parser = RangedU64ValueParser::<usize>::new().range(1..=STREAMS_PER_PEER_MAX))]
    pub max_streams_per_peer: usize,
    /// Most streams of all peers together that this node answers or is asked for at once. Each may cost half a
    /// MiB of memory; see design/limits.md.
    #[arg(long, env = "PUNCHLINE_MAX_STREAMS_OF_PEERS", default_value = "2048", value_name = "N")]
    #[arg(value_parser = RangedU64ValueParser::<usize>::new().range(1..=STREAMS_OF_PEERS_MAX))]
    pub max_streams_of_peers: usize,
    /// How long a stream that lost its path waits for another, as `90s`, `15m` or `2h`: say `2h` at both ends,
    /// and sessions survive a laptop that sleeps that long. It is also how long the program behind a service
    /// keeps the connection of a peer that vanished without a word.
    #[arg(long, env = "PUNCHLINE_PATIENCE", value_name = "TIME", default_value = "60s")]
    pub patience: Patience,
    /// Answer `punchline status` on this Unix socket, which is its owner's alone; `off`: nowhere. Default: beside the
    /// identity, with `.sock` after its name.
    #[arg(long, env = "PUNCHLINE_CONTROL", value_name = "PATH|off")]
    pub control: Option<ControlSocket>,
    /// Where it tells numbers about itself.
    #[command(flatten)]
    pub metrics: Metrics,
    /// Where it shows itself to people.
    #[command(flatten)]
    pub page: Page,
    /// As whom it may run.
    #[command(flatten)]
    pub rights: Rights,
    /// Write what this node's decisions rest on to this file, which is replaced, for those who look into a bug:
    /// ids and addresses of peers are in it, nothing of what streams carry. It ends after 16 MiB.
    #[arg(long, env = "PUNCHLINE_JOURNAL", value_name = "FILE")]
    pub journal: Option<PathBuf>,
}

impl Node {
    /// Where others reach it, as the operator says.
    ///
    /// # Errors
    /// If there are more such addresses than are told to peers.
    pub fn external(&self) -> Result<Vec<Multiaddr>, String> {
        let mut all: Vec<Multiaddr> = Vec::new();
        for OwnAddr(address) in super::all(&self.external) {
            if !all.contains(&address) {
                all.push(address);
            }
        }
        match all.len() {
            count if count > EXTERNAL_MAX => Err(format!(
                "--external names {count} addresses, and peers are told {EXTERNAL_MAX} at most: one for each of TCP and QUIC, \
                 over IPv4 and IPv6; leave the others out"
            )),
            _ => Ok(all),
        }
    }

    /// Whether the router is asked to forward ports.
    ///
    /// # Errors
    /// If the two flags that say so contradict each other.
    pub fn port_mapping(&self) -> Result<PortMapping, String> {
        match (self.enable_upnp, self.port_mapping) {
            (Some(true), PortMapping::Off) => {
                Err("--enable-upnp and --port-mapping off contradict each other; leave one of them out"
                    .to_owned())
            }
            (Some(false), _) | (None, PortMapping::Off) => Ok(PortMapping::Off),
            (Some(true) | None, PortMapping::On) => Ok(PortMapping::On),
        }
    }
}

/// As whom a node or a relay may run.
#[derive(Args, Clone, Copy, Debug, Default)]
pub struct Rights {
    /// It is meant that this runs as root: do not warn of it. Nothing here needs root.
    #[arg(long, env = "PUNCHLINE_ALLOW_ROOT", value_parser = BoolishValueParser::new())]
    pub allow_root: bool,
}

/// Through which proxy WebSockets are reached.
#[derive(Args, Clone, Debug, Default)]
pub struct ProxyFlags {
    /// The HTTP proxy to reach relays through whose addresses end in /ws or /wss: `http://HOST:PORT`, or
    /// `http://USER:PASSWORD@HOST:PORT`; `off` for none. Default: what the variable HTTPS_PROXY says.
    #[arg(long, env = "PUNCHLINE_PROXY", value_name = "URL", hide_env_values = true)]
    #[arg(hide_default_value = true)]
    pub proxy: Option<ProxyUrl>,
    /// Reach these without the proxy: host names, with all below them, addresses and ranges, separated by commas.
    /// Default: what the variable NO_PROXY says.
    #[arg(long, env = "PUNCHLINE_NO_PROXY", value_name = "HOSTS")]
    pub no_proxy: Option<String>,
    /// What the variables say that all programs read.
    #[arg(skip)]
    pub system_proxy: SystemProxy,
}

/// The proxy that the environment names for every program.
#[derive(Clone, Debug, Default)]
pub struct SystemProxy {
    /// HTTPS_PROXY or https_proxy.
    pub proxy: Option<ProxyUrl>,
    /// NO_PROXY or no_proxy.
    pub exceptions: String,
}

/// Whether the router is asked to forward ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PortMapping {
    /// It is asked.
    #[value(aliases = ["true", "yes"])]
    On,
    /// It is left alone.
    #[value(aliases = ["false", "no"])]
    Off,
}

/// What relays are used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RelayMode {
    /// Nothing: peers are reached at known addresses alone, and --relay may not be given.
    Off,
    /// To introduce peers: no byte of a service crosses a relay; streams wait for a direct connection.
    Coordination,
    /// To carry streams as well, where there is no direct path.
    Fallback,
}

impl From<RelayMode> for punchline_bridge::config::RelayMode {
    fn from(mode: RelayMode) -> Self {
        match mode {
            RelayMode::Off => Self::Off,
            RelayMode::Coordination => Self::Coordination,
            RelayMode::Fallback => Self::Fallback,
        }
    }
}

/// What one connection carries, with room for streams that move and for the protocols beside them: QUIC
/// takes 256 from a peer, and Yamux ends the connection at 512.
const STREAMS_PER_PEER_MAX: u64 = 224;

/// 32 GiB, if peers mean no good: more is a typo.
const STREAMS_OF_PEERS_MAX: u64 = 65_536;
