//! Whether the nodes nearest to a key are too many to have come there by chance. Pure.
//!
//! Whoever wants nobody to find what is under a key makes identities that lie nearer to it than all others, 20 of them, since 20
//! nodes keep it. Honest identities lie anywhere. So in a network of *N* nodes the distance *d* of the 20th nearest, as a share of
//! all distances, makes *N·d* a Gamma variable of shape 20: so many nodes are expected within *d*. It is 20 on average, and below 6
//! once in 190,000 times, if *N* is known. Who has 20 places has the honest nodes beyond *d*: *N·d* is below what the nearest of
//! them has, which is below 6 but for e⁻⁶ = 0.25 % of all keys.
//!
//! *N* is estimated by lookups of places that were drawn. A lookup says *(20 − 1)/d*, which is right on average and off by 23 % once
//! in three times; the median of 8 and more is off by a tenth. With that an honest neighbourhood is called too dense twice in
//! 100,000 times (`an_honest_network_…` counts). It stays so while the same nodes are there: judgements that follow each other are
//! not independent, and three in a row only keep out a lookup that went wrong.
//!
//! Only nodes that answered count, so nobody gains by naming invented ones. Half of the places that were drawn would have to be
//! crowded to deceive the median, which takes as many identities as there are nodes.

use std::collections::VecDeque;

use libp2p::kad::{self, KBucketDistance, KBucketKey};

/// The nodes nearest to a key that are looked at: as many keep what is under it.
pub(super) const NEAREST: usize = kad::K_VALUE.get();

/// Where 20 are and fewer than this are expected, they did not come by chance.
const CHANCE_MIN: f64 = 6.0;

/// Places that are to be drawn before anything is judged: with fewer the estimate is off by more than the above allows for.
const SAMPLES_MIN: usize = 8;

/// And the latest of which the median is taken: two hours' lookups, so that it follows a network that grows.
const SAMPLES_MAX: usize = 24;

/// In a smaller network a third of all is near to everything: nothing is judged there.
const NODES_MIN: f64 = 64.0;

/// Judgements in a row that begin an alarm, or end it.
const IN_A_ROW: u32 = 3;

/// Places that are drawn until one lies where it is to: a tenth of the nodes, so enough for half a million of them.
const DRAWS_MAX: usize = 1 << 16;

/// What changed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Change {
    /// The place is too dense. `expected`: nodes that would be there by chance, where 20 are; `nodes`: in the whole network.
    Began { expected: f64, nodes: f64 },
    /// It is not any more.
    Ended,
}

/// How dense the place of one key is.
#[derive(Debug, Default)]
pub(super) struct Density {
    /// What each lookup of a drawn place says of the number of nodes, the latest last.
    samples: VecDeque<f64>,
    alarm: bool,
    /// Judgements in a row against what is said now.
    against: u32,
}

impl Density {
    /// A place was drawn, and these are the distances of the nodes nearest to it, the nearest first. All that were asked
    /// answered, or are not there.
    pub(super) fn sampled(&mut self, nearest: &[f64]) {
        let nodes = match nearest.get(NEAREST - 1) {
            Some(&farthest) if farthest > 0.0 => (NEAREST - 1) as f64 / farthest,
            Some(_) => return,
            // So few are there.
            None => nearest.len() as f64,
        };
        if self.samples.len() >= SAMPLES_MAX {
            self.samples.pop_front();
        }
        self.samples.push_back(nodes);
    }

    /// About so many nodes are in the network; none while too few places were drawn.
    pub(super) fn nodes(&self) -> Option<f64> {
        if self.samples.len() < SAMPLES_MIN {
            return None;
        }
        let mut sorted: Vec<f64> = self.samples.iter().copied().collect();
        sorted.sort_unstable_by(f64::total_cmp);
        let upper = sorted.len() / 2;
        let lower = (sorted.len() - 1) / 2;
        Some((sorted[lower] + sorted[upper]) / 2.0)
    }

    /// These are the distances of the nodes nearest to the key, the nearest first. `whole`: all that were asked answered, or are
    /// not there. If not, there may be more, which makes the place denser and never less dense.
    pub(super) fn judge(&mut self, nearest: &[f64], whole: bool) -> Option<Change> {
        let nodes = self.nodes()?;
        let expected = nearest.get(NEAREST - 1).map(|farthest| nodes * farthest);
        let dense = expected.filter(|expected| nodes >= NODES_MIN && *expected < CHANCE_MIN);
        if dense.is_none() && !whole {
            return None;
        }
        if dense.is_some() == self.alarm {
            self.against = 0;
            return None;
        }
        self.against += 1;
        if self.against < IN_A_ROW {
            return None;
        }
        (self.alarm, self.against) = (dense.is_some(), 0);
        Some(match dense {
            Some(expected) => Change::Began { expected, nodes },
            None => Change::Ended,
        })
    }

    /// Whether the place is too dense.
    pub(super) fn alarm(&self) -> bool {
        self.alarm
    }

    /// How far the 20 nodes that should keep what is under the key would lie; none unless the place is too dense.
    pub(super) fn radius(&self) -> Option<f64> {
        let nodes = self.nodes().filter(|nodes| self.alarm && *nodes > 0.0)?;
        Some(NEAREST as f64 / nodes)
    }
}

/// Places beside a key, so that the nodes nearest to them are those that would keep what is under the key, and those a little
/// farther away, which whoever looks for it asks on its way: one within half of the radius and all of it, the others twice and
/// four times as far away. Of a network of millions the nearest may not be found, and is left out.
///
/// `chance` draws numbers. In the model (`tests/sim/src/crowd.rs`) 8 % of the readers among 1,000 nodes do not find what 20
/// identities hide if these nodes have it; if only those of the table within the radius have it, 89 % do not, since there are
/// two of them.
pub(super) fn beside(
    key: &KBucketKey<Vec<u8>>,
    radius: f64,
    mut chance: impl FnMut() -> u64,
) -> Vec<Vec<u8>> {
    // By powers of two, so that one place and what is near to it are as far from the key.
    let whole = 2_f64.powf(radius.log2().floor());
    let mut place = |lower: f64, upper: f64| {
        let drawn =
            std::iter::repeat_with(|| [b"beside".to_vec(), chance().to_be_bytes().to_vec()].concat());
        let lies = |place: &Vec<u8>| share(key.distance(&KBucketKey::new(place.clone())));
        drawn.take(DRAWS_MAX).find(|place| (lower..upper).contains(&lies(place)))
    };
    let rings = [0.5, 1.0, 2.0].map(|times| place(times * whole, 2.0 * times * whole));
    rings.into_iter().flatten().collect()
}

/// A distance, as a share of all distances.
pub(super) fn share(distance: KBucketDistance) -> f64 {
    let [.., low, high] = distance.0.0;
    let word = 2_f64.powi(64);
    (high as f64 + low as f64 / word) / word
}

#[cfg(test)]
mod tests;
