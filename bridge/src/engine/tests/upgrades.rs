//! The way from a relayed to a direct connection, under virtual time.

use super::*;
use crate::{
    engine::{
        input::{Exchange, Offer, Role},
        paths::upgrades::{
            ASK_PATIENCE, CALL_WAIT, OFFER_WAIT, OFFERS_MAX,
            schedule::{ROUND_WAIT, ROUNDS_MAX},
        },
    },
    error::{DialFailures, DialOutcome, Tried, UpgradeFailure},
};

pub(super) const REFUSED: DialOutcome = DialOutcome::Refused;
pub(super) const TIMED_OUT: DialOutcome = DialOutcome::TimedOut;
pub(super) const RTT: Duration = Duration::from_millis(100);

fn upgrades(world: &mut World) -> Vec<Event> {
    let of_upgrade =
        |event: &Event| matches!(event, Event::UpgradeSucceeded { .. } | Event::UpgradeFailed { .. });
    world.events().into_iter().filter(of_upgrade).collect()
}

/// Why upgrades failed, and after how many attempts.
pub(super) fn reasons(world: &mut World) -> Vec<(UpgradeFailure, u32)> {
    let pick = |event| match event {
        Event::UpgradeFailed { reason, attempts, .. } => Some((reason, attempts)),
        _ => None,
    };
    world.events().into_iter().filter_map(pick).collect()
}

pub(super) fn public(host: u8) -> Multiaddr {
    format!("/ip4/8.8.8.{host}/tcp/4001").parse().unwrap()
}

pub(super) fn at(ip: &str) -> Multiaddr {
    format!("/ip4/{ip}/tcp/4001").parse().unwrap()
}

/// The peer is asked: on which connection, with which addresses of ours.
pub(super) fn asked(actions: &[Action]) -> Vec<(ConnectionId, Vec<Multiaddr>)> {
    let pick = |action: &Action| match action {
        Action::AskPunch { exchange, offer, .. } => {
            Some((exchange.connection, offer.candidates.clone()))
        }
        _ => None,
    };
    actions.iter().filter_map(pick).collect()
}

pub(super) fn answered(actions: &[Action]) -> Vec<Vec<Multiaddr>> {
    let pick = |action: &Action| match action {
        Action::AnswerPunch { offer, .. } => Some(offer.candidates.clone()),
        _ => None,
    };
    actions.iter().filter_map(pick).collect()
}

pub(super) fn punches(actions: &[Action]) -> Vec<(DialId, Vec<Multiaddr>, Role)> {
    let pick = |action: &Action| match action {
        Action::Punch { dial, addresses, role, .. } => Some((*dial, addresses.clone(), *role)),
        _ => None,
    };
    actions.iter().filter_map(pick).collect()
}

fn ended(actions: &[Action]) -> usize {
    actions.iter().filter(|action| matches!(action, Action::EndPunch { .. })).count()
}

impl World {
    /// A node that knows how the outside sees it.
    pub(super) fn seen() -> Self {
        Self::seen_with(|_| {})
    }

    pub(super) fn seen_with(change: impl FnOnce(&mut Config)) -> Self {
        let mut world = Self::with(change);
        world.reserved(&relay(9));
        world.events();
        world
    }

    /// A peer comes through a relay, so that this end begins; what it asks.
    pub(super) fn visited(&mut self, peer: PeerId) -> (ConnectionId, Vec<Action>) {
        self.established(peer, relayed(&relay(9)), Transport::Tcp, None, Direction::Inbound)
    }

    /// We reach a peer through a relay, so that it begins.
    pub(super) fn reached(&mut self, peer: PeerId) -> ConnectionId {
        self.connected(peer, relayed(&relay(9)), Transport::Tcp)
    }

    pub(super) fn answer(&mut self, connection: ConnectionId, candidates: &[Multiaddr]) -> Vec<Action> {
        self.answer_from(connection, candidates, false)
    }

    pub(super) fn answer_from(
        &mut self,
        connection: ConnectionId,
        candidates: &[Multiaddr],
        same_host: bool,
    ) -> Vec<Action> {
        let offer = Offer { candidates: candidates.to_vec(), ..Offer::default() };
        self.answer_with(connection, offer, same_host)
    }

    pub(super) fn answer_with(
        &mut self,
        connection: ConnectionId,
        offer: Offer,
        same_host: bool,
    ) -> Vec<Action> {
        let exchange = self.exchange(connection);
        self.tell(Input::PunchAnswered { exchange, offer, same_host, round_trip: RTT })
    }

