//! Hosts behind routers that forward ports to whoever asks.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use punchline_tests::lab::{Families, Lab, LabSpec, Miniupnpd, Nat, PortMapping, UnexpectedSyn};
use punchline_tests::process::{Event, Program};
use punchline_tests::scene::{Cast, Scene, Transport, same_load};

use crate::world::{SOON, World, listening};

/// Routers that reset every SYN from outside: no punch over TCP can succeed.
fn resetting() -> LabSpec {
    LabSpec::new([Nat::PortPreserving; 2]).unexpected_syn(UnexpectedSyn::Reset)
}

/// Server and client become direct through the port that one end's router forwards; when that end has ended, the
/// router forwards nothing.
pub(crate) async fn becomes_direct(protocol: PortMapping, end: End) -> Result<()> {
    let scene = Scene::prepare(&resetting(), Transport::Tcp).await?;
    let router = end.router();
    let _daemon = Miniupnpd::start(&scene.lab, router, protocol, HOUR)?;
    let mut cast = Cast::start(&scene, &["--load-mib", "1", "--load-after-direct"]).await?;
    let direct = goes_through(&scene, &cast, protocol, end).await;
    cast.explain(direct)?;
    for program in [&mut cast.server, &mut cast.client] {
        let status = program.terminate(EXIT_DEADLINE).await?;
        ensure!(status.code() == Some(0), "{status}\n{}", program.report());
    }
    let forwarded = Miniupnpd::forwarded(scene.lab.router(router))?;
    ensure!(forwarded == 0, "{forwarded} ports are forwarded to nobody");
    Ok(())
}

/// Whose router forwards a port.
#[derive(Clone, Copy, Debug)]
pub(crate) enum End {
    /// That of the end that accepts the circuit.
    Server,
    /// That of the end that makes it.
    Client,
}

impl End {
    fn router(self) -> usize {
        match self {
            Self::Server => 0,
            Self::Client => 1,
        }
    }
}

async fn goes_through(scene: &Scene, cast: &Cast, protocol: PortMapping, end: End) -> Result<()> {
    let router = scene.lab.router(end.router());
    let program = match end {
        End::Server => &cast.server,
        End::Client => &cast.client,
    };
    let mapped = mapped(program, "tcp", Families::V4, protocol).await?;
    let at_router = format!("/ip4/{}/tcp/", router.address());
    ensure!(mapped.starts_with(&at_router), "{mapped}");
    let offered = |event: &Event| event.has("address", &mapped);
    program.wait_for("candidate_found", offered, SOON).await?;
    ensure!(Miniupnpd::forwarded(router)? == 1);
    cast.both("upgrade_succeeded", |_| true, DIRECT_DEADLINE).await?;
    let (arrived, sent) = cast.both("load_done", |_| true, SOON).await?;
    ensure!(arrived.has("path", "direct") && sent.has("path", "direct"), "{arrived} {sent}");
    ensure!(same_load(&arrived, &sent, 1), "{arrived} {sent}");
    cast.one_session()
}

/// A port that was mapped before the two met is the way that both ends name: the one dials what the other said is mapped,
/// and that one had no other address at which a dial succeeds. Hosts with IPv6 alone have global addresses, and it is the
/// router's firewall that the port is opened in.
pub(crate) async fn is_named(end: End, families: Families) -> Result<()> {
    let scene = Scene::prepare(&resetting().families(families), Transport::Tcp).await?;
    let (router, protocol) = (end.router(), PortMapping::Pcp);
    let _daemon = Miniupnpd::start(&scene.lab, router, protocol, HOUR)?;
    let cast = match end {
        End::Server => {
            let (relay, server) = (scene.start_relay().await?, scene.start_server().await?);
            mapped(&server, "tcp", families, protocol).await?;
            Cast { relay, server, client: scene.start_client(&[])? }
        }
        End::Client => {
            let client = scene.start_client(&[])?;
            mapped(&client, "tcp", families, protocol).await?;
            // It comes again until there is a relay.
            Cast { relay: scene.start_relay().await?, server: scene.start_server().await?, client }
        }
    };
    let named = cast.both("upgrade_succeeded", |_| true, DIRECT_DEADLINE).await;
    let (server, client) = cast.explain(named.map_err(Into::into))?;
    let both = server.has("rung", "mapped") && client.has("rung", "mapped");
    ensure!(both, "{server} {client}");
    Ok(())
}

