//! Many real nodes in one process, over memory: records, store, admission and limits are those of the product. One seed gives
//! the same identities, choices of targets and leavers each time; what is not the same is what the machine does when.

use std::{
    num::NonZeroU8,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{StreamExt as _, future::join_all, stream};
use libp2p::{Multiaddr, PeerId, identity::Keypair, kad::KBucketKey};
use punchline_discovery::{
    kad::{Carrier, Config, Dht, Event, LookupKind, Policy, Status},
    record::Contact,
};
use rand::{RngExt as _, SeedableRng as _, rngs::ChaCha8Rng, seq::IndexedRandom as _};
use tokio::time::timeout;

/// For anything that happens on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(300);

/// Nodes that join at once. Real ones do not all begin in one second.
const JOIN_AT_ONCE: usize = 10;

/// How the nodes are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) nodes: usize,
    pub(crate) k: u8,
    pub(crate) separate_paths: bool,
    pub(crate) seed: u64,
    /// Is told how many have joined, now and then.
    pub(crate) told: fn(usize),
}

/// One node, which serves.
pub(crate) struct Node {
    pub(crate) dht: Dht,
    pub(crate) peer: PeerId,
    pub(crate) address: Multiaddr,
}

impl Node {
    pub(crate) fn start(config: Config) -> Self {
        let peer = config.keypair.public().to_peer_id();
        let address = config.listen.first().cloned().unwrap_or_else(Multiaddr::empty);
        let dht = Dht::start(config).expect("memory has room");
        // The first to ask is told all that happened; the tests want what happens from then on.
        drop(dht.events());
        Self { dht, peer, address: address.with(libp2p::multiaddr::Protocol::P2p(peer)) }
    }

    /// Waits until it is so.
    ///
    /// # Panics
    /// If it is not for long.
    pub(crate) async fn until(&self, what: &str, is: impl Fn(&Status) -> bool) -> Status {
        let mut events = self.dht.events();
        let until = async {
            loop {
                let status = self.dht.status().await.expect("it runs");
                if is(&status) {
                    return status;
                }
                let _ = timeout(Duration::from_millis(250), events.recv()).await;
            }
        };
        match timeout(SOON, until).await {
            Ok(status) => status,
            Err(_) => panic!("not {what}: {:?}", self.dht.status().await),
        }
    }

    /// Says where it is, and waits until others keep it.
    pub(crate) async fn publish(&self, number: u32) {
        self.dht.says(contact(number)).await;
        self.until("published", |status| status.published.is_some()).await;
    }

    /// Looks for a peer: whether it was found, how many requests it took, and how long.
    pub(crate) async fn look_for(&self, peer: PeerId) -> (bool, u32, Duration) {
        let (mut events, begun) = (self.dht.events(), Instant::now());
        let found = self.dht.find_peer(peer).await.is_some();
        let took = begun.elapsed();
        while let Ok(event) = events.recv().await {
            if let Event::LookupCompleted { lookup: LookupKind::Peer, requests, .. } = event {
                return (found, requests, took);
            }
        }
        (found, 0, took)
    }
}

/// What a node says of itself: a number, as an address.
pub(crate) fn contact(number: u32) -> Contact {
    let [_, a, b, c] = number.to_be_bytes();
    let address = format!("/ip4/198.{a}.{b}.{c}/tcp/4001").parse().expect("an address");
    Contact { addresses: vec![address], ..Contact::default() }
}

/// All of them.
pub(crate) struct World {
    pub(crate) nodes: Vec<Node>,
    pub(crate) plan: Plan,
    pub(crate) rng: ChaCha8Rng,
}

impl World {
    /// Starts them, each joining at three that were there before, and waits until all have joined and are found.
    pub(crate) async fn start(plan: Plan) -> Self {
        Self::joining(plan, &[]).await
    }

    /// As [`start`](Self::start), and the first nodes join at these as well.
    pub(crate) async fn joining(plan: Plan, others: &[Multiaddr]) -> Self {
        let rng = ChaCha8Rng::seed_from_u64(plan.seed);
        let mut world = Self { nodes: Vec::new(), plan, rng };
        let first = config(&mut world.rng, plan, others.to_vec());
        world.nodes.push(Node::start(first));
        while world.nodes.len() < plan.nodes {
            let before = world.nodes.len();
            let more = JOIN_AT_ONCE.min(plan.nodes - before);
            (0..more).for_each(|_| world.add());
            let of = |node: usize| world.nodes[node].publish(node as u32);
            stream::iter(before..before + more).for_each_concurrent(None, of).await;
            (plan.told)(world.nodes.len());
        }
        world.nodes[0].publish(0).await;
        world
    }

    /// One more node begins to join.
    pub(crate) fn add(&mut self) {
        let known: Vec<Multiaddr> =
            self.nodes.sample(&mut self.rng, 3).map(|node| node.address.clone()).collect();
        let config = config(&mut self.rng, self.plan, known);
        self.nodes.push(Node::start(config));
    }

