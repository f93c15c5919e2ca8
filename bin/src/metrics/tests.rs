#![allow(clippy::unwrap_used)]

mod counting;
mod files;
mod reading;

use std::collections::BTreeMap;

use libp2p::{Multiaddr, PeerId};
use punchline_bridge::{Event, Path, StreamId, path::ConnectionId};

use super::*;

/// Samples of an exposition: names with labels, and values.
type Samples = BTreeMap<String, f64>;

fn samples(metrics: &Metrics, part: Part) -> Samples {
    let text = Exposition::new(metrics, part, "server").text();
    let samples = text.lines().filter(|line| !line.starts_with('#')).map(|line| {
        let (name, value) = line.rsplit_once(' ').unwrap();
        (name.to_owned(), value.parse().unwrap())
    });
    samples.collect()
}

fn relayed() -> Path {
    Path::Relayed { relay: PeerId::random() }
}

fn connection(number: usize) -> ConnectionId {
    serde_json::from_str(&format!("\"{number}\"")).unwrap()
}

fn address(number: usize) -> Multiaddr {
    format!("/ip4/198.51.{}.{}/tcp/4001", number / 256 % 256, number % 256).parse().unwrap()
}

fn stream(number: u8) -> StreamId {
    StreamId::from_bytes([number; 16])
}

impl Metrics {
    fn record_all(&self, events: impl IntoIterator<Item = Event>) {
        events.into_iter().for_each(|event| self.record(&event.into()));
    }
}
