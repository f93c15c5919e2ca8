//! This host gets into another network, or wakes up.

use super::*;
use crate::engine::liveness::GIVEN_UP;

/// The relays that are dialled.
fn relays(actions: &[Action]) -> Vec<PeerId> {
    dials(actions).into_iter().map(|(_, relay, _)| relay).collect()
}

#[test]
fn in_another_network_a_relay_is_dialled_at_once_and_its_backoff_begins_anew() {
    let mut world = World::new();
    let mut actions = world.tell(Input::Reserve { relay: relay(9) });
    for _ in 0..10 {
        world.dial_failed(dials(&actions)[0].0);
        actions = world.pass(2 * S);
    }
    world.dial_failed(dials(&actions)[0].0);
    let actions = world.tell(Input::NetworkChanged { begun: Vec::new() });
    assert_eq!(relays(&actions), [relay(9).peer()]);
    world.dial_failed(dials(&actions)[0].0);
    assert!(world.engine.poll_timeout().unwrap() - world.now <= Duration::from_millis(250));
}

#[test]
fn a_dial_of_a_relay_that_began_in_the_network_before_is_not_waited_for() {
    let mut world = World::new();
    let before = dials(&world.tell(Input::Reserve { relay: relay(9) }))[0].0;
    let actions = world.tell(Input::NetworkChanged { begun: Vec::new() });
    assert_eq!(relays(&actions), [relay(9).peer()]);
    let after = dials(&actions)[0].0;
    assert_eq!(world.dial_failed(before), [], "it speaks of another network");
    let (connection, _) = world.dialled(relay(9).peer(), after);
    reserve(&world.identified(connection));
}

#[test]
fn a_dial_of_a_relay_that_began_in_this_network_goes_on_and_has_its_port_to_itself() {
    let mut world = World::new();
    let dial = dials(&world.tell(Input::Reserve { relay: relay(9) }))[0].0;
    assert_eq!(relays(&world.tell(Input::NetworkChanged { begun: vec![dial] })), []);
    let (connection, actions) = world.dialled(relay(9).peer(), dial);
    assert_eq!(closes(&actions), []);
    reserve(&world.identified(connection));
}

#[test]
fn what_comes_of_a_dial_of_a_relay_that_began_in_the_network_before_is_closed() {
    for late in [false, true] {
        let mut world = World::new();
        let before = dials(&world.tell(Input::Reserve { relay: relay(9) }))[0].0;
        let after = dials(&world.tell(Input::NetworkChanged { begun: Vec::new() }))[0].0;
        if late {
            world.dialled(relay(9).peer(), after);
        }
        let (outdated, actions) = world.dialled(relay(9).peer(), before);
        assert_eq!(closes(&actions), [outdated]);
        let seen: Multiaddr = "/ip4/8.8.8.8/tcp/7".parse().unwrap();
        world.observed(outdated, seen.clone());
        assert!(!world.engine.candidates.offer(false).contains(&seen), "nobody leaves from there");
        world.closed(outdated);
        if !late {
            let (connection, _) = world.dialled(relay(9).peer(), after);
            reserve(&world.identified(connection));
        }
    }
}

#[test]
fn where_relays_saw_us_in_the_network_before_is_not_offered_in_this_one() {
    for left in [true, false] {
        let mut world = World::new();
        let link = world.reserved(&relay(9));
        let seen: Multiaddr = "/ip4/8.8.8.8/tcp/7".parse().unwrap();
        world.observed(link, seen.clone());
        if left {
            world.tell(Input::AddressGone { connection: link });
        }
        world.tell(Input::NetworkChanged { begun: Vec::new() });
        let offered = world.engine.candidates.offer(false);
        assert_eq!(offered.contains(&seen), !left, "a relay that is still there sees us as before");
    }
}

