//! Peers that misbehave: silence, nonsense, too much of everything. Each gets the answer
//! upstream would give, and nobody else notices.

#![allow(clippy::unwrap_used)]

mod world;

use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use punchline_protocol::{
    ANSWERS_MAX, ConversionError, EndCause, HandshakeError, Inbound, KaspadMessage, Payload,
    PayloadKind, ProtocolError, RejectReason, UserAgent, Version,
    transport::channel,
    wire::{
        FILE_DESCRIPTOR_SET, TRANSACTION_IDS_MAX,
        proto::{
            AddressesMessage, InvTransactionsMessage, NetAddress, PingMessage, PongMessage,
            RejectMessage, TransactionId, VersionMessage,
        },
    },
};
use rand::{Rng, RngExt, SeedableRng, rngs::StdRng};
use tokio::io::AsyncWriteExt;
use tonic::{
    Code,
    client::Grpc,
    codegen::http::{self, uri::PathAndQuery},
};
use world::raw::{METHOD, RawCodec, call_with};
use world::{
    Host, RawPeer, node, raw_session, raw_session_of, remote, say_ready, say_verack, say_version, soon,
    version,
};

fn host() -> Host {
    Host::start("host", node("host"))
}

async fn failure(host: &mut Host) -> HandshakeError {
    match soon(host.acceptor.next()).await {
        Inbound::Failed { error, .. } => error,
        other => panic!("did not fail: {other:?}"),
    }
}

/// A seed for one run, printed so that a failure can be repeated with it.
fn seeded(claim: &str) -> StdRng {
    let seed = rand::random();
    #[allow(clippy::print_stdout, reason = "shown only when the test fails")]
    {
        println!("{claim}: seed {seed}");
    }
    StdRng::seed_from_u64(seed)
}

fn noise(rng: &mut StdRng, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    rng.fill_bytes(&mut bytes);
    bytes
}

// ---- the encoding ----

/// Field `number` of wire type 2 with `content`.
fn member(number: u32, content: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    prost::encoding::encode_varint(u64::from(number) << 3 | 2, &mut bytes);
    prost::encoding::encode_varint(content.len() as u64, &mut bytes);
    bytes.extend_from_slice(content);
    bytes
}

#[test]
fn exactly_the_protocols_numbers_are_known() {
    let absent = [4, 7, 8, 9, 11, 18, 23, 24, 28, 29, 32, 38, 39, 62];
    for number in 1..=100 {
        let message = KaspadMessage::decode(member(number, &[]).as_slice()).unwrap();
        let expected = (number <= 67 && !absent.contains(&number)).then_some(number);
        let known = message.kind().map(PayloadKind::number);
        assert_eq!(known, expected, "member {number}");
    }
}

#[test]
fn every_kind_has_the_name_the_descriptor_gives_its_number() {
    for kind in PayloadKind::ALL {
        let mut field = member(1, kind.name().as_bytes());
        field.extend(numbered(kind.number()));
        let found = FILE_DESCRIPTOR_SET.windows(field.len()).any(|window| window == field);
        assert!(found, "{kind} is not number {}", kind.number());
    }
}

/// `FieldDescriptorProto.number`, which follows the name.
fn numbered(number: u32) -> Vec<u8> {
    vec![3 << 3, u8::try_from(number).unwrap()]
}

#[test]
fn members_whose_fields_we_do_not_know_survive_byte_for_byte() {
    let nested = member(3, &member(1, b"deep, with an unknown field"));
    let opaque =
        [25, 27, 30, 31, 33, 34, 35, 36, 37, 40, 42, 43, 44, 47, 48, 49, 51, 52, 56, 59, 63, 65, 67];
    for number in opaque {
        let mut bytes = member(number, &nested);
        // request_id 9: the envelope travels too.
        bytes.extend([0xb0, 0x06, 9]);
        let message = KaspadMessage::decode(bytes.as_slice()).unwrap();
        assert_eq!(message.kind().unwrap().number(), number);
        assert_eq!(message.encode_to_vec(), bytes, "member {number}");
    }
}

