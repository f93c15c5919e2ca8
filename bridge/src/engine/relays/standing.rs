//! How we stand with a relay, as plain data.

use std::time::Instant;

use libp2p::PeerId;

use super::{Link, Relays};
use crate::{
    addr::names,
    error::RelayFailure,
    event::Awaited,
    path::ConnectionId,
    status::{RelayState, RelayStatus},
};

impl Relays {
    pub(crate) fn peers(&self) -> impl Iterator<Item = PeerId> {
        self.all.keys().copied()
    }

    /// The link to a relay, whatever it is good for by now.
    pub(crate) fn connection(&self, peer: PeerId) -> Option<ConnectionId> {
        match self.all.get(&peer)?.link {
            Link::Identifying { connection, .. } | Link::Ready { connection } => Some(connection),
            Link::Down { .. } | Link::Dialling { .. } => None,
        }
    }

    /// Whether a relay is to hold a place for this node and does not.
    pub(crate) fn lacks_place(&self, peer: PeerId) -> bool {
        self.all.get(&peer).is_some_and(|relay| relay.reserve && !relay.reservation.is_held())
    }

    /// What its link, or a place at it, waits for.
    pub(crate) fn awaits(&self, peer: PeerId, now: Instant) -> Option<Awaited> {
        let relay = self.all.get(&peer)?;
        let again = |at: Instant| Awaited::RelayAgain {
            relay: peer,
            in_ms: at.saturating_duration_since(now).as_millis() as u64,
            cause: relay.last_error.clone(),
        };
        Some(match relay.link {
            Link::Down { retry: Some(at) } => again(at),
            Link::Down { retry: None } | Link::Identifying { .. } => {
                Awaited::RelayLink { relay: peer, names: Vec::new() }
            }
            Link::Dialling { .. } => {
                let names = relay.addresses.iter().flat_map(|relay| names(relay.address()));
                Awaited::RelayLink { relay: peer, names: names.collect() }
            }
            Link::Ready { .. } => match relay.reservation.asked_at() {
                Some(at) => again(at),
                None => Awaited::Reservation { relay: peer },
            },
        })
    }

    /// What failed last.
    pub(crate) fn note_error(&mut self, peer: PeerId, cause: RelayFailure) {
        if let Some(relay) = self.all.get_mut(&peer) {
            relay.last_error = Some(cause);
        }
    }

    /// All but what is known of the link's connection.
    pub(crate) fn status(&self, peer: PeerId, now: Instant) -> Option<RelayStatus> {
        let relay = self.all.get(&peer)?;
        let state = match (&relay.link, relay.reservation.until()) {
            (Link::Down { retry }, _) => {
                RelayState::Down { retry: retry.map(|at| at.saturating_duration_since(now)) }
            }
            (Link::Dialling { .. } | Link::Identifying { .. }, _) => RelayState::Connecting,
            (Link::Ready { .. }, None) => RelayState::Connected,
            (Link::Ready { .. }, Some(until)) => {
                RelayState::Reserved { lasts: until.saturating_duration_since(now) }
            }
        };
        let failures = relay.reservation.failures();
        Some(RelayStatus {
            relay: peer,
            addresses: relay.addresses.clone(),
            state,
            health: relay.health.status(now),
            transport: None,
            round_trip: None,
            failures,
            last_error: relay.last_error.clone().filter(|_| failures > 0),
            wanted: relay.reserve,
            clock_ahead: relay.clock_ahead.filter(|_| matches!(state, RelayState::Reserved { .. })),
        })
    }
}
