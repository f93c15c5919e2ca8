//! Peers that find each other on one network, with nobody told where the other is.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use punchline_tests::{
    lab::{LabSpec, Namespace, Nat},
    process::{Event, Launch, Place, Program, binary},
    scene::{Scene, Transport},
};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy, split},
    net::{UnixListener, UnixStream},
    time::timeout,
};

use crate::{
    stock_neighbour,
    world::{SOON, World},
};

/// From the start of a node until it is connected with one on the same network.
const FOUND_SECONDS: f64 = 1.0;

/// For a few bytes to go there and back.
const ANSWER: Duration = Duration::from_secs(10);

/// A home network with two hosts, and the internet before it.
async fn home() -> Result<(World, Scene)> {
    let world = World::new()?;
    let spec = LabSpec::new([Nat::PortPreserving]).with_neighbours();
    Ok((world, Scene::prepare(&spec, Transport::Tcp).await?))
}

pub(crate) async fn without_any_address() -> Result<()> {
    let (world, scene) = home().await?;
    let (expose, peer) = expose(&world, scene.lab.host(0), &[]).await?;
    let forward = forward(&world, scene.lab.neighbour(0), &peer, &[])?;
    let found = async {
        let found = forward.wait_for("peer_found", |event| event.has("peer", &peer), SOON).await?;
        ensure!(found.has("source", "mdns"), "{found}");
        let took = direct_at(&forward, &peer, scene.lab.host(0)).await?;
        ensure!(took < FOUND_SECONDS, "found after {took} s");
        echoes(&world).await?;
        let peers = peers(&world, "forward").await?;
        let known = known(&peers, &peer).with_context(|| peers.to_string())?;
        ensure!(known["sources"] == serde_json::json!(["connected", "mdns"]), "{peers}");
        let at = format!("/ip4/{}/tcp/", scene.lab.host(0).address());
        let at = |address: &Value| address.as_str().is_some_and(|address| address.starts_with(&at));
        ensure!(known["addresses"].as_array().is_some_and(|all| all.iter().any(at)), "{peers}");
        let missed = forward.events().into_iter().find(|event| event.name() == "peer_unreachable");
        ensure!(missed.is_none(), "{missed:?}");
        Ok(())
    };
    found.await.with_context(|| [&expose, &forward].map(Program::report).concat())
}

/// The forward is there first, and hears the other one begin.
pub(crate) async fn who_comes_later() -> Result<()> {
    let (world, scene) = home().await?;
    let peer = world.peer_id("expose").await?;
    let forward = forward(&world, scene.lab.neighbour(0), &peer, &[])?;
    forward.wait_for("peer_unreachable", |_| true, SOON).await?;
    let (expose, _) = expose(&world, scene.lab.host(0), &[]).await?;
    let found = async {
        let listens = expose.wait_for("listening", |_| true, SOON).await?;
        let connected = connected(&forward, &peer, scene.lab.host(0)).await?;
        let took = connected.time()?.duration_since(listens.time()?).as_secs_f64();
        ensure!(took < FOUND_SECONDS, "found after {took} s");
        echoes(&world).await
    };
    found.await.with_context(|| [&expose, &forward].map(Program::report).concat())
}

/// Both ways lead to the peer; the one that stays at home carries what is said.
pub(crate) async fn beside_a_relay() -> Result<()> {
    let (world, scene) = home().await?;
    let relay = scene.start_relay().await?;
    let through = ["--relay".to_owned(), scene.relay_address()];
    let (expose, peer) = expose(&world, scene.lab.host(0), &through).await?;
    expose.wait_for("reservation_held", |_| true, SOON).await?;
    let forward = forward(&world, scene.lab.neighbour(0), &peer, &through)?;
    let found = async {
        let took = direct_at(&forward, &peer, scene.lab.host(0)).await?;
        ensure!(took < FOUND_SECONDS, "found after {took} s");
        echoes(&world).await?;
        let opened = forward.wait_for("stream_opened", |_| true, SOON).await?;
        ensure!(opened.has("path", "direct"), "{opened}");
        // A punch may begin before the network has answered.
        for program in [&expose, &forward] {
            let upgrade = program.events().into_iter().find(|event| event.name() == "upgrade_succeeded");
            ensure!(upgrade.as_ref().is_none_or(|event| event.has("rung", "lan")), "{upgrade:?}");
        }
        Ok(())
    };
    found.await.with_context(|| [&relay, &expose, &forward].map(Program::report).concat())
}

/// Who was told where a peer is, or found it, needs not be told again, nor ask.
pub(crate) async fn again() -> Result<()> {
    let (world, scene) = home().await?;
    let (expose, peer) = expose(&world, scene.lab.host(0), &[]).await?;
    let mut first = forward(&world, scene.lab.neighbour(0), &peer, &[])?;
    direct_at(&first, &peer, scene.lab.host(0)).await?;
    let ended = first.terminate(SOON).await?;
    ensure!(ended.success(), "{}", first.report());
    let second = forward(&world, scene.lab.neighbour(0), &peer, &["--mdns".into(), "off".into()])?;
    let found = async {
        let found = second.wait_for("peer_found", |_| true, SOON).await?;
        ensure!(found.has("source", "cache"), "{found}");
        direct_at(&second, &peer, scene.lab.host(0)).await?;
        echoes(&world).await
    };
    found.await.with_context(|| [&expose, &second].map(Program::report).concat())
}

