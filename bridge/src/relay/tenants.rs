//! The connections of a relay's peers, and which of them are left over.
//!
//! A peer whose address changed comes with a new connection and reserves again, while the old one is
//! dead and nobody knows. libp2p forwards circuits to either. A node of ours has one link to a relay, so
//! its newest reservation is the true one; other implementations may hold several, and what is dead
//! of those is found by pings.

use std::collections::HashMap;

use libp2p::{PeerId, swarm::ConnectionId};

use crate::net::behaviour::NODE_AGENT;

#[derive(Debug)]
struct Link {
    connection: ConnectionId,
    ours: bool,
    reserved: bool,
}

/// By peer, oldest connection first. Bounded by the relay's limits of connections.
#[derive(Debug, Default)]
pub(super) struct Tenants {
    all: HashMap<PeerId, Vec<Link>>,
}

impl Tenants {
    pub(super) fn connected(&mut self, peer: PeerId, connection: ConnectionId) {
        let link = Link { connection, ours: false, reserved: false };
        self.all.entry(peer).or_default().push(link);
    }

    pub(super) fn disconnected(&mut self, peer: PeerId, connection: ConnectionId) {
        if let Some(links) = self.all.get_mut(&peer) {
            links.retain(|link| link.connection != connection);
            if links.is_empty() {
                self.all.remove(&peer);
            }
        }
    }

    pub(super) fn identified(&mut self, peer: PeerId, connection: ConnectionId, agent: &str) {
        let links = self.all.get_mut(&peer).into_iter().flatten();
        for link in links.filter(|link| link.connection == connection) {
            link.ours = agent.starts_with(NODE_AGENT);
        }
    }

    /// The peer has a new reservation, with its newest connection. Those to close.
    pub(super) fn reserved(&mut self, peer: PeerId) -> Vec<ConnectionId> {
        let Some((newest, older)) = self.all.get_mut(&peer).and_then(|links| links.split_last_mut())
        else {
            return Vec::new();
        };
        newest.reserved = true;
        let left = older.iter().filter(|link| newest.ours && link.ours && link.reserved);
        left.map(|link| link.connection).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn world(agent: &str) -> (Tenants, PeerId, [ConnectionId; 2]) {
        let (mut tenants, peer) = (Tenants::default(), PeerId::random());
        let connections = [1, 2].map(ConnectionId::new_unchecked);
        for connection in connections {
            tenants.connected(peer, connection);
            tenants.identified(peer, connection, agent);
        }
        (tenants, peer, connections)
    }

    #[test]
    fn the_newest_reservation_of_a_node_of_ours_ends_the_one_before() {
        let (mut tenants, peer, [old, new]) = world("punchline/0.1.0");
        tenants.disconnected(peer, new);
        assert_eq!(tenants.reserved(peer), []);
        tenants.connected(peer, new);
        tenants.identified(peer, new, "punchline/0.1.0");
        assert_eq!(tenants.reserved(peer), [old]);
        assert_eq!(tenants.reserved(PeerId::random()), []);
    }

    #[test]
    fn a_link_without_a_reservation_is_left_alone() {
        let (mut tenants, peer, _) = world("punchline/0.1.0");
        assert_eq!(tenants.reserved(peer), []);
    }

    #[test]
    fn a_foreign_peer_may_hold_several() {
        let (mut tenants, peer, [_, new]) = world("other/1");
        tenants.disconnected(peer, new);
        tenants.reserved(peer);
        tenants.connected(peer, new);
        tenants.identified(peer, new, "other/1");
        assert_eq!(tenants.reserved(peer), []);
    }
}
