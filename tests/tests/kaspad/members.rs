//! Nodes of a network that find each other in its namespace: nobody is told an id, a relay or an address of another.

use std::{fs, net::SocketAddr};

use anyhow::{Context as _, Result, ensure};
use punchline_tests::{
    kaspad::{Kaspad, eventually, own_address},
    lab::Namespace,
    process::{Event, Launch, Program},
    scene::Transport,
};
use tempfile::TempDir;
use tokio::try_join;

use crate::{
    scene::explain,
    session::Session,
    world::{DEADLINE, World, two_nats},
};

/// The namespace of those on simnet.
const NAMESPACE: [&str; 2] = ["--namespace", "kaspa-simnet"];

/// Each node is exposed in the namespace, and one also follows the members: each has a loopback address of its own there,
/// which stands in a file for `--addpeer`.
pub(crate) async fn meet() -> Result<()> {
    let lab = two_nats()?;
    let world = World::in_lab(&lab, Transport::Tcp).await?;
    let (near, far) = (lab.host(0), lab.host(1));
    let (acceptor, dialler) = try_join!(Kaspad::start(near), Kaspad::start(far))?;
    let (boot, bootstrap) = bootstrap(&world, lab.internet()).await?;
    let within = [&["--bootstrap", &bootstrap], &NAMESPACE[..]].concat();
    let folder = TempDir::new()?;
    let file = folder.path().join("addresses");
    let service = format!("kaspad={}", acceptor.p2p());
    let expose = world.sidecar(near.into(), "expose", "acceptor")?;
    let expose = expose.args(["--service", &service, "--allow-any"]).args(&within).spawn()?;
    let local = format!("{}:16111", own_address());
    let forward = world.launch(far, "forward", "dialler")?;
    let forward = forward.args(["--service", "kaspad", "--local", &local, "--max", "8"]);
    let forward = forward.args(["--addresses-file".as_ref(), file.as_os_str()]).args(&within).spawn()?;
    let played = async {
        let peer = world.peer_id("acceptor").await?;
        let there = |event: &Event| event.has("peer", &peer);
        let listening = forward.wait_for("forward_listening", there, DEADLINE).await?;
        forward.wait_for("connection_opened", there, DEADLINE).await?;
        let at: SocketAddr = listening.text("local").context("no address")?.parse()?;
        ensure!(at.to_string() == local, "the first member is at {at}");
        let list = eventually("the list of addresses", DEADLINE, async || {
            Ok(fs::read_to_string(&file).ok().filter(|list| !list.is_empty()))
        });
        let list = list.await?;
        ensure!(list == format!("{local}\n"), "{list:?}");
        let session = Session::dial(&dialler, at, &acceptor).await?;
        session.carries_blocks().await
    };
    explain(played.await, &[world.relay(), &boot, &expose, &forward], &[&acceptor, &dialler])
}

/// `punchline bootstrap`; and its address.
async fn bootstrap(world: &World, host: &Namespace) -> Result<(Program, String)> {
    let at = format!("/ip4/{}/tcp/4002", host.address());
    let launch: Launch = world.launch(host, "bootstrap", "bootstrap")?;
    let program = launch.args(["--listen", &at]).spawn()?;
    program.wait_for("dht_listening", |_| true, DEADLINE).await?;
    Ok((program, format!("{at}/p2p/{}", world.peer_id("bootstrap").await?)))
}
