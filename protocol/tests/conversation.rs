//! Honest nodes: handshakes, flows, routes, limits and endings, over real gRPC.

#![allow(clippy::unwrap_used)]

mod world;

use std::{net::SocketAddr, sync::atomic::Ordering, time::Duration};

use bytes::Bytes;
use punchline_protocol::{
    ADDRESSES_GIVEN_MAX, ADDRESSES_KEPT_MAX, AdmissionLimit, DialError, Direction, EVENTS_MAX, EndCause,
    HandshakeError, Inbound, KaspadMessage, Network, Node, NodeConfig, NodeLimits, PINGS_MAX, Payload,
    PayloadKind, PingError, ProtocolError, ProtocolVersion, RejectReason, SendError, SessionEvent,
    kaspa_id,
    transport::channel,
    wire::{
        TRANSACTION_ID_BYTES,
        proto::{
            BlockMessage, InvRelayBlockMessage, InvTransactionsMessage, PingMessage, PongMessage,
            RequestRelayBlocksMessage, TransactionId, TransactionMessage,
        },
    },
};
use tonic::Code;
use world::{
    Count, Counted, Host, RawPeer, config, next_event, node, pair, raw_session, remote, soon, version,
};

fn block() -> Payload {
    Payload::Block(BlockMessage::default())
}

fn transaction(payload: Vec<u8>) -> Payload {
    Payload::Transaction(TransactionMessage { payload: payload.into(), ..Default::default() })
}

fn announcement() -> Payload {
    Payload::InvRelayBlock(InvRelayBlockMessage::default())
}

fn failure(dialled: Result<punchline_protocol::Session, DialError>) -> DialError {
    match dialled {
        Ok(session) => panic!("a session: {:?}", session.facts()),
        Err(error) => error,
    }
}

fn rejected(reason: RejectReason) -> DialError {
    DialError::Handshake(HandshakeError::Rejected(reason))
}

fn refused_call(error: DialError) -> Code {
    match error {
        DialError::Call(error) => error.code,
        other => panic!("not refused by the call's status: {other}"),
    }
}

#[tokio::test]
async fn two_nodes_shake_hands_and_know_each_other() {
    let (_host, dialled, accepted) = pair().await;
    for (session, name, direction) in
        [(&dialled, "host", Direction::Outbound), (&accepted, "caller", Direction::Inbound)]
    {
        let facts = session.facts();
        assert_eq!(facts.kaspa_id, kaspa_id(name.as_bytes()));
        assert_eq!(facts.direction, direction);
        assert_eq!(facts.network, Network::Simnet);
        assert_eq!(facts.protocol_version, ProtocolVersion::V11);
        assert!(facts.peer.user_agent.is_ours());
    }
}

#[tokio::test]
async fn a_node_of_protocol_10_and_one_of_11_agree_on_10() {
    let old = Node::new(NodeConfig { protocol_version: ProtocolVersion::V10, ..config("old") });
    let mut host = Host::start("host", node("host"));
    let dialled = host.dialled_by(&old, "old").await.unwrap();
    let accepted = host.session().await;
    assert_eq!(dialled.facts().protocol_version, ProtocolVersion::V10);
    assert_eq!(accepted.facts().protocol_version, ProtocolVersion::V10);
}

#[tokio::test]
async fn messages_are_compressed_in_both_directions() {
    let mut host = Host::start("host", node("host"));
    let count = Count::default();
    let stream = Counted { stream: host.connect(remote("caller")), count: count.clone() };
    let dialling = node("caller");
    let dialled = soon(dialling.dial(channel(stream), remote("host"))).await;
    let (mut dialled, mut accepted) = (dialled.unwrap(), host.session().await);
    let zeros = transaction(vec![0; 1024 * 1024]);
    let sent = Some(SessionEvent::Message(Box::new(KaspadMessage::new(zeros.clone()))));
    dialled.handle().send(zeros.clone()).await.unwrap();
    assert_eq!(next_event(&mut accepted).await, sent);
    accepted.handle().send(zeros).await.unwrap();
    assert_eq!(next_event(&mut dialled).await, sent);
    assert!(count.written.load(Ordering::Relaxed) < 64 * 1024);
    assert!(count.read.load(Ordering::Relaxed) < 64 * 1024);
}

