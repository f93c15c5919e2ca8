//! From an id, an authority or a name of a group to whoever is meant, by the DHT alone; and what is stored there by hand.

// What was measured, for whoever reads the log.
#![allow(clippy::print_stderr)]

use std::fs;

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use punchline_tests::{
    kaspad::eventually,
    lab::{LabSpec, Namespace, Nat},
    process::{Event, Launch, Place, Program, binary},
    scene::{Scene, Transport},
    trial::lab_trial,
};
use serde_json::Value;

use crate::{
    dht::bootstrap,
    lan::{echoes, echoes_at, expose_as},
    world::{SOON, World},
};

pub(crate) fn trials() -> [Trial; 7] {
    [
        lab_trial("a_neighbour_is_found_by_mdns_and_a_far_peer_by_the_dht_and_both_are_timed", timed),
        lab_trial("values_content_and_who_has_a_file_are_stored_and_found_by_hand", by_hand),
        lab_trial(
            "whoever_answers_for_an_authority_is_reached_and_another_one_once_it_names_another",
            by_authority,
        ),
        lab_trial(
            "two_hosts_behind_nats_a_public_one_and_one_in_a_vpn_reach_each_other_by_ids_alone",
            picture,
        ),
        lab_trial("a_forward_to_a_namespace_leaves_aside_who_serves_something_else", who_serves_it),
        lab_trial(
            "a_client_that_is_told_an_address_where_nobody_is_finds_its_server_in_the_dht",
            old_address,
        ),
        lab_trial("a_client_whose_server_nobody_knows_is_told_who_was_asked", nobody_knows),
    ]
}

async fn homes<const N: usize>(nats: [Nat; N]) -> Result<(World, Scene)> {
    let world = World::new()?;
    Ok((world, Scene::prepare(&LabSpec::new(nats), Transport::Tcp).await?))
}

/// `punchline discovery …`, by itself: what it prints with `--json`.
async fn asked(host: &Namespace, begin: &[String], args: &[&str]) -> Result<Value> {
    let launch = Launch::program(host, binary("punchline")?).args(["discovery"]).args(args);
    let output = launch.args(begin).args(["--json"]).output(SOON).await?;
    ensure!(output.status.success(), "{args:?}: {output:?}");
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Likewise of a node that runs, by its control socket.
async fn asked_of(world: &World, name: &str, args: &[&str]) -> Result<Value> {
    let control = format!("{}.sock", world.identity(name));
    let launch = Launch::program(Place::Host, binary("punchline")?).args(["discovery"]).args(args);
    let output = launch.args(["--json", "--control", &control]).output(SOON).await?;
    ensure!(output.status.success(), "{args:?}: {output:?}");
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn text<'a>(answer: &'a Value, field: &str) -> Result<&'a str> {
    answer[field].as_str().with_context(|| format!("no {field} in {answer}"))
}

/// Printed, not compared: one question to the own network, and a DHT of two nodes that has to be joined first.
async fn timed() -> Result<()> {
    let world = World::new()?;
    let spec = LabSpec::new([Nat::PortPreserving, Nat::Open]).with_neighbours();
    let scene = Scene::prepare(&spec, Transport::Tcp).await?;
    let (boot, begin) = bootstrap(&world, scene.lab.internet(), "bootstrap", &[]).await?;
    let (near, near_id) = expose_as(&world, "near", scene.lab.host(0), &[]).await?;
    let (far, far_id) = expose_as(&world, "far", scene.lab.host(1), &begin).await?;
    far.wait_for("data_stored", |_| true, SOON).await?;
    let by_dht = [&begin[..], &["--mdns".to_owned(), "off".to_owned()]].concat();
    let ways = [("mdns", &near_id, Vec::new()), ("kad", &far_id, by_dht)];
    let mut programs = vec![boot, near, far];
    for (source, peer, args) in ways {
        let local = format!("unix:{}", world.identity(&format!("{source}-local")));
        let launch = world.launch(scene.lab.neighbour(0), "forward", source)?;
        let launch = launch.args(["--peer", peer, "--service", "echo", "--local", &local]);
        programs.push(launch.args(&args).spawn()?);
        let forward = &programs[programs.len() - 1];
        let timed = async {
            let found = forward.wait_for("peer_found", |event| event.has("peer", peer), SOON).await?;
            ensure!(found.has("source", source), "{found}");
            let there = |event: &Event| event.has("peer", peer) && event.has("path", "direct");
            let connected = forward.wait_for("connection_opened", there, SOON).await?;
            let begun = forward.wait_for("listening", |_| true, SOON).await?.time()?;
            let after = |event: &Event| Ok(event.time()?.duration_since(begun).as_secs_f64());
            let (found, connected): (Result<f64>, Result<f64>) = (after(&found), after(&connected));
            eprintln!("{source}: found after {:.3} s, connected after {:.3} s", found?, connected?);
            echoes_at(&world, &format!("{source}-local")).await
        };
        timed.await.with_context(|| programs.iter().map(Program::report).collect::<String>())?;
    }
    Ok(())
}

