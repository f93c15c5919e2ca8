//! Relays that have WebSockets among their addresses.

use super::*;
use crate::{
    addr::RelayLocator,
    engine::input::{Exchange, Offer},
    error::{PunchVerdict, UpgradeFailure},
    event::Blocked,
    word::Word,
};

const WEB: &str = "/dns4/relay.example/tcp/443/tls/ws";
const QUIC: &str = "/ip4/8.8.4.4/udp/4001/quic-v1";
const TCP: &str = "/ip4/8.8.4.4/tcp/4001";

/// Addresses of one relay.
fn at(addresses: &[&str]) -> Vec<RelayLocator> {
    let peer = relay(9).peer();
    addresses.iter().map(|address| format!("{address}/p2p/{peer}").parse().unwrap()).collect()
}

impl World {
    /// A reservation is wanted, and the dial becomes a connection over `transport`.
    fn reached_over(&mut self, transport: Transport, addresses: &[&str]) -> ConnectionId {
        let actions = self.tell(Input::ReserveAll(at(addresses)));
        let dial = Some(dials(&actions)[0].0);
        let peer = relay(9).peer();
        self.established(peer, Path::Direct, transport, dial, Direction::Outbound).0
    }

    fn blocked(&mut self) -> Vec<(Vec<Transport>, Blocked)> {
        let events = self.events().into_iter();
        let said = events.filter_map(|event| match event {
            Event::NetworkBlocks { transports, what, .. } => Some((transports, what)),
            _ => None,
        });
        said.collect()
    }

    fn carried_by(&mut self) -> Transport {
        let mut events = self.events().into_iter();
        let carrier = events.find_map(|event| match event {
            Event::ConnectionOpened { path: Path::Relayed { .. }, transport, .. } => Some(transport),
            _ => None,
        });
        carrier.unwrap()
    }
}

#[test]
fn all_addresses_of_a_relay_are_dialled_as_one_and_in_their_order() {
    let mut world = World::new();
    let actions = world.tell(Input::ReserveAll(at(&[WEB, QUIC, TCP])));
    let [(_, peer, addresses)] = &dials(&actions)[..] else { panic!("{actions:?}") };
    assert_eq!(*peer, relay(9).peer());
    let texts: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    assert_eq!(texts, [TCP, QUIC, WEB]);
}

/// A WebSocket to the relay was first to be there. The dial of the rest, without a rival.
fn overtaken(given: &[&str]) -> (World, ConnectionId, Option<(DialId, Vec<Multiaddr>)>) {
    let mut world = World::new();
    let actions = world.tell(Input::ReserveAll(at(given)));
    let (dial, ..) = dials(&actions)[0];
    let (peer, transport) = (relay(9).peer(), Transport::Websocket);
    let (link, actions) =
        world.established(peer, Path::Direct, transport, Some(dial), Direction::Outbound);
    let look = dials(&actions).into_iter().next().map(|(dial, _, addresses)| (dial, addresses));
    (world, link, look)
}

#[test]
fn what_a_websocket_overtook_is_dialled_alone_and_blocked_if_that_fails_which_is_said_once() {
    for (given, transports, what) in [
        (&[WEB, QUIC, TCP][..], &[Transport::Tcp, Transport::Quic][..], Blocked::AllButWeb),
        (&[WEB, QUIC], &[Transport::Quic], Blocked::Udp),
        (&[WEB, TCP], &[Transport::Tcp], Blocked::Tcp),
    ] {
        let (mut world, link, look) = overtaken(given);
        let (look, addresses) = look.unwrap();
        assert_eq!(addresses.len(), transports.len(), "all but the WebSocket");
        assert_eq!(world.blocked(), [], "this host may have been busy");
        world.dial_failed(look);
        assert_eq!(world.blocked(), [(transports.to_vec(), what)]);
        let dial = Some(dials(&world.closed(link))[0].0);
        let (peer, transport) = (relay(9).peer(), Transport::Websocket);
        let (_, actions) = world.established(peer, Path::Direct, transport, dial, Direction::Outbound);
        assert_eq!((dials(&actions), world.blocked()), (Vec::new(), Vec::new()), "that is known");
    }
}

#[test]
fn what_another_network_blocked_says_nothing_of_this_one() {
    let (mut world, _, look) = overtaken(&[WEB, TCP]);
    world.tell(Input::NetworkChanged { begun: Vec::new() });
    world.dial_failed(look.unwrap().0);
    assert_eq!(world.blocked(), [], "it was dialled from elsewhere");
}

