//! Counters, gauges and histograms by labels. Every combination of labels is there from the start, at zero, so that the
//! first event of a kind already shows as a growth.

use std::sync::atomic::AtomicU64;

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Metric, Registry, Unit},
};

/// Names and values. Both are written in this program: nothing that a peer says can become a label.
pub(super) type Labels<const N: usize> = [(&'static str, &'static str); N];

pub(super) type Counters<const N: usize> = Family<Labels<N>, Counter>;
pub(super) type Gauges<const N: usize> = Family<Labels<N>, Gauge>;
pub(super) type Histograms<const N: usize> = Family<Labels<N>, Histogram, fn() -> Histogram>;
/// A gauge that need not be a whole number.
pub(super) type Real = Gauge<f64, AtomicU64>;

/// A label, and all values that it has.
pub(super) type Label = (&'static str, &'static [&'static str]);

pub(super) fn counters<const N: usize>(labels: [Label; N]) -> Counters<N> {
    let family = Counters::default();
    for labels in combinations(labels) {
        drop(family.get_or_create(&labels));
    }
    family
}

pub(super) fn gauges<const N: usize>(labels: [Label; N]) -> Gauges<N> {
    let family = Gauges::default();
    for labels in combinations(labels) {
        drop(family.get_or_create(&labels));
    }
    family
}

pub(super) fn histograms<const N: usize>(labels: [Label; N]) -> Histograms<N> {
    let family = Histograms::new_with_constructor(seconds as fn() -> Histogram);
    for labels in combinations(labels) {
        drop(family.get_or_create(&labels));
    }
    family
}

/// From what a host takes with itself to what a stream waits for a path by default.
const SECONDS: [f64; 16] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

fn seconds() -> Histogram {
    Histogram::new(SECONDS)
}

pub(super) fn combinations<const N: usize>(labels: [Label; N]) -> Vec<Labels<N>> {
    let mut all = vec![labels.map(|(name, _)| (name, ""))];
    for (at, (name, values)) in labels.into_iter().enumerate() {
        let with = |labels: Labels<N>| {
            values.iter().map(move |value| {
                let mut labels = labels;
                labels[at] = (name, value);
                labels
            })
        };
        all = all.into_iter().flat_map(with).collect();
    }
    all
}

/// Where metrics are registered, each under `punchline_` and its name.
pub(super) struct Book<'a>(pub(super) &'a mut Registry);

impl Book<'_> {
    /// A metric is a handle: what is counted later is told as well.
    pub(super) fn add(&mut self, name: &str, help: &str, metric: impl Metric) {
        self.0.register(name, help, metric);
    }

    /// Its name gets `_seconds` at the end.
    pub(super) fn add_seconds(&mut self, name: &str, help: &str, metric: impl Metric) {
        self.0.register_with_unit(name, help, Unit::Seconds, metric);
    }

    /// Its name gets `_bytes` at the end.
    pub(super) fn add_bytes(&mut self, name: &str, help: &str, metric: impl Metric) {
        self.0.register_with_unit(name, help, Unit::Bytes, metric);
    }
}
