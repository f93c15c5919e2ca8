//! js-libp2p, as a relay, as a client of ours and as a peer. Over TCP alone: its QUIC is rust-libp2p's.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use punchline_tests::{
    process::{Event, Launch, Place, Program},
    scene::Transport::Tcp,
    trial::tool_trial,
};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::{
    ours::{NOBODY, Ours, opened, speak},
    world::{ANY, SOON},
};

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for secured in ["tls", "noise"] {
        let name =
            format!("js_libp2p_holds_a_place_at_our_relay_reaches_a_node_and_is_reached_over_{secured}");
        trials.push(tool_trial(&name, missing, move || at_our_relay(secured)));
        let name = format!("our_nodes_meet_at_a_relay_that_is_js_libp2p_over_{secured}");
        trials.push(tool_trial(&name, missing, move || is_the_relay(secured)));
    }
    trials
}

fn missing() -> Option<String> {
    let no_node = Command::new("node").arg("--version").output().is_err();
    if no_node {
        return Some("there is no node: apt-get install nodejs npm".to_owned());
    }
    let there = packages().join("node_modules/libp2p").is_dir();
    (!there).then(|| "there is no js-libp2p: ./test.sh installs it where npm is".to_owned())
}

/// Where `test.sh` puts them: in the folder that this program was built into.
fn packages() -> PathBuf {
    let this = std::env::current_exe().unwrap_or_default();
    this.ancestors().nth(3).unwrap_or(Path::new("target")).join("js-libp2p")
}

/// A node reserves at our relay and so does the other one; each is reached by the other one's circuit.
async fn at_our_relay(secured: &str) -> Result<()> {
    let ours = Ours::new()?;
    let (relay, addresses) = ours.relay().await?;
    let relay_id = ours.id("relay").await?;
    let address = format!("{}/p2p/{relay_id}", addresses[0]);
    let expose = ours.expose(Tcp, &address, NOBODY)?;
    expose.wait_for("reservation_held", |_| true, SOON).await?;
    let expose_id = ours.id("expose").await?;

    let circuit = format!("{address}/p2p-circuit/p2p/{expose_id}");
    let node = start(secured, &["reserve", &address, "ping", &circuit])?;
    let (peer, _) = started(&node).await?;
    relay.wait_for("reservation_accepted", |event| event.has("peer", &peer), SOON).await?;
    let relay_told = node.wait_for("identified", |event| event.has("peer", &relay_id), SOON).await?;
    let told = relay_told.fields();
    ensure!(told["addresses"] == json!(addresses), "{relay_told}");
    let protocols = told["protocols"].as_array().context("protocols")?;
    ensure!(protocols.contains(&json!("/libp2p/circuit/relay/0.2.0/hop")), "{relay_told}");

    node.wait_for("pinged", |event| event.has("address", &circuit), SOON).await?;
    opened(&expose, &peer, "relayed", "inbound", Tcp).await?;

    let forward = ours.forward(Tcp, &peer, &["--relay", &address])?;
    opened(&forward, &peer, "relayed", "outbound", Tcp).await?;
    let forward_id = ours.id("forward").await?;
    let from_us = |event: &Event| event.has("peer", &forward_id) && event.has("direction", "inbound");
    let connected = node.wait_for("connected", from_us, SOON).await?;
    ensure!(connected.text("encryption").is_some_and(|said| said.contains(secured)), "{connected}");
    Ok(())
}

/// A node reserves there and another one comes through it, to talk and to become direct.
async fn is_the_relay(secured: &str) -> Result<()> {
    let ours = Ours::new()?;
    let node = start(secured, &["serve"])?;
    let (peer, address) = started(&node).await?;
    let target = TcpListener::bind(ANY).await?;
    let expose = ours.expose(Tcp, &address, &target.local_addr()?.to_string())?;
    expose.wait_for("reservation_held", |event| event.has("relay", &peer), SOON).await?;
    let expose_id = ours.id("expose").await?;
    let of_ours =
        |event: &Event| event.has("peer", &expose_id) && says(event, "protocols", "/punchline/stream/1");
    node.wait_for("identified", of_ours, SOON).await?;

    let forward = ours.forward(Tcp, &expose_id, &["--relay", &address])?;
    let through = opened(&forward, &expose_id, "relayed", "outbound", Tcp).await?;
    ensure!(through.has("relay", &peer), "{through}");
    speak(&forward, &target).await?;
    forward.wait_for("upgrade_succeeded", |event| event.has("peer", &expose_id), SOON).await?;
    Ok(())
}

fn says(event: &Event, field: &str, text: &str) -> bool {
    event.fields()[field].as_array().is_some_and(|all| all.contains(&Value::from(text)))
}

/// Its packages are found beside the program alone, so the program is laid there.
fn start(secured: &str, wishes: &[&str]) -> Result<Program> {
    let folder = packages();
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/js-libp2p");
    for file in ["libp2p_node.mjs", "with_resolvers.mjs"] {
        let part = folder.join(format!("{file}.{}-{secured}-{}", std::process::id(), wishes.len()));
        std::fs::copy(here.join(file), &part)?;
        std::fs::rename(&part, folder.join(file))?;
    }
    let program = folder.join("libp2p_node.mjs");
    let before = folder.join("with_resolvers.mjs");
    let launch = Launch::program(Place::Host, "node").args(["--import".as_ref(), before.as_os_str()]);
    Ok(launch.args([program.as_os_str(), secured.as_ref()]).args(wishes).spawn()?)
}

/// Its id, and where it listens.
async fn started(node: &Program) -> Result<(String, String)> {
    let started = node.wait_for("started", |_| true, SOON).await?;
    let text = |field| started.text(field).map(str::to_owned).context("no such field");
    Ok((text("peer")?, text("address")?))
}