#[test]
fn what_is_slow_and_gets_through_is_not_blocked() {
    let (mut world, _, look) = overtaken(&[WEB, TCP]);
    let (look, _) = look.unwrap();
    let (peer, transport) = (relay(9).peer(), Transport::Tcp);
    world.established(peer, Path::Direct, transport, Some(look), Direction::Outbound);
    world.dial_failed(look);
    assert_eq!(world.blocked(), []);
    assert_eq!(world.engine.obstacles.looks.len(), 0);
}

#[test]
fn nothing_seems_blocked_where_nothing_was_overtaken() {
    let mut world = World::new();
    world.reached_over(Transport::Websocket, &[WEB]);
    assert_eq!(world.blocked(), [], "nothing else was tried");
    let mut world = World::new();
    world.reached_over(Transport::Quic, &[WEB, QUIC, TCP]);
    assert_eq!(world.blocked(), [], "QUIC takes fewer round trips than TCP");
}

#[test]
fn a_circuit_is_carried_by_what_carries_the_link_whatever_its_address_says() {
    let mut world = World::new();
    let link = world.reached_over(Transport::Websocket, &[WEB, TCP]);
    world.identified(link);
    world.events();
    world.connected(peer(1), relayed(&relay(9)), Transport::Tcp);
    assert_eq!(world.carried_by(), Transport::Websocket);
}

#[test]
fn both_ends_that_have_nothing_but_websockets_are_told_so_once() {
    for direction in [Direction::Inbound, Direction::Outbound] {
        let mut world = World::with(|config| config.deadlines.relayed_grace = HOUR);
        let link = world.reached_over(Transport::Websocket, &[WEB]);
        // The relay sees where the WebSocket comes from, which is no address to punch to.
        world.observed(link, "/ip4/8.8.8.8/tcp/40001/tls/ws".parse().unwrap());
        let (path, tcp) = (relayed(&relay(9)), Transport::Tcp);
        let (circuit, actions) = world.established(peer(1), path, tcp, None, direction);
        let asked = actions.iter().find_map(|action| match action {
            Action::AskPunch { exchange, .. } => Some(*exchange),
            _ => None,
        });
        assert_eq!(asked.is_some(), direction == Direction::Inbound);
        let (mut exchange, same_host) = (Exchange { connection: circuit, number: 1 }, false);
        for _ in 0..8 {
            if direction == Direction::Outbound {
                let offer = Offer::default();
                world.tell(Input::PunchOffered { exchange, offer, same_host });
            }
            let reason = UpgradeFailure::Exchange { cause: "the end".to_owned() };
            world.tell(Input::PunchExchangeFailed { exchange, reason });
            world.pass(2 * S);
            exchange.number += 1;
        }
        let word = Word::PunchFailed(PunchVerdict::AllRefused);
        world.tell(Input::Heard { connection: circuit, word });
        world.pass(10 * S);
        let failed: Vec<UpgradeFailure> = world.events().into_iter().filter_map(reason).collect();
        assert_eq!(failed, [UpgradeFailure::WebOnly], "{direction:?}");
    }
}

fn reason(event: Event) -> Option<UpgradeFailure> {
    match event {
        Event::UpgradeFailed { reason, .. } => Some(reason),
        _ => None,
    }
}

/// A relay over `transport` that says that it answers STUN. Nobody answers, for so long.
fn unanswered(transport: Transport, lasting: Duration) -> World {
    let mut world = World::new();
    let link = world.reached_over(transport, &[TCP, QUIC]);
    world.identified(link);
    world.tell(Input::Heard { connection: link, word: Word::Stun { port: 3478 } });
    world.pass(lasting);
    world
}

#[test]
fn udp_seems_blocked_where_a_relay_is_there_over_tcp_and_its_stun_is_not_and_that_is_said_once() {
    assert_eq!(unanswered(Transport::Tcp, S).blocked(), [], "it has not had its time");
    let mut world = unanswered(Transport::Tcp, HOUR);
    assert_eq!(world.blocked(), [(vec![Transport::Quic], Blocked::Udp)]);
    assert_eq!(unanswered(Transport::Quic, HOUR).blocked(), [], "the relay is there over UDP");
}

#[test]
fn udp_is_said_to_be_blocked_again_after_it_was_not() {
    let mut world = unanswered(Transport::Tcp, HOUR);
    world.events();
    let asked = (0..72_000).find_map(|_| {
        world.pass(100 * MS).into_iter().find_map(|action| match action {
            Action::AskStun(ask) => Some(ask),
            _ => None,
        })
    });
    let ask = asked.expect("asked again");
    let mapped = "8.8.8.8:40001".parse().unwrap();
    world.tell(Input::StunAnswered { probe: ask.probe, from: ask.to, mapped, other: None });
    world.pass(10 * S);
    assert_eq!(world.blocked(), []);
    world.pass(2 * HOUR);
    assert_eq!(world.blocked(), [(vec![Transport::Quic], Blocked::Udp)]);
}