#[tokio::test]
async fn an_answer_carries_the_request_id_back_to_the_route_that_asked() {
    let (_host, dialled, mut accepted) = pair().await;
    let asker = dialled.handle();
    let mut bystander = asker.subscribe(&[PayloadKind::Block], 8).unwrap();
    let mut route = asker.subscribe(&[], 8).unwrap();
    let request = Payload::RequestRelayBlocks(RequestRelayBlocksMessage::default());
    asker.request(&route, request).await.unwrap();
    let Some(SessionEvent::Message(request)) = next_event(&mut accepted).await else {
        panic!("no request arrived");
    };
    assert_eq!((request.request_id, request.response_id), (route.id(), 0));
    accepted.handle().answer(&request, block()).await.unwrap();
    accepted.handle().send(block()).await.unwrap();
    let answer = soon(route.receive()).await.unwrap();
    assert_eq!((answer.request_id, answer.response_id), (0, route.id()));
    assert_eq!(soon(bystander.receive()).await, Some(KaspadMessage::new(block())));
}

#[tokio::test]
async fn a_response_id_nobody_asked_with_ends_the_session() {
    let (_host, dialled, accepted) = pair().await;
    let stray = KaspadMessage { request_id: u32::MAX, ..Default::default() };
    dialled.handle().answer(&stray, block()).await.unwrap();
    let response_id = u32::MAX;
    let cause = EndCause::Protocol(ProtocolError::UnknownResponseId { response_id });
    assert_eq!(soon(accepted.ended()).await, cause);
    assert_eq!(soon(dialled.ended()).await, EndCause::PeerClosed);
}

#[tokio::test]
async fn a_full_route_ends_the_session_and_announcements_alone_do_not() {
    let (_host, dialled, accepted) = pair().await;
    let kinds = [PayloadKind::Block, PayloadKind::InvRelayBlock];
    let _unread = accepted.handle().subscribe(&kinds, 2).unwrap();
    let sender = dialled.handle();
    for _ in 0..5 {
        sender.send(announcement()).await.unwrap();
    }
    soon(sender.ping()).await.unwrap();
    sender.send(block()).await.unwrap();
    let kind = PayloadKind::Block;
    let cause = EndCause::Protocol(ProtocolError::IncomingRouteFull { kind, limit: 2 });
    assert_eq!(soon(accepted.ended()).await, cause);
}

#[tokio::test]
async fn an_owner_that_reads_nothing_loses_announcements_first_and_then_the_session() {
    let (_host, dialled, accepted) = pair().await;
    let sender = dialled.handle();
    for _ in 0..=EVENTS_MAX {
        sender.send(announcement()).await.unwrap();
    }
    soon(sender.ping()).await.unwrap();
    sender.send(block()).await.unwrap();
    let cause = EndCause::Protocol(ProtocolError::IncomingRouteFull {
        kind: PayloadKind::Block,
        limit: EVENTS_MAX,
    });
    assert_eq!(soon(accepted.ended()).await, cause);
}

#[tokio::test]
async fn a_node_learns_at_most_1000_addresses_right_after_ready() {
    let mut host = Host::start("host", node("host"));
    for n in 0..ADDRESSES_KEPT_MAX as u32 {
        let ip = (0x0b00_0000 + n).to_be_bytes();
        host.node.addresses().insert(SocketAddr::from((ip, 16511)));
    }
    let caller = node("caller");
    let mut dialled = host.dialled_by(&caller, "caller").await.unwrap();
    let _accepted = host.session().await;
    let Some(SessionEvent::Addresses(learned)) = soon(dialled.next()).await else {
        panic!("no addresses");
    };
    assert_eq!(learned.len(), ADDRESSES_GIVEN_MAX);
    assert_eq!(caller.addresses().len(), ADDRESSES_GIVEN_MAX);
}

#[tokio::test]
async fn an_advertised_address_reaches_the_others_book() {
    let advertised: SocketAddr = "198.51.100.7:16511".parse().unwrap();
    let caller = Node::new(NodeConfig { advertised: Some(advertised), ..config("caller") });
    let mut host = Host::start("host", node("host"));
    let _dialled = host.dialled_by(&caller, "caller").await.unwrap();
    let accepted = host.session().await;
    assert_eq!(accepted.facts().peer.address, Some(advertised));
    assert_eq!(host.node.addresses().sample(2), [advertised]);
}

