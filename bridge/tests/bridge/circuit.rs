//! Our client of relays, and a relay that answers by hand.

use std::{
    collections::HashSet,
    time::{Duration, Instant, SystemTime},
};

use futures::future::join_all;
use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};
use punchline_bridge::{
    Config, Event, Events, Path,
    error::{CircuitFault, CircuitRefusal, DialFailureReason, LimitOwner, Malformed, RelayLimit},
    path::Direction,
};

use crate::{
    circuit_wire::{
        CONNECT, Hop, Limit, MALFORMED_MESSAGE, NO_RESERVATION, OK, RESERVATION_REFUSED, RESERVE,
        RESOURCE_LIMIT_EXCEEDED, Refusal, Stop, read, status, write_bytes,
    },
    handmade::{HandMade, splice},
    open::only_reason,
    world::{
        Node, RelayNode, TCP, circuit_opened, config, exchange, relay_config, service,
        through_a_relay_with, unpunchable, until, within,
    },
};

/// A node that does not wait for a relay that never identifies itself, and stays on relays.
fn hasty() -> Config {
    let mut config = unpunchable(TCP);
    config.deadlines.identify = Duration::from_millis(50);
    config
}

async fn reservation_failed(events: &mut Events) -> (String, u32) {
    until(events, "a failed reservation", |event| match event {
        Event::ReservationFailed { cause, failures, .. } => Some((cause.clone(), *failures)),
        _ => None,
    })
    .await
}

#[tokio::test]
async fn a_reservation_is_renewed_before_it_ends() {
    let mut settings = relay_config(TCP);
    settings.reservation_duration = Duration::from_secs(4);
    let mut relay = RelayNode::start(settings).await;
    let mut server = Node::start(config(TCP)).await;
    server.reserve(&relay.address).await;
    let began = Instant::now();
    for _ in 0..2 {
        let event = until(&mut server.events, "a renewal", |event| match event {
            Event::ReservationHeld { .. } | Event::ReservationLost { .. } => Some(event.clone()),
            _ => None,
        })
        .await;
        assert!(matches!(event, Event::ReservationHeld { .. }), "{event:?}");
    }
    assert!(began.elapsed() >= Duration::from_millis(3900), "{:?}", began.elapsed());
    let ended = until(&mut relay.events, "a renewal or an end", |event| match event {
        Event::ReservationAccepted { renewed: true, .. } => Some(false),
        Event::ReservationEnded { .. } => Some(true),
        _ => None,
    })
    .await;
    assert!(!ended);
}

#[tokio::test]
async fn a_reservation_whose_end_has_passed_by_our_clock_holds_for_its_duration() {
    let mut relay = HandMade::start().await;
    let mut server = Node::start(hasty()).await;
    server.endpoint.reserve(relay.address.clone()).await;
    relay.grant().await;
    let expires = until(&mut server.events, "a reservation", |event| match event {
        Event::ReservationHeld { expires, .. } => *expires,
        _ => None,
    })
    .await;
    let left = expires.duration_since(SystemTime::now()).unwrap();
    assert!((3500..=3600).contains(&left.as_secs()), "{left:?}");
    let seconds = until(&mut server.events, "a word on the clocks", |event| match event {
        Event::ClockDiffers { seconds, .. } => Some(*seconds),
        _ => None,
    })
    .await;
    assert!(seconds < -1_000_000_000, "{seconds}");
}

#[tokio::test]
async fn a_refused_reservation_is_asked_for_again_when_the_relay_said() {
    let mut relay = HandMade::start().await;
    let mut server = Node::start(hasty()).await;
    server.endpoint.reserve(relay.address.clone()).await;
    let refusal = Some(Refusal { owner: 1, limit: 7, retry_after_ms: 2_000 });
    for kind in [RESERVATION_REFUSED, RESOURCE_LIMIT_EXCEEDED] {
        let request = relay.request(RESERVE).await;
        let refused = Instant::now();
        request.answer(Hop { refusal, ..status(kind) }).await;
        let (cause, _) = reservation_failed(&mut server.events).await;
        assert!(cause.contains("for all clients is reached (7)"), "{cause}");
        let request = relay.request(RESERVE).await;
        assert!(refused.elapsed() >= Duration::from_secs(2), "{:?}", refused.elapsed());
        request.answer(Hop { refusal, ..status(kind) }).await;
    }
}

