//! Keys as every program must compute them, and members that are found.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};

use libp2p::{PeerId, identity::Keypair};

use super::*;
use crate::moment::UnixTime;

fn network() -> Network {
    "test".parse().unwrap()
}

fn public(name: &str) -> NamespaceId {
    Namespace::public(&network(), name).unwrap().ids(UnixTime::default())[0]
}

/// The same for the same number.
fn peer(number: u32) -> PeerId {
    let mut seed = [1; 32];
    seed[..4].copy_from_slice(&number.to_le_bytes());
    Keypair::ed25519_from_bytes(seed).unwrap().public().to_peer_id()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

const DAY: u64 = 86_400_000;
const SECRET: &[u8] = b"sixteen bytes ok";

#[test]
fn keys_are_the_same_in_every_program() {
    // Computed with Python's hashlib and hmac by the formulas in `design/discovery.md`.
    let room = public("room");
    assert_eq!(hex(room.as_bytes()), "158dc4a07162560b1a843a0d12f7d6b5a63f1a6a0e61e4c2777946c08881abb5");
    assert_eq!(
        hex(&room.key(Shard::ALL)),
        "1cbbedbcc57ee41c808087e8fcaabdb1ead69f7ac6e405f04db7ed4eb6b082e9"
    );
    let shard = room.shards_of(peer(1))[4];
    assert_eq!((shard.level(), shard.index()), (4, 0x7b));
    assert_eq!(
        hex(&room.key(shard)),
        "14a82124b84bf08143a817b0f10e9f5b664c20935b871c0d58eef257755ef418"
    );
    let secret = Namespace::secret(&network(), "room", SECRET).unwrap();
    let ids = secret.ids(UnixTime::from_millis(20_000 * DAY + 5));
    assert_eq!(
        hex(ids[0].as_bytes()),
        "1ca86703a10e77cab6039b7c3068c61447cef0ed82848744912713e59ad181e8"
    );
    assert_eq!(
        hex(ids[1].as_bytes()),
        "46ba119660f32b2d5c0ca07c51162c61db54d8fa9dddeffb0da195ea6b3ba735"
    );
    assert_eq!(
        hex(&content_key(&network(), &[7; 32])),
        "ffde003d72ed4c0eb57c65a2a2281d273ea5e529a9065c5943591d31cbfe4bad"
    );
    let contact = RecordKey::Contact(peer(1)).to_bytes();
    assert_eq!(
        hex(&contact),
        "2f70756e63686c696e652f636f6e746163742f76312f002408011220db52c2f6bf5410bfb7c9de62632e688003637f8a450adb5208c3d21aeeadf006"
    );
    let value = RecordKey::value(peer(1), b"name").to_bytes();
    assert_eq!(
        hex(&sha256([&value[..]])),
        "3398e38994560f9317ba52b11f512a07676c0e2ab51991f62686cf0c3e2b0674"
    );
}

#[test]
fn every_key_of_records_is_read_back_and_nothing_else_is() {
    let keys = [
        RecordKey::Contact(peer(1)),
        RecordKey::Authority(peer(1)),
        RecordKey::value(peer(1), b"name"),
        RecordKey::content(b"content"),
    ];
    for key in keys {
        let bytes = key.to_bytes();
        assert_eq!(RecordKey::of_bytes(&bytes), Some(key));
        assert_eq!(RecordKey::of_bytes(&bytes[..bytes.len() - 1]), None);
        assert_eq!(RecordKey::of_bytes(&[&bytes[..], &[0]].concat()), None);
    }
    assert_eq!(RecordKey::of_bytes(b""), None);
    assert_eq!(RecordKey::of_bytes(b"/punchline/contact/v1/"), None);
}

#[test]
fn a_namespace_is_the_same_however_its_name_was_typed() {
    assert_eq!(public("  caf\u{e9} "), public("cafe\u{301}"));
    assert_ne!(public("room"), public("Room"));
    let other = Namespace::public(&"main".parse().unwrap(), "room").unwrap();
    assert_ne!(public("room"), other.ids(UnixTime::default())[0]);
    let refused = |name: &str| Namespace::public(&network(), name).unwrap_err();
    assert_eq!(refused(" \t"), NamespaceError::Length { length: 0 });
    let length = NAMESPACE_BYTES_MAX + 1;
    assert_eq!(refused(&"n".repeat(length)), NamespaceError::Length { length });
}

#[test]
fn members_of_a_secret_namespace_meet_over_midnight_and_with_clocks_that_differ() {
    let secret = Namespace::secret(&network(), "room", SECRET).unwrap();
    let at = |millis| secret.ids(UnixTime::from_millis(millis));
    let midnight = 20_000 * DAY;
    let common = |a: Vec<NamespaceId>, b: Vec<NamespaceId>| a.iter().any(|id| b.contains(id));
    assert!(common(at(midnight - 1), at(midnight)));
    assert_eq!(at(midnight), at(midnight + DAY - 1));
    assert_eq!(at(midnight)[1], at(midnight - 1)[0]);
    assert!(!common(at(midnight), at(midnight + 2 * DAY)), "who saw the keys cannot follow");
    assert_eq!(at(0).len(), 1);
}

#[test]
fn another_secret_or_none_is_another_namespace() {
    let ids = |secret: &[u8]| {
        Namespace::secret(&network(), "room", secret).map(|named| named.ids(UnixTime::default()))
    };
    assert_ne!(ids(SECRET), ids(b"another 16 bytes"));
    assert_ne!(ids(SECRET).unwrap()[0], public("room"));
    assert_eq!(ids(&SECRET[1..]), Err(NamespaceError::Secret { length: SECRET_BYTES_MIN - 1 }));
    let long = vec![0; SECRET_BYTES_MAX + 1];
    assert_eq!(ids(&long), Err(NamespaceError::Secret { length: long.len() }));
}

#[test]
fn neither_name_nor_secret_is_in_what_is_logged() {
    let secret = Namespace::secret(&network(), "room", SECRET).unwrap();
    assert_eq!(format!("{secret:?}"), "Namespace { network: Network(\"test\"), .. }");
}

/// What those who store keys answer: 20 of a key's members at most, the first ones.
#[derive(Default)]
struct Dht(BTreeMap<[u8; MEMBER_KEY_BYTES], BTreeSet<PeerId>>);

impl Dht {
    fn read(&self, key: [u8; MEMBER_KEY_BYTES]) -> BTreeSet<PeerId> {
        let members = self.0.get(&key).cloned().unwrap_or_default();
        members.into_iter().take(PROVIDERS_ANSWERED_MAX).collect()
    }

    fn announce(&mut self, id: NamespaceId, peer: PeerId, depth: Depth) {
        for shard in id.shards_of(peer).into_iter().take(depth.levels()) {
            self.0.entry(id.key(shard)).or_default().insert(peer);
        }
    }

    /// A member looks into its shards and announces itself.
    fn turn(&mut self, id: NamespaceId, peer: PeerId) {
        let (mut depth, shards) = (Depth::default(), id.shards_of(peer));
        while depth.counted(self.read(id.key(shards[usize::from(depth.deepest())])).len()) {}
        self.announce(id, peer, depth);
    }

    fn walk(&self, id: NamespaceId) -> (BTreeSet<PeerId>, usize) {
        let (mut walk, mut reads) = (Walk::new(MEMBERS_MAX), 0);
        while let Some(shard) = walk.next_shard() {
            reads += 1;
            walk.found(shard, &self.read(id.key(shard)));
        }
        (walk.members().clone(), reads)
    }
}

#[test]
fn nineteen_members_are_found_by_one_question_and_fifty_by_five() {
    let id = public("room");
    for (count, most) in [(1, 1), (19, 1), (20, 5), (40, 5), (50, 5)] {
        let mut dht = Dht::default();
        let members: BTreeSet<PeerId> = (0..count).map(peer).collect();
        members.iter().for_each(|peer| dht.announce(id, *peer, Depth::default()));
        let (found, reads) = dht.walk(id);
        assert_eq!(found, members);
        assert!(reads <= most, "{reads} reads for {count} members");
    }
}

#[test]
fn two_thousand_members_are_all_found_after_each_has_announced_itself_twice() {
    let id = public("room");
    let mut dht = Dht::default();
    for number in (0..2000).chain(0..2000) {
        dht.turn(id, peer(number));
    }
    let (found, reads) = dht.walk(id);
    assert_eq!(found.len(), 2000);
    assert!(reads <= READS_MAX);
}

#[test]
fn a_member_goes_down_while_its_shard_is_crowded_and_no_deeper_than_there_are_shards() {
    let mut depth = Depth::default();
    assert_eq!((depth.levels(), depth.counted(CROWDED - 1)), (2, false));
    let goes: Vec<bool> = (0..4).map(|_| depth.counted(CROWDED)).collect();
    assert_eq!(goes, [true, true, true, false]);
    assert_eq!(depth.deepest(), LEVEL_MAX);
}

#[test]
fn whoever_invents_members_makes_a_walk_neither_endless_nor_large() {
    let mut walk = Walk::new(usize::MAX);
    let (mut reads, mut number) = (0, 0);
    while let Some(shard) = walk.next_shard() {
        reads += 1;
        let invented = (0..400).map(|_| {
            number += 1;
            PeerId::from_bytes(
                &[&[0, 36, 8, 1, 18, 32][..], &sha256([&u64::to_le_bytes(number)[..]])].concat(),
            )
        });
        walk.found(shard, &invented.map(Result::unwrap).collect());
    }
    assert!(reads <= READS_MAX);
    assert_eq!(walk.members().len(), MEMBERS_MAX);
}

#[test]
fn every_shard_of_a_peer_lies_in_the_one_above() {
    let shards = public("room").shards_of(peer(1));
    assert_eq!(shards[0], Shard::ALL);
    for pair in shards.windows(2) {
        assert_eq!(pair[1].index() / SHARDS_BELOW, pair[0].index());
        assert_eq!(pair[1].level(), pair[0].level() + 1);
    }
}
