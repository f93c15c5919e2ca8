//! Circuits that are kept beside those that streams run on.

use std::collections::{BTreeMap, BTreeSet};

use libp2p::PeerId;

use super::{Connection, Connections, distance::Distance};
use crate::path::{ConnectionId, Direction};

/// With more circuits than this through one relay, spares are not kept there: relays give a peer a number of circuits
/// (ours 16), and half of them are left to those that streams run on.
const CIRCUITS_WITH_SPARES_MAX: usize = 8;

impl Connections {
    /// The relays through which a peer is reached by circuits that nothing speaks against.
    pub(crate) fn sound_relays(&self, peer: PeerId) -> BTreeSet<PeerId> {
        let sound = self.of(peer).filter(|(_, found)| found.is_sound());
        sound.filter_map(|(_, found)| found.path.relay()).collect()
    }

    /// Whether a peer is reached, and by no direct connection that is worth anything.
    pub(crate) fn is_reached_through_relays(&self, peer: PeerId) -> bool {
        let mut all = self.of(peer).peekable();
        all.peek().is_some() && !all.any(|(_, found)| found.path.is_direct() && found.is_sound())
    }

    /// How far the peer is on a connection.
    pub(crate) fn distance(&self, id: ConnectionId) -> Option<Distance> {
        Some(self.all.get(&id)?.round_trip.distance())
    }

    /// Whether a circuit that nothing uses is kept to a peer whose streams run through relays. Who dialled it chooses,
    /// so that the ends do not differ; `circuits`: how many run through each relay.
    pub(super) fn is_spare(
        &self,
        id: ConnectionId,
        connection: &Connection,
        circuits: &BTreeMap<PeerId, usize>,
    ) -> bool {
        let Some(relay) = connection.path.relay() else { return false };
        let is_few = circuits.get(&relay).is_none_or(|count| *count <= CIRCUITS_WITH_SPARES_MAX);
        is_few
            && match connection.direction {
                Direction::Inbound => true,
                Direction::Outbound => self.spare(connection.peer) == Some(id),
            }
    }

    /// The best circuit through a relay that none of the peer's circuits in use run through.
    fn spare(&self, peer: PeerId) -> Option<ConnectionId> {
        let relays_in_use: BTreeSet<PeerId> = self
            .of(peer)
            .filter(|(_, found)| found.is_used() && !found.is_closing())
            .filter_map(|(_, found)| found.path.relay())
            .collect();
        self.of(peer)
            .filter(|(_, found)| found.is_sound())
            .filter(|(_, found)| found.path.relay().is_some_and(|relay| !relays_in_use.contains(&relay)))
            .min_by_key(|(_, found)| self.rank_of(found))
            .map(|(id, _)| id)
    }
}

impl Connection {
    /// Whether nothing speaks against it.
    fn is_sound(&self) -> bool {
        !self.is_closing() && !self.suspect && !self.spent
    }
}
