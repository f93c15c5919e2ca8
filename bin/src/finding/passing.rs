//! Whom a program's opens wait for: sought for as long as they do, and a while longer. Pure: `now` is an argument.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use libp2p::PeerId;

/// Who is not waited for any longer is sought for so long: a program that was told of a failure tries again.
const LINGER: Duration = Duration::from_secs(60);

/// Peers that are sought because a program opens a stream; a quarter of all that may be sought. One more waits until
/// another has its stream or its failure.
const PASSING_MAX: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Passing {
    /// Since when each is not waited for; none: it is.
    all: BTreeMap<PeerId, Option<Instant>>,
    /// Those that made room.
    over: Vec<PeerId>,
}

impl Passing {
    /// These are waited for from now on, and no others. Returns those that are to be sought, and whether they were a moment
    /// ago.
    pub(super) fn wanted(&mut self, peers: &BTreeSet<PeerId>, now: Instant) -> Vec<(PeerId, bool)> {
        for (peer, since) in &mut self.all {
            if !peers.contains(peer) {
                since.get_or_insert(now);
            }
        }
        let mut new = Vec::new();
        for peer in peers {
            match self.all.get(peer).copied() {
                Some(None) => continue,
                Some(Some(_)) => new.push((*peer, true)),
                None if self.makes_room() => new.push((*peer, false)),
                None => {
                    tracing::debug!(%peer, "not looked for: {PASSING_MAX} are already");
                    continue;
                }
            }
            self.all.insert(*peer, None);
        }
        new
    }

    /// Those that are not to be sought any more.
    pub(super) fn take_over(&mut self, now: Instant) -> Vec<PeerId> {
        let is_over =
            |_: &PeerId, since: &mut Option<Instant>| since.is_some_and(|since| now >= since + LINGER);
        let over = self.all.extract_if(.., is_over).map(|(peer, _)| peer);
        self.over.extend(over);
        std::mem::take(&mut self.over)
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.all.values().filter_map(|since| Some((*since)? + LINGER)).min()
    }

    /// Who lingers longest goes if there is no room.
    fn makes_room(&mut self) -> bool {
        if self.all.len() < PASSING_MAX {
            return true;
        }
        let lingers = self.all.iter().filter_map(|(peer, since)| Some(((*since)?, *peer)));
        let Some((_, longest)) = lingers.min() else { return false };
        self.all.remove(&longest);
        self.over.push(longest);
        true
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn peers(number: usize) -> BTreeSet<PeerId> {
        (0..number).map(|_| PeerId::random()).collect()
    }

    #[test]
    fn who_is_waited_for_is_sought_and_a_while_longer() {
        let (mut passing, now) = (Passing::default(), Instant::now());
        let wanted = peers(1);
        let peer = *wanted.first().unwrap();
        assert_eq!(passing.wanted(&wanted, now), [(peer, false)]);
        assert_eq!(passing.wanted(&wanted, now), []);
        assert_eq!(passing.wanted(&BTreeSet::new(), now), []);
        assert_eq!(passing.take_over(now + LINGER / 2), []);
        assert_eq!(passing.wanted(&wanted, now + LINGER / 2), [(peer, true)], "its program tries again");
        assert_eq!((passing.take_over(now + 2 * LINGER), passing.poll_timeout()), (Vec::new(), None));
        passing.wanted(&BTreeSet::new(), now + 2 * LINGER);
        assert_eq!(passing.poll_timeout(), Some(now + 3 * LINGER));
        assert_eq!(passing.take_over(now + 3 * LINGER), [peer]);
    }

    #[test]
    fn so_many_are_sought_at_once_and_who_lingers_makes_room() {
        let (mut passing, now) = (Passing::default(), Instant::now());
        assert_eq!(passing.wanted(&peers(PASSING_MAX + 9), now).len(), PASSING_MAX);
        assert_eq!(passing.take_over(now), []);
        assert_eq!(passing.wanted(&peers(1), now).len(), 1, "the others linger");
        assert_eq!(passing.take_over(now).len(), 1, "one of them made room");
    }
}
