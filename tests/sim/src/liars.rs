//! A share of all peers lies: whoever asks one hears of liars alone, and no liar gives out what it stores.

use rand::{RngExt as _, SeedableRng as _, rngs::ChaCha8Rng};

use crate::key::Key;
use crate::lookup::{Rules, look_up};
use crate::population::{Kind, Population};

/// How often a record is found that lies at the 20 peers nearest to its key, liars among them.
#[derive(Debug, Clone, Copy)]
pub struct Read {
    /// How many peers there are.
    pub peers: usize,
    /// The share of them that lies.
    pub lying: f64,
    /// By how many paths it is looked for.
    pub paths: usize,
    /// How many each path asks at once.
    pub alpha: usize,
    /// The share of lookups that asked an honest peer which holds it.
    pub found: f64,
    /// How many were asked, on average.
    pub requests: f64,
}

/// By how many paths, and how many each asks at once: as usual; asking as many as libp2p's three paths do; those.
pub const WAYS: [(usize, usize); 3] = [(1, 3), (1, 9), (3, 3)];

/// Looks `lookups` random records up.
pub fn measure(
    peers: usize,
    lying: f64,
    (paths, alpha): (usize, usize),
    lookups: usize,
    seed: u64,
) -> Read {
    let mut population = Population::honest(peers, K, seed);
    population.turn(lying, Kind::Liar);
    let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 0x6c69_6172);
    let rules = Rules { paths, alpha, ..Rules::kademlia(K) };
    let (mut found, mut requests) = (0, 0);
    for _ in 0..lookups {
        let (asker, target) = (population.any_honest(&mut rng), Key(rng.random()));
        let holders = population.nearest(target, K);
        let outcome = look_up(&mut population, asker, target, &rules);
        let holds = |peer| population.kind(peer) == Kind::Honest && holders.contains(&peer);
        found += usize::from(holds(asker) || outcome.answered.iter().any(|&peer| holds(peer)));
        requests += outcome.requests;
    }
    let average = |sum: usize| sum as f64 / lookups as f64;
    Read { peers, lying, paths, alpha, found: average(found), requests: average(requests) }
}

const K: usize = 20;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::standard;

    #[test]
    fn separate_paths_find_more_where_a_fifth_of_all_peers_lies() {
        let found = |way| {
            let mut rows = standard::liars().iter();
            let of = |row: &&Read| (row.peers, row.lying, (row.paths, row.alpha)) == (10_000, 0.2, way);
            rows.find(of).unwrap().found
        };
        let [usual, hasty, separate] = WAYS.map(found);
        assert!(separate > usual && separate >= hasty, "{usual} {hasty} {separate}");
        assert!(usual > 0.95 && separate > 0.99, "{usual} {separate}");
    }
}
