//! What is said to a router: over IPv4 by PCP and NAT-PMP with crab_nat, by UPnP with igd-next; over IPv6 by PCP, as in
//! [`pinhole`](super::pinhole).

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
    SearchError, SearchOptions,
    aio::{Gateway, Provider, tokio::Tokio},
};
use tokio::time::{error::Elapsed, timeout};

use super::{
    pcp::{Map, PORT},
    pinhole::Pinhole,
};
use crate::{error::Family, event::MappingProtocol, net::local, path::Transport};

/// For how long a router is asked to forward a port. An hour: what a crashed node leaves behind is gone soon.
pub(super) const LEASE_SECONDS: u32 = 3600;

/// What the router shows its owner beside the port. Only UPnP has a place for it.
const DESCRIPTION: &str = "punchline";

/// For the answer to a packet of PCP or NAT-PMP: it is one hop away. Two are sent, and waited for 250 ms and
/// 500 ms: where only UPnP is spoken it follows soon.
pub(super) const PATIENCE: TimeoutConfig = TimeoutConfig {
    initial_timeout: Duration::from_millis(250),
    max_retries: 1,
    max_retry_timeout: None,
};

/// For a router to answer a search by UPnP.
const SEARCH: Duration = Duration::from_secs(1);

/// For whatever a router is asked, all in all. What it sends meanwhile is bounded by this alone.
const ANSWER: Duration = Duration::from_secs(8);

/// The numbers of what pinholes are for in IP packets.
const TCP: u8 = 6;
const UDP: u8 = 17;

/// Where UPnP's devices listen.
const SSDP_PORT: u16 = 1900;

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

    fn upnp(&self) -> PortMappingProtocol {
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

/// Finds our router's UPnP. It is asked at its own address and not at that of all devices: the library fetches what an
/// answer points to, wherever that is, so the question is for nobody else to hear and answer. An answer that points
/// elsewhere does not count.
async fn search(way: Way) -> Result<Gateway<Tokio>, Failed> {
    let found = igd_next::aio::tokio::search_gateway(SearchOptions {
        bind_addr: (way.from, 0).into(),
        broadcast_address: (way.router, SSDP_PORT).into(),
        timeout: Some(SEARCH),
        single_search_timeout: Some(SEARCH),
    })
    .await?;
    match found.addr.ip() == way.router {
        true => Ok(found),
        false => Err(Failed::Stranger(found.addr)),
    }
}

/// Has the router forward by UPnP, from the port `external` if it can be, which becomes the one that it is.
async fn forward(
    port: Port,
    router: &Gateway<impl Provider>,
    external: &mut u16,
) -> Result<Granted, Failed> {
    let IpAddr::V4(ip) = router.get_external_ip().await? else { return Err(Failed::NotIpv4) };
    let ours = SocketAddr::from((port.way.from, port.port.get()));
    let add = |seconds| router.add_port(port.upnp(), *external, ours, seconds, DESCRIPTION);
    let added = match add(LEASE_SECONDS).await {
        // Some routers know no time: what a crash leaves there stays, and is used by the next start.
        Err(AddPortError::OnlyPermanentLeasesSupported) => add(0).await,
        added => added,
    };
    match added {
        Ok(()) => {}
        Err(AddPortError::PortInUse | AddPortError::SamePortValuesRequired) => {
            *external = any_port(port, router, ours).await?;
        }
        Err(error) => return Err(error.into()),
    }
    let external = (ip, *external).into();
    Ok(Granted { external, lasts: Duration::from_secs(LEASE_SECONDS.into()) })
}

/// Has the router forward from a port that it chooses.
async fn any_port(
    port: Port,
    router: &Gateway<impl Provider>,
    ours: SocketAddr,
) -> Result<u16, AddAnyPortError> {
    let add = |seconds| router.add_any_port(port.upnp(), ours, seconds, DESCRIPTION);
    match add(LEASE_SECONDS).await {
        Err(AddAnyPortError::OnlyPermanentLeasesSupported) => add(0).await,
        added => added,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use igd_next::RequestError;

    use super::*;

    const PORT: u16 = 4001;
    const TAKEN: u16 = 718;
    const FORBIDDEN: u16 = 606;
    const PERMANENT_ONLY: u16 = 725;

    /// A router that answers as the path of its URL says.
    struct Router;

    impl Provider for Router {
        async fn send_async(url: &str, action: &str, body: &str) -> Result<String, RequestError> {
            if action.contains("GetExternalIPAddress") {
                return Ok(answer(
                    "<GetExternalIPAddressResponse><NewExternalIPAddress>203.0.113.7</NewExternalIPAddress></GetExternalIPAddressResponse>",
                ));
            }
            let ours = body.contains(&format!("<NewExternalPort>{PORT}<"));
            let permanent = body.contains("<NewLeaseDuration>0<");
            let refused = match url.rsplit('/').next() {
                Some("taken") if ours => Some(TAKEN),
                Some("taken_and_permanent") if ours => Some(TAKEN),
                Some("permanent" | "taken_and_permanent") if !permanent => Some(PERMANENT_ONLY),
                Some("forbidden") if ours => Some(FORBIDDEN),
                _ => None,
            };
            Ok(refused.map_or_else(|| answer("<AddPortMappingResponse/>"), refusal))
        }
    }

    fn answer(what: &str) -> String {
        format!("<Envelope><Body>{what}</Body></Envelope>")
    }

    fn refusal(code: u16) -> String {
        answer(&format!(
            "<Fault><detail><UPnPError><errorCode>{code}</errorCode><errorDescription>no</errorDescription></UPnPError></detail></Fault>"
        ))
    }

    /// The port from which the router forwards.
    async fn forwarded(router: &str) -> Result<u16, Failed> {
        let arguments = ["NewExternalPort", "NewLeaseDuration"].map(str::to_owned).to_vec();
        let router = Gateway {
            addr: "192.168.1.1:80".parse().unwrap(),
            root_url: String::new(),
            control_url: format!("/{router}"),
            control_schema_url: String::new(),
            control_schema: [("AddPortMapping".to_owned(), arguments)].into(),
            provider: Router,
        };
        let (router_at, from) = ([192, 168, 1, 1].into(), [192, 168, 1, 2].into());
        let way = Way { router: router_at, interface: 2, from };
        let port = Port { way, transport: Transport::Tcp, port: PORT.try_into().unwrap() };
        let mut external = PORT;
        let granted = forward(port, &router, &mut external).await?;
        assert_eq!(granted.external.port(), external);
        Ok(external)
    }

    #[tokio::test]
    async fn a_router_that_knows_no_time_forwards_for_good_from_another_port_too() {
        assert_eq!(forwarded("permanent").await.unwrap(), PORT);
        assert_ne!(forwarded("taken").await.unwrap(), PORT);
        assert_ne!(forwarded("taken_and_permanent").await.unwrap(), PORT);
    }

    #[tokio::test]
    async fn a_router_that_refuses_our_port_for_another_reason_than_its_number_is_not_asked_for_another()
    {
        let refused = forwarded("forbidden").await.unwrap_err();
        assert!(matches!(refused, Failed::AddPort(AddPortError::ActionNotAuthorized)), "{refused}");
    }
}
