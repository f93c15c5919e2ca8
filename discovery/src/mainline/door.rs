//! Who is answered how often, and who may write. Pure: `now` is an argument.
//!
//! Where a packet comes from is whatever its sender wrote there. So no address is answered so often that answers
//! could flood it, and only who received a token at an address may write from there.

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use super::id::Id;

/// Queries from one address that are answered in a second, and at once after silence. A lookup asks a node once; 32 leave
/// room for a crowd behind one NAT, and are 46 KiB of answers a second at most.
pub(super) const ANSWERS_PER_IP: Rate = Rate { per_second: 32, burst: 64 };

/// Queries that are answered in a second in all: a tenth of a core if all of them bring signatures.
pub(super) const ANSWERS: Rate = Rate { per_second: 1000, burst: 2000 };

/// Addresses whose queries are counted. From one more, nothing is answered while all of these asked within seconds.
const SOURCES_MAX: usize = 4096;

/// A token is good for this long, and as long again (BEP 5).
const TOKEN_LASTS: Duration = Duration::from_secs(5 * 60);

/// Bytes of a token.
const TOKEN_BYTES: usize = 8;

/// How often something may be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// In a second, in the long run.
    pub per_second: u32,
    /// At once, after a pause.
    pub burst: u32,
}

impl Rate {
    fn filled(self, now: Instant) -> Allowance {
        Allowance { left: f64::from(self.burst), at: now }
    }

    fn refill(self, allowance: &mut Allowance, now: Instant) {
        let passed = now.saturating_duration_since(allowance.at).as_secs_f64();
        allowance.left =
            (allowance.left + passed * f64::from(self.per_second)).min(f64::from(self.burst));
        allowance.at = now;
    }
}

#[derive(Clone, Copy, Debug)]
struct Allowance {
    left: f64,
    at: Instant,
}

impl Allowance {
    fn take(&mut self) -> bool {
        let may = self.left >= 1.0;
        if may {
            self.left -= 1.0;
        }
        may
    }
}

pub(super) struct Door {
    per_ip: Rate,
    all: Rate,
    left: Allowance,
    sources: BTreeMap<Ipv4Addr, Allowance>,
    secret: [u8; 32],
    began: Instant,
}

impl Door {
    /// `secret`: random, and nobody else's.
    pub(super) fn new(per_ip: Rate, all: Rate, secret: [u8; 32], now: Instant) -> Self {
        Self { per_ip, all, left: all.filled(now), sources: BTreeMap::new(), secret, began: now }
    }

    /// Whether a query from there is answered.
    pub(super) fn lets_in(&mut self, ip: Ipv4Addr, now: Instant) -> bool {
        if !self.sources.contains_key(&ip) && self.sources.len() >= SOURCES_MAX {
            let per_ip = self.per_ip;
            self.sources.retain(|_, allowance| {
                per_ip.refill(allowance, now);
                allowance.left < f64::from(per_ip.burst)
            });
            if self.sources.len() >= SOURCES_MAX {
                return false;
            }
        }
        self.all.refill(&mut self.left, now);
        if self.left.left < 1.0 {
            return false;
        }
        let allowance = self.sources.entry(ip).or_insert_with(|| self.per_ip.filled(now));
        self.per_ip.refill(allowance, now);
        allowance.take() && self.left.take()
    }

    /// What lets write whoever is at this address.
    pub(super) fn token(&self, ip: Ipv4Addr, now: Instant) -> Vec<u8> {
        self.token_of(ip, self.period(now))
    }

    /// Whether it was given to this address a short while ago.
    pub(super) fn knows(&self, token: &[u8], ip: Ipv4Addr, now: Instant) -> bool {
        let period = self.period(now);
        [Some(period), period.checked_sub(1)]
            .into_iter()
            .flatten()
            .any(|period| token == self.token_of(ip, period))
    }

    fn period(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.began).as_secs() / TOKEN_LASTS.as_secs()
    }

    fn token_of(&self, ip: Ipv4Addr, period: u64) -> Vec<u8> {
        let hash = Id::hash(&[&self.secret, &period.to_be_bytes(), &ip.octets(), &self.secret]);
        hash.as_bytes()[..TOKEN_BYTES].to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn ip(number: u32) -> Ipv4Addr {
        Ipv4Addr::from(0x0a00_0000 + number)
    }

    fn door() -> (Door, Instant) {
        let now = Instant::now();
        (Door::new(ANSWERS_PER_IP, ANSWERS, [7; 32], now), now)
    }

    #[test]
    fn a_flood_from_one_address_is_answered_at_a_pace_and_others_as_before() {
        let (mut door, now) = door();
        let answered = |door: &mut Door, at| (0..1000).filter(|_| door.lets_in(ip(1), at)).count();
        assert_eq!(answered(&mut door, now), 64);
        assert!(door.lets_in(ip(2), now));
        assert_eq!(answered(&mut door, now + S), 32);
        assert_eq!(answered(&mut door, now + 100 * S), 64);
    }

    #[test]
    fn a_flood_from_many_addresses_is_answered_at_a_pace() {
        let (mut door, now) = door();
        let answered =
            |door: &mut Door, at| (0..4000).filter(|number| door.lets_in(ip(*number), at)).count();
        assert_eq!(answered(&mut door, now), 2000);
        assert_eq!(answered(&mut door, now + S), 1000);
    }

    #[test]
    fn no_more_addresses_are_counted_than_the_limit_and_silent_ones_make_room() {
        let now = Instant::now();
        let all = Rate { per_second: 1_000_000, burst: 1_000_000 };
        let mut door = Door::new(ANSWERS_PER_IP, all, [7; 32], now);
        let max = SOURCES_MAX as u32;
        assert!((0..max).all(|number| door.lets_in(ip(number), now)));
        assert!(!door.lets_in(ip(max), now));
        assert!(door.lets_in(ip(0), now), "whoever is counted still is");
        assert!(door.lets_in(ip(max), now + S));
        assert!(door.sources.len() <= SOURCES_MAX);
    }

    #[test]
    fn a_token_is_good_at_its_address_for_five_minutes_and_not_for_ten() {
        let (door, now) = door();
        let token = door.token(ip(1), now);
        let knows = |address, at| door.knows(&token, address, at);
        assert!(knows(ip(1), now) && knows(ip(1), now + TOKEN_LASTS));
        assert!(!knows(ip(1), now + 2 * TOKEN_LASTS));
        assert!(!knows(ip(2), now));
        assert!(!door.knows(b"", ip(1), now));
    }

    #[test]
    fn a_token_of_one_address_tells_nothing_of_another_s() {
        let (door, now) = door();
        let token = |number| -> Vec<u8> { door.token(ip(number), now) };
        let difference =
            |a: u32, b: u32| -> Vec<u8> { token(a).iter().zip(token(b)).map(|(a, b)| a ^ b).collect() };
        assert_ne!(difference(0, 1), difference(2, 3), "as it would be with a checksum");
    }
}
