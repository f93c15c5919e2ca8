//! A network in which each peer has a table of its own, learns from whoever it speaks with, and forgets whoever does not
//! answer.

use std::collections::BTreeMap;

use rand::{RngExt as _, SeedableRng as _, rngs::ChaCha8Rng};

use crate::key::Key;
use crate::lookup::{Network, Outcome, Peer, Rules, look_up};

struct Node {
    key: Key,
    is_up: bool,
    /// Which half it is of when the network splits.
    half: usize,
    /// Who it knows by bucket, the one known longest first.
    table: BTreeMap<u32, Vec<Peer>>,
}

/// Who there is, and who was.
pub struct Living {
    nodes: Vec<Node>,
    up: Vec<Peer>,
    split: bool,
    rng: ChaCha8Rng,
}

impl Living {
    /// A network whose peers joined one after another.
    pub fn new(peers: usize, seed: u64) -> Self {
        let rng = ChaCha8Rng::seed_from_u64(seed);
        let mut living = Self { nodes: Vec::new(), up: Vec::new(), split: false, rng };
        (0..peers).for_each(|_| living.join());
        living
    }

    fn join(&mut self) {
        let peer = Peer(u32::try_from(self.nodes.len()).expect("fewer than 2^32 peers"));
        let (key, half) = (Key::random(&mut self.rng), self.nodes.len() % 2);
        let bootstraps: Vec<_> = (0..BOOTSTRAPS.min(self.up.len())).map(|_| self.anybody()).collect();
        self.nodes.push(Node { key, is_up: true, half, table: BTreeMap::new() });
        bootstraps.into_iter().for_each(|other| self.learn(peer, other));
        self.look_up(peer, key);
        let deepest = self.nodes[peer.index()].table.keys().last().copied().unwrap_or(0);
        for bucket in 0..deepest {
            let target = key.random_in_bucket(bucket, &mut self.rng);
            self.look_up(peer, target);
        }
        self.up.push(peer);
    }

    /// A share of all leaves without a word, and as many come.
    pub fn replace(&mut self, share: f64) {
        let leaving = (self.up.len() as f64 * share).round() as usize;
        for _ in 0..leaving {
            let place = self.rng.random_range(0..self.up.len());
            let gone = self.up.swap_remove(place);
            self.nodes[gone.index()].is_up = false;
            self.nodes[gone.index()].table.clear();
        }
        (0..leaving).for_each(|_| self.join());
    }

    /// Those whose turn it is look their own key up, and one of a random bucket.
    pub fn refresh(&mut self, minute: usize) {
        let turn = |peer: &Peer| peer.index() % REFRESH_MINUTES == minute % REFRESH_MINUTES;
        let due: Vec<_> = self.up.iter().copied().filter(turn).collect();
        for peer in due {
            let key = self.nodes[peer.index()].key;
            self.look_up(peer, key);
            let deepest = self.nodes[peer.index()].table.keys().last().copied().unwrap_or(0);
            let bucket = self.rng.random_range(0..=deepest);
            let target = key.random_in_bucket(bucket, &mut self.rng);
            self.look_up(peer, target);
        }
    }

    /// Everybody refreshes once.
    pub fn refresh_all(&mut self) {
        (0..REFRESH_MINUTES).for_each(|minute| self.refresh(minute));
    }

    /// Has the two halves, into which peers fell as they joined by turns, not hear each other any more, or again.
    pub fn split(&mut self, split: bool) {
        self.split = split;
    }

    /// Everybody connects with its bootstraps, two of each half or those of its own half alone. If `ask`, it also asks
    /// each who is near to itself, and connects with those.
    pub fn redial_bootstraps(&mut self, of_both: bool, ask: bool) {
        // The first peers of all: they alternate between the halves.
        let bootstraps: Vec<_> = self.up.iter().copied().take(2 * BOOTSTRAPS_OF_A_HALF).collect();
        for peer in self.up.clone() {
            let half = self.nodes[peer.index()].half;
            for &bootstrap in &bootstraps {
                if bootstrap == peer || !of_both && self.nodes[bootstrap.index()].half != half {
                    continue;
                }
                self.connect(peer, bootstrap);
                let own = self.nodes[peer.index()].key;
                let near = if ask { self.nearest_of_table(bootstrap, own, K) } else { Vec::new() };
                near.into_iter().for_each(|other| self.connect(peer, other));
            }
        }
    }