    /// One ends without a word, and another joins.
    pub(crate) async fn replace_one(&mut self) {
        let gone = self.rng.random_range(0..self.nodes.len());
        drop(self.nodes.swap_remove(gone));
        self.add();
        let last = self.nodes.len() - 1;
        self.nodes[last].publish(last as u32).await;
    }

    /// Peers in each table, and as many as there would be if each knew all that its buckets have room for.
    pub(crate) async fn tables(&self) -> Vec<(usize, usize)> {
        let statuses = self.statuses().await;
        let tables = statuses.iter().map(Status::table);
        tables.zip(self.nodes.iter().map(|node| self.whole_table(node.peer))).collect()
    }

    /// Of all of them. Asked at once: on a busy machine each takes a while to answer.
    pub(crate) async fn statuses(&self) -> Vec<Status> {
        let statuses = self.nodes.iter().map(|node| node.dht.status());
        join_all(statuses).await.into_iter().map(|status| status.expect("it runs")).collect()
    }

    fn whole_table(&self, of: PeerId) -> usize {
        let mut buckets = [0_usize; 256];
        let key = KBucketKey::from(of);
        let others = self.nodes.iter().map(|node| node.peer).filter(|peer| *peer != of);
        for bucket in others.filter_map(|peer| key.distance(&KBucketKey::from(peer)).ilog2()) {
            buckets[bucket as usize] += 1;
        }
        buckets.iter().map(|peers| (*peers).min(usize::from(self.plan.k))).sum()
    }

    /// Random nodes look for random others, so many at once.
    pub(crate) async fn lookups(&mut self, count: usize, at_once: usize) -> Lookups {
        let pick = |rng: &mut ChaCha8Rng| rng.random_range(0..self.nodes.len());
        let pairs: Vec<(usize, usize)> =
            (0..count).map(|_| (pick(&mut self.rng), pick(&mut self.rng))).collect();
        let nodes = &self.nodes;
        let look = |(by, of): (usize, usize)| nodes[by].look_for(nodes[of].peer);
        let mut lookups = Lookups::default();
        let mut done = stream::iter(pairs).map(look).buffer_unordered(at_once);
        while let Some((found, requests, took)) = done.next().await {
            lookups.found += usize::from(found);
            lookups.missed += usize::from(!found);
            lookups.requests.push(requests);
            lookups.took.push(took);
        }
        lookups
    }
}

/// The settings of one node: `k` peers in a bucket.
pub(crate) fn config(rng: &mut ChaCha8Rng, plan: Plan, bootstrap: Vec<Multiaddr>) -> Config {
    let mut secret: [u8; 32] = rng.random();
    let keypair = Keypair::ed25519_from_bytes(&mut secret).expect("32 bytes");
    // Another each time: a node that ended just now may hold its own still.
    let port: u64 = rand::random_range(1..=u64::MAX);
    Config {
        listen: vec![format!("/memory/{port}").parse().expect("an address")],
        bootstrap,
        bucket_size: NonZeroU8::new(plan.k),
        separate_paths: plan.separate_paths,
        carrier: Carrier::Memory,
        ..Config::new(keypair, "swarm".parse().expect("a name"), everywhere())
    }
}

/// All addresses are dialled, and of no network.
pub(crate) fn everywhere() -> Policy {
    Policy {
        dials: Arc::new(|_: &Multiaddr, _: PeerId| true),
        hands_on: Arc::new(|_: &Multiaddr, _: PeerId| true),
        exempt: Arc::new(|_| true),
    }
}

/// How lookups went.
#[derive(Debug, Default)]
pub(crate) struct Lookups {
    pub(crate) found: usize,
    pub(crate) missed: usize,
    pub(crate) requests: Vec<u32>,
    pub(crate) took: Vec<Duration>,
}

impl Lookups {
    pub(crate) fn add(&mut self, mut more: Self) {
        self.found += more.found;
        self.missed += more.missed;
        self.requests.append(&mut more.requests);
        self.took.append(&mut more.took);
    }

    /// The share that failed.
    pub(crate) fn failed(&self) -> f64 {
        self.missed as f64 / (self.found + self.missed).max(1) as f64
    }
}

impl std::fmt::Display for Lookups {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (mut requests, mut took) = (self.requests.clone(), self.took.clone());
        requests.sort_unstable();
        took.sort_unstable();
        let mean = requests.iter().sum::<u32>() as f64 / requests.len().max(1) as f64;
        let at = |share: f64| ((requests.len().max(1) - 1) as f64 * share) as usize;
        let (found, all) = (self.found, self.found + self.missed);
        let ms = |share| took.get(at(share)).map(|took| took.as_secs_f64() * 1000.0).unwrap_or_default();
        let request = |share| requests.get(at(share)).copied().unwrap_or_default();
        write!(
            f,
            "{found} of {all} found; requests mean {mean:.1}, p50 {}, p95 {}, max {}; p50 {:.1} ms, p95 {:.1} ms",
            request(0.5),
            request(0.95),
            request(1.0),
            ms(0.5),
            ms(0.95),
        )
    }
}
