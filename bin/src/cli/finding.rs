//! How peers are found whose addresses nobody gave.

#[cfg(any(feature = "kad", feature = "peer-cache"))]
use std::path::PathBuf;

use clap::Args;
#[cfg(any(feature = "kad", feature = "mainline", feature = "mdns", feature = "rendezvous"))]
use clap::ValueEnum;
#[cfg(feature = "kad")]
use libp2p::Multiaddr;

#[cfg(feature = "dns")]
use super::domains::Domain;
#[cfg(feature = "rendezvous")]
use super::domains::MeetingPoint;
#[cfg(any(feature = "dns", feature = "kad", feature = "rendezvous"))]
use super::values::Many;
#[cfg(feature = "kad")]
use super::{domains::BootstrapAddr, values::DhtListenAddr};

/// How peers are found whose addresses nobody gave.
#[derive(Args, Clone, Debug)]
pub struct Finding {
    /// Whether peers on the local networks are looked for there, by mDNS, and answered who look for this node. Whoever is
    /// on such a network learns this node's id, and where it listens there.
    #[cfg(feature = "mdns")]
    #[arg(long, env = "PUNCHLINE_MDNS", value_name = "WHEN", default_value = "on")]
    pub mdns: Mdns,
    /// Remember in this file where the peers were reached that this node looks for, so that they are found there again;
    /// `off`: nothing is remembered. Default: beside the identity, with `.peers` after its name.
    #[cfg(feature = "peer-cache")]
    #[arg(long, env = "PUNCHLINE_PEER_CACHE", value_name = "PATH|off")]
    pub peer_cache: Option<PeerCache>,
    /// Look for peers at this domain: TXT records of `_dnsaddr.NAME` that say `dnsaddr=` and an address that ends in
    /// `/p2p/` and a peer's id say where that peer is, and `dnsaddr=/dnsaddr/OTHER` leads to another name. Whoever writes
    /// them says where to look, and never who answers there.
    #[cfg(feature = "dns")]
    #[arg(long, env = "PUNCHLINE_DNS", value_name = "NAME")]
    pub dns: Vec<Many<Domain>>,
    /// What strangers are told of where this node is, in a DHT, in a 160-bit network and at meeting points.
    #[cfg(any(feature = "kad", feature = "mainline", feature = "rendezvous"))]
    #[arg(long, env = "PUNCHLINE_CONTACT", value_name = "WHAT", default_value = "full")]
    pub contact: Told,
    /// Register at this meeting point where this node is, and ask there for peers, as
    /// `/ip4/203.0.113.7/tcp/4001/p2p/12D3KooW…`: a `punchline bootstrap --rendezvous-server`, or any that speaks libp2p's
    /// rendezvous protocol. It sees this node's addresses and id, and whom it looks for. Of more than 4 the first 4.
    #[cfg(feature = "rendezvous")]
    #[arg(long, env = "PUNCHLINE_RENDEZVOUS", value_name = "ADDR")]
    pub rendezvous: Vec<Many<MeetingPoint>>,
    /// Whether a node of a 160-bit network also says there in signed DNS records where it is, as pkarr does, and looks for
    /// those of others: who knows its public key finds it (`--peer pk:KEY`). It doubles the packets that this takes.
    #[cfg(feature = "pkarr")]
    #[arg(long, env = "PUNCHLINE_PKARR", value_name = "WHEN", default_value = "on")]
    pub pkarr: Pkarr,
    /// Whether and where peers are found in a 160-bit network.
    #[cfg(feature = "mainline")]
    #[command(flatten)]
    pub mainline: super::mainline::Joining,
    /// The DHT.
    #[cfg(feature = "kad")]
    #[command(flatten)]
    pub dht: DhtFlags,
}

/// How a node takes part in a DHT.
#[cfg(feature = "kad")]
#[derive(Args, Clone, Debug)]
pub struct DhtFlags {
    /// Take part in a DHT, beginning with this node of it, as `/ip4/203.0.113.7/tcp/4001/p2p/12D3KooW…`: peers find this
    /// node there by its id, and it finds them. Or a name, as `bootstrap.example.org`, for all that TXT records of
    /// `_dnsaddr.bootstrap.example.org` say; they are looked up again. Whoever is in the DHT sees this node's address, its
    /// id, and whom it looks for. Default: no DHT.
    #[arg(long, env = "PUNCHLINE_BOOTSTRAP", value_name = "ADDR")]
    pub bootstrap: Vec<Many<BootstrapAddr>>,
    /// Whether this node answers others in the DHT.
    #[arg(long, env = "PUNCHLINE_DHT", value_name = "WHEN", default_value = "auto")]
    pub dht: DhtMode,
    /// Listen here for other nodes of the DHT. Default: nowhere; then this node asks, and answers nobody.
    #[arg(long, env = "PUNCHLINE_DHT_LISTEN", value_name = "ADDR")]
    pub dht_listen: Vec<Many<DhtListenAddr>>,
    /// Where other nodes of the DHT reach this one from outside. Default: the addresses given with --dht-listen, if they
    /// are public ones of this host.
    #[arg(long, env = "PUNCHLINE_DHT_EXTERNAL", value_name = "ADDR")]
    pub dht_external: Vec<Many<Multiaddr>>,
    /// The namespace, in the DHT, of those who belong together. What exposes anything is found in it; a forward or client
    /// without --peer goes to any member that answers, the nearest first. Whoever knows the name sees its members.
    #[arg(long, env = "PUNCHLINE_NAMESPACE", value_name = "NAME")]
    pub namespace: Vec<Many<String>>,
    /// A secret of 16 bytes or more that all members have in this file: who has it not does not even find the namespaces.
    #[arg(long, env = "PUNCHLINE_NAMESPACE_SECRET", value_name = "FILE")]
    pub namespace_secret: Option<PathBuf>,
    /// Which DHT: nodes of different names never meet.
    #[arg(long, env = "PUNCHLINE_DHT_NETWORK", value_name = "NAME", default_value = "main")]
    pub dht_network: String,
}

/// Whether a node answers others in the DHT.
#[cfg(feature = "kad")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DhtMode {
    /// If it listens for them at a public address, or --dht-external says where it is reached.
    Auto,
    /// It only asks.
    Client,
    /// It answers, wherever it listens.
    Server,
    /// It takes no part, whatever else is said.
    Off,
}

/// Whether the local networks are asked.
#[cfg(feature = "mdns")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Mdns {
    /// They are, and answered.
    #[value(aliases = ["true", "yes"])]
    On,
    /// This node is silent there.
    #[value(aliases = ["false", "no"])]
    Off,
}

/// What strangers are told of where a node is.
#[cfg(any(feature = "kad", feature = "mainline", feature = "rendezvous"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Told {
    /// Its addresses, and circuits through its relays.
    Full,
    /// Circuits alone: who may not connect to this node does not learn its address there. Where it asks, it is seen.
    RelaysOnly,
}

/// Whether a node speaks as pkarr does.
#[cfg(feature = "pkarr")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Pkarr {
    /// It does, where it is in a 160-bit network.
    #[value(aliases = ["true", "yes"])]
    On,
    /// It does not.
    #[value(aliases = ["false", "no"])]
    Off,
}

/// Where it is remembered where peers were reached.
#[cfg(feature = "peer-cache")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerCache {
    /// Nowhere.
    Off,
    /// In this file.
    At(PathBuf),
}

#[cfg(feature = "peer-cache")]
impl From<std::ffi::OsString> for PeerCache {
    fn from(text: std::ffi::OsString) -> Self {
        if text == "off" { Self::Off } else { Self::At(text.into()) }
    }
}