    pub(super) fn offer(&mut self, connection: ConnectionId, candidates: &[Multiaddr]) -> Vec<Action> {
        *self.exchanges.entry(connection).or_default() += 1;
        let exchange = self.exchange(connection);
        let offer = Offer { candidates: candidates.to_vec(), ..Offer::default() };
        self.tell(Input::PunchOffered { exchange, offer, same_host: false })
    }

    /// The latest on this connection.
    pub(super) fn exchange(&self, connection: ConnectionId) -> Exchange {
        let number = self.exchanges.get(&connection).copied().unwrap_or_default();
        Exchange { connection, number }
    }

    /// The peer offers these, which are mapped at its router.
    pub(super) fn offer_mapped(&mut self, connection: ConnectionId, mapped: &[Multiaddr]) {
        *self.exchanges.entry(connection).or_default() += 1;
        let exchange = self.exchange(connection);
        let (candidates, mapped) = (mapped.to_vec(), mapped.to_vec());
        let offer = Offer { candidates, mapped, open: true, ..Offer::default() };
        self.tell(Input::PunchOffered { exchange, offer, same_host: false });
    }

    pub(super) fn sync(&mut self, connection: ConnectionId) -> Vec<Action> {
        let exchange = self.exchange(connection);
        self.tell(Input::PunchSync { exchange })
    }

    /// From the peer's answer to the dial.
    pub(super) fn punch(&mut self, connection: ConnectionId, candidates: &[Multiaddr]) -> DialId {
        self.answer(connection, candidates);
        punches(&self.pass(RTT / 2))[0].0
    }

    pub(super) fn punch_failed(&mut self, dial: DialId, outcome: DialOutcome) -> Vec<Action> {
        self.tell(Input::PunchFailed { dial, tried: vec![Tried { address: public(1), outcome }] })
    }

    /// One round, from the peer's answer to the failure of all its dials.
    pub(super) fn round_fails(&mut self, circuit: ConnectionId, outcome: DialOutcome) -> Vec<Action> {
        let punch = self.punch(circuit, &[public(1)]);
        let mut actions = self.punch_failed(punch, outcome);
        if let [(call, _, Role::Caller)] = punches(&actions)[..] {
            actions = self.punch_failed(call, outcome);
        }
        actions
    }
}

#[test]
fn who_accepted_the_circuit_asks_then_says_when_and_dials_half_a_round_trip_later() {
    let mut world = World::seen();
    let (circuit, actions) = world.visited(peer(1));
    assert_eq!(asked(&actions), [(circuit, vec!["/ip4/8.8.8.8/tcp/4001".parse().unwrap()])]);
    let actions = world.answer(circuit, &[public(1)]);
    assert_eq!(actions, [Action::SyncPunch { exchange: world.exchange(circuit), peer: peer(1) }]);
    assert_eq!(world.pass(RTT / 2 - MS), []);
    let made = punches(&world.pass(MS));
    assert_eq!((&made[0].1[..], made[0].2), (&[public(1)][..], Role::Listener));
    assert_eq!(punches(&world.pass(CALL_WAIT + 4 * RTT - MS)), []);
    let made = punches(&world.pass(MS));
    assert_eq!((&made[0].1[..], made[0].2), (&[public(1)][..], Role::Caller), "nothing came of it");
}

#[test]
fn the_other_end_answers_and_dials_when_told() {
    let mut world = World::seen();
    let circuit = world.reached(peer(1));
    assert_eq!(world.pass(S), [], "it does not begin");
    assert_eq!(answered(&world.offer(circuit, &[public(1)])).len(), 1);
    let punches = punches(&world.sync(circuit));
    assert_eq!((&punches[0].1[..], punches[0].2), (&[public(1)][..], Role::Dialer));
}

#[test]
fn an_upgrade_says_how_long_it_took_and_how_many_punches() {
    let mut world = World::seen();
    let (circuit, _) = world.visited(peer(1));
    world.round_fails(circuit, REFUSED);
    assert_eq!(asked(&world.pass(ROUND_WAIT)).len(), 1);
    world.punch(circuit, &[public(1)]);
    let connection = world.connected(peer(1), Path::Direct, Transport::Quic);
    let events = upgrades(&mut world);
    let [Event::UpgradeSucceeded { connection: id, transport, took_ms, attempts, .. }] = &events[..]
    else {
        panic!("{events:?}");
    };
    assert_eq!((*id, *transport, *took_ms, *attempts), (connection, Transport::Quic, 600, 2));
}

