//! Peers that find each other in the DHT, with nobody told where the other is, nor which relay it uses.

// What was measured, for whoever reads the log.
#![allow(clippy::print_stderr)]

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use punchline_tests::{
    lab::{LabSpec, Namespace, Nat},
    process::{Event, Program},
    scene::{Scene, Transport},
};

use crate::{
    lan::{echoes, expose, expose_as, forward},
    world::{SOON, World},
};

/// From the moment that a bootstrap node hangs until it is told to be down.
const HANG_NOTICED: Duration = Duration::from_secs(45);

/// Nodes in each half of a network that is split.
const SPLIT_EACH: usize = 10;

/// For so long.
const SPLIT_LASTS: Duration = Duration::from_secs(60);

/// From the start of a node until it has its peer's word in the DHT.
const FOUND_SECONDS: f64 = 10.0;

async fn two_homes() -> Result<(World, Scene)> {
    let world = World::new()?;
    let spec = LabSpec::new([Nat::PortPreserving, Nat::PortPreserving]);
    Ok((world, Scene::prepare(&spec, Transport::Tcp).await?))
}

/// `punchline bootstrap`; and how others begin with it.
pub(crate) async fn bootstrap(
    world: &World,
    host: &Namespace,
    name: &str,
    of: &[String],
) -> Result<(Program, [String; 2])> {
    let at = format!("/ip4/{}/tcp/4002", host.address());
    let launch = world.launch(host, "bootstrap", name)?.args(["--listen", &at]).args(of);
    let program = launch.spawn()?;
    program.wait_for("dht_listening", |_| true, SOON).await?;
    let address = format!("{at}/p2p/{}", world.peer_id(name).await?);
    Ok((program, ["--bootstrap".to_owned(), address]))
}

/// The forward is told an id and a node of the DHT, and nothing of a relay.
pub(crate) async fn by_its_id() -> Result<()> {
    let (world, scene) = two_homes().await?;
    let relay = scene.start_relay().await?;
    let (boot, begin) = bootstrap(&world, scene.lab.internet(), "bootstrap", &[]).await?;
    let ways = [&["--relay".to_owned(), scene.relay_address()], &begin[..]].concat();
    let (expose, peer) = expose(&world, scene.lab.host(0), &ways).await?;
    let forward = forward(&world, scene.lab.host(1), &peer, &begin)?;
    let found = async {
        let found = forward.wait_for("peer_found", |event| event.has("peer", &peer), SOON).await?;
        ensure!(found.has("source", "kad"), "{found}");
        let listens = forward.wait_for("listening", |_| true, SOON).await?;
        let took = found.time()?.duration_since(listens.time()?).as_secs_f64();
        ensure!(took < FOUND_SECONDS, "found after {took} s");
        echoes(&world).await?;
        let direct = |event: &Event| event.has("peer", &peer) && event.has("path", "direct");
        forward.wait_for("connection_opened", direct, SOON).await?;
        Ok(())
    };
    found.await.with_context(|| [&relay, &boot, &expose, &forward].map(Program::report).concat())
}

/// A forward to whoever is in a namespace goes to another member when the one that it uses is gone.
pub(crate) async fn any_member() -> Result<()> {
    let world = World::new()?;
    let spec = LabSpec::new([Nat::PortPreserving, Nat::PortPreserving]).with_neighbours();
    let scene = Scene::prepare(&spec, Transport::Tcp).await?;
    let relay = scene.start_relay().await?;
    let (boot, begin) = bootstrap(&world, scene.lab.internet(), "bootstrap", &[]).await?;
    let within = [&begin[..], &["--namespace".to_owned(), "kaspa-test".to_owned()]].concat();
    let ways = [&["--relay".to_owned(), scene.relay_address()], &within[..]].concat();
    let mut members = Vec::new();
    for (name, host) in [("first", scene.lab.host(0)), ("second", scene.lab.neighbour(0))] {
        members.push(expose_as(&world, name, host, &ways).await?);
    }
    let launch = world.launch(scene.lab.host(1), "forward", "forward")?;
    let local = format!("unix:{}", world.identity("local"));
    let forward = launch.args(["--service", "echo", "--local", &local]).args(&within).spawn()?;
    let found = async {
        for (_, peer) in &members {
            forward.wait_for("member_found", |event| event.has("peer", peer), SOON).await?;
            forward.wait_for("connection_opened", |event| event.has("peer", peer), SOON).await?;
        }
        echoes(&world).await?;
        let opened = forward.wait_for("stream_opened", |_| true, SOON).await?;
        let used = |(_, peer): &(Program, String)| opened.has("peer", peer);
        let at = members.iter().position(used).context("a stream to a stranger")?;
        members[at].0.kill().await?;
        let (_, gone) = members.remove(at);
        echoes(&world).await?;
        let other = |event: &Event| !event.has("peer", &gone);
        forward.wait_for("stream_opened", other, SOON).await?;
        anyhow::Ok(())
    };
    found.await.with_context(|| [&relay, &boot, &forward].map(Program::report).concat())
}

