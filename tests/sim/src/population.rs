//! A network at rest: everybody has been there for long, and its table is a sample of who there is.
//!
//! No table is kept. That of a peer is drawn anew from the seed and the peer's number whenever it is asked, and is the
//! same each time; so 100,000 peers cost their keys.

use std::collections::BTreeMap;
use std::ops::Range;

use rand::{RngExt as _, SeedableRng as _, rngs::ChaCha8Rng, seq::index};

use crate::key::{Key, nearest};
use crate::lookup::{Network, Peer};

/// What a peer is worth to those who ask it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Answers with the nearest of its table.
    Honest,
    /// Does not answer, though tables name it.
    Dead,
    /// Answers with the nearest of its own kind, whoever is nearer.
    Liar,
}

/// How many peers of one IP network a table takes.
#[derive(Debug, Clone, Copy)]
pub struct TableLimits {
    /// Of one bucket.
    pub bucket_max: usize,
    /// Of the whole table.
    pub table_max: usize,
}

/// Who there is, in the order of their keys.
#[derive(Debug)]
pub struct Population {
    seed: u64,
    k: usize,
    keys: Vec<Key>,
    kinds: Vec<Kind>,
    groups: Vec<u32>,
    liars: Vec<Key>,
    limits: Option<TableLimits>,
}

impl Population {
    /// So many honest peers with random keys, each of an IP network of its own, and buckets of `k`.
    pub fn honest(count: usize, k: usize, seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        Self::new((0..count).map(|_| (Key::random(&mut rng), Kind::Honest, None)), k, seed)
    }

    /// These peers, each with the IP network that it shares with others if it does.
    pub fn new(peers: impl IntoIterator<Item = (Key, Kind, Option<u32>)>, k: usize, seed: u64) -> Self {
        let mut peers: Vec<_> = peers.into_iter().collect();
        peers.sort_unstable_by_key(|&(key, ..)| key);
        let keys: Vec<_> = peers.iter().map(|&(key, ..)| key).collect();
        let kinds = peers.iter().map(|&(_, kind, _)| kind).collect();
        // Numbers of shared networks are small; those of peers that share none begin behind them.
        let own =
            |number: usize| SHARED_GROUPS_MAX + u32::try_from(number).expect("fewer than 2^31 peers");
        let group = |(number, &(.., shared)): (usize, &(Key, Kind, Option<u32>))| {
            shared.unwrap_or_else(|| own(number))
        };
        let groups = peers.iter().enumerate().map(group).collect();
        let mut population = Self { seed, k, keys, kinds, groups, liars: Vec::new(), limits: None };
        population.note_liars();
        population
    }

