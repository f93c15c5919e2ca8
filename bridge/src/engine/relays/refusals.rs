//! When a relay may be asked for a circuit again.
//!
//! A relay that is at a limit says whose limit it is and when to come again. Until then it would only refuse,
//! so it is not asked: our own answer costs it nothing, and those who wait know at once.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use libp2p::PeerId;

use crate::error::{LimitOwner, RelayLimit};

/// A relay's word is bounded: an absurd time must not keep us away for ever.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(600);

/// Refusals that are remembered; the one that is over first makes room.
const REFUSALS_MAX: usize = 1024;

/// The times before which relays are not asked, for one destination or for all.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    all: BTreeMap<(PeerId, Option<PeerId>), (Instant, RelayLimit)>,
}

impl Refusals {
    /// `relay` refused a circuit to `destination`.
    pub(crate) fn refused(
        &mut self,
        relay: PeerId,
        destination: PeerId,
        limit: RelayLimit,
        now: Instant,
    ) {
        let Some(wait) = limit.retry_after else { return };
        // Which limit it is decides whom else it concerns. An unknown one concerns the least.
        let whom = match limit.owner {
            LimitOwner::Destination | LimitOwner::Unknown => Some(destination),
            LimitOwner::Relay | LimitOwner::Address | LimitOwner::Peer => None,
        };
        self.all.retain(|_, (until, _)| *until > now);
        if self.all.len() >= REFUSALS_MAX {
            let first = self.all.iter().min_by_key(|(key, (until, _))| (*until, **key));
            if let Some(key) = first.map(|(key, _)| *key) {
                self.all.remove(&key);
            }
        }
        self.all.insert((relay, whom), (now + wait.min(RETRY_AFTER_MAX), limit));
    }

    /// The refusal that still holds, and until when.
    pub(crate) fn holding(
        &self,
        relay: PeerId,
        destination: PeerId,
        now: Instant,
    ) -> Option<(Instant, RelayLimit)> {
        let found =
            [None, Some(destination)].into_iter().filter_map(|whom| self.all.get(&(relay, whom)));
        let (until, limit) =
            found.copied().filter(|(until, _)| *until > now).max_by_key(|(at, _)| *at)?;
        Some((until, RelayLimit { retry_after: Some(until - now), ..limit }))
    }

    /// A link to the relay is new: it may be another process, with nothing used up.
    pub(crate) fn forget(&mut self, relay: PeerId) {
        self.all.retain(|(refuser, _), _| *refuser != relay);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn limit(owner: LimitOwner, wait: Option<Duration>) -> RelayLimit {
        RelayLimit { owner, limit: Some(7), retry_after: wait }
    }

    #[test]
    fn a_limit_of_ours_holds_for_every_destination_and_one_of_the_destination_for_it_alone() {
        let (relay, there, elsewhere, now) =
            (PeerId::random(), PeerId::random(), PeerId::random(), Instant::now());
        for (owner, others) in [
            (LimitOwner::Peer, true),
            (LimitOwner::Address, true),
            (LimitOwner::Relay, true),
            (LimitOwner::Destination, false),
            (LimitOwner::Unknown, false),
        ] {
            let mut refusals = Refusals::default();
            refusals.refused(relay, there, limit(owner, Some(9 * S)), now);
            assert!(refusals.holding(relay, there, now + 8 * S).is_some());
            assert_eq!(refusals.holding(relay, elsewhere, now + 8 * S).is_some(), others, "{owner:?}");
            assert!(refusals.holding(elsewhere, there, now).is_none(), "another relay");
            let (until, told) = refusals.holding(relay, there, now + 6 * S).expect("it still holds");
            assert_eq!((until, told), (now + 9 * S, limit(owner, Some(3 * S))));
            assert!(refusals.holding(relay, there, now + 9 * S).is_none());
        }
    }

    #[test]
    fn a_refusal_that_names_no_time_holds_nobody_and_an_absurd_time_is_bounded() {
        let (relay, peer, now) = (PeerId::random(), PeerId::random(), Instant::now());
        let mut refusals = Refusals::default();
        refusals.refused(relay, peer, limit(LimitOwner::Peer, None), now);
        assert_eq!(refusals.holding(relay, peer, now), None);
        refusals.refused(relay, peer, limit(LimitOwner::Peer, Some(Duration::MAX)), now);
        assert!(refusals.holding(relay, peer, now + RETRY_AFTER_MAX).is_none());
        refusals.refused(relay, peer, limit(LimitOwner::Peer, Some(9 * S)), now);
        refusals.forget(relay);
        assert_eq!(refusals.holding(relay, peer, now), None);
    }

    #[test]
    fn only_so_many_refusals_are_remembered() {
        let (relay, now) = (PeerId::random(), Instant::now());
        let mut refusals = Refusals::default();
        for wait in 0..=REFUSALS_MAX as u64 {
            let wait = Some(S + Duration::from_millis(wait));
            refusals.refused(relay, PeerId::random(), limit(LimitOwner::Destination, wait), now);
        }
        assert_eq!(refusals.all.len(), REFUSALS_MAX);
    }
}