#[tokio::test]
async fn answers_without_sense_are_said_and_asked_for_again() {
    let mut relay = HandMade::start().await;
    let mut server = Node::start(hasty()).await;
    server.endpoint.reserve(relay.address.clone()).await;
    let oversized = [[0xff, 0xff, 0x03].as_slice(), &[0; 5000]].concat();
    let endless = vec![0xff; 100];
    let garbage = vec![3, 0xff, 0xff, 0xff];
    for (bytes, failures) in [(oversized, 1), (endless, 2), (garbage, 4)] {
        // Said at the 1st, 2nd and 4th failure.
        if failures == 4 {
            relay.request(RESERVE).await.answer_bytes(&bytes).await;
        }
        relay.request(RESERVE).await.answer_bytes(&bytes).await;
        let (cause, count) = reservation_failed(&mut server.events).await;
        assert_eq!(count, failures);
        assert!(cause.contains("makes no sense"), "{cause}");
    }
    relay.grant().await;
    server.held().await;
}

#[tokio::test]
async fn a_relay_that_never_answers_is_given_up_at_the_deadline_and_dialled_anew() {
    let mut relay = HandMade::start().await;
    let mut settings = hasty();
    settings.deadlines.reserve = Duration::from_millis(300);
    let mut server = Node::start(settings).await;
    server.endpoint.reserve(relay.address.clone()).await;
    let first = relay.request(RESERVE).await;
    let (cause, _) = reservation_failed(&mut server.events).await;
    assert!(cause.contains("did not answer within 0.3 s"), "{cause}");
    relay.grant().await;
    server.held().await;
    drop(first);
}

/// A client that knows `peers` behind a relay that answers by hand.
async fn behind(relay: &HandMade, peers: &[PeerId]) -> Node {
    let client = Node::start(hasty()).await;
    for peer in peers {
        client.endpoint.add_addresses(*peer, vec![relay.address.circuit_to(*peer)]).await;
    }
    client
}

