//! What a node tells of itself.

use super::*;
use crate::{
    engine::{
        input::{Exchange, PingId},
        liveness::pings::PINGS_MAX,
    },
    error::UpgradeFailure,
    status::{Health, Purpose, RelayState, Status},
    word::Word,
};

/// What is asked on which connection, and what was answered.
fn asked(actions: &[Action]) -> Vec<(ConnectionId, u64)> {
    let beats = said(actions).into_iter().filter_map(|(connection, word)| match word {
        Word::Beat(number) => Some((connection, number)),
        _ => None,
    });
    beats.collect()
}

fn answered(actions: &[Action]) -> Vec<(PingId, Option<ConnectionId>)> {
    let pick = |action: &Action| match action {
        Action::Pinged { ping, answer } => Some((*ping, answer.map(|(connection, _)| connection))),
        _ => None,
    };
    actions.iter().filter_map(pick).collect()
}

#[test]
fn a_ping_is_asked_where_new_streams_go_and_answered_there() {
    let mut world = World::new();
    let ping = |number| Input::Ping { ping: PingId(number), peer: peer(1) };
    assert_eq!(answered(&world.tell(ping(1))), [(PingId(1), None)], "nobody is there");
    let circuit = world.connected(peer(1), relayed(&relay(9)), Transport::Tcp);
    let direct = world.connected(peer(1), Path::Direct, Transport::Tcp);
    let [(on, number)] = asked(&world.tell(ping(2)))[..] else { panic!("asked once") };
    assert_eq!(on, direct);
    let echo = |connection, number| Input::Heard { connection, word: Word::Echo(number) };
    assert_eq!(asked(&world.tell(echo(circuit, number))), [], "not where it was asked");
    let [(on, number)] = asked(&world.tell(echo(direct, number)))[..] else { panic!("asked again") };
    assert_eq!(on, direct);
    assert_eq!(answered(&world.tell(echo(direct, number))), [(PingId(2), Some(direct))]);
    assert_eq!(answered(&world.tell(echo(direct, number))), [], "once");
}

#[test]
fn the_first_ping_of_a_connection_does_not_tell_the_time_that_its_substreams_took_to_open() {
    let mut world = World::new();
    let direct = world.connected(peer(1), Path::Direct, Transport::Tcp);
    // Each end opens one before it can speak: two round trips of 50 ms more.
    for (number, waits) in [(1, &[150 * MS, 50 * MS][..]), (2, &[50 * MS])] {
        let mut actions = world.tell(Input::Ping { ping: PingId(number), peer: peer(1) });
        for wait in waits {
            let [(_, beat)] = asked(&actions)[..] else { panic!("asked once") };
            world.pass(*wait);
            actions = world.tell(Input::Heard { connection: direct, word: Word::Echo(beat) });
        }
        let answer = Some((direct, 50 * MS));
        assert!(actions.contains(&Action::Pinged { ping: PingId(number), answer }), "{actions:?}");
    }
}

#[test]
fn of_too_many_pings_the_oldest_have_no_answer() {
    let mut world = World::new();
    let direct = world.connected(peer(1), Path::Direct, Transport::Tcp);
    world.tell(Input::Heard { connection: direct, word: Word::Echo(0) });
    let numbers: Vec<u64> = (0..=PINGS_MAX as u64)
        .map(|number| asked(&world.tell(Input::Ping { ping: PingId(number), peer: peer(1) }))[0].1)
        .collect();
    let mut answers = |number: u64| {
        let input = Input::Heard { connection: direct, word: Word::Echo(number) };
        answered(&world.tell(input)).len()
    };
    assert_eq!((answers(numbers[0]), answers(numbers[1])), (0, 1));
}

const FOUND: Purpose = Purpose::BeFound { by_relays: true };

impl World {
    fn status(&self) -> Status {
        self.engine.status(self.now)
    }

    /// What keeps it from being found through its relays.
    fn hindrance(&self) -> Option<String> {
        self.status().hindrance(&FOUND)
    }
}

#[test]
fn a_relay_is_told_by_where_the_node_stands_with_it() {
    let mut world = World::new();
    let actions = world.tell(Input::Reserve { relay: relay(9) });
    assert_eq!(world.status().relays[0].state, RelayState::Connecting);
    assert!(world.hindrance().is_some_and(|why| why.ends_with("does not answer yet")));
    world.dial_failed(dials(&actions)[0].0);
    assert!(world.hindrance().is_some_and(|why| why.contains("is not reached: ")));
    let [down] = &world.status().relays[..] else { panic!("one relay") };
    assert!(matches!(down.state, RelayState::Down { retry: Some(_) }), "{down:?}");
    assert!(down.failures == 1 && down.last_error.is_some(), "{down:?}");
    let mut world = World::new();
    world.reserved(&relay(9));
    let status = world.status();
    let [held] = &status.relays[..] else { panic!("one relay") };
    assert!(matches!(held.state, RelayState::Reserved { .. }) && held.last_error.is_none(), "{held:?}");
    assert_eq!(status.peers.len(), 0, "a relay is no peer");
    assert_eq!(status.hindrance(&FOUND), None);
    let alone = World::new().status();
    assert_eq!(alone.hindrance(&Purpose::BeFound { by_relays: false }), None);
    assert_eq!(alone.hindrance(&FOUND).as_deref(), Some("no relay was dialled yet"));
}