#[test]
fn a_second_direct_connection_is_no_second_upgrade_and_a_dial_that_fails_then_is_nothing() {
    let mut world = World::seen();
    let (circuit, _) = world.visited(peer(1));
    let dial = world.punch(circuit, &[public(1)]);
    world.connected(peer(1), Path::Direct, Transport::Quic);
    world.connected(peer(1), Path::Direct, Transport::Quic);
    assert_eq!(upgrades(&mut world).len(), 1);
    assert_eq!(world.punch_failed(dial, REFUSED), []);
    assert_eq!(upgrades(&mut world).len(), 0);
    assert_eq!(asked(&world.pass(S)), []);
}

#[test]
fn a_direct_connection_from_the_start_is_no_upgrade() {
    let mut world = World::seen();
    world.connected(peer(1), Path::Direct, Transport::Tcp);
    let (_, actions) = world.visited(peer(1));
    assert_eq!((upgrades(&mut world).len(), asked(&actions).len()), (0, 0));
}

#[test]
fn the_other_end_takes_it_for_failed_when_no_offer_follows() {
    let mut world = World::seen_with(|config| config.deadlines.relayed_grace = HOUR);
    let circuit = world.reached(peer(1));
    world.offer(circuit, &[public(1)]);
    let dial = punches(&world.sync(circuit))[0].0;
    world.punch_failed(dial, REFUSED);
    world.pass(OFFER_WAIT - MS);
    assert_eq!(reasons(&mut world), []);
    world.pass(MS);
    let failures = DialFailures { refused: 1, ..DialFailures::default() };
    assert_eq!(reasons(&mut world), [(UpgradeFailure::PunchFailed { failures }, 1)]);
}

#[test]
fn the_reason_says_at_which_end_no_address_was() {
    let mut world = World::with(|config| config.deadlines.relayed_grace = HOUR);
    let (circuit, actions) = world.visited(peer(1));
    assert_eq!(asked(&actions)[0].1, [], "no relay has seen us");
    for _ in 0..ROUNDS_MAX {
        let cause = "the peer broke it off".to_owned();
        let reason = UpgradeFailure::Exchange { cause };
        let exchange = world.exchange(circuit);
        world.tell(Input::PunchExchangeFailed { exchange, reason });
        world.pass(2 * S);
    }
    assert_eq!(reasons(&mut world), [(UpgradeFailure::NoCandidateHere, ROUNDS_MAX)]);

    let mut world = World::seen();
    let (circuit, _) = world.visited(peer(1));
    for _ in 0..ROUNDS_MAX {
        assert_eq!(ended(&world.answer(circuit, &[])), 1);
        world.pass(2 * S);
    }
    assert_eq!(reasons(&mut world), [(UpgradeFailure::NoCandidateThere, ROUNDS_MAX)]);
}

#[test]
fn a_peer_that_names_only_what_may_not_be_dialled_is_not_dialled_and_the_reason_counts() {
    let mut world = World::seen();
    let (circuit, _) = world.visited(peer(1));
    for _ in 0..ROUNDS_MAX {
        let actions = world.answer(circuit, &[at("127.0.0.1"), at("10.9.9.9"), at("169.254.169.254")]);
        assert_eq!((ended(&actions), punches(&actions).len()), (1, 0));
        assert_eq!(punches(&world.pass(2 * S)), []);
    }
    let [(UpgradeFailure::AllRefused { refused }, ROUNDS_MAX)] = reasons(&mut world)[..] else {
        panic!()
    };
    assert_eq!((refused.private, refused.forbidden), (2, 1));
}

#[test]
fn the_end_that_may_dial_nothing_answers_and_waits_for_the_peer() {
    let mut world = World::seen();
    let circuit = world.reached(peer(1));
    assert_eq!(answered(&world.offer(circuit, &[at("10.9.9.9")])).len(), 1);
    assert_eq!(punches(&world.sync(circuit)), []);
    world.connected(peer(1), Path::Direct, Transport::Tcp);
    assert!(matches!(upgrades(&mut world)[..], [Event::UpgradeSucceeded { .. }]));
}

#[test]
fn a_peer_that_does_not_speak_it_is_not_asked_again_and_again() {
    let mut world = World::seen();
    let (circuit, _) = world.visited(peer(1));
    let reason = UpgradeFailure::Unsupported;
    let exchange = world.exchange(circuit);
    world.tell(Input::PunchExchangeFailed { exchange, reason });
    assert_eq!(reasons(&mut world), [(UpgradeFailure::Unsupported, 1)]);
    assert_eq!(asked(&world.pass(5 * S)), []);
}

