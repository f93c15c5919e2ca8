//! The machine in virtual time: every order of messages, every deadline, every check.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use uuid::Uuid;

use super::*;
use crate::{
    network::Network,
    version::UserAgent,
    wire::{
        ConversionError,
        proto::{PingMessage, RejectMessage},
    },
};

const PEER: &[u8] = b"the peer's libp2p id";

fn remote() -> Remote {
    Remote { peer_id_bytes: Some(PEER.to_vec()), address: "203.0.113.1:16111".parse().unwrap() }
}

fn version(id: Uuid) -> Version {
    Version {
        protocol_version: 11,
        services: 0,
        timestamp_ms: 1,
        address: None,
        id,
        user_agent: UserAgent::ours(None),
        disable_relay_tx: false,
        subnetwork_id: None,
        network: Network::Simnet.to_string(),
    }
}

fn ours() -> Version {
    version(kaspa_id(b"us"))
}

fn theirs() -> VersionMessage {
    version(kaspa_id(PEER)).into()
}

fn say(payload: Payload) -> KaspadMessage {
    KaspadMessage::new(payload)
}

fn say_version() -> KaspadMessage {
    say(Payload::Version(theirs()))
}

fn say_verack() -> KaspadMessage {
    say(Payload::Verack(VerackMessage {}))
}

fn say_ready() -> KaspadMessage {
    say(Payload::Ready(ReadyMessage {}))
}

fn greeting(now: Instant) -> Greeting {
    Greeting::start(ours(), now).0
}

/// A greeting that has received `messages` and still waits.
fn greeting_after(messages: &[KaspadMessage]) -> Greeting {
    messages.iter().cloned().fold(greeting(Instant::now()), |greeting, message| {
        match greeting.receive(message).unwrap().0 {
            Step::Waiting(greeting) => greeting,
            Step::Done(greeted) => panic!("already done: {greeted:?}"),
        }
    })
}

fn greeted(version: VersionMessage) -> Greeted {
    let greeting = greeting_after(&[say_verack()]);
    match greeting.receive(say(Payload::Version(version))).unwrap().0 {
        Step::Done(greeted) => greeted,
        Step::Waiting(greeting) => panic!("still waiting: {greeting:?}"),
    }
}

fn check_with<C>(
    version: VersionMessage,
    claim: impl FnOnce(PeerClaim) -> Result<C, RejectReason>,
) -> Result<Agreed<C>, RejectReason> {
    let terms = Terms { ours: &ours(), protocol: ProtocolVersion::V11, remote: &remote() };
    greeted(version).check(terms, claim)
}

fn check(version: VersionMessage) -> Result<Agreed<()>, RejectReason> {
    check_with(version, |_| Ok(()))
}

fn ready_exchange(now: Instant) -> ReadyExchange<()> {
    check(theirs()).unwrap().exchange_ready(now).0
}

fn refused(received: PayloadKind) -> HandshakeError {
    HandshakeError::Refused(RejectReason::Unexpected { received })
}

fn timed_out(deadline: Deadline) -> Result<(), HandshakeError> {
    let reason = RejectReason::HandshakeTimeout { deadline };
    Err(HandshakeError::Refused(reason))
}

#[test]
fn a_handshake_begins_with_our_version_before_the_peer_has_said_anything() {
    let (_, payload) = Greeting::start(ours(), Instant::now());
    assert_eq!(payload, Payload::Version(ours().into()));
}

#[test]
fn a_version_is_answered_at_once_although_our_own_is_not_yet_acknowledged() {
    let (step, reply) = greeting(Instant::now()).receive(say_version()).unwrap();
    assert!(matches!(step, Step::Waiting(_)));
    assert_eq!(reply, Some(Payload::Verack(VerackMessage {})));
}

#[test]
fn version_and_verack_may_come_in_either_order() {
    let version_last = greeting_after(&[say_verack()]).receive(say_version());
    let verack_last = greeting_after(&[say_version()]).receive(say_verack());
    for outcome in [version_last, verack_last] {
        assert!(matches!(outcome, Ok((Step::Done(_), _))));
    }
}

#[test]
fn a_completed_handshake_holds_what_the_peer_said() {
    let agreed = check(theirs()).unwrap();
    let (exchange, payload) = agreed.exchange_ready(Instant::now());
    assert_eq!(payload, Payload::Ready(ReadyMessage {}));
    let ready = exchange.receive(say_ready()).unwrap();
    assert_eq!(ready.peer.id, kaspa_id(PEER));
    assert_eq!(ready.protocol, ProtocolVersion::V11);
}

#[test]
fn silence_runs_into_the_version_deadline_after_4_s() {
    let start = Instant::now();
    let greeting = greeting(start);
    let due = start + Duration::from_secs(4);
    assert_eq!(greeting.poll_timeout(), due);
    assert_eq!(greeting.handle_timeout(due - Duration::from_millis(1)), Ok(()));
    assert_eq!(greeting.handle_timeout(due), timed_out(Deadline::Version));
}

#[test]
fn a_missing_verack_runs_into_the_verack_deadline_after_4_s() {
    let start = Instant::now();
    let step = greeting(start).receive(say_version()).unwrap().0;
    let Step::Waiting(greeting) = step else {
        panic!("done without a verack");
    };
    let due = start + Duration::from_secs(4);
    assert_eq!(greeting.handle_timeout(due - Duration::from_millis(1)), Ok(()));
    assert_eq!(greeting.handle_timeout(due), timed_out(Deadline::Verack));
}

