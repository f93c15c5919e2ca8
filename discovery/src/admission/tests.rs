//! Who gets in.
#![allow(clippy::unwrap_used)]

use std::time::Instant;

use super::{groups::TABLE_MIN, *};

const S: Duration = Duration::from_secs(1);

struct World {
    admission: Admission,
    now: Instant,
}

impl World {
    fn new() -> Self {
        Self::with(BTreeSet::new())
    }

    fn with(trusted: BTreeSet<PeerId>) -> Self {
        Self::with_buckets(trusted, ADMITTED_MAX)
    }

    fn with_buckets(trusted: BTreeSet<PeerId>, bucket_size: usize) -> Self {
        let addresses =
            Arc::new(|address: &Multiaddr, _: PeerId| !address.to_string().contains("/ip4/10."));
        let exempt = Arc::new(|ip: IpAddr| ip.to_string().starts_with("192.168."));
        let settings = Settings { local: PeerId::random(), bucket_size, trusted, addresses, exempt };
        Self { admission: Admission::new(settings), now: Instant::now() }
    }

    fn handle(&mut self, input: Input) -> Vec<Action> {
        self.admission.handle(input, self.now);
        self.actions()
    }

    fn actions(&mut self) -> Vec<Action> {
        std::iter::from_fn(|| self.admission.poll_action()).collect()
    }

    fn identified(&mut self, peer: PeerId, addresses: &[&str]) -> Vec<Action> {
        let addresses = addresses.iter().map(|text| at(text)).collect();
        self.handle(Input::Identified { peer, serves: true, addresses })
    }

    fn reached(&mut self, peer: PeerId, address: &str) -> Vec<Action> {
        self.handle(Input::Reached { peer, address: at(address) })
    }

    /// A peer comes and is dialled back. Whether it is in.
    fn joins(&mut self, address: &str) -> (PeerId, bool) {
        let peer = PeerId::random();
        self.identified(peer, &[address]);
        self.reached(peer, address);
        (peer, self.admission.is_admitted(&peer))
    }

    /// So many peers, each of another part of the internet.
    fn crowd(&mut self, count: usize) {
        for number in 0..count {
            assert!(self.joins(&format!("/ip4/{}.1.1.1/tcp/1", 20 + number)).1);
        }
    }

    fn denied(&self, name: &str) -> u64 {
        self.admission.denials().get(name).copied().unwrap_or_default()
    }
}

fn at(text: &str) -> Multiaddr {
    text.parse().unwrap()
}

const A: &str = "/ip4/198.51.100.7/tcp/4001";
const B: &str = "/ip4/198.51.100.7/udp/4001/quic-v1";

#[test]
fn who_says_it_serves_is_dialled_back_and_gets_in_at_the_address_where_it_was_reached() {
    let (mut world, peer) = (World::new(), PeerId::random());
    let addresses = vec![at(A), at(B)];
    assert_eq!(world.identified(peer, &[A, B]), [Action::Dial { peer, addresses }]);
    assert!(!world.admission.is_admitted(&peer));
    assert_eq!(world.reached(peer, B), [Action::Admit { peer, address: at(B) }]);
    assert_eq!(world.reached(peer, B), [], "it is there");
    assert_eq!(world.reached(peer, A), [Action::Admit { peer, address: at(A) }]);
}

#[test]
fn who_was_dialled_before_it_identified_itself_is_not_dialled_again() {
    let (mut world, peer) = (World::new(), PeerId::random());
    assert_eq!(world.reached(peer, A), []);
    assert_eq!(world.identified(peer, &[B]), [Action::Admit { peer, address: at(A) }]);
}

#[test]
fn who_is_not_reached_stays_out_and_is_not_dialled_again_for_ten_minutes() {
    let (mut world, peer) = (World::new(), PeerId::random());
    world.identified(peer, &[A]);
    world.handle(Input::Unreached { peer });
    assert_eq!((world.denied("unreached"), world.identified(peer, &[A])), (1, vec![]));
    world.now += REST - S;
    assert_eq!((world.identified(peer, &[A]), world.denied("rests")), (vec![], 2));
    world.now += S;
    assert_eq!(world.identified(peer, &[A]).len(), 1);
}

#[test]
fn a_dial_that_never_ends_has_failed_after_ten_seconds() {
    let (mut world, peer) = (World::new(), PeerId::random());
    world.identified(peer, &[A]);
    assert_eq!(world.admission.poll_timeout(), Some(world.now + DIAL_DEADLINE));
    world.now += DIAL_DEADLINE;
    world.admission.handle_timeout(world.now);
    assert_eq!(world.denied("unreached"), 1);
    assert_eq!(world.admission.poll_timeout(), Some(world.now + REST));
    world.now += REST;
    world.admission.handle_timeout(world.now);
    assert_eq!(world.admission.poll_timeout(), None);
}