#[test]
fn a_peer_that_offers_without_end_is_not_answered_without_end() {
    let mut world = World::seen_with(|config| config.deadlines.relayed_grace = HOUR);
    let circuit = world.reached(peer(1));
    let mut count = 0;
    for _ in 0..100 {
        count += answered(&world.offer(circuit, &[public(1)])).len();
    }
    assert_eq!(count, OFFERS_MAX as usize);
    world.pass(60 * S);
    assert_eq!(answered(&world.offer(circuit, &[public(1)])).len(), 1);
}

#[test]
fn an_address_that_is_found_late_begins_the_upgrade_anew() {
    let mut world = World::with(|config| config.deadlines.relayed_grace = HOUR);
    let (circuit, _) = world.visited(peer(1));
    for _ in 0..ROUNDS_MAX {
        world.answer(circuit, &[]);
        world.pass(2 * S);
    }
    assert_eq!(reasons(&mut world).len(), 1);
    let actions = world.tell(Input::Reserve { relay: relay(9) });
    let (link, _) = world.dialled(relay(9).peer(), dials(&actions)[0].0);
    let actions = world.identified(link);
    assert_eq!(asked(&actions), [(circuit, vec!["/ip4/8.8.8.8/tcp/4001".parse().unwrap()])]);
}

#[test]
fn what_is_said_in_an_exchange_that_another_replaced_is_nothing() {
    let mut world = World::seen();
    let (circuit, _) = world.visited(peer(1));
    let first = world.exchange(circuit);
    let again = world.tell(Input::Hold { peer: peer(1) });
    assert_eq!(asked(&again).len(), 1, "the peer became familiar: it may hear of more addresses");
    let offer = Offer { candidates: vec![public(1)], ..Offer::default() };
    let late = Input::PunchAnswered { exchange: first, offer, same_host: false, round_trip: RTT };
    assert_eq!(world.tell(late), [], "nobody would hear that it shall dial");
    let reason = UpgradeFailure::Exchange { cause: "reset".into() };
    world.tell(Input::PunchExchangeFailed { exchange: first, reason });
    world.punch(circuit, &[public(1)]);
    world.connected(peer(1), Path::Direct, Transport::Tcp);
    let events = upgrades(&mut world);
    let [Event::UpgradeSucceeded { attempts, .. }] = &events[..] else { panic!("{events:?}") };
    assert_eq!(*attempts, 1, "an exchange without a dial is no attempt");
}

#[test]
fn the_other_end_heeds_the_latest_offer_alone() {
    let mut world = World::seen();
    let circuit = world.reached(peer(1));
    world.offer(circuit, &[public(1)]);
    let first = world.exchange(circuit);
    world.offer(circuit, &[public(1), public(2)]);
    let reason = UpgradeFailure::Exchange { cause: "reset".into() };
    world.tell(Input::PunchExchangeFailed { exchange: first, reason });
    assert_eq!(world.tell(Input::PunchSync { exchange: first }), []);
    assert_eq!(punches(&world.sync(circuit))[0].1, [public(1), public(2)]);
}

#[test]
fn an_address_that_is_being_dialled_is_not_dialled_a_second_time() {
    let mut world = World::seen();
    let circuit = world.reached(peer(1));
    world.offer(circuit, &[public(1)]);
    let first = punches(&world.sync(circuit))[0].0;
    world.offer(circuit, &[public(1), public(2)]);
    let second = punches(&world.sync(circuit));
    assert_eq!(second[0].1, [public(2)]);
    world.offer(circuit, &[public(1), public(2)]);
    assert_eq!(punches(&world.sync(circuit)), []);
    world.punch_failed(first, TIMED_OUT);
    world.punch_failed(second[0].0, TIMED_OUT);
    world.pass(OFFER_WAIT);
    assert_eq!(reasons(&mut world).len(), 1, "the last dial was that of the latest offer");
}

#[test]
fn held_back_neither_end_punches_and_both_begin_when_they_are_allowed_to() {
    let held = |config: &mut Config| {
        config.upgrades = crate::config::Upgrades::WhenTold;
        config.deadlines.relayed_grace = HOUR;
    };
    let mut world = World::seen_with(held);
    let (circuit, actions) = world.visited(peer(1));
    assert_eq!((asked(&actions), asked(&world.pass(60 * S))), (vec![], vec![]));
    assert_eq!(asked(&world.tell(Input::AllowUpgrades { allowed: true }))[0].0, circuit);

    let mut world = World::seen_with(held);
    let circuit = world.reached(peer(1));
    assert_eq!(world.offer(circuit, &[public(1)]), []);
    assert_eq!(world.pass(S), []);
    assert_eq!(answered(&world.tell(Input::AllowUpgrades { allowed: true })).len(), 1);
    assert_eq!(punches(&world.sync(circuit)).len(), 1);
}