/// A bootstrap node that is stopped keeps its sockets and takes connections, and is told to be down all the same.
pub(crate) async fn hung_bootstrap() -> Result<()> {
    let (world, scene) = two_homes().await?;
    let (first, begin) = bootstrap(&world, scene.lab.internet(), "first", &[]).await?;
    let (second, _) = bootstrap(&world, scene.lab.relay(), "second", &begin).await?;
    let healthy = |event: &Event| event.has("health", "healthy");
    second.wait_for("bootstrap_changed", healthy, SOON).await?;
    let noticed = async {
        first.halt()?;
        let halted = std::time::Instant::now();
        let down = |event: &Event| event.has("health", "down");
        second.wait_for("bootstrap_changed", down, HANG_NOTICED + SOON).await?;
        let took = halted.elapsed();
        eprintln!("a hung bootstrap node is down after {took:?}");
        // What the deadlines add up to, and the time that a busy machine takes for a message.
        ensure!(took < HANG_NOTICED + Duration::from_secs(15), "noticed after {took:?}");
        let mark = second.mark();
        first.resume()?;
        second.wait_for_after(mark, "bootstrap_changed", healthy, SOON).await?;
        Ok(())
    };
    noticed.await.with_context(|| [&first, &second].map(Program::report).concat())
}

/// Two networks of ten nodes each, cut apart for a minute: one again a minute after.
pub(crate) async fn split() -> Result<()> {
    let world = World::new()?;
    let spec = LabSpec::new([Nat::Open, Nat::Open]);
    let scene = Scene::prepare(&spec, Transport::Tcp).await?;
    let hosts = [scene.lab.host(0), scene.lab.host(1)];
    let at = |half: usize, node: usize| format!("/ip4/{}/tcp/{}", hosts[half].address(), 4002 + node);
    let mut begin = Vec::new();
    for half in [0, 1] {
        let id = world.peer_id(&format!("half{half}-0")).await?;
        begin.extend(["--bootstrap".to_owned(), format!("{}/p2p/{id}", at(half, 0))]);
    }
    let mut nodes = Vec::new();
    for (half, node) in (0..SPLIT_EACH).flat_map(|node| [(0, node), (1, node)]) {
        let launch = world.launch(hosts[half], "bootstrap", &format!("half{half}-{node}"))?;
        nodes.push(launch.args(["--listen", &at(half, node)]).args(&begin).spawn()?);
    }
    let whole = |event: &Event| event.number("table") == Some(2 * SPLIT_EACH as u64 - 1);
    let healed = async {
        for node in &nodes {
            node.wait_for("routing_table_updated", whole, 4 * SOON).await?;
        }
        cut(
            &scene,
            "add table inet cut; add chain inet cut between { type filter hook forward priority 0; policy drop; }",
        )?;
        tokio::time::sleep(SPLIT_LASTS).await;
        let mut marks = Vec::new();
        for node in &nodes {
            let table = node.events().iter().rev().find_map(|event| event.number("table"));
            marks.push((node.mark(), table.unwrap_or_default()));
        }
        cut(&scene, "delete table inet cut")?;
        let healed = std::time::Instant::now();
        let least = marks.iter().map(|(_, table)| *table).min().unwrap_or_default();
        for (node, (mark, table)) in nodes.iter().zip(marks) {
            if table < 2 * SPLIT_EACH as u64 - 1 {
                node.wait_for_after(mark, "routing_table_updated", whole, 4 * SOON).await?;
            }
        }
        eprintln!(
            "{least} in the smallest table when it healed; one network after {:?}",
            healed.elapsed()
        );
        anyhow::Ok(())
    };
    healed.await.with_context(|| nodes.iter().map(Program::report).collect::<String>())
}

fn cut(scene: &Scene, rules: &str) -> Result<()> {
    let status = scene.lab.router(1).command("nft").arg(rules).status()?;
    ensure!(status.success(), "nft: {status}");
    Ok(())
}

/// It remembers another node of the DHT than the one that it is told.
pub(crate) async fn without_its_bootstrap() -> Result<()> {
    let (world, scene) = two_homes().await?;
    let relay = scene.start_relay().await?;
    let (mut first, begin) = bootstrap(&world, scene.lab.internet(), "first", &[]).await?;
    let (second, _) = bootstrap(&world, scene.lab.relay(), "second", &begin).await?;
    second.wait_for("dht_joined", |_| true, SOON).await?;
    let ways = [&["--relay".to_owned(), scene.relay_address()], &begin[..]].concat();
    let (expose, peer) = expose(&world, scene.lab.host(0), &ways).await?;
    let mut before = forward(&world, scene.lab.host(1), &peer, &begin)?;
    let known = |event: &Event| event.number("table") == Some(2);
    before.wait_for("routing_table_updated", known, SOON).await?;
    echoes(&world).await?;
    ensure!(before.terminate(SOON).await?.success(), "{}", before.report());
    first.kill().await?;
    // What it remembers of the peer itself is not to help.
    std::fs::remove_file(format!("{}.peers", world.identity("forward")))?;
    let again = forward(&world, scene.lab.host(1), &peer, &begin)?;
    let found = async {
        let found = again.wait_for("peer_found", |event| event.has("peer", &peer), SOON).await?;
        ensure!(found.has("source", "kad"), "{found}");
        echoes(&world).await
    };
    found.await.with_context(|| [&relay, &second, &expose, &again].map(Program::report).concat())
}
