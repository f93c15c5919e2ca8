//! Stock libp2p behind a NAT, and `punchline` behind another: both find the other one directly, whoever of them makes
//! the circuit.

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use punchline_tests::lab::{LabSpec, Namespace, Nat};
use punchline_tests::process::{Event, Launch, Program};
use punchline_tests::scene::{Scene, Transport};
use punchline_tests::trial::lab_trial;

use super::{ONE_WAY, PUNCH_DEADLINE, stock_peer};

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for transport in [Transport::Tcp, Transport::Quic] {
        let name =
            format!("a_stock_peer_reaches_a_node_and_both_say_that_they_are_direct_over_{transport}");
        trials.push(lab_trial(&name, move || reaches_us(transport)));
        let name =
            format!("a_node_reaches_a_stock_peer_and_both_say_that_they_are_direct_over_{transport}");
        trials.push(lab_trial(&name, move || is_reached(transport)));
    }
    trials
}

/// We accept the circuit, and so begin.
async fn reaches_us(transport: Transport) -> Result<()> {
    let scene = scene(transport).await?;
    let relay = scene.start_relay().await?;
    let server = scene.start_server().await?;
    let stock = start(scene.lab.host(1), &[&scene.relay_address(), &scene.server_id])?;
    let direct = both_direct(&stock, &server, transport).await;
    direct.with_context(|| [&relay, &server, &stock].map(Program::report).concat())
}

/// The stock peer accepts it, and so begins.
async fn is_reached(transport: Transport) -> Result<()> {
    let scene = scene(transport).await?;
    let relay = scene.start_relay().await?;
    let stock = start(scene.lab.host(0), &[&scene.relay_address()])?;
    let reserved = stock.wait_for("reserved", |_| true, PUNCH_DEADLINE).await;
    reserved.with_context(|| [&relay, &stock].map(Program::report).concat())?;
    let folder = tempfile::tempdir()?;
    let id = id_of(&stock).await?;
    let listen = match transport {
        Transport::Tcp => "/ip4/0.0.0.0/tcp/0",
        Transport::Quic => "/ip4/0.0.0.0/udp/0/quic-v1",
    };
    // A forward keeps a connection to its peer, whether that has such a service or not.
    let node = Launch::punchline(scene.lab.host(1), "forward")?
        .args(["--identity".as_ref(), folder.path().join("identity").as_os_str()])
        .args(["--relay", &scene.relay_address(), "--listen", listen])
        .args(["--peer", &id, "--service", "any", "--local", "127.0.0.1:0"])
        .spawn()?;
    let direct = both_direct(&stock, &node, transport).await;
    direct.with_context(|| [&relay, &node, &stock].map(Program::report).concat())
}

async fn scene(transport: Transport) -> Result<Scene> {
    let spec = LabSpec::new([Nat::PortPreserving; 2]).delay(ONE_WAY);
    Scene::prepare(&spec, transport).await
}

fn start(host: &Namespace, args: &[&str]) -> Result<Program> {
    let this = std::env::current_exe()?;
    Ok(Launch::program(host, this).args([stock_peer::ARGUMENT]).args(args).spawn()?)
}

async fn id_of(stock: &Program) -> Result<String> {
    let started = stock.wait_for("started", |_| true, PUNCH_DEADLINE).await?;
    Ok(started.text("peer").context("no id")?.to_owned())
}

/// The stock peer has nobody else to punch to.
async fn both_direct(stock: &Program, node: &Program, transport: Transport) -> Result<()> {
    let id = id_of(stock).await?;
    let ours = |event: &Event| event.has("peer", &id) && event.has("transport", &transport.to_string());
    node.wait_for("upgrade_succeeded", ours, PUNCH_DEADLINE).await?;
    let punched = stock.wait_for("punched", |_| true, PUNCH_DEADLINE).await?;
    ensure!(punched.text("failure").is_none(), "{punched}");
    Ok(())
}
