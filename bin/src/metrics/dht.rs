//! A node's part in the DHT, and which sources found peers.

use std::sync::atomic::Ordering;

use prometheus_client::metrics::{counter::Counter, gauge::Gauge};
use punchline_discovery::kad;

use super::families::{
    Book, Counters, Gauges, Histograms, Label, combinations, counters, gauges, histograms,
};
use crate::{finding::event::DhtEvent, gateway::event::GatewayEvent};

pub(super) struct Dht {
    running: Gauge,
    joined: Gauge,
    table: Gauge,
    connections: Gauge,
    bootstraps: Gauges<1>,
    bootstrap_round_trip: Histograms<0>,
    lookups: Histograms<2>,
    requests: Counters<1>,
    dials_failed: Counter,
    stored: Gauges<1>,
    rejected: Counters<1>,
    refused: Counters<1>,
    members: Gauge,
    questions_refused: Counter,
    passed_over: Counter,
    banned: Gauge,
    nodes_estimated: Gauge,
    density_alarm: Gauge,
    found: Counters<1>,
}

const HEALTH: Label = ("health", &["unknown", "healthy", "degraded", "down"]);
const KIND: Label = ("kind", &["peer", "namespace", "closest", "value"]);
const RESULT: Label = ("result", &["found", "missed"]);
const DIRECTION: Label = ("direction", &["sent", "received"]);
const WHAT: Label = ("what", &["record", "content", "provider"]);
const SOURCE: Label = ("source", &["mdns", "kad", "mainline", "cache", OTHER]);

/// Why something is not kept, as `PutRefusal` and `ProvideRefusal` of the store call it.
const REJECTED: Label = (
    "reason",
    &[
        "key",
        "ours",
        "signer_quota",
        "own_quota",
        "full",
        "too_large",
        "malformed",
        "not_canonical",
        "signature",
        "foreign_signer",
        "foreign_key",
        "foreign_network",
        "future",
        "expired",
        "lifetime",
        "replayed",
        "equivocation",
        "addresses",
        "address",
        "services",
        "agent",
        "delegate",
        "value",
        "hash",
        "provider_key",
        "provider_quota",
        "provider_own_quota",
        "provider_full",
        OTHER,
    ],
);

/// Why a node does not enter the table, as `Denial` of admission calls it.
const REFUSED: Label = (
    "reason",
    &["no_server", "no_address", "rests", "busy", "unreached", "crowd", "bucket", "full", OTHER],
);

/// What later versions may add.
const OTHER: &str = "other";

impl Default for Dht {
    fn default() -> Self {
        Self {
            running: Gauge::default(),
            joined: Gauge::default(),
            table: Gauge::default(),
            connections: Gauge::default(),
            bootstraps: gauges([HEALTH]),
            bootstrap_round_trip: histograms([]),
            lookups: histograms([KIND, RESULT]),
            requests: counters([DIRECTION]),
            dials_failed: Counter::default(),
            stored: gauges([WHAT]),
            rejected: counters([REJECTED]),
            refused: counters([REFUSED]),
            members: Gauge::default(),
            questions_refused: Counter::default(),
            passed_over: Counter::default(),
            banned: Gauge::default(),
            nodes_estimated: Gauge::default(),
            density_alarm: Gauge::default(),
            found: counters([SOURCE]),
        }
    }
}

impl Dht {
    pub(super) fn register(&self, book: &mut Book<'_>) {
        book.add("dht_running", "1 if the node takes part in a DHT, else 0", self.running.clone());
        book.add(
            "dht_joined",
            "1 once the node has found its neighbourhood in the DHT: before, what it says is kept by nobody",
            self.joined.clone(),
        );
        book.add(
            "dht_routing_table_size",
            "Nodes in the table of the DHT, each of them reached by a dial of ours",
            self.table.clone(),
        );
        book.add("dht_connections", "Connections with nodes of the DHT", self.connections.clone());
        book.add(
            "bootstraps",
            "Nodes that the DHT is begun with, by how they do: `degraded` did not answer once, `down` twice",
            self.bootstraps.clone(),
        );
        book.add_seconds(
            "bootstrap_round_trip",
            "How long a node that the DHT is begun with took to answer a ping, one observation for each every 15 s",
            self.bootstrap_round_trip.clone(),
        );
        book.add_seconds(
            "dht_lookup",
            "How long lookups in the DHT took, by what was looked for and whether it was found. Divide those with \
             result=\"found\" by all: the part that succeeds",
            self.lookups.clone(),
        );
        book.add(
            "dht_requests",
            "Requests to other nodes of the DHT, of which a lookup takes several, and of others that were answered",
            self.requests.clone(),
        );
        book.add(
            "dht_dials_failed",
            "Dials of the DHT that led to nobody, or to somebody else. Divide by punchline_dht_requests_total with \
             direction=\"sent\"",
            self.dials_failed.clone(),
        );
        self.register_kept(book);
        self.register_wary(book);
        book.add(
            "dht_members",
            "Members that are known of the namespaces that this node is in or looks at, itself left out",
            self.members.clone(),
        );
    }

