//! What kind of NAT we are behind, as the whole engine learns it and acts on it.

use std::net::SocketAddr;

use super::{
    upgrades::{at, public, punches, reasons},
    *,
};
use crate::{
    engine::{
        input::{Offer, Role},
        paths::nat::Ask,
    },
    error::{PunchVerdict, UpgradeFailure},
    event::MappingProtocol,
    nat::{AnswerFrom, Filtering, Mapping, NatKind, NatKinds},
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
fn when_the_kind_of_nat_is_known_or_another_what_stayed_relayed_is_tried_anew() {
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
        for _ in 0..10 {
            world.answer(circuit, &[]);
            world.pass(S);
        }
    }
    let same = Some(Mapping::EndpointIndependent);
    let differ = Some(Mapping::DestinationDependent);
    assert_eq!(known, [(vec![same], true), (vec![], false), (vec![differ], true)]);
}

/// A node that two servers see come from two ports, and that a peer visits through a relay.
fn symmetric() -> (World, ConnectionId) {
    let mut world = World::with(|config| {
        config.stun_servers = ["73.0.0.2", "73.0.0.3"].map(|ip| ip.parse().unwrap()).to_vec();
        config.deadlines.relayed_grace = HOUR;
    });
    let asked = asks(&world.tell(Input::Listening { address: direct(1) }));
    let later = if asked.is_empty() { asks(&world.pass(S)) } else { asked };
    answer(&mut world, &later, |to| match to.ip().to_string().as_str() {
        "73.0.0.3" => "73.0.0.11:6",
        _ => "73.0.0.11:7",
    });
    world.pass(2 * S);
    let known = mappings(&world.events());
    assert_eq!(known.last(), Some(&Some(Mapping::DestinationDependent)));
    let (circuit, _) = world.visited(peer(1));
    (world, circuit)
}

fn of_peer(filtering: Filtering, open: bool) -> Offer {
    let v4 = NatKind { mapping: Some(Mapping::EndpointIndependent), filtering: Some(filtering) };
    let nat = NatKinds { v4, ..NatKinds::default() };
    Offer { candidates: vec![public(1)], nat, open, ..Offer::default() }
}

#[test]
fn where_nobody_can_know_the_port_nobody_dials_and_both_ends_know_why_after_one_exchange() {
    let (mut world, circuit) = symmetric();
    let actions = world.answer_with(circuit, of_peer(Filtering::AddressAndPortDependent, false), false);
    let told = Word::PunchFailed(PunchVerdict::PortsChange);
    assert!(actions.iter().any(|action| matches!(action, Action::Say { word, .. } if *word == told)));
    assert_eq!(punches(&world.pass(S)), []);
    let reasons = reasons(&mut world);
    assert!(matches!(reasons[..], [(UpgradeFailure::PortsChange { .. }, 1)]), "{reasons:?}");
}

/// As seen by a peer behind a NAT that rules out a punch over IPv4, and at an address of its own over IPv6.
fn of_dual_peer(v6: NatKind) -> Offer {
    let mut offer = of_peer(Filtering::AddressAndPortDependent, false);
    offer.candidates.push(OVER_V6.parse().unwrap());
    offer.nat.v6 = v6;
    offer
}

const OVER_V6: &str = "/ip6/2a00::1/tcp/4001";

#[test]
fn where_nats_rule_out_a_punch_over_ipv4_and_both_ends_have_ipv6_they_punch_over_that() {
    let firewall =
        NatKind { mapping: Some(Mapping::None), filtering: Some(Filtering::AddressAndPortDependent) };
    for over_v6 in [NatKind::default(), firewall] {
        let (mut world, circuit) = symmetric();
        world.tell(Input::Listening { address: "/ip6/2a00:0:0:7::7/tcp/4001".parse().unwrap() });
        world.answer_with(circuit, of_dual_peer(over_v6), false);
        let expected: Multiaddr = OVER_V6.parse().unwrap();
        assert_eq!(punches(&world.pass(S))[0].1, [expected], "and nothing over IPv4");
        assert_eq!(reasons(&mut world), []);
    }
}

