#![allow(clippy::unwrap_used)]
use libp2p::identity::Keypair;
use rand::{SeedableRng as _, rngs::StdRng};

use super::*;

const OWN: Id = Id::new([0; 20]);

fn world() -> (Store, Instant) {
    (Store::new(), Instant::now())
}

fn ip(number: usize) -> Ipv4Addr {
    Ipv4Addr::from(0x0a00_0000 + number as u32)
}

fn value(number: usize) -> Item {
    Item::immutable(&number.to_be_bytes()).unwrap()
}

fn peer(number: usize, port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(ip(number), port)
}

fn hash(number: usize) -> Id {
    Id::hash(&[&number.to_be_bytes()])
}

#[test]
fn a_newer_value_replaces_an_older_one_and_not_the_other_way() {
    let (mut store, now) = world();
    let key = Keypair::generate_ed25519();
    let signed = |seq, bytes: &[u8]| Item::signed(&key, b"", seq, bytes).unwrap();
    let mut put = |item, replaces| store.put(OWN, item, replaces, ip(1), now).map(|_| ());
    assert_eq!(put(signed(5, b"a"), None), Ok(()));
    assert_eq!(put(signed(4, b"b"), None), Err(Refusal::Older));
    assert_eq!(put(signed(5, b"b"), None), Err(Refusal::Older), "two of the same number are a lie");
    assert_eq!(put(signed(5, b"a"), None), Ok(()));
    assert_eq!(put(signed(6, b"c"), Some(4)), Err(Refusal::Changed));
    assert_eq!(put(signed(6, b"c"), Some(5)), Ok(()));
    assert_eq!(store.value(signed(0, b"").target()).unwrap().bytes(), Some(&b"c"[..]));
}

#[test]
fn what_is_not_signed_by_its_owner_is_refused_and_displaces_nothing() {
    let (mut store, now) = world();
    let Item::Mutable(mut forged) = Item::signed(&Keypair::generate_ed25519(), b"", 1, b"a").unwrap()
    else {
        panic!()
    };
    forged.value = b"1:b".to_vec();
    assert_eq!(store.put(OWN, Item::Mutable(forged.clone()), None, ip(1), now), Err(Refusal::Signature));
    forged.salt = vec![0; SALT_BYTES_MAX + 1];
    assert_eq!(store.put(OWN, Item::Mutable(forged), None, ip(1), now), Err(Refusal::SaltTooLong));
    assert_eq!((store.values_len(), store.values_of.len()), (0, 0));
}

#[test]
fn one_address_stores_so_many_values_and_the_writer_hears_of_the_next() {
    let (mut store, now) = world();
    let mut put = |number, by| store.put(OWN, value(number), None, ip(by), now).map(|_| ());
    assert!((0..VALUES_PER_IP).all(|number| put(number, 1).is_ok()));
    assert_eq!(put(VALUES_PER_IP, 1), Err(Refusal::Other));
    assert_eq!(put(0, 1), Ok(()), "it may renew its own");
    assert_eq!(put(VALUES_PER_IP, 2), Ok(()));
}

#[test]
fn a_flood_of_values_from_everywhere_keeps_the_nearest_and_no_more_than_the_limit() {
    let (mut store, now) = world();
    for number in 0..10_000 {
        let _ = store.put(OWN, value(number), None, ip(number), now);
    }
    assert_eq!(store.values_len(), VALUES_MAX);
    let mut targets: Vec<Id> = (0..10_000).map(|number| value(number).target()).collect();
    targets.sort_by_key(|target| OWN.distance(target));
    assert!(targets[..VALUES_MAX].iter().all(|target| store.value(*target).is_some()));
    assert_eq!(store.values_of.len(), VALUES_MAX, "the others' places came back");
}

#[test]
fn announcements_have_limits_for_a_hash_an_address_and_all() {
    let (mut store, now) = world();
    let mut announce = |hash, peer| store.announce(OWN, hash, peer, now);
    assert!((0..PEERS_PER_HASH).all(|number| announce(hash(0), peer(number, 1)).is_ok()));
    assert_eq!(announce(hash(0), peer(PEERS_PER_HASH, 1)), Err(Refusal::Other));
    assert_eq!(announce(hash(0), peer(1, 1)), Ok(()), "it may renew its own");
    assert!((1..ANNOUNCED_PER_IP).all(|number| announce(hash(number), peer(1, 1)).is_ok()));
    assert_eq!(announce(hash(ANNOUNCED_PER_IP), peer(1, 1)), Err(Refusal::Other));
    for number in 0..2 * HASHES_MAX {
        let _ = store.announce(OWN, hash(number), peer(1000 + number, 1), now);
    }
    assert_eq!(store.hashes_len(), HASHES_MAX);
    let announced: usize = store.announced_of.values().sum();
    assert_eq!(announced, store.peers.values().map(BTreeMap::len).sum::<usize>());
}

#[test]
fn what_is_not_written_again_is_forgotten() {
    let (mut store, now) = world();
    let mut random = StdRng::from_seed([0; 32]);
    store.put(OWN, value(1), None, ip(1), now).unwrap();
    store.announce(OWN, hash(1), peer(1, 1), now).unwrap();
    store.announce(OWN, hash(1), peer(2, 1), now + PEER_LASTS / 2).unwrap();
    store.handle_timeout(now + PEER_LASTS);
    assert_eq!(store.peers(hash(1), &mut random), [peer(2, 1)]);
    assert!(store.value(value(1).target()).is_some());
    store.handle_timeout(now + VALUE_LASTS);
    assert_eq!((store.values_len(), store.hashes_len()), (0, 0));
    assert!(store.values_of.is_empty() && store.announced_of.is_empty());
}

#[test]
fn an_answer_has_as_many_peers_as_fit() {
    let (mut store, now) = world();
    for number in 0..PEERS_PER_HASH {
        store.announce(OWN, hash(1), peer(number, 1), now).unwrap();
    }
    assert_eq!(store.peers(hash(1), &mut StdRng::from_seed([0; 32])).len(), PEERS_MAX);
}
