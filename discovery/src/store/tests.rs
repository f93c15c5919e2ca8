//! What is kept, and what a flood changes.
#![allow(clippy::unwrap_used)]

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use libp2p::{Multiaddr, identity::Keypair, kad::RecordKey as Key};

use super::*;
use crate::{
    keys::{PROVIDERS_ANSWERED_MAX, RecordKey},
    record::{Body, Contact, LIFETIME_MAX, Record, Refusal, Statement, VALUE_BYTES_MAX, Value, sign},
};

const S: Duration = Duration::from_secs(1);

/// A store, its node, and its clock.
struct World {
    store: Store,
    local: Keypair,
    clock: Arc<Mutex<Now>>,
}

impl World {
    fn new(seed: u8) -> Self {
        let local = Keypair::generate_ed25519();
        let unix = UnixTime::from_millis(1_800_000_000_000);
        let clock = Arc::new(Mutex::new(Now { instant: Instant::now(), unix }));
        let rules = Rules {
            network: "test".parse().unwrap(),
            addresses: Arc::new(|_: &Multiaddr, _: PeerId| true),
        };
        let time = clock.clone();
        let peer = local.public().to_peer_id();
        let store = Store::new(peer, rules, [seed; 16], move || *time.lock().unwrap());
        Self { store, local, clock }
    }

    fn now(&self) -> Now {
        *self.clock.lock().unwrap()
    }

    fn pass(&mut self, time: Duration) {
        let mut now = self.clock.lock().unwrap();
        *now = Now { instant: now.instant + time, unix: now.unix.plus(time) };
    }

    fn local(&self) -> PeerId {
        self.local.public().to_peer_id()
    }

    fn sign(&self, key: &Keypair, sequence: u64, body: Body) -> Record {
        let (network, issued) = ("test".parse().unwrap(), self.now().unix);
        sign(key, Statement { network, sequence, issued, lasts: LIFETIME_MAX, body }).unwrap()
    }

    fn value(&self, key: &Keypair, name: usize, bytes: usize) -> kad::Record {
        let (name, bytes) = (name.to_string().into_bytes(), vec![7; bytes]);
        as_put(&self.sign(key, 1, Body::Value(Value { name, bytes })))
    }

    fn contact(&self, key: &Keypair, sequence: u64) -> kad::Record {
        as_put(&self.sign(key, sequence, Body::Contact(Contact::default())))
    }

    /// As `put_record` of libp2p does it.
    fn put_own(&mut self, record: kad::Record) -> Result<(), PutRefusal> {
        self.put(kad::Record { publisher: Some(self.local()), ..record })
    }

    /// As others do it.
    fn put(&mut self, record: kad::Record) -> Result<(), PutRefusal> {
        match self.store.put(record) {
            Ok(()) => Ok(()),
            Err(_) => Err(self.store.put_refusal().unwrap().clone()),
        }
    }

    fn add(&mut self, key: &Key, peer: PeerId) -> bool {
        self.store.add_provider(provider(key, peer)).is_ok()
    }
}

fn as_put(record: &Record) -> kad::Record {
    kad::Record::new(record.key().to_bytes(), record.bytes().to_vec())
}

fn content(bytes: &[u8]) -> kad::Record {
    kad::Record::new(RecordKey::content(bytes).to_bytes(), bytes.to_vec())
}

fn member_key(number: usize) -> Key {
    Key::from(crate::keys::sha256([&number.to_le_bytes()[..]]).to_vec())
}

fn provider(key: &Key, peer: PeerId) -> ProviderRecord {
    ProviderRecord::new(key.clone(), peer, vec!["/ip4/198.51.100.7/tcp/1".parse().unwrap()])
}

fn keypair(number: u64) -> Keypair {
    let mut seed = [1; 32];
    seed[..8].copy_from_slice(&number.to_le_bytes());
    Keypair::ed25519_from_bytes(seed).unwrap()
}

#[test]
fn a_refused_writer_gets_an_error_and_the_reason_is_counted() {
    let mut world = World::new(1);
    let (older, newer) = (world.contact(&keypair(1), 1), world.contact(&keypair(1), 2));
    world.put(newer.clone()).unwrap();
    world.put(newer).unwrap();
    let replayed = Refusal::Replayed { sequence: 1, held: 2 };
    assert_eq!(world.put(older), Err(replayed.into()));
    let foreign = kad::Record::new(b"/anybody's/key".to_vec(), vec![1]);
    assert_eq!(world.put(foreign), Err(PutRefusal::Key));
    assert_eq!(world.store.refusals().get("replayed"), Some(&1));
    assert_eq!(world.store.refusals().get("key"), Some(&1));
    let large = vec![0; VALUE_BYTES_MAX + 1];
    let large = world.store.put(content(&large)).unwrap_err();
    assert!(matches!(large, kad::store::Error::ValueTooLarge));
}

