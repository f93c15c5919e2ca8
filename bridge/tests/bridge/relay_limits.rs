//! A relay among clients that want more than their share.

use std::{
    num::{NonZeroU32, NonZeroUsize},
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant, SystemTime},
};

use futures::{AsyncReadExt, AsyncWriteExt, StreamExt, future::join_all};
use libp2p::{PeerId, Stream, identity::Keypair};
use punchline_bridge::{
    Event,
    event::{Asked, LimitOwner},
    relay::{Rate, RelayConfig},
};

use crate::{
    circuit_wire::{
        ADDRESS, CONNECTION_FAILED, Hop, Limit, NO_RESERVATION, OK, PEER, RELAY,
        RESOURCE_LIMIT_EXCEEDED, connect,
    },
    relay_hand::{Hand, accept, over, reachable, with_an_echo},
    world::{Node, RelayNode, TCP, config, exchange, relay_config, until, within},
};

fn share(count: usize) -> Option<NonZeroUsize> {
    NonZeroUsize::new(count)
}

/// Sends bytes through a circuit to an echo and reads them back.
async fn echoed(mut io: Stream, length: usize) {
    let sent = vec![7; length];
    let (mut read, mut write) = (&mut io).split();
    let (_, back) = within("an echo", async {
        tokio::join!(
            async {
                write.write_all(&sent).await.unwrap();
                write.close().await.unwrap();
            },
            async {
                let mut back = Vec::new();
                read.read_to_end(&mut back).await.unwrap();
                back
            }
        )
    })
    .await;
    assert!(back == sent, "{} of {length} bytes came back", back.len());
}

#[tokio::test]
async fn a_reservation_says_how_long_it_lasts_and_what_a_circuit_may_carry() {
    let limits = RelayConfig {
        circuit_bytes: 123_456,
        circuit_duration: Duration::from_secs(77),
        reservation_duration: Duration::from_secs(1000),
        ..reachable()
    };
    let relay = RelayNode::start(limits).await;
    let answer = Hand::new(&relay).reserve().await;
    let reservation = answer.reservation.unwrap();
    assert_eq!((answer.status, reservation.seconds), (Some(OK), Some(1000)));
    assert_eq!(answer.limit, Some(Limit { duration: Some(77), data: Some(123_456) }));
    assert_eq!(reservation.addrs.len(), 1);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    assert!((now + 990..=now + 1000).contains(&reservation.expire));
}

#[tokio::test]
async fn a_relay_without_an_external_address_does_not_offer_itself() {
    let config = RelayConfig {
        external: punchline_bridge::relay::External::Given(Vec::new()),
        ..relay_config(TCP)
    };
    let relay = RelayNode::start(config).await;
    let error = within("an answer", Hand::new(&relay).try_ask(&connect(PeerId::random()))).await;
    assert!(error.unwrap_err().to_string().contains("does not support"));
}