async fn by_hand() -> Result<()> {
    let (world, scene) = homes([Nat::PortPreserving; 2]).await?;
    let relay = scene.start_relay().await?;
    let (boot, begin) = bootstrap(&world, scene.lab.internet(), "bootstrap", &[]).await?;
    let ways = [&["--relay".to_owned(), scene.relay_address()], &begin[..]].concat();
    let (expose, peer) = expose_as(&world, "expose", scene.lab.host(0), &ways).await?;
    expose.wait_for("data_stored", |_| true, SOON).await?;
    let stored = async {
        let far = scene.lab.host(1);
        let content = asked_of(&world, "expose", &["put", "some content"]).await?;
        let got = asked(far, &begin, &["get", text(&content, "hash")?]).await?;
        ensure!(got["value"] == "some content", "{got}");

        asked_of(&world, "expose", &["put", "--name", "motd", "first"]).await?;
        asked_of(&world, "expose", &["put", "--name", "motd", "second"]).await?;
        let got = asked(far, &begin, &["get", &peer, "--name", "motd"]).await?;
        ensure!(got["value"] == "second" && got["signer"] == *peer, "{got}");

        let file = world.identity("file");
        fs::write(&file, vec![7; 100_000])?;
        let provided = asked_of(&world, "expose", &["provide", &file]).await?;
        let hash = text(&provided, "hash")?.to_owned();
        // It is said a moment after it was asked for.
        let look = async || Ok(asked(far, &begin, &["providers", &hash]).await.ok());
        let found = eventually("who has the file", SOON, look).await?;
        ensure!(found["peers"] == serde_json::json!([peer]), "{found}");

        let contact = asked(far, &begin, &["find-peer", &peer]).await?;
        let circuit = |address: &Value| address.as_str().is_some_and(|at| at.contains("/p2p-circuit"));
        ensure!(contact["addresses"].as_array().is_some_and(|all| all.iter().any(circuit)), "{contact}");

        let launch = Launch::program(far, binary("punchline")?).args(["discovery", "get"]);
        let output = launch.args([&"0".repeat(64)]).args(&begin).output(SOON).await?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(!output.status.success() && said.contains("nobody keeps it"), "{output:?}");
        Ok(())
    };
    stored.await.with_context(|| [&relay, &boot, &expose].map(Program::report).concat())
}

async fn by_authority() -> Result<()> {
    let world = World::new()?;
    let spec = LabSpec::new([Nat::PortPreserving; 2]).with_neighbours();
    let scene = Scene::prepare(&spec, Transport::Tcp).await?;
    let relay = scene.start_relay().await?;
    let (boot, begin) = bootstrap(&world, scene.lab.internet(), "bootstrap", &[]).await?;
    let ways = [&["--relay".to_owned(), scene.relay_address()], &begin[..]].concat();
    let (first, one) = expose_as(&world, "first", scene.lab.host(0), &ways).await?;
    let (second, other) = expose_as(&world, "second", scene.lab.neighbour(0), &ways).await?;
    let key = world.identity("authority");
    let names = async |peer: &str| {
        asked(scene.lab.internet(), &begin, &["delegate", "--authority", &key, "--to", peer, "--once"])
            .await
    };
    let authority = format!("authority:{}", text(&names(&one).await?, "authority")?);
    let local = format!("unix:{}", world.identity("local"));
    let launch = world.launch(scene.lab.host(1), "forward", "forward")?;
    let launch = launch.args(["--peer", &authority, "--service", "echo", "--local", &local]);
    let forward = launch.args(&begin).spawn()?;
    let found = async {
        forward.wait_for("forward_listening", |event| event.has("peer", &one), SOON).await?;
        forward.wait_for("connection_opened", |event| event.has("peer", &one), SOON).await?;
        echoes(&world).await?;
        names(&other).await?;
        let contact = asked(scene.lab.host(1), &begin, &["find-peer", &authority]).await?;
        ensure!(contact["peer"] == *other, "{contact}");
        // It is looked up again after a minute.
        let there = |event: &Event| event.has("peer", &other);
        forward.wait_for("connection_opened", there, 4 * SOON).await?;
        echoes(&world).await?;
        forward.wait_for("stream_opened", there, SOON).await?;
        anyhow::Ok(())
    };
    let programs = [&relay, &boot, &first, &second, &forward];
    found.await.with_context(|| programs.map(Program::report).concat())
}