    /// Makes each peer of this kind with this probability.
    pub fn turn(&mut self, share: f64, kind: Kind) {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed ^ 0x7475_726e);
        for each in &mut self.kinds {
            if rng.random_bool(share) {
                *each = kind;
            }
        }
        self.note_liars();
    }

    /// Limits what tables take of one IP network.
    pub fn limit_tables(&mut self, limits: TableLimits) {
        self.limits = Some(limits);
    }

    /// How many peers there are.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether nobody is there.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// What a peer is worth.
    pub fn kind(&self, peer: Peer) -> Kind {
        self.kinds[peer.index()]
    }

    /// The peers nearest to a key, whatever they are.
    pub fn nearest(&self, target: Key, count: usize) -> Vec<Peer> {
        nearest(&self.keys, target, count).into_iter().map(peer).collect()
    }

    /// The peer nearest to a key of those that are not dead.
    pub fn nearest_alive(&self, target: Key) -> Option<Peer> {
        let near = self.nearest(target, self.len().min(256));
        near.into_iter().find(|&peer| self.kind(peer) != Kind::Dead)
    }

    /// How many peers the tables hold on average.
    pub fn mean_table(&self) -> f64 {
        let size =
            |number| self.buckets(number).iter().map(|range| range.len().min(self.k)).sum::<usize>();
        (0..self.len()).map(size).sum::<usize>() as f64 / self.len() as f64
    }

    /// An honest peer.
    pub fn any_honest(&self, rng: &mut ChaCha8Rng) -> Peer {
        loop {
            let one = peer(rng.random_range(0..self.len()));
            if self.kind(one) == Kind::Honest {
                return one;
            }
        }
    }

    fn note_liars(&mut self) {
        let liars = self.keys.iter().zip(&self.kinds).filter(|&(_, kind)| *kind == Kind::Liar);
        self.liars = liars.map(|(&key, _)| key).collect();
    }

    /// Who may be in each bucket of a peer, the farthest bucket first.
    fn buckets(&self, number: usize) -> Vec<Range<usize>> {
        let own = self.keys[number];
        let (mut low, mut high) = (0, self.keys.len());
        let mut buckets = Vec::new();
        for bit in (0..Key::BITS).rev() {
            if high - low <= 1 {
                break;
            }
            let split = low + self.keys[low..high].partition_point(|key| key.0 >> bit & 1 == 0);
            let (same, other) = match own.0 >> bit & 1 {
                0 => (low..split, split..high),
                _ => (split..high, low..split),
            };
            buckets.push(other);
            (low, high) = (same.start, same.end);
        }
        buckets
    }

    /// The table of a peer: of each bucket `k` at most, drawn from who may be in it.
    fn table(&self, number: usize) -> Vec<usize> {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed.wrapping_add((number as u64) << 20));
        let mut table = Vec::new();
        let mut of_table = BTreeMap::new();
        for range in self.buckets(number) {
            match self.limits {
                None if range.len() <= self.k => table.extend(range),
                None => {
                    let drawn = index::sample(&mut rng, range.len(), self.k);
                    table.extend(drawn.into_iter().map(|index| range.start + index));
                }
                Some(limits) => {
                    let order = index::sample(&mut rng, range.len(), range.len());
                    let order = order.into_iter().map(|index| range.start + index);
                    self.fill_within(limits, order, &mut of_table, &mut table);
                }
            }
        }
        table
    }

    /// Fills a bucket in this order, as far as the limits allow.
    fn fill_within(
        &self,
        limits: TableLimits,
        order: impl Iterator<Item = usize>,
        of_table: &mut BTreeMap<u32, usize>,
        table: &mut Vec<usize>,
    ) {
        let mut of_bucket: BTreeMap<u32, usize> = BTreeMap::new();
        let mut room = self.k;
        for number in order {
            let group = self.groups[number];
            let (bucket, whole) =
                (of_bucket.entry(group).or_default(), of_table.entry(group).or_default());
            if *bucket < limits.bucket_max && *whole < limits.table_max {
                *bucket += 1;
                *whole += 1;
                table.push(number);
                room -= 1;
            }
            if room == 0 {
                return;
            }
        }
    }

    fn nearest_of_table(&self, number: usize, target: Key, count: usize) -> Vec<Peer> {
        let mut table = self.table(number);
        let distance = |&number: &usize| self.keys[number].distance(target);
        if table.len() > count {
            table.select_nth_unstable_by_key(count, distance);
            table.truncate(count);
        }
        table.into_iter().map(peer).collect()
    }
}

impl Network for Population {
    fn key(&self, peer: Peer) -> Key {
        self.keys[peer.index()]
    }

    fn group(&self, peer: Peer) -> u32 {
        self.groups[peer.index()]
    }

    fn known(&mut self, asker: Peer, target: Key, count: usize) -> Vec<Peer> {
        self.nearest_of_table(asker.index(), target, count)
    }

    fn ask(&mut self, _asker: Peer, asked: Peer, target: Key, count: usize) -> Option<Vec<Peer>> {
        match self.kind(asked) {
            Kind::Honest => Some(self.nearest_of_table(asked.index(), target, count)),
            Kind::Dead => None,
            Kind::Liar => {
                let of_liars = nearest(&self.liars, target, count).into_iter();
                let number = |index: usize| self.keys.binary_search(&self.liars[index]).expect("a peer");
                Some(of_liars.map(number).map(peer).collect())
            }
        }
    }
}

fn peer(number: usize) -> Peer {
    Peer(u32::try_from(number).expect("fewer than 2^32 peers"))
}

/// More IP networks than any attacker of this crate has.
const SHARED_GROUPS_MAX: u32 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_the_same_each_time_and_holds_k_of_a_bucket_at_most() {
        let population = Population::honest(1_000, 8, 1);
        for number in [0, 500, 999] {
            let table = population.table(number);
            assert_eq!(table, population.table(number));
            let mut of_buckets = BTreeMap::<u32, usize>::new();
            for other in table {
                assert_ne!(other, number);
                *of_buckets
                    .entry(population.keys[number].bucket(population.keys[other]))
                    .or_default() += 1;
            }
            assert!(of_buckets.values().all(|&count| count <= 8), "{of_buckets:?}");
        }
    }

    #[test]
    fn a_limited_table_takes_no_more_of_one_ip_network_than_it_may() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let peers: Vec<_> = (0..500)
            .map(|number| (Key::random(&mut rng), Kind::Honest, (number < 250).then_some(7)))
            .collect();
        let mut population = Population::new(peers, 20, 1);
        population.limit_tables(TableLimits { bucket_max: 2, table_max: 3 });
        for number in 0..500 {
            let of_it =
                population.table(number).into_iter().filter(|&other| population.groups[other] == 7);
            assert!(of_it.count() <= 3);
        }
    }
}
