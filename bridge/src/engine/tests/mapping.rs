//! Ports that our router forwards to us, under virtual time.

use super::{
    upgrades::{REFUSED, asked, at, public, punches},
    *,
};
use crate::{
    config::PortMapping,
    engine::input::Listener,
    error::Family,
    event::{CandidateSource, MappingFault, MappingProtocol},
};

const PCP: MappingProtocol = MappingProtocol::Pcp;

/// What the router is asked for.
fn mapped(actions: &[Action]) -> Vec<Vec<Listener>> {
    let pick = |action: &Action| match action {
        Action::MapPorts { listeners } => Some(listeners.clone()),
        _ => None,
    };
    actions.iter().filter_map(pick).collect()
}

/// Whether the peer that is asked is told that we have an address which lets anybody in.
fn opens(actions: &[Action]) -> bool {
    actions
        .iter()
        .any(|action| matches!(action, Action::AskPunch { offer, .. } if offer.open || offer.open_v6))
}

fn listener(at: &str) -> Listener {
    Listener { transport: Transport::Tcp, at: at.parse().unwrap() }
}

impl World {
    fn listens(&mut self, address: Multiaddr) -> Vec<Action> {
        self.tell(Input::Listening { address })
    }

    fn offers(&self) -> Vec<Multiaddr> {
        self.engine.candidates.offer(false)
    }

    fn port_mapped(&mut self, external: &str) -> Vec<Action> {
        let external = external.parse().unwrap();
        self.tell(Input::PortMapped { transport: Transport::Tcp, external, by: PCP })
    }
}

fn mapping_events(world: &mut World) -> Vec<Event> {
    let is_mapping = |event: &Event| match event {
        Event::CandidateFound { source, .. } => matches!(source, CandidateSource::Mapping { .. }),
        event => matches!(
            event,
            Event::PortMapped { .. } | Event::PortMappingLost { .. } | Event::PortMappingUnusable { .. }
        ),
    };
    world.events().into_iter().filter(is_mapping).collect()
}

#[test]
fn the_router_is_asked_for_private_listeners_as_they_come_and_go_and_for_none_at_the_end() {
    let mut world = World::new();
    assert_eq!(mapped(&world.listens(at("127.0.0.1"))), Vec::<Vec<_>>::new());
    assert_eq!(mapped(&world.listens(at("8.8.4.4"))), Vec::<Vec<_>>::new());
    let (home, cafe) = (listener("192.168.1.7:4001"), listener("10.0.0.7:4001"));
    assert_eq!(mapped(&world.listens(at("192.168.1.7"))), [vec![home]]);
    assert_eq!(mapped(&world.listens(at("10.0.0.7"))), [vec![cafe, home]]);
    let gone = Input::ListeningEnded { address: at("192.168.1.7") };
    assert_eq!(mapped(&world.tell(gone)), [vec![cafe]]);
    assert_eq!(mapped(&world.tell(Input::Shutdown)), [vec![]]);
    assert_eq!(mapped(&world.listens(at("192.168.1.9"))), Vec::<Vec<_>>::new());
}

#[test]
fn a_router_that_is_to_be_left_alone_is_asked_for_nothing() {
    let mut world = World::with(|config| config.port_mapping = PortMapping::Off);
    assert_eq!(mapped(&world.listens(at("192.168.1.7"))), Vec::<Vec<_>>::new());
    assert_eq!(mapped(&world.tell(Input::Shutdown)), Vec::<Vec<_>>::new());
}

#[test]
fn a_mapped_address_is_offered_at_once_and_withdrawn_when_it_goes() {
    let mut world = World::new();
    world.port_mapped("8.8.4.4:31000");
    let address: Multiaddr = "/ip4/8.8.4.4/tcp/31000".parse().unwrap();
    let source = CandidateSource::Mapping { protocol: PCP };
    let told = mapping_events(&mut world);
    assert!(matches!(&told[0], Event::PortMapped { address: mapped, .. } if *mapped == address));
    assert!(
        matches!(&told[1], Event::CandidateFound { address: found, source: by } if *found == address && *by == source)
    );
    let (circuit, actions) = world.visited(peer(1));
    assert_eq!(asked(&actions), [(circuit, vec![address.clone()])]);
    assert!(opens(&actions), "it lets anybody in");

    world.tell(Input::PortMappingLost { transport: Transport::Tcp, family: Family::V4 });
    let told = mapping_events(&mut world);
    assert!(matches!(&told[..], [Event::PortMappingLost { address: lost, .. }] if *lost == address));
    assert_eq!(world.offers(), []);
    assert!(!opens(&world.visited(peer(2)).1));
}

#[test]
fn a_new_mapping_begins_upgrades_anew_at_once() {
    let mut world = World::seen();
    let (circuit, _) = world.visited(peer(1));
    assert_eq!(asked(&world.round_fails(circuit, REFUSED)), [], "it rests");
    let actions = world.port_mapped("8.8.4.4:31000");
    let mapped = "/ip4/8.8.4.4/tcp/31000".parse().unwrap();
    assert_eq!(asked(&actions), [(circuit, vec![mapped, public(8)])], "the mapped one first");
    let again = world.port_mapped("8.8.4.4:31000");
    assert_eq!(asked(&again), [], "renewed: nothing is new");
}

