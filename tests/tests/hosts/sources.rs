//! Peers that are found by a domain, at a meeting point, and by a pkarr key.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use punchline_tests::{
    lab::{LabSpec, Nat},
    process::{Event, Program},
    scene::{Scene, Transport},
};

use crate::{
    dht::bootstrap,
    dns::{self, NAME, Record, TEXT_NAME, Zone},
    lan::{echoes, expose, forward},
    mainline,
    world::{SOON, World},
};

async fn two_homes() -> Result<(World, Scene, Program)> {
    let world = World::new()?;
    let spec = LabSpec::new([Nat::PortPreserving, Nat::PortPreserving]);
    let scene = Scene::prepare(&spec, Transport::Tcp).await?;
    let relay = scene.start_relay().await?;
    Ok((world, scene, relay))
}

fn says(address: &str) -> Vec<(&'static str, Record)> {
    vec![(TEXT_NAME, Record::Text(format!("dnsaddr={address}")))]
}

/// A name server on the internet, which both homes ask.
fn name_server(scene: &Scene, address: &str) -> Result<Zone> {
    let server = format!("nameserver {}\n", scene.lab.internet().address());
    for host in [scene.lab.host(0), scene.lab.host(1)] {
        host.resolv_conf(&server)?;
    }
    dns::serve(scene.lab.internet(), says(address))
}

async fn is_found(forward: &Program, peer: &str, source: &str, within: Duration) -> Result<()> {
    let by = |event: &Event| event.has("peer", peer) && event.has("source", source);
    forward.wait_for("peer_found", by, within).await?;
    Ok(())
}

/// What the domain says is where the peer is behind its relay; the rest is as always.
pub(crate) async fn by_a_domain() -> Result<()> {
    let (world, scene, relay) = two_homes().await?;
    let reserves = ["--relay".to_owned(), scene.relay_address()];
    let (expose, peer) = expose(&world, scene.lab.host(0), &reserves).await?;
    expose.wait_for("reservation_held", |_| true, SOON).await?;
    let _zone = name_server(&scene, &format!("{}/p2p-circuit/p2p/{peer}", scene.relay_address()))?;
    let forward = forward(&world, scene.lab.host(1), &peer, &["--dns".to_owned(), NAME.to_owned()])?;
    let found = async {
        is_found(&forward, &peer, "dns", SOON).await?;
        echoes(&world).await?;
        let direct = |event: &Event| event.has("peer", &peer) && event.has("path", "direct");
        forward.wait_for("connection_opened", direct, SOON).await?;
        anyhow::Ok(())
    };
    found.await.with_context(|| [&relay, &expose, &forward].map(Program::report).concat())
}

/// The name stands for a node that is not there, and later for one that is.
pub(crate) async fn bootstrap_by_name() -> Result<()> {
    let (world, scene, relay) = two_homes().await?;
    let (boot, begin) = bootstrap(&world, scene.lab.internet(), "bootstrap", &[]).await?;
    let gone = scene.relay_address().replace("/tcp/4001", "/tcp/4999");
    let zone = name_server(&scene, &gone)?;
    let named = ["--bootstrap".to_owned(), NAME.to_owned()];
    let ways = [&["--relay".to_owned(), scene.relay_address()], &named[..]].concat();
    let (expose, peer) = expose(&world, scene.lab.host(0), &ways).await?;
    let forward = forward(&world, scene.lab.host(1), &peer, &named)?;
    let found = async {
        expose.wait_for("reservation_held", |_| true, SOON).await?;
        zone.set(says(&begin[1]));
        // Records hold for half a minute at least, and who is not found is looked for ever more rarely.
        is_found(&forward, &peer, "kad", 4 * SOON).await?;
        echoes(&world).await
    };
    found.await.with_context(|| [&relay, &boot, &expose, &forward].map(Program::report).concat())
}

/// The meeting point is a node of the DHT, of which neither home knows anything else.
pub(crate) async fn at_a_meeting_point() -> Result<()> {
    let (world, scene, relay) = two_homes().await?;
    let server = ["--rendezvous-server".to_owned()];
    let (boot, begin) = bootstrap(&world, scene.lab.internet(), "bootstrap", &server).await?;
    let meets = ["--rendezvous".to_owned(), begin[1].clone()];
    let ways = [&["--relay".to_owned(), scene.relay_address()], &meets[..]].concat();
    let (expose, peer) = expose(&world, scene.lab.host(0), &ways).await?;
    let forward = forward(&world, scene.lab.host(1), &peer, &meets)?;
    let found = async {
        is_found(&forward, &peer, "rendezvous", SOON).await?;
        echoes(&world).await
    };
    found.await.with_context(|| [&relay, &boot, &expose, &forward].map(Program::report).concat())
}

/// All that is known of the peer is its public key, as pkarr writes it.
pub(crate) async fn by_a_pkarr_key() -> Result<()> {
    let (world, scene, relay) = two_homes().await?;
    let (first, joins) = mainline::begin_at(&scene).await?;
    let reserves = [&joins[..], &["--relay".to_owned(), scene.relay_address()]].concat();
    let (expose, peer) = expose(&world, scene.lab.host(0), &reserves).await?;
    let key = punchline_discovery::pkarr::key_of(peer.parse()?).context("an ed25519 key")?;
    ensure!(key.len() == 52, "{key}");
    let forward = forward(&world, scene.lab.host(1), &format!("pk:{key}"), &joins)?;
    let found = async {
        let found = |event: &Event| event.has("peer", &peer);
        forward.wait_for("peer_found", found, mainline::CLIENT).await?;
        echoes(&world).await
    };
    found.await.with_context(|| [&relay, &first, &expose, &forward].map(Program::report).concat())
}
