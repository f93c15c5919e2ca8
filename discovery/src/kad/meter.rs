//! How often others are answered. Identities are free, so networks are counted beside them. Pure: `now` is an argument.

use std::{
    collections::HashMap,
    hash::Hash,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Instant,
};

use libp2p::PeerId;

/// Questions of one peer. In a small network a node sees all of them: 341 of whoever reads a large namespace, 512 of whoever
/// says that it has 256 things.
pub(super) const PER_PEER: Rate = Rate { per_second: 50.0, burst: 600.0 };

/// Questions of one network (IPv4 /24, IPv6 /48): those of five such peers.
pub(super) const PER_NETWORK: Rate = Rate { per_second: 250.0, burst: 3000.0 };

/// Peers, and networks, whose questions are counted. One more is not answered while all of these asked within seconds.
pub(super) const COUNTED_MAX: usize = 4096;

/// How often.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rate {
    /// In the long run.
    pub(super) per_second: f64,
    /// After a pause.
    pub(super) burst: f64,
}

#[derive(Debug)]
struct Allowance {
    left: f64,
    at: Instant,
}

#[derive(Debug)]
struct Counted<K> {
    rate: Rate,
    of: HashMap<K, Allowance>,
}

impl<K: Eq + Hash> Counted<K> {
    fn new(rate: Rate) -> Self {
        Self { rate, of: HashMap::new() }
    }

    /// What is left to this one; none if it cannot be counted.
    fn left(&mut self, key: K, now: Instant) -> Option<&mut f64> {
        let Rate { per_second, burst } = self.rate;
        let refilled = |allowance: &Allowance| {
            let passed = now.saturating_duration_since(allowance.at).as_secs_f64();
            (allowance.left + passed * per_second).min(burst)
        };
        if self.of.len() >= COUNTED_MAX && !self.of.contains_key(&key) {
            self.of.retain(|_, allowance| refilled(allowance) < burst);
            if self.of.len() >= COUNTED_MAX {
                return None;
            }
        }
        let allowance = self.of.entry(key).or_insert(Allowance { left: burst, at: now });
        *allowance = Allowance { left: refilled(allowance), at: now };
        Some(&mut allowance.left)
    }
}

/// Counts the questions of others.
#[derive(Debug)]
pub(super) struct Meter {
    peers: Counted<PeerId>,
    networks: Counted<IpAddr>,
}

impl Meter {
    pub(super) fn new() -> Self {
        Self { peers: Counted::new(PER_PEER), networks: Counted::new(PER_NETWORK) }
    }

    /// Whether a question is answered. `from`: none if the peer's address belongs to no network that is counted.
    pub(super) fn lets(&mut self, peer: PeerId, from: Option<IpAddr>, now: Instant) -> bool {
        let may = |left: &&mut f64| **left >= 1.0;
        // First the network: one that asks too much gets none of its identities counted.
        let of_network = match from {
            None => None,
            Some(from) => match self.networks.left(network(from), now).filter(may) {
                Some(left) => Some(left),
                None => return false,
            },
        };
        let Some(of_peer) = self.peers.left(peer, now).filter(may) else { return false };
        *of_peer -= 1.0;
        if let Some(left) = of_network {
            *left -= 1.0;
        }
        true
    }
}

/// What counts as one network.
fn network(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(ip) => Ipv4Addr::from(u32::from(ip) & !0xff).into(),
        IpAddr::V6(ip) => Ipv6Addr::from(u128::from(ip) >> 80 << 80).into(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Duration;

    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn a_peer_that_asks_without_end_is_answered_so_often_and_others_are_not_hindered() {
        let (mut meter, peer, now) = (Meter::new(), PeerId::random(), Instant::now());
        let answered =
            |meter: &mut Meter, now| (0..1000).filter(|_| meter.lets(peer, None, now)).count();
        assert_eq!(answered(&mut meter, now), 600);
        assert_eq!(answered(&mut meter, now + S), 50);
        assert!(meter.lets(PeerId::random(), None, now + S));
    }

    #[test]
    fn many_identities_of_one_network_are_answered_as_five() {
        let (mut meter, now) = (Meter::new(), Instant::now());
        let from = |host: u8| Some(IpAddr::from([203, 0, 113, host]));
        let asks = |number: u32| meter.lets(PeerId::random(), from(number as u8), now);
        assert_eq!((0..4000).map(asks).filter(|answered| *answered).count(), 3000);
        assert!(meter.lets(PeerId::random(), Some(IpAddr::from([198, 51, 100, 1])), now));
        let mut meter = Meter::new();
        let of_site =
            |number: u128| Some(IpAddr::from(Ipv6Addr::from((0x2001_0470_0001 << 80) | number)));
        let asks = |number: u128| meter.lets(PeerId::random(), of_site(number << 40), now);
        assert_eq!((0..4000).map(asks).filter(|answered| *answered).count(), 3000);
    }

    #[test]
    fn what_is_counted_is_bounded_and_forgotten_when_it_makes_no_difference() {
        let (mut meter, now) = (Meter::new(), Instant::now());
        for _ in 0..COUNTED_MAX {
            assert!(meter.lets(PeerId::random(), None, now));
        }
        assert!(!meter.lets(PeerId::random(), None, now), "one too many");
        assert_eq!(meter.peers.of.len(), COUNTED_MAX);
        assert!(meter.lets(PeerId::random(), None, now + S));
        assert_eq!(meter.peers.of.len(), 1);
    }
}