#[test]
fn a_relay_that_is_only_used_to_dial_circuits_is_not_dialled_for_another_network() {
    let mut world = World::new();
    let connection = world.reserved(&relay(9));
    assert_eq!(
        world.tell(Input::NetworkChanged { begun: Vec::new() }),
        [],
        "a link that is up is left alone"
    );
    world.learn(peer(1), &[relay(8).circuit_to(peer(1))]);
    world.open(peer(1));
    let (link, _) =
        world.established(relay(8).peer(), Path::Direct, Transport::Tcp, None, Direction::Outbound);
    world.closed(link);
    world.closed(connection);
    let actions = world.tell(Input::NetworkChanged { begun: Vec::new() });
    assert_eq!(relays(&actions), [relay(9).peer()]);
}

#[test]
fn a_stream_that_waits_to_look_for_its_peer_again_looks_at_once_in_another_network() {
    let mut world = World::new();
    world.learn(peer(1), &[direct(1)]);
    let connection = world.connected(peer(1), Path::Direct, Transport::Tcp);
    world.stream_on(connection, peer(1));
    world.leg_ended(connection);
    let mut actions = world.closed(connection);
    let detached = Input::StreamDetached { key: key(), connection: Some(connection), silent: false };
    actions.extend(world.tell(detached));
    for _ in 0..8 {
        world.dial_failed(dials(&actions)[0].0);
        assert_eq!(dials(&world.pass(100 * MS)), []);
        actions = world.pass(4 * S);
    }
    world.dial_failed(dials(&actions)[0].0);
    assert_eq!(dials(&world.pass(100 * MS)), []);
    assert_eq!(dials(&world.tell(Input::NetworkChanged { begun: Vec::new() }))[0].1, peer(1));
}

#[test]
fn a_peer_to_which_a_connection_is_kept_is_looked_for_in_another_network() {
    let mut world = World::new();
    world.learn(peer(1), &[direct(1)]);
    let mut actions = world.tell(Input::Hold { peer: peer(1) });
    for _ in 0..8 {
        world.dial_failed(dials(&actions)[0].0);
        actions = world.pass(HOUR / 12);
    }
    world.dial_failed(dials(&actions)[0].0);
    assert_eq!(dials(&world.pass(S)), []);
    assert_eq!(dials(&world.tell(Input::NetworkChanged { begun: Vec::new() }))[0].1, peer(1));
}

#[test]
fn the_router_is_asked_anew_for_the_same_listeners_in_another_network() {
    let mut world = World::new();
    world.tell(Input::Listening { address: "/ip4/192.168.1.7/tcp/4001".parse().unwrap() });
    let asks = |actions: &[Action]| {
        actions.iter().filter(|action| matches!(action, Action::MapPorts { .. })).count()
    };
    assert_eq!(asks(&world.tell(Input::NetworkChanged { begun: Vec::new() })), 1);
}

#[test]
fn who_slept_for_longer_than_others_wait_closes_all_direct_connections_and_dials_its_relay() {
    let mut world = World::new();
    let link = world.reserved(&relay(9));
    let there = world.connected(peer(1), Path::Direct, Transport::Quic);
    world.connected(peer(2), relayed(&relay(9)), Transport::Tcp);
    assert_eq!(closes(&world.tell(Input::Slept { lasted: GIVEN_UP - S })), [], "they may live");
    let actions = world.tell(Input::Slept { lasted: GIVEN_UP });
    assert_eq!(closes(&actions), [link, there]);
    let dead = |action: &Action| matches!(action, Action::CloseConnection { dead: true, .. });
    assert_eq!(actions.iter().filter(|action| dead(action)).count(), 2, "nothing said on them arrives");
    let actions = world.closed(link);
    assert_eq!(relays(&actions), [relay(9).peer()]);
}

