//! Addresses at which a peer is not.
//!
//! Whoever answered there had another identity. That is no fault of the peer that was sought: anybody may have named the
//! address. Nor is it one of whoever answered. So it is the *pair* that is banned: the peer can be reached elsewhere, and
//! whoever is there can be reached there. If peers were banned, it would be enough to name a wrong address of one.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use libp2p::{Multiaddr, PeerId};

/// The first ban of an address. The next is twice as long.
pub const BAN_FIRST: Duration = Duration::from_secs(10 * 60);

/// The longest ban. Addresses change hands.
pub const BAN_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Bans of one peer. Beyond it the one that ends first is lifted.
pub const BANS_PER_PEER_MAX: usize = 32;

/// Bans in all. Beyond it the one that ends first is lifted.
pub const BANS_MAX: usize = 2048;

#[derive(Clone, Copy, Debug)]
struct Ban {
    until: Instant,
    lasts: Duration,
}

impl Ban {
    /// After the ban its length is remembered for as long again, so that a repeated lie lasts longer.
    fn is_over(&self, now: Instant) -> bool {
        now >= self.until + self.lasts
    }
}

/// Where which peer is not.
#[derive(Debug, Default)]
pub struct Bans {
    of: BTreeMap<(PeerId, Multiaddr), Ban>,
}

impl Bans {
    /// Another peer answered at this address.
    pub fn wrong_identity(&mut self, peer: PeerId, address: &Multiaddr, now: Instant) {
        self.of.retain(|_, ban| !ban.is_over(now));
        let key = (peer, place(address));
        let before = self.of.get(&key).map(|ban| ban.lasts);
        let lasts = before.map_or(BAN_FIRST, |before| (before * 2).min(BAN_MAX));
        if before.is_none() {
            self.make_room(peer);
        }
        self.of.insert(key, Ban { until: now + lasts, lasts });
    }

    /// The peer itself answered at this address.
    pub fn reached(&mut self, peer: PeerId, address: &Multiaddr) {
        self.of.remove(&(peer, place(address)));
    }

    /// Whether the peer is not to be dialled there.
    pub fn is_banned(&self, peer: PeerId, address: &Multiaddr, now: Instant) -> bool {
        self.of.get(&(peer, place(address))).is_some_and(|ban| now < ban.until)
    }

    /// How many addresses are banned.
    pub fn count(&self, now: Instant) -> usize {
        self.of.values().filter(|ban| now < ban.until).count()
    }

    fn make_room(&mut self, peer: PeerId) {
        let of_peer = self.of.keys().filter(|(banned, _)| *banned == peer).count();
        let only = (of_peer >= BANS_PER_PEER_MAX).then_some(peer);
        if only.is_none() && self.of.len() < BANS_MAX {
            return;
        }
        let candidates =
            self.of.iter().filter(|((banned, _), _)| only.is_none_or(|only| *banned == only));
        let first = candidates.min_by_key(|(_, ban)| ban.until).map(|(key, _)| key.clone());
        first.map(|first| self.of.remove(&first));
    }
}

/// The address without the id at its end.
fn place(address: &Multiaddr) -> Multiaddr {
    let mut address = address.clone();
    if let Some(libp2p::multiaddr::Protocol::P2p(_)) = address.iter().last() {
        address.pop();
    }
    address
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn at(port: usize) -> Multiaddr {
        format!("/ip4/198.51.100.7/tcp/{port}").parse().unwrap()
    }

    #[test]
    fn a_wrong_identity_bans_the_address_for_that_peer_and_nothing_else() {
        let (mut bans, now) = (Bans::default(), Instant::now());
        let (peer, other) = (PeerId::random(), PeerId::random());
        bans.wrong_identity(peer, &at(1), now);
        assert!(bans.is_banned(peer, &at(1), now));
        assert!(bans.is_banned(peer, &at(1).with_p2p(peer).unwrap(), now));
        assert!(!bans.is_banned(peer, &at(2), now), "the peer is elsewhere");
        assert!(!bans.is_banned(other, &at(1), now), "somebody else is there");
        assert!(!bans.is_banned(peer, &at(1), now + BAN_FIRST));
    }

    #[test]
    fn a_repeated_lie_lasts_twice_as_long_and_no_longer_than_a_day() {
        let (mut bans, mut now, peer) = (Bans::default(), Instant::now(), PeerId::random());
        let mut lasted = Vec::new();
        for _ in 0..10 {
            bans.wrong_identity(peer, &at(1), now);
            let minutes = (1..).find(|minute| !bans.is_banned(peer, &at(1), now + 60 * *minute * S));
            lasted.push(minutes.unwrap());
            now += 60 * minutes.unwrap() * S;
        }
        assert_eq!(lasted, [10, 20, 40, 80, 160, 320, 640, 1280, 1440, 1440]);
        now += 2 * BAN_MAX;
        bans.wrong_identity(peer, &at(1), now);
        assert!(!bans.is_banned(peer, &at(1), now + BAN_FIRST), "long ago is forgotten");
    }

    #[test]
    fn whoever_is_reached_there_after_all_is_not_banned() {
        let (mut bans, now, peer) = (Bans::default(), Instant::now(), PeerId::random());
        bans.wrong_identity(peer, &at(1), now);
        bans.reached(peer, &at(1));
        assert_eq!(bans.count(now), 0);
    }

    #[test]
    fn whoever_names_wrong_addresses_of_one_peer_lifts_no_bans_of_others() {
        let (mut bans, now) = (Bans::default(), Instant::now());
        let (first, victim) = (PeerId::random(), PeerId::random());
        bans.wrong_identity(first, &at(1), now);
        (0..10_000).for_each(|port| bans.wrong_identity(victim, &at(port), now + S));
        assert!(bans.is_banned(first, &at(1), now + S));
        assert_eq!(bans.count(now + S), 1 + BANS_PER_PEER_MAX);
        (0..2 * BANS_MAX).for_each(|_| bans.wrong_identity(PeerId::random(), &at(1), now + S));
        assert_eq!(bans.count(now + S), BANS_MAX);
    }
}