#[test]
fn a_record_is_kept_no_longer_than_it_holds_whatever_the_writer_asks_for() {
    let mut world = World::new(1);
    world.pass(S);
    let record = world.contact(&keypair(1), 1);
    world.pass(60 * S);
    let now = world.now().instant;
    let forever = kad::Record { expires: Some(now + 1000 * LIFETIME_MAX), ..record.clone() };
    world.put(forever).unwrap();
    let expires = |world: &World| world.store.get(&record.key).unwrap().expires;
    assert_eq!(expires(&world), Some(now + LIFETIME_MAX - 60 * S));
    let content = content(b"content");
    world.put(content.clone()).unwrap();
    let kept = world.store.get(&content.key).unwrap().expires;
    assert_eq!(kept, Some(now + LIFETIME_MAX));
    let shorter = kad::Record { expires: Some(now + S), ..world.contact(&keypair(1), 2) };
    world.put(shorter).unwrap();
    assert_eq!(expires(&world), Some(now + S));
    world.pass(S);
    world.store.sweep();
    assert_eq!(world.store.get(&record.key), None);
}

#[test]
fn whoever_brings_a_record_again_cannot_shorten_its_time() {
    let mut world = World::new(1);
    let now = world.now().instant;
    let records = [world.contact(&keypair(1), 1), content(b"content")];
    for record in records {
        let expires = |world: &World| world.store.get(&record.key).unwrap().expires;
        let brief = kad::Record { expires: Some(now + S), ..record.clone() };
        world.put(brief.clone()).unwrap();
        assert_eq!(expires(&world), Some(now + S));
        world.put(record.clone()).unwrap();
        assert_eq!(expires(&world), Some(now + LIFETIME_MAX), "its signer comes");
        world.put(brief).unwrap();
        assert_eq!(expires(&world), Some(now + LIFETIME_MAX), "somebody wants it gone");
    }
}

#[test]
fn the_publisher_of_what_is_kept_is_who_signed_it() {
    let mut world = World::new(1);
    let record = world.contact(&keypair(1), 1);
    let lied = kad::Record { publisher: Some(PeerId::random()), ..record.clone() };
    world.put(lied).unwrap();
    let signer = keypair(1).public().to_peer_id();
    assert_eq!(world.store.get(&record.key).unwrap().publisher, Some(signer));
}

#[test]
fn one_signer_cannot_have_more_than_its_share() {
    let mut world = World::new(1);
    let key = keypair(1);
    let values: Vec<_> = (0..=RECORDS_PER_SIGNER_MAX).map(|name| world.value(&key, name, 10)).collect();
    let (last, first) = values.split_last().unwrap();
    first.iter().for_each(|value| world.put(value.clone()).unwrap());
    let signer = key.public().to_peer_id();
    assert_eq!(world.put(last.clone()), Err(PutRefusal::Signer { signer }));
    let newer = Body::Value(Value { name: b"0".into(), bytes: b"newer".into() });
    let newer = as_put(&world.sign(&key, 2, newer));
    assert_eq!(world.put(newer), Ok(()), "what it has it may renew");
    world.store.remove(&first[3].key);
    assert_eq!(world.put(last.clone()), Ok(()));
    world.pass(LIFETIME_MAX);
    let after = world.value(&key, 99, 10);
    assert_eq!(world.put(after), Ok(()), "what has expired does not count");
    assert_eq!(world.store.usage().records, 1);
}

#[test]
fn a_flood_of_records_leaves_own_places_free_and_memory_bounded() {
    let mut world = World::new(1);
    world.put_own(world.contact(&world.local, 1)).unwrap();
    let mut refused = 0;
    for number in 0..10_000 {
        let record = world.value(&keypair(number + 10), 0, 1000);
        refused += u64::from(world.put(record).is_err());
    }
    let usage = world.store.usage();
    assert!(usage.records <= RECORDS_MAX && usage.records_bytes <= RECORDS_BYTES_MAX, "{usage:?}");
    assert!(usage.records > RECORDS_MAX / 2, "{usage:?}");
    assert!(refused > 1000, "{refused} writers saw it");
    assert_eq!(world.store.refusals().get("full"), Some(&refused));
    let counted: usize = world.store.records.by_signer.values().sum();
    assert_eq!(counted, usage.records, "who lost a place may have another");
    for name in 1..OWN_RECORDS_MAX {
        let own = world.value(&world.local, name, VALUE_BYTES_MAX);
        world.put_own(own).unwrap();
    }
    let own = world.value(&world.local, OWN_RECORDS_MAX, 1);
    assert_eq!(world.put_own(own), Err(PutRefusal::Own));
    assert_eq!(world.store.usage().own_records, OWN_RECORDS_MAX);
    world.pass(LIFETIME_MAX);
    let after = world.contact(&keypair(2), 1);
    assert_eq!(world.put(after), Ok(()), "what has expired makes room");
    assert_eq!(world.store.usage().records, 1);
}

