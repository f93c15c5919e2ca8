//! How a node is at one moment: gauges that are set from its status.

use prometheus_client::metrics::gauge::Gauge;
use punchline_bridge::{Status, error::Family, status::ConnectionStatus};

use super::{
    families::{Book, Gauges, Histograms, Label, Labels, Real, gauges, histograms},
    words,
};

pub(super) struct Stands {
    usable: Gauge,
    uptime: Real,
    peers: Gauges<1>,
    connections: Gauges<2>,
    streams: Gauges<2>,
    waiting: Gauge,
    relays: Gauges<1>,
    relay_health: Gauges<1>,
    relay_failures: Gauge,
    addresses: Gauges<1>,
    nat: Gauges<2>,
    round_trip: Histograms<1>,
}

const FAMILY: Label = ("family", &["ipv4", "ipv6"]);

/// What a round trip was measured to.
const TO: Label = ("path", &["direct", "relayed", "relay"]);

impl Default for Stands {
    fn default() -> Self {
        Self {
            usable: Gauge::default(),
            uptime: Real::default(),
            peers: gauges([words::PATH]),
            connections: gauges([words::PATH, words::TRANSPORT]),
            streams: gauges([words::PATH, words::DIRECTION]),
            waiting: Gauge::default(),
            relays: gauges([words::RELAY_STATE]),
            relay_health: gauges([words::HEALTH]),
            relay_failures: Gauge::default(),
            addresses: gauges([words::SOURCE]),
            nat: gauges([FAMILY, words::NAT]),
            round_trip: histograms([TO]),
        }
    }
}

impl Stands {
    pub(super) fn register(&self, book: &mut Book<'_>) {
        book.add("usable", "1 if /readyz says so, else 0", self.usable.clone());
        book.add_seconds("uptime", "Since the start of the node", self.uptime.clone());
        book.add(
            "peers",
            "Peers that the node is connected with, relays left out, by the path of the best connection. Divide those \
             with path=\"direct\" by all: the part that needs no relay",
            self.peers.clone(),
        );
        book.add(
            "connections",
            "Connections with peers, by path and by what carries them",
            self.connections.clone(),
        );
        book.add(
            "streams",
            "Live streams, by the path that carries them and by who opened them",
            self.streams.clone(),
        );
        book.add(
            "streams_waiting",
            "Live streams that lost their path and wait for another. Divide by the sum of punchline_streams",
            self.waiting.clone(),
        );
        book.add(
            "relays",
            "Relays that the node uses, by how it stands with them: only `reserved` keeps a place for it",
            self.relays.clone(),
        );
        book.add(
            "relay_health",
            "Relays that the node uses, by how they do: `degraded` after one or two failures in a row, `down` after three \
             or when one was not heard for 40 s",
            self.relay_health.clone(),
        );
        book.add(
            "relay_failures",
            "Failures in a row of the relay that has most of them; 0 when all is well",
            self.relay_failures.clone(),
        );
        book.add(
            "addresses",
            "Addresses of this node that peers are told, by how they are known",
            self.addresses.clone(),
        );
        book.add(
            "nat",
            "1 for the kind of NAT that the node is behind, by family of addresses",
            self.nat.clone(),
        );
        book.add_seconds(
            "round_trip",
            "The least that a ping took lately, one observation for each connection every 15 s: with peers by path, and \
             with relays",
            self.round_trip.clone(),
        );
    }

    pub(super) fn observe(&self, status: &Status, usable: bool) {
        self.usable.set(usable.into());
        self.uptime.set(status.uptime.as_secs_f64());
        let paths = status.peers.iter().map(|peer| [("path", words::path(peer.path))]);
        set(&self.peers, &[words::PATH], paths);
        let connections = connections(status).map(|connection| {
            let transport = ("transport", words::transport(connection.transport));
            [("path", words::path(connection.path)), transport]
        });
        set(&self.connections, &[words::PATH, words::TRANSPORT], connections);
        let streams = status.streams.iter().map(|stream| {
            let direction = ("direction", words::direction(stream.direction));
            [("path", words::path(stream.path)), direction]
        });
        set(&self.streams, &[words::PATH, words::DIRECTION], streams);
        self.waiting.set(count(status.streams.iter().filter(|stream| stream.waits).count()));
        let states = status.relays.iter().map(|relay| [("state", words::relay_state(relay.state))]);
        set(&self.relays, &[words::RELAY_STATE], states);
        let health = status.relays.iter().map(|relay| relay.health.health);
        let health = health.map(|health| [("health", words::health(health))]);
        set(&self.relay_health, &[words::HEALTH], health);
        let failures = status.relays.iter().map(|relay| relay.failures).max();
        self.relay_failures.set(failures.unwrap_or_default().into());
        let sources = status.candidates.iter().map(|own| [("source", words::source(own.source))]);
        set(&self.addresses, &[words::SOURCE], sources);
        let nats = [(Family::V4, status.nat_v4), (Family::V6, status.nat_v6)].map(|(family, nat)| {
            let family = if family == Family::V4 { "ipv4" } else { "ipv6" };
            [("family", family), ("kind", words::nat(nat.class()))]
        });
        set(&self.nat, &[FAMILY, words::NAT], nats.into_iter());
    }

    /// To be called at equal intervals.
    pub(super) fn measure(&self, status: &Status) {
        for connection in connections(status) {
            self.took(words::path(connection.path), connection.round_trip);
        }
        for relay in &status.relays {
            self.took("relay", relay.round_trip);
        }
    }

    fn took(&self, path: &'static str, round_trip: Option<std::time::Duration>) {
        if let Some(round_trip) = round_trip {
            self.round_trip.get_or_create(&[("path", path)]).observe(round_trip.as_secs_f64());
        }
    }
}

fn connections(status: &Status) -> impl Iterator<Item = &ConnectionStatus> {
    status.peers.iter().flat_map(|peer| &peer.connections)
}

/// Each gauge of the family says how often its labels are found.
fn set<const N: usize>(family: &Gauges<N>, labels: &[Label; N], found: impl Iterator<Item = Labels<N>>) {
    for labels in super::families::combinations(*labels) {
        family.get_or_create(&labels).set(0);
    }
    for labels in found {
        family.get_or_create(&labels).inc();
    }
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
