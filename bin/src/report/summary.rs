//! What strangers can cause is told at a pace, and the rest is counted. Pure.
//!
//! Each peer has a pace of its own, so that one that is noisy hides no other. Identities are free, so all
//! strangers together have one as well, for each kind of event, and so have those whom the node knows: a crowd hides no
//! other kind, and no friend.

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

use libp2p::PeerId;

use super::said::Whose;

/// Events of one kind and peer: so many at once, and one more in each such time.
const PEER_PACE: Pace = Pace { burst: 10, every: Duration::from_secs(6) };

/// Events of one kind: with an entry of the log for each, 100 KB a minute.
const KIND_PACE: Pace = Pace { burst: 60, every: Duration::from_millis(500) };

/// What was not told is summed up this long after the first of it.
pub(super) const WINDOW: Duration = Duration::from_secs(60);

/// Peers of a kind before those are forgotten whose pace has recovered. The pace of the kind lets in 180 of
/// them while one recovers, so the others are always fewer.
const PEERS_MAX: usize = 256;

/// How often something may be told.
#[derive(Clone, Copy)]
pub(super) struct Pace {
    /// So many at once.
    pub(super) burst: u32,
    /// And one more in each such time.
    pub(super) every: Duration,
}

impl Pace {
    /// The state after one more, or none if that is too soon. The state is when all that was told is paid
    /// for; a time that has passed is nothing owed.
    fn after(&self, paid: Option<Instant>, now: Instant) -> Option<Instant> {
        let paid = paid.unwrap_or(now).max(now);
        (paid - now <= self.every * (self.burst - 1)).then(|| paid + self.every)
    }
}

/// Decides what is told.
pub(super) struct Summary {
    of_peer: Pace,
    of_kind: Pace,
    kinds: BTreeMap<(&'static str, Whose), Kind>,
}

#[derive(Default)]
struct Kind {
    paid: Option<Instant>,
    /// Bounded by [`PEERS_MAX`].
    peers: HashMap<PeerId, Instant>,
    suppressed: Option<Suppressed>,
}

struct Suppressed {
    since: Instant,
    count: u64,
}

/// So many events of a kind were not told.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Untold {
    pub(super) what: &'static str,
    pub(super) count: u64,
    pub(super) within: Duration,
}

impl Default for Summary {
    /// For events.
    fn default() -> Self {
        Self::new(PEER_PACE, KIND_PACE)
    }
}

impl Summary {
    /// For what may be told at these paces, of each peer and of each kind. While the first recovers, the second lets in
    /// fewer than [`PEERS_MAX`].
    pub(super) fn new(of_peer: Pace, of_kind: Pace) -> Self {
        Self { of_peer, of_kind, kinds: BTreeMap::new() }
    }

    /// Whether this event is told; if not, it is counted.
    pub(super) fn admit(
        &mut self,
        what: &'static str,
        whose: Whose,
        peer: Option<PeerId>,
        now: Instant,
    ) -> bool {
        let kind = self.kinds.entry((what, whose)).or_default();
        let admitted = kind.admit(peer, now, (self.of_peer, self.of_kind));
        if !admitted {
            kind.suppressed.get_or_insert(Suppressed { since: now, count: 0 }).count += 1;
        }
        admitted
    }

    /// What is to be summed up by now.
    pub(super) fn poll(&mut self, now: Instant) -> Vec<Untold> {
        self.take(now, WINDOW)
    }

    /// What was not told yet, at the end.
    pub(super) fn finish(&mut self, now: Instant) -> Vec<Untold> {
        self.take(now, Duration::ZERO)
    }

    fn take(&mut self, now: Instant, age: Duration) -> Vec<Untold> {
        let due = self.kinds.iter_mut().filter_map(|((what, _), kind)| {
            let Suppressed { since, count } =
                kind.suppressed.take_if(|suppressed| now >= suppressed.since + age)?;
            Some(Untold { what, count, within: now - since })
        });
        due.collect()
    }
}

impl Kind {
    /// Fair first, global last: what a noisy peer does not get, others may have.
    fn admit(&mut self, peer: Option<PeerId>, now: Instant, (pace_of_peer, pace): (Pace, Pace)) -> bool {
        let of_peer = match peer {
            Some(peer) => match pace_of_peer.after(self.peers.get(&peer).copied(), now) {
                Some(paid) => Some((peer, paid)),
                None => return false,
            },
            None => None,
        };
        let Some(paid) = pace.after(self.paid, now) else { return false };
        self.paid = Some(paid);
        if let Some((peer, paid)) = of_peer {
            if self.peers.len() >= PEERS_MAX {
                self.peers.retain(|_, paid| *paid > now);
            }
            self.peers.insert(peer, paid);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn told(summary: &mut Summary, what: &'static str, peer: Option<PeerId>, now: Instant) -> usize {
        (0..1000).filter(|_| summary.admit(what, Whose::Strangers, peer, now)).count()
    }

    #[test]
    fn a_noisy_peer_is_told_of_a_few_times_and_then_summed_up() {
        let (mut summary, start, peer) = (Summary::default(), Instant::now(), Some(PeerId::random()));
        assert_eq!(told(&mut summary, "refused", peer, start), 10);
        assert_eq!(summary.poll(start + MINUTE - Duration::from_millis(1)), []);
        let untold = Untold { what: "refused", count: 990, within: MINUTE };
        assert_eq!(summary.poll(start + MINUTE), [untold]);
        assert_eq!(summary.finish(start + MINUTE), []);
        assert_eq!(told(&mut summary, "refused", peer, start + MINUTE), 10);
    }

    #[test]
    fn a_noisy_peer_hides_no_other() {
        let (mut summary, now) = (Summary::default(), Instant::now());
        told(&mut summary, "refused", Some(PeerId::random()), now);
        assert!(summary.admit("refused", Whose::Strangers, Some(PeerId::random()), now));
    }

    #[test]
    fn a_crowd_of_identities_is_summed_up_and_hides_no_other_kind() {
        let (mut summary, now) = (Summary::default(), Instant::now());
        let crowd = (0..1000)
            .filter(|_| summary.admit("refused", Whose::Strangers, Some(PeerId::random()), now));
        assert_eq!(crowd.count(), 60);
        assert_eq!(told(&mut summary, "refused", None, now), 0);
        assert!(summary.admit("access_refused", Whose::Strangers, Some(PeerId::random()), now));
        assert!(summary.admit("refused", Whose::Ours, Some(PeerId::random()), now), "nor a friend");
        assert_eq!(summary.finish(now).iter().map(|untold| untold.count).sum::<u64>(), 1940);
    }

    #[test]
    fn a_crowd_that_never_ends_costs_no_more_memory_than_the_limit() {
        let (mut summary, start) = (Summary::default(), Instant::now());
        for ms in 0..600_000 {
            let now = start + Duration::from_millis(ms);
            // A new identity whenever one would be told of.
            if KIND_PACE
                .after(summary.kinds.get(&("refused", Whose::Strangers)).and_then(|kind| kind.paid), now)
                .is_some()
            {
                assert!(summary.admit("refused", Whose::Strangers, Some(PeerId::random()), now));
            }
        }
        assert!(summary.kinds[&("refused", Whose::Strangers)].peers.len() <= PEERS_MAX);
    }
}