#[test]
fn where_nats_rule_out_a_punch_over_ipv4_and_one_end_has_no_ipv6_both_know_why_after_one_exchange() {
    let (mut world, circuit) = symmetric();
    world.tell(Input::Listening { address: public(7) });
    world.answer_with(circuit, of_dual_peer(NatKind::default()), false);
    assert_eq!(punches(&world.pass(S)), []);
    let reasons = reasons(&mut world);
    assert!(matches!(reasons[..], [(UpgradeFailure::PortsChange { .. }, 1)]), "{reasons:?}");
}

#[test]
fn an_address_that_lets_anybody_in_over_ipv6_makes_no_punch_over_ipv4_possible() {
    for (ours, theirs) in [(true, false), (false, true)] {
        let (mut world, circuit) = symmetric();
        world.tell(Input::Listening { address: public(7) });
        if ours {
            let external = "[2a00:0:0:7::7]:4001".parse().unwrap();
            world.tell(Input::PortMapped {
                transport: Transport::Tcp,
                external,
                by: MappingProtocol::Pcp,
            });
        }
        world.events();
        let peer = Offer { open_v6: theirs, ..of_peer(Filtering::AddressAndPortDependent, false) };
        world.answer_with(circuit, peer, false);
        assert_eq!(punches(&world.pass(S)), [], "ours: {ours}");
        let reasons = reasons(&mut world);
        assert!(matches!(reasons[..], [(UpgradeFailure::PortsChange { .. }, 1)]), "{reasons:?}");
    }
}

#[test]
fn who_is_let_in_over_ipv4_says_nothing_of_ipv6() {
    let mut world = World::seen();
    let (circuit, _) = world.visited(peer(1));
    world.answer_with(circuit, of_dual_peer(NatKind::default()), false);
    let made = punches(&world.pass(S));
    let called = made.iter().filter(|(.., role)| *role == Role::Caller).map(|made| made.1.clone());
    assert_eq!(called.collect::<Vec<_>>(), [vec![OVER_V6.parse().unwrap()]]);
}

#[test]
fn a_peer_that_lets_in_any_port_or_has_a_mapped_one_is_dialled_although_our_nat_changes_ports() {
    for (filtering, open) in
        [(Filtering::AddressDependent, false), (Filtering::AddressAndPortDependent, true)]
    {
        let (mut world, circuit) = symmetric();
        world.answer_with(circuit, of_peer(filtering, open), false);
        assert!(!punches(&world.pass(S)).is_empty(), "{filtering:?}, open: {open}");
    }
}

#[test]
fn a_neighbour_is_dialled_whatever_the_nat_does() {
    let (mut world, circuit) = symmetric();
    world.tell(Input::Listening { address: at("192.168.1.7") });
    world.tell(Input::Hold { peer: peer(1) });
    let near = at("192.168.1.9");
    let mut offer = of_peer(Filtering::AddressAndPortDependent, false);
    offer.candidates.push(near.clone());
    world.answer_with(circuit, offer, false);
    assert_eq!(punches(&world.pass(S))[0].1, [near]);
}

#[test]
fn a_node_that_stops_in_the_middle_of_its_questions_waits_for_none_of_them() {
    let mut world = World::with(|config| {
        config.stun_servers = ["73.0.0.2", "73.0.0.3"].map(|ip| ip.parse().unwrap()).to_vec();
    });
    let connection = world.connected(peer(1), Path::Direct, Transport::Tcp);
    let mut asked = asks(&world.tell(Input::Listening { address: direct(1) }));
    asked.extend(asks(&world.pass(100 * MS)));
    assert!(!asked.is_empty());
    world.tell(Input::Shutdown);
    assert_eq!(asks(&world.pass(1900 * MS)), [], "nor does it spin, which the world would notice");
    world.closed(connection);
}
