//! Twenty identities lie nearest to a key, of as many IP networks, and the publisher has noticed. Whom else does it give the
//! record, so that readers find it who know nothing of that?
//!
//! As `discovery/src/kad/region` does it: nodes of its own table, and those that lookups find of places beside the key.

use std::fmt;

use rand::{RngExt as _, SeedableRng as _, rngs::ChaCha8Rng};

use crate::key::Key;
use crate::lookup::{Network as _, Peer, Rules, look_up};
use crate::placement::{Attack, besieged};
use crate::population::Kind;

/// Who is given the record besides the 20 nearest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Also {
    /// Nobody.
    Nobody,
    /// Those of the publisher's table within the radius in which 20 peers are expected.
    Within,
    /// The 32 of its table that are nearest to the key.
    OfTable,
    /// Those, and the 20 nearest to each of three places beside the key.
    Beside,
}

impl Also {
    /// Each of them.
    pub const ALL: [Self; 4] = [Self::Nobody, Self::Within, Self::OfTable, Self::Beside];
}

impl fmt::Display for Also {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Nobody => "nobody",
            Self::Within => "table, within the radius of 20",
            Self::OfTable => "table, 32",
            Self::Beside => "table, 32; three places",
        })
    }
}

/// How often the attacker succeeds all the same.
#[derive(Debug, Clone, Copy)]
pub struct Hidden {
    /// Honest peers.
    pub peers: usize,
    /// Who else was told.
    pub also: Also,
    /// The share of readers that did not get the record.
    pub share: f64,
    /// Honest peers that were told, on average.
    pub told: f64,
}

/// Publishes a record under each of some keys among `peers` honest peers, and has others read it.
pub fn measure(peers: usize, also: Also, seed: u64) -> Hidden {
    let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 0x6372_6f77);
    let rules = Rules { paths: 3, ..Rules::kademlia(K) };
    let (mut hidden, mut told) = (0, 0);
    for round in 0..KEYS {
        let key = Key::random(&mut rng);
        let mut population = besieged(peers, Attack::of(K, K), key, seed + round as u64);
        let publisher = population.any_honest(&mut rng);
        // The publisher's estimate is off by a tenth and more.
        let radius = K as f64 / (peers as f64 * rng.random_range(0.85..1.15));
        let distance = |population: &crate::population::Population, peer: Peer| {
            population.key(peer).distance(key) as f64 / 2_f64.powi(64)
        };
        let mut holders = look_up(&mut population, publisher, key, &rules).nearest;
        match also {
            Also::Nobody => {}
            Also::Within => {
                let known = population.known(publisher, key, 64);
                holders.extend(known.into_iter().filter(|&peer| distance(&population, peer) <= radius));
            }
            Also::OfTable | Also::Beside => {
                let mut known = population.known(publisher, key, OF_TABLE);
                holders.append(&mut known);
            }
        }
        if also == Also::Beside {
            // The bit of the radius, and those on both sides of it.
            let bucket = (-radius.log2()).ceil() as u32;
            for bucket in [bucket, bucket - 1, bucket.saturating_sub(2)] {
                let place = key.random_in_bucket(bucket, &mut rng);
                holders.extend(nearest_of(&mut population, publisher, place, &rules));
            }
        }
        holders.retain(|&peer| population.kind(peer) == Kind::Honest);
        holders.sort_unstable();
        holders.dedup();
        told += holders.len();
        for _ in 0..READERS {
            let reader = population.any_honest(&mut rng);
            let outcome = look_up(&mut population, reader, key, &rules);
            let got = outcome.answered.iter().chain([&reader]).any(|peer| holders.contains(peer));
            hidden += usize::from(!got);
        }
    }
    let share = hidden as f64 / (KEYS * READERS) as f64;
    Hidden { peers, also, share, told: told as f64 / KEYS as f64 }
}

/// Of several paths a lookup ends with the nearest of each; the nearest of all are meant.
fn nearest_of(
    population: &mut crate::population::Population,
    asker: Peer,
    place: Key,
    rules: &Rules,
) -> Vec<Peer> {
    let mut found = look_up(population, asker, place, rules).nearest;
    found.sort_unstable_by_key(|&peer| population.key(peer).distance(place));
    found.dedup();
    found.truncate(K);
    found
}

const K: usize = 20;
/// As `OF_TABLE_MAX` of the real thing.
const OF_TABLE: usize = 32;
const KEYS: usize = 40;
const READERS: usize = 10;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::standard;

    #[test]
    fn most_readers_find_what_twenty_identities_hide_if_nodes_beside_it_were_told_too() {
        let hidden = |peers, also| {
            let mut rows = standard::crowd().iter();
            rows.find(|row| (row.peers, row.also) == (peers, also)).unwrap().share
        };
        for peers in [100, 1_000, 10_000] {
            assert!(hidden(peers, Also::Nobody) > 0.9, "{peers}");
            assert!(hidden(peers, Also::Beside) < 0.15, "{peers}: {}", hidden(peers, Also::Beside));
        }
        assert!(hidden(10_000, Also::Within) > 0.8, "a table has few of a large network");
    }
}
