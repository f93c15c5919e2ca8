//! What is said to a router: over IPv4 by PCP and NAT-PMP with crab_nat, and by UPnP, as in [`upnp`](super::upnp); over
//! IPv6 by PCP, as in [`pinhole`](super::pinhole).

use std::{
    io,
    net::{IpAddr, SocketAddr, SocketAddrV6},
    num::NonZeroU16,
    time::Duration,
};

use crab_nat::{
    GatewayAddress, InternetProtocol, PortMappingOptions, PortMappingType, TimeoutConfig, natpmp, pcp,
};
use igd_next::{
    AddAnyPortError, AddPortError, GetExternalIpError, PortMappingProtocol, RemovePortError,
    SearchError,
    aio::{Gateway, tokio::Tokio},
};
use tokio::time::{error::Elapsed, timeout};

use super::{
    pcp::{Map, PORT},
    pinhole::Pinhole,
    upnp::{forward, search},
};
use crate::{error::Family, event::MappingProtocol, net::local, path::Transport};

/// For how long a router is asked to forward a port. An hour: what a crashed node leaves behind is gone soon.
pub(super) const LEASE_SECONDS: u32 = 3600;

/// For the answer to a packet of PCP or NAT-PMP: it is one hop away. Two are sent, and waited for 250 ms and
/// 500 ms: where only UPnP is spoken it follows soon.
pub(super) const PATIENCE: TimeoutConfig = TimeoutConfig {
    initial_timeout: Duration::from_millis(250),
    max_retries: 1,
    max_retry_timeout: None,
};

/// For whatever a router is asked, all in all. What it sends meanwhile is bounded by this alone.
const ANSWER: Duration = Duration::from_secs(8);

/// The numbers of what pinholes are for in IP packets.
const TCP: u8 = 6;
const UDP: u8 = 17;

/// The way to our router: by its address, from that of ours, both of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Way {
    pub(super) router: IpAddr,
    /// The number of the interface that leads there: a link-local address means a router only on one of them.
    pub(super) interface: u32,
    pub(super) from: IpAddr,
}

impl Way {
    /// The default one of a family, if there is one. Reads the system's tables and may take some milliseconds.
    pub(super) fn find(family: Family) -> Option<Self> {
        let from = local::source_of_default_route(family)?;
        let has = |interface: &netdev::Interface| match from {
            IpAddr::V4(from) => interface.ipv4.iter().any(|net| net.addr() == from),
            IpAddr::V6(from) => interface.ipv6.iter().any(|net| net.addr() == from),
        };
        let interface = netdev::get_interfaces().into_iter().find(has)?;
        let gateway = interface.gateway?;
        let router = match family {
            Family::V4 => gateway.ipv4.first().copied()?.into(),
            Family::V6 => gateway.ipv6.first().copied()?.into(),
        };
        Some(Self { router, interface: interface.index, from })
    }
}

/// A port of ours, and the router that is to forward to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Port {
    pub(super) way: Way,
    pub(super) transport: Transport,
    pub(super) port: NonZeroU16,
}

/// What a router promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Granted {
    pub(super) external: SocketAddr,
    pub(super) lasts: Duration,
}

/// A port that a router forwards to us.
#[derive(Debug)]
pub(super) enum Mapping {
    /// By PCP or NAT-PMP.
    Datagrams(crab_nat::PortMapping),
    /// By UPnP, from this port of the router.
    Upnp { port: Port, router: Box<Gateway<Tokio>>, external: u16 },
    /// By PCP over IPv6.
    Pinhole(Pinhole),
}