/// A and B are behind NATs, C is public, and D sends all that it says through the NAT of a VPN.
async fn picture() -> Result<()> {
    let nats = [Nat::PortPreserving, Nat::PortPreserving, Nat::Open, Nat::Symmetric];
    let (world, scene) = homes(nats).await?;
    let relay = scene.start_relay().await?;
    let (boot, begin) = bootstrap(&world, scene.lab.internet(), "bootstrap", &[]).await?;
    let ways = [&["--relay".to_owned(), scene.relay_address()], &begin[..]].concat();
    let [_, b, c, d] = [0, 1, 2, 3].map(|index| scene.lab.host(index));
    let (at_b, b_id) = expose_as(&world, "b", b, &ways).await?;
    let (at_c, c_id) = expose_as(&world, "c", c, &begin).await?;
    let (at_d, d_id) = expose_as(&world, "d", d, &ways).await?;
    let mut programs = vec![relay, boot, at_b, at_c, at_d];
    for (from, host, peer) in [("a-c", 0, &c_id), ("b-d", 1, &d_id), ("a-b", 0, &b_id)] {
        let launch = world.launch(scene.lab.host(host), "forward", from)?;
        let local = format!("{from}-local");
        let at = format!("unix:{}", world.identity(&local));
        let launch = launch.args(["--peer", peer, "--service", "echo", "--local", &at]);
        let forward = launch.args(&begin).spawn()?;
        let reached = async {
            let there = |event: &Event| event.has("peer", peer);
            forward.wait_for("connection_opened", there, SOON).await?;
            echoes_at(&world, &local).await
        };
        let reached = reached.await.with_context(|| from);
        programs.push(forward);
        reached.with_context(|| programs.iter().map(Program::report).collect::<String>())?;
    }
    Ok(())
}

/// The first member says that it serves something else, the second serves what is wanted.
async fn who_serves_it() -> Result<()> {
    let world = World::new()?;
    let spec = LabSpec::new([Nat::PortPreserving; 2]).with_neighbours();
    let scene = Scene::prepare(&spec, Transport::Tcp).await?;
    let relay = scene.start_relay().await?;
    let (boot, begin) = bootstrap(&world, scene.lab.internet(), "bootstrap", &[]).await?;
    let within = [&begin[..], &["--namespace".to_owned(), "kaspa-test".to_owned()]].concat();
    let ways = [&["--relay".to_owned(), scene.relay_address()], &within[..]].concat();
    let launch = world.launch(scene.lab.host(0), "expose", "other")?;
    let launch = launch.args(["--allow-any", "--service", "other=127.0.0.1:9"]);
    let other = launch.args(&ways).spawn()?;
    let stranger = world.peer_id("other").await?;
    let local = format!("unix:{}", world.identity("local"));
    let launch = world.launch(scene.lab.host(1), "forward", "forward")?;
    let forward = launch.args(["--service", "echo", "--local", &local]).args(&within).spawn()?;
    let found = async {
        forward.wait_for("member_found", |event| event.has("peer", &stranger), SOON).await?;
        let (serves, peer) = expose_as(&world, "serves", scene.lab.neighbour(0), &ways).await?;
        forward.wait_for("member_found", |event| event.has("peer", &peer), 4 * SOON).await?;
        forward.wait_for("connection_opened", |event| event.has("peer", &peer), SOON).await?;
        echoes(&world).await.with_context(|| serves.report())?;
        let refused = |event: &Event| event.name() == "stream_refused";
        ensure!(!forward.events().iter().any(refused), "the other one was asked, too");
        anyhow::Ok(())
    };
    found.await.with_context(|| [&relay, &boot, &other, &forward].map(Program::report).concat())
}

async fn old_address() -> Result<()> {
    let (world, scene) = homes([Nat::PortPreserving; 2]).await?;
    let relay = scene.start_relay().await?;
    let (boot, begin) = bootstrap(&world, scene.lab.internet(), "bootstrap", &[]).await?;
    let ways = [&["--relay".to_owned(), scene.relay_address()], &begin[..]].concat();
    let server = world.launch(scene.lab.host(0), "server", "server")?.args(&ways).spawn()?;
    let peer = world.peer_id("server").await?;
    server.wait_for("data_stored", |_| true, SOON).await?;
    let nobody = format!("/ip4/{}/tcp/9", scene.lab.internet().address());
    let launch = world.launch(scene.lab.host(1), "client", "client")?;
    let client = launch.args(["--peer", &peer, "--addr", &nobody]).args(&begin).spawn()?;
    let reached = async {
        let ready = client.wait_for("session_ready", |_| true, SOON).await?;
        ensure!(ready.has("peer", &peer), "{ready}");
        let found = client.wait_for("peer_found", |_| true, SOON).await?;
        ensure!(found.has("source", "kad"), "{found}");
        anyhow::Ok(())
    };
    reached.await.with_context(|| [&relay, &boot, &server, &client].map(Program::report).concat())
}

async fn nobody_knows() -> Result<()> {
    let (world, scene) = homes([Nat::PortPreserving]).await?;
    let (boot, begin) = bootstrap(&world, scene.lab.internet(), "bootstrap", &[]).await?;
    let launch = Launch::program(scene.lab.host(0), binary("punchline")?).args(["client"]);
    let launch = launch.args(["--identity", &world.identity("client"), "--peer", crate::world::NO_PEER]);
    let output = launch.args(["--dial-attempts", "1"]).args(&begin).output(2 * SOON).await?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.code() == Some(1), "{output:?}");
    let named =
        said.contains("looked for by mdns, kad") && said.contains("nobody there knew where it is");
    ensure!(named, "{said}\n{}", boot.report());
    Ok(())
}
