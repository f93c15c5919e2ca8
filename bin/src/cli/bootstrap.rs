//! `punchline bootstrap`.

use clap::Args;
use ipnet::IpNet;
use libp2p::Multiaddr;

use super::{BootstrapAddr, ControlSocket, DhtListenAddr, Many, Metrics, Nets, Rights};

/// `punchline bootstrap`.
#[derive(Args, Debug)]
pub struct Bootstrap {
    /// Listen here for other nodes of the DHT. Default: every interface, IPv4 and IPv6, TCP and QUIC, port 4001.
    #[arg(long, env = "PUNCHLINE_LISTEN", value_name = "ADDR")]
    pub listen: Vec<Many<DhtListenAddr>>,
    /// Where other nodes reach this one from outside. Default: the public addresses that it listens on, and those given
    /// with --listen that name an IP address.
    #[arg(long, env = "PUNCHLINE_EXTERNAL", value_name = "ADDR")]
    pub external: Vec<Many<Multiaddr>>,
    /// Other bootstrap nodes of the same DHT, or a name for them. Each should know another: then none is missed.
    #[arg(long, env = "PUNCHLINE_BOOTSTRAP", value_name = "ADDR")]
    pub bootstrap: Vec<Many<BootstrapAddr>>,
    /// Be a meeting point as well: nodes register here where they are (`--rendezvous` and this node's address), and ask here
    /// for others by their ids. It keeps 10,000 registrations, 32 of one node and 256 of one address, for 2 to 72 hours.
    #[cfg(feature = "rendezvous")]
    #[arg(long, env = "PUNCHLINE_RENDEZVOUS_SERVER", value_parser = clap::builder::BoolishValueParser::new())]
    pub rendezvous_server: bool,
    /// Which DHT: nodes of different names never meet.
    #[arg(long, env = "PUNCHLINE_DHT_NETWORK", value_name = "NAME", default_value = "main")]
    pub dht_network: String,
    /// Treat these ranges as public: labs, private networks.
    #[arg(long, env = "PUNCHLINE_ASSUME_GLOBAL", value_name = "CIDR")]
    pub assume_global: Vec<Many<IpNet>>,
    /// Answer `punchline status` and `punchline network` on this Unix socket, which is its owner's alone; `off`: nowhere.
    /// Default: beside the identity, with `.sock` after its name.
    #[arg(long, env = "PUNCHLINE_CONTROL", value_name = "PATH|off")]
    pub control: Option<ControlSocket>,
    /// Whom it speaks with, by address.
    #[command(flatten)]
    pub nets: Nets,
    /// Where it tells numbers about itself.
    #[command(flatten)]
    pub metrics: Metrics,
    /// As whom it may run.
    #[command(flatten)]
    pub rights: Rights,
}
