//! When to look which name up, and what the names say of whom. Pure: `now` is an argument.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use libp2p::{Multiaddr, PeerId};

use super::{
    DOMAINS_MAX,
    follow::{Answer, peer_of},
};
use crate::hint::{Hint, Source};

/// A name that was not found is looked up again after this, doubled up to the second.
const FAILED: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(300));

/// What was found holds a little longer than until it is looked up again: the answer takes a while.
const GRACE: Duration = Duration::from_secs(60);

/// Whoever is sought newly, and is not among what was found, is looked for at once, unless that is younger than this.
const FRESH: Duration = Duration::from_secs(30);

/// How soon a name is looked up again: as its records say, but not sooner than the first and not later than the second.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace(Duration, Duration);

impl Pace {
    /// Of peers that are sought.
    pub(super) const PEERS: Self = Self(Duration::from_secs(60), Duration::from_secs(3600));
    /// Of nodes to begin with: there are few, and a node without one is alone.
    pub(super) const BOOTSTRAPS: Self = Self(Duration::from_secs(30), Duration::from_secs(300));

    fn of(self, lasts: Duration) -> Duration {
        lasts.clamp(self.0, self.1)
    }
}

#[derive(Debug)]
struct Domain {
    name: String,
    /// None while it is looked up.
    next: Option<Instant>,
    looked_up: Option<Instant>,
    failures: u32,
    found: Vec<Multiaddr>,
    until: Option<Instant>,
}

/// By domain.
#[derive(Debug)]
pub(super) struct Machine {
    domains: Vec<Domain>,
    pace: Pace,
    sought: BTreeSet<PeerId>,
    /// Whether anything is to be looked up.
    awake: Option<Instant>,
}

impl Machine {
    pub(super) fn new(names: Vec<String>, pace: Pace) -> Self {
        let domain = |name| Domain {
            name,
            next: None,
            looked_up: None,
            failures: 0,
            found: Vec::new(),
            until: None,
        };
        let domains = names.into_iter().take(DOMAINS_MAX).map(domain).collect();
        Self { domains, pace, sought: BTreeSet::new(), awake: None }
    }

    /// All names are looked up from now on.
    pub(super) fn wake(&mut self, now: Instant) {
        if self.awake.is_none() {
            self.awake = Some(now);
            self.domains.iter_mut().for_each(|domain| domain.next = Some(now));
        }
    }

    /// A peer is sought from now on. Returns what is known of it.
    pub(super) fn seek(&mut self, peer: PeerId, now: Instant) -> Vec<Hint> {
        self.wake(now);
        self.sought.insert(peer);
        let hints = self.hints(|found| found == peer, now);
        if hints.is_empty() {
            for domain in &mut self.domains {
                let old = domain.looked_up.is_none_or(|at| now.saturating_duration_since(at) >= FRESH);
                if old && domain.failures == 0 {
                    domain.next = domain.next.map(|_| now);
                }
            }
        }
        hints
    }

    /// A peer is not sought any more. Where nobody is, nothing is looked up.
    pub(super) fn forget(&mut self, peer: PeerId) {
        self.sought.remove(&peer);
        if self.sought.is_empty() {
            self.awake = None;
            self.domains.iter_mut().for_each(|domain| domain.next = None);
        }
    }

    /// What is known of those that are sought.
    pub(super) fn found(&self, now: Instant) -> Vec<Hint> {
        self.hints(|peer| self.sought.contains(&peer), now)
    }

    /// All that is known, each once.
    pub(super) fn addresses(&self) -> Vec<Multiaddr> {
        let all: BTreeSet<&Multiaddr> = self.domains.iter().flat_map(|domain| &domain.found).collect();
        all.into_iter().cloned().collect()
    }

    /// Whether this name was not found the last time, either.
    pub(super) fn is_known_to_fail(&self, name: &str) -> bool {
        self.domains.iter().any(|domain| domain.name == name && domain.failures > 0)
    }

    /// A name to look up now.
    pub(super) fn poll(&mut self, now: Instant) -> Option<String> {
        let domain = self.domains.iter_mut().find(|domain| domain.next.is_some_and(|at| at <= now))?;
        domain.next = None;
        domain.looked_up = Some(now);
        Some(domain.name.clone())
    }

    /// A name was looked up. What was found before stays in force while it cannot be looked up, until its time is over.
    pub(super) fn answered(&mut self, name: &str, answer: Option<Answer>, now: Instant) {
        let Some(domain) = self.domains.iter_mut().find(|domain| domain.name == name) else { return };
        let pause = match answer {
            Some(Answer { addresses, lasts }) => {
                let pause = self.pace.of(lasts);
                (domain.found, domain.failures) = (addresses, 0);
                domain.until = Some(now + pause + GRACE);
                pause
            }
            None => {
                let pause = FAILED.0.saturating_mul(1 << domain.failures.min(16)).min(FAILED.1);
                domain.failures += 1;
                pause
            }
        };
        domain.next = self.awake.map(|_| now + pause);
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.domains.iter().filter_map(|domain| domain.next).min()
    }

