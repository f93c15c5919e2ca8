//! What was found out about a host and its network, before anybody judges it.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use libp2p::{Multiaddr, PeerId};
use punchline_bridge::{
    event::MappingProtocol,
    nat::NatKind,
    path::Transport,
    survey::{Hairpin, RouterAnswer},
};
use serde::Serialize;

use crate::control::proto::{Bootstrap, External, Status, Verification};

/// Everything.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// Each address of a relay that is to be used.
    pub(crate) relays: Vec<RelayFinding>,
    /// What lookups of names came to, each name once.
    pub(crate) names: Vec<(String, Result<Vec<IpAddr>, String>)>,
    /// The address that leads out over IPv4.
    pub(crate) v4: Option<IpAddr>,
    /// Likewise over IPv6.
    pub(crate) v6: Option<IpAddr>,
    /// What a node of ours saw.
    pub(crate) node: NodeFinding,
    /// None: nobody was asked.
    pub(crate) hairpin: Option<Hairpin>,
    /// What our router says; none if there is none, or it was to be left alone.
    pub(crate) mapping: Option<Vec<(MappingProtocol, RouterAnswer)>>,
    /// The proxy that is set, and where it comes from.
    pub(crate) proxy: Option<ProxyFinding>,
    /// The part in a DHT of the node that runs here; none if it takes none, or no node runs.
    pub(crate) dht: Option<DhtFinding>,
    /// Where the operator of the node that runs here says that it is reached.
    pub(crate) external: Vec<External>,
    /// The addresses that a node is to listen on.
    pub(crate) listening: Vec<ListenFinding>,
    /// The identities that were looked at.
    pub(crate) identities: Vec<IdentityFinding>,
    /// The directory that identities are kept in.
    pub(crate) state: Option<StateFinding>,
    /// Files that this process may have open; none if the system sets no limit.
    pub(crate) open_files: Option<u64>,
    /// The largest packet that leaves towards the internet, by family; none where none leaves.
    pub(crate) mtu_v4: Option<u32>,
    /// Likewise over IPv6.
    pub(crate) mtu_v6: Option<u32>,
}

/// One address of a relay.
#[derive(Debug)]
pub(crate) struct RelayFinding {
    pub(crate) address: Multiaddr,
    pub(crate) relay: PeerId,
    pub(crate) transport: Transport,
    /// The port of its TCP or UDP socket.
    pub(crate) port: Option<u16>,
    /// It is dialled through the proxy.
    pub(crate) proxied: bool,
    pub(crate) reached: Result<(), Fault>,
}

/// What a passing node came to learn within its time.
#[derive(Debug, Default)]
pub(crate) struct NodeFinding {
    /// Why it could not run.
    pub(crate) start: Option<String>,
    pub(crate) nat_v4: NatKind,
    pub(crate) nat_v6: NatKind,
    /// By how many seconds the clock of each relay that told the time is ahead of ours; zero if it agrees.
    pub(crate) clocks: BTreeMap<PeerId, i64>,
}

/// A node's part in a DHT.
#[derive(Debug)]
pub(crate) struct DhtFinding {
    pub(crate) network: String,
    /// Nodes in its table.
    pub(crate) nodes: u32,
    pub(crate) bootstraps: Vec<DhtBootstrap>,
    /// Since others last took to keep where it is.
    pub(crate) said: Option<Duration>,
    /// Nodes crowd round where it is kept.
    pub(crate) crowded: bool,
    pub(crate) verified: Option<Verified>,
}

/// A node that it begins with.
#[derive(Debug)]
pub(crate) struct DhtBootstrap {
    pub(crate) address: String,
    pub(crate) down: bool,
    /// Of which network it says that it is.
    pub(crate) network: Option<String>,
}

/// What came of the latest verification.
#[derive(Debug)]
pub(crate) struct Verified {
    /// pass, warn, fail.
    pub(crate) verdict: String,
    /// What was found, in one sentence.
    pub(crate) words: String,
    pub(crate) advice: Option<String>,
}

impl DhtFinding {
    /// As a running node tells of it.
    pub(super) fn of(status: &Status) -> Option<Self> {
        let dht = status.dht.as_ref()?;
        let bootstrap = |node: &Bootstrap| DhtBootstrap {
            address: node.address.clone(),
            down: node.health == "down",
            network: node.network.clone(),
        };
        Some(Self {
            network: dht.network.clone(),
            nodes: dht.buckets.iter().map(|bucket| bucket.nodes).sum(),
            bootstraps: dht.bootstraps.iter().map(bootstrap).collect(),
            said: dht.published_seconds.and_then(|since| Duration::try_from_secs_f64(since).ok()),
            crowded: dht.density_alarm,
            verified: status.verification.as_ref().map(Verified::of),
        })
    }
}

