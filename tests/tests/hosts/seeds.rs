//! Command lines of earlier programs, word by word: one monitor, two listeners and two dialers, all on one host.

use anyhow::{Context as _, Result, ensure};
use punchline_tests::{
    kaspad::eventually,
    lab::{LabSpec, Namespace, Nat},
    process::{Launch, Place, Program, binary},
    scene::{Scene, Transport},
};
use serde_json::Value;

use crate::world::{SOON, World};

/// Types a line after `punchline` as it stands, on a host; and in its own words where state and events go.
fn typed(world: &World, host: &Namespace, name: &str, line: &str) -> Result<Program> {
    let launch = Launch::program(host, binary("punchline")?).args(line.split_whitespace());
    let launch = launch.args(["--events", "-", "--identity", &world.identity(name)]);
    // A public address of this very host is nobody else's: that others name it is believed where the operator says so.
    let launch = launch.env("PUNCHLINE_ASSUME_GLOBAL", format!("{}/32", host.address()));
    // Each has a control socket beside its identity, and so its own name.
    Ok(launch.spawn()?)
}

async fn asked(world: &World, name: &str, line: &str) -> Result<Value> {
    let launch = Launch::program(Place::Host, binary("punchline")?).args(line.split_whitespace());
    let control = format!("{}.sock", world.identity(name));
    let output = launch.args(["--json", "--control", &control]).output(SOON).await?;
    ensure!(output.status.success(), "{line}: {output:?}");
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Nobody is told anybody's id, nor that there is a relay.
pub(crate) async fn one_host() -> Result<()> {
    let (world, scene) =
        (World::new()?, Scene::prepare(&LabSpec::new([Nat::PortPreserving]), Transport::Tcp).await?);
    let host = scene.lab.internet();
    let start = |name: &str, line: &str| typed(&world, host, name, line);
    let monitor = start("monitor", "monitor --listen-addr 0.0.0.0 --port 51820")?;
    monitor.wait_for("dht_listening", |_| true, SOON).await?;
    let begin = format!("--bootstrap /ip4/{}/tcp/51820", host.address());
    let mut all = vec![monitor];
    let found = async {
        let namespace = "--namespace local-test";
        let mut listeners = Vec::new();
        for name in ["listener-1", "listener-2"] {
            all.push(start(name, &format!("listen {namespace} {begin}"))?);
            listeners.push(world.peer_id(name).await?);
        }
        for listener in &all[1..3] {
            listener.wait_for("dht_joined", |_| true, SOON).await?;
        }
        for name in ["dialer-1", "dialer-2"] {
            all.push(start(name, &format!("dial {namespace} {begin}"))?);
        }
        for dialer in &all[3..5] {
            let ready = dialer.wait_for("session_ready", |_| true, SOON).await?;
            let peer = ready.text("peer").context("a peer")?.to_owned();
            ensure!(ready.has("path", "direct") && listeners.contains(&peer), "{ready}");
        }
        let both = async || {
            let told = asked(&world, "monitor", "status").await?;
            let kept = told["dht"]["announced"][0]["peers"].as_u64();
            Ok((kept == Some(2)).then_some(told))
        };
        let told = eventually("both listeners announced themselves".to_owned(), SOON, both).await?;
        ensure!(told["command"] == "monitor" && told["relaying"]["forwarded_bytes"] == 0, "{told}");
        let here = asked(&world, "listener-1", "network dht-status").await?;
        ensure!(here["namespaces"][0]["namespace"] == "local-test", "{here}");
        let same = |key: &Value| key["hash"] == here["namespaces"][0]["hash"];
        let keys = told["dht"]["announced"].as_array().context("keys")?;
        ensure!(keys.iter().any(same), "two operators can compare: {told} {here}");
        Ok(())
    };
    let found: Result<()> = found.await;
    found.with_context(|| all.iter().map(Program::report).collect::<String>())
}