    fn register_kept(&self, book: &mut Book<'_>) {
        book.add("dht_records_stored", "What is kept for others, by what it is", self.stored.clone());
        book.add(
            "dht_records_rejected",
            "What others wanted to have kept and was refused, by reason: `full` and `quota` say that somebody wants much, \
             `signature`, `malformed` and `equivocation` that somebody lies",
            self.rejected.clone(),
        );
        book.add(
            "dht_nodes_refused",
            "Nodes that did not enter the table, by reason: `no_server` only asks, `unreached` is not where it says, \
             `crowd` has too many neighbours there, `bucket` comes where the table is full, as is usual in large networks",
            self.refused.clone(),
        );
    }

    fn register_wary(&self, book: &mut Book<'_>) {
        book.add(
            "dht_questions_refused",
            "Questions of other nodes that were not answered, because one of them or all together ask too much. Divide by \
             itself plus punchline_dht_requests_total with direction=\"received\"",
            self.questions_refused.clone(),
        );
        book.add(
            "dht_passed_over",
            "Peers that lookups did not ask, because they had asked as many of the same network already",
            self.passed_over.clone(),
        );
        book.add(
            "dht_banned",
            "Peers at addresses where another identity answered: they are not dialled there for a while",
            self.banned.clone(),
        );
        book.add(
            "dht_nodes_estimated",
            "Nodes in the whole network, estimated by lookups of random places; 0 while too few told",
            self.nodes_estimated.clone(),
        );
        book.add(
            "dht_density_alarm",
            "1 while the 20 nodes nearest to where others keep this node's address lie nearer than chance allows: somebody may \
             be hiding it. Else 0",
            self.density_alarm.clone(),
        );
    }

    /// Of nodes alone, which look for peers.
    pub(super) fn register_found(&self, book: &mut Book<'_>) {
        book.add(
            "peers_found",
            "Peers that this node looks for and a source found, once for each peer and source. `cache`: it was reached \
             there before. Divide those of one source by all: the part that it finds",
            self.found.clone(),
        );
    }

    pub(super) fn record(&self, event: &DhtEvent) {
        if let DhtEvent::LookupCompleted { lookup, found, took_ms, .. } = event {
            let result = if *found { "found" } else { "missed" };
            let labels = [("kind", *lookup), ("result", result)];
            self.lookups.get_or_create(&labels).observe(*took_ms as f64 / 1e3);
        }
    }

    pub(super) fn record_gateway(&self, event: &GatewayEvent) {
        if let GatewayEvent::PeerFound { source, .. } = event {
            self.found.get_or_create(&[("source", known(SOURCE, source))]).inc();
        }
    }

    /// How it is now; none where the node takes no part.
    pub(super) fn observe(&self, status: Option<&kad::Status>) {
        self.running.set(status.is_some().into());
        let Some(status) = status else { return };
        self.joined.set(status.joined.into());
        self.table.set(whole(status.table()));
        self.connections.set(whole(status.connections));
        for labels in combinations([HEALTH]) {
            self.bootstraps.get_or_create(&labels).set(0);
        }
        for bootstrap in &status.bootstraps {
            self.bootstraps.get_or_create(&[("health", bootstrap.health.name())]).inc();
        }
        let kept = &status.kept;
        for (what, count) in
            [("record", kept.records), ("content", kept.content), ("provider", kept.providers)]
        {
            self.stored.get_or_create(&[("what", what)]).set(whole(count));
        }
        let requests = [("sent", status.traffic.sent), ("received", status.traffic.received)];
        for (direction, count) in requests {
            stands_at(&self.requests.get_or_create(&[("direction", direction)]), count);
        }
        stands_at(&self.dials_failed, status.traffic.dials_failed);
        by_reason(&self.rejected, REJECTED, &status.refused);
        by_reason(&self.refused, REFUSED, &status.denied);
        stands_at(&self.questions_refused, status.refused_questions);
        stands_at(&self.passed_over, status.passed_over);
        self.banned.set(whole(status.banned));
        self.nodes_estimated
            .set(status.nodes_estimated.map_or(0, |nodes| nodes.try_into().unwrap_or(i64::MAX)));
        self.density_alarm.set(status.density_alarm.into());
        self.members.set(whole(status.namespaces.iter().map(|space| space.members).sum()));
    }

