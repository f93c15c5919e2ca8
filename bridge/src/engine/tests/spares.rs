//! A peer whose streams run through one relay has a second circuit, through another one; and which of the two lives.

use super::*;
use crate::{
    engine::liveness::beats::BEAT,
    error::{LimitOwner, RelayLimit},
};

const GRACE: Duration = Duration::from_secs(10);

/// Longer than anything unused is kept, and before a reservation ends.
const LONG: Duration = Duration::from_secs(600);

/// As long as no spare is made for a peer that may become direct.
const SOON: Duration = Duration::from_secs(3);

/// A node with links to relays 8 and 9, through which peer 1 is known to be reached.
fn world() -> World {
    let mut world = World::new();
    world.reserved(&relay(8));
    world.reserved(&relay(9));
    world.learn(peer(1), &[relay(8).circuit_to(peer(1)), relay(9).circuit_to(peer(1))]);
    world
}

impl World {
    fn circuit_over(&mut self, through: u8, on: Transport, direction: Direction) -> ConnectionId {
        self.established(peer(1), relayed(&relay(through)), on, None, direction).0
    }

    /// A circuit of ours through relay 8 with a stream of ours, and a spare through relay 9.
    fn with_spare(&mut self, on: Transport) -> (ConnectionId, ConnectionId) {
        if on != Transport::Tcp {
            [8, 9].into_iter().for_each(|through| self.linked_over(through, on));
        }
        let first = self.circuit_over(8, on, Direction::Outbound);
        self.stream_on(first, peer(1));
        (first, self.circuit_over(9, on, Direction::Outbound))
    }

    /// The link to a relay ends, and the next one is over `on`, and so are circuits.
    fn linked_over(&mut self, through: u8, on: Transport) {
        let relay = relay(through).peer();
        let link = self.engine.relays.link(relay).unwrap();
        let dial = Some(dials(&self.closed(link))[0].0);
        let (link, _) = self.established(relay, Path::Direct, on, dial, Direction::Outbound);
        self.identified(link);
    }

    fn echo(&mut self, connection: ConnectionId, number: u64) -> Vec<Action> {
        self.tell(Input::Heard { connection, word: Word::Echo(number) })
    }

    /// The question that is asked, over these connections.
    fn asked_over(&mut self, time: Duration) -> (u64, Vec<ConnectionId>) {
        asked(&self.pass(time))
    }
}

fn asked(actions: &[Action]) -> (u64, Vec<ConnectionId>) {
    let beats = said(actions).into_iter().filter_map(|(on, word)| match word {
        Word::Beat(number) => Some((number, on)),
        _ => None,
    });
    let (numbers, on): (Vec<u64>, Vec<ConnectionId>) = beats.unzip();
    (numbers.first().copied().unwrap_or_default(), on)
}

fn circuits(actions: &[Action]) -> Vec<(DialId, PeerId)> {
    let pick = |action: &Action| match action {
        Action::DialCircuit { dial, peer: to, relay, .. } if *to == peer(1) => {
            Some((*dial, relay.peer()))
        }
        _ => None,
    };
    actions.iter().filter_map(pick).collect()
}

#[test]
fn a_stream_over_one_relay_keeps_a_circuit_through_another_and_takes_it_when_the_relay_dies() {
    let mut world = world();
    let (first, spare) = world.with_spare(Transport::Tcp);
    assert_eq!(closes(&world.pass(LONG)), []);
    assert_eq!(closes(&world.closed(first)), [], "not even before the stream has moved");
    let detached = Input::StreamDetached { key: key(), connection: Some(first), silent: false };
    assert_eq!(moves(&world.tell(detached)), [spare], "it is there already");
}

#[test]
fn a_missing_spare_is_made_through_the_other_relay_once_it_is_clear_that_no_direct_way_comes() {
    let mut world = world();
    let first = world.circuit_over(8, Transport::Tcp, Direction::Outbound);
    world.stream_on(first, peer(1));
    assert_eq!(circuits(&world.pass(SOON - MS)), []);
    let dialled = circuits(&world.pass(MS));
    let [(dial, through)] = dialled[..] else { panic!("{dialled:?}") };
    assert_eq!(through, relay(9).peer());
    let path = relayed(&relay(9));
    let (spare, actions) =
        world.established(peer(1), path, Transport::Tcp, Some(dial), Direction::Outbound);
    assert_eq!((moves(&actions), closes(&world.pass(LONG))), (vec![], vec![]));
    assert!(world.engine.connections.get(spare).is_some());
}

