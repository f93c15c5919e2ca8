//! What services, sessions and the process itself make of it, and who was refused.

use prometheus_client::metrics::counter::Counter;

use super::{
    families::{Book, Counters, counters},
    words,
};
use crate::{
    gateway::event::GatewayEvent,
    report::{ReportEvent, SessionEvent},
};

/// Whom a limit turned away, here or at a relay.
pub(super) struct Refusals(Counters<2>);

impl Default for Refusals {
    fn default() -> Self {
        Self(counters([words::ASKED, words::WHOSE]))
    }
}

impl Refusals {
    pub(super) fn register(&self, book: &mut Book<'_>) {
        book.add(
            "refused",
            "Requests that a limit turned away, by what was asked for and by whose limit it was (`only` where there is \
             one alone). Growth with whose=\"relay\" or \"node\" says that the limit for all is too low or that somebody \
             attacks; with \"peer\" or \"address\" that one asks too much",
            self.0.clone(),
        );
    }

    pub(super) fn add(&self, what: &'static str, whose: &'static str, count: u64) {
        self.0.get_or_create(&[("what", what), ("whose", whose)]).inc_by(count);
    }
}

pub(super) struct Programs {
    access_refused: Counter,
    access_revoked: Counter,
    targets_failed: Counter,
    forwards_full: Counter,
    sessions: Counters<1>,
    handshakes_failed: Counter,
    reloads: Counters<2>,
}

impl Default for Programs {
    fn default() -> Self {
        Self {
            access_refused: Counter::default(),
            access_revoked: Counter::default(),
            targets_failed: Counter::default(),
            forwards_full: Counter::default(),
            sessions: counters([("change", &["ready", "ended"])]),
            handshakes_failed: Counter::default(),
            reloads: counters([("file", &["allow", "nets"]), ("outcome", &["done", "failed"])]),
        }
    }
}

impl Programs {
    pub(super) fn register(&self, book: &mut Book<'_>) {
        book.add(
            "access_refused",
            "Requests for an exposed service by peers that may not use it: not on the allow list, or without a ticket \
             that is good",
            self.access_refused.clone(),
        );
        book.add(
            "access_revoked",
            "Connections to an exposed service that were cut because the peer's right was withdrawn",
            self.access_revoked.clone(),
        );
        book.add(
            "targets_failed",
            "Requests by peers that may use a service whose program was not reached: it does not run, or not there",
            self.targets_failed.clone(),
        );
        book.add(
            "forwards_full",
            "Times that a forward came to carry as many local connections as it may; further ones wait",
            self.forwards_full.clone(),
        );
        book.add(
            "sessions",
            "Kaspa sessions that became ready, and that ended: the difference is how many there are",
            self.sessions.clone(),
        );
        book.add(
            "handshakes_failed",
            "Kaspa handshakes that were not completed. Divide by itself plus punchline_sessions_total with \
             change=\"ready\"",
            self.handshakes_failed.clone(),
        );
    }

    pub(super) fn register_reloads(&self, book: &mut Book<'_>) {
        book.add(
            "reloads",
            "Times that SIGHUP or `punchline reload` had a file of settings read again, one for each service that has one, by \
             file and outcome. After `failed` the old content stays in force; what is wrong is told to whoever said `punchline \
             reload`, and not counted here",
            self.reloads.clone(),
        );
    }

    pub(super) fn record_gateway(&self, event: &GatewayEvent) {
        match event {
            GatewayEvent::AccessRefused { .. } => self.access_refused.inc(),
            GatewayEvent::AccessRevoked { .. } => self.access_revoked.inc(),
            GatewayEvent::TargetFailed { .. } => self.targets_failed.inc(),
            GatewayEvent::ForwardFull { .. } => self.forwards_full.inc(),
            GatewayEvent::AccessReloaded { error, .. } => self.reloaded("allow", error.is_some()),
            _ => 0,
        };
    }

    pub(super) fn record_session(&self, event: &SessionEvent) {
        match event {
            SessionEvent::SessionReady { .. } => self.session("ready"),
            SessionEvent::SessionEnded { .. } => self.session("ended"),
            SessionEvent::HandshakeFailed { .. } => self.handshakes_failed.inc(),
            _ => 0,
        };
    }

    pub(super) fn record_report(&self, event: &ReportEvent) {
        if let ReportEvent::NetsReloaded { error } = event {
            self.reloaded("nets", error.is_some());
        }
    }

    fn session(&self, change: &'static str) -> u64 {
        self.sessions.get_or_create(&[("change", change)]).inc()
    }

    fn reloaded(&self, file: &'static str, failed: bool) -> u64 {
        let outcome = if failed { "failed" } else { "done" };
        self.reloads.get_or_create(&[("file", file), ("outcome", outcome)]).inc()
    }
}
