//! What is stored at others, and found there.

use super::*;

#[test]
fn what_one_of_fifty_stores_the_others_find() {
    let mut world = World::with(50);
    let key = Keypair::generate_ed25519();
    let item = Item::signed(&key, b"", 1, b"here I am").unwrap();
    let stored = world.put(at(7), item.clone());
    assert!(stored >= 15, "at {stored} nodes");
    for number in (0..50).step_by(7) {
        assert_eq!(world.get(at(number), item.target()), Some(item.clone()), "node {number}");
    }
    let told = |event: &MainlineEvent| matches!(event, MainlineEvent::DataStored { nodes: None, .. });
    assert!(world.events.iter().filter(|(_, event)| told(event)).count() >= stored);
    let told = MainlineEvent::DataStored { target: item.target(), nodes: Some(stored) };
    assert!(world.events.contains(&(at(7), told)));
    let asked = world.events.iter().filter_map(|(_, event)| match event {
        MainlineEvent::LookupCompleted { target, asked, .. } if *target == item.target() => Some(*asked),
        _ => None,
    });
    assert!(asked.clone().max().unwrap() < 40, "of 50, most need not be asked");
}

#[test]
fn what_one_announces_others_find() {
    let mut world = World::with(20);
    let hash = Id::hash(&[b"content"]);
    for (number, port) in [(3, Some(4000)), (4, None)] {
        let outcome = world.look_up(at(number), hash, Want::Peers, Then::Announce { port });
        assert!(matches!(outcome, Outcome::Stored(nodes) if nodes >= 10), "{outcome:?}");
    }
    let Outcome::Peers(mut found) = world.look_up(at(9), hash, Want::Peers, Then::Nothing) else {
        panic!()
    };
    found.sort();
    let expected = [SocketAddrV4::new(*at(3).ip(), 4000), at(4)];
    assert_eq!(found, expected);
}

#[test]
fn a_newer_value_replaces_an_older_one_also_where_it_was_missed() {
    let mut world = World::with(20);
    let key = Keypair::generate_ed25519();
    let signed = |seq| Item::signed(&key, b"", seq, b"value").unwrap();
    let target = signed(1).target();
    world.put(at(1), signed(1));
    let missed: Vec<SocketAddrV4> = (10..15).map(at).collect();
    world.cut_off.clone_from(&missed);
    world.put(at(1), signed(2));
    world.cut_off.clear();
    world.run(700 * S);
    let newest = |world: &mut World| -> usize {
        let has = |machine: &&mut Machine| machine.store.value(target) == Some(&signed(2));
        world.nodes.values_mut().filter(has).count()
    };
    let before = newest(&mut world);
    assert_eq!(world.get(at(10), target), Some(signed(2)));
    world.run(S);
    assert!(newest(&mut world) > before, "whoever reads brings it to them");
    world.put(at(2), signed(1));
    assert_eq!(world.get(at(3), target), Some(signed(2)), "an older one displaces it nowhere");
}

#[test]
fn what_is_nowhere_is_not_found_and_no_nodes_are_none() {
    let mut world = World::with(5);
    assert_eq!(world.get(at(1), id(9)), None);
    world.add(at(99), Settings::default(), &[]);
    assert_eq!(world.get(at(99), id(9)), None);
    assert_eq!(world.put(at(99), Item::immutable(b"a").unwrap()), 0);
}

#[test]
fn one_search_too_many_is_refused_and_all_end() {
    let mut world = World::with(5);
    let now = world.now;
    let begin = |world: &mut World, number: u8| {
        world.node(at(1)).look_up(id(number), Want::Nodes, Then::Nothing, None, now)
    };
    let max = LOOKUPS_MAX as u8;
    assert!((0..max).all(|number| begin(&mut world, number).is_ok()));
    assert_eq!(begin(&mut world, max), Err(Busy { limit: LOOKUPS_MAX }));
    world.drain(at(1));
    world.run(30 * S);
    assert!(world.outcomes.len() >= LOOKUPS_MAX);
    assert!(begin(&mut world, max).is_ok());
}
