//! Streams: how they open, move and end, and what they carry.

use punchline_bridge::{Event, Status, error::OpenFailure};

use super::{
    carried::Carried,
    families::{Book, Counters, Histograms, Label, counters, histograms},
    words,
};

pub(super) struct Streams {
    opened: Counters<2>,
    opens_failed: Counters<1>,
    refused: Counters<2>,
    gap: Histograms<3>,
    closed: Counters<1>,
    carried: Carried,
}

const MOVE_CAUSE: Label = ("cause", &["better_path", "path_lost"]);

impl Default for Streams {
    fn default() -> Self {
        Self {
            opened: counters([words::PATH, words::DIRECTION]),
            opens_failed: counters([words::OPEN_FAILURE]),
            refused: counters([words::DIRECTION, words::REFUSAL]),
            gap: histograms([("from", words::PATHS), ("to", words::PATHS), MOVE_CAUSE]),
            closed: counters([words::STREAM_END]),
            carried: Carried::default(),
        }
    }
}

impl Streams {
    pub(super) fn register(&self, book: &mut Book<'_>) {
        book.add(
            "streams_opened",
            "Streams that were ready for bytes, by the path that they started on and by who opened them",
            self.opened.clone(),
        );
        book.add(
            "opens_failed",
            "Streams that a forward or a client of this node asked for and did not get, by reason. Divide by itself plus \
             punchline_streams_opened_total with direction=\"outbound\": the part of attempts that failed",
            self.opens_failed.clone(),
        );
        book.add(
            "streams_refused",
            "Streams that were turned away, by who asked (outbound is this node) and by what the asker was told. What \
             `expose` refuses by its own rules is in punchline_access_refused_total",
            self.refused.clone(),
        );
        book.add_seconds(
            "move_gap",
            "How long nothing could flow when a stream moved to another connection, one observation for each move, by \
             the path before and after. The cause is `better_path` where the connection before was good, and \
             `path_lost` where it was not. Divide its _count by punchline_streams_closed_total: moves in a stream's life",
            self.gap.clone(),
        );
        book.add(
            "streams_closed",
            "Streams that ended, by how. Divide all but `finished` by the sum: the part that broke",
            self.closed.clone(),
        );
        self.carried.register(book);
    }

    pub(super) fn record(&self, event: &Event) {
        match event {
            Event::StreamOpened { path, direction, .. } => {
                let direction = ("direction", words::direction(*direction));
                self.opened.get_or_create(&[("path", words::path(*path)), direction]).inc();
            }
            Event::StreamRefused { direction, reason, .. } => {
                let reason = ("reason", words::refusal(*reason));
                let direction = ("direction", words::direction(*direction));
                self.refused.get_or_create(&[direction, reason]).inc();
            }
            Event::StreamMoved { from, to, gap_ms, cause, .. } => {
                let cause = if cause.is_some() { "path_lost" } else { "better_path" };
                let paths = [("from", words::path(*from)), ("to", words::path(*to))];
                let labels = [paths[0], paths[1], ("cause", cause)];
                self.gap.get_or_create(&labels).observe(gap_ms / 1e3);
            }
            Event::StreamClosed { cause, .. } => {
                self.closed.get_or_create(&[("cause", words::stream_end(*cause))]).inc();
                self.carried.closed(event);
            }
            _ => {}
        }
    }

    pub(super) fn open_failed(&self, reason: OpenFailure) {
        self.opens_failed.get_or_create(&[("reason", words::open_failure(reason))]).inc();
    }

    /// A status is asked for from now on.
    pub(super) fn about_to_observe(&self) {
        self.carried.about_to_observe();
    }

    pub(super) fn observe(&self, status: &Status) {
        self.carried.observe(&status.streams);
    }
}