#[tokio::test(start_paused = true)]
async fn a_ping_measures_a_round_trip() {
    let mut host = Host::start("host", node("host"));
    let (mut slow, session) = raw_session(&mut host, "slow").await;
    let answer = async {
        loop {
            if let Some(Payload::Ping(PingMessage { nonce })) = slow.hear().await {
                // With the clock stopped, only this takes time.
                tokio::time::sleep(Duration::from_secs(3)).await;
                return slow.say(Payload::Pong(PongMessage { nonce })).await;
            }
        }
    };
    let handle = session.handle();
    let (round_trip, ()) = tokio::join!(handle.ping(), answer);
    assert_eq!(round_trip.unwrap().as_secs(), 3);
}

#[tokio::test(start_paused = true)]
async fn the_keepalive_pings_after_120_s_of_silence_and_both_sides_live_on() {
    let (_host, mut dialled, mut accepted) = pair().await;
    let started = tokio::time::Instant::now();
    for session in [&mut dialled, &mut accepted] {
        let event = next_event(session).await;
        assert!(matches!(event, Some(SessionEvent::RoundTrip(_))), "{event:?}");
    }
    assert_eq!(started.elapsed().as_secs(), 120);
}

#[tokio::test(start_paused = true)]
async fn more_pings_than_may_be_outstanding_are_refused() {
    let mut host = Host::start("host", node("host"));
    let (_silent, session) = raw_session(&mut host, "silent").await;
    let handle = session.handle();
    let pings: Vec<_> = (0..=PINGS_MAX).map(|_| handle.ping()).collect();
    let outcomes = futures::future::join_all(pings).await;
    let refused = |outcome| outcome == &Err(PingError::TooMany { limit: PINGS_MAX });
    assert_eq!(outcomes.iter().filter(|&outcome| refused(outcome)).count(), 1);
}

#[tokio::test]
async fn transactions_that_a_node_of_ours_announces_arrive_as_a_message() {
    let (_host, dialled, mut accepted) = pair().await;
    let ids = (0..3_u8).map(|n| TransactionId { bytes: vec![n; TRANSACTION_ID_BYTES].into() });
    let inv = Payload::InvTransactions(InvTransactionsMessage { ids: ids.collect() });
    dialled.handle().send(inv.clone()).await.unwrap();
    let arrived = Some(SessionEvent::Message(Box::new(KaspadMessage::new(inv))));
    assert_eq!(next_event(&mut accepted).await, arrived);
}

// With the clock stopped, time passes only when everybody waits.
#[tokio::test(start_paused = true)]
async fn a_sender_waits_for_a_peer_that_does_not_read_and_close_is_prompt_all_the_same() {
    let mut host = Host::start("host", node("host"));
    let (_deaf, session) = raw_session(&mut host, "deaf").await;
    let handle = session.handle();
    let flood = tokio::spawn(async move {
        loop {
            // Incompressible enough: gzip of a running counter at every byte offset.
            let noise = (0..64 * 1024_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8);
            if let Err(error) = handle.send(transaction(noise.collect())).await {
                return error;
            }
        }
    });
    let full = tokio::time::timeout(Duration::from_secs(10), session.ended()).await;
    assert!(full.is_err(), "backpressure is no reason to end: {full:?}");
    assert!(!flood.is_finished());
    session.close();
    assert_eq!(soon(session.ended()).await, EndCause::LocalClose);
    assert_eq!(soon(flood).await.unwrap(), SendError(EndCause::LocalClose));
}

#[tokio::test]
async fn a_second_connection_of_a_live_peer_is_a_duplicate_until_the_first_has_ended() {
    let mut host = Host::start("host", node("host"));
    // Two processes with one identity, so that only the host can know.
    let first = host.dialled_by(&node("caller"), "caller").await.unwrap();
    let accepted = host.session().await;
    let second = host.dialled_by(&node("caller"), "caller").await;
    assert_eq!(failure(second), rejected(RejectReason::Duplicate));
    match soon(host.acceptor.next()).await {
        Inbound::Failed { error, .. } => {
            assert_eq!(error, HandshakeError::Refused(RejectReason::Duplicate));
        }
        other => panic!("not refused: {other:?}"),
    }
    assert!(soon(first.handle().ping()).await.is_ok(), "the first one lives on");
    first.close();
    assert_eq!(soon(accepted.ended()).await, EndCause::PeerClosed);
    assert!(host.dialled_by(&node("caller"), "caller").await.is_ok());
}