/// A router whose owner lets it forward for seconds only is asked again and again, also when it has forgotten.
pub(crate) async fn renewed() -> Result<()> {
    let spec = LabSpec::new([Nat::PortPreserving]).families(Families::Both);
    let (world, lab) = (World::new()?, Lab::build(&spec)?);
    let daemon = Miniupnpd::start(&lab, 0, PortMapping::Pcp, SECONDS)?;
    let server = world.launch(lab.host(0), "server", "server")?.spawn()?;
    for family in [Families::V4, Families::V6] {
        both_mapped(&server, family, PortMapping::Pcp).await?;
    }
    drop(daemon);
    // The next one begins with nothing.
    let _daemon = Miniupnpd::start(&lab, 0, PortMapping::Pcp, SECONDS)?;
    let router = lab.router(0);
    let restored = || Ok((Miniupnpd::forwarded(router)?, Miniupnpd::opened(router)?) == (2, 2));
    eventually(&server, restored).await?;
    let lost = server.events().iter().filter(|event| event.name() == "port_mapping_lost").count();
    ensure!(lost == 0, "renewed in time, and yet lost\n{}", server.report());
    Ok(())
}

/// A host that gets another address asks for that one, and takes back what was for the other.
pub(crate) async fn moves() -> Result<()> {
    let (world, lab) = (World::new()?, Lab::build(&LabSpec::new([Nat::PortPreserving]))?);
    let _daemon = Miniupnpd::start(&lab, 0, PortMapping::Upnp, HOUR)?;
    let mut server = world.launch(lab.host(0), "server", "server")?.spawn()?;
    both_mapped(&server, Families::V4, PortMapping::Upnp).await?;
    let before = server.mark();
    lab.renumber(0, "192.168.1.77".parse()?)?;
    for transport in ["tcp", "quic"] {
        let of = |event: &Event| event.has("transport", transport);
        let lost = server.wait_for_after(before, "port_mapping_lost", of, SOON).await;
        lost.with_context(|| server.report())?;
        let mapped = server.wait_for_after(before, "port_mapped", of, SOON).await;
        mapped.with_context(|| server.report())?;
    }
    server.terminate(EXIT_DEADLINE).await?;
    Ok(())
}

/// By a node that could have its ports mapped.
pub(crate) async fn left_alone() -> Result<()> {
    let (world, lab) = (World::new()?, Lab::build(&LabSpec::new([Nat::PortPreserving]))?);
    let _daemon = Miniupnpd::start(&lab, 0, PortMapping::Pcp, HOUR)?;
    let relay = world.launch(lab.relay(), "relay", "relay")?.args(["--external", "auto"]).spawn()?;
    let address = listening(&relay, "/ip4/73.0.0.2/tcp/").await?;
    let address = format!("{address}/p2p/{}", world.peer_id("relay").await?);
    let server = world.launch(lab.host(0), "server", "server")?;
    let mut server = server.args(["--relay", &address, "--port-mapping", "off"]).spawn()?;
    // The reservation takes longer than a mapping.
    server.wait_for("reservation_held", |_| true, SOON).await?;
    ensure!(Miniupnpd::forwarded(lab.router(0))? == 0);
    server.terminate(EXIT_DEADLINE).await?;
    says_nothing(&server)
}

/// Of three protocols none is answered, nor PCP over IPv6, and whoever reads the events is not bothered with that.
pub(crate) async fn silent() -> Result<()> {
    let spec = LabSpec::new([Nat::PortPreserving]).families(Families::Both);
    let (world, lab) = (World::new()?, Lab::build(&spec)?);
    let mut server = world.launch(lab.host(0), "server", "server")?.args(["-v"]).spawn()?;
    for protocol in ["Pcp", "NatPmp", "Upnp"] {
        let failed = format!("Ask({protocol})");
        eventually(&server, || Ok(server.report().contains(&failed))).await?;
    }
    eventually(&server, || Ok(asked_in_vain_over_v6(&server, &lab))).await?;
    server.terminate(EXIT_DEADLINE).await?;
    says_nothing(&server)
}

