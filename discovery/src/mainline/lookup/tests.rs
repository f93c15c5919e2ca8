#![allow(clippy::unwrap_used)]
use libp2p::identity::Keypair;

use super::*;

fn lookup() -> (Lookup, Instant) {
    let now = Instant::now();
    (Lookup::new(Id::new([0; 20]), Want::Nodes, Then::Nothing, [3, 2], now), now)
}

/// The farther, the greater.
fn node(distance: u8) -> Node {
    let mut id = [0; 20];
    id[0] = distance;
    Node { id: Id::new(id), address: SocketAddrV4::new([10, 0, 1, distance].into(), 1) }
}

fn answers(lookup: &mut Lookup, distance: u8, tells: &[u8]) {
    let nodes = tells.iter().map(|distance| node(*distance)).collect();
    lookup.answered(node(distance), nodes, Some(vec![distance]), None);
}

fn asks(lookup: &mut Lookup) -> Vec<u8> {
    std::iter::from_fn(|| lookup.next()).map(|(address, _)| address.ip().octets()[3]).collect()
}

#[test]
fn the_nearest_are_asked_some_at_once_until_they_have_answered() {
    let (mut lookup, now) = lookup();
    [90, 80, 70, 60].into_iter().for_each(|distance| lookup.add(node(distance)));
    assert_eq!(asks(&mut lookup), [60, 70]);
    answers(&mut lookup, 70, &[30, 20]);
    assert_eq!(asks(&mut lookup), [20]);
    answers(&mut lookup, 20, &[]);
    answers(&mut lookup, 60, &[]);
    assert!(!lookup.is_done(now));
    assert_eq!(asks(&mut lookup), [30]);
    lookup.failed(node(30).address);
    assert!(lookup.is_done(now), "20, 60 and 70 are the nearest that answer");
    assert_eq!(lookup.found(), [node(20), node(60), node(70)]);
    assert_eq!(lookup.places(None).len(), 3);
    assert_eq!((lookup.asked, lookup.answered), (4, 3));
}

#[test]
fn somebody_whose_id_nobody_knows_is_asked_first() {
    let (mut lookup, now) = lookup();
    [1, 2].into_iter().for_each(|distance| lookup.add_unknown(node(distance).address));
    assert_eq!(asks(&mut lookup).len(), 2);
    answers(&mut lookup, 1, &[]);
    assert!(!lookup.is_done(now));
    lookup.failed(node(2).address);
    assert!(lookup.is_done(now));
    assert_eq!(lookup.found(), [node(1)]);
}

#[test]
fn a_search_that_nobody_answers_ends_at_its_time() {
    let (mut lookup, now) = lookup();
    lookup.add(node(1));
    asks(&mut lookup);
    assert!(!lookup.is_done(now + LASTS_MAX - Duration::from_millis(1)));
    assert!(lookup.is_done(now + LASTS_MAX));
    assert_eq!(lookup.found(), []);
}

#[test]
fn who_tells_of_nodes_without_end_fills_no_more_than_there_may_be() {
    let (mut lookup, _) = lookup();
    for number in 0..1000u32 {
        let id = Id::hash(&[&number.to_be_bytes()]);
        lookup.add(Node { id, address: SocketAddrV4::new((0x0a00_0000 + number).into(), 1) });
    }
    assert_eq!(lookup.candidates.len(), CANDIDATES_MAX);
    let mut same_place = self::lookup().0;
    (1..=100).for_each(|distance| {
        same_place.add(Node {
            address: SocketAddrV4::new([10, 0, 0, 1].into(), distance.into()),
            ..node(distance)
        });
    });
    assert_eq!(same_place.candidates.len(), NODES_PER_IP);
    let mut peers = self::lookup().0;
    peers.take_peers((0..10_000u32).map(|number| SocketAddrV4::new(number.into(), 1)).collect());
    assert_eq!(peers.peers.len(), FOUND_MAX);
}

#[test]
fn ids_that_do_not_fit_their_public_address_are_asked_last() {
    let (mut lookup, _) = lookup();
    let chosen = Node { address: "203.0.113.7:1".parse().unwrap(), ..node(0) };
    lookup.add(chosen);
    lookup.add(node(200));
    assert_eq!(asks(&mut lookup), [200, 7]);
}

#[test]
fn the_newest_value_wins_and_who_has_an_older_one_is_named() {
    let (mut lookup, _) = lookup();
    let key = Keypair::generate_ed25519();
    let signed = |seq| Item::signed(&key, b"", seq, b"").unwrap();
    for (distance, seq) in [(1, Some(2)), (2, Some(1)), (3, None)] {
        lookup.add(node(distance));
        seq.into_iter().for_each(|seq| lookup.take(signed(seq)));
        lookup.answered(node(distance), Vec::new(), Some(vec![distance]), seq);
    }
    assert_eq!(lookup.item, Some(signed(2)));
    assert_eq!(lookup.places(Some(2)), [(node(2).address, vec![2])]);
}