#[test]
fn whoever_floods_all_nodes_does_not_take_all_places_of_a_record() {
    let keepers = (0..12).filter(|seed| {
        let mut pool = pool::Pool::new(100, usize::MAX);
        let lots = Lots::new([*seed; 16]);
        let mut keep = |name: &[u8]| {
            let record = kad::Record::new(name.to_vec(), vec![]);
            let kept = pool::Kept { record, version: None, latest: Instant::now() };
            pool.keep(kept, lots.draw(name, &[])).is_some()
        };
        for number in 0..400_u32 {
            keep(&number.to_le_bytes());
        }
        keep(b"late")
    });
    let keepers = keepers.count();
    assert!((1..12).contains(&keepers), "{keepers} of 12 keep it");
}

#[test]
fn content_of_others_takes_no_place_of_what_is_signed() {
    let mut world = World::new(1);
    for number in 0..2 * CONTENT_MAX {
        let _ = world.put(content(&number.to_le_bytes()));
    }
    let usage = world.store.usage();
    assert_eq!(usage.content, CONTENT_MAX);
    for number in 0..CONTENT_MAX {
        let large = [vec![0; VALUE_BYTES_MAX - 8], number.to_le_bytes().to_vec()].concat();
        let _ = world.put(content(&large));
    }
    assert!(world.store.usage().content_bytes <= CONTENT_BYTES_MAX);
    assert_eq!(world.put(world.contact(&keypair(1), 1)), Ok(()));
}

#[test]
fn others_cannot_replace_what_this_node_publishes() {
    let mut world = World::new(1);
    let own = world.contact(&world.local, 1);
    world.put_own(own.clone()).unwrap();
    assert_eq!(world.put(own), Ok(()), "a copy that comes back");
    let newer = world.contact(&world.local, 9);
    assert_eq!(world.put(newer.clone()), Err(PutRefusal::Ours));
    world.put_own(newer).unwrap();
}

#[test]
fn a_newer_own_record_that_others_bring_back_first_must_be_exceeded() {
    // The number was lost, and another node still has a record with a higher one.
    let mut world = World::new(1);
    world.put(world.contact(&world.local, 9)).unwrap();
    let replayed = Refusal::Replayed { sequence: 2, held: 9 };
    assert_eq!(world.put_own(world.contact(&world.local, 2)), Err(replayed.into()));
    world.put_own(world.contact(&world.local, 10)).unwrap();
    let usage = world.store.usage();
    assert_eq!((usage.own_records, usage.records), (1, 0), "it is there once");
}

#[test]
fn what_others_stored_here_becomes_own_when_this_node_publishes_it() {
    let mut world = World::new(1);
    let record = world.contact(&world.local, 1);
    world.put(record.clone()).unwrap();
    world.put_own(record.clone()).unwrap();
    let usage = world.store.usage();
    assert_eq!((usage.own_records, usage.records), (1, 0));
    let expires = world.store.get(&record.key).unwrap().expires;
    assert_eq!(expires, Some(world.now().instant + LIFETIME_MAX));
}

#[test]
fn a_crowd_of_strangers_cannot_keep_this_node_from_providing() {
    let mut world = World::new(1);
    for number in 0..10_000 {
        world.add(&member_key(number), PeerId::random());
    }
    let usage = world.store.usage();
    assert_eq!(usage.providers, PROVIDERS_MAX);
    let local = world.local();
    for number in 0..OWN_KEYS_MAX {
        assert!(world.add(&member_key(number), local));
    }
    assert!(!world.add(&member_key(OWN_KEYS_MAX), local));
    assert!(world.add(&member_key(0), local), "what it provides it may announce again");
    assert_eq!(world.store.provided().count(), OWN_KEYS_MAX);
    assert_eq!(world.store.refusals().get("provider_own_quota"), Some(&1));
}