#[test]
fn a_peer_that_closes_one_connection_as_it_leaves_its_network_is_not_gone_while_another_falls_silent() {
    let mut world = World::new();
    world.learn(peer(1), &[relay(9).circuit_to(peer(1))]);
    world.reserved(&relay(9));
    let [first, second] =
        std::array::from_fn(|_| world.connected(peer(1), Path::Direct, Transport::Quic));
    world.stream_on(first, peer(1));
    world.tell(Input::Responsive { connection: first, round_trip: MS, took: MS });
    world.leg_ended(first);
    world.closed(first);
    let detached = Input::StreamDetached { key: key(), connection: Some(first), silent: false };
    assert_eq!(moves(&world.tell(detached)), [second]);
    assert!(!world.pass(1500 * MS).contains(&Action::Forsake { key: key() }));
    let mut actions = world.tell(Input::MoveFailed { key: key(), connection: second, silent: true });
    actions.extend(world.pass(300 * MS));
    assert_eq!(dials(&actions)[0].1, peer(1));
    assert!(!world.pass(500 * MS).contains(&Action::Forsake { key: key() }));
    let circuit = world.connected(peer(1), relayed(&relay(9)), Transport::Quic);
    world.tell(Input::StreamMoved { key: key(), to: circuit });
    assert!(!world.pass(5 * S).contains(&Action::Forsake { key: key() }));
}

#[test]
fn a_peer_that_said_that_it_closes_its_only_connection_lives_and_its_stream_waits_for_it() {
    let closed = |closed| Some(Word::Absent { peer: peer(1), closed });
    for (cause, relay_says, forsaken) in [
        (CloseCause::Peer, None, false),
        (CloseCause::System, None, true),
        (CloseCause::System, closed(true), true),
        (CloseCause::System, closed(false), false),
    ] {
        let mut world = World::new();
        world.learn(peer(1), &[relay(9).circuit_to(peer(1))]);
        let link = world.reserved(&relay(9));
        let only = world.connected(peer(1), Path::Direct, Transport::Tcp);
        world.stream_on(only, peer(1));
        world.tell(Input::Responsive { connection: only, round_trip: MS, took: MS });
        world.leg_ended(only);
        world.tell(Input::ConnectionClosed { connection: only, cause: cause.clone() });
        world.tell(Input::StreamDetached { key: key(), connection: Some(only), silent: false });
        if let Some(word) = relay_says {
            world.tell(Input::Heard { connection: link, word });
        }
        let actions = world.pass(5 * S);
        assert_eq!(actions.contains(&Action::Forsake { key: key() }), forsaken, "{cause}");
    }
}

#[test]
fn strangers_who_come_and_go_do_not_keep_a_peer_s_death_from_being_noticed() {
    let mut world = World::new();
    let only = world.connected(peer(1), Path::Direct, Transport::Tcp);
    world.stream_on(only, peer(1));
    // More than departures are remembered, within the time that they are.
    for number in 0..2_000 {
        let cause = if number % 2 == 0 { CloseCause::Peer } else { CloseCause::System };
        let stranger = PeerId::random();
        let visit = world.connected(stranger, Path::Direct, Transport::Tcp);
        world.tell(Input::ConnectionClosed { connection: visit, cause });
    }
    world.tell(Input::Responsive { connection: only, round_trip: MS, took: MS });
    world.leg_ended(only);
    world.tell(Input::ConnectionClosed { connection: only, cause: CloseCause::System });
    world.tell(Input::StreamDetached { key: key(), connection: Some(only), silent: false });
    assert!(world.pass(2 * S).contains(&Action::Forsake { key: key() }));
}

#[test]
fn a_node_that_stops_dials_nobody_for_another_network() {
    let mut world = World::new();
    let actions = world.tell(Input::Reserve { relay: relay(9) });
    world.dial_failed(dials(&actions)[0].0);
    world.connected(peer(1), Path::Direct, Transport::Tcp);
    world.tell(Input::Shutdown);
    assert_eq!(dials(&world.tell(Input::NetworkChanged { begun: Vec::new() })), []);
}
