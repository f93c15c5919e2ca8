//! Connections, how they came to be direct, and the relays that were asked for a place.

use prometheus_client::metrics::counter::Counter;
use punchline_bridge::{Event, addr::RefusedAddresses};

use super::{
    families::{Book, Counters, Histograms, Label, counters, histograms},
    words,
};

pub(super) struct Links {
    opened: Counters<3>,
    closed: Counters<2>,
    time_to_direct: Histograms<2>,
    attempted: Counters<1>,
    upgrades_failed: Counters<1>,
    ways_failed: Counters<1>,
    unreachable: Counter,
    candidates_refused: Counters<1>,
    reservations: Counters<1>,
    relay_health: Counters<1>,
    blocked: Counters<1>,
}

const RESERVATION: Label = ("outcome", &["held", "lost", "failed"]);
const REFUSED_ADDRESS: Label = ("reason", &["unusable", "forbidden", "private", "surplus", "denied"]);

impl Default for Links {
    fn default() -> Self {
        Self {
            opened: counters([words::PATH, words::TRANSPORT, words::DIRECTION]),
            closed: counters([words::PATH, words::CLOSE_CAUSE]),
            time_to_direct: histograms([words::TRANSPORT, words::RUNG]),
            attempted: counters([words::RUNG]),
            upgrades_failed: counters([words::UPGRADE_FAILURE]),
            ways_failed: counters([words::WAY_FAILURE]),
            unreachable: Counter::default(),
            candidates_refused: counters([REFUSED_ADDRESS]),
            reservations: counters([RESERVATION]),
            relay_health: counters([words::HEALTH]),
            blocked: counters([words::BLOCKED]),
        }
    }
}

impl Links {
    pub(super) fn register(&self, book: &mut Book<'_>) {
        book.add(
            "connections_opened",
            "Connections that came up, by path, by what carries them (of a relayed one, the link to the relay), and by \
             who dialled: direct ones divided by all of them say how many needed no relay",
            self.opened.clone(),
        );
        book.add(
            "connections_closed",
            "Connections that ended, by path and cause. Divide `unresponsive`, `reset` and `network` by \
             punchline_connections_opened_total: the part that the network broke",
            self.closed.clone(),
        );
        book.add_seconds(
            "time_to_direct",
            "From a relayed connection to a direct one, one observation for each peer that became direct, by transport \
             and by the way it came about. Divide its _count by itself plus punchline_upgrades_failed_total: the part \
             of attempts that succeeded",
            self.time_to_direct.clone(),
        );
        book.add(
            "upgrades_attempted",
            "Times that this end dialled a peer which it reaches through relays only, by the way of doing so. One \
             upgrade may take several",
            self.attempted.clone(),
        );
        book.add(
            "upgrades_failed",
            "Rows of attempts that left a peer on its relay, by reason; tried again later, so one peer may count often",
            self.upgrades_failed.clone(),
        );
        book.add(
            "ways_failed",
            "Ways to a peer that failed while another was tried or led to it, by reason",
            self.ways_failed.clone(),
        );
        book.add(
            "peers_unreachable",
            "Times that a peer to which a connection is to be kept was not reached by any way; it is tried again ever \
             more rarely",
            self.unreachable.clone(),
        );
        book.add(
            "candidates_refused",
            "Addresses that peers named for hole punching and that this node does not dial, by reason",
            self.candidates_refused.clone(),
        );
        book.add(
            "reservations",
            "What came of asking relays for a place: `held` moves when one is granted and at each renewal, `lost` when \
             one is gone, `failed` when a first attempt fails and then ever more rarely",
            self.reservations.clone(),
        );
        book.add(
            "relay_health_changes",
            "Times that a relay which is to keep a place for this node came to do better or worse, by what it came to",
            self.relay_health.clone(),
        );
        book.add(
            "network_blocks",
            "Times that this network was found to block what would lead to a relay, by what it blocks",
            self.blocked.clone(),
        );
    }

    pub(super) fn record(&self, event: &Event) {
        match event {
            Event::ConnectionOpened { path, transport, direction, .. } => {
                let path = ("path", words::path(*path));
                let transport = ("transport", words::transport(*transport));
                let direction = ("direction", words::direction(*direction));
                self.opened.get_or_create(&[path, transport, direction]).inc();
            }
            Event::ConnectionClosed { path, cause, .. } => {
                let cause = ("cause", words::close_cause(cause));
                self.closed.get_or_create(&[("path", words::path(*path)), cause]).inc();
            }
            Event::UpgradeSucceeded { transport, took_ms, rung, .. } => {
                let Some(rung) = words::rung(*rung) else { return };
                let labels = [("transport", words::transport(*transport)), ("rung", rung)];
                self.time_to_direct.get_or_create(&labels).observe(*took_ms as f64 / 1e3);
            }
            Event::UpgradeAttempted { rung, .. } => {
                let Some(rung) = words::rung(*rung) else { return };
                self.attempted.get_or_create(&[("rung", rung)]).inc();
            }
            Event::UpgradeFailed { reason, .. } => {
                let reason = ("reason", words::upgrade_failure(reason));
                self.upgrades_failed.get_or_create(&[reason]).inc();
            }
            Event::WayFailed { reason, .. } => {
                self.ways_failed.get_or_create(&[("reason", words::way_failure(reason))]).inc();
            }
            Event::PeerUnreachable { .. } => {
                self.unreachable.inc();
            }
            Event::CandidatesRefused { refused, .. } => self.refuse(*refused),
            Event::ReservationHeld { .. } => self.reserve("held"),
            Event::ReservationLost { .. } => self.reserve("lost"),
            Event::ReservationFailed { .. } => self.reserve("failed"),
            Event::RelayHealth { health, .. } => {
                self.relay_health.get_or_create(&[("health", words::health(*health))]).inc();
            }
            Event::NetworkBlocks { what, .. } => {
                self.blocked.get_or_create(&[("what", words::blocked(*what))]).inc();
            }
            _ => {}
        }
    }

    fn reserve(&self, outcome: &'static str) {
        self.reservations.get_or_create(&[("outcome", outcome)]).inc();
    }

    fn refuse(&self, refused: RefusedAddresses) {
        let RefusedAddresses { unusable, forbidden, private, surplus, denied } = refused;
        for (reason, count) in [
            ("unusable", unusable),
            ("forbidden", forbidden),
            ("private", private),
            ("surplus", surplus),
            ("denied", denied),
        ] {
            self.candidates_refused.get_or_create(&[("reason", reason)]).inc_by(count.into());
        }
    }
}
