//! How many addresses that others named may still be dialled: for each peer, for all strangers together, and
//! for all familiar peers together.
//!
//! Identities are free, so a limit for one peer alone stops nobody; and a limit for all alone would let
//! strangers use up what friends need.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use libp2p::PeerId;

use crate::config::DialLimits;

const HOUR: Duration = Duration::from_secs(3600);

/// Peers whose use is remembered. Whoever has used nothing for an hour is forgotten first; if there is nobody
/// like that, one more peer gets nothing.
const PEERS_MAX: usize = 16_384;

/// What refills at a steady pace, up to what an hour brings.
#[derive(Debug)]
struct Bucket {
    per_hour: u32,
    tokens: f64,
    at: Instant,
}

impl Bucket {
    fn full(per_hour: u32, now: Instant) -> Self {
        Self { per_hour, tokens: per_hour.into(), at: now }
    }

    fn refill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.at).as_secs_f64() / HOUR.as_secs_f64();
        self.tokens = (self.tokens + passed * f64::from(self.per_hour)).min(self.per_hour.into());
        self.at = self.at.max(now);
    }

    fn left(&self) -> usize {
        self.tokens as usize
    }

    fn is_full(&self) -> bool {
        self.tokens >= f64::from(self.per_hour)
    }

    fn take(&mut self, count: usize) {
        self.tokens -= count as f64;
    }
}

/// What is left.
#[derive(Debug)]
pub(crate) struct Allowance {
    limits: DialLimits,
    strangers: Option<Bucket>,
    familiars: Option<Bucket>,
    peers: BTreeMap<PeerId, Bucket>,
}

impl Allowance {
    pub(crate) fn new(limits: DialLimits) -> Self {
        Self { limits, strangers: None, familiars: None, peers: BTreeMap::new() }
    }

    /// Takes what is left of `wanted` dials for a peer: so many may be made.
    pub(crate) fn take(&mut self, peer: PeerId, familiar: bool, wanted: usize, now: Instant) -> usize {
        self.make_room(peer, now);
        let own = self.limit_of(familiar);
        let limits = &self.limits;
        let (all, per_hour) = match familiar {
            true => (&mut self.familiars, limits.of_familiars),
            false => (&mut self.strangers, limits.of_strangers),
        };
        let all = all.get_or_insert_with(|| Bucket::full(per_hour, now));
        all.refill(now);
        if self.peers.len() >= PEERS_MAX && !self.peers.contains_key(&peer) {
            return 0;
        }
        let of_peer = self.peers.entry(peer).or_insert_with(|| Bucket::full(own, now));
        of_peer.refill(now);
        if of_peer.per_hour < own {
            // A stranger that became familiar is not held to what it used before.
            *of_peer = Bucket::full(own, now);
        }
        let granted = wanted.min(all.left()).min(of_peer.left());
        all.take(granted);
        of_peer.take(granted);
        granted
    }

    /// How many dials an hour a peer has.
    pub(crate) fn limit_of(&self, familiar: bool) -> u32 {
        if familiar { self.limits.of_familiar } else { self.limits.of_stranger }
    }

    fn make_room(&mut self, peer: PeerId, now: Instant) {
        if self.peers.len() >= PEERS_MAX && !self.peers.contains_key(&peer) {
            self.peers.retain(|_, bucket| {
                bucket.refill(now);
                !bucket.is_full()
            });
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn allowance() -> (Allowance, Instant) {
        let limits = DialLimits { of_stranger: 10, of_strangers: 25, of_familiar: 20, of_familiars: 40 };
        (Allowance::new(limits), Instant::now())
    }

    #[test]
    fn a_peer_gets_what_an_hour_allows_and_then_waits_for_it_to_refill() {
        let (mut allowance, now) = allowance();
        let peer = PeerId::random();
        assert_eq!(allowance.take(peer, false, 8, now), 8);
        assert_eq!(allowance.take(peer, false, 8, now), 2);
        assert_eq!(allowance.take(peer, false, 8, now), 0);
        assert_eq!(allowance.take(peer, false, 8, now + HOUR / 10), 1);
        assert_eq!(allowance.take(peer, false, 99, now + HOUR * 5), 10);
    }

    #[test]
    fn what_strangers_use_up_together_is_not_taken_from_familiar_peers() {
        let (mut allowance, now) = allowance();
        let granted: usize = (0..100).map(|_| allowance.take(PeerId::random(), false, 8, now)).sum();
        assert_eq!(granted, 25);
        assert_eq!(allowance.take(PeerId::random(), true, 8, now), 8);
    }

    #[test]
    fn a_stranger_that_became_familiar_is_not_held_to_what_it_used_before() {
        let (mut allowance, now) = allowance();
        let peer = PeerId::random();
        allowance.take(peer, false, 10, now);
        assert_eq!(allowance.take(peer, true, 8, now), 8);
    }

    #[test]
    fn the_peers_that_are_remembered_are_bounded() {
        let limits = DialLimits { of_strangers: u32::MAX, ..DialLimits::default() };
        let (mut allowance, now) = (Allowance::new(limits), Instant::now());
        for _ in 0..PEERS_MAX {
            assert_eq!(allowance.take(PeerId::random(), false, 1, now), 1);
        }
        assert_eq!(allowance.take(PeerId::random(), false, 1, now), 0, "nobody can be forgotten yet");
        assert_eq!(allowance.take(PeerId::random(), false, 1, now + HOUR), 1);
        assert_eq!(allowance.peers.len(), 1);
    }
}
