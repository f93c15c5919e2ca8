//! Relays that are given by name.

use anyhow::{Result, ensure};
use punchline_tests::{
    lab::{LabSpec, Nat},
    process::{Event, Launch, Program, binary},
    scene::{Scene, Transport},
};

use crate::{
    dns::{self, NAME, Record, TEXT_NAME, Zone},
    world::{SOON, World},
};

/// A lab with a relay, and a name server on the internet that knows it.
async fn set(world: &World) -> Result<(Scene, Program)> {
    let _ = world;
    let (scene, relay, _) = set_zone(&[Nat::PortPreserving]).await?;
    Ok((scene, relay))
}

async fn set_zone(nats: &[Nat]) -> Result<(Scene, Program, Zone)> {
    let scene = Scene::prepare(&LabSpec::new(nats.iter().copied()), Transport::Tcp).await?;
    let relay = scene.start_relay().await?;
    let text = format!("dnsaddr={}", scene.relay_address());
    let address = Record::Address(scene.lab.relay().address().into());
    let records = vec![(NAME, address), (TEXT_NAME, Record::Text(text))];
    let zone = dns::serve(scene.lab.internet(), records)?;
    Ok((scene, relay, zone))
}

fn nameserver(scene: &Scene) -> String {
    format!("nameserver {}\n", scene.lab.internet().address())
}

fn server(world: &World, scene: &Scene, relay: &str) -> Result<Launch> {
    Ok(world.launch(scene.lab.host(0), "server", "server")?.args(["--relay", relay]))
}

pub(crate) async fn servers_change() -> Result<()> {
    let world = World::new()?;
    let (scene, _relay) = set(&world).await?;
    let host = scene.lab.host(0);
    // Nobody is a name server there.
    host.resolv_conf(&format!("nameserver {}\n", scene.lab.relay().address()))?;
    let by_name = format!("/dns4/{NAME}/tcp/4001/p2p/{}", scene.relay_id);
    let server = server(&world, &scene, &by_name)?.spawn()?;
    let failed = server.wait_for("reservation_failed", |_| true, SOON).await?;
    let cause = failed.text("cause").unwrap_or_default();
    for hint in [NAME, &scene.lab.relay().address().to_string(), "is the network up"] {
        ensure!(cause.contains(hint), "{hint} is missing in: {cause}");
    }
    host.resolv_conf(&nameserver(&scene))?;
    server.wait_for("reservation_held", |_| true, SOON).await?;
    Ok(())
}

pub(crate) async fn empty() -> Result<()> {
    let world = World::new()?;
    let (scene, _relay) = set(&world).await?;
    let host = scene.lab.host(0);
    host.resolv_conf("")?;
    let by_address = server(&world, &scene, &scene.relay_address())?.spawn()?;
    by_address.wait_for("reservation_held", |_| true, SOON).await?;
    drop(by_address);

    let by_name = format!("/dns4/{NAME}/tcp/4001/p2p/{}", scene.relay_id);
    let server = server(&world, &scene, &by_name)?.spawn()?;
    let failed = server.wait_for("reservation_failed", |_| true, SOON).await?;
    let cause = failed.text("cause").unwrap_or_default();
    ensure!(cause.contains("/etc/resolv.conf names no server"), "{cause}");
    host.resolv_conf(&nameserver(&scene))?;
    server.wait_for("reservation_held", |_| true, SOON).await?;
    Ok(())
}

pub(crate) async fn dnsaddr() -> Result<()> {
    let world = World::new()?;
    let (scene, _relay) = set(&world).await?;
    scene.lab.host(0).resolv_conf(&nameserver(&scene))?;
    let server = server(&world, &scene, &format!("/dnsaddr/{NAME}/p2p/{}", scene.relay_id))?.spawn()?;
    server.wait_for("reservation_held", |_| true, SOON).await?;
    Ok(())
}

/// A record that names this relay.
fn names(address: &str) -> (&'static str, Record) {
    (TEXT_NAME, Record::Text(format!("dnsaddr={address}")))
}

/// That of a relay at the end of its address.
fn id_of(address: &str) -> &str {
    address.rsplit('/').next().unwrap()
}

