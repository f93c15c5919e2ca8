//! How the bootstrap nodes do: each is looked at every half minute, and none is ever given up. Pure: `now` and chance are
//! arguments.

use std::time::{Duration, Instant};

use libp2p::{Multiaddr, PeerId};

/// Between two looks at a node that does well. What hangs is noticed in 45 s: this, and a ping that is not answered.
const EVERY: Duration = Duration::from_secs(30);

/// One that is down is looked at after a random part of this, doubled each time up to the second.
const DOWN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));

/// Looks in a row that failed: one may be chance.
const MISSES_TO_DOWN: u32 = 2;

/// Nodes that names stand for.
#[cfg(feature = "dns")]
const NAMED_MAX: usize = 32;

/// How one does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// It was not looked at yet.
    Unknown,
    /// It answers.
    Healthy,
    /// It did not answer once.
    Degraded,
    /// It does not answer.
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
    next: Instant,
    /// Whether a name stands for it, which may stand for another one later.
    by_name: bool,
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

    /// It answered.
    pub(crate) fn answered(&mut self, peer: PeerId, round_trip: Option<Duration>, now: Instant) {
        for target in self.of(peer) {
            (target.health, target.misses, target.last_answer) = (Health::Healthy, 0, Some(now));
            target.round_trip = round_trip.or(target.round_trip);
            target.next = now + EVERY;
        }
    }

    /// It did not answer a look.
    pub(crate) fn missed(
        &mut self,
        peer: Option<PeerId>,
        address: Option<&Multiaddr>,
        chance: f64,
        now: Instant,
    ) {
        let is_meant = |target: &&mut Target| match (peer, address) {
            (Some(peer), _) => target.peer == Some(peer),
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
            next: now,
            by_name,
        }
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
        targets.answered(peer, Some(S / 10), now);
        for health in [Health::Degraded, Health::Down] {
            targets.missed(Some(peer), None, 0.5, now);
            assert_eq!(targets.all()[0].health, health);
        }
        targets.answered(peer, None, now);
        let all = targets.all();
        assert_eq!((all[0].health, all[0].round_trip), (Health::Healthy, Some(S / 10)));
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
        targets.answered(peer, None, now);
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
        targets.answered(peer, None, now);
        assert_eq!(targets.poll_timeout(), Some(now + EVERY));
        targets.closed(peer, now);
        assert_eq!(targets.poll_timeout(), Some(now + S));
    }
}