#[tokio::test]
async fn a_node_that_reaches_itself_says_loopback() {
    let host = Host::start("host", node("host"));
    let error = failure(host.dialled_by(&host.node, "host").await);
    // Both ends find out at once, and either may be the first to say so.
    let reason = match error {
        DialError::Handshake(HandshakeError::Rejected(reason) | HandshakeError::Refused(reason)) => {
            reason
        }
        other => panic!("no reject: {other}"),
    };
    assert_eq!(reason, RejectReason::Loopback);
}

#[tokio::test]
async fn a_peer_that_claims_our_own_id_is_told_loopback() {
    let host = Host::start("host", node("host"));
    let mut peer = host.raw_peer("host").await;
    peer.shake_hands(version("host")).await;
    assert_eq!(peer.rejects().await, ["LOOPBACK_CONNECTION"]);
}

#[tokio::test]
async fn a_peer_of_another_network_is_rejected_with_both_names() {
    let mut host = Host::start("host", node("host"));
    let caller = Node::new(NodeConfig { network: Network::Testnet(10), ..config("caller") });
    let error = failure(host.dialled_by(&caller, "caller").await);
    assert!(!error.is_retryable());
    let local = "kaspa-simnet".to_owned();
    let remote = "kaspa-testnet-10".to_owned();
    match soon(host.acceptor.next()).await {
        Inbound::Failed { error, .. } => {
            let reason = RejectReason::WrongNetwork { local, remote };
            assert_eq!(error, HandshakeError::Refused(reason));
        }
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test]
async fn a_dropped_session_closes_and_the_peer_sees_it() {
    let (_host, dialled, accepted) = pair().await;
    let handle = dialled.handle();
    drop(dialled);
    assert_eq!(soon(handle.ended()).await, EndCause::LocalClose);
    assert_eq!(soon(accepted.ended()).await, EndCause::PeerClosed);
}

#[tokio::test]
async fn a_cut_byte_stream_ends_the_session() {
    let mut host = Host::start("host", node("host"));
    let (near, mut far) = tokio::io::duplex(1024);
    let mut to_host = host.connect(remote("caller"));
    let wire = tokio::spawn(async move { tokio::io::copy_bidirectional(&mut far, &mut to_host).await });
    let caller = node("caller");
    let dialled = soon(caller.dial(channel(near), remote("host"))).await.unwrap();
    let accepted = host.session().await;
    wire.abort();
    for session in [dialled, accepted] {
        let cause = soon(session.ended()).await;
        let gone = matches!(cause, EndCause::Transport(_) | EndCause::PeerClosed);
        assert!(gone, "{cause}");
    }
}

#[tokio::test]
async fn a_node_that_shuts_down_takes_leave_of_every_peer() {
    let mut host = Host::start("host", node("host"));
    let one = host.dialled_by(&node("one"), "one").await.unwrap();
    let other = host.dialled_by(&node("other"), "other").await.unwrap();
    let accepted = [host.session().await, host.session().await];
    assert_eq!(host.node.live_sessions(), 2);
    soon(host.node.shutdown()).await;
    assert_eq!(host.node.live_sessions(), 0);
    for session in &accepted {
        assert_eq!(soon(session.ended()).await, EndCause::LocalClose);
    }
    for session in [one, other] {
        assert_eq!(soon(session.ended()).await, EndCause::PeerClosed);
    }
    let late = failure(host.dialled_by(&node("late"), "late").await);
    assert_eq!(refused_call(late), Code::Unavailable);
}

#[tokio::test]
async fn two_hundred_peers_connect_at_once() {
    let mut host = Host::start("host", node("host"));
    let dials = (0..200).map(|n| {
        let name = format!("peer {n}");
        let channel = channel(host.connect(remote(&name)));
        async move { node(&name).dial(channel, remote("host")).await }
    });
    let dialled = soon(futures::future::join_all(dials)).await;
    let sessions: Vec<_> = dialled.into_iter().collect::<Result<_, _>>().unwrap();
    let mut accepted = Vec::new();
    for _ in &sessions {
        accepted.push(host.session().await);
    }
    assert_eq!(host.node.live_sessions(), 200);
}

fn limited(limits: NodeLimits) -> Host {
    let node = Node::new(NodeConfig { limits, ..config("host") });
    Host::start("host", node)
}

async fn refusal(host: &mut Host) -> AdmissionLimit {
    match soon(host.acceptor.next()).await {
        Inbound::Refused { limit, .. } => limit,
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test]
async fn one_pending_handshake_too_many_is_refused_as_exhausted() {
    let mut host = limited(NodeLimits { pending_max: 2, ..NodeLimits::default() });
    let _silent = [host.raw_peer("one").await, host.raw_peer("two").await];
    let error = failure(host.dialled_by(&node("three"), "three").await);
    assert!(error.is_retryable());
    assert_eq!(refused_call(error), Code::ResourceExhausted);
    assert_eq!(refusal(&mut host).await, AdmissionLimit::Pending { limit: 2 });
}

#[tokio::test]
async fn a_third_pending_handshake_of_one_peer_is_refused_and_others_are_served() {
    let mut host = Host::start("host", node("host"));
    let _silent = [host.raw_peer("slow").await, host.raw_peer("slow").await];
    let error = failure(host.dialled_by(&node("slow"), "slow").await);
    assert_eq!(refused_call(error), Code::ResourceExhausted);
    let limit = AdmissionLimit::PendingPerPeer { limit: 2 };
    assert_eq!(refusal(&mut host).await, limit);
    assert!(host.dialled_by(&node("quick"), "quick").await.is_ok());
}

#[tokio::test]
async fn one_session_too_many_is_rejected() {
    let mut host = limited(NodeLimits { sessions_max: 1, ..NodeLimits::default() });
    let _first = host.dialled_by(&node("one"), "one").await.unwrap();
    let _accepted = host.session().await;
    let error = failure(host.dialled_by(&node("two"), "two").await);
    assert_eq!(error, rejected(RejectReason::Text(RejectReason::Full.to_string())));
}

#[tokio::test]
async fn a_caller_without_an_address_is_refused_as_invalid() {
    let acceptor = node("host").acceptor(|_| None);
    let (near, far) = tokio::io::duplex(1024);
    let incoming = tokio_stream::once(Ok::<_, std::io::Error>(far));
    let server = tonic::transport::Server::builder()
        .add_service(acceptor.service())
        .serve_with_incoming(incoming);
    tokio::spawn(server);
    let refused = RawPeer::call(near).await.map(|_| ());
    assert_eq!(refused.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_never_accepts_the_call_times_out_after_10_s() {
    let (near, _silent) = tokio::io::duplex(1024);
    let started = tokio::time::Instant::now();
    let error = failure(node("caller").dial(channel(near), remote("host")).await);
    assert_eq!(error, DialError::CallTimeout);
    assert_eq!(started.elapsed().as_secs(), 10);
}

#[tokio::test]
async fn messages_of_many_mebibytes_arrive_whole() {
    let (_host, dialled, mut accepted) = pair().await;
    let large = transaction(vec![7; 8 * 1024 * 1024]);
    dialled.handle().send(large.clone()).await.unwrap();
    let arrived = Some(SessionEvent::Message(Box::new(KaspadMessage::new(large))));
    assert_eq!(next_event(&mut accepted).await, arrived);
}

#[test]
fn bytes_of_a_ping_on_the_wire_are_the_protocols() {
    use prost::Message;
    let ping = Payload::Ping(PingMessage { nonce: 5 });
    let message = KaspadMessage::request(ping, 7);
    // Oneof 16: tag 0x82 0x01, length 2, nonce 08 05; request_id 102: tag 0xb0 0x06, 7.
    let expected = [0x82, 0x01, 2, 0x08, 5, 0xb0, 0x06, 7];
    assert_eq!(message.encode_to_vec(), expected);
    assert_eq!(KaspadMessage::decode(Bytes::copy_from_slice(&expected)), Ok(message));
}