impl Verified {
    fn of(verification: &Verification) -> Self {
        let Verification { verdict, steps, .. } = verification;
        let worst = steps.iter().find(|step| step.verdict == *verdict && verdict != "pass");
        Self {
            verdict: verdict.clone(),
            words: match worst {
                None => "all six steps of its verification pass".to_owned(),
                Some(step) => format!("step {} ({}) {verdict}s: {}", step.step, step.name, step.found),
            },
            advice: worst.and_then(|step| step.advice.clone()),
        }
    }
}

/// An address that a node is to listen on.
#[derive(Debug)]
pub(crate) struct ListenFinding {
    pub(crate) address: Multiaddr,
    pub(crate) can: Result<Listens, Taken>,
}

/// How an address can be listened on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Listens {
    /// Nobody else does.
    Free,
    /// The node that runs here does.
    Already,
}

/// Why an address cannot be listened on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// Another program has the port.
    Port {
        /// What is taken, and by whom if the system tells.
        found: String,
    },
    /// Something else, with what to do.
    Other {
        /// What the system said.
        cause: String,
    },
}

/// A proxy.
#[derive(Debug)]
pub(crate) struct ProxyFinding {
    pub(crate) proxy: String,
    /// What a connection to it came to.
    pub(crate) answers: Result<(), String>,
}

/// The file of an identity.
#[derive(Debug)]
pub(crate) struct IdentityFinding {
    pub(crate) path: PathBuf,
    /// Whether it is there; or why it cannot be used, and what to do.
    pub(crate) found: Result<bool, String>,
}

/// Where identities are kept.
#[derive(Debug)]
pub(crate) struct StateFinding {
    pub(crate) directory: PathBuf,
    /// Why nothing can be written there.
    pub(crate) writable: Result<(), Unwritable>,
    /// An identity is there already.
    pub(crate) has_identity: bool,
}

/// Why a file cannot be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unwritable {
    /// No space is left.
    Full,
    /// Something else.
    Refused {
        /// What the system said.
        cause: String,
    },
}

/// What must be right for somebody to be reached at an address, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Layer {
    /// Its name stands for an address.
    Name,
    /// TCP connects.
    Tcp,
    /// Something speaks QUIC there.
    Quic,
    /// What is between TCP and libp2p: a WebSocket, perhaps TLS, perhaps a proxy.
    Websocket,
    /// TLS, or Noise.
    Security,
    /// It is the peer that was meant.
    Identity,
    /// It speaks what it is to speak.
    Protocol,
}

impl Layer {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Tcp => "TCP",
            Self::Quic => "QUIC",
            Self::Websocket => "WebSocket",
            Self::Security => "handshake",
            Self::Identity => "identity",
            Self::Protocol => "protocol",
        }
    }
}

/// Why nobody is reached at an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The name stands for nothing.
    Unresolved { name: String, cause: String },
    /// Our own ranges of addresses keep it away.
    Denied { ip: IpAddr, layer: Layer },
    /// The host answers, and nothing listens there.
    TcpRefused { at: SocketAddr },
    /// Nothing came back.
    TcpTimeout { at: SocketAddr, seconds: u64 },
    /// This host has no way there.
    TcpUnreachable { at: SocketAddr, cause: String },
    /// The host says that nothing listens there.
    UdpRefused { at: SocketAddr },
    /// Nothing came back.
    UdpSilent { at: SocketAddr, seconds: u64 },
    /// This host cannot send there.
    UdpUnreachable { at: SocketAddr, cause: String },
    /// The WebSocket, its TLS or the proxy.
    Websocket { cause: String },
    /// Connections are taken, and nothing is said.
    Silent { seconds: u64 },
    /// Connections are taken and closed at once.
    HungUp,
    /// Something else than libp2p is there.
    Foreign(Foreign),
    /// The handshake failed.
    Handshake { cause: String },
    /// Somebody else answers.
    WrongPeer { wanted: PeerId, obtained: PeerId },
    /// The relay holds no reservation of the peer.
    NoReservation,
    /// The relay does not make the circuit.
    NoCircuit { cause: String },
    /// The relay is no relay for us.
    NoPlace { cause: String },
    /// It speaks libp2p, and nothing of ours.
    NotOurs,
    /// It was not known by then.
    Deadline { layer: Layer, seconds: u64 },
}

/// What else answers at a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Foreign {
    Http,
    Ssh,
    Tls,
    Unknown,
}