    /// To be called at equal intervals.
    pub(super) fn measure(&self, status: &kad::Status) {
        for round_trip in status.bootstraps.iter().filter_map(|bootstrap| bootstrap.round_trip) {
            self.bootstrap_round_trip.get_or_create(&[]).observe(round_trip.as_secs_f64());
        }
    }
}

/// One of the label's values.
fn known(label: Label, value: &str) -> &'static str {
    label.1.iter().find(|known| **known == value).unwrap_or(&OTHER)
}

fn by_reason(
    family: &Counters<1>,
    label: Label,
    counts: &std::collections::BTreeMap<&'static str, u64>,
) {
    let others = counts.iter().filter(|(reason, _)| known(label, reason) == OTHER);
    let other: u64 = others.map(|(_, count)| count).sum();
    for reason in label.1 {
        let count = if *reason == OTHER { other } else { counts.get(reason).copied().unwrap_or(0) };
        stands_at(&family.get_or_create(&[("reason", reason)]), count);
    }
}

/// The DHT counts by itself, from the start of the process on.
fn stands_at(counter: &Counter, count: u64) {
    counter.inner().store(count, Ordering::Relaxed);
}

fn whole(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Duration;

    use super::*;

    /// How a node does that knows little.
    pub(crate) fn status() -> kad::Status {
        let bootstrap = |health| kad::Bootstrap {
            address: "/ip4/203.0.113.7/tcp/4001".parse().unwrap(),
            peer: None,
            health,
            round_trip: Some(Duration::from_millis(20)),
            last_answer: None,
            misses: 0,
            network: None,
        };
        kad::Status {
            network: "main".to_owned(),
            server: false,
            joined: true,
            buckets: vec![kad::Bucket { index: 255, peers: 3 }],
            listening: Vec::new(),
            connections: 2,
            bootstraps: vec![bootstrap(kad::Health::Down), bootstrap(kad::Health::Healthy)],
            published: None,
            kept: Default::default(),
            refused: [("signature", 4), ("what comes next year", 2)].into(),
            denied: [("crowd", 1)].into(),
            passed_over: 1,
            refused_questions: 1,
            banned: 1,
            nodes_estimated: Some(1_043),
            density_alarm: true,
            lookups_found: 0,
            lookups_missed: 0,
            traffic: kad::Traffic { sent: 7, received: 5, dials_failed: 1, ..Default::default() },
            namespaces: Vec::new(),
            announced: Vec::new(),
        }
    }

    #[test]
    fn what_the_dht_says_is_told_and_reasons_that_are_new_are_no_new_series() {
        let dht = Dht::default();
        dht.observe(Some(&status()));
        dht.measure(&status());
        dht.observe(Some(&status()));
        assert_eq!((dht.table.get(), dht.joined.get(), dht.running.get()), (3, 1, 1));
        assert_eq!((dht.nodes_estimated.get(), dht.density_alarm.get()), (1_043, 1));
        let rejected = |reason| dht.rejected.get_or_create(&[("reason", reason)]).get();
        assert_eq!((rejected("signature"), rejected(OTHER), rejected("full")), (4, 2, 0));
        assert_eq!(dht.requests.get_or_create(&[("direction", "sent")]).get(), 7);
        assert_eq!(dht.bootstraps.get_or_create(&[("health", "down")]).get(), 1);
        dht.observe(None);
        assert_eq!(dht.running.get(), 0);
    }

    #[test]
    fn lookups_are_told_by_what_was_looked_for_and_peers_by_who_found_them() {
        let dht = Dht::default();
        dht.record(&DhtEvent::LookupCompleted { lookup: "peer", found: true, took_ms: 85, requests: 9 });
        let (peer, addresses) = (libp2p::PeerId::random(), Vec::new());
        dht.record_gateway(&GatewayEvent::PeerFound { peer, source: "cache", addresses });
        assert_eq!(dht.found.get_or_create(&[("source", "cache")]).get(), 1);
        let mut registry = prometheus_client::registry::Registry::default();
        dht.register(&mut Book(&mut registry));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        let line = "dht_lookup_seconds_count{kind=\"peer\",result=\"found\"} 1";
        assert!(text.contains(line), "{text}");
    }
}