/// Why a router did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failed {
    #[error(transparent)]
    Pcp(#[from] pcp::Failure),
    #[error(transparent)]
    NatPmp(#[from] natpmp::Failure),
    #[error(transparent)]
    Search(#[from] SearchError),
    #[error("the search was answered from {0}, which is not our router")]
    Stranger(SocketAddr),
    #[error(transparent)]
    ExternalIp(#[from] GetExternalIpError),
    #[error(transparent)]
    AddPort(#[from] AddPortError),
    #[error(transparent)]
    AddAnyPort(#[from] AddAnyPortError),
    #[error(transparent)]
    RemovePort(#[from] RemovePortError),
    #[error("its external address is of IPv6")]
    NotIpv4,
    #[error(transparent)]
    Socket(#[from] io::Error),
    #[error("it refused with PCP's result {0}")]
    Refused(u8),
    #[error("it lets in at {0}, which is not where we listen")]
    Elsewhere(SocketAddrV6),
    #[error("it does not answer")]
    Silent,
    #[error("no answer in time")]
    Late(#[from] Elapsed),
}

impl Mapping {
    /// Asks for a mapping; by preference for one from the same port.
    pub(super) async fn ask(port: Port, by: MappingProtocol) -> Result<(Self, Granted), Failed> {
        let asked = async {
            if let Some((map, router)) = port.pinhole() {
                let (pinhole, granted) = Pinhole::ask(map, router).await?;
                return Ok((Self::Pinhole(pinhole), granted));
            }
            let mut mapping = match by {
                MappingProtocol::Pcp => {
                    let base = pcp::BaseMapRequest::new(
                        port.router(),
                        port.way.from,
                        port.protocol(),
                        port.port,
                    );
                    Self::Datagrams(pcp::port_mapping(base, None, None, port.options()).await?)
                }
                MappingProtocol::NatPmp => Self::Datagrams(
                    natpmp::port_mapping(port.router(), port.protocol(), port.port, port.options())
                        .await?,
                ),
                MappingProtocol::Upnp => {
                    let router = Box::new(search(port.way).await?);
                    Self::Upnp { port, router, external: port.port.get() }
                }
            };
            let granted = match &mut mapping {
                Self::Datagrams(mapping) => granted(mapping).await?,
                Self::Upnp { port, router, external } => forward(*port, router, external).await?,
                Self::Pinhole(pinhole) => pinhole.renew().await?,
            };
            Ok((mapping, granted))
        };
        timeout(ANSWER, asked).await?
    }

    /// Asks for more time.
    pub(super) async fn renew(&mut self) -> Result<Granted, Failed> {
        let renewed = async {
            match self {
                Self::Datagrams(mapping) => {
                    mapping.renew().await.map_err(Failed::from)?;
                    granted(mapping).await
                }
                Self::Upnp { port, router, external } => forward(*port, router, external).await,
                Self::Pinhole(pinhole) => pinhole.renew().await,
            }
        };
        timeout(ANSWER, renewed).await?
    }

    /// Takes it back.
    pub(super) async fn release(self) -> Result<(), Failed> {
        let released = async {
            match self {
                Self::Datagrams(mapping) => mapping.try_drop().await.map_err(|(cause, _)| cause.into()),
                Self::Upnp { port, router, external } => {
                    Ok(router.remove_port(port.upnp(), external).await?)
                }
                Self::Pinhole(pinhole) => pinhole.release().await,
            }
        };
        timeout(ANSWER, released).await?
    }
}

impl Port {
    /// What opens the router's firewall for it, and where that is said; none over IPv4.
    fn pinhole(&self) -> Option<(Map, SocketAddrV6)> {
        let (IpAddr::V6(ours), IpAddr::V6(router)) = (self.way.from, self.way.router) else {
            return None;
        };
        let protocol = match self.transport {
            Transport::Tcp | Transport::Websocket => TCP,
            Transport::Quic => UDP,
        };
        let map = Map { ours, port: self.port.get(), protocol, nonce: rand::random() };
        Some((map, SocketAddrV6::new(router, PORT, 0, self.way.interface)))
    }

    fn router(&self) -> GatewayAddress {
        self.way.router.into()
    }

    fn protocol(&self) -> InternetProtocol {
        match self.transport {
            Transport::Tcp | Transport::Websocket => InternetProtocol::Tcp,
            Transport::Quic => InternetProtocol::Udp,
        }
    }

    pub(super) fn upnp(&self) -> PortMappingProtocol {
        match self.transport {
            Transport::Tcp | Transport::Websocket => PortMappingProtocol::TCP,
            Transport::Quic => PortMappingProtocol::UDP,
        }
    }

    fn options(&self) -> PortMappingOptions {
        PortMappingOptions {
            external_port: Some(self.port),
            lifetime_seconds: Some(LEASE_SECONDS),
            timeout_config: Some(PATIENCE),
        }
    }
}

impl From<crab_nat::MappingFailure> for Failed {
    fn from(failure: crab_nat::MappingFailure) -> Self {
        match failure {
            crab_nat::MappingFailure::NatPmp(failure) => failure.into(),
            crab_nat::MappingFailure::Pcp(failure) => failure.into(),
        }
    }
}

async fn granted(mapping: &crab_nat::PortMapping) -> Result<Granted, Failed> {
    let ip = match mapping.mapping_type() {
        PortMappingType::Pcp { external_ip: IpAddr::V4(ip), .. } => ip,
        PortMappingType::Pcp { .. } => return Err(Failed::NotIpv4),
        PortMappingType::NatPmp => natpmp::external_address(mapping.gateway(), Some(PATIENCE)).await?,
    };
    let external = (ip, mapping.external_port().get()).into();
    Ok(Granted { external, lasts: Duration::from_secs(mapping.lifetime().into()) })
}
