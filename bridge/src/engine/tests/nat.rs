//! What kind of NAT we are behind, as the whole engine learns it and acts on it.

use std::net::SocketAddr;

use super::*;
use crate::{
    engine::paths::nat::Ask,
    nat::{AnswerFrom, Mapping},
};

fn asks(actions: &[Action]) -> Vec<Ask> {
    let pick = |action: &Action| match action {
        Action::AskStun(ask) => Some(*ask),
        _ => None,
    };
    actions.iter().filter_map(pick).collect()
}

fn mappings(events: &[Event]) -> Vec<Option<Mapping>> {
    let pick = |event: &Event| match event {
        Event::NatFound { mapping, .. } => Some(*mapping),
        _ => None,
    };
    events.iter().filter_map(pick).collect()
}

/// A relay's words about its port of STUN, on this connection.
fn offer(world: &mut World, connection: ConnectionId, port: u16) -> Vec<Ask> {
    asks(&world.tell(Input::Heard { connection, word: Word::Stun { port } }))
}

#[test]
fn a_relay_in_use_is_asked_where_it_says_and_nobody_else_is() {
    let mut world = World::new();
    let stranger = world.connected(peer(5), Path::Direct, Transport::Tcp);
    assert_eq!(offer(&mut world, stranger, 3478), []);
    let link = world.reserved(&relay(9));
    let circuit = world.connected(relay(9).peer(), relayed(&relay(8)), Transport::Tcp);
    assert_eq!(offer(&mut world, circuit, 3478), [], "another relay's address is not that of this one");
    assert_eq!(offer(&mut world, link, 0), []);
    let asked = offer(&mut world, link, 3478);
    let [Ask { to, answer_from: AnswerFrom::Here, .. }] = asked[..] else { panic!("{asked:?}") };
    assert_eq!(to, "203.0.113.9:3478".parse::<SocketAddr>().unwrap());
    assert_eq!(offer(&mut world, link, 53), [], "it has said where");
}

/// All servers that are asked see us at the address that `seen` tells.
fn answer(world: &mut World, asked: &[Ask], seen: impl Fn(SocketAddr) -> &'static str) -> Vec<Action> {
    let answers = asked.iter().map(|Ask { probe, to, .. }| Input::StunAnswered {
        probe: *probe,
        from: *to,
        mapped: seen(*to).parse().unwrap(),
        other: None,
    });
    answers.flat_map(|input| world.tell(input)).collect()
}

#[test]
fn when_the_kind_of_nat_is_another_what_stayed_relayed_is_tried_anew() {
    let mut world = World::with(|config| {
        config.stun_servers = ["73.0.0.2", "73.0.0.3"].map(|ip| ip.parse().unwrap()).to_vec();
        config.deadlines.relayed_grace = 100 * HOUR;
        config.deadlines.upgrade_again = 100 * HOUR;
    });
    let (circuit, _) = world.visited(peer(1));
    for _ in 0..10 {
        world.answer(circuit, &[]);
        world.pass(S);
    }
    let failed = |event: &Event| matches!(event, Event::UpgradeFailed { .. });
    assert!(world.events().iter().any(failed));
    world.tell(Input::Listening { address: direct(1) });
    let begins =
        |actions: &[Action]| actions.iter().any(|action| matches!(action, Action::AskPunch { .. }));
    for _ in 0..10 {
        world.answer(circuit, &[]);
        world.pass(S);
    }
    world.events();
    let mut known = Vec::new();
    for ports in [["73.0.0.11:5"; 2], ["73.0.0.11:5"; 2], ["73.0.0.11:6", "73.0.0.11:7"]] {
        // Every hour; the servers do not answer at first, and are asked sooner then.
        let mut steps = (0..36_000).map(|_| asks(&world.pass(100 * MS)));
        let asked = steps.find(|asked| !asked.is_empty()).expect("servers are asked within an hour");
        assert_eq!(asked.len(), 2);
        let actions =
            answer(&mut world, &asked, |to| ports[usize::from(to.ip().to_string() == "73.0.0.3")]);
        known.push((mappings(&world.events()), begins(&actions)));
    }
    let same = Some(Mapping::EndpointIndependent);
    let differ = Some(Mapping::DestinationDependent);
    assert_eq!(known, [(vec![same], false), (vec![], false), (vec![differ], true)]);
}
