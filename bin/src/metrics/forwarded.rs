//! What a relay does for others.

use prometheus_client::metrics::counter::Counter;
use punchline_bridge::Event;

use super::families::{Book, Counters, counters};

pub(super) struct Forwarded {
    accepted: Counters<1>,
    ended: Counter,
    opened: Counter,
    closed: Counters<1>,
    traffic: Counters<1>,
    forwarded: Counter,
}

impl Default for Forwarded {
    fn default() -> Self {
        Self {
            accepted: counters([("kind", &["first", "renewed"])]),
            ended: Counter::default(),
            opened: Counter::default(),
            closed: counters([("end", &["finished", "cut"])]),
            traffic: counters([("direction", &["received", "sent"])]),
            forwarded: Counter::default(),
        }
    }
}

impl Forwarded {
    pub(super) fn register(&self, book: &mut Book<'_>) {
        book.add(
            "relay_reservations_accepted",
            "Places that this relay gave, by whether the peer had one already. How many are taken now is in \
             punchline_limit_used with limit=\"reservations\"",
            self.accepted.clone(),
        );
        book.add(
            "relay_reservations_ended",
            "Places of this relay that peers no longer hold: they left, or did not renew",
            self.ended.clone(),
        );
        book.add(
            "relay_circuits_opened",
            "Circuits that this relay began to forward",
            self.opened.clone(),
        );
        book.add(
            "relay_circuits_closed",
            "Circuits that this relay forwards no more; `cut` by a limit, a lost connection or the end of the relay. \
             Divide punchline_relay_forwarded_bytes_total by the sum: bytes of a circuit",
            self.closed.clone(),
        );
        book.add_bytes(
            "relay_traffic",
            "Payload of this relay's connections by direction: its own talk with peers, and each forwarded byte once in \
             each direction. Grows once a second",
            self.traffic.clone(),
        );
        book.add_bytes(
            "relay_forwarded",
            "Payload that circuits carried, each byte once. Grows once a second; its rate is the bandwidth that peers \
             use because they are not direct",
            self.forwarded.clone(),
        );
    }

    pub(super) fn record(&self, event: &Event) {
        match event {
            Event::ReservationAccepted { renewed, .. } => {
                let kind = if *renewed { "renewed" } else { "first" };
                self.accepted.get_or_create(&[("kind", kind)]).inc();
            }
            Event::ReservationEnded { .. } => {
                self.ended.inc();
            }
            Event::CircuitOpened { .. } => {
                self.opened.inc();
            }
            Event::CircuitClosed { cause, .. } => {
                let end = if cause.is_some() { "cut" } else { "finished" };
                self.closed.get_or_create(&[("end", end)]).inc();
            }
            Event::RelayTraffic { received_bytes, sent_bytes, forwarded_bytes } => {
                let traffic = |direction| self.traffic.get_or_create(&[("direction", direction)]);
                raise(&traffic("received"), *received_bytes);
                raise(&traffic("sent"), *sent_bytes);
                raise(&self.forwarded, *forwarded_bytes);
            }
            _ => {}
        }
    }
}

/// The event says how many there have been since the start.
fn raise(counter: &Counter, total: u64) {
    counter.inc_by(total.saturating_sub(counter.get()));
}
