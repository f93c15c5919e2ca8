//! Many real nodes: what they know of each other, what they find, and what happens when many leave or lie.
//!
//! `cargo run --release -p punchline-discovery --example swarm` runs the same with as many as there is memory for.
#![allow(clippy::print_stderr, clippy::unwrap_used, clippy::expect_used)]

mod liars;
mod world;

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use futures::{StreamExt as _, stream};
use libp2p::{PeerId, identity::Keypair};
use punchline_discovery::{
    UnixTime,
    keys::RecordKey,
    record::{Body, Contact, LIFETIME_MAX, Statement, Value, sign},
    store::{RECORDS_BYTES_MAX, RECORDS_MAX},
};
use rand::{RngExt as _, SeedableRng as _, rngs::ChaCha8Rng};
use tokio::time::timeout;

use self::world::{Node, Plan, SOON, World, config, contact};

/// As `design/discovery.md` says.
const LOOKUP_ENDS: Duration = Duration::from_secs(10);

const PLAN: Plan = Plan { nodes: 60, k: 8, separate_paths: true, seed: 7, told: |_| {} };

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_nodes_know_as_many_as_their_buckets_hold_and_find_each_other_though_a_tenth_leaves() {
    let mut world = World::start(PLAN).await;
    let tables = world.tables().await;
    let (real, whole) = tables.iter().fold((0, 0), |sum, table| (sum.0 + table.0, sum.1 + table.1));
    let share = real as f64 / whole as f64;
    eprintln!("tables have {real} peers of {whole} that there is room for");
    assert!(share >= 0.9, "{share}");
    let rest = world.lookups(120, 2).await;
    eprintln!("at rest: {rest}");
    assert_eq!(rest.missed, 0);
    let mut churned = world::Lookups::default();
    for _ in 0..PLAN.nodes / 10 {
        world.replace_one().await;
        churned.add(world.lookups(40, 2).await);
    }
    eprintln!("a tenth left meanwhile: {churned}");
    assert!(churned.failed() < 0.01, "{churned}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_a_fifth_lies_almost_all_is_found_and_separate_paths_are_compared() {
    for separate_paths in [true, false] {
        let honest = Plan { nodes: 32, seed: 11, separate_paths, ..PLAN };
        let mut world = World::start(honest).await;
        let met: Vec<_> = world.nodes.iter().step_by(4).map(|node| node.address.clone()).collect();
        let _talk = liars::start(8, &mut world.rng, &met);
        // They are in the tables before anything is written or read anew.
        let before = world.nodes.len();
        for node in world.nodes.iter().step_by(4) {
            node.until("aware of liars", |status| status.connections >= 8).await;
        }
        (0..8).for_each(|_| world.add());
        let publish = |node: usize| world.nodes[node].publish(1000 + node as u32);
        stream::iter(before..before + 8).for_each_concurrent(None, publish).await;
        let lookups = world.lookups(150, 2).await;
        eprintln!("a fifth lies, separate paths {separate_paths}: {lookups}");
        assert!(lookups.failed() < if separate_paths { 0.05 } else { 0.2 }, "{lookups}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixteen_nodes_all_find_each_other_and_a_newer_record_replaces_the_older_one_everywhere() {
    let world = World::start(Plan { nodes: 16, k: 20, seed: 5, ..PLAN }).await;
    for node in &world.nodes {
        let others = world.nodes.iter().filter(|other| other.peer != node.peer);
        let missed = stream::iter(others).filter(|other| async {
            let found = timeout(SOON, node.dht.find_peer(other.peer)).await;
            !matches!(found, Ok(Some(_)))
        });
        assert_eq!(missed.count().await, 0);
    }
    let (teller, key) = (&world.nodes[3], RecordKey::Contact(world.nodes[3].peer));
    let before = held(&world, &key).await;
    assert!(before.len() >= 8, "{} keep it", before.len());
    teller.dht.says(contact(77_777)).await;
    let replaced = async {
        loop {
            let now = held(&world, &key).await;
            if now.iter().all(|value| !before.contains(value)) && now.len() >= before.len() {
                return now;
            }
            tokio::task::yield_now().await;
        }
    };
    let now: BTreeSet<_> = timeout(SOON, replaced).await.expect("it is replaced").into_iter().collect();
    assert_eq!(now.len(), 1, "whoever keeps one keeps the newest");
}

/// Nobody of one half is in a table of the other, as after a long split; one node knows a bootstrap of the other half.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_halves_that_know_nothing_of_each_other_become_one_network_by_one_bootstrap() {
    let mut rng = ChaCha8Rng::seed_from_u64(13);
    let plan = Plan { nodes: 10, k: 20, ..PLAN };
    // It is named before it is there.
    let there = config(&mut rng, plan, Vec::new());
    let id = there.keypair.public().to_peer_id();
    let address = there.listen[0].clone().with_p2p(id).unwrap();
    let here = Node::start(config(&mut rng, plan, vec![address.clone()]));
    let half = |first: &Node, rng: &mut ChaCha8Rng| -> Vec<Node> {
        let at = vec![first.address.clone()];
        (1..plan.nodes).map(|_| Node::start(config(rng, plan, at.clone()))).collect()
    };
    let ours = half(&here, &mut rng);
    for node in &ours {
        node.until("in its half", |status| status.table() == plan.nodes - 1).await;
    }
    let there = Node::start(there);
    let theirs = half(&there, &mut rng);
    let (begun, whole) = (Instant::now(), 2 * plan.nodes - 1);
    for node in ours.iter().chain(&theirs).chain([&here, &there]) {
        node.until("in one network", |status| status.table() == whole).await;
    }
    eprintln!("two halves of ten are one network after {:?}", begun.elapsed());
    ours[4].publish(4).await;
    assert!(theirs[4].look_for(ours[4].peer).await.0);
}

/// Three are asked at once, each for three seconds: the last of them not before nine have passed.
const SILENT: usize = 11;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lookup_among_those_who_never_answer_ends_after_ten_seconds_with_what_it_has() {
    let mut rng = ChaCha8Rng::seed_from_u64(17);
    let plan = Plan { k: 20, ..PLAN };
    let honest = Node::start(config(&mut rng, plan, Vec::new()));
    let sought = Node::start(config(&mut rng, plan, vec![honest.address.clone()]));
    sought.publish(7).await;
    let asker = Node::start(config(&mut rng, plan, vec![honest.address.clone()]));
    let silence = liars::start(SILENT, &mut rng, std::slice::from_ref(&asker.address));
    asker.until("in the midst of them", |status| status.joined && status.table() == SILENT + 2).await;
    silence.send_replace(true);
    let (found, requests, took) = asker.look_for(sought.peer).await;
    eprintln!("{requests} requests in {took:?}");
    assert!(found, "the honest answered");
    assert!(took >= LOOKUP_ENDS && took < 2 * LOOKUP_ENDS, "{took:?}");
    // What is stored then is with whoever did answer.
    asker.publish(9).await;
    assert!(honest.dht.kept(RecordKey::Contact(asker.peer)).await.is_some());
}

/// Each would cost a lookup seconds, so that none would end in time and nothing be published.
const INVENTED: usize = 100;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_names_inventions_near_every_key_keeps_nobody_from_being_published() {
    let mut rng = ChaCha8Rng::seed_from_u64(19);
    let plan = Plan { k: 20, ..PLAN };
    let honest = Node::start(config(&mut rng, plan, Vec::new()));
    let liar = liars::names_the_mute(INVENTED, &mut rng);
    let node = Node::start(config(&mut rng, plan, vec![honest.address.clone(), liar]));
    let begun = Instant::now();
    node.publish(8).await;
    eprintln!("published after {:?}", begun.elapsed());
    assert!(honest.dht.kept(RecordKey::Contact(node.peer)).await.is_some());
}

/// What the nodes themselves keep under a key.
async fn held(world: &World, key: &RecordKey) -> Vec<Vec<u8>> {
    let mut held = Vec::new();
    for node in &world.nodes {
        held.extend(node.dht.kept(key.clone()).await);
    }
    held
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_ten_thousand_records_leaves_own_places_free_is_bounded_and_refused_writers_see_it() {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let plan = Plan { k: 20, ..PLAN };
    let server = Node::start(config(&mut rng, plan, Vec::new()));
    server.until("listening", |status| !status.listening.is_empty()).await;
    let begun = Instant::now();
    let flood: Vec<(RecordKey, Vec<u8>)> = (0..10_000).map(|_| strangers_record(&mut rng)).collect();
    let floods = flood.chunks(1250).map(|part| liars::flood(&server, part.to_vec()));
    let refused: usize = futures::future::join_all(floods).await.iter().sum();
    let status = server.dht.status().await.unwrap();
    eprintln!(
        "{refused} of 10,000 writers were refused in {:?}; the node keeps {:?}, refused {:?} and {} questions",
        begun.elapsed(),
        status.kept,
        status.refused,
        status.refused_questions
    );
    assert!(status.kept.records <= RECORDS_MAX && status.kept.records_bytes <= RECORDS_BYTES_MAX);
    let counted = status.refused_questions + status.refused.values().sum::<u64>();
    assert!(refused > 0 && counted == refused as u64, "{refused} {counted}");
    assert!(10_000 - refused >= status.kept.records);
    // Its own is kept still, and what it says from now on.
    let value = Value { name: b"own".to_vec(), bytes: b"mine".to_vec() };
    let _ = server.dht.say(Body::Value(value)).await;
    let own = RecordKey::value(server.peer, b"own");
    assert!(server.dht.kept(own).await.is_some(), "own places are free");
}

/// A record of somebody who is not there.
fn strangers_record(rng: &mut ChaCha8Rng) -> (RecordKey, Vec<u8>) {
    let mut secret: [u8; 32] = rng.random();
    let keypair = Keypair::ed25519_from_bytes(&mut secret).unwrap();
    let contact = Contact { agent: "flood".to_owned(), ..contact(1) };
    let signed = sign(
        &keypair,
        Statement {
            network: "swarm".parse().unwrap(),
            sequence: 1,
            issued: UnixTime::from(std::time::SystemTime::now()),
            lasts: LIFETIME_MAX,
            body: Body::Contact(contact),
        },
    );
    let peer: PeerId = keypair.public().to_peer_id();
    (RecordKey::Contact(peer), signed.unwrap().bytes().to_vec())
}
