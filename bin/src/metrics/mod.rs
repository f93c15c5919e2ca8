//! What a process did and how it is, in numbers, for Prometheus.
//!
//! [`Metrics`] is fed by events, through [`Metrics::record`] alone, and by what a node says about itself when somebody
//! asks. It is pure; `serve` gives it out over HTTP. Reading order: `families` has counters, gauges and histograms by
//! labels; `links`, `streams`, `programs` and `forwarded` count events, `verified` tells of discovery, `carried` bytes; `stands`
//! and `limits` show a status, `dht` that of the DHT; `words` are the values of labels. `design/metrics.md` is written from all
//! that is registered here.

mod carried;
#[cfg(feature = "kad")]
mod dht;
mod families;
mod forwarded;
mod limits;
mod links;
mod programs;
pub(crate) mod serve;
mod stands;
mod streams;
#[cfg(feature = "kad")]
mod verified;
mod words;

use prometheus_client::{encoding::text, metrics::info::Info, registry::Registry};
use punchline_bridge::{Status, config::Limits, error::OpenFailure, relay};

use self::{
    families::{Book, Labels},
    forwarded::Forwarded,
    limits::Fullness,
    links::Links,
    programs::{Programs, Refusals},
    stands::Stands,
    streams::Streams,
};
use crate::{gateway::event::GatewayEvent, report::Event, report::SessionEvent};

/// All numbers of a process. Those that it can have are told, whatever command runs.
#[derive(Default)]
pub(crate) struct Metrics {
    links: Links,
    streams: Streams,
    programs: Programs,
    refusals: Refusals,
    stands: Stands,
    forwarded: Forwarded,
    fullness: Fullness,
    #[cfg(feature = "kad")]
    dht: dht::Dht,
    #[cfg(feature = "kad")]
    verifications: verified::Verifications,
}

/// Whose numbers are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// Those of a node.
    Node,
    /// Those of a relay.
    Relay,
    /// Those of a relay that is a node of the DHT as well.
    #[cfg(feature = "kad")]
    Monitor,
    /// Those of a node of the DHT alone.
    #[cfg(feature = "kad")]
    Bootstrap,
}

impl Metrics {
    /// Counts an event.
    pub(crate) fn record(&self, event: &Event) {
        match event {
            Event::Bridge(event) => self.record_bridge(event),
            Event::Session(event) => {
                self.programs.record_session(event);
                if let SessionEvent::DialFailed { reason, .. } = event
                    && let Some(failure) = reason.open()
                {
                    self.open_failed(failure);
                }
            }
            Event::Gateway(event) => {
                self.programs.record_gateway(event);
                #[cfg(feature = "kad")]
                self.dht.record_gateway(event);
                match event {
                    // A forward gives an open up at a deadline of its own.
                    GatewayEvent::ForwardFailed { reason, .. } => {
                        self.open_failed(reason.open().unwrap_or(OpenFailure::Deadline));
                    }
                    GatewayEvent::Refused { what, .. } => {
                        let (what, whose) = words::counted(*what);
                        self.refusals.add(what, whose, 1);
                    }
                    _ => {}
                }
            }
            #[cfg(feature = "kad")]
            Event::Dht(event) => {
                self.dht.record(event);
                self.verifications.record(event);
            }
            Event::Report(event) => self.programs.record_report(event),
        }
    }

    fn record_bridge(&self, event: &punchline_bridge::Event) {
        self.links.record(event);
        self.streams.record(event);
        self.forwarded.record(event);
        if let punchline_bridge::Event::Refused { what, whose, count, .. } = event {
            self.refusals.add(words::asked(*what), words::whose(*whose), *count);
        }
    }

    fn open_failed(&self, reason: OpenFailure) {
        self.streams.open_failed(reason);
    }

    /// A node's status is asked for from now on, and will come to [`Metrics::observe`].
    fn about_to_observe(&self) {
        self.streams.about_to_observe();
    }

    /// How a node is now.
    fn observe(&self, status: &Status, limits: &Limits, usable: bool) {
        self.stands.observe(status, usable);
        self.streams.observe(status);
        self.fullness.observe(&limits::of_node(status, limits));
        self.observe_process();
    }

    /// How long answers take; to be called at equal intervals.
    fn measure(&self, status: &Status) {
        self.stands.measure(status);
    }

    /// How the DHT is now; none where there is none.
    #[cfg(feature = "kad")]
    fn observe_dht(&self, status: Option<&punchline_discovery::kad::Status>) {
        self.dht.observe(status);
    }

    /// How long its nodes take to answer; to be called at equal intervals.
    #[cfg(feature = "kad")]
    fn measure_dht(&self, status: &punchline_discovery::kad::Status) {
        self.dht.measure(status);
    }

    /// How many files are open.
    fn observe_process(&self) {
        self.fullness.observe(limits::open_files().as_slice());
    }

    /// How full a relay is now.
    fn observe_relay(&self, status: &relay::Status) {
        self.fullness.observe(&limits::told(&status.limits));
        self.observe_process();
    }
}

/// What is told of a [`Metrics`].
pub(crate) struct Exposition(Registry);

impl Exposition {
    /// Everything of that part, for the command that runs.
    pub(crate) fn new(metrics: &Metrics, part: Part, command: &'static str) -> Self {
        let mut registry = Registry::with_prefix("punchline");
        let book = &mut Book(&mut registry);
        let build: Labels<2> = [("version", env!("CARGO_PKG_VERSION")), ("command", command)];
        book.add(
            "build",
            "1, with the version of this program and the command that runs",
            Info::new(build),
        );
        metrics.fullness.register(book);
        metrics.refusals.register(book);
        metrics.programs.register_reloads(book);
        match part {
            Part::Node => {
                metrics.stands.register(book);
                metrics.links.register(book);
                metrics.streams.register(book);
                metrics.programs.register(book);
                #[cfg(feature = "kad")]
                metrics.verifications.register(book);
            }
            Part::Relay => metrics.forwarded.register(book),
            #[cfg(feature = "kad")]
            Part::Monitor => metrics.forwarded.register(book),
            #[cfg(feature = "kad")]
            Part::Bootstrap => {}
        }
        #[cfg(feature = "kad")]
        if part != Part::Relay {
            metrics.dht.register(book);
        }
        #[cfg(feature = "kad")]
        if part == Part::Node {
            metrics.dht.register_found(book);
        }
        Self(registry)
    }

    /// As text in the format of OpenMetrics 1.0, which Prometheus reads.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        // To a string one can always write.
        let _ = text::encode(&mut text, &self.0);
        text
    }
}

/// The type of that text.
const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[cfg(test)]
mod tests;
