//! Hosts with global IPv6 addresses behind routers that open their firewall to whoever asks.

use std::io::ErrorKind;
use std::net::{Ipv6Addr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use punchline_tests::lab::{Families, Lab, LabSpec, Miniupnpd, Namespace, Nat, PortMapping};
use punchline_tests::process::Event;

use crate::mapping::{EXIT_DEADLINE, HOUR, both_mapped, mapped};
use crate::world::{SOON, World};

/// By which address a host knows its router.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Router {
    Global,
    /// As most hosts do.
    LinkLocal,
}

/// The ports of a node are open to anybody over IPv6, and forwarded over IPv4, for as long as it runs.
pub(crate) async fn open_while_it_runs(router: Router) -> Result<()> {
    let spec = LabSpec::new([Nat::PortPreserving]).families(Families::Both);
    let (world, lab) = (World::new()?, Lab::build(&spec)?);
    if let Router::LinkLocal = router {
        lab.router(0).configure("addr add fe80::1/64 dev lan nodad\n")?;
        lab.host(0).configure("route replace default via fe80::1 dev eth0\n")?;
    }
    let _daemon = Miniupnpd::start(&lab, 0, PortMapping::Pcp, HOUR)?;
    let mut server = world.launch(lab.host(0), "server", "server")?.spawn()?;
    for family in [Families::V4, Families::V6] {
        both_mapped(&server, family, PortMapping::Pcp).await?;
    }
    let ours = lab.host(0).address_v6().context("an IPv6 address")?;
    let address = mapped(&server, "tcp", Families::V6, PortMapping::Pcp).await?;
    let port = address.strip_prefix(&format!("/ip6/{ours}/tcp/")).with_context(|| address.clone())?;
    let port = port.parse()?;
    server.wait_for("candidate_found", |found: &Event| found.has("address", &address), SOON).await?;
    ensure!(is_let_in(lab.relay(), ours, port)?, "nobody is let in at {address}");
    ensure!(!is_let_in(lab.relay(), ours, port ^ 1)?, "the firewall is open at other ports, too");
    let status = server.terminate(EXIT_DEADLINE).await?;
    ensure!(status.code() == Some(0), "{status}\n{}", server.report());
    let (forwarded, opened) = (Miniupnpd::forwarded(lab.router(0))?, Miniupnpd::opened(lab.router(0))?);
    ensure!((forwarded, opened) == (0, 0), "{forwarded} ports are forwarded, {opened} open to nobody");
    ensure!(!is_let_in(lab.relay(), ours, port)?, "the firewall is still open");
    Ok(())
}

/// Whether packets from `from` reach the host: then it answers, be it that nothing listens there.
fn is_let_in(from: &Namespace, host: Ipv6Addr, port: u16) -> Result<bool> {
    let connect = || TcpStream::connect_timeout(&(host, port).into(), DROPPED);
    match from.within(connect)?.map_err(|error| error.kind()) {
        Ok(_) | Err(ErrorKind::ConnectionRefused) => Ok(true),
        Err(ErrorKind::TimedOut) => Ok(false),
        Err(other) => Err(anyhow::anyhow!("{other}")),
    }
}

/// The address that it had is gone, and with it the way to have that pinhole closed.
pub(crate) async fn moves() -> Result<()> {
    let spec = LabSpec::new([Nat::PortPreserving]).families(Families::Both);
    let (world, lab) = (World::new()?, Lab::build(&spec)?);
    let _daemon = Miniupnpd::start(&lab, 0, PortMapping::Pcp, HOUR)?;
    let mut server = world.launch(lab.host(0), "server", "server")?.spawn()?;
    for family in [Families::V4, Families::V6] {
        both_mapped(&server, family, PortMapping::Pcp).await?;
    }
    let (before, other) = (server.mark(), "2600:0:0:1::77".parse::<Ipv6Addr>()?);
    lab.renumber_v6(0, other)?;
    for transport in ["tcp", "quic"] {
        let at = |event: &Event, ip: &str| {
            event.has("transport", transport)
                && event
                    .text("address")
                    .is_some_and(|address| address.starts_with(&format!("/ip6/{ip}/")))
        };
        let lost = |event: &Event| at(event, "2600:0:0:1::2");
        let lost = server.wait_for_after(before, "port_mapping_lost", lost, SOON).await;
        lost.with_context(|| server.report())?;
        let mapped = |event: &Event| at(event, &other.to_string());
        let mapped = server.wait_for_after(before, "port_mapped", mapped, SOON).await;
        mapped.with_context(|| server.report())?;
    }
    let v4_lost = |event: &&Event| {
        event.name() == "port_mapping_lost"
            && event.text("address").is_some_and(|address| address.starts_with("/ip4/"))
    };
    ensure!(server.events().iter().find(v4_lost).is_none(), "IPv4 has nothing to do with it");
    server.terminate(EXIT_DEADLINE).await?;
    Ok(())
}

/// What has not been answered after this was dropped: an answer takes less than a millisecond.
const DROPPED: Duration = Duration::from_secs(2);
