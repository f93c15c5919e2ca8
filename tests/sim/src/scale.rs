//! How much work a lookup is, by the number of peers, and what dead peers add.

use rand::{RngExt as _, SeedableRng as _, rngs::ChaCha8Rng};

use crate::key::Key;
use crate::lookup::{Peer, Rules, look_up};
use crate::population::{Kind, Population};

/// What lookups of random keys by random peers came to, on average.
#[derive(Debug, Clone, Copy)]
pub struct Work {
    /// How many peers there are, dead ones too.
    pub peers: usize,
    /// The size of buckets and answers.
    pub k: usize,
    /// How many peers a table holds.
    pub table: f64,
    /// How many hops away the nearest peer is: 1 if the asker knew it.
    pub hops: f64,
    /// The most hops of any lookup.
    pub hops_max: u32,
    /// How many answered before one named the nearest peer.
    pub requests_to_hear: f64,
    /// How many were asked in all, until the `k` nearest had answered.
    pub requests: f64,
    /// How many lookups ended with the peer that is nearest of all.
    pub found: usize,
    /// How many lookups there were.
    pub lookups: usize,
}

/// Looks `lookups` random keys up among `peers` peers.
pub fn measure(peers: usize, k: usize, lookups: usize, seed: u64) -> Work {
    over(&mut Population::honest(peers, k, seed), k, lookups, seed)
}

/// The same where a share of all peers is dead, and tables still name them.
pub fn measure_dead(peers: usize, k: usize, dead: f64, lookups: usize, seed: u64) -> Work {
    let mut population = Population::honest(peers, k, seed);
    population.turn(dead, Kind::Dead);
    over(&mut population, k, lookups, seed)
}

fn over(population: &mut Population, k: usize, lookups: usize, seed: u64) -> Work {
    let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 0x6c6f_6f6b);
    let peers = population.len();
    let mut work = Work {
        peers,
        k,
        table: population.mean_table(),
        hops: 0.0,
        hops_max: 0,
        requests_to_hear: 0.0,
        requests: 0.0,
        found: 0,
        lookups,
    };
    for _ in 0..lookups {
        let (asker, target, nearest) = question(population, &mut rng);
        let outcome = look_up(population, asker, target, &Rules::kademlia(k));
        work.requests += outcome.requests as f64 / lookups as f64;
        if outcome.nearest.first() == Some(&nearest) {
            work.found += 1;
        }
        if let Some(sighting) = outcome.sighting(nearest) {
            work.hops += f64::from(sighting.hops) / lookups as f64;
            work.hops_max = work.hops_max.max(sighting.hops);
            work.requests_to_hear += sighting.answers_before as f64 / lookups as f64;
        }
    }
    work
}

/// Who looks what up, and who is nearest to it: not the asker itself.
fn question(population: &Population, rng: &mut ChaCha8Rng) -> (Peer, Key, Peer) {
    loop {
        let (asker, target) = (population.any_honest(rng), Key(rng.random()));
        match population.nearest_alive(target) {
            Some(nearest) if nearest != asker => return (asker, target, nearest),
            _ => {}
        }
    }
}

/// A straight line through points: `y = at_zero + rise · x`.
#[derive(Debug, Clone, Copy)]
pub struct Line {
    /// Where it is at 0.
    pub at_zero: f64,
    /// What one more of `x` adds.
    pub rise: f64,
    /// How much of the differences between the points it explains, at most 1 (R²).
    pub fit: f64,
}

