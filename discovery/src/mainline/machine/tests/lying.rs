//! What somebody can do who follows no rules.

use super::*;
use crate::mainline::machine::answering::CHECKS_MAX;

#[test]
fn who_writes_another_s_address_on_his_packets_does_not_enter_there() {
    let mut world = World::with(2);
    let victim = at(77);
    world.inject(victim, at(0), query(id(7), Query::Ping));
    assert_eq!(world.on_the_way_to(victim).len(), 2, "an answer, and one question back");
    world.run(60 * S);
    assert_eq!(world.node(at(0)).routing_table().nodes, 1);
}

#[test]
fn a_crowd_of_such_addresses_is_asked_a_few_at_a_time() {
    let mut world = World::with(2);
    for number in 100..600 {
        world.inject(
            at(number),
            at(0),
            query(Id::hash(&[&[number as u8, (number >> 8) as u8]]), Query::Ping),
        );
    }
    assert!(world.node(at(0)).checks() <= CHECKS_MAX);
}

#[test]
fn who_answers_under_another_id_does_not_enter() {
    let mut world = World::new();
    world.add(at(0), Settings::default(), &[]);
    world.inject(at(1), at(0), query(id(1), Query::Ping));
    let asked =
        world.on_the_way_to(at(1)).into_iter().find(|packet| matches!(packet.body, Body::Query { .. }));
    let Packet { transaction, .. } = asked.unwrap();
    let body = Body::Answer { answer: Box::new(Answer::new(id(2))), sees_us_at: None };
    let packet = Packet { transaction, body }.write(at(0));
    world.deliver(at(1), at(0), &packet);
    assert_eq!(world.node(at(0)).routing_table().nodes, 0);
}

#[test]
fn an_answer_from_elsewhere_or_to_nothing_is_ignored() {
    let mut world = World::new();
    world.add(at(0), Settings::default(), &[]);
    world.inject(at(1), at(0), query(id(1), Query::Ping));
    let asked =
        world.on_the_way_to(at(1)).into_iter().find(|packet| matches!(packet.body, Body::Query { .. }));
    let Packet { transaction, .. } = asked.unwrap();
    let body = Body::Answer { answer: Box::new(Answer::new(id(1))), sees_us_at: None };
    let packet = Packet { transaction, body: body.clone() }.write(at(0));
    world.deliver(at(2), at(0), &packet);
    world.inject(at(1), at(0), body);
    assert_eq!(world.node(at(0)).routing_table().nodes, 0);
    world.deliver(at(1), at(0), &packet);
    assert_eq!(world.node(at(0)).routing_table().nodes, 1);
}

#[test]
fn a_flood_from_one_address_costs_sixty_four_answers_and_others_are_answered() {
    let mut world = World::with(3);
    let (flood, other) = (at(50), at(51));
    for _ in 0..10_000 {
        let body =
            Body::Query { from: id(5), query: Query::FindNode { target: id(6) }, read_only: true };
        world.inject(flood, at(0), body);
    }
    assert_eq!(world.on_the_way_to(flood).len(), 64);
    assert_eq!(world.node(at(0)).routing_table().refused, 10_000 - 64);
    let body = Body::Query { from: id(5), query: Query::Ping, read_only: true };
    world.inject(other, at(0), body);
    assert_eq!(world.on_the_way_to(other).len(), 1);
}

#[test]
fn nodes_that_are_told_take_at_most_four_times_what_was_asked() {
    let mut world = World::with(50);
    let flood = at(90);
    let body = Body::Query { from: id(5), query: Query::FindNode { target: id(6) }, read_only: true };
    let asked = Packet { transaction: b"aa".to_vec(), body: body.clone() }.write(at(0)).len();
    world.inject(flood, at(0), body);
    let answer = world.on_the_way_to(flood)[0].write(flood).len();
    assert!(answer <= 4 * asked, "{answer} bytes for {asked}");
}

#[test]
fn nobody_writes_without_a_token_of_his_address() {
    let mut world = World::with(2);
    let writer = at(60);
    let put = |token: Vec<u8>| {
        let item = Item::immutable(b"a").unwrap();
        Body::Query { from: id(5), query: Query::Put { item, replaces: None, token }, read_only: true }
    };
    let now = world.now;
    let theirs = world.node(at(0)).door.token(*at(61).ip(), now);
    world.inject(writer, at(0), put(Vec::new()));
    world.inject(writer, at(0), put(theirs));
    let refusals = world.on_the_way_to(writer).into_iter().map(|packet| packet.body);
    assert!(refusals.into_iter().all(|body| matches!(body, Body::Refusal(_))));
    assert_eq!(world.node(at(0)).routing_table().values, 0);
    let own = world.node(at(0)).door.token(*writer.ip(), now);
    world.inject(writer, at(0), put(own));
    assert_eq!(world.node(at(0)).routing_table().values, 1);
}

#[test]
fn a_value_that_does_not_belong_to_its_key_is_not_taken() {
    let mut world = World::new();
    world.add(at(0), Settings::default(), &[]);
    let liar = Node { id: id(1), address: at(1) };
    let now = world.now;
    world.node(at(0)).table.answered(liar, now);
    let target = Item::immutable(b"wanted").unwrap().target();
    let lookup = world
        .node(at(0))
        .look_up(target, Want::Value { salt: Vec::new() }, Then::Nothing, None, now)
        .unwrap();
    world.drain(at(0));
    let Packet { transaction, .. } = world.on_the_way_to(at(1)).remove(0);
    let item = Some(Item::immutable(b"something else").unwrap());
    let answer = Answer { item, token: Some(vec![1]), ..Answer::new(liar.id) };
    let body = Body::Answer { answer: Box::new(answer), sees_us_at: None };
    let packet = Packet { transaction, body }.write(at(0));
    world.deliver(at(1), at(0), &packet);
    assert_eq!(world.outcomes.remove(&(at(0), lookup)), Some(Outcome::Value(None)));
}

#[test]
fn events_that_nobody_takes_are_no_more_than_there_may_be() {
    let mut machine = Machine::new(Settings::default(), [0; 32], Instant::now());
    (0..2 * EVENTS_MAX).for_each(|_| machine.table_changed());
    assert_eq!(machine.events.len(), EVENTS_MAX);
}
