//! When to look for whom, and when to tell where this node is. Pure: `now` is an argument.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use libp2p::{Multiaddr, PeerId};

/// A peer that is sought is looked for again after this, twice as long each time, up to the other.
const SEEK_AGAIN: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(300));

/// Where this node is, is told this long after it changed: several addresses come at once.
const SETTLES: Duration = Duration::from_secs(2);

/// It is told again after this: half of the time that it holds.
pub(crate) const TELL_AGAIN: Duration = Duration::from_secs(3600);

/// After it could not be told, it is tried again after these, and then each time after the last.
const TRY_AGAIN: [Duration; 5] = [
    Duration::from_secs(5),
    Duration::from_secs(15),
    Duration::from_secs(45),
    Duration::from_secs(120),
    Duration::from_secs(600),
];

/// Values that are stored again each hour. For one more there is no place.
#[cfg(feature = "mainline")]
pub(crate) const KEPT_MAX: usize = 64;

/// Who is looked for.
#[derive(Debug, Default)]
pub(crate) struct Seeking {
    /// By whom, when next, and how long after that again.
    sought: BTreeMap<PeerId, (Instant, Duration)>,
}

impl Seeking {
    pub(crate) fn seek(&mut self, peer: PeerId, now: Instant) {
        self.sought.entry(peer).or_insert((now, SEEK_AGAIN.0));
    }

    pub(crate) fn forget(&mut self, peer: PeerId) {
        self.sought.remove(&peer);
    }

    /// Somebody to be looked for.
    pub(crate) fn next(&mut self, now: Instant) -> Option<PeerId> {
        let (peer, (at, after)) = self.sought.iter_mut().find(|(_, (at, _))| *at <= now)?;
        *at = now + *after;
        *after = (*after * 2).min(SEEK_AGAIN.1);
        Some(*peer)
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.sought.values().map(|(at, _)| *at).min()
    }
}

/// What is told of where this node is.
#[derive(Debug, Default)]
pub(crate) struct Telling {
    addresses: Vec<Multiaddr>,
    due: Option<Instant>,
    failures: usize,
}

impl Telling {
    /// This node is here.
    pub(crate) fn changed(&mut self, addresses: Vec<Multiaddr>, now: Instant) {
        if addresses != self.addresses {
            self.addresses = addresses;
            (self.due, self.failures) = (Some(now + SETTLES), 0);
        }
    }

    /// What is to be told now.
    pub(crate) fn next(&mut self, now: Instant) -> Option<&[Multiaddr]> {
        self.due.filter(|due| *due <= now)?;
        self.due = None;
        Some(&self.addresses)
    }

    /// What became of it. `now`, unless it changed meanwhile.
    pub(crate) fn told(&mut self, stored: bool, now: Instant) {
        let after = match stored {
            true => {
                self.failures = 0;
                TELL_AGAIN
            }
            false => {
                let at = self.failures.min(TRY_AGAIN.len() - 1);
                self.failures += 1;
                TRY_AGAIN[at]
            }
        };
        self.due = Some(self.due.unwrap_or(now + after));
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn a_peer_is_looked_for_at_once_and_then_ever_more_rarely() {
        let (mut seeking, now) = (Seeking::default(), Instant::now());
        let peer = PeerId::random();
        seeking.seek(peer, now);
        let mut times = Vec::new();
        for second in 0..3600 {
            seeking.seek(peer, now + second * S);
            while seeking.next(now + second * S).is_some() {
                times.push(second);
            }
        }
        assert_eq!(times[..7], [0, 10, 30, 70, 150, 310, 610]);
        assert_eq!(times.len(), 16);
    }

    #[test]
    fn what_changes_at_once_is_told_once_and_again_after_an_hour() {
        let (mut telling, now) = (Telling::default(), Instant::now());
        let addresses =
            |count: usize| (0..count).map(|port| format!("/ip4/10.0.0.1/tcp/{port}").parse());
        let addresses =
            |count| addresses(count).collect::<Result<Vec<Multiaddr>, _>>().unwrap_or_default();
        telling.changed(addresses(1), now);
        telling.changed(addresses(2), now + S);
        telling.changed(addresses(2), now + 2 * S);
        assert_eq!(telling.next(now + 2 * S), None);
        assert_eq!(telling.next(now + 3 * S).map(<[_]>::len), Some(2));
        assert_eq!(telling.poll_timeout(), None, "while it is told");
        telling.told(true, now + 4 * S);
        assert_eq!(telling.poll_timeout(), Some(now + 4 * S + TELL_AGAIN));
    }

    #[test]
    fn what_could_not_be_told_is_tried_again_in_seconds() {
        let (mut telling, mut now) = (Telling::default(), Instant::now());
        telling.changed(vec![Multiaddr::empty()], now);
        let mut waits = Vec::new();
        for _ in 0..7 {
            let due = telling.poll_timeout().unwrap_or(now);
            waits.push((due - now).as_secs());
            now = due;
            assert!(telling.next(now).is_some());
            telling.told(false, now);
        }
        assert_eq!(waits, [2, 5, 15, 45, 120, 600, 600]);
    }

    #[test]
    fn what_changes_while_it_is_told_is_told_again() {
        let (mut telling, now) = (Telling::default(), Instant::now());
        telling.changed(vec![Multiaddr::empty()], now);
        assert!(telling.next(now + 2 * S).is_some());
        telling.changed(Vec::new(), now + 3 * S);
        telling.told(true, now + 4 * S);
        assert_eq!(telling.poll_timeout(), Some(now + 5 * S));
    }
}