#[test]
fn a_direct_connection_ends_the_spare_and_the_wish_for_one() {
    let mut world = world();
    let (_, spare) = world.with_spare(Transport::Tcp);
    world.pass(GRACE + S);
    let (_, actions) =
        world.established(peer(1), Path::Direct, Transport::Tcp, None, Direction::Outbound);
    assert_eq!(closes(&actions), [spare]);
    world.closed(spare);
    assert_eq!(circuits(&world.pass(LONG)), []);
}

#[test]
fn without_a_stream_a_second_circuit_is_closed_as_any_other_unused_one() {
    let mut world = world();
    let first = world.circuit_over(8, Transport::Tcp, Direction::Outbound);
    let second = world.circuit_over(9, Transport::Tcp, Direction::Outbound);
    assert_eq!(closes(&world.pass(GRACE)), [first, second]);
}

#[test]
fn an_acceptor_keeps_the_spares_that_the_dialler_made_and_the_dialler_keeps_one() {
    let mut world = world();
    let first = world.circuit_over(8, Transport::Tcp, Direction::Inbound);
    world.inbound(first, FREE);
    world.circuit_over(9, Transport::Tcp, Direction::Inbound);
    assert_eq!(closes(&world.pass(LONG)), []);
    let mut world = self::world();
    let (_, spare) = world.with_spare(Transport::Tcp);
    let third = world.circuit_over(7, Transport::Tcp, Direction::Outbound);
    let closed = closes(&world.pass(GRACE));
    assert!(closed == [third] || closed == [spare], "{closed:?}");
}

#[test]
fn spares_are_kept_at_a_relay_only_while_it_has_few_circuits_of_ours() {
    let mut world = World::new();
    world.reserved(&relay(9));
    for number in 1..=5 {
        let path = relayed(&relay(9));
        let (first, _) = world.established(peer(number), path, Transport::Tcp, None, Direction::Inbound);
        world.inbound(first, FREE);
    }
    let spares: Vec<_> = (1..=4)
        .map(|number| {
            let (path, on) = (relayed(&relay(8)), Transport::Tcp);
            let other = world.established(peer(number), path, on, None, Direction::Inbound).0;
            let path = relayed(&relay(9));
            (other, world.established(peer(number), path, on, None, Direction::Inbound).0)
        })
        .collect();
    let closed = closes(&world.pass(GRACE));
    for (through_8, through_9) in spares {
        assert!(!closed.contains(&through_8), "four circuits");
        assert!(closed.contains(&through_9), "nine circuits");
    }
}

#[test]
fn a_spare_that_is_refused_is_asked_for_when_the_relay_says_and_fails_nothing() {
    let mut world = world();
    let first = world.circuit_over(8, Transport::Tcp, Direction::Outbound);
    world.stream_on(first, peer(1));
    let dial = circuits(&world.pass(SOON))[0].0;
    let limit =
        RelayLimit { owner: LimitOwner::Destination, limit: Some(16), retry_after: Some(60 * S) };
    world.tell(Input::DialFailed { dial, reason: DialFailureReason::RelayFull(limit) });
    assert_eq!(circuits(&world.pass(59 * S)), []);
    assert!(failures(&world.actions()).is_empty());
    assert_eq!(circuits(&world.pass(30 * S)).len(), 1, "nothing else has changed meanwhile");
}

#[test]
fn where_no_link_to_the_other_relay_is_up_it_is_made_first() {
    let mut world = World::new();
    world.reserved(&relay(8));
    world.learn(peer(1), &[relay(8).circuit_to(peer(1)), relay(9).circuit_to(peer(1))]);
    let first = world.circuit_over(8, Transport::Tcp, Direction::Outbound);
    world.stream_on(first, peer(1));
    let actions = world.pass(SOON);
    let [(dial, to, _)] = &dials(&actions)[..] else { panic!("{actions:?}") };
    assert_eq!(*to, relay(9).peer());
    let (link, _) = world.dialled(relay(9).peer(), *dial);
    assert_eq!(circuits(&world.identified(link))[0].1, relay(9).peer());
}

