#![allow(clippy::unwrap_used)]
use libp2p::identity::Keypair;
use punchline_bridge::{
    Path, StreamId,
    error::{CloseCause, UpgradeFailure},
    event::Rung,
};

use super::*;

const S: Duration = Duration::from_secs(1);

fn stranger() -> PeerId {
    Keypair::generate_ed25519().public().to_peer_id()
}

fn service(name: &str) -> Service {
    name.parse().unwrap()
}

fn closed(peer: PeerId) -> Event {
    let connection = serde_json::from_str("\"1\"").unwrap();
    BridgeEvent::ConnectionClosed { peer, connection, path: Path::Direct, cause: CloseCause::Peer }
        .into()
}

fn refused(peer: PeerId, service: Service, direction: Direction) -> Event {
    let reason = Refusal::NotServed;
    BridgeEvent::StreamRefused { peer, service, reason, direction }.into()
}

fn moved(peer: PeerId, gap_ms: f64) -> Event {
    let (stream, path) = (StreamId::from_bytes([1; 16]), Path::Direct);
    BridgeEvent::StreamMoved { peer, stream, from: path, to: path, relay: None, gap_ms, cause: None }
        .into()
}

fn attempted(peer: PeerId, attempt: u32) -> Event {
    BridgeEvent::UpgradeAttempted { peer, rung: Rung::Punch, attempt, addresses: Vec::new() }.into()
}

fn failed(peer: PeerId, retry_in_ms: u64) -> Event {
    let reason = OpenError::NoAddress { peer };
    BridgeEvent::PeerUnreachable { peer, reason, failures: 1, retry_in_ms }.into()
}

#[test]
fn strangers_displace_each_other_and_nobody_whom_our_program_wants() {
    let (mut memory, start) = (Memory::default(), Instant::now());
    let wanted: Vec<PeerId> = (0..PEERS_MAX / 2).map(|_| stranger()).collect();
    for peer in &wanted {
        memory.hear(&failed(*peer, 500), start);
    }
    let crowd: Vec<PeerId> = (0..2 * PEERS_MAX).map(|_| stranger()).collect();
    for (number, peer) in crowd.iter().enumerate() {
        memory.hear(&closed(*peer), start + S * (number as u32 + 1));
    }
    assert_eq!(memory.peers.len(), PEERS_MAX);
    assert!(wanted.iter().all(|peer| memory.of(*peer).is_some()));
    assert!(memory.of(crowd[0]).is_none() && memory.of(*crowd.last().unwrap()).is_some());
    assert_eq!(memory.familiar().count(), PEERS_MAX / 2);
}

#[test]
fn a_crowd_that_everybody_is_let_in_with_displaces_nobody_whom_our_program_wants() {
    let (mut memory, start) = (Memory::default(), Instant::now());
    let opened = |peer, direction| -> Event {
        let (stream, path, service) = (StreamId::from_bytes([1; 16]), Path::Direct, service("web"));
        BridgeEvent::StreamOpened { peer, stream, service, path, relay: None, direction }.into()
    };
    let [forwarded, opened_to] = [stranger(), stranger()];
    memory.hear(&failed(forwarded, 500), start);
    memory.hear(&opened(opened_to, Direction::Outbound), start);
    let crowd: Vec<PeerId> = (0..2 * PEERS_MAX).map(|_| stranger()).collect();
    for (number, peer) in crowd.iter().enumerate() {
        memory.hear(&opened(*peer, Direction::Inbound), start + S * (number as u32 + 1));
    }
    assert_eq!(memory.peers.len(), PEERS_MAX);
    assert!(memory.of(forwarded).is_some() && memory.of(opened_to).is_some());
    assert!(memory.of(crowd[0]).is_none() && memory.of(*crowd.last().unwrap()).is_some());
}

#[test]
fn where_all_are_wanted_a_stranger_finds_no_room_and_one_more_that_is_wanted_does() {
    let (mut memory, start) = (Memory::default(), Instant::now());
    let wanted: Vec<PeerId> = (0..PEERS_MAX).map(|_| stranger()).collect();
    for (number, peer) in wanted.iter().enumerate() {
        memory.hear(&failed(*peer, 500), start + S * number as u32);
    }
    let (came_by, one_more) = (stranger(), stranger());
    let late = start + S * 1000;
    memory.hear(&closed(came_by), late);
    assert!(memory.of(came_by).is_none() && memory.of(wanted[0]).is_some());
    memory.hear(&failed(one_more, 500), late);
    assert!(
        memory.of(one_more).is_some() && memory.of(wanted[0]).is_none(),
        "the longest silent one goes"
    );
    assert_eq!(memory.peers.len(), PEERS_MAX);
}