#[test]
fn a_missing_ready_runs_into_the_ready_deadline_after_8_s() {
    let start = Instant::now();
    let exchange = ready_exchange(start);
    let due = start + Duration::from_secs(8);
    assert_eq!(exchange.poll_timeout(), due);
    assert_eq!(exchange.handle_timeout(due - Duration::from_millis(1)), Ok(()));
    assert_eq!(exchange.handle_timeout(due), timed_out(Deadline::Ready));
}

#[test]
fn a_handshake_message_out_of_turn_is_refused() {
    let version = greeting_after(&[say_version()]).receive(say_version());
    assert_eq!(version.unwrap_err(), refused(PayloadKind::Version));
    let verack = greeting_after(&[say_verack()]).receive(say_verack());
    assert_eq!(verack.unwrap_err(), refused(PayloadKind::Verack));
    let ready = greeting(Instant::now()).receive(say_ready());
    assert_eq!(ready.unwrap_err(), refused(PayloadKind::Ready));
    let late = ready_exchange(Instant::now()).receive(say_version());
    assert_eq!(late.unwrap_err(), refused(PayloadKind::Version));
}

/// What a message does to a handshake, early and late.
fn at_both_steps(message: &KaspadMessage) -> [HandshakeError; 2] {
    let early = greeting(Instant::now()).receive(message.clone());
    let late = ready_exchange(Instant::now()).receive(message.clone());
    [early.unwrap_err(), late.unwrap_err()]
}

#[test]
fn a_reject_ends_the_handshake_at_every_step() {
    let reason = "DUPLICATE_CONNECTION".to_owned();
    let message = say(Payload::Reject(RejectMessage { reason }));
    for error in at_both_steps(&message) {
        assert_eq!(error, HandshakeError::Rejected(RejectReason::Duplicate));
    }
}

#[test]
fn what_has_no_route_ends_the_handshake_without_a_reject() {
    let ping = say(Payload::Ping(PingMessage { nonce: 1 }));
    let answer = KaspadMessage { response_id: 7, ..say_ready() };
    let kind = PayloadKind::Ping;
    let cases = [
        (KaspadMessage::default(), ProtocolError::EmptyPayload),
        (ping, ProtocolError::NoRoute { kind }),
        (answer, ProtocolError::UnknownResponseId { response_id: 7 }),
    ];
    for (message, expected) in cases {
        for error in at_both_steps(&message) {
            assert_eq!(error, HandshakeError::Protocol(expected.clone()));
        }
    }
}

#[test]
fn the_checks_run_in_upstreams_order() {
    // A peer that does everything wrong, mended one fault at a time.
    let mut peer = theirs();
    peer.id = b"short".as_slice().into();
    peer.network = "kaspa-mainnet".to_owned();
    peer.protocol_version = 9;
    let illegal = ConversionError::IllegalIdLength(5).into();
    assert_eq!(check(peer.clone()).unwrap_err(), illegal);

    peer.id = bytes::Bytes::copy_from_slice(ours().id.as_bytes());
    let claimed = check_with::<()>(peer.clone(), |_| Err(RejectReason::Duplicate));
    assert_eq!(claimed.unwrap_err(), RejectReason::Duplicate);
    assert_eq!(check(peer.clone()).unwrap_err(), RejectReason::Loopback);

    let stranger = kaspa_id(b"somebody else");
    peer.id = bytes::Bytes::copy_from_slice(stranger.as_bytes());
    let wrong_network = RejectReason::WrongNetwork {
        local: "kaspa-simnet".to_owned(),
        remote: "kaspa-mainnet".to_owned(),
    };
    assert_eq!(check(peer.clone()).unwrap_err(), wrong_network);

    peer.network = "kaspa-simnet".to_owned();
    let mismatch = RejectReason::IdentityMismatch { claimed: stranger };
    assert_eq!(check(peer.clone()).unwrap_err(), mismatch);

    peer.id = theirs().id;
    let too_old = RejectReason::VersionMismatch { local: 11, remote: 9 };
    assert_eq!(check(peer.clone()).unwrap_err(), too_old);

    peer.protocol_version = 10;
    assert_eq!(check(peer).unwrap().protocol, ProtocolVersion::V10);
}

#[test]
fn an_illegal_address_or_subnetwork_in_the_version_is_refused() {
    let mut peer = theirs();
    peer.address = Some(crate::wire::proto::NetAddress { ip: vec![1; 5].into(), ..Default::default() });
    assert_eq!(check(peer).unwrap_err(), ConversionError::IllegalIpLength(5).into());
    let mut peer = theirs();
    peer.subnetwork_id = Some(crate::wire::proto::SubnetworkId { bytes: vec![1; 19].into() });
    let illegal = ConversionError::IllegalSubnetworkLength(19).into();
    assert_eq!(check(peer).unwrap_err(), illegal);
}

#[test]
fn a_stock_node_may_have_any_id() {
    let mut peer = theirs();
    peer.user_agent = "/kaspad:2.1.0/kaspad:2.1.0/".to_owned();
    peer.id = bytes::Bytes::copy_from_slice(Uuid::from_u128(7).as_bytes());
    assert!(check(peer).is_ok());
}

#[test]
fn a_claimed_place_is_given_back_when_a_later_check_fails() {
    let place = Arc::new(());
    let mut peer = theirs();
    peer.protocol_version = 9;
    let refused = check_with(peer, |_| Ok(Arc::clone(&place)));
    assert!(refused.is_err());
    assert_eq!(Arc::strong_count(&place), 1);
}