/// Counted where it leaves the host: what goes to all devices in the network may be answered by any of them.
pub(crate) async fn asks_the_router_alone() -> Result<()> {
    let spec = LabSpec::new([Nat::PortPreserving]).families(Families::Both);
    let (world, lab) = (World::new()?, Lab::build(&spec)?);
    let nft = |rules: &str| lab.host(0).command("nft").arg(rules).output();
    let (others, router) = (
        ["ip daddr 224.0.0.0/4 udp dport 1900", "ip6 daddr != 2600:0:0:1::1 udp dport 5351"],
        ["ip daddr 192.168.1.1 udp dport 1900", "ip6 daddr 2600:0:0:1::1 udp dport 5351"],
    );
    let chain = "add table inet asked; add chain inet asked out { type filter hook output priority 0; }";
    let counters =
        others.iter().chain(&router).map(|to| format!("add rule inet asked out {to} counter"));
    for rules in [chain.to_owned()].into_iter().chain(counters) {
        let added = nft(&rules)?;
        ensure!(added.status.success(), "{added:?}");
    }
    let mut server = world.launch(lab.host(0), "server", "server")?.args(["-v"]).spawn()?;
    eventually(&server, || Ok(server.report().contains("Ask(Upnp)"))).await?;
    eventually(&server, || Ok(asked_in_vain_over_v6(&server, &lab))).await?;
    server.terminate(EXIT_DEADLINE).await?;
    let counted = String::from_utf8(nft("list table inet asked")?.stdout)?;
    let packets = |to: &&str| {
        let line = counted.lines().find(|line| line.contains(to))?;
        line.split_once("packets ")?.1.split(' ').next()?.parse::<u32>().ok()
    };
    ensure!(others.iter().all(|to| packets(to) == Some(0)), "{counted}");
    ensure!(router.iter().all(|to| packets(to) > Some(0)), "{counted}");
    Ok(())
}

/// Whether the program says that the router did not open its firewall.
fn asked_in_vain_over_v6(program: &Program, lab: &Lab) -> bool {
    let ours = lab.host(0).address_v6().map(|ours| ours.to_string());
    let (report, ours) = (program.report(), ours.unwrap_or_default());
    report.lines().any(|line| line.contains("Ask(Pcp)") && line.contains(&ours))
}

fn says_nothing(server: &Program) -> Result<()> {
    let said = server.events().into_iter().find(|event| event.name().starts_with("port_map"));
    ensure!(said.is_none(), "{said:?}");
    Ok(())
}

pub(crate) async fn both_mapped(
    server: &Program,
    family: Families,
    protocol: PortMapping,
) -> Result<()> {
    for transport in ["tcp", "quic"] {
        mapped(server, transport, family, protocol).await?;
    }
    Ok(())
}

/// Where the router takes connections for the program, over one family.
pub(crate) async fn mapped(
    program: &Program,
    transport: &str,
    family: Families,
    protocol: PortMapping,
) -> Result<String> {
    let prefix = if family.has_v4() { "/ip4/" } else { "/ip6/" };
    let by = |event: &Event| {
        event.has("transport", transport)
            && event.has("protocol", &protocol.to_string())
            && event.text("address").is_some_and(|address| address.starts_with(prefix))
    };
    let mapped = program.wait_for("port_mapped", by, SOON).await;
    let mapped = mapped.with_context(|| program.report())?;
    Ok(mapped.text("address").context("an address")?.to_owned())
}

async fn eventually(program: &Program, holds: impl Fn() -> Result<bool>) -> Result<()> {
    let mut looks = tokio::time::interval(Duration::from_millis(50));
    let held = async {
        while !holds()? {
            looks.tick().await;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(SOON, held).await.with_context(|| program.report())?
}

pub(crate) const HOUR: u32 = 3600;

/// So that a mapping is renewed every 10 s, or 5 s later if a packet is lost.
const SECONDS: u32 = 20;

/// Promised: how soon a program that is asked to stop has stopped.
pub(crate) const EXIT_DEADLINE: Duration = Duration::from_secs(5);

/// By UPnP a port is mapped some seconds after the punches failed; then another row of them begins at once.
const DIRECT_DEADLINE: Duration = Duration::from_secs(20);