#[test]
fn a_lost_spare_is_made_through_a_third_relay_if_there_is_one_and_the_nearer_is_taken() {
    let mut world = World::new();
    for (seed, round_trip) in [(6, 200 * MS), (7, 20 * MS), (8, MS)] {
        let link = world.reserved(&relay(seed));
        for _ in 0..3 {
            world.tell(Input::Responsive { connection: link, round_trip, took: round_trip });
        }
    }
    let circuits_to: Vec<_> = [6, 7, 8].map(|seed| relay(seed).circuit_to(peer(1))).into();
    world.learn(peer(1), &circuits_to);
    let first = world.circuit_over(8, Transport::Tcp, Direction::Outbound);
    world.stream_on(first, peer(1));
    let dialled = circuits(&world.pass(SOON));
    assert_eq!(dialled.iter().map(|(_, through)| *through).collect::<Vec<_>>(), [relay(7).peer()]);
}

#[test]
fn a_relay_that_brings_no_answer_while_another_does_is_left_within_two_beats() {
    let mut world = world();
    let (first, spare) = world.with_spare(Transport::Quic);
    let (number, _) = world.asked_over(BEAT);
    world.echo(first, number);
    world.echo(spare, number);
    let (number, over) = world.asked_over(BEAT);
    assert_eq!(over, [first, spare], "both at one moment");
    world.echo(spare, number);
    let actions = world.pass(BEAT);
    assert_eq!(pulses(&actions), [first]);
    let last = world.now.checked_sub(BEAT + MS);
    assert_eq!(moves(&world.tell(Input::Pulse { connection: first, last })), [spare]);
}

#[test]
fn a_relay_over_which_a_load_is_heard_is_not_left_though_the_answer_waits_behind_it() {
    let mut world = world();
    let (first, spare) = world.with_spare(Transport::Quic);
    let (number, _) = world.asked_over(BEAT);
    world.echo(spare, number);
    assert_eq!(pulses(&world.pass(BEAT)), [first]);
    let last = world.now.checked_sub(BEAT / 2);
    assert_eq!(moves(&world.tell(Input::Pulse { connection: first, last })), []);
}

#[test]
fn a_peer_that_answers_over_no_relay_is_busy_and_nothing_is_left_for_it() {
    let mut world = world();
    world.with_spare(Transport::Quic);
    let (_, over) = world.asked_over(BEAT);
    assert_eq!(over.len(), 2);
    let actions = world.pass(BEAT);
    assert_eq!((pulses(&actions), asked(&actions).1), (vec![], over), "it is asked again");
}

#[test]
fn who_was_too_busy_to_hear_answers_doubts_nobody() {
    let mut world = world();
    let (_, spare) = world.with_spare(Transport::Quic);
    let (number, _) = world.asked_over(BEAT);
    world.echo(spare, number);
    world.now += BEAT + 251 * MS;
    world.engine.handle_timeout(world.now);
    assert_eq!(pulses(&world.actions()), []);
}

#[test]
fn nobody_is_asked_over_tcp_or_without_a_stream_of_ours_or_over_one_relay() {
    let mut world = world();
    world.with_spare(Transport::Tcp);
    assert_eq!(world.asked_over(S).1, []);
    let mut world = self::world();
    let first = world.circuit_over(8, Transport::Quic, Direction::Inbound);
    world.inbound(first, FREE);
    world.circuit_over(9, Transport::Quic, Direction::Inbound);
    assert_eq!(world.asked_over(S).1, []);
    let mut world = self::world();
    let first = world.circuit_over(8, Transport::Quic, Direction::Outbound);
    world.stream_on(first, peer(1));
    world.circuit_over(8, Transport::Quic, Direction::Outbound);
    assert_eq!(world.asked_over(S).1, []);
}

#[test]
fn who_is_asked_answers_where_it_was_asked() {
    let mut world = World::new();
    let on = world.connected(peer(1), relayed(&relay(9)), Transport::Quic);
    let actions = world.tell(Input::Heard { connection: on, word: Word::Beat(7) });
    assert_eq!(said(&actions), [(on, Word::Echo(7))]);
}

#[test]
fn an_answer_that_comes_late_makes_good() {
    let mut world = world();
    let (first, spare) = world.with_spare(Transport::Quic);
    let (number, _) = world.asked_over(BEAT);
    world.echo(spare, number);
    world.pass(BEAT);
    world.tell(Input::Pulse { connection: first, last: None });
    assert!(world.engine.connections.is_suspect(first));
    world.pass(BEAT);
    let actions = world.echo(first, number);
    assert!(!world.engine.connections.is_suspect(first));
    assert_eq!(asked(&actions).1, [first, spare], "both are asked again");
}
