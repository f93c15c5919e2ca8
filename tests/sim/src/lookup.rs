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
        let candidates: Vec<_> = paths.iter().map(|path| self.candidates(network, path)).collect();
        let mut asked = Vec::new();
        for _ in 0..self.rules.alpha {
            for (number, of_path) in candidates.iter().enumerate() {
                let next = of_path.iter().find(|sighting| !self.asked.contains_key(&sighting.peer));
                if let Some(&&sighting) = next {
                    self.asked.insert(sighting.peer, true);
                    asked.push((number, sighting));
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Peers whose keys are their numbers, each with what it knows; who knows nothing does not answer.
    struct Small(Vec<Vec<u32>>);

    impl Network for Small {
        fn key(&self, peer: Peer) -> Key {
            Key(peer.0.into())
        }

        fn group(&self, peer: Peer) -> u32 {
            peer.0 / 10
        }

        fn known(&mut self, asker: Peer, _target: Key, _count: usize) -> Vec<Peer> {
            self.0[asker.index()].iter().copied().map(Peer).collect()
        }

        fn ask(&mut self, _asker: Peer, asked: Peer, target: Key, count: usize) -> Option<Vec<Peer>> {
            Some(self.known(asked, target, count)).filter(|known| !known.is_empty())
        }
    }

    fn network(knows: &[(u32, &[u32])]) -> Small {
        let mut all = vec![Vec::new(); 100];
        for &(peer, known) in knows {
            all[peer as usize] = known.to_vec();
        }
        Small(all)
    }

    fn from_99(network: &mut Small, rules: Rules) -> Outcome {
        look_up(network, Peer(99), Key(0), &rules)
    }

    #[test]
    fn whoever_does_not_answer_is_passed_over_for_the_next() {
        let mut network = network(&[(99, &[40, 50]), (40, &[1, 50]), (50, &[2, 40]), (2, &[50])]);
        let outcome = from_99(&mut network, Rules::kademlia(2));
        assert_eq!(outcome.nearest, [Peer(2), Peer(40)]);
        assert!(!outcome.answered.contains(&Peer(1)));
        assert_eq!(outcome.requests, outcome.answered.len() + 1);
    }

    #[test]
    fn hops_count_who_had_to_name_another() {
        let mut network = network(&[(99, &[60]), (60, &[30]), (30, &[7]), (7, &[30])]);
        let outcome = from_99(&mut network, Rules::kademlia(4));
        let hops =
            |peer| outcome.sighting(Peer(peer)).map(|sighting| (sighting.hops, sighting.answers_before));
        assert_eq!([60, 30, 7].map(hops), [Some((1, 0)), Some((2, 1)), Some((3, 2))]);
    }

    #[test]
    fn a_path_hears_nothing_of_what_another_path_is_told() {
        // 40 lies about two that are nearest; the path of 50 ends at who is there.
        let knows: &[(u32, &[u32])] =
            &[(99, &[40, 50]), (40, &[1, 2]), (1, &[2]), (2, &[1]), (50, &[8, 9]), (8, &[9]), (9, &[8])];
        let one = Rules { alpha: 1, ..Rules::kademlia(2) };
        assert!(!from_99(&mut network(knows), one).answered.contains(&Peer(8)));
        assert!(from_99(&mut network(knows), Rules { paths: 2, ..one }).answered.contains(&Peer(8)));
    }

    #[test]
    fn only_so_many_of_one_ip_network_count() {
        let knows: &[(u32, &[u32])] =
            &[(99, &[1, 2, 3, 45]), (1, &[2]), (2, &[1]), (3, &[1]), (45, &[1])];
        let rules = Rules { group_max: Some(2), ..Rules::kademlia(3) };
        assert_eq!(from_99(&mut network(knows), rules).nearest, [Peer(1), Peer(2), Peer(45)]);
    }
}
