//! Who is connected, and who may be.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use libp2p::PeerId;

use super::Limited;
use crate::{
    addr::place::{Place, Shares},
    event::LimitOwner,
    path::ConnectionId,
    relay::RelayConfig,
};

/// For whoever was turned away at the door: most handshakes are over by then.
const RETRY: Duration = Duration::from_secs(5);

/// One connection, its handshake done.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) peer: PeerId,
    pub(super) place: Place,
    /// It is a node of ours.
    pub(super) ours: bool,
    /// It speaks the control protocol.
    pub(super) hears: bool,
    /// When it is closed unless anything is said on it.
    pub(super) silent_until: Option<Instant>,
}

/// Handshakes and connections, and their limits.
#[derive(Debug)]
pub(super) struct Connections {
    handshakes_max: usize,
    connections_max: usize,
    per_peer_max: usize,
    handshakes: BTreeMap<ConnectionId, Place>,
    handshake_shares: Shares,
    links: BTreeMap<ConnectionId, Link>,
    shares: Shares,
    of_peer: BTreeMap<PeerId, usize>,
}

impl Connections {
    pub(super) fn new(config: &RelayConfig) -> Self {
        Self {
            handshakes_max: config.pending_inbound as usize,
            connections_max: config.connections as usize,
            per_peer_max: config.connections_per_peer as usize,
            handshakes: BTreeMap::new(),
            handshake_shares: Shares::new(config.handshakes_share()),
            links: BTreeMap::new(),
            shares: Shares::new(config.connections_share()),
            of_peer: BTreeMap::new(),
        }
    }

    /// A socket came; who is behind it is not known. Shares come first: a host that has too many must not
    /// cost the others anything.
    pub(super) fn knock(&mut self, connection: ConnectionId, place: Place) -> Result<(), Limited> {
        let address = |limit| Limited { whose: LimitOwner::Address, limit, retry_after: RETRY };
        self.handshake_shares.fits(place).map_err(address)?;
        self.shares.fits(place).map_err(address)?;
        if self.handshakes.len() >= self.handshakes_max {
            return Err(relay(self.handshakes_max));
        }
        if self.links.len() >= self.connections_max {
            return Err(relay(self.connections_max));
        }
        self.handshakes.insert(connection, place);
        self.handshake_shares.take(place);
        Ok(())
    }

    /// The handshake succeeded or failed.
    pub(super) fn handshake_over(&mut self, connection: ConnectionId) {
        if let Some(place) = self.handshakes.remove(&connection) {
            self.handshake_shares.give_back(place);
        }
    }

    /// Whether the peer may have one more connection. Handshakes that began together may be more than there
    /// is room for, so all limits are asked again.
    pub(super) fn admits(&self, peer: PeerId, place: Place) -> Result<(), Limited> {
        if self.of_peer.get(&peer).is_some_and(|count| *count >= self.per_peer_max) {
            let (whose, limit) = (LimitOwner::Peer, self.per_peer_max);
            return Err(Limited { whose, limit, retry_after: RETRY });
        }
        let address = |limit| Limited { whose: LimitOwner::Address, limit, retry_after: RETRY };
        self.shares.fits(place).map_err(address)?;
        if self.links.len() >= self.connections_max {
            return Err(relay(self.connections_max));
        }
        Ok(())
    }

    pub(super) fn opened(&mut self, connection: ConnectionId, link: Link) {
        self.shares.take(link.place);
        *self.of_peer.entry(link.peer).or_default() += 1;
        self.links.insert(connection, link);
    }

    pub(super) fn closed(&mut self, connection: ConnectionId) -> Option<Link> {
        let link = self.links.remove(&connection)?;
        self.shares.give_back(link.place);
        if let Some(count) = self.of_peer.get_mut(&link.peer) {
            *count -= 1;
            if *count == 0 {
                self.of_peer.remove(&link.peer);
            }
        }
        Some(link)
    }

    pub(super) fn link(&self, connection: ConnectionId) -> Option<&Link> {
        self.links.get(&connection)
    }

    pub(super) fn link_mut(&mut self, connection: ConnectionId) -> Option<&mut Link> {
        self.links.get_mut(&connection)
    }

    pub(super) fn is_connected(&self, peer: PeerId) -> bool {
        self.of_peer.contains_key(&peer)
    }

    /// Handshakes and connections.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.handshakes.len(), self.links.len())
    }

    /// Of each.
    pub(super) fn limits(&self) -> (usize, usize) {
        (self.handshakes_max, self.connections_max)
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.handshakes.is_empty()
            && self.handshake_shares.is_empty()
            && self.links.is_empty()
            && self.shares.is_empty()
            && self.of_peer.is_empty()
    }
}

fn relay(limit: usize) -> Limited {
    Limited { whose: LimitOwner::Relay, limit, retry_after: RETRY }
}
