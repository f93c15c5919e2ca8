//! `punchline doctor`.

use std::path::PathBuf;

use clap::{Args, Subcommand, builder::BoolishValueParser};
use ipnet::IpNet;
use libp2p::Multiaddr;
use punchline_bridge::{
    RelayLocator,
    addr::{self, StunServer},
};

use super::{Asking, ListenAddr, Many, Nets, PortAddr, PortMapping, ProxyFlags, SystemProxy};

/// `punchline doctor`.
#[derive(Args, Debug)]
pub struct Doctor {
    /// What else to do.
    #[command(subcommand)]
    pub what: Option<DoctorWhat>,
    /// The relay to try, with all its addresses as a node is given them. Default: what the settings say, or else those
    /// of the node that runs here.
    #[arg(long, env = "PUNCHLINE_RELAY", value_name = "ADDR")]
    pub relay: Vec<Many<RelayLocator>>,
    /// Whether this can be listened on, as a node is to: an address as `/ip4/0.0.0.0/tcp/4001`.
    #[arg(long, env = "PUNCHLINE_LISTEN", value_name = "ADDR")]
    pub listen: Vec<Many<ListenAddr>>,
    /// Ask this STUN server, too, how it sees this host.
    #[arg(long, env = "PUNCHLINE_STUN_SERVER", value_name = "HOST:PORT")]
    pub stun_server: Vec<Many<StunServer>>,
    /// Treat these ranges as public: labs, private networks.
    #[arg(long, env = "PUNCHLINE_ASSUME_GLOBAL", value_name = "CIDR")]
    pub assume_global: Vec<Many<IpNet>>,
    /// Whether the router is asked to forward a port for a moment.
    #[arg(long, env = "PUNCHLINE_PORT_MAPPING", value_name = "WHEN", default_value = "on")]
    pub port_mapping: PortMapping,
    /// The proxy.
    #[command(flatten)]
    pub proxy: ProxyFlags,
    /// Which addresses may be spoken with.
    #[command(flatten)]
    pub nets: Nets,
    /// Print one JSON object, as design/doctor.md shows it.
    #[arg(long, env = "PUNCHLINE_JSON", value_parser = BoolishValueParser::new())]
    pub json: bool,
    /// Write everything for a bug report to this file, which must not be there yet: what is found, the status and the
    /// latest events of the node that runs here. No keys, no tickets; ids and addresses are replaced.
    #[arg(long, env = "PUNCHLINE_BUNDLE", value_name = "FILE")]
    pub bundle: Option<PathBuf>,
    /// Which running node is asked.
    #[command(flatten)]
    pub asking: Asking,
}

/// What else the doctor does.
#[derive(Debug, Subcommand)]
pub enum DoctorWhat {
    /// Try to reach one address, and say which layer fails: name, TCP or QUIC, handshake, identity, protocol.
    Reach(Reach),
    /// Print what opens the ports of a node in a firewall (nftables, ufw, firewalld, Windows, macOS), and what shows who
    /// listens there and what passes. Nothing is changed; the lines are to be copied.
    Firewall(Firewall),
}

/// `punchline doctor firewall`.
#[derive(Args, Debug)]
pub struct Firewall {
    /// For one that listens here, as `/ip4/0.0.0.0/tcp/4001`. Default: what the settings say, or else the ports of the node
    /// or relay that runs here.
    #[arg(long, env = "PUNCHLINE_LISTEN", value_name = "ADDR")]
    pub listen: Vec<Many<PortAddr>>,
    /// Which running node is asked.
    #[command(flatten)]
    pub asking: Asking,
}

/// `punchline doctor reach`.
#[derive(Args, Debug)]
pub struct Reach {
    /// Where, as `/dns4/relay.example/tcp/4001/p2p/12D3KooW…`; without an id at its end, it is said who answers. Or a name
    /// that stands for relays, as `relay.example.org`: each of their addresses is tried.
    #[arg(value_name = "MULTIADDR", value_parser = reachable)]
    pub address: Multiaddr,
    /// The proxy.
    #[command(flatten)]
    pub proxy: ProxyFlags,
    /// Which addresses may be spoken with.
    #[command(flatten)]
    pub nets: Nets,
    /// Print one JSON object, as design/doctor.md shows it.
    #[arg(long, env = "PUNCHLINE_JSON", value_parser = BoolishValueParser::new())]
    pub json: bool,
}

impl Doctor {
    /// What the variables say that all programs read.
    pub fn system_proxy(&mut self, system: SystemProxy) {
        match &mut self.what {
            Some(DoctorWhat::Reach(reach)) => reach.proxy.system_proxy = system,
            Some(DoctorWhat::Firewall(_)) => {}
            None => self.proxy.system_proxy = system,
        }
    }
}

fn reachable(text: &str) -> Result<Multiaddr, String> {
    const FORM: &str = "it looks like /ip4/203.0.113.7/tcp/4001/p2p/12D3KooW…";
    if !text.starts_with('/') {
        return text
            .parse::<RelayLocator>()
            .map(|name| name.address())
            .map_err(|error| error.to_string());
    }
    let address: Multiaddr = text.parse().map_err(|error| format!("{error}; {FORM}"))?;
    addr::dialable(&address).map_err(|fault| format!("nobody can dial it: it {fault}"))?;
    Ok(address)
}