/// A node whose relay answers no more.
fn unserved() -> (World, impl Fn(&World) -> Option<String>) {
    let mut world = World::new();
    world.reserved(&relay(9));
    assert_eq!(world.hindrance(), None);
    let hindrance = |world: &World| {
        let mut status = world.status();
        status.relays[0].health.health = Health::Down;
        status.hindrance(&FOUND)
    };
    assert!(hindrance(&world).is_some_and(|why| why.ends_with("answers no more")));
    (world, hindrance)
}

#[test]
fn a_node_is_usable_by_a_relay_that_answers_or_by_four_peers_that_it_uses_or_lets_in() {
    let (mut world, hindrance) = unserved();
    let service: Service = "web".parse().unwrap();
    world.tell(Input::Welcome { service, peers: vec![peer(1), peer(2)] });
    world.tell(Input::Hold { peer: peer(3) });
    world.tell(Input::Hold { peer: peer(4) });
    for number in 1..=4 {
        assert!(hindrance(&world).is_some(), "{} peers", number - 1);
        world.connected(peer(number), Path::Direct, Transport::Tcp);
    }
    assert_eq!(hindrance(&world), None);
}

#[test]
fn strangers_make_no_node_usable_however_many_come() {
    let (mut world, hindrance) = unserved();
    for number in 1..=8 {
        world.visited(peer(number));
    }
    assert_eq!(world.status().peers.len(), 8);
    assert!(hindrance(&world).is_some());
}

#[test]
fn whoever_is_to_find_a_peer_is_usable_by_that_peer_alone() {
    let mut world = World::new();
    let wants = |peers: &[u8]| Purpose::Find(peers.iter().map(|number| peer(*number)).collect());
    for number in 1..=4 {
        world.connected(peer(number), Path::Direct, Transport::Tcp);
    }
    let status = world.status();
    let alone = format!("peer {} is not connected", peer(5));
    assert_eq!(status.hindrance(&wants(&[5])).as_deref(), Some(&*alone));
    assert!(status.hindrance(&wants(&[5, 6])).is_some_and(|why| why.starts_with("none of the 2 peers")));
    assert_eq!(status.hindrance(&wants(&[5, 4])), None);
}

#[test]
fn a_relayed_peer_is_told_with_the_reason_and_a_direct_one_without() {
    let mut world = World::with(|config| config.deadlines.relayed_grace = HOUR);
    let (circuit, _) = world.visited(peer(1));
    assert_eq!(world.status().peers[0].why_relayed, None, "nothing is known yet");
    for number in 1..=4 {
        let reason = UpgradeFailure::Exchange { cause: "the end".to_owned() };
        world.tell(Input::PunchExchangeFailed {
            exchange: Exchange { connection: circuit, number },
            reason,
        });
        world.pass(2 * S);
    }
    let [relayed] = &world.status().peers[..] else { panic!("one peer") };
    assert!(!relayed.path.is_direct() && relayed.why_relayed.is_some(), "{relayed:?}");
    assert!(relayed.next_attempt.is_some(), "{relayed:?}");
    world.connected(peer(1), Path::Direct, Transport::Tcp);
    let [direct] = &world.status().peers[..] else { panic!("one peer") };
    assert!(direct.path.is_direct() && direct.connections.len() == 2, "{direct:?}");
    assert_eq!((&direct.why_relayed, direct.next_attempt), (&None, None));
}

#[test]
fn a_limit_tells_how_much_of_it_is_used() {
    let mut world = World::new();
    let full = |world: &mut World, what| {
        let limits = world.status().limits;
        let limit = limits.into_iter().find(|limit| limit.what == what);
        limit.map(|limit| (limit.used, limit.limit))
    };
    assert_eq!(full(&mut world, "holds"), Some((0, 256)));
    world.tell(Input::Hold { peer: peer(1) });
    world.tell(Input::Hold { peer: peer(2) });
    world.tell(Input::Reserve { relay: relay(9) });
    assert_eq!(full(&mut world, "holds"), Some((2, 256)));
    assert_eq!(full(&mut world, "relays"), Some((1, 16)));
    assert_eq!(full(&mut world, "streams_of_peers"), Some((0, 2048)));
}