#[tokio::test]
async fn whoever_is_refused_is_told_whose_limit_it_was_and_when_to_come_again() {
    let limits = RelayConfig {
        reservations: 3,
        reservations_per_ip: share(2),
        circuits: 3,
        circuits_per_peer: 1,
        circuits_per_ip: share(2),
        requests_per_peer: Rate::per_hour(NonZeroU32::new(2).unwrap()),
        ..reachable()
    };
    let (relay, echo) = with_an_echo(limits).await;
    let ipv6 = || Hand::at(relay.relay.peer_id(), over(&relay, "/ip6"));
    let mut hands = [(); 4].map(|()| Hand::new(&relay));
    let mut far = [(); 2].map(|()| ipv6());
    let told = |answer: Hop| {
        let refusal = answer.refusal.unwrap();
        assert!(refusal.retry_after_ms > 0, "{refusal:?}");
        (answer.status, refusal.owner, refusal.limit)
    };
    // Reservations: two of one address, and one is the echo's.
    for hand in &mut hands[..2] {
        assert_eq!(hand.reserve().await.status, Some(OK));
    }
    assert_eq!(told(hands[2].reserve().await), (Some(RESOURCE_LIMIT_EXCEEDED), ADDRESS, 2));
    assert_eq!(told(far[0].reserve().await), (Some(RESOURCE_LIMIT_EXCEEDED), RELAY, 3));
    // Who has one keeps it, until it asks too often.
    assert_eq!(hands[0].reserve().await.status, Some(OK));
    assert_eq!(told(hands[0].reserve().await), (Some(RESOURCE_LIMIT_EXCEEDED), PEER, 2));
    // Circuits, likewise.
    let mut open = Vec::new();
    for hand in &mut hands[..2] {
        let (answer, io) = hand.connect(echo.id).await;
        assert_eq!(answer.status, Some(OK));
        open.push(io);
    }
    assert_eq!(told(hands[0].connect(echo.id).await.0), (Some(RESOURCE_LIMIT_EXCEEDED), PEER, 1));
    assert_eq!(told(hands[3].connect(echo.id).await.0), (Some(RESOURCE_LIMIT_EXCEEDED), ADDRESS, 2));
    let (answer, io) = far[0].connect(echo.id).await;
    assert_eq!(answer.status, Some(OK));
    open.push(io);
    assert_eq!(told(far[1].connect(echo.id).await.0), (Some(RESOURCE_LIMIT_EXCEEDED), RELAY, 3));
    let absent = hands[3].connect(PeerId::random()).await.0;
    assert_eq!((absent.status, absent.refusal), (Some(NO_RESERVATION), None));
}

/// Identities from one address.
const CROWD: usize = 300;

