//! `punchline monitor`.

use std::{
    net::{IpAddr, Ipv4Addr},
    str::FromStr,
};

use clap::Args;
use ipnet::IpNet;
use libp2p::{Multiaddr, multiaddr::Protocol};

use super::{
    BootstrapAddr, ControlSocket, Many, Metrics, Nets, Page, RelayLimits, Rights, StunAddr,
    metrics::HttpAddr, values::Listed,
};

/// `punchline monitor`.
#[derive(Args, Debug)]
pub struct Monitor {
    /// Listen at these addresses of this host for nodes, over TCP and QUIC.
    #[arg(long, env = "PUNCHLINE_LISTEN_ADDR", value_name = "IP", default_value = "0.0.0.0")]
    pub listen_addr: Vec<Many<IpAddr>>,
    /// The port where nodes begin with the DHT: what --bootstrap names. WireGuard uses it as well, over UDP.
    #[arg(long, env = "PUNCHLINE_PORT", value_name = "PORT", default_value = "51820")]
    pub port: u16,
    /// The port of the relay: what --relay names. Default: the one after --port.
    #[arg(long, env = "PUNCHLINE_RELAY_PORT", value_name = "PORT")]
    pub relay_port: Option<u16>,
    /// The port of the page, which this machine alone reaches; --page shows it elsewhere.
    #[arg(long, env = "PUNCHLINE_WEB_PORT", value_name = "PORT", default_value = "8080")]
    pub web_port: u16,
    /// Where nodes reach this host from outside: an address, with the ports above; or the address and port of the DHT, as
    /// `/ip4/203.0.113.1/tcp/51820`, where a router forwards another one. Default: the public addresses of this host, or
    /// wherever the first nodes say they see it.
    #[arg(
        long,
        visible_alias = "external-addresses",
        env = "PUNCHLINE_EXTERNAL",
        value_name = "IP|ADDR"
    )]
    pub external: Vec<Many<Outside>>,
    /// Other bootstrap nodes of the same DHT. Each should know another: then none is missed.
    #[arg(long, env = "PUNCHLINE_BOOTSTRAP", value_name = "ADDR")]
    pub bootstrap: Vec<Many<BootstrapAddr>>,
    /// Show how many members this namespace has. Others are shown by what they are called in the DHT.
    #[arg(long, env = "PUNCHLINE_NAMESPACE", value_name = "NAME")]
    pub namespace: Vec<Many<String>>,
    /// Which DHT: nodes of different names never meet.
    #[arg(long, env = "PUNCHLINE_DHT_NETWORK", value_name = "NAME", default_value = "main")]
    pub dht_network: String,
    /// Answer STUN over UDP here and at the next port, so that nodes learn what kind of NAT they are behind; `off`:
    /// nowhere. Default: on every interface, at 3478 and 3479.
    #[arg(long, env = "PUNCHLINE_STUN_LISTEN", value_name = "IP:PORT|off")]
    pub stun_listen: Vec<Many<StunAddr>>,
    /// Answer `punchline status` and `punchline network` on this Unix socket, which is its owner's alone; `off`: nowhere.
    /// Default: beside the identity, with `.sock` after its name.
    #[arg(long, env = "PUNCHLINE_CONTROL", value_name = "PATH|off")]
    pub control: Option<ControlSocket>,
    /// Treat these ranges as public: labs, private networks.
    #[arg(long, env = "PUNCHLINE_ASSUME_GLOBAL", value_name = "CIDR")]
    pub assume_global: Vec<Many<IpNet>>,
    /// Whom it speaks with, by address.
    #[command(flatten)]
    pub nets: Nets,
    /// Where it tells numbers about itself.
    #[command(flatten)]
    pub metrics: Metrics,
    /// Where it shows itself to people.
    #[command(flatten)]
    pub page: Page,
    /// As whom it may run.
    #[command(flatten)]
    pub rights: Rights,
    /// How much its relay does for whom.
    #[command(flatten)]
    pub limits: RelayLimits,
}

impl Monitor {
    /// The port of the relay. With 0, the system chooses it, as that of the DHT.
    pub(crate) fn relay_port(&self) -> u16 {
        self.relay_port.unwrap_or(if self.port == 0 { 0 } else { self.port.wrapping_add(1) })
    }

    /// Where it shows its page.
    pub(crate) fn page(&self) -> Page {
        let usual = HttpAddr((Ipv4Addr::LOCALHOST, self.web_port).into());
        Page { page: self.page.page.or(Some(usual)) }
    }
}

/// Where a host is reached from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outside {
    /// Its address.
    pub ip: IpAddr,
    /// Where its DHT is, if that was said.
    pub dht: Option<Multiaddr>,
}

impl FromStr for Outside {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let form = "say an IP address, or one and a port as /ip4/203.0.113.1/tcp/51820";
        if let Ok(ip) = text.parse::<IpAddr>() {
            return usable(ip).map(|ip| Self { ip, dht: None });
        }
        let address: Multiaddr = text.parse().map_err(|error| format!("{error}; {form}"))?;
        let parts: Vec<Protocol<'_>> = address.iter().collect();
        let ip = match parts[..] {
            [Protocol::Ip4(ip), Protocol::Tcp(1..)] => IpAddr::from(ip),
            [Protocol::Ip6(ip), Protocol::Tcp(1..)] => IpAddr::from(ip),
            [Protocol::Ip4(ip), Protocol::Udp(1..), Protocol::QuicV1] => IpAddr::from(ip),
            [Protocol::Ip6(ip), Protocol::Udp(1..), Protocol::QuicV1] => IpAddr::from(ip),
            _ => return Err(form.to_owned()),
        };
        usable(ip).map(|ip| Self { ip, dht: Some(address) })
    }
}

fn usable(ip: IpAddr) -> Result<IpAddr, String> {
    match ip.is_unspecified() {
        true => Err(format!("nobody is reached at {ip}; say the address that others use")),
        false => Ok(ip),
    }
}

impl Listed for Outside {
    fn read(text: &str) -> Result<Self, String> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_address_outside_may_say_another_port() {
        let plain: Outside = "203.0.113.1".parse().unwrap();
        assert_eq!((plain.ip.to_string(), plain.dht), ("203.0.113.1".to_owned(), None));
        let with_port: Outside = "/ip4/203.0.113.1/tcp/51820".parse().unwrap();
        assert_eq!(with_port.ip, plain.ip);
        assert_eq!(with_port.dht.unwrap().to_string(), "/ip4/203.0.113.1/tcp/51820");
        for wrong in [
            "example.org",
            "0.0.0.0",
            "/ip4/203.0.113.1",
            "/ip4/203.0.113.1/tcp/0",
            "/ip4/0.0.0.0/tcp/1",
        ] {
            assert!(wrong.parse::<Outside>().is_err(), "{wrong}");
        }
    }
}
