//! What a node offers and stands in for, as it is said.

use std::{cmp::Reverse, collections::BTreeMap};

use libp2p::PeerId;
use punchline_bridge::{path::Direction, status::Status};

use super::{name, path};
use crate::{
    control::{
        offers::{Forwarded, Offered},
        proto,
    },
    names::Names,
};

/// Peers of an allow list that are told; it may have thousands.
const ALLOWED_TOLD_MAX: usize = 256;

pub(super) fn service(offered: Offered, status: &Status, names: &Names) -> proto::Service {
    let Offered { service, target, anybody, tickets, mut allowed, connections_max } = offered;
    let mut users: BTreeMap<PeerId, u32> = BTreeMap::new();
    let here = status.streams.iter().filter(|stream| stream.service == service);
    for stream in here.filter(|stream| stream.direction == Direction::Inbound) {
        *users.entry(stream.peer).or_default() += 1;
    }
    let connections = users.values().sum();
    let mut users: Vec<_> = users.into_iter().collect();
    users.sort_by_key(|(_, streams)| Reverse(*streams));
    let user = |(peer, streams): (PeerId, u32)| proto::User {
        peer: peer.to_string(),
        name: name(names, peer),
        streams,
    };
    // Those that have names first, for people know them.
    allowed.sort_by_key(|peer| (names.of(*peer).is_none(), names.of(*peer).cloned(), *peer));
    let named = |peer: &PeerId| proto::NamedPeer { peer: peer.to_string(), name: name(names, *peer) };
    proto::Service {
        service: service.to_string(),
        target,
        anybody,
        tickets,
        allowed: allowed.iter().take(ALLOWED_TOLD_MAX).map(named).collect(),
        allowed_count: allowed.len() as u32,
        users: users.into_iter().map(user).collect(),
        connections,
        connections_max: connections_max.map(|max| max as u32),
    }
}

pub(super) fn forward(forward: Forwarded, status: &Status, names: &Names) -> proto::Forward {
    let Forwarded { peer, service, local, connections, connections_max, last_error } = forward;
    let connected = status.peers.iter().find(|connected| Some(connected.peer) == peer);
    proto::Forward {
        peer: peer.map(|peer| peer.to_string()).unwrap_or_default(),
        name: peer.and_then(|peer| name(names, peer)),
        service: service.to_string(),
        local,
        state: connected.map_or_else(|| "away".to_owned(), |connected| path(connected.path)),
        connections: connections as u32,
        connections_max: connections_max.map(|max| max as u32),
        last_error: last_error.map(|error| names.in_text(&error)),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use punchline_bridge::nat::NatKind;

    use super::*;

    #[test]
    fn of_a_long_allow_list_the_first_are_told_and_how_many_there_are() {
        let count = ALLOWED_TOLD_MAX + 7;
        let offered = Offered {
            service: "web".parse().expect("a name"),
            target: None,
            anybody: false,
            tickets: false,
            allowed: (0..count).map(|_| PeerId::random()).collect(),
            connections_max: None,
        };
        let status = Status {
            peer: PeerId::random(),
            uptime: Duration::ZERO,
            listening: Vec::new(),
            candidates: Vec::new(),
            external: Vec::new(),
            nat_v4: NatKind::default(),
            nat_v6: NatKind::default(),
            blocked: None,
            relays: Vec::new(),
            relay_names: Vec::new(),
            peers: Vec::new(),
            waits: Vec::new(),
            streams: Vec::new(),
            limits: Vec::new(),
        };
        let told = service(offered, &status, &Names::default());
        assert_eq!((told.allowed.len(), told.allowed_count as usize), (ALLOWED_TOLD_MAX, count));
    }
}
