//! What is said to a router by UPnP, with igd-next.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use igd_next::{
    AddAnyPortError, AddPortError, SearchOptions,
    aio::{Gateway, Provider, tokio::Tokio},
};

use super::router::{Failed, Granted, LEASE_SECONDS, Port, Way};

/// What the router shows its owner beside the port. Only UPnP has a place for it.
const DESCRIPTION: &str = "punchline";

/// For a router to answer a search by UPnP.
const SEARCH: Duration = Duration::from_secs(1);

/// Where UPnP's devices listen.
const SSDP_PORT: u16 = 1900;

/// Finds our router's UPnP. It is asked at its own address and not at that of all devices: the library fetches what an
/// answer points to, wherever that is, so the question is for nobody else to hear and answer. An answer that points
/// elsewhere does not count.
pub(super) async fn search(way: Way) -> Result<Gateway<Tokio>, Failed> {
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
pub(super) async fn forward(
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
    use crate::path::Transport;

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
