//! Whether those who come are where they say: each is dialled back before it is in the table. Pure.

use std::collections::{HashMap, VecDeque};

use libp2p::{Multiaddr, PeerId, swarm::ConnectionId};

/// Dial-backs under way.
const UNDER_WAY_MAX: usize = 8;

/// Those that wait for one. One more is not dialled; it may come again.
const WAITING_MAX: usize = 64;

/// Addresses of one that are dialled.
pub(super) const ADDRESSES_MAX: usize = 8;

/// Those who are dialled back.
#[derive(Debug, Default)]
pub(super) struct DialBacks {
    waiting: VecDeque<(PeerId, Vec<Multiaddr>)>,
    under_way: HashMap<ConnectionId, PeerId>,
}

impl DialBacks {
    /// Somebody says that it serves at these addresses.
    pub(super) fn want(&mut self, peer: PeerId, addresses: Vec<Multiaddr>) {
        let known = self.waiting.iter().any(|(waiting, _)| *waiting == peer)
            || self.under_way.values().any(|dialled| *dialled == peer);
        if !known && self.waiting.len() < WAITING_MAX && !addresses.is_empty() {
            self.waiting.push_back((peer, addresses));
        }
    }

    /// The next one to dial.
    pub(super) fn next(&mut self) -> Option<(PeerId, Vec<Multiaddr>)> {
        if self.under_way.len() >= UNDER_WAY_MAX { None } else { self.waiting.pop_front() }
    }

    pub(super) fn began(&mut self, connection: ConnectionId, peer: PeerId) {
        self.under_way.insert(connection, peer);
    }

    pub(super) fn ended(&mut self, connection: ConnectionId) {
        self.under_way.remove(&connection);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_crowd_is_dialled_back_eight_at_a_time_and_the_rest_of_it_is_not_remembered() {
        let mut backs = DialBacks::default();
        let at: Multiaddr = "/ip4/203.0.113.7/tcp/1".parse().unwrap();
        for _ in 0..1000 {
            backs.want(PeerId::random(), vec![at.clone()]);
        }
        assert_eq!(backs.waiting.len(), WAITING_MAX);
        let mut dialled = Vec::new();
        while let Some((peer, _)) = backs.next() {
            let connection = ConnectionId::new_unchecked(dialled.len());
            backs.began(connection, peer);
            dialled.push(connection);
        }
        assert_eq!(dialled.len(), UNDER_WAY_MAX);
        backs.ended(dialled[0]);
        assert!(backs.next().is_some());
        let twice = PeerId::random();
        (0..2).for_each(|_| backs.want(twice, vec![at.clone()]));
        assert_eq!(backs.waiting.iter().filter(|(peer, _)| *peer == twice).count(), 1);
    }
}