#[test]
fn unknown_fields_inside_known_messages_are_ignored() {
    let mut ping = vec![0x08, 5];
    ping.extend(member(77, b"from the future"));
    let message = KaspadMessage::decode(member(16, &ping).as_slice()).unwrap();
    assert_eq!(message.payload, Some(Payload::Ping(PingMessage { nonce: 5 })));
}

#[test]
fn random_bytes_never_panic_the_decoder() {
    let mut rng = seeded("random_bytes_never_panic_the_decoder");
    for _ in 0..20_000 {
        let length = rng.random_range(0..200);
        let bytes = noise(&mut rng, length);
        if let Ok(message) = KaspadMessage::decode(bytes.as_slice()) {
            let again = KaspadMessage::decode(message.encode_to_vec().as_slice());
            assert_eq!(again, Ok(message));
        }
    }
}

#[test]
fn a_version_cut_anywhere_is_no_version_and_never_panics() {
    let whole = KaspadMessage::new(say_version(version("peer"))).encode_to_vec();
    for length in 1..whole.len() {
        let cut = KaspadMessage::decode(&whole[..length]);
        assert!(cut.is_err(), "{length} bytes of {}", whole.len());
    }
}

// ---- silence ----

#[tokio::test(start_paused = true)]
async fn silence_is_rejected_at_each_step_by_that_steps_deadline() {
    let said = [
        (vec![], 4, "no version within 4 s"),
        (vec![say_verack()], 4, "no version within 4 s"),
        (vec![say_version(version("peer"))], 4, "no verack within 4 s"),
        (vec![say_version(version("peer")), say_verack()], 8, "no ready within 8 s"),
    ];
    for (payloads, seconds, text) in said {
        let mut host = host();
        let mut peer = host.raw_peer("peer").await;
        let started = tokio::time::Instant::now();
        for payload in payloads {
            peer.say(payload).await;
        }
        assert_eq!(peer.rejects().await, [text]);
        let took = started.elapsed().as_secs_f64();
        let late = f64::from(seconds) + 1.5;
        assert!((f64::from(seconds)..late).contains(&took), "{text}: {took} s");
        assert!(matches!(failure(&mut host).await, HandshakeError::Refused(_)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_peer_does_not_hold_up_an_honest_one() {
    let mut host = host();
    let _silent = host.raw_peer("silent").await;
    let started = tokio::time::Instant::now();
    let _dialled = host.dialled_by(&node("honest"), "honest").await.unwrap();
    let _accepted = host.session().await;
    assert!(started.elapsed() < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_stops_answering_pings_is_given_up_after_240_s() {
    let mut host = host();
    let (mut peer, session) = raw_session(&mut host, "peer").await;
    peer.say(Payload::Addresses(AddressesMessage::default())).await;
    let started = tokio::time::Instant::now();
    assert_eq!(soon(session.ended()).await, EndCause::PingTimeout);
    assert_eq!(started.elapsed().as_secs(), 240);
    assert_eq!(peer.rejects().await, ["no pong within 120 s"]);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_never_gives_addresses_is_given_up_after_120_s() {
    let mut host = host();
    let (mut peer, session) = raw_session(&mut host, "peer").await;
    let started = tokio::time::Instant::now();
    let cause = soon(session.ended()).await;
    assert!(matches!(cause, EndCause::Refused(RejectReason::AnswerTimeout { .. })), "{cause}");
    assert_eq!(started.elapsed().as_secs(), 120);
    assert_eq!(peer.rejects().await, ["no addresses within 120 s"]);
}

// ---- nonsense in the handshake ----

async fn rejects_after(payloads: Vec<Payload>) -> (Vec<String>, HandshakeError) {
    let mut host = host();
    let mut peer = host.raw_peer("peer").await;
    for payload in payloads {
        peer.say(payload).await;
    }
    (peer.rejects().await, failure(&mut host).await)
}

#[tokio::test]
async fn a_second_version_in_the_handshake_is_rejected() {
    let twice = vec![say_version(version("peer")), say_version(version("peer"))];
    let (rejects, error) = rejects_after(twice).await;
    assert_eq!(rejects, ["unexpected version"]);
    let received = PayloadKind::Version;
    assert_eq!(error, HandshakeError::Refused(RejectReason::Unexpected { received }));
}

#[tokio::test]
async fn a_version_below_10_is_rejected_with_both_numbers() {
    let old = Version { protocol_version: 9, ..version("peer") };
    let (rejects, _) = rejects_after(vec![say_version(old), say_verack()]).await;
    assert_eq!(rejects, ["protocol version mismatch: ours is 11, yours is 9"]);
}

#[tokio::test]
async fn a_wrong_network_is_rejected() {
    let wrong = Version { network: "kaspa-mainnet".to_owned(), ..version("peer") };
    let (rejects, _) = rejects_after(vec![say_version(wrong), say_verack()]).await;
    assert_eq!(rejects, ["wrong network: ours is kaspa-simnet, yours is kaspa-mainnet"]);
}

#[tokio::test]
async fn a_node_of_ours_with_somebody_elses_id_is_rejected_and_a_stock_node_is_not() {
    let (rejects, error) = rejects_after(vec![say_version(version("other")), say_verack()]).await;
    assert_eq!(rejects.len(), 1);
    let claimed = version("other").id;
    assert_eq!(error, HandshakeError::Refused(RejectReason::IdentityMismatch { claimed }));

    let mut host = host();
    let stock =
        Version { user_agent: UserAgent::new("/kaspad:2.1.0/kaspad:2.1.0/"), ..version("other") };
    let mut peer = host.raw_peer("peer").await;
    peer.shake_hands(stock).await;
    assert_eq!(host.session().await.facts().kaspa_id, claimed);
}

#[tokio::test]
async fn a_malformed_version_is_rejected() {
    let message = VersionMessage { id: Bytes::from_static(b"short"), ..version("peer").into() };
    let (rejects, _) = rejects_after(vec![Payload::Version(message), say_verack()]).await;
    assert_eq!(rejects, ["illegal peer id length 5"]);
}

#[tokio::test]
async fn a_peers_reject_in_the_handshake_is_reported_with_its_reason_and_not_answered() {
    let reason = "r".repeat(5000);
    let reject = Payload::Reject(RejectMessage { reason });
    let (rejects, error) = rejects_after(vec![reject]).await;
    assert!(rejects.is_empty());
    let text = RejectReason::Text("r".repeat(2048));
    assert_eq!(error, HandshakeError::Rejected(text));
}

#[tokio::test]
async fn a_flow_message_in_the_handshake_ends_it_without_a_reject() {
    let ping = Payload::Ping(PingMessage { nonce: 1 });
    let (rejects, error) = rejects_after(vec![ping]).await;
    assert!(rejects.is_empty());
    let kind = PayloadKind::Ping;
    assert_eq!(error, HandshakeError::Protocol(ProtocolError::NoRoute { kind }));
}

#[tokio::test]
async fn an_empty_message_in_the_handshake_ends_it_without_a_reject() {
    let mut host = host();
    let mut peer = host.raw_peer("peer").await;
    peer.say_message(KaspadMessage::default()).await;
    assert!(peer.rejects().await.is_empty());
    let expected = HandshakeError::Protocol(ProtocolError::EmptyPayload);
    assert_eq!(failure(&mut host).await, expected);
}

#[tokio::test]
async fn a_peer_that_hangs_up_in_the_handshake_is_reported() {
    let mut host = host();
    let peer = host.raw_peer("peer").await;
    drop(peer);
    assert_eq!(failure(&mut host).await, HandshakeError::Closed);
}

// ---- nonsense in a session ----

async fn end_after(message: KaspadMessage) -> (Vec<String>, EndCause) {
    let mut host = host();
    let (mut peer, session) = raw_session(&mut host, "peer").await;
    peer.say_message(message).await;
    (peer.rejects().await, soon(session.ended()).await)
}

#[tokio::test]
async fn a_handshake_message_in_a_session_ends_it_without_a_reject() {
    for payload in [say_version(version("peer")), say_verack(), say_ready()] {
        let kind = PayloadKind::of(&payload);
        let (rejects, cause) = end_after(KaspadMessage::new(payload)).await;
        assert!(rejects.is_empty());
        assert_eq!(cause, EndCause::Protocol(ProtocolError::NoRoute { kind }));
    }
}

#[tokio::test]
async fn an_empty_message_in_a_session_ends_it_without_a_reject() {
    let (rejects, cause) = end_after(KaspadMessage::default()).await;
    assert!(rejects.is_empty());
    assert_eq!(cause, EndCause::Protocol(ProtocolError::EmptyPayload));
}

#[tokio::test]
async fn a_reject_in_a_session_ends_it_with_its_reason() {
    let reason = "DUPLICATE_CONNECTION".to_owned();
    let reject = Payload::Reject(RejectMessage { reason });
    let (rejects, cause) = end_after(KaspadMessage::new(reject)).await;
    assert!(rejects.is_empty());
    assert_eq!(cause, EndCause::PeerRejected(RejectReason::Duplicate));
}

#[tokio::test]
async fn a_pong_nobody_asked_for_is_rejected() {
    let pong = Payload::Pong(PongMessage { nonce: 1 });
    let (rejects, cause) = end_after(KaspadMessage::new(pong)).await;
    assert_eq!(rejects, [RejectReason::NonceMismatch.to_string()]);
    assert_eq!(cause, EndCause::Refused(RejectReason::NonceMismatch));
}

#[tokio::test]
async fn one_address_too_many_is_rejected() {
    let address = NetAddress { ip: vec![203, 0, 113, 1].into(), ..Default::default() };
    let addresses = Payload::Addresses(AddressesMessage { address_list: vec![address; 2501] });
    let (rejects, _) = end_after(KaspadMessage::new(addresses)).await;
    assert_eq!(rejects, ["2501 entries in addresses, at most 2500 are allowed"]);
}

#[tokio::test]
async fn one_transaction_id_too_many_is_rejected() {
    let id = TransactionId { bytes: vec![0; 32].into() };
    let inv =
        Payload::InvTransactions(InvTransactionsMessage { ids: vec![id; TRANSACTION_IDS_MAX + 1] });
    let (rejects, _) = end_after(KaspadMessage::new(inv)).await;
    assert_eq!(rejects, ["131073 entries in invTransactions, at most 131072 are allowed"]);
}

#[tokio::test]
async fn a_transaction_id_that_is_not_32_bytes_long_is_rejected() {
    let id = TransactionId { bytes: b"short".as_slice().into() };
    let inv = Payload::InvTransactions(InvTransactionsMessage { ids: vec![id] });
    let (_, cause) = end_after(KaspadMessage::new(inv)).await;
    let illegal = ConversionError::IllegalHashLength(5);
    assert_eq!(cause, EndCause::Refused(illegal.into()));
}

#[tokio::test]
async fn a_peer_that_pings_without_reading_the_pongs_is_cut_off() {
    let mut host = host();
    // A small window: with the usual one, the unread frames would break the peer's own HTTP/2.
    let peer = RawPeer::call_with_window(host.connect(remote("peer")), 1024).await;
    let (peer, session) = raw_session_of(&mut host, peer, "peer").await;
    let flood = tokio::spawn(async move {
        let ping = KaspadMessage::new(Payload::Ping(PingMessage { nonce: 1 }));
        while peer.say_message(ping.clone()).await {}
    });
    let limit = ANSWERS_MAX;
    let cause = EndCause::Protocol(ProtocolError::OutgoingRouteFull { limit });
    assert_eq!(soon(session.ended()).await, cause);
    flood.abort();
}

// ---- nonsense below the protocol ----

#[tokio::test]
async fn a_truncated_message_ends_the_handshake_without_a_reject() {
    let whole = KaspadMessage::new(say_version(version("peer"))).encode_to_vec();
    let mut host = host();
    let heard = call_with(&host, vec![whole[..whole.len() / 2].to_vec()]).await;
    let kinds = heard.into_iter().map(|bytes| KaspadMessage::decode(bytes).unwrap().kind());
    assert_eq!(kinds.collect::<Vec<_>>(), [Some(PayloadKind::Version)]);
    match failure(&mut host).await {
        HandshakeError::Transport(error) => assert_eq!(error.code, Code::Internal),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_truncated_message_ends_a_session() {
    let say = |payload| KaspadMessage::new(payload).encode_to_vec();
    let mut messages: Vec<_> =
        [say_version(version("peer")), say_verack(), say_ready()].into_iter().map(say).collect();
    messages.push(member(16, &[0x08]));
    let mut host = host();
    call_with(&host, messages).await;
    let cause = soon(host.session().await.ended()).await;
    assert!(matches!(cause, EndCause::Transport(_)), "{cause}");
}

#[tokio::test]
async fn a_payload_from_the_future_ends_the_call_without_a_reject() {
    let mut host = host();
    let heard = call_with(&host, vec![member(68, b"new")]).await;
    assert_eq!(heard.len(), 1, "our version and nothing else");
    let expected = HandshakeError::Protocol(ProtocolError::EmptyPayload);
    assert_eq!(failure(&mut host).await, expected);
}

#[tokio::test]
async fn a_message_that_announces_more_than_256_mib_is_not_waited_for() {
    let mut host = host();
    // A gRPC frame: not compressed, 0x20000000 bytes long. All ASCII, so a String is a body.
    let frame = "\0\x20\0\0\0".to_owned();
    let request = http::Request::post(format!("http://host{METHOD}"))
        .header("content-type", "application/grpc")
        .body(tonic::body::Body::new(frame))
        .unwrap();
    let channel = channel(host.connect(remote("peer")));
    let _response = soon(tower::ServiceExt::oneshot(channel, request)).await.unwrap();
    match failure(&mut host).await {
        HandshakeError::Transport(error) => assert_eq!(error.code, Code::OutOfRange),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn random_messages_never_harm_the_host() {
    let mut rng = seeded("random_messages_never_harm_the_host");
    let mut host = host();
    for _ in 0..50 {
        let length = rng.random_range(1..300);
        call_with(&host, vec![noise(&mut rng, length)]).await;
        failure(&mut host).await;
    }
    still_serves(&mut host).await;
}

#[tokio::test]
async fn random_bytes_instead_of_http2_never_harm_the_host() {
    let mut rng = seeded("random_bytes_instead_of_http2_never_harm_the_host");
    let mut host = host();
    for round in 0..100 {
        let mut stream = host.connect(remote("peer"));
        let length = rng.random_range(1..2000);
        let mut bytes = Vec::new();
        if round % 2 == 0 {
            // Past the preface and an empty SETTINGS frame, so that frames are parsed.
            bytes.extend(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0");
        }
        bytes.extend(noise(&mut rng, length));
        // The host may hang up in the middle; that is its right.
        let _ = soon(stream.write_all(&bytes)).await;
        let _ = soon(stream.shutdown()).await;
    }
    still_serves(&mut host).await;
}

async fn still_serves(host: &mut Host) {
    let dialled = host.dialled_by(&node("honest"), "honest").await.unwrap();
    let _accepted = host.session().await;
    assert!(soon(dialled.handle().ping()).await.is_ok());
}

#[tokio::test]
async fn a_call_of_another_method_is_unimplemented_and_harmless() {
    let mut host = host();
    let mut grpc = Grpc::new(channel(host.connect(remote("peer"))));
    soon(grpc.ready()).await.unwrap();
    let path = PathAndQuery::from_static("/protowire.RPC/MessageStream");
    let messages = futures::stream::iter([Vec::new()]);
    let call = grpc.streaming(tonic::Request::new(messages), path, RawCodec);
    assert_eq!(soon(call).await.unwrap_err().code(), Code::Unimplemented);
    still_serves(&mut host).await;
}

#[tokio::test]
async fn a_peer_without_gzip_is_served() {
    let mut host = host();
    let say = |payload| KaspadMessage::new(payload).encode_to_vec();
    let bye = Payload::Reject(RejectMessage::default());
    let messages = [say_version(version("peer")), say_verack(), say_ready(), bye];
    let heard = call_with(&host, messages.into_iter().map(say).collect()).await;
    assert!(heard.len() >= 3, "version, verack, ready: {}", heard.len());
    let cause = soon(host.session().await.ended()).await;
    assert_eq!(cause, EndCause::PeerRejected(RejectReason::Text(String::new())));
}