async fn holds(server: &Program, relay: &str) -> Result<()> {
    let there = |event: &Event| event.text("relay") == Some(id_of(relay));
    server.wait_for("reservation_held", there, SOON).await?;
    Ok(())
}

pub(crate) async fn meet_by_name_alone() -> Result<()> {
    let (mut scene, _relay, _zone) = set_zone(&[Nat::PortPreserving; 2]).await?;
    for host in [scene.lab.host(0), scene.lab.host(1)] {
        host.resolv_conf(&nameserver(&scene))?;
    }
    scene.start_nodes_with_relays(vec![NAME.to_owned()]);
    let server = scene.start_server().await?;
    let resolved = server.wait_for("relay_name_resolved", |_| true, SOON).await?;
    ensure!(resolved.text("name") == Some(NAME), "{resolved:?}");
    let client = scene.start_client(&[])?;
    client.wait_for("session_ready", |_| true, SOON).await?;
    let reach = Launch::program(scene.lab.host(0), binary("punchline")?);
    let reach = reach.args(["doctor", "reach", NAME]).output(SOON).await?;
    let said = String::from_utf8(reach.stdout)?;
    let names = format!("_dnsaddr.{NAME} names {}", scene.relay_address());
    ensure!(reach.status.success() && said.contains(&names), "{said}");
    Ok(())
}

pub(crate) async fn relay_moves() -> Result<()> {
    let world = World::new()?;
    let (mut scene, relay, zone) = set_zone(&[Nat::PortPreserving]).await?;
    scene.lab.host(0).resolv_conf(&nameserver(&scene))?;
    let server = server(&world, &scene, NAME)?.spawn()?;
    holds(&server, &scene.relay_address()).await?;
    drop(relay);
    server.wait_for("reservation_lost", |_| true, SOON).await?;
    // Another relay takes over, at another address and with another identity.
    let (_relay, address) = scene.start_second_relay(Transport::Tcp).await?;
    zone.set(vec![names(&address)]);
    holds(&server, &address).await
}

pub(crate) async fn two_relays() -> Result<()> {
    let world = World::new()?;
    let (mut scene, _relay, zone) = set_zone(&[Nat::PortPreserving]).await?;
    scene.lab.host(0).resolv_conf(&nameserver(&scene))?;
    let first = scene.relay_address();
    let (_second, second) = scene.start_second_relay(Transport::Tcp).await?;
    zone.set(vec![names(&first), names(&second)]);
    let server = server(&world, &scene, NAME)?.spawn()?;
    holds(&server, &first).await?;
    holds(&server, &second).await
}

pub(crate) async fn dns_dead_at_start() -> Result<()> {
    let world = World::new()?;
    let (scene, _relay, _zone) = set_zone(&[Nat::PortPreserving]).await?;
    let host = scene.lab.host(0);
    // Nobody is a name server there.
    host.resolv_conf(&format!("nameserver {}\n", scene.lab.relay().address()))?;
    let server = server(&world, &scene, NAME)?.spawn()?;
    let failed = server.wait_for("relay_name_failed", |_| true, SOON).await?;
    let cause = failed.text("cause").unwrap_or_default();
    for hint in [NAME, "is the network up"] {
        ensure!(cause.contains(hint), "{hint} is missing in: {cause}");
    }
    let asked = Launch::program(host, binary("punchline")?);
    let asked = asked.args(["status", "--identity", &world.identity("server")]);
    let status = asked.output(SOON).await?;
    let screen = String::from_utf8(status.stdout)?;
    ensure!(screen.contains(&format!("{NAME}  not resolved")), "{screen}");
    let reach = Launch::program(host, binary("punchline")?);
    let reach = reach.args(["doctor", "reach", NAME]).output(SOON).await?;
    let said = String::from_utf8(reach.stdout)?;
    ensure!(!reach.status.success() && said.starts_with("bad      name"), "{said}");
    host.resolv_conf(&nameserver(&scene))?;
    server.wait_for("reservation_held", |_| true, SOON).await?;
    let said = server.report();
    ensure!(said.matches("the relays of relay.example are not known").count() == 1, "{said}");
    Ok(())
}
