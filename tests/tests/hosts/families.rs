//! Hosts with IPv4, IPv6 or both, whose families are not those of everybody else.

use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use punchline_tests::lab::{self, Families, LabSpec, Nat, RouterSpec};
use punchline_tests::process::Event;
use punchline_tests::scene::{Cast, Scene, Transport, same_load};

use crate::{dns, world::SOON};

/// Over IPv4 no punch can succeed between these hosts. `relay`: where it has no IPv6 address, it tells nobody how it
/// sees their IPv6 addresses.
pub(crate) async fn only_v6_can_be_punched(transport: Transport, relay: Families) -> Result<()> {
    let spec = LabSpec::new([Nat::Symmetric; 2]).families(Families::Both).relay_families(relay);
    becomes_direct(spec, transport, "/ip6/").await
}

/// The pair becomes direct over an address that begins like this, and a load goes there.
async fn becomes_direct(spec: LabSpec, transport: Transport, prefix: &str) -> Result<()> {
    let scene = Scene::prepare(&spec.delay(ONE_WAY), transport).await?;
    plays(&scene, prefix).await
}

async fn plays(scene: &Scene, prefix: &str) -> Result<()> {
    let load = ["--load-mib", &LOAD_MIB.to_string(), "--load-after-direct"];
    let cast = Cast::start(scene, &load).await?;
    cast.explain(load_goes_by(scene, &cast, prefix).await)
}

async fn load_goes_by(scene: &Scene, cast: &Cast, prefix: &str) -> Result<()> {
    let (at_server, at_client) = cast.both("upgrade_succeeded", |_| true, SOON).await?;
    for upgraded in [at_server, at_client] {
        let took = upgraded.number("took_ms").map(Duration::from_millis);
        ensure!(took.is_some_and(|took| took < DIRECT_DEADLINE), "{upgraded}");
    }
    let opened = |event: &Event| event.has("path", "direct") && event.has("peer", &scene.server_id);
    let opened = cast.client.wait_for("connection_opened", opened, SOON).await?;
    ensure!(opened.text("address").is_some_and(|address| address.starts_with(prefix)), "{opened}");
    let (arrived, sent) = cast.both("load_done", |_| true, LOAD_DEADLINE).await?;
    ensure!(arrived.has("path", "direct") && sent.has("path", "direct"), "{arrived} {sent}");
    ensure!(same_load(&arrived, &sent, LOAD_MIB), "{arrived} {sent}");
    let direct = scene.lab.direct_bytes(0, 1)?;
    ensure!(direct >= LOAD_MIB << 20, "only {direct} bytes on the direct path");
    cast.one_session()
}

/// Both ends know that no punch can succeed over IPv4, and go on over IPv6.
pub(crate) async fn known_kinds_stop_no_punch() -> Result<()> {
    let spec = LabSpec::new([Nat::Symmetric; 2]).families(Families::Both);
    let scene = Scene::prepare(&spec, Transport::Quic).await?;
    // So that the first punches do not succeed before the kinds are known.
    let client = scene.lab.host(1).address_v6().context("it has an IPv6 address")?;
    scene.lab.block(0, client)?;
    let cast = Cast::start(&scene, &[]).await?;
    cast.explain(punches_on(&scene, &cast).await)
}

async fn punches_on(scene: &Scene, cast: &Cast) -> Result<()> {
    let symmetric =
        |found: &Event| found.has("family", "IPv4") && found.has("mapping", "destination_dependent");
    cast.both("nat_found", symmetric, SOON).await?;
    cast.either("upgrade_failed", SOON).await?;
    // Another address is not blocked, and makes another outcome likely.
    scene.lab.renumber_v6(1, OTHER_V6)?;
    cast.both("upgrade_succeeded", |_| true, SOON).await?;
    cast.one_session()
}

/// `client`: which addresses the client's host has; the server's has both.
pub(crate) async fn one_in_common(client: Families, transport: Transport) -> Result<()> {
    let spec = LabSpec::new([Nat::PortPreserving; 2]).families(Families::Both);
    let prefix = if client.has_v4() { "/ip4/" } else { "/ip6/" };
    becomes_direct(spec.host_families(1, client), transport, prefix).await
}

/// The system puts IPv6 first, so that is what the link of the server's host runs over.
pub(crate) async fn one_in_common_by_name(transport: Transport) -> Result<()> {
    let spec = LabSpec::new([Nat::PortPreserving; 2]).families(Families::Both);
    let spec = spec.host_families(1, Families::V4).delay(ONE_WAY);
    let mut scene = Scene::prepare(&spec, transport).await?;
    name_the_relay(&mut scene, &[0, 1])?;
    plays(&scene, "/ip4/").await
}