#[test]
fn neither_a_circuit_nor_a_refused_address_nor_another_peers_lets_anybody_in() {
    let (mut world, peer, relay) = (World::new(), PeerId::random(), PeerId::random());
    let circuit = format!("{A}/p2p/{relay}/p2p-circuit");
    let foreign = format!("{A}/p2p/{relay}");
    let useless = [&circuit, &foreign, "/ip4/10.0.0.1/tcp/1", "/dns4/example.org/tcp/1"];
    assert_eq!(world.identified(peer, &useless), []);
    assert_eq!(world.denied("no_address"), 1);
    world.identified(peer, &[A]);
    world.reached(peer, &circuit);
    assert!(!world.admission.is_admitted(&peer));
}

#[test]
fn who_does_not_serve_is_not_dialled_and_who_stops_serving_leaves() {
    let (mut world, peer) = (World::new(), PeerId::random());
    let stops = || Input::Identified { peer, serves: false, addresses: vec![at(A)] };
    assert_eq!(world.handle(stops()), []);
    world.identified(peer, &[A]);
    world.reached(peer, A);
    assert_eq!(world.handle(stops()), [Action::Remove { peer }]);
}

#[test]
fn eight_are_dialled_at_once_and_the_next_when_one_is_done() {
    let mut world = World::new();
    let peers: Vec<PeerId> = (0..DIALS_MAX + 2).map(|_| PeerId::random()).collect();
    let dials = peers.iter().map(|peer| world.identified(*peer, &[A]).len()).sum::<usize>();
    assert_eq!(dials, DIALS_MAX);
    assert_eq!(world.handle(Input::Unreached { peer: peers[0] }).len(), 1);
    assert_eq!(world.reached(peers[1], A).len(), 2, "admitted, and the next one dialled");
    assert_eq!(world.handle(Input::Unreached { peer: peers[2] }).len(), 0);
}

#[test]
fn a_crowd_that_wants_in_fills_no_more_than_the_places_where_one_waits() {
    let mut world = World::new();
    for _ in 0..10_000 {
        world.identified(PeerId::random(), &[A]);
    }
    assert_eq!(world.admission.waiting.len(), WAITING_MAX);
    assert_eq!(world.denied("busy") as usize, 10_000 - WAITING_MAX - DIALS_MAX);
    for _ in 0..10_000 {
        world.reached(PeerId::random(), A);
    }
    assert_eq!(world.admission.proved.len(), WAITING_MAX);
    for _ in 0..RESTING_MAX + DIALS_MAX {
        let dialled = *world.admission.dialling.keys().next().unwrap();
        world.handle(Input::Unreached { peer: dialled });
        world.identified(PeerId::random(), &[A]);
    }
    assert_eq!(world.admission.resting.len(), RESTING_MAX);
}

#[test]
fn of_many_addresses_of_one_peer_eight_are_dialled_and_eight_are_kept() {
    let (mut world, peer) = (World::new(), PeerId::random());
    let addresses: Vec<String> = (1..=100).map(|port| format!("/ip4/198.51.100.7/tcp/{port}")).collect();
    let named: Vec<&str> = addresses.iter().map(String::as_str).collect();
    let Action::Dial { addresses: dialled, .. } = &world.identified(peer, &named)[0] else { panic!() };
    assert_eq!(dialled.len(), ADDRESSES_MAX);
    let kept: usize = named.iter().map(|address| world.reached(peer, address).len()).sum();
    assert_eq!(kept, ADDRESSES_MAX);
}

#[test]
fn in_a_small_network_all_peers_may_be_neighbours() {
    let mut world = World::new();
    let joined = (1..=TABLE_MIN).filter(|host| world.joins(&format!("/ip4/198.51.100.{host}/tcp/1")).1);
    assert_eq!(joined.count(), TABLE_MIN);
}

#[test]
fn above_twenty_peers_three_of_a_small_network_get_in_and_eight_of_a_large_one() {
    for (small, large) in [("/ip4/198.51.100.", "/ip4/198.51."), ("/ip6/2001:db8:1::", "/ip6/2001:db8:")]
    {
        let mut world = World::new();
        world.crowd(TABLE_MIN);
        let v6 = small.starts_with("/ip6");
        let joined = (1..200).filter(|host| world.joins(&format!("{small}{host}/tcp/1")).1).count();
        // Whichever buckets they are in, two of one get in, and three in all.
        assert!((2..=3).contains(&joined), "{joined}");
        let other = |net: usize| {
            if v6 { format!("{large}{net}::1/tcp/1") } else { format!("{large}{net}.1/tcp/1") }
        };
        let joined = joined + (101..200).filter(|net| world.joins(&other(*net)).1).count();
        assert_eq!(joined, groups::LARGE_PER_TABLE_MAX);
        assert!(world.denied("crowd") > 200);
    }
}

#[test]
fn an_address_of_ipv4_in_ipv6_counts_as_what_it_is() {
    let mut world = World::new();
    world.crowd(TABLE_MIN);
    let join = |world: &mut World, net: &str, hosts: std::ops::Range<u8>| {
        hosts.filter(|host| world.joins(&format!("{net}{host}/tcp/1")).1).count()
    };
    let plain = join(&mut world, "/ip4/198.51.100.", 1..100);
    let mapped = join(&mut world, "/ip6/::ffff:198.51.100.", 100..200);
    assert!(plain + mapped <= groups::SMALL_PER_TABLE_MAX);
    assert!((100..110).all(|net| join(&mut world, &format!("/ip6/::ffff:{net}.1.1."), 1..2) == 1));
}