/// Nobody looks for anybody where that is switched off, and a node that is silent is not found.
pub(crate) async fn silent() -> Result<()> {
    let (world, scene) = home().await?;
    let off = ["--mdns".to_owned(), "off".to_owned()];
    let (expose, peer) = expose(&world, scene.lab.host(0), &off).await?;
    let forward = forward(&world, scene.lab.neighbour(0), &peer, &[])?;
    let lonely = async {
        // The question after the third failure is the fifth at least.
        forward.wait_for("peer_unreachable", |event| event.number("failures") == Some(3), SOON).await?;
        ensure!(!forward.events().iter().any(|event| event.name() == "peer_found"));
        Ok(())
    };
    lonely.await.with_context(|| [&expose, &forward].map(Program::report).concat())
}

/// Stock libp2p finds us and we find it.
pub(crate) async fn stock() -> Result<()> {
    let (world, scene) = home().await?;
    let this = std::env::current_exe()?;
    let stock = Launch::program(scene.lab.host(0), this).args([stock_neighbour::ARGUMENT]).spawn()?;
    let started = stock.wait_for("started", |_| true, SOON).await?;
    let peer = started.text("peer").context("no id")?;
    let forward = forward(&world, scene.lab.neighbour(0), peer, &[])?;
    let both = async {
        direct_at(&forward, peer, scene.lab.host(0)).await?;
        let ours = world.peer_id("forward").await?;
        let found = stock.wait_for("discovered", |event| event.has("peer", &ours), SOON).await?;
        let at = format!("/ip4/{}/", scene.lab.neighbour(0).address());
        ensure!(found.text("address").is_some_and(|address| address.starts_with(&at)), "{found}");
        Ok(())
    };
    both.await.with_context(|| [&stock, &forward].map(Program::report).concat())
}

/// `expose`, with an echo behind it; and its id.
pub(crate) async fn expose(
    world: &World,
    host: &Namespace,
    args: &[String],
) -> Result<(Program, String)> {
    expose_as(world, "expose", host, args).await
}

/// The same with another identity.
pub(crate) async fn expose_as(
    world: &World,
    name: &str,
    host: &Namespace,
    args: &[String],
) -> Result<(Program, String)> {
    let target = world.identity(&format!("{name}-echo"));
    echo(Path::new(&target))?;
    let launch = world.launch(host, "expose", name)?;
    let expose =
        launch.args(["--allow-any", "--service", &format!("echo=unix:{target}")]).args(args).spawn()?;
    expose.wait_for("listening", |_| true, SOON).await?;
    Ok((expose, world.peer_id(name).await?))
}

pub(crate) fn forward(world: &World, host: &Namespace, peer: &str, args: &[String]) -> Result<Program> {
    let local = format!("unix:{}", world.identity("local"));
    let launch = world.launch(host, "forward", "forward")?;
    let launch = launch.args(["--peer", peer, "--service", "echo", "--local", &local]);
    Ok(launch.args(args).spawn()?)
}

/// A direct connection with the peer at the host's own address.
async fn connected(forward: &Program, peer: &str, host: &Namespace) -> Result<Event> {
    let at = format!("/ip4/{}/", host.address());
    let direct = |event: &Event| {
        let there = event.text("address").is_some_and(|address| address.starts_with(&at));
        event.has("peer", peer) && event.has("path", "direct") && there
    };
    Ok(forward.wait_for("connection_opened", direct, SOON).await?)
}

/// After how many seconds from its start the forward has such a connection.
async fn direct_at(forward: &Program, peer: &str, host: &Namespace) -> Result<f64> {
    let connected = connected(forward, peer, host).await?;
    let listens = forward.wait_for("listening", |_| true, SOON).await?;
    Ok(connected.time()?.duration_since(listens.time()?).as_secs_f64())
}

fn echo(path: &Path) -> Result<()> {
    let listener = UnixListener::bind(path)?;
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = split(socket);
                let _ = copy(&mut from, &mut to).await;
            });
        }
    });
    Ok(())
}

pub(crate) async fn echoes(world: &World) -> Result<()> {
    echoes_at(world, "local").await
}

/// Likewise at another local socket.
pub(crate) async fn echoes_at(world: &World, local: &str) -> Result<()> {
    let talk = async {
        let mut socket = UnixStream::connect(world.identity(local)).await?;
        socket.write_all(b"found").await?;
        let mut answer = [0; 5];
        socket.read_exact(&mut answer).await?;
        anyhow::Ok(answer)
    };
    match timeout(ANSWER, talk).await {
        Ok(answer) => ensure!(&answer? == b"found"),
        Err(_) => bail!("no answer within {ANSWER:?}"),
    }
    Ok(())
}

/// What `punchline network peers` says of a running node.
async fn peers(world: &World, name: &str) -> Result<Value> {
    let launch = Launch::program(Place::Host, binary("punchline")?);
    let control = format!("{}.sock", world.identity(name));
    let asked = ["network", "peers", "--json", "--control", &control];
    let output = launch.args(asked).output(SOON).await?;
    ensure!(output.status.success(), "{output:?}");
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn known(peers: &Value, peer: &str) -> Option<Value> {
    peers["peers"].as_array()?.iter().find(|known| known["peer"] == peer).cloned()
}
