//! How the bootstrap nodes do: each is asked something every half minute, and none is ever given up. Pure: `now` and chance
//! are arguments.

use std::time::{Duration, Instant};

use libp2p::{Multiaddr, PeerId};

use crate::Network;

/// Between two looks at a node that does well. One that hangs is down within 45 s: this, two questions of 5 s that are not
/// answered, and 2 s between them.
const EVERY: Duration = Duration::from_secs(30);

/// One that is down is looked at after a random part of this, doubled each time up to the second.
const DOWN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));

/// Looks in a row that failed: one may be chance.
const MISSES_TO_DOWN: u32 = 2;

/// Nodes that names stand for.
#[cfg(feature = "dns")]
const NAMED_MAX: usize = 32;
/// One whose round trip is so many times what it was is degraded.
const SLOW: u32 = 3;

/// Unless it is below this: on a short way a busy moment is as much.
const SLOW_MIN: Duration = Duration::from_millis(300);

/// How one does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// It was not looked at yet.
    Unknown,
    /// It answers.
    Healthy,
    /// It did not answer once, or is much slower than it was.
    Degraded,
    /// It does not answer, whether or not it takes connections.
    Down,
}

impl Health {
    /// Its name, for people and programs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::Down => "down",
        }
    }
}

/// One bootstrap node.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) address: Multiaddr,
    /// As the address says, or as its handshake proved.
    pub(crate) peer: Option<PeerId>,
    pub(crate) health: Health,
    pub(crate) round_trip: Option<Duration>,
    pub(crate) last_answer: Option<Instant>,
    pub(crate) misses: u32,
    /// Of which network it says that it is.
    pub(crate) network: Option<Network>,
    /// What its round trip is on average.
    baseline: Option<Duration>,
    next: Instant,
    /// Whether a name stands for it, which may stand for another one later.
    #[cfg_attr(not(feature = "dns"), allow(dead_code))]
    by_name: bool,
    /// How it did when that was told last.
    told: Health,
}

/// All bootstrap nodes that the operator named.
#[derive(Debug)]
pub(crate) struct Targets(Vec<Target>);

impl Targets {
    pub(crate) fn new(
        addresses: &[Multiaddr],
        peer_of: impl Fn(&Multiaddr) -> Option<PeerId>,
        now: Instant,
    ) -> Self {
        let target = |address: &Multiaddr| Target::new(address, peer_of(address), false, now);
        Self(addresses.iter().map(target).collect())
    }

    /// The operator's names stand for these now, and for no others.
    #[cfg(feature = "dns")]
    pub(crate) fn named(
        &mut self,
        addresses: &[Multiaddr],
        peer_of: impl Fn(&Multiaddr) -> Option<PeerId>,
        now: Instant,
    ) {
        let addresses = &addresses[..addresses.len().min(NAMED_MAX)];
        self.0.retain(|target| !target.by_name || addresses.contains(&target.address));
        for address in addresses {
            if !self.0.iter().any(|target| target.address == *address) {
                self.0.push(Target::new(address, peer_of(address), true, now));
            }
        }
    }

    pub(crate) fn all(&self) -> &[Target] {
        &self.0
    }

    /// The one to look at now. `chance`: below one.
    pub(crate) fn poll(&mut self, chance: f64, now: Instant) -> Option<&Target> {
        let target = self.0.iter_mut().find(|target| target.next <= now)?;
        target.next = now + target.pause(chance);
        Some(target)
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.0.iter().map(|target| target.next).min()
    }

    /// The node behind this address is this peer.
    pub(crate) fn proved(&mut self, address: &Multiaddr, peer: PeerId) {
        let of = |target: &&mut Target| target.peer.is_none() && is_at(&target.address, address);
        if let Some(target) = self.0.iter_mut().find(of) {
            target.peer = Some(peer);
        }
    }

    /// It answered a question.
    pub(crate) fn answered(&mut self, peer: PeerId, now: Instant) {
        for target in self.of(peer) {
            (target.misses, target.last_answer) = (0, Some(now));
            target.health = if target.is_slow() { Health::Degraded } else { Health::Healthy };
            target.next = now + EVERY;
        }
    }