#[test]
fn when_the_table_has_grown_those_of_a_crowd_that_came_last_make_way() {
    let mut world = World::new();
    let neighbours: Vec<PeerId> =
        (1..=TABLE_MIN).map(|host| world.joins(&format!("/ip4/198.51.100.{host}/tcp/1")).0).collect();
    world.crowd(TABLE_MIN);
    let left = neighbours.iter().filter(|peer| world.admission.is_admitted(peer)).count();
    assert!((2..=3).contains(&left), "{left} are left");
    assert!(world.admission.is_admitted(&neighbours[0]), "the first one stays");
    assert!(world.admission.count() >= TABLE_MIN);
}

#[test]
fn peers_of_the_operator_and_addresses_that_are_exempt_are_in_no_crowd() {
    let trusted: BTreeSet<PeerId> = (0..10).map(|_| PeerId::random()).collect();
    let mut world = World::with(trusted.clone());
    world.crowd(TABLE_MIN);
    for peer in trusted {
        world.reached(peer, "/dns4/bootstrap.example/tcp/1");
        world.identified(peer, &[]);
        assert!(world.admission.is_admitted(&peer));
    }
    assert!((1..100).all(|host| world.joins(&format!("/ip4/192.168.1.{host}/tcp/1")).1));
}

#[test]
fn who_cannot_be_reached_three_times_in_ten_minutes_leaves_the_table() {
    let mut world = World::new();
    let (peer, _) = world.joins(A);
    let fail = |world: &mut World| world.handle(Input::Unreached { peer });
    assert_eq!((fail(&mut world), fail(&mut world)), (vec![], vec![]));
    world.reached(peer, A);
    assert_eq!((fail(&mut world), fail(&mut world)), (vec![], vec![]), "it was reached in between");
    world.now += FAILURES_WITHIN;
    assert_eq!((fail(&mut world), fail(&mut world)), (vec![], vec![]), "that was long ago");
    assert_eq!(fail(&mut world), [Action::Remove { peer }]);
}

#[test]
fn who_is_shunned_leaves_and_its_place_is_free() {
    let mut world = World::new();
    world.crowd(TABLE_MIN);
    let joined: Vec<PeerId> = (1..50)
        .map(|host| world.joins(&format!("/ip4/198.51.100.{host}/tcp/1")))
        .filter_map(|(peer, joined)| joined.then_some(peer))
        .collect();
    for peer in joined {
        assert_eq!(world.handle(Input::Shunned { peer }), [Action::Remove { peer }]);
    }
    assert!(world.joins("/ip4/198.51.100.99/tcp/1").1);
    let (peer, _) = world.joins("/ip4/203.0.113.1/tcp/1");
    assert_eq!(world.handle(Input::Left { peer }), [], "libp2p has removed it");
    assert!(!world.admission.is_admitted(&peer));
}

#[test]
fn the_table_has_an_end() {
    let mut world = World::new();
    let joined = (0..ADMITTED_MAX + 50).filter(|number| {
        world.joins(&format!("/ip4/192.168.{}.{}/tcp/1", number / 250, number % 250)).1
    });
    assert_eq!(joined.count(), ADMITTED_MAX);
    assert_eq!(world.denied("full"), 50);
}

#[test]
fn a_peer_whose_bucket_is_full_of_peers_that_were_reached_lately_is_not_even_dialled() {
    let trusted = PeerId::random();
    let mut world = World::with_buckets(BTreeSet::from([trusted]), 2);
    // Of sixty strangers some thirty are of the half of the network that is not ours, and so on.
    let joined: Vec<PeerId> = (0..60)
        .map(|number| world.joins(&format!("/ip4/{}.1.1.1/tcp/1", 20 + number)))
        .filter_map(|(peer, is_in)| is_in.then_some(peer))
        .collect();
    assert!((4..=20).contains(&joined.len()), "{}", joined.len());
    assert_eq!(world.denied("bucket"), 60 - joined.len() as u64);
    let knock = |world: &mut World| {
        let mut knocks = || !world.identified(PeerId::random(), &["/ip4/9.9.9.9/tcp/1"]).is_empty();
        (0..8).filter(|_| knocks()).count()
    };
    assert!(knock(&mut world) < 6, "most are of a full half");
    assert_eq!(world.identified(trusted, &[B]).len(), 1, "whom the operator named is dialled");
    // Those in it may be dead by now: the library looks, and one of them makes way.
    world.now += REACHED_LATELY;
    world.admission.handle_timeout(world.now);
    assert_eq!(knock(&mut world), DIALS_MAX.min(8));
    for peer in joined {
        world.reached(peer, A);
    }
    world.now += DIAL_DEADLINE;
    world.admission.handle_timeout(world.now);
    assert!(knock(&mut world) < 6, "they are not");
}