#[test]
fn more_than_twenty_providers_are_kept_and_answers_in_turn_tell_of_all() {
    let mut world = World::new(1);
    let (key, local) = (member_key(1), world.local());
    world.add(&key, local);
    let peers: Vec<PeerId> = (0..PROVIDERS_PER_KEY_MAX).map(|_| PeerId::random()).collect();
    assert!(peers.iter().all(|peer| world.add(&key, *peer)));
    let mut told = std::collections::BTreeSet::new();
    for _ in 0..PROVIDERS_PER_KEY_MAX.div_ceil(PROVIDERS_ANSWERED_MAX - 1) {
        let providers = world.store.providers(&key);
        assert_eq!(providers.len(), 1 + peers.len());
        // libp2p takes the first ones.
        told.extend(providers.iter().take(PROVIDERS_ANSWERED_MAX).map(|provider| provider.provider));
    }
    assert_eq!(told.len(), 1 + peers.len());
    assert!(told.contains(&local));
}

#[test]
fn one_provider_too_many_of_a_key_draws_a_lot_with_the_others() {
    let mut world = World::new(1);
    let key = member_key(1);
    let kept = (0..1000).filter(|_| world.add(&key, PeerId::random())).count();
    assert_eq!(world.store.providers(&key).len(), PROVIDERS_PER_KEY_MAX);
    assert!(kept > PROVIDERS_PER_KEY_MAX, "some who came late displaced others");
    let refused = world.store.refusals().get("provider_full");
    assert_eq!(refused, Some(&(1000 - kept as u64)));
    assert_eq!(world.store.usage().providers, PROVIDERS_PER_KEY_MAX);
    world.pass(PROVIDER_LIFETIME_MAX);
    assert!(world.add(&key, PeerId::random()), "those that have expired make room");
    assert_eq!(world.store.usage().providers, 1);
}

#[test]
fn one_peer_cannot_provide_all_keys() {
    let mut world = World::new(1);
    let peer = PeerId::random();
    let kept = (0..1000).filter(|number| world.add(&member_key(*number), peer)).count();
    assert_eq!(kept, PROVIDERS_PER_PEER_MAX);
    world.store.remove_provider(&member_key(0), &peer);
    assert!(world.add(&member_key(999), peer));
    assert!(world.add(&member_key(999), peer), "to announce it again takes no place");
    assert!(!world.add(&member_key(998), peer));
}

#[test]
fn a_provider_is_forgotten_in_time_and_may_not_ask_for_more() {
    let mut world = World::new(1);
    let (key, peer) = (member_key(1), PeerId::random());
    let expires = Some(world.now().instant + 1000 * PROVIDER_LIFETIME_MAX);
    world.store.add_provider(ProviderRecord { expires, ..provider(&key, peer) }).unwrap();
    let kept = world.store.providers(&key)[0].expires;
    assert_eq!(kept, Some(world.now().instant + PROVIDER_LIFETIME_MAX));
    world.pass(PROVIDER_LIFETIME_MAX);
    world.store.sweep();
    assert_eq!(world.store.usage(), Usage::default());
}

#[test]
fn addresses_that_providers_name_are_neither_kept_nor_handed_on() {
    let mut world = World::new(1);
    let (key, peer) = (member_key(1), PeerId::random());
    world.add(&key, peer);
    let id: Multiaddr = format!("/p2p/{peer}").parse().unwrap();
    assert_eq!(world.store.providers(&key)[0].addresses, [id]);
}

#[test]
fn a_key_that_is_none_of_ours_is_provided_by_nobody() {
    let mut world = World::new(1);
    let long = Key::from(vec![0; 100_000]);
    assert!(!world.add(&long, PeerId::random()));
    assert!(!world.add(&long, world.local()));
    assert_eq!(world.store.refusals().get("provider_key"), Some(&2));
}

/// What a node of libp2p says about its own records while strangers have filled its store.
#[test]
fn in_libp2p_a_flooded_node_still_publishes_and_provides() {
    let mut world = World::new(1);
    for number in 0..PROVIDERS_MAX + 100 {
        world.add(&member_key(number), PeerId::random());
    }
    for number in 0..2 * CONTENT_MAX {
        let _ = world.put(content(&number.to_le_bytes()));
    }
    let own = world.contact(&world.local, 1);
    let local = world.local();
    let config = kad::Config::new(libp2p::StreamProtocol::new("/punchline/test/kad/1.0.0"));
    let mut kad = kad::Behaviour::with_config(local, world.store, config);
    assert!(kad.start_providing(member_key(0)).is_ok());
    assert!(kad.put_record(own.clone(), kad::Quorum::One).is_ok());
    let kept = kad.store_mut().get(&own.key).unwrap().into_owned();
    assert_eq!((kept.value, kept.publisher), (own.value, Some(local)));
    kad.remove_record(&own.key);
    assert_eq!(kad.store_mut().usage().own_records, 0);
}
