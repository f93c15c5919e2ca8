//! The lookup: who is asked in which order, and when it ends.
//!
//! It is the same over every network of this crate; what a peer knows and answers is the network's ([`Network`]).

use std::collections::BTreeMap;

use crate::key::Key;

/// A peer, by its number in its network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Peer(pub u32);

impl Peer {
    /// Its place in a list of all peers.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// Who there is, and what each says when it is asked.
pub trait Network {
    /// Where a peer lies.
    fn key(&self, peer: Peer) -> Key;

    /// The IP network that a peer's address is of.
    fn group(&self, peer: Peer) -> u32;

    /// What `asker` itself knows near `target`, `count` peers at most.
    fn known(&mut self, asker: Peer, target: Key, count: usize) -> Vec<Peer>;

    /// What `asked` answers to `asker`; nothing if it does not answer.
    fn ask(&mut self, asker: Peer, asked: Peer, target: Key, count: usize) -> Option<Vec<Peer>>;
}

/// How a lookup is done.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// How many of the nearest must have answered at the end; as many does an answer name.
    pub k: usize,
    /// How many a path asks at once.
    pub alpha: usize,
    /// How many paths go separate ways: what a peer answers is told to the path that asked it alone.
    pub paths: usize,
    /// How many of the `k` nearest may be of one IP network; farther ones of it are passed over.
    pub group_max: Option<usize>,
}

impl Rules {
    /// Those of Kademlia: one path, and three are asked at once.
    pub fn kademlia(k: usize) -> Self {
        Self { k, alpha: 3, paths: 1, group_max: None }
    }
}

/// A peer that a path heard of.
#[derive(Debug, Clone, Copy)]
pub struct Sighting {
    /// The distance to what is looked up.
    pub distance: u64,
    /// Who.
    pub peer: Peer,
    /// 1 if the asker knew it, and one more than the hops of whoever named it otherwise.
    pub hops: u32,
    /// How many had answered when it was heard of.
    pub answers_before: usize,
}

/// What came of a lookup.
#[derive(Debug)]
pub struct Outcome {
    /// Who answered, in that order.
    pub answered: Vec<Peer>,
    /// How many were asked, whether they answered or not.
    pub requests: usize,
    sightings: Vec<Sighting>,
    /// The nearest that answered, nearest first, as many as the rules say. Of several paths, those of each.
    pub nearest: Vec<Peer>,
}

impl Outcome {
    /// How a peer was first heard of.
    pub fn sighting(&self, peer: Peer) -> Option<&Sighting> {
        let of_it = self.sightings.iter().filter(|sighting| sighting.peer == peer);
        of_it.min_by_key(|sighting| sighting.answers_before)
    }
}

/// Asks ever nearer peers, until the nearest that are known have all answered.
pub fn look_up(network: &mut impl Network, asker: Peer, target: Key, rules: &Rules) -> Outcome {
    let first = network.known(asker, target, rules.k);
    let mut lookup =
        Lookup { target, rules: *rules, asker, asked: BTreeMap::new(), answered: Vec::new() };
    let mut paths = vec![Vec::new(); rules.paths];
    for path in &mut paths {
        lookup.hear(network, path, &first, 1);
    }
    loop {
        let under_way = lookup.round(network, &paths);
        if under_way.is_empty() {
            return lookup.end(network, paths);
        }
        for (number, sighting) in under_way {
            match network.ask(asker, sighting.peer, target, rules.k) {
                Some(named) => {
                    lookup.answered.push(sighting.peer);
                    lookup.hear(network, &mut paths[number], &named, sighting.hops + 1);
                }
                None => {
                    lookup.asked.insert(sighting.peer, false);
                }
            }
        }
    }
}

struct Lookup {
    target: Key,
    rules: Rules,
    asker: Peer,
    /// Who was asked, by whatever path, and whether it answered.
    asked: BTreeMap<Peer, bool>,
    answered: Vec<Peer>,
}

impl Lookup {
    /// Adds those of `named` that are not known to a path. A path is in the order of distance.
    fn hear(&self, network: &impl Network, path: &mut Vec<Sighting>, named: &[Peer], hops: u32) {
        for &peer in named.iter().filter(|&&peer| peer != self.asker) {
            let distance = network.key(peer).distance(self.target);
            if let Err(place) = path.binary_search_by_key(&distance, |sighting| sighting.distance) {
                let answers_before = self.answered.len();
                path.insert(place, Sighting { distance, peer, hops, answers_before });
            }
        }
    }

    /// The nearest of a path that count: not those that failed, nor too many of one IP network.
    fn candidates<'path>(
        &self,
        network: &impl Network,
        path: &'path [Sighting],
    ) -> Vec<&'path Sighting> {
        let mut groups: BTreeMap<u32, usize> = BTreeMap::new();
        let mut allowed = |sighting: &Sighting| {
            let Some(most) = self.rules.group_max else { return true };
            let of_group = groups.entry(network.group(sighting.peer)).or_default();
            *of_group += 1;
            *of_group <= most
        };
        let failed = |sighting: &Sighting| self.asked.get(&sighting.peer) == Some(&false);
        let count = path.iter().filter(|&sighting| !failed(sighting) && allowed(sighting));
        count.take(self.rules.k).collect()
    }

    /// Whom the paths ask next, taking turns.
    fn round(&mut self, network: &impl Network, paths: &[Vec<Sighting>]) -> Vec<(usize, Sighting)> {
        let mut asked = Vec::new();
        for _ in 0..self.rules.alpha {
            for (number, path) in paths.iter().enumerate() {
                let candidates = self.candidates(network, path);
                let next =
                    candidates.into_iter().find(|sighting| !self.asked.contains_key(&sighting.peer));
                if let Some(sighting) = next {
                    self.asked.insert(sighting.peer, true);
                    asked.push((number, *sighting));
                }
            }
        }
        asked
    }

    fn end(self, network: &impl Network, paths: Vec<Vec<Sighting>>) -> Outcome {
        let mut nearest: Vec<_> =
            paths.iter().flat_map(|path| self.candidates(network, path)).copied().collect();
        nearest.sort_unstable_by_key(|sighting| sighting.distance);
        nearest.dedup_by_key(|sighting| sighting.distance);
        Outcome {
            requests: self.asked.len(),
            nearest: nearest.into_iter().map(|sighting| sighting.peer).collect(),
            answered: self.answered,
            sightings: paths.into_iter().flatten().collect(),
        }
    }
}
