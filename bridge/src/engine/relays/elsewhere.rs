//! Dials of relays when this host is in another network than before.

use std::time::Instant;

use libp2p::PeerId;

use super::{Link, Relays};
use crate::engine::input::DialId;

/// Networks may change faster than dials fail.
const OUTDATED_MAX: usize = 8;

impl Relays {
    /// This host is in another network: every link that is down is dialled now, also where a dial is under way, which
    /// may have begun in the network before and never be answered.
    pub(crate) fn network_changed(&mut self, begun: &[DialId], now: Instant) {
        for relay in self.all.values_mut() {
            if let Link::Dialling { dial: Some(dial) } = relay.link {
                if begun.contains(&dial) {
                    continue;
                }
                relay.outdated.truncate(OUTDATED_MAX - 1);
                relay.outdated.insert(0, dial);
            }
            if matches!(relay.link, Link::Down { retry: Some(_) } | Link::Dialling { dial: Some(_) }) {
                relay.reservation.network_changed();
                relay.health.begin_anew(now);
                relay.link = Link::Down { retry: Some(now) };
            }
        }
    }

    /// Whether a connection comes of a dial that began in a network before this one: it leaves from a port that was
    /// meant for that network, and what the relay sees of it is not what peers are to know.
    pub(crate) fn is_outdated(&self, peer: PeerId, dial: Option<DialId>) -> bool {
        let relay = self.all.get(&peer);
        dial.zip(relay).is_some_and(|(dial, relay)| relay.outdated.contains(&dial))
    }
}
