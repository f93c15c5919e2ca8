//! How nodes come, stay and go.

use super::*;
use crate::mainline::id::is_public;

#[test]
fn fifty_nodes_join_through_one_and_all_know_many() {
    let mut world = World::with(50);
    for number in 0..50 {
        let known = world.node(at(number)).routing_table().nodes;
        assert!(known >= 8, "node {number} knows {known}");
    }
    let ids: std::collections::BTreeSet<Id> =
        world.nodes.values().map(|node| node.table.own()).collect();
    assert_eq!(ids.len(), 50);
}

#[test]
fn ids_and_transactions_are_as_random_as_the_seed() {
    let now = Instant::now();
    let [first, second] = [[1; 32], [2; 32]].map(|seed| Machine::new(Settings::default(), seed, now));
    let difference = first.table.own().distance(&second.table.own()).bucket();
    assert!(difference.is_some_and(|bits| bits < 16));
    let mut world = World::with(10);
    world.run(S);
    let now = world.now;
    world.node(at(1)).look_up(id(9), Want::Nodes, Then::Nothing, None, now).unwrap();
    let mut sent = Vec::new();
    while let Some((_, packet)) = world.node(at(1)).poll_send() {
        let transaction: [u8; 4] =
            Packet::read(&packet).unwrap().unwrap().transaction.try_into().unwrap();
        sent.push(u32::from_be_bytes(transaction));
    }
    assert!(sent.len() >= 3);
    assert!(sent.windows(2).all(|pair| pair[0].abs_diff(pair[1]) > 1000), "{sent:?}");
}

#[test]
fn who_joins_first_finds_the_network_when_others_come_through_it() {
    let mut world = World::with(2);
    let know_each_other =
        |world: &mut World| [0, 1].map(|number| world.node(at(number)).routing_table().nodes);
    assert_eq!(know_each_other(&mut world), [1, 1]);
    let discovered = |event: &MainlineEvent| matches!(event, MainlineEvent::NodeDiscovered { .. });
    let updated = |event: &MainlineEvent| *event == MainlineEvent::RoutingTableUpdated { nodes: 1 };
    for number in [0, 1] {
        let mut events =
            world.events.iter().filter(|(who, _)| *who == at(number)).map(|(_, event)| event);
        assert!(events.clone().any(discovered) && events.any(updated));
    }
}

#[test]
fn joining_is_tried_again_until_somebody_is_there() {
    let mut world = World::new();
    world.add(at(1), Settings::default(), &[at(0)]);
    world.run(100 * S);
    assert!(!world.node(at(1)).is_joined());
    let before = world.sent;
    assert!(before < 20, "{before} packets: it waits longer each time");
    world.add(at(0), Settings::default(), &[]);
    world.run(300 * S);
    assert!(world.node(at(1)).is_joined());
}

#[test]
fn the_first_node_dies_and_the_others_go_on() {
    let mut world = World::with(20);
    let value = Item::immutable(b"kept").unwrap();
    world.put(at(3), value.clone());
    world.nodes.remove(&at(0));
    assert_eq!(world.get(at(7), value.target()), Some(value));
}

#[test]
fn a_third_of_the_nodes_die_and_values_are_found_and_tables_heal() {
    let mut world = World::with(30);
    let values: Vec<Item> = (0..10u8).map(|number| Item::immutable(&[number]).unwrap()).collect();
    for (number, value) in values.iter().enumerate() {
        world.put(at(number), value.clone());
    }
    (0..30).step_by(3).for_each(|number| drop(world.nodes.remove(&at(number))));
    for value in &values {
        assert_eq!(world.get(at(1), value.target()).as_ref(), Some(value));
    }
    world.run(900 * S);
    let alive: Vec<SocketAddrV4> = world.nodes.keys().copied().collect();
    let dead = world.node(at(1)).table.nodes().filter(|node| !alive.contains(&node.address)).count();
    assert_eq!(dead, 0);
}

#[test]
fn who_was_cut_off_comes_back_though_the_first_node_is_gone() {
    let mut world = World::with(10);
    world.cut_off.push(at(5));
    world.run(1200 * S);
    assert!(!world.node(at(5)).is_joined(), "nobody answers");
    world.nodes.remove(&at(0));
    world.cut_off.clear();
    world.run(400 * S);
    assert!(world.node(at(5)).is_joined());
}

#[test]
fn who_only_asks_is_in_nobody_s_table_and_answers_nobody() {
    let mut world = World::with(5);
    let asks = Settings { serves: false, ..Settings::default() };
    world.add(at(9), asks, &[at(0)]);
    world.run(60 * S);
    assert!(world.node(at(9)).is_joined());
    for number in 0..5 {
        assert!(world.node(at(number)).table.nodes().all(|node| node.address != at(9)));
    }
    world.inject(at(1), at(9), query(id(1), Query::Ping));
    assert!(world.on_the_way_to(at(1)).is_empty());
}

/// Nodes at public addresses.
fn public(number: u8) -> SocketAddrV4 {
    SocketAddrV4::new([203, number, 113, 7].into(), 6881)
}

#[test]
fn where_most_see_it_decides_the_id_of_a_public_node() {
    let mut world = World::new();
    for number in 0..8 {
        let settings = Settings { public: Some(*public(number).ip()), ..Settings::default() };
        world.add(public(number), settings, &[public(0)][..usize::from(number.min(1))]);
    }
    let newcomer = public(100);
    world.add(newcomer, Settings::default(), &[public(0)]);
    world.run(60 * S);
    assert!(is_public(*newcomer.ip()));
    let table = world.node(newcomer).routing_table();
    assert!(table.id.fits(*newcomer.ip()));
    assert_eq!(table.seen_at, Some(newcomer));
    assert!(
        world.node(public(0)).table.nodes().any(|node| node.address == newcomer),
        "it is let in with it"
    );
}

#[test]
fn one_liar_s_view_changes_no_id() {
    let mut world = World::with(2);
    let own = world.node(at(1)).table.own();
    let now = world.now;
    for port in 1..100 {
        let seen = SocketAddrV4::new([203, 0, 113, 7].into(), port);
        world.node(at(1)).vote(*at(0).ip(), seen, now);
    }
    assert_eq!(world.node(at(1)).table.own(), own);
    assert!(world.node(at(1)).upkeep.votes_len() <= 1);
}
