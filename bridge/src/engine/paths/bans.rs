//! Addresses at which a peer is not: somebody else answered there.
//!
//! It is the *pair* that is banned. Anybody may have named the address, so it is no fault of the peer, which can be reached
//! elsewhere; nor of whoever answered. Where our own operator says that a peer is, it is dialled all the same.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use libp2p::{Multiaddr, PeerId};

use crate::addr::policy::without_peer;

/// The first ban of an address. The next is twice as long.
pub(crate) const BAN_FIRST: Duration = Duration::from_secs(10 * 60);

/// The longest. Addresses change hands.
pub(crate) const BAN_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Bans of one peer, and in all. Beyond it the one that ends first is lifted.
pub(crate) const BANS_PER_PEER_MAX: usize = 32;
pub(crate) const BANS_MAX: usize = 2048;

#[derive(Clone, Copy, Debug)]
struct Ban {
    until: Instant,
    lasts: Duration,
}

impl Ban {
    /// Its length is remembered for as long again, so that a repeated lie lasts longer.
    fn is_forgotten(&self, now: Instant) -> bool {
        now >= self.until + self.lasts
    }
}

/// Where which peer is not.
#[derive(Debug, Default)]
pub(crate) struct Bans(BTreeMap<(PeerId, Multiaddr), Ban>);

impl Bans {
    /// Somebody else than the peer answered at this address.
    pub(crate) fn wrong_identity(&mut self, peer: PeerId, address: &Multiaddr, now: Instant) {
        self.0.retain(|_, ban| !ban.is_forgotten(now));
        let key = (peer, without_peer(address));
        let before = self.0.get(&key).map(|ban| ban.lasts);
        let lasts = before.map_or(BAN_FIRST, |before| (before * 2).min(BAN_MAX));
        if before.is_none() {
            self.make_room(peer);
        }
        self.0.insert(key, Ban { until: now + lasts, lasts });
    }

    /// The peer itself answered at this address.
    pub(crate) fn reached(&mut self, peer: PeerId, address: &Multiaddr) {
        self.0.remove(&(peer, without_peer(address)));
    }

    /// For how long the peer is not dialled there; none if it may be.
    pub(crate) fn lasts(&self, peer: PeerId, address: &Multiaddr, now: Instant) -> Option<Duration> {
        let ban = self.0.get(&(peer, without_peer(address)))?;
        Some(ban.until.saturating_duration_since(now)).filter(|again| !again.is_zero())
    }

    /// Somebody does not want to wait: all addresses of this peer, or of all, may be dialled.
    pub(crate) fn lift(&mut self, peer: Option<PeerId>) {
        self.0.retain(|(banned, _), _| peer.is_some_and(|peer| peer != *banned));
    }

    fn make_room(&mut self, peer: PeerId) {
        let of_peer = self.0.keys().filter(|(banned, _)| *banned == peer).count();
        let only = (of_peer >= BANS_PER_PEER_MAX).then_some(peer);
        if only.is_none() && self.0.len() < BANS_MAX {
            return;
        }
        let may_go = self.0.iter().filter(|((banned, _), _)| only.is_none_or(|only| *banned == only));
        let first = may_go.min_by_key(|(_, ban)| ban.until).map(|(key, _)| key.clone());
        first.map(|first| self.0.remove(&first));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn at(port: usize) -> Multiaddr {
        format!("/ip4/198.51.100.7/tcp/{port}").parse().unwrap()
    }

    #[test]
    fn a_ban_is_of_one_peer_at_one_address_and_doubles_to_a_day() {
        let (mut bans, mut now) = (Bans::default(), Instant::now());
        let (peer, other) = (PeerId::random(), PeerId::random());
        for minutes in [10, 20, 40, 80, 160, 320, 640, 1280, 1440, 1440] {
            bans.wrong_identity(peer, &at(1).with_p2p(peer).unwrap(), now);
            assert_eq!(bans.lasts(peer, &at(1), now), Some(Duration::from_secs(60 * minutes)));
            assert_eq!(bans.lasts(peer, &at(2), now), None);
            assert_eq!(bans.lasts(other, &at(1), now), None);
            now += Duration::from_secs(60 * minutes);
            assert_eq!(bans.lasts(peer, &at(1), now), None);
        }
        bans.wrong_identity(peer, &at(1), now);
        bans.reached(peer, &at(1));
        bans.wrong_identity(peer, &at(1), now);
        assert_eq!(bans.lasts(peer, &at(1), now), Some(BAN_FIRST), "it was there meanwhile");
    }

    #[test]
    fn one_ban_more_than_there_may_be_lifts_the_one_that_ends_first() {
        let (mut bans, now) = (Bans::default(), Instant::now());
        let peer = PeerId::random();
        for port in 1..=BANS_PER_PEER_MAX + 1 {
            bans.wrong_identity(peer, &at(port), now + Duration::from_secs(port as u64));
        }
        assert_eq!(bans.0.len(), BANS_PER_PEER_MAX);
        assert!(bans.lasts(peer, &at(1), now).is_none() && bans.lasts(peer, &at(2), now).is_some());
        for _ in 0..BANS_MAX {
            bans.wrong_identity(PeerId::random(), &at(1), now);
        }
        assert_eq!(bans.0.len(), BANS_MAX);
    }
}