impl Fault {
    /// The layer that fails.
    pub(crate) fn layer(&self) -> Layer {
        match self {
            Self::Unresolved { .. } => Layer::Name,
            Self::TcpRefused { .. } | Self::TcpTimeout { .. } | Self::TcpUnreachable { .. } => {
                Layer::Tcp
            }
            Self::UdpRefused { .. } | Self::UdpSilent { .. } | Self::UdpUnreachable { .. } => {
                Layer::Quic
            }
            Self::Websocket { .. } => Layer::Websocket,
            Self::Silent { .. } | Self::HungUp | Self::Handshake { .. } => Layer::Security,
            Self::WrongPeer { .. } => Layer::Identity,
            Self::Foreign(_)
            | Self::NoReservation
            | Self::NoCircuit { .. }
            | Self::NoPlace { .. }
            | Self::NotOurs => Layer::Protocol,
            Self::Denied { layer, .. } | Self::Deadline { layer, .. } => *layer,
        }
    }

    /// What was seen, and what to do about it; none where that is in it already.
    pub(crate) fn words(&self) -> (String, Option<&'static str>) {
        let (seen, advice) = match self {
            Self::Unresolved { name, cause } => (
                format!("the name {name} cannot be resolved ({cause})"),
                "see whether the name is right and the name servers in /etc/resolv.conf answer, or give an IP address",
            ),
            Self::Denied { ip, .. } => (
                format!("--deny-net or --net-file keeps {ip} away"),
                "take its range out of them, or name another relay",
            ),
            Self::TcpRefused { at } => (
                format!("{at} refuses connections over TCP"),
                "see whether it runs and listens at that port",
            ),
            Self::TcpTimeout { at, seconds } => (
                format!("{at} did not answer over TCP within {seconds} s"),
                "see whether the address is right, and whether a firewall here or there drops packets to that port",
            ),
            Self::TcpUnreachable { at, cause } => (
                format!("there is no way to {at} over TCP ({cause})"),
                "see whether this network is up, and whether it has that kind of address",
            ),
            Self::UdpRefused { at } => (
                format!("nothing listens at {at} over UDP"),
                "see whether it runs and listens at that port",
            ),
            Self::UdpSilent { at, seconds } => (
                format!("{at} did not answer over UDP within {seconds} s"),
                "see whether it runs, and whether a firewall here or there drops UDP",
            ),
            Self::UdpUnreachable { at, cause } => (
                format!("there is no way to {at} over UDP ({cause})"),
                "see whether this network is up, and whether it has that kind of address",
            ),
            Self::Websocket { cause } => return (cause.clone(), None),
            _ => return self.words_of_peer(),
        };
        (seen, Some(advice))
    }

    /// Of what whoever is there says.
    fn words_of_peer(&self) -> (String, Option<&'static str>) {
        let (seen, advice) = match self {
            Self::Silent { seconds } => (
                format!("it takes connections and says nothing for {seconds} s"),
                "restart what runs there: it hangs, or is no punchline relay or node",
            ),
            Self::HungUp => (
                "it takes connections and closes them at once".to_owned(),
                "see its log: it may be full, or forbid this host's address, or be something else than a relay or node",
            ),
            Self::Foreign(foreign) => (foreign.words().to_owned(), foreign.advice()),
            Self::Handshake { cause } => (
                format!("the handshake failed ({cause})"),
                "see its log; if nothing is in there, something between here and there changes what is sent",
            ),
            Self::WrongPeer { wanted, obtained } => (
                format!("{obtained} answers there, and {wanted} was wanted"),
                "see whose address that is; if you trust who answers, end the address with its id",
            ),
            Self::NoReservation => (
                "the relay answers, and holds no place for that peer".to_owned(),
                "see whether the peer runs, and uses that relay",
            ),
            Self::NoCircuit { cause } => (
                format!("the relay makes no circuit ({cause})"),
                "try again later, or use another relay",
            ),
            Self::NoPlace { cause } => (
                format!("it keeps no place for us ({cause})"),
                "see whether it is a relay, whether it knows its own address (--external), and whether it is full",
            ),
            Self::Deadline { layer, seconds } => (
                format!("it was not known within {seconds} s whether the {} works", layer.name()),
                "try again where the network is less busy",
            ),
            _ => (
                "it speaks libp2p, and neither punchline's streams nor a relay's protocol".to_owned(),
                "see whether that is the program you mean",
            ),
        };
        (seen, Some(advice))
    }
}

impl Foreign {
    fn words(self) -> &'static str {
        match self {
            Self::Http => "an HTTP server answers there, and no relay or node",
            Self::Ssh => "an SSH server answers there, and no relay or node",
            Self::Tls => "something that speaks TLS answers there",
            Self::Unknown => "something answers there that is neither libp2p nor HTTP",
        }
    }

    fn advice(self) -> &'static str {
        match self {
            Self::Http => {
                "see whether the port is right; for a relay behind a web server, give its address as /tcp/443/tls/ws"
            }
            Self::Tls => {
                "for a relay that listens on HTTPS, end the address with /tls/ws; else see whether the port is right"
            }
            Self::Ssh | Self::Unknown => "see whether the port is right",
        }
    }
}
