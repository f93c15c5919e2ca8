//! An exposition, read as Prometheus would.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::OnceLock,
};

use punchline_bridge::{
    Config, Endpoint, Keypair,
    relay::{External, Relay, RelayConfig, StunListen},
};

use super::*;

/// A metric as it is told.
pub(super) struct Told {
    pub(super) kind: String,
    pub(super) help: String,
    /// The names of its samples.
    pub(super) samples: BTreeSet<String>,
    /// Labels and all their values.
    pub(super) labels: BTreeMap<String, BTreeSet<String>>,
    pub(super) parts: Vec<&'static str>,
}

/// All metrics that there are, under the names by which they are asked for.
pub(super) fn all() -> BTreeMap<String, Told> {
    let metrics = Metrics::default();
    let (node, relay) = running();
    metrics.observe(node, &Limits::default(), true);
    let mut all = BTreeMap::new();
    read(&metrics, Part::Node, "node", &mut all);
    let metrics = Metrics::default();
    metrics.observe_relay(relay);
    read(&metrics, Part::Relay, "relay", &mut all);
    read(&metrics, Part::Monitor, "monitor", &mut all);
    let metrics = Metrics::default();
    metrics.observe_process();
    read(&metrics, Part::Bootstrap, "bootstrap", &mut all);
    all
}

/// What a node and a relay say that run, so that the limits are those that there are.
fn running() -> &'static (Status, relay::Status) {
    static RUNNING: OnceLock<(Status, relay::Status)> = OnceLock::new();
    RUNNING.get_or_init(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listen = vec!["/ip4/127.0.0.1/tcp/0".parse().unwrap()];
            let config = Config { listen: listen.clone(), ..Config::default() };
            let (node, _events) = Endpoint::start(config, Keypair::generate_ed25519()).await.unwrap();
            let (external, stun) = (External::Observed, StunListen::Off);
            let config = RelayConfig { listen, external, stun, ..RelayConfig::default() };
            let (relay, _events) = Relay::start(config, Keypair::generate_ed25519()).await.unwrap();
            (node.status().await.unwrap(), relay.status().await.unwrap())
        })
    })
}

fn read(metrics: &Metrics, part: Part, name: &'static str, all: &mut BTreeMap<String, Told>) {
    let text = Exposition::new(metrics, part, "server").text();
    let (mut help, mut current) = (String::new(), String::new());
    for line in text.lines() {
        let words: Vec<&str> = line.splitn(4, ' ').collect();
        match words[..] {
            ["#", "HELP", _, text] => help = text.to_owned(),
            ["#", "TYPE", family, kind] => {
                current = match kind {
                    "counter" => format!("{family}_total"),
                    "info" => format!("{family}_info"),
                    _ => family.to_owned(),
                };
                let told = Told {
                    kind: kind.to_owned(),
                    help: help.clone(),
                    samples: BTreeSet::new(),
                    labels: BTreeMap::new(),
                    parts: Vec::new(),
                };
                all.entry(current.clone()).or_insert(told).parts.push(name);
            }
            ["#", ..] => {}
            _ => {
                let told = all.get_mut(&current).unwrap();
                let sample = line.split(['{', ' ']).next().unwrap();
                told.samples.insert(sample.to_owned());
                for (label, value) in labels(line) {
                    told.labels.entry(label).or_default().insert(value);
                }
            }
        }
    }
}

/// Of `name{label="value",other=~"one|two"}`, each value for itself; those that Grafana fills in are left out.
pub(super) fn labels(text: &str) -> Vec<(String, String)> {
    let Some((_, rest)) = text.split_once('{') else { return Vec::new() };
    let inside = rest.split_once('}').map_or(rest, |(inside, _)| inside);
    let pairs = inside.split("\",").filter_map(|pair| pair.split_once('='));
    let pairs = pairs.flat_map(|(label, values)| {
        let values = values.trim_start_matches('~').trim_matches('"').split('|');
        values.map(move |value| (label.trim().to_owned(), value.to_owned()))
    });
    pairs.filter(|(_, value)| !value.starts_with('$')).collect()
}