    fn connect(&mut self, one: Peer, other: Peer) {
        if self.reachable(one.index(), other) {
            self.learn(one, other);
            self.learn(other, one);
        }
    }

    /// Drops whoever cannot be reached from all tables, as peers do in time.
    pub fn forget_the_unreachable(&mut self) {
        for number in 0..self.nodes.len() {
            let mut table = std::mem::take(&mut self.nodes[number].table);
            for bucket in table.values_mut() {
                bucket.retain(|&other| self.reachable(number, other));
            }
            self.nodes[number].table = table;
        }
    }

    /// Looks a random key up: whether the nearest peer that can be reached was found, and how many were asked.
    pub fn finds_the_nearest(&mut self) -> (bool, usize) {
        let (asker, target) = (self.anybody(), Key::random(&mut self.rng));
        let outcome = self.look_up(asker, target);
        let others =
            self.up.iter().filter(|&&peer| peer != asker && self.reachable(asker.index(), peer));
        let nearest = others.min_by_key(|peer| self.nodes[peer.index()].key.distance(target));
        (outcome.nearest.first() == nearest, outcome.requests)
    }

    /// Stores a record with the nearest to a random key: that, and who holds it.
    pub fn publish(&mut self) -> (Key, Vec<Peer>) {
        let (publisher, key) = (self.anybody(), Key::random(&mut self.rng));
        (key, self.look_up(publisher, key).nearest)
    }

    /// Whether somebody who looks a record up asks one of its holders.
    pub fn reads(&mut self, key: Key, holders: &[Peer]) -> bool {
        let reader = self.anybody();
        let answered = self.look_up(reader, key).answered;
        holders.contains(&reader) || answered.iter().any(|peer| holders.contains(peer))
    }

    fn look_up(&mut self, asker: Peer, target: Key) -> Outcome {
        look_up(self, asker, target, &Rules::kademlia(K))
    }

    fn anybody(&mut self) -> Peer {
        self.up[self.rng.random_range(0..self.up.len())]
    }

    fn reachable(&self, from: usize, to: Peer) -> bool {
        let to = &self.nodes[to.index()];
        to.is_up && (!self.split || to.half == self.nodes[from].half)
    }

    /// Takes a peer into a table. A full bucket keeps whom it has, unless the one known longest is gone.
    fn learn(&mut self, who: Peer, of: Peer) {
        if who == of {
            return;
        }
        let number = self.nodes[who.index()].key.bucket(self.nodes[of.index()].key);
        let bucket = self.nodes[who.index()].table.entry(number).or_default();
        if bucket.contains(&of) {
            return;
        }
        if bucket.len() < K {
            bucket.push(of);
            return;
        }
        let oldest = bucket[0];
        if !self.reachable(who.index(), oldest) {
            self.forget(who, oldest);
            self.nodes[who.index()].table.entry(number).or_default().push(of);
        }
    }

    fn forget(&mut self, who: Peer, of: Peer) {
        let number = self.nodes[who.index()].key.bucket(self.nodes[of.index()].key);
        if let Some(bucket) = self.nodes[who.index()].table.get_mut(&number) {
            bucket.retain(|&other| other != of);
        }
    }

    fn nearest_of_table(&self, peer: Peer, target: Key, count: usize) -> Vec<Peer> {
        let mut table: Vec<_> = self.nodes[peer.index()].table.values().flatten().copied().collect();
        let distance = |other: &Peer| self.nodes[other.index()].key.distance(target);
        if table.len() > count {
            table.select_nth_unstable_by_key(count, distance);
            table.truncate(count);
        }
        table
    }
}

impl Network for Living {
    fn key(&self, peer: Peer) -> Key {
        self.nodes[peer.index()].key
    }

    fn group(&self, peer: Peer) -> u32 {
        peer.0
    }

    fn known(&mut self, asker: Peer, target: Key, count: usize) -> Vec<Peer> {
        self.nearest_of_table(asker, target, count)
    }

    fn ask(&mut self, asker: Peer, asked: Peer, target: Key, count: usize) -> Option<Vec<Peer>> {
        if !self.reachable(asker.index(), asked) {
            self.forget(asker, asked);
            return None;
        }
        let answer = self.nearest_of_table(asked, target, count);
        self.learn(asked, asker);
        self.learn(asker, asked);
        Some(answer)
    }
}

const K: usize = 20;
const BOOTSTRAPS: usize = 3;
const REFRESH_MINUTES: usize = 5;
const BOOTSTRAPS_OF_A_HALF: usize = 2;