    /// It says what it speaks, which names its network if it is one of ours.
    pub(crate) fn speaks(&mut self, peer: PeerId, protocol: &str) {
        let name = protocol.strip_prefix("/punchline/").and_then(|rest| rest.strip_suffix("/dht/1"));
        let network: Option<Network> = name.and_then(|name| name.parse().ok());
        self.of(peer).for_each(|target| target.network.clone_from(&network));
    }

    /// A ping came back. That tells how far it is, and not whether it answers questions.
    pub(crate) fn pinged(&mut self, peer: PeerId, round_trip: Duration) {
        for target in self.of(peer) {
            target.round_trip = Some(round_trip);
            let slow = target.is_slow();
            target.health = match target.health {
                Health::Healthy if slow => Health::Degraded,
                Health::Degraded if !slow && target.misses == 0 => Health::Healthy,
                health => health,
            };
            // What lasts becomes what is usual.
            let baseline = target.baseline.unwrap_or(round_trip);
            target.baseline = Some((baseline * 7 + round_trip) / 8);
        }
    }

    /// Whether a peer is one of them.
    pub(crate) fn has(&self, peer: PeerId) -> bool {
        self.0.iter().any(|target| target.peer == Some(peer))
    }

    /// One that does otherwise than was told last.
    pub(crate) fn poll_changed(&mut self) -> Option<&Target> {
        let target = self.0.iter_mut().find(|target| target.health != target.told)?;
        target.told = target.health;
        Some(target)
    }

    /// It did not answer a look: at one address, if it is said.
    pub(crate) fn missed(
        &mut self,
        peer: Option<PeerId>,
        address: Option<&Multiaddr>,
        chance: f64,
        now: Instant,
    ) {
        let is_meant = |target: &&mut Target| match (peer, address) {
            (Some(peer), Some(address)) => target.peer == Some(peer) && is_at(&target.address, address),
            (Some(peer), None) => target.peer == Some(peer),
            (None, Some(address)) => is_at(&target.address, address),
            (None, None) => false,
        };
        for target in self.0.iter_mut().filter(is_meant) {
            target.misses += 1;
            let down = target.misses >= MISSES_TO_DOWN || target.health == Health::Unknown;
            target.health = if down { Health::Down } else { Health::Degraded };
            target.next = now + target.pause(chance);
        }
    }

    /// Its connection ended. That says nothing, but it is looked at.
    pub(crate) fn closed(&mut self, peer: PeerId, now: Instant) {
        self.of(peer).for_each(|target| target.next = target.next.min(now + DOWN.0));
    }

    fn of(&mut self, peer: PeerId) -> impl Iterator<Item = &mut Target> {
        self.0.iter_mut().filter(move |target| target.peer == Some(peer))
    }
}

impl Target {
    fn new(address: &Multiaddr, peer: Option<PeerId>, by_name: bool, now: Instant) -> Self {
        Self {
            address: address.clone(),
            peer,
            health: Health::Unknown,
            round_trip: None,
            last_answer: None,
            misses: 0,
            network: None,
            baseline: None,
            next: now,
            by_name,
            told: Health::Unknown,
        }
    }

    fn is_slow(&self) -> bool {
        let (Some(baseline), Some(round_trip)) = (self.baseline, self.round_trip) else { return false };
        round_trip > SLOW_MIN && round_trip > baseline * SLOW
    }

    fn pause(&self, chance: f64) -> Duration {
        match self.misses {
            0 => EVERY,
            misses => {
                let most = DOWN.0.saturating_mul(1 << misses.min(16)).min(DOWN.1);
                most.mul_f64(chance).max(DOWN.0 / 2)
            }
        }
    }
}