/// The line of least squares through these values over the binary logarithm of the number of peers.
pub fn by_doubling(rows: &[Work], value: impl Fn(&Work) -> f64) -> Line {
    let points: Vec<_> = rows.iter().map(|row| ((row.peers as f64).log2(), value(row))).collect();
    let count = points.len() as f64;
    let mean_x = points.iter().map(|(x, _)| x).sum::<f64>() / count;
    let mean_y = points.iter().map(|(_, y)| y).sum::<f64>() / count;
    let spread_x = points.iter().map(|(x, _)| (x - mean_x).powi(2)).sum::<f64>();
    let spread_y = points.iter().map(|(_, y)| (y - mean_y).powi(2)).sum::<f64>();
    let shared = points.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum::<f64>();
    let rise = shared / spread_x;
    Line { at_zero: mean_y - rise * mean_x, rise, fit: shared.powi(2) / (spread_x * spread_y) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::standard;

    type Known = (usize, usize, f64, f64, Option<[f64; 2]>);

    /// Peers, k, table, hops, answers until the nearest is heard of, requests in all: what an independent program measured for
    /// this model.
    const KNOWN: [Known; 12] = [
        (100, 20, 64.3, 1.34, Some([0.34, 20.0])),
        (1_000, 20, 130.7, 1.89, Some([1.00, 21.5])),
        (5_000, 20, 177.5, 2.26, Some([1.97, 22.6])),
        (10_000, 20, 197.5, 2.42, Some([2.41, 22.9])),
        (50_000, 20, 243.9, 2.77, Some([3.42, 24.0])),
        (100_000, 20, 263.9, 2.91, Some([3.88, 24.6])),
        (300, 8, 48.6, 1.91, None),
        (1_000, 8, 62.5, 2.25, None),
        (10_000, 8, 89.2, 2.89, None),
        (100_000, 8, 115.7, 3.54, None),
        (1_000, 4, 34.9, 2.65, None),
        (100_000, 4, 61.5, 4.19, None),
    ];

    #[test]
    fn tables_hops_and_requests_are_those_that_were_measured_elsewhere() {
        let mut wrong = Vec::new();
        for (peers, k, table, hops, requests) in KNOWN {
            let row = standard::scale().iter().find(|row| (row.peers, row.k) == (peers, k));
            let work = row.expect("a row for each that is known");
            let mut compare = |what: &str, is: f64, should: f64, tolerance: f64| {
                if (is - should).abs() > tolerance {
                    wrong.push(format!("{peers} peers, k {k}: {what} {is:.2}, not {should:.2}"));
                }
            };
            compare("table", work.table, table, table * 0.02);
            compare("hops", work.hops, hops, 0.08);
            if let Some([to_hear, all]) = requests {
                compare("requests to hear", work.requests_to_hear, to_hear, 0.2);
                compare("requests", work.requests, all, 0.6);
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    #[test]
    fn every_lookup_of_a_network_at_rest_finds_the_nearest_peer_of_all() {
        let lost = |row: &&Work| row.found != row.lookups;
        assert_eq!(standard::scale().iter().filter(lost).count(), 0);
    }

    #[test]
    fn hops_rise_by_less_than_a_third_with_each_doubling_and_on_a_straight_line() {
        for k in standard::BUCKETS {
            let rows: Vec<_> = standard::scale().iter().filter(|row| row.k == k).copied().collect();
            let line = by_doubling(&rows, |row| row.hops);
            assert!(line.fit > 0.98 && line.rise < 0.3, "k {k}: {line:?}");
        }
    }

    #[test]
    fn half_of_all_peers_dead_costs_requests_and_no_lookup() {
        for ((dead, work), (share, hops, requests)) in
            standard::dead().iter().zip([(0.3, 2.53, 33.0), (0.5, 2.70, 46.2)])
        {
            assert_eq!((*dead, work.found), (share, work.lookups));
            assert!((work.hops - hops).abs() < 0.1, "{work:?}");
            assert!((work.requests - requests).abs() < requests * 0.04, "{work:?}");
        }
    }

    #[test]
    fn one_seed_gives_the_same_figures_each_time() {
        let [one, two] = [(); 2].map(|()| format!("{:?}", measure(300, 8, 200, 4)));
        assert_eq!(one, two);
        assert_ne!(one, format!("{:?}", measure(300, 8, 200, 5)));
    }
}