#[test]
fn many_steps_of_one_kind_displace_their_oldest_and_none_of_another_kind() {
    let (mut memory, start, peer) = (Memory::default(), Instant::now(), stranger());
    memory.hear(&closed(peer), start);
    for attempt in 1..=3 * STEPS_MAX as u32 {
        memory.hear(&attempted(peer, attempt), start + S);
    }
    let steps = memory.of(peer).unwrap().steps();
    assert_eq!(steps.len(), STEPS_MAX + 1);
    assert!(matches!(steps[0].step, Step::Disconnected { .. }));
    let latest = 3 * STEPS_MAX as u32;
    assert!(matches!(steps[STEPS_MAX].step, Step::Dialled { attempt, .. } if attempt == latest));
}

#[test]
fn what_happens_again_is_one_step_with_a_count() {
    let (mut memory, start, peer) = (Memory::default(), Instant::now(), stranger());
    for (number, gap_ms) in [0.5, 7.0, 2.0].into_iter().enumerate() {
        memory.hear(&moved(peer, gap_ms), start + S * number as u32);
        memory.hear(&failed(peer, 500 << number), start + S * number as u32);
    }
    let steps = memory.of(peer).unwrap().steps();
    let [one, other] = steps[..] else { panic!("two steps: {steps:?}") };
    assert_eq!((one.count, one.at, other.count), (3, start + S * 2, 3));
    let retry = |step: &Step| matches!(step, Step::NotReached { retry, .. } if *retry == Some(S * 2));
    assert!(steps.iter().any(|moment| retry(&moment.step)), "{steps:?}");
    let longest = |step: &Step| matches!(step, Step::Moved { gap_ms, .. } if *gap_ms == 7.0);
    assert!(steps.iter().any(|moment| longest(&moment.step)), "{steps:?}");
}

#[test]
fn names_that_were_only_asked_for_do_not_displace_a_service_that_was_used() {
    let (mut memory, start, peer) = (Memory::default(), Instant::now(), stranger());
    let opened = BridgeEvent::StreamOpened {
        peer,
        stream: StreamId::from_bytes([1; 16]),
        service: service("web"),
        path: Path::Direct,
        relay: None,
        direction: Direction::Inbound,
    };
    memory.hear(&opened.into(), start);
    for number in 0..3 * SERVICES_MAX as u32 {
        let name = service(&format!("guess-{number}"));
        memory.hear(&refused(peer, name, Direction::Inbound), start + S * (number + 1));
    }
    let uses: BTreeMap<_, _> = memory.of(peer).unwrap().uses().collect();
    assert_eq!(uses.len(), SERVICES_MAX);
    assert_eq!(uses[&service("web")].outcome, Outcome::Opened);
}

#[test]
fn of_a_service_the_latest_outcome_counts_and_how_often_it_came_in_a_row() {
    let (mut memory, start, peer) = (Memory::default(), Instant::now(), stranger());
    for number in 0..3 {
        memory.hear(&refused(peer, service("web"), Direction::Outbound), start + S * number);
    }
    let error = OpenError::Refused { peer, service: service("web"), reason: Refusal::NotServed };
    let failed = GatewayEvent::ForwardFailed { peer, service: service("web"), reason: error.into() };
    memory.hear(&failed.into(), start + S * 3);
    let remembered = memory.of(peer).unwrap();
    let uses: Vec<_> = remembered.uses().map(|(_, of)| (&of.outcome, of.count)).collect();
    assert_eq!(uses, [(&Outcome::RefusedThere(Refusal::NotServed), 3)]);
    assert!(remembered.steps().is_empty(), "the refusal was told already");
}

#[test]
fn what_the_peer_says_it_is_behind_is_kept_when_it_says_nothing_later() {
    let (mut memory, start, peer) = (Memory::default(), Instant::now(), stranger());
    let symmetric = NatKind {
        mapping: Some(punchline_bridge::nat::Mapping::DestinationDependent),
        ..NatKind::default()
    };
    for remote_nat in [symmetric, NatKind::default()] {
        let failed = BridgeEvent::UpgradeFailed {
            peer,
            reason: UpgradeFailure::NoCandidateThere,
            attempts: 0,
            local_nat: NatKind::default(),
            remote_nat,
            tried: Vec::new(),
            again_seconds: None,
        };
        memory.hear(&failed.into(), start);
    }
    assert_eq!(memory.of(peer).unwrap().nat, Some(symmetric));
}