/// Whether an address is that of a target, which may end in its id.
fn is_at(target: &Multiaddr, address: &Multiaddr) -> bool {
    let plain = |address: &Multiaddr| -> Multiaddr {
        let is_id =
            |part: &libp2p::multiaddr::Protocol<'_>| matches!(part, libp2p::multiaddr::Protocol::P2p(_));
        address.iter().filter(|part| !is_id(part)).collect()
    };
    plain(target) == plain(address)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn target() -> (Targets, PeerId, Instant) {
        let (peer, now) = (PeerId::random(), Instant::now());
        let address: Multiaddr = "/ip4/203.0.113.7/tcp/4001".parse().unwrap();
        (Targets::new(&[address], |_| Some(peer), now), peer, now)
    }

    #[test]
    fn one_miss_is_chance_and_two_are_not() {
        let (mut targets, peer, now) = target();
        assert!(targets.poll(0.5, now).is_some());
        targets.answered(peer, now);
        assert_eq!(targets.poll_changed().map(|target| target.health), Some(Health::Healthy));
        assert!(targets.poll_changed().is_none(), "it is told once");
        for health in [Health::Degraded, Health::Down] {
            targets.missed(Some(peer), None, 0.5, now);
            assert_eq!(targets.all()[0].health, health);
        }
        targets.answered(peer, now);
        assert_eq!(targets.all()[0].health, Health::Healthy);
    }

    #[test]
    fn one_that_hangs_is_down_within_45_s_though_it_takes_connections_and_returns_pings() {
        let (mut targets, peer, begun) = target();
        targets.poll(0.5, begun);
        targets.answered(peer, begun);
        // It hangs from now on; each question ends after its deadline.
        let mut now = begun;
        while targets.all()[0].health != Health::Down {
            now = targets.poll_timeout().unwrap();
            targets.pinged(peer, S / 100);
            assert!(targets.poll(0.999, now).is_some());
            now += crate::kad::asker::ANSWER_DEADLINE;
            targets.missed(Some(peer), None, 0.999, now);
        }
        assert!(now - begun <= 45 * S, "{:?}", now - begun);
    }

    #[test]
    fn one_that_became_three_times_slower_is_degraded_until_it_is_usual() {
        let (mut targets, peer, now) = target();
        targets.answered(peer, now);
        let health = |targets: &mut Targets, ms| {
            targets.pinged(peer, ms * S / 1000);
            targets.all()[0].health
        };
        assert_eq!(health(&mut targets, 100), Health::Healthy);
        assert_eq!(health(&mut targets, 250), Health::Healthy);
        assert_eq!(health(&mut targets, 500), Health::Degraded);
        targets.answered(peer, now);
        assert_eq!(targets.all()[0].health, Health::Degraded, "it answers, slowly");
        let usual = (1..20).position(|_| health(&mut targets, 500) == Health::Healthy);
        assert!(usual.is_some_and(|usual| usual < 10), "{usual:?}");
    }

    #[test]
    fn one_that_is_down_is_looked_at_again_for_ever_at_least_every_five_minutes() {
        let (mut targets, peer, begun) = target();
        let mut looks = 0;
        let mut now = begun;
        while now < begun + 3600 * S {
            if targets.poll(0.99, now).is_some() {
                looks += 1;
                targets.missed(Some(peer), None, 0.99, now);
                assert!(targets.poll_timeout().unwrap() <= now + 300 * S);
            }
            now = targets.poll_timeout().unwrap();
        }
        assert!((12..30).contains(&looks), "{looks}");
    }

    #[cfg(feature = "dns")]
    #[test]
    fn names_stand_for_other_nodes_later_and_the_operators_own_stay() {
        let (mut targets, peer, now) = target();
        let at = |port: usize| -> Multiaddr {
            format!("/ip4/203.0.113.9/tcp/{port}/p2p/{peer}").parse().unwrap()
        };
        let all = |targets: &Targets| -> Vec<Multiaddr> {
            targets.all().iter().skip(1).map(|target| target.address.clone()).collect()
        };
        targets.named(&[at(1), at(2)], |_| Some(peer), now);
        targets.answered(peer, now);
        assert_eq!(all(&targets), [at(1), at(2)]);
        targets.named(&[at(2), at(3)], |_| Some(peer), now);
        assert_eq!(all(&targets), [at(2), at(3)]);
        let health: Vec<Health> = targets.all().iter().map(|target| target.health).collect();
        assert_eq!(health, [Health::Healthy, Health::Healthy, Health::Unknown]);
        let many: Vec<Multiaddr> = (0..99).map(at).collect();
        targets.named(&many, |_| None, now);
        assert_eq!(targets.all().len(), 1 + NAMED_MAX);
    }

    #[test]
    fn one_whose_connection_ends_is_looked_at_in_a_second() {
        let (mut targets, peer, now) = target();
        targets.poll(0.5, now);
        targets.answered(peer, now);
        assert_eq!(targets.poll_timeout(), Some(now + EVERY));
        targets.closed(peer, now);
        assert_eq!(targets.poll_timeout(), Some(now + S));
    }
}