/// Gives the relay a name with both of its addresses, by which nodes on these hosts find it.
fn name_the_relay(scene: &mut Scene, hosts: &[usize]) -> Result<()> {
    let (relay, internet) = (scene.lab.relay(), scene.lab.internet());
    let (v4, v6) = (relay.address(), relay.address_v6().context("it has both")?);
    let addresses = [v4.into(), v6.into()].map(|ip| (dns::NAME, dns::Record::Address(ip)));
    dns::serve(internet, addresses.to_vec())?;
    let name_server = format!("nameserver {}\n", internet.address());
    hosts.iter().try_for_each(|host| scene.lab.host(*host).resolv_conf(&name_server))?;
    let by_name = format!("/dns/{}/", dns::NAME);
    let by_name = scene.relay_address().replace(&format!("/ip4/{v4}/"), &by_name);
    scene.start_nodes_with_relays(vec![by_name]);
    Ok(())
}

pub(crate) fn no_tayga() -> Option<String> {
    match lab::capability() {
        Err(missing) => Some(missing.to_string()),
        Ok(()) => (!lab::has_nat64()).then(|| "there is no tayga: install tayga".to_owned()),
    }
}

/// The server's host has IPv6 alone, the relay and the client IPv4 alone.
pub(crate) async fn behind_nat64(prefix: Ipv6Addr, transport: Transport) -> Result<()> {
    let v4 = RouterSpec::new(Nat::PortPreserving);
    let v6 = RouterSpec { families: Families::V6, nat64: Some(prefix), ..v4 };
    let spec = LabSpec { routers: vec![v6, v4], ..LabSpec::default() };
    let scene = Scene::prepare(&spec, transport).await?;
    let name_server = if prefix == lab::WELL_KNOWN_PREFIX {
        String::new()
    } else {
        let [.., high, low] = [192u8, 0, 0, 170].map(u16::from);
        let mut known = prefix.segments();
        (known[6], known[7]) = (192 << 8, high << 8 | low);
        let known = dns::Record::Address(Ipv6Addr::from(known).into());
        dns::serve(scene.lab.internet(), vec![("ipv4only.arpa", known)])?;
        format!("nameserver {}\n", scene.lab.internet().address_v6().context("IPv6")?)
    };
    scene.lab.host(0).resolv_conf(&name_server)?;
    let load = ["--load-mib", "1"];
    let cast = Cast::start(&scene, &load).await?;
    let loaded = async {
        let (arrived, sent) = cast.both("load_done", |_| true, LOAD_DEADLINE).await?;
        ensure!(same_load(&arrived, &sent, 1), "{arrived} {sent}");
        cast.one_session()
    };
    cast.explain(loaded.await)
}

/// How a relay with addresses of both families is named.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Named {
    ByAddresses,
    ByName,
}

/// Whichever of the relay's families leads nowhere, without a word.
pub(crate) async fn black_hole(named: Named) -> Result<()> {
    for (hole, transport) in [
        (Families::V4, Transport::Tcp),
        (Families::V6, Transport::Tcp),
        (Families::V4, Transport::Quic),
        (Families::V6, Transport::Quic),
    ] {
        reached_around(hole, named, transport).await.with_context(|| format!("{hole:?} {transport}"))?;
    }
    Ok(())
}

async fn reached_around(hole: Families, named: Named, transport: Transport) -> Result<()> {
    let spec = LabSpec::new([Nat::PortPreserving]).families(Families::Both);
    let mut scene = Scene::prepare(&spec, transport).await?;
    let relay = scene.lab.relay();
    let (v4, v6) = (relay.address(), relay.address_v6().context("it has both")?);
    match hole {
        Families::V6 => scene.lab.block(0, v6)?,
        _ => scene.lab.block(0, v4)?,
    }
    if let Named::ByName = named {
        name_the_relay(&mut scene, &[0])?;
    }
    let relay = scene.start_relay().await?;
    let started = Instant::now();
    let server = scene.start_server().await?;
    let took = started.elapsed();
    ensure!(took < REACHED_DEADLINE, "{took:?}\n{}\n{}", relay.report(), server.report());
    Ok(())
}

const ONE_WAY: Duration = Duration::from_micros(12_500);
const LOAD_MIB: u64 = 4;
/// Time for a second and a third attempt. The rule is far less.
const DIRECT_DEADLINE: Duration = Duration::from_secs(5);
const LOAD_DEADLINE: Duration = Duration::from_secs(60);
/// For a start, a dial and a reservation. What is dialled over a black hole is given up after 12 s.
const REACHED_DEADLINE: Duration = Duration::from_secs(3);
/// Of the network of host 1.
const OTHER_V6: Ipv6Addr = Ipv6Addr::new(0x2600, 0, 0, 2, 0, 0, 0, 0x99);