#[tokio::test(flavor = "multi_thread")]
async fn one_address_with_many_identities_does_not_take_the_whole_relay() {
    let limits = RelayConfig { reservations: 64, ..reachable() };
    let relay = RelayNode::start(limits).await;
    let mut crowd: Vec<Hand> = (0..CROWD).map(|_| Hand::new(&relay)).collect();
    let answers = join_all(crowd.iter_mut().map(Hand::reserve)).await;
    let held = answers.iter().filter(|answer| answer.status == Some(OK)).count();
    assert_eq!(held, 16);
    let refused = answers.iter().filter_map(|answer| answer.refusal);
    assert!(refused.into_iter().all(|refusal| (refusal.owner, refusal.limit) == (ADDRESS, 16)));
    let mut honest = Hand::at(relay.relay.peer_id(), over(&relay, "/ip6"));
    assert_eq!(honest.reserve().await.status, Some(OK));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_asks_without_pause_does_not_stop_the_others() {
    let (relay, echo) = with_an_echo(reachable()).await;
    let (id, address) = (relay.relay.peer_id(), over(&relay, "/ip4"));
    // Uses its own allowance up, and goes on.
    let refused = std::sync::Arc::new(AtomicU64::new(0));
    let flood = (0..4).map(|_| {
        let (mut hand, refused) = (Hand::at(id, address.clone()), refused.clone());
        tokio::spawn(async move {
            let mut hands = Vec::new();
            loop {
                match hand.try_ask(&connect(echo.id)).await {
                    Ok((answer, io)) if answer.status == Some(OK) => hands.push(io),
                    _ => drop(refused.fetch_add(1, Ordering::Relaxed)),
                }
            }
        })
    });
    let flood: Vec<_> = flood.collect();
    let echo = echo.id;
    within("the flood", async {
        while refused.load(Ordering::Relaxed) < 200 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    for number in 0..20 {
        let started = Instant::now();
        let mut honest = Hand::at(id, address.clone());
        let (answer, io) = honest.connect(echo).await;
        assert_eq!(answer.status, Some(OK), "{number}: {:?}", answer.refusal);
        echoed(io, 1000).await;
        println!("{number}: {:.0?}", started.elapsed());
    }
    println!("{} refused meanwhile", refused.load(Ordering::Relaxed));
    flood.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test(flavor = "multi_thread")]
async fn circuits_that_are_stuck_at_one_destination_do_not_stop_others_and_their_slots_come_back() {
    let (relay, echo) = with_an_echo(reachable()).await;
    let mut mute = Hand::new(&relay);
    // Takes what comes and says nothing.
    let mut circuits = mute.circuits();
    assert_eq!(mute.reserve().await.status, Some(OK));
    let mut stuck: Vec<Hand> = (0..10).map(|_| Hand::new(&relay)).collect();
    let mute_id = mute.id;
    // The hand hears of few at once and drops the others; the relay cannot tell.
    let waiting = tokio::spawn(async move {
        let answers = join_all(stuck.iter_mut().map(|hand| hand.connect(mute_id))).await;
        answers.into_iter().map(|(answer, _)| answer.status.unwrap()).collect::<Vec<i32>>()
    });
    let held = within("a circuit", circuits.next()).await.unwrap();
    for _ in 0..10 {
        let mut honest = Hand::new(&relay);
        let (answer, io) = honest.connect(echo.id).await;
        assert_eq!(answer.status, Some(OK));
        echoed(io, 1000).await;
    }
    assert!(!waiting.is_finished());
    let told = within("the answers", waiting).await.unwrap();
    assert!(
        told.iter().all(|status| [CONNECTION_FAILED, RESOURCE_LIMIT_EXCEEDED].contains(status)),
        "{told:?}"
    );
    // It comes to itself.
    drop(held);
    tokio::spawn(async move {
        while let Some((_, mut io)) = circuits.next().await {
            let _ = accept(&mut io).await;
        }
    });
    for _ in 0..20 {
        let mut again = Hand::new(&relay);
        assert_eq!(again.connect(mute_id).await.0.status, Some(OK));
    }
}

#[tokio::test]
async fn a_circuit_carries_exactly_the_bytes_that_were_announced() {
    let limits = RelayConfig { circuit_bytes: 100_001, ..reachable() };
    let mut relay = RelayNode::start(limits).await;
    let (mut source, mut destination) = (Hand::new(&relay), Hand::new(&relay));
    let mut circuits = destination.circuits();
    destination.reserve().await;
    let id = destination.id;
    let receiving = tokio::spawn(async move {
        let (_, mut io) = circuits.next().await.unwrap();
        accept(&mut io).await.unwrap();
        let mut received = Vec::new();
        let _ = io.read_to_end(&mut received).await;
        received.len()
    });
    let (answer, mut io) = source.connect(id).await;
    assert_eq!(answer.limit.unwrap().data, Some(100_001));
    let _ = within("the end", io.write_all(&[7; 200_000])).await;
    assert_eq!(within("the end", receiving).await.unwrap(), 100_001);
    assert_eq!(closed(&mut relay).await, (Some("its bytes are used up".to_owned()), 100_001));
}

/// How the next circuit ended, and what it carried.
async fn closed(relay: &mut RelayNode) -> (Option<String>, u64) {
    until(&mut relay.events, "the end of a circuit", |event| match event {
        Event::CircuitClosed { cause, bytes, .. } => Some((cause.clone(), *bytes)),
        _ => None,
    })
    .await
}

#[tokio::test]
async fn a_circuit_that_never_pauses_lives_exactly_as_long_as_was_announced() {
    let limits =
        RelayConfig { circuit_duration: Duration::from_secs(2), circuit_bytes: 0, ..reachable() };
    let (mut relay, echo) = with_an_echo(limits).await;
    let mut client = Hand::new(&relay);
    let (answer, io) = client.connect(echo.id).await;
    let started = Instant::now();
    assert_eq!(answer.limit, Some(Limit { duration: Some(2), data: None }));
    let (mut read, mut write) = io.split();
    let sending = async { while write.write_all(&[7; 65_536]).await.is_ok() {} };
    let receiving = async {
        let mut bytes = vec![0; 65_536];
        while read.read(&mut bytes).await.is_ok_and(|count| count > 0) {}
    };
    within("the end", async {
        tokio::select! { () = sending => {}, () = receiving => {} }
    })
    .await;
    let lived = started.elapsed();
    assert!((1.9..3.0).contains(&lived.as_secs_f64()), "{lived:?}");
    let (cause, bytes) = closed(&mut relay).await;
    assert_eq!(cause.as_deref(), Some("its time is over"));
    assert!(bytes > 1 << 20, "{bytes}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_circuit_passes_a_half_close_on_and_its_bytes_are_counted() {
    let (mut relay, echo) = with_an_echo(reachable()).await;
    let mut client = Hand::new(&relay);
    let (_, io) = client.connect(echo.id).await;
    echoed(io, 3_000_000).await;
    assert_eq!(closed(&mut relay).await, (None, 6_000_000));
}

/// Clients that come back together.
const RETURNING: usize = 300;

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_behind_one_address_comes_back_after_a_restart() {
    let keypair = Keypair::generate_ed25519();
    let limits = RelayConfig { reservations_per_ip: share(400), ..reachable() };
    let relay = RelayNode::start_as(limits.clone(), keypair.clone()).await;
    let listen = relay.relay.listening().to_vec();
    let mut crowd: Vec<Hand> = (0..RETURNING).map(|_| Hand::new(&relay)).collect();
    let answers = join_all(crowd.iter_mut().map(Hand::reserve)).await;
    assert!(answers.iter().all(|answer| answer.status == Some(OK)));
    drop(crowd);
    relay.relay.shutdown().await;
    let again = RelayNode::start_as(RelayConfig { listen, ..limits }, keypair).await;
    let started = Instant::now();
    let mut crowd: Vec<Hand> = (0..RETURNING).map(|_| Hand::new(&again)).collect();
    let answers = join_all(crowd.iter_mut().map(Hand::reserve)).await;
    assert!(answers.iter().all(|answer| answer.status == Some(OK)));
    println!("{RETURNING} are back after {:.1?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn sockets_that_say_nothing_are_counted_and_others_are_introduced() {
    let (mut relay, echo) = with_an_echo(reachable()).await;
    let address = over(&relay, "/ip4").to_string();
    let port: u16 = address.split('/').nth(4).unwrap().parse().unwrap();
    let flood = tokio::spawn(async move {
        let mut sockets = std::collections::VecDeque::new();
        loop {
            if let Ok(socket) = tokio::net::TcpStream::connect(("127.0.0.1", port)).await {
                sockets.push_back(socket);
            }
            // More than the relay lets one address have; the oldest are reopened.
            if sockets.len() > 350 {
                sockets.pop_front();
            }
        }
    });
    let first = until(&mut relay.events, "a refusal", refused_connection).await;
    assert_eq!(first, (Some(LimitOwner::Address), 256, 1));
    let mut clients = Vec::new();
    for _ in 0..20 {
        let mut honest = Hand::at(relay.relay.peer_id(), over(&relay, "/ip6"));
        let (answer, io) = honest.connect(echo.id).await;
        assert_eq!(answer.status, Some(OK));
        echoed(io, 1000).await;
        clients.push(honest);
    }
    // Whatever was refused since is told with one event a second.
    let (_, _, count) = until(&mut relay.events, "a summary", refused_connection).await;
    assert!(count > 1, "{count}");
    flood.abort();
}

fn refused_connection(event: &Event) -> Option<(Option<LimitOwner>, u64, u64)> {
    match event {
        Event::Refused { what: Asked::Connection, whose, limit, count, .. } => {
            Some((*whose, *limit, *count))
        }
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_with_one_identity_do_not_fight_for_ever() {
    let mut relay = RelayNode::start(relay_config(TCP)).await;
    let keypair = Keypair::generate_ed25519();
    let mut nodes = Vec::new();
    for _ in 0..2 {
        let node = Node::start_as(config(TCP), keypair.clone()).await;
        node.echo().await;
        node.endpoint.reserve(relay.address.clone()).await;
        nodes.push(node);
    }
    let peer = nodes[0].id();
    let mut taken = 0;
    let limit = until(&mut relay.events, "an end of the fight", |event| {
        taken += u32::from(matches!(event, Event::ReservationAccepted { .. }));
        match event {
            Event::Refused { what: Asked::Takeover, peer: Some(who), limit, .. } if *who == peer => {
                Some(*limit)
            }
            _ => None,
        }
    })
    .await;
    assert_eq!(limit, 4);
    assert!(taken <= 8, "{taken}");
    // One of them is reached.
    let client = Node::start(config(TCP)).await;
    client.endpoint.add_addresses(peer, vec![relay.address.circuit_to(peer)]).await;
    exchange(client.open(peer).await, b"still there").await;
}
