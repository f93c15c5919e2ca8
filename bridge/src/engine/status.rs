//! What the engine knows, as plain data.

use std::time::{Duration, Instant};

use libp2p::PeerId;

use super::{Engine, paths::connections::Connection};
use crate::{
    addr::policy::Source,
    path::ConnectionId,
    status::{
        AddressSource, CandidateStatus, ConnectionStatus, LimitStatus, PeerStatus, RelayStatus, Status,
    },
};

impl Engine {
    /// All of it but the streams' own facts, and when the node started: the driver knows those.
    pub(crate) fn status(&self, now: Instant) -> Status {
        let nat = self.nat.kinds();
        Status {
            peer: self.local,
            uptime: Duration::ZERO,
            listening: self.candidates.listening_at().cloned().collect(),
            candidates: self.candidates.told().into_iter().map(candidate).collect(),
            external: self.external_status(),
            nat_v4: nat.v4,
            nat_v6: nat.v6,
            blocked: self.obstacles.blocked(),
            relays: self.relays.peers().filter_map(|relay| self.relay_status(relay, now)).collect(),
            relay_names: self.relay_names.status(now),
            peers: self.connections.peers().filter_map(|peer| self.peer_status(peer, now)).collect(),
            waits: self.waits(now),
            streams: Vec::new(),
            limits: self.limits(),
        }
    }

    fn limits(&self) -> Vec<LimitStatus> {
        let limits = &self.config.limits;
        vec![
            self.stream_places.status("streams_of_peers"),
            LimitStatus::new("opens", self.opens.len(), limits.opens),
            LimitStatus::new("relays", self.relays.peers().count(), limits.relays),
            LimitStatus::new("holds", self.holds.len(), limits.holds),
            self.connections.holds_of_peers("held_by_peers"),
        ]
    }

    /// One connection, if it is there.
    pub(crate) fn connection_status(&self, id: ConnectionId, now: Instant) -> Option<ConnectionStatus> {
        Some(connection(id, self.connections.get(id)?, now))
    }

    fn relay_status(&self, relay: PeerId, now: Instant) -> Option<RelayStatus> {
        let mut status = self.relays.status(relay, now)?;
        if let Some(link) = self.relays.connection(relay).and_then(|link| self.connections.get(link)) {
            status.transport = Some(link.transport);
            status.round_trip = link.took();
        }
        Some(status)
    }

    fn peer_status(&self, peer: PeerId, now: Instant) -> Option<PeerStatus> {
        let best = self.connections.best(peer, &[])?;
        let path = self.connections.get(best)?.path;
        if self.relays.contains(peer) {
            return None;
        }
        let mut connections: Vec<_> = self.connections.of(peer).collect();
        connections.sort_by_key(|(id, found)| (*id != best, found.path, *id));
        let connections = connections.into_iter().map(|(id, found)| connection(id, found, now));
        let standing = self.upgrades.standing(peer).filter(|_| !path.is_direct());
        let (why_relayed, next) = standing.unwrap_or_default();
        Some(PeerStatus {
            peer,
            familiar: self.familiar.contains(peer),
            path,
            connections: connections.collect(),
            why_relayed: why_relayed.cloned(),
            next_attempt: next.map(|at| at.saturating_duration_since(now)),
        })
    }
}

fn candidate((address, source): (libp2p::Multiaddr, Source)) -> CandidateStatus {
    let source = match source {
        Source::Operator => AddressSource::Operator,
        Source::Router => AddressSource::Router,
        Source::Confirmed => AddressSource::Confirmed,
        Source::Interface => AddressSource::Interface,
        _ => AddressSource::Relay,
    };
    CandidateStatus { address, source }
}

fn connection(id: ConnectionId, found: &Connection, now: Instant) -> ConnectionStatus {
    ConnectionStatus {
        connection: id,
        path: found.path,
        transport: found.transport,
        direction: found.direction,
        address: found.address.clone(),
        round_trip: found.took(),
        age: now.saturating_duration_since(found.opened),
        users: found.users(),
    }
}
