//! Relays that are given by name.

use anyhow::{Result, ensure};
use punchline_tests::{
    lab::{LabSpec, Nat},
    process::{Launch, Program},
    scene::{Scene, Transport},
};

use crate::{
    dns::{self, NAME, Record, TEXT_NAME},
    world::{SOON, World},
};

/// A lab with a relay, and a name server on the internet that knows it.
async fn set(world: &World) -> Result<(Scene, Program)> {
    let _ = world;
    let scene = Scene::prepare(&LabSpec::new([Nat::PortPreserving]), Transport::Tcp).await?;
    let relay = scene.start_relay().await?;
    let text = format!("dnsaddr={}", scene.relay_address());
    let address = Record::Address(scene.lab.relay().address().into());
    dns::serve(scene.lab.internet(), vec![(NAME, address), (TEXT_NAME, Record::Text(text))])?;
    Ok((scene, relay))
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