    fn hints(&self, wanted: impl Fn(PeerId) -> bool, now: Instant) -> Vec<Hint> {
        let mut hints = Vec::new();
        for domain in &self.domains {
            let Some(until) = domain.until.filter(|until| *until > now) else { continue };
            let mut of: BTreeMap<PeerId, Vec<Multiaddr>> = BTreeMap::new();
            for address in &domain.found {
                let Some(peer) = peer_of(address).filter(|peer| wanted(*peer)) else { continue };
                let mut address = address.clone();
                address.pop();
                of.entry(peer).or_default().push(address);
            }
            let age = domain.looked_up.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
            hints.extend(of.into_iter().map(|(peer, addresses)| Hint {
                peer,
                addresses,
                source: Source::Dns,
                age,
                lasts: Some(until - now),
            }));
        }
        hints
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn at(port: u16, peer: PeerId) -> Multiaddr {
        format!("/ip4/203.0.113.7/tcp/{port}/p2p/{peer}").parse().unwrap()
    }

    fn says(addresses: Vec<Multiaddr>, seconds: u32) -> Option<Answer> {
        Some(Answer { addresses, lasts: seconds * S })
    }

    fn machine() -> (Machine, Instant) {
        (Machine::new(vec!["a.org".into()], Pace::PEERS), Instant::now())
    }

    #[test]
    fn nothing_is_looked_up_until_somebody_is_sought_and_then_it_is_a_hint_with_a_time() {
        let (mut machine, now) = machine();
        let (peer, other) = (PeerId::random(), PeerId::random());
        assert_eq!((machine.poll(now), machine.poll_timeout()), (None, None));
        assert!(machine.seek(peer, now).is_empty());
        assert_eq!(machine.poll(now).as_deref(), Some("a.org"));
        machine.answered("a.org", says(vec![at(1, peer), at(2, other)], 300), now);
        let address: Multiaddr = "/ip4/203.0.113.7/tcp/1".parse().unwrap();
        let hint = |age, lasts| Hint {
            peer,
            addresses: vec![address.clone()],
            source: Source::Dns,
            age,
            lasts: Some(lasts),
        };
        assert_eq!(machine.found(now), [hint(S * 0, 360 * S)]);
        assert_eq!(machine.found(now + 10 * S), [hint(10 * S, 350 * S)]);
        assert_eq!(machine.found(now + 360 * S), []);
    }

    #[test]
    fn records_are_looked_up_again_when_their_time_is_over_within_bounds() {
        for (ttl, pause) in [(0, 60), (300, 300), (99_999, 3600)] {
            let (mut machine, now) = machine();
            machine.seek(PeerId::random(), now);
            machine.poll(now);
            machine.answered("a.org", says(Vec::new(), ttl), now);
            assert_eq!(machine.poll_timeout(), Some(now + pause * S), "{ttl}");
        }
    }

    #[test]
    fn what_was_found_stays_in_force_while_dns_is_down_and_that_is_asked_ever_more_rarely() {
        let (mut machine, now) = machine();
        let peer = PeerId::random();
        machine.seek(peer, now);
        machine.poll(now);
        machine.answered("a.org", says(vec![at(1, peer)], 60), now);
        let mut at = now + 60 * S;
        for pause in [5, 10, 20, 40, 80, 160, 300, 300] {
            assert_eq!(machine.poll(at).as_deref(), Some("a.org"));
            machine.answered("a.org", None, at);
            assert_eq!(machine.found(at).len(), usize::from(at < now + 120 * S));
            assert_eq!(machine.poll_timeout(), Some(at + pause * S));
            at += pause * S;
        }
    }

    #[test]
    fn who_is_sought_later_is_known_at_once_or_looked_for_at_once() {
        let (mut machine, now) = machine();
        let (first, known, unknown) = (PeerId::random(), PeerId::random(), PeerId::random());
        machine.seek(first, now);
        machine.poll(now);
        machine.answered("a.org", says(vec![at(1, known)], 3600), now);
        assert_eq!(machine.seek(known, now + 40 * S).len(), 1);
        assert_eq!(machine.poll(now + 40 * S), None);
        machine.seek(unknown, now + 40 * S);
        assert!(machine.poll(now + 40 * S).is_some());
        machine.answered("a.org", says(Vec::new(), 3600), now + 40 * S);
        machine.seek(PeerId::random(), now + 41 * S);
        assert_eq!(machine.poll(now + 41 * S), None, "what was looked up a moment ago still holds");
    }

    #[test]
    fn when_nobody_is_sought_any_more_nothing_is_looked_up() {
        let (mut machine, now) = machine();
        let peer = PeerId::random();
        machine.seek(peer, now);
        machine.poll(now);
        machine.forget(peer);
        machine.answered("a.org", says(Vec::new(), 60), now);
        assert_eq!(machine.poll_timeout(), None);
        machine.seek(peer, now + 99 * S);
        assert!(machine.poll(now + 99 * S).is_some());
    }

    #[test]
    fn of_too_many_domains_only_the_first_are_asked() {
        let names = (0..99).map(|number| format!("{number}.org")).collect();
        let (mut machine, now) = (Machine::new(names, Pace::BOOTSTRAPS), Instant::now());
        machine.wake(now);
        assert_eq!(std::iter::from_fn(|| machine.poll(now)).count(), DOMAINS_MAX);
    }
}