#[tokio::test]
async fn a_circuit_request_that_a_relay_never_answers_ends_and_is_made_again() {
    let mut relay = HandMade::start().await;
    let client = behind(&relay, &[PeerId::random()]).await;
    let peer = client.id();
    let absent = PeerId::random();
    client.endpoint.add_addresses(absent, vec![relay.address.circuit_to(absent)]).await;
    let open = tokio::spawn(async move { client.endpoint.open(absent, service()).await });
    let unanswered = relay.request(CONNECT).await;
    let began = Instant::now();
    let request = relay.request(CONNECT).await;
    assert!((9..20).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
    assert_eq!(request.hop.peer.as_ref().unwrap().id, absent.to_bytes());
    request.answer(status(NO_RESERVATION)).await;
    let error = within("an error", open).await.unwrap().unwrap_err();
    assert_eq!(only_reason(error), DialFailureReason::NoReservation);
    drop((unanswered, peer));
}

#[tokio::test]
async fn a_circuit_that_is_refused_says_why_with_whose_limit_and_when_to_come_again() {
    let mut relay = HandMade::start().await;
    let absent = PeerId::random();
    let client = behind(&relay, &[absent]).await;
    let refusal = Some(Refusal { owner: 4, limit: 16, retry_after_ms: 60_000 });
    let limit = RelayLimit {
        owner: LimitOwner::Destination,
        limit: Some(16),
        retry_after: Some(Duration::from_secs(60)),
    };
    let malformed = |what| DialFailureReason::CircuitRefused { reason: CircuitRefusal::Malformed(what) };
    let garbage = vec![0xff; 10];
    for (answer, reason) in [
        (Some(status(NO_RESERVATION)), DialFailureReason::NoReservation),
        (Some(status(7)), malformed(Malformed::Status { status: Some(7) })),
        (Some(Hop { kind: RESERVE, ..status(OK) }), malformed(Malformed::Kind)),
        (None, malformed(Malformed::Message)),
        (Some(Hop { refusal, ..status(RESOURCE_LIMIT_EXCEEDED) }), DialFailureReason::RelayFull(limit)),
    ] {
        let open = client.endpoint.open(absent, service());
        let answered = async {
            let request = relay.request(CONNECT).await;
            match answer {
                Some(answer) => request.answer(answer).await,
                None => request.answer_bytes(&garbage).await,
            }
        };
        let (error, _io) = tokio::join!(within("an error", open), answered);
        assert_eq!(only_reason(error.unwrap_err()), reason);
    }
    // It is not asked again before the time that it named.
    let error = within("an error", client.endpoint.open(absent, service())).await.unwrap_err();
    let DialFailureReason::RelayFull(told) = only_reason(error) else { panic!("another reason") };
    assert!(told.retry_after < limit.retry_after && told.owner == limit.owner, "{told:?}");
}

#[tokio::test]
async fn a_relay_that_hangs_up_before_it_answers_fails_the_circuit_for_the_moment() {
    let mut relay = HandMade::start().await;
    let absent = PeerId::random();
    let mut settings = hasty();
    settings.deadlines.open = Duration::from_secs(5);
    let client = Node::start(settings).await;
    client.endpoint.add_addresses(absent, vec![relay.address.circuit_to(absent)]).await;
    let open = tokio::spawn(async move { client.endpoint.open(absent, service()).await });
    for _ in 0..3 {
        drop(relay.request(CONNECT).await);
    }
    relay.request(CONNECT).await.answer(status(NO_RESERVATION)).await;
    let error = within("an error", open).await.unwrap().unwrap_err();
    assert_eq!(only_reason(error), DialFailureReason::NoReservation);
}

#[tokio::test]
async fn a_circuit_on_which_the_peer_does_not_shake_hands_failed_for_the_moment() {
    let mut relay = HandMade::start().await;
    let absent = PeerId::random();
    let client = behind(&relay, &[absent]).await;
    let open = tokio::spawn(async move { client.endpoint.open(absent, service()).await });
    let hang_up = async {
        loop {
            drop(relay.request(CONNECT).await.answer(status(OK)).await);
        }
    };
    let error = tokio::select! {
        opened = within("an error", open) => opened.unwrap().unwrap_err(),
        () = hang_up => unreachable!(),
    };
    let reason = only_reason(error);
    let DialFailureReason::CircuitFailed { reason: CircuitFault::Handshake { .. } } = reason else {
        panic!("{reason:?}")
    };
}

#[tokio::test]
async fn each_of_many_circuits_at_once_is_known_by_its_own_limit() {
    let mut relay = HandMade::start().await;
    let servers = join_all((0..8).map(|_| Node::start(config(TCP)))).await;
    let peers: Vec<PeerId> = servers.iter().map(Node::id).collect();
    let mut client = behind(&relay, &peers).await;
    join_all(servers.iter().map(Node::echo)).await;
    let answers = async {
        for _ in &servers {
            let request = relay.request(CONNECT).await;
            let wanted = request.hop.peer.clone().unwrap().id;
            let at = peers.iter().position(|peer| peer.to_bytes() == wanted).unwrap();
            let limit = Some(Limit { duration: Some(100 + at as u32), data: None });
            let circuit = request.answer(Hop { limit, ..status(OK) }).await;
            splice(circuit, &servers[at].endpoint.listening()[0]);
        }
    };
    let opens = join_all(peers.iter().map(|peer| client.open(*peer)));
    let (streams, ()) = tokio::join!(opens, answers);
    for stream in streams {
        exchange(stream, b"through a relay made by hand").await;
    }
    let mut seen = HashSet::new();
    while seen.len() < servers.len() {
        let (peer, seconds) = until(&mut client.events, "a circuit", |event| match event {
            Event::ConnectionOpened {
                path: Path::Relayed { .. }, peer, circuit_seconds_max, ..
            } => Some((*peer, *circuit_seconds_max)),
            _ => None,
        })
        .await;
        let at = peers.iter().position(|known| *known == peer).unwrap();
        assert_eq!(seconds, Some(100 + at as u64));
        seen.insert(peer);
    }
}

#[tokio::test]
async fn circuits_that_a_relay_brings_carry_data_each_with_its_own_limit() {
    let mut relay = HandMade::start().await;
    let mut server = Node::start(hasty()).await;
    server.endpoint.reserve(relay.address.clone()).await;
    relay.grant().await;
    server.held().await;
    server.echo().await;
    for bytes in [None, Some(1 << 20), Some(1 << 21)] {
        // The client believes that it dials the server itself.
        let door = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = door.local_addr().unwrap().port();
        let client = Node::start(config(TCP)).await;
        let address: Multiaddr = format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap();
        client.endpoint.add_addresses(server.id(), vec![address]).await;
        let limit = Some(Limit { duration: None, data: bytes });
        let (answer, circuit) = relay.bring(server.id(), client.id(), limit).await;
        assert_eq!(answer.status, Some(OK));
        tokio::spawn(async move {
            let (mut there, _) = door.accept().await.unwrap();
            let mut circuit = tokio_util::compat::FuturesAsyncReadCompatExt::compat(circuit);
            let _ = tokio::io::copy_bidirectional(&mut circuit, &mut there).await;
        });
        exchange(client.open(server.id()).await, b"brought by hand").await;
        assert_eq!(circuit_opened(&mut server.events).await, (Direction::Inbound, bytes, None));
    }
}

#[tokio::test]
async fn the_address_of_an_accepted_circuit_names_the_relay() {
    let (relay, mut server, client) = through_a_relay_with(relay_config(TCP), unpunchable(TCP)).await;
    client.open(server.id()).await;
    let (path, address) = until(&mut server.events, "a circuit", |event| match event {
        Event::ConnectionOpened { peer, path, address, .. } if *peer == client.id() => {
            Some((*path, address.clone()))
        }
        _ => None,
    })
    .await;
    assert_eq!(path, Path::Relayed { relay: relay.relay.peer_id() });
    assert_eq!(address, Multiaddr::from(Protocol::P2p(client.id())));
}

#[tokio::test]
async fn a_peer_that_is_no_relay_of_ours_cannot_bring_circuits() {
    let mut relay = HandMade::start().await;
    let client = behind(&relay, &[PeerId::random()]).await;
    let absent = PeerId::random();
    client.endpoint.add_addresses(absent, vec![relay.address.circuit_to(absent)]).await;
    let (opened, request) = tokio::join!(client.endpoint.open(absent, service()), async {
        relay.request(CONNECT).await.answer(status(NO_RESERVATION)).await
    });
    opened.unwrap_err();
    let (answer, _) = relay.bring(client.id(), PeerId::random(), None).await;
    assert_eq!(answer.status, Some(NO_RESERVATION));
    drop(request);
}

#[tokio::test]
async fn an_offer_without_sense_is_answered_so_and_the_next_one_is_taken() {
    let mut relay = HandMade::start().await;
    let mut server = Node::start(hasty()).await;
    server.endpoint.reserve(relay.address.clone()).await;
    relay.grant().await;
    server.held().await;
    let mut io = relay.stop(server.id()).await;
    write_bytes(&mut io, &[3, 0xff, 0xff, 0xff]).await.unwrap();
    let answer: Stop = within("an answer", read(&mut io)).await.unwrap();
    assert_eq!(answer.status, Some(MALFORMED_MESSAGE));
    let (answer, _) = relay.bring(server.id(), PeerId::random(), None).await;
    assert_eq!(answer.status, Some(OK));
}

/// More than are heard at once.
const SILENT: usize = 70;
const HEARD_AT_ONCE: usize = 64;

#[tokio::test]
async fn offers_that_say_nothing_are_bounded_in_number_and_time() {
    let mut relay = HandMade::start().await;
    let mut server = Node::start(hasty()).await;
    server.endpoint.reserve(relay.address.clone()).await;
    relay.grant().await;
    server.held().await;
    let began = Instant::now();
    let mut offers = Vec::new();
    for _ in 0..SILENT {
        offers.push(relay.stop(server.id()).await);
    }
    // Each ends without an answer: those beyond the limit at once, the others at their deadline.
    let ends = join_all(offers.iter_mut().map(|io| async {
        assert!(read::<Stop>(io).await.is_err());
        began.elapsed()
    }));
    let ends = within("the end of every offer", ends).await;
    let early = ends.iter().filter(|end| **end < Duration::from_secs(5)).count();
    assert_eq!(early, SILENT - HEARD_AT_ONCE, "{ends:?}");
    let (answer, _) = relay.bring(server.id(), PeerId::random(), None).await;
    assert_eq!(answer.status, Some(OK));
}