#[test]
fn the_end_that_does_not_begin_tells_the_other_of_a_new_mapping() {
    let mut world = World::seen();
    let circuit = world.reached(peer(1));
    world.offer(circuit, &[public(1)]);
    let (dial, ..) = punches(&world.sync(circuit))[0].clone();
    world.punch_failed(dial, REFUSED);
    let told = said(&world.port_mapped("8.8.4.4:31000"));
    assert_eq!(told, [(circuit, Word::PunchAgain)]);
}

#[test]
fn a_router_behind_another_nat_is_no_candidate_and_that_is_said_once() {
    let mut world = World::new();
    world.port_mapped("100.64.3.4:4001");
    world.tell(Input::PortMapped {
        transport: Transport::Quic,
        external: "100.64.3.4:4002".parse().unwrap(),
        by: PCP,
    });
    world.port_mapped("100.64.3.4:4001");
    let told = mapping_events(&mut world);
    assert!(
        matches!(&told[..], [Event::PortMappingUnusable { cause: MappingFault::BehindNat, .. }]),
        "{told:?}"
    );
    assert_eq!(world.offers(), []);
    world.port_mapped("0.0.0.0:4001");
    let told = mapping_events(&mut world);
    assert!(
        matches!(&told[..], [Event::PortMappingUnusable { cause: MappingFault::NoAddress, .. }]),
        "{told:?}"
    );
}

#[test]
fn a_mapping_that_becomes_unusable_is_withdrawn() {
    let mut world = World::new();
    world.port_mapped("8.8.4.4:31000");
    mapping_events(&mut world);
    world.port_mapped("10.1.2.3:31000");
    let told = mapping_events(&mut world);
    assert!(
        matches!(&told[..], [Event::PortMappingLost { .. }, Event::PortMappingUnusable { .. }]),
        "{told:?}"
    );
}

fn over_v6(port: u16) -> Multiaddr {
    format!("/ip6/2600::7/tcp/{port}").parse().unwrap()
}

#[test]
fn the_router_is_asked_to_open_its_firewall_for_public_ipv6_listeners_beside_the_private_ipv4_ones() {
    let mut world = World::new();
    let (home, guarded) = (listener("192.168.1.7:4001"), listener("[2600::7]:4001"));
    assert_eq!(mapped(&world.listens(at("192.168.1.7"))), [vec![home]]);
    assert_eq!(mapped(&world.listens(over_v6(4001))), [vec![home, guarded]]);
    for other in ["/ip6/fd00::7/tcp/4001", "/ip6/fe80::7/tcp/4001"] {
        assert_eq!(mapped(&world.listens(other.parse().unwrap())), Vec::<Vec<_>>::new(), "{other}");
    }
    let gone = Input::ListeningEnded { address: at("192.168.1.7") };
    assert_eq!(mapped(&world.tell(gone)), [vec![guarded]]);
    assert_eq!(mapped(&world.tell(Input::NetworkChanged { begun: Vec::new() })), [vec![guarded]]);
    assert_eq!(mapped(&world.tell(Input::Shutdown)), [vec![]]);
}

#[test]
fn an_address_of_ours_that_a_firewall_guards_lets_anybody_in_once_the_router_opens() {
    let mut world = World::new();
    world.listens(over_v6(4001));
    let (circuit, actions) = world.visited(peer(1));
    assert_eq!(asked(&actions), [(circuit, vec![over_v6(4001)])]);
    assert!(!opens(&actions), "a firewall may stand before it");
    assert_eq!(asked(&world.round_fails(circuit, REFUSED)), [], "it rests");
    let actions = world.port_mapped("[2600::7]:4001");
    assert_eq!(asked(&actions), [(circuit, vec![over_v6(4001)])], "the address once, and at once");
    assert!(opens(&actions));
    let told = mapping_events(&mut world);
    assert!(matches!(&told[0], Event::PortMapped { address, .. } if *address == over_v6(4001)));
}

#[test]
fn the_port_of_one_transport_is_mapped_in_each_family_by_itself() {
    let mut world = World::new();
    world.port_mapped("8.8.4.4:31000");
    world.listens(over_v6(4001));
    world.port_mapped("[2600::7]:4001");
    let v4: Multiaddr = "/ip4/8.8.4.4/tcp/31000".parse().unwrap();
    let mut offered = world.offers();
    offered.sort();
    assert_eq!(offered, [v4.clone(), over_v6(4001)]);
    mapping_events(&mut world);

    world.tell(Input::PortMappingLost { transport: Transport::Tcp, family: Family::V4 });
    let told = mapping_events(&mut world);
    assert!(matches!(&told[..], [Event::PortMappingLost { address, .. }] if *address == v4), "{told:?}");
    assert!(opens(&world.visited(peer(1)).1), "over IPv6 still");

    world.tell(Input::PortMappingLost { transport: Transport::Tcp, family: Family::V6 });
    assert_eq!(world.offers(), [over_v6(4001)], "it is ours");
    assert!(!opens(&world.visited(peer(2)).1));
}

#[test]
fn a_router_behind_another_nat_is_said_to_be_so_once_though_it_opens_its_firewall() {
    let mut world = World::new();
    world.port_mapped("100.64.3.4:4001");
    assert!(matches!(&mapping_events(&mut world)[..], [Event::PortMappingUnusable { .. }]));
    world.port_mapped("[2600::7]:4001");
    mapping_events(&mut world);
    world.port_mapped("100.64.3.4:4001");
    let told = mapping_events(&mut world);
    assert!(told.is_empty(), "{told:?}");
    assert_eq!(world.offers(), [over_v6(4001)]);
}