#[test]
fn allowed_no_longer_nothing_new_is_begun() {
    let mut world = World::seen();
    world.tell(Input::AllowUpgrades { allowed: false });
    let (_, actions) = world.visited(peer(1));
    assert_eq!(asked(&actions), []);
    let circuit = world.reached(peer(2));
    assert_eq!(answered(&world.offer(circuit, &[public(1)])), Vec::<Vec<Multiaddr>>::new());
}

#[test]
fn of_two_ends_that_both_begin_one_goes_on() {
    for seed in 1..9 {
        let mut world = World::seen();
        let (accepted, _) = world.visited(peer(seed));
        let dialled = world.reached(peer(seed));
        let actions = world.offer(dialled, &[public(1)]);
        let we_go_on = peer(0) < peer(seed);
        assert_eq!((ended(&actions) == 1, answered(&actions).is_empty()), (we_go_on, we_go_on));
        let actions = world.answer(accepted, &[public(1)]);
        assert_eq!(actions.is_empty(), !we_go_on);
    }
}

#[test]
fn an_exchange_whose_circuit_closes_goes_on_over_another() {
    let mut world = World::seen();
    let (first, _) = world.visited(peer(1));
    let (second, actions) = world.visited(peer(1));
    assert_eq!(asked(&actions), [], "one exchange at a time");
    world.closed(first);
    assert_eq!(asked(&world.pass(ROUND_WAIT))[0].0, second);
}

#[test]
fn a_peer_whose_answer_is_late_is_asked_on_another_circuit_if_there_is_one() {
    let mut world = World::seen();
    world.visited(peer(1));
    assert_eq!(asked(&world.pass(ASK_PATIENCE)), [], "there is none");
    let mut world = World::seen();
    let (_dead, actions) = world.visited(peer(1));
    assert_eq!(asked(&actions).len(), 1);
    let (second, _) = world.visited(peer(1));
    assert_eq!(asked(&world.pass(ASK_PATIENCE))[0].0, second);
    world.punch(second, &[public(1)]);
    world.connected(peer(1), Path::Direct, Transport::Tcp);
    let events = upgrades(&mut world);
    assert!(matches!(events[..], [Event::UpgradeSucceeded { attempts: 1, .. }]), "{events:?}");
}

#[test]
fn the_newest_circuit_is_asked_on_since_an_older_one_may_be_dead_and_not_known_to_be() {
    let mut world = World::seen();
    let direct = world.connected(peer(1), Path::Direct, Transport::Tcp);
    world.visited(peer(1));
    let (newest, _) = world.visited(peer(1));
    assert_eq!(asked(&world.closed(direct))[0].0, newest);
}

#[test]
fn when_the_direct_connection_is_lost_and_the_relayed_one_is_left_it_is_upgraded_again() {
    let mut world = World::seen();
    let (circuit, _) = world.visited(peer(1));
    world.punch(circuit, &[public(1)]);
    let direct = world.connected(peer(1), Path::Direct, Transport::Tcp);
    world.pass(S);
    assert_eq!(asked(&world.closed(direct))[0].0, circuit);
}

#[test]
fn a_peer_that_answers_late_does_not_delay_the_dial_for_long() {
    let mut world = World::seen();
    let (connection, _) = world.visited(peer(1));
    let offer = Offer { candidates: vec![public(1)], ..Offer::default() };
    let round_trip = 60 * S;
    let exchange = world.exchange(connection);
    world.tell(Input::PunchAnswered { exchange, offer, same_host: false, round_trip });
    assert_eq!(punches(&world.pass(2 * S)).len(), 1);
}

#[test]
fn what_was_not_asked_for_is_nothing() {
    let mut world = World::seen();
    let circuit = world.reached(peer(1));
    assert_eq!(world.answer(circuit, &[public(1)]), []);
    assert_eq!(world.sync(circuit), []);
    let direct = world.connected(peer(2), Path::Direct, Transport::Tcp);
    assert_eq!(ended(&world.offer(direct, &[public(1)])), 1);
    assert_eq!(punches(&world.pass(S)), []);
}
