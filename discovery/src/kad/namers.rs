//! Whose answers name peers that nobody reaches. Pure: `now` is an argument.
//!
//! A lookup asks whom answers name, and each that never answers holds it up for seconds. So a single node that names inventions near
//! every key would have all lookups end for want of time, and nothing be published. Here is counted, for each node that
//! answers, what became of those that it named first: where most were not there, its names are passed over for a while. Honest
//! nodes name peers of their tables, each of which they reached themselves.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use libp2p::PeerId;

/// Named peers that did not answer, after which a node is doubted.
pub(super) const UNREACHED_MIN: u32 = 8;

/// And more than so many for each that did: honest tables are wrong by less, even where many nodes leave.
const UNREACHED_FOR_EACH: u32 = 3;

/// What was counted is forgotten after this: nodes change.
pub(super) const FORGOTTEN_AFTER: Duration = Duration::from_secs(600);

/// Nodes that are counted. Others are believed.
pub(super) const COUNTED_MAX: usize = 1024;

/// Named peers of which it is not known yet whether they answer, for so long at most: a lookup is over by then.
pub(super) const NAMED_MAX: usize = 4096;
const NAMED_FOR: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, Debug)]
struct Tally {
    since: Instant,
    reached: u32,
    unreached: u32,
}

/// What is counted.
#[derive(Debug, Default)]
pub(super) struct Namers {
    /// By whom a peer was named first, and when.
    named: HashMap<PeerId, (PeerId, Instant)>,
    of: HashMap<PeerId, Tally>,
}

impl Namers {
    /// Whether those whom a node names are worth asking.
    pub(super) fn believes(&self, namer: &PeerId, now: Instant) -> bool {
        self.of.get(namer).is_none_or(|tally| {
            now.saturating_duration_since(tally.since) >= FORGOTTEN_AFTER
                || tally.unreached < UNREACHED_MIN
                || tally.unreached <= UNREACHED_FOR_EACH * tally.reached
        })
    }

    /// A node named a peer, which a lookup may ask now.
    pub(super) fn named(&mut self, namer: PeerId, peer: PeerId, now: Instant) {
        if self.named.len() >= NAMED_MAX {
            self.named.retain(|_, (_, at)| now.saturating_duration_since(*at) < NAMED_FOR);
        }
        if self.named.len() < NAMED_MAX {
            self.named.entry(peer).or_insert((namer, now));
        }
    }

    /// A peer answered.
    pub(super) fn answered(&mut self, peer: &PeerId, now: Instant) {
        if let Some(tally) = self.tally(peer, now) {
            tally.reached = tally.reached.saturating_add(1);
        }
    }

    /// A peer was not reached, or did not answer.
    pub(super) fn unreached(&mut self, peer: &PeerId, now: Instant) {
        if let Some(tally) = self.tally(peer, now) {
            tally.unreached = tally.unreached.saturating_add(1);
        }
    }

    /// That of whoever named the peer.
    fn tally(&mut self, peer: &PeerId, now: Instant) -> Option<&mut Tally> {
        let (namer, _) = self.named.remove(peer)?;
        let is_old = |tally: &Tally| now.saturating_duration_since(tally.since) >= FORGOTTEN_AFTER;
        if self.of.len() >= COUNTED_MAX && !self.of.contains_key(&namer) {
            self.of.retain(|_, tally| !is_old(tally));
            if self.of.len() >= COUNTED_MAX {
                return None;
            }
        }
        let fresh = Tally { since: now, reached: 0, unreached: 0 };
        let tally = self.of.entry(namer).or_insert(fresh);
        if is_old(tally) {
            *tally = fresh;
        }
        Some(tally)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names so many peers, of whom so many answer.
    fn name(namers: &mut Namers, namer: PeerId, answer: u32, do_not: u32, now: Instant) {
        for number in 0..answer + do_not {
            let peer = PeerId::random();
            namers.named(namer, peer, now);
            if number < answer { namers.answered(&peer, now) } else { namers.unreached(&peer, now) }
        }
    }

    #[test]
    fn who_names_inventions_is_passed_over_for_a_while_and_who_names_many_that_left_is_not() {
        let (mut namers, now) = (Namers::default(), Instant::now());
        let [liar, honest, late] = [(); 3].map(|()| PeerId::random());
        name(&mut namers, liar, 1, UNREACHED_MIN, now);
        name(&mut namers, honest, 10, 3 * 10, now);
        name(&mut namers, late, 0, UNREACHED_MIN - 1, now);
        assert!(!namers.believes(&liar, now));
        assert!(namers.believes(&honest, now) && namers.believes(&late, now));
        assert!(namers.believes(&liar, now + FORGOTTEN_AFTER));
        name(&mut namers, liar, 0, 1, now + FORGOTTEN_AFTER);
        assert!(namers.believes(&liar, now + FORGOTTEN_AFTER), "it begins anew");
    }

    #[test]
    fn who_repeats_what_others_named_is_not_blamed_for_it() {
        let (mut namers, now) = (Namers::default(), Instant::now());
        let [first, second] = [(); 2].map(|()| PeerId::random());
        for _ in 0..UNREACHED_MIN {
            let peer = PeerId::random();
            namers.named(first, peer, now);
            namers.named(second, peer, now);
            namers.unreached(&peer, now);
        }
        assert!(!namers.believes(&first, now));
        assert!(namers.believes(&second, now));
    }

    #[test]
    fn what_is_counted_is_bounded() {
        let (mut namers, now) = (Namers::default(), Instant::now());
        for _ in 0..2 * COUNTED_MAX {
            name(&mut namers, PeerId::random(), 0, 1, now);
        }
        assert_eq!(namers.of.len(), COUNTED_MAX);
        let namer = PeerId::random();
        (0..2 * NAMED_MAX).for_each(|_| namers.named(namer, PeerId::random(), now));
        assert_eq!(namers.named.len(), NAMED_MAX);
        namers.named(namer, PeerId::random(), now + NAMED_FOR);
        assert_eq!(namers.named.len(), 1, "a lookup is over by then");
    }
}
