//! A stream over a pipe in memory: who reads, who does not, and how much at a time.

#![allow(clippy::unwrap_used)]

use std::{
    future::Future,
    sync::Arc,
    task::{Context, Waker},
    time::Duration,
};

use futures::FutureExt;
use punchline_stream::{
    Service, Stream,
    machine::Config,
    over::{self, OnePipe},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    time::timeout,
};
use tokio_util::compat::TokioAsyncReadCompatExt;

/// More than any window at its start.
const MANY: usize = 4 << 20;

/// Nothing here takes a second.
const DEADLINE: Duration = Duration::from_secs(20);

/// So that no deadline of the protocol is what makes something go on.
const LONG: Duration = Duration::from_secs(60);

fn patient() -> Config {
    Config { ack_delay: LONG, silence_max: LONG, answer_max: LONG, ask_after: LONG, ..Config::default() }
}

/// Both ends; the pipe between them takes `room` bytes at a time.
async fn ends(room: usize) -> (Stream<OnePipe>, Stream<OnePipe>) {
    ends_with(room, patient(), patient()).await
}

async fn ends_with(
    room: usize,
    near_config: Config,
    far_config: Config,
) -> (Stream<OnePipe>, Stream<OnePipe>) {
    let (near, far) = tokio::io::duplex(room);
    let near = over::open(near.compat(), Service::new("pipe").unwrap(), Arc::new(near_config));
    let far = over::accept(far.compat(), Arc::new(far_config));
    let far = timeout(DEADLINE, far).await.unwrap().unwrap();
    (near, far)
}

/// The byte at an offset: no two neighbouring blocks of any size are alike.
fn byte(at: usize) -> u8 {
    (at ^ (at >> 8) ^ (at >> 16)) as u8
}

fn content() -> Vec<u8> {
    (0..MANY).map(byte).collect()
}

/// Reads to the end by reads of many sizes, from one byte to more than a frame.
async fn read_in_pieces(mut from: impl AsyncRead + Unpin, seed: u64) -> Vec<u8> {
    let (mut rng, mut all) = (fastrand::Rng::with_seed(seed), Vec::new());
    let mut piece = vec![0; 200_000];
    loop {
        let scale = [8, 700, 3_000, 200_000][rng.usize(0..4)];
        let most = 1 + rng.usize(0..scale);
        match from.read(&mut piece[..most]).await.unwrap() {
            0 => return all,
            read => all.extend_from_slice(&piece[..read]),
        }
    }
}

async fn write_in_pieces(mut to: impl AsyncWriteExt + Unpin, content: &[u8], seed: u64) {
    let (mut rng, mut rest) = (fastrand::Rng::with_seed(seed), content);
    while !rest.is_empty() {
        let scale = [8, 700, 20_000, 200_000][rng.usize(0..4)];
        let most = 1 + rng.usize(0..scale);
        let (now, later) = rest.split_at(most.min(rest.len()));
        to.write_all(now).await.unwrap();
        rest = later;
    }
    to.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_are_whole_and_in_order_whatever_is_written_and_read_at_a_time() {
    for (seed, room) in [(1, 64), (2, 3_000), (3, 64 << 10), (4, 1 << 20)] {
        let (near, far) = ends(room).await;
        let both = [near, far].map(tokio::io::split);
        let [(near_in, near_out), (far_in, far_out)] = both;
        let content = content();
        let all = async {
            tokio::join!(
                write_in_pieces(near_out, &content, seed),
                write_in_pieces(far_out, &content, seed + 10),
                read_in_pieces(near_in, seed + 20),
                read_in_pieces(far_in, seed + 30),
            )
        };
        let (_, _, near, far) = timeout(DEADLINE, all).await.unwrap();
        assert!(near == content, "seed {seed}: {} bytes came to the opener", near.len());
        assert!(far == content, "seed {seed}: {} bytes came to the acceptor", far.len());
    }
}

#[tokio::test]
async fn a_read_into_no_room_takes_nothing() {
    let (mut near, mut far) = ends(64 << 10).await;
    near.write_all(b"all of it").await.unwrap();
    assert_eq!(far.read(&mut []).await.unwrap(), 0);
    let mut all = [0; 9];
    timeout(DEADLINE, far.read_exact(&mut all)).await.unwrap().unwrap();
    assert_eq!(&all, b"all of it");
    assert_eq!(far.read(&mut []).await.unwrap(), 0);
}

/// An end that writes much, and its peer, which takes it all.
async fn writes_through(mut near: Stream<OnePipe>, mut far: Stream<OnePipe>) {
    let content = content();
    let write = async {
        near.write_all(&content).await.unwrap();
        near.shutdown().await.unwrap();
        near
    };
    let mut all = Vec::new();
    let (_near, read) =
        timeout(DEADLINE, async { tokio::join!(write, far.read_to_end(&mut all)) }).await.unwrap();
    assert_eq!(read.unwrap(), MANY);
    assert!(all == content);
}

#[tokio::test]
async fn a_reader_that_went_away_holds_nothing_up() {
    let (mut near, far) = ends(16 << 10).await;
    // Polled once and dropped: what wakes it is heard by nobody.
    let nothing = timeout(Duration::ZERO, near.read(&mut [0; 10])).await;
    assert!(nothing.is_err(), "{nothing:?}");
    writes_through(near, far).await;
}

#[tokio::test]
async fn a_reader_that_waits_in_a_task_that_does_not_come_holds_nothing_up() {
    let (near, far) = ends(16 << 10).await;
    let (mut reader, mut writer) = tokio::io::split(near);
    let mut waits = Box::pin(async move { reader.read(&mut [0; 10]).await });
    // Of that task nobody knows that it was woken.
    let mut elsewhere = Context::from_waker(Waker::noop());
    assert!(waits.as_mut().poll(&mut elsewhere).is_pending());
    let content = content();
    let write = async {
        writer.write_all(&content).await.unwrap();
        writer.shutdown().await.unwrap();
    };
    let read = read_in_pieces(far, 5);
    let (_, all) = timeout(DEADLINE, async { tokio::join!(write, read) }).await.unwrap();
    assert!(all == content);
}

#[tokio::test]
async fn a_reader_that_takes_a_byte_and_no_more_holds_nothing_up() {
    let (mut near, mut far) = ends(16 << 10).await;
    far.write_all(&[7; 100_000]).await.unwrap();
    timeout(DEADLINE, near.read_exact(&mut [0])).await.unwrap().unwrap();
    writes_through(near, far).await;
}

/// A peer that ends its side knows that all of it arrived, whoever reads there.
async fn is_told_that_all_arrived(mut peer: Stream<OnePipe>) {
    peer.write_all(&[7; 10_000]).await.unwrap();
    timeout(DEADLINE, peer.shutdown()).await.expect("a word that all arrived").unwrap();
}

#[tokio::test]
async fn a_peer_is_answered_while_the_program_does_not_come_back() {
    let (mut near, mut far) = ends(16 << 10).await;
    far.write_all(&[7; 100]).await.unwrap();
    timeout(DEADLINE, near.read_exact(&mut [0])).await.unwrap().unwrap();
    is_told_that_all_arrived(far).await;
}

#[tokio::test]
async fn a_peer_is_answered_while_the_program_was_woken_and_does_not_come() {
    let (mut near, far) = ends(16 << 10).await;
    let mut piece = [0; 10];
    let mut waits = Box::pin(near.read(&mut piece));
    assert!(waits.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    is_told_that_all_arrived(far).await;
}

#[tokio::test]
async fn silence_is_noticed_though_the_program_only_ever_writes_a_little() {
    const SHORT: Duration = Duration::from_millis(100);
    let near = Config { silence_max: SHORT, ..patient() };
    // Acknowledges nothing; fails when its leg is gone.
    let far = Config { patience: SHORT, ..patient() };
    let (mut near, mut far) = ends_with(16 << 10, near, far).await;
    far.write_all(b"we are connected").await.unwrap();
    let connected = async {
        while near.facts().received_bytes() < 16 {
            tokio::task::yield_now().await;
        }
    };
    timeout(DEADLINE, connected).await.unwrap();
    near.write_all(b"is anybody there").await.unwrap();
    let mut all = Vec::new();
    let ended = timeout(DEADLINE, far.read_to_end(&mut all)).await.expect("the leg is given up");
    assert_eq!((ended.is_err(), &all[..]), (true, &b"is anybody there"[..]));
}

/// No task but the programs' runs here: what a reader takes is acknowledged by his read, not some time later.
#[tokio::test]
async fn a_read_acknowledges_what_it_took_and_makes_room_for_the_writer() {
    const MESSAGE: usize = 4 << 10;
    let near =
        Config { window_initial: 2 * MESSAGE as u64, window_max: 2 * MESSAGE as u64, ..patient() };
    let far = Config { ack_every_bytes: 1, ack_pause: Duration::ZERO, ..patient() };
    let (mut near, mut far) = ends_with(64 << 10, near, far).await;
    far.write_all(b"!").await.unwrap();
    timeout(DEADLINE, near.read_exact(&mut [0])).await.unwrap().unwrap();
    assert_eq!(far.read(&mut [0; 9]).now_or_never().map(Result::ok), None, "nothing is there yet");
    for round in 0..10 {
        let mut message = [7; MESSAGE];
        let wrote = near.write_all(&message).now_or_never();
        assert!(wrote.is_some_and(|done| done.is_ok()), "no room in round {round}");
        let read = far.read_exact(&mut message).now_or_never();
        assert!(read.is_some_and(|done| done.is_ok()), "nothing to read in round {round}");
    }
}

/// Small messages take short ways of their own, on which bytes could be forgotten, or counted twice.
#[tokio::test]
async fn every_byte_of_small_messages_is_counted_once_at_both_ends() {
    const ROUNDS: usize = 50;
    let (mut near, mut far) = ends(1 << 16).await;
    let talk = async {
        for bytes in 1..=ROUNDS {
            let mut message = vec![7; bytes];
            near.write_all(&message).await.unwrap();
            far.read_exact(&mut message).await.unwrap();
            far.write_all(&message).await.unwrap();
            near.read_exact(&mut message).await.unwrap();
        }
    };
    timeout(DEADLINE, talk).await.unwrap();
    let all = (ROUNDS * (ROUNDS + 1) / 2) as u64;
    for end in [&near, &far] {
        assert_eq!((end.facts().sent_bytes(), end.facts().received_bytes()), (all, all));
    }
}

#[tokio::test]
async fn a_stream_without_a_leg_is_counted_as_parked_until_it_ends() {
    let (near, far) = tokio::io::duplex(1 << 16);
    let config = Config { patience: Duration::from_millis(200), ..patient() };
    let mut near = over::open(near.compat(), Service::new("pipe").unwrap(), Arc::new(config));
    assert!(!near.facts().is_parked());
    drop(far);
    let parked = async {
        while !near.facts().is_parked() {
            tokio::task::yield_now().await;
        }
    };
    timeout(DEADLINE, parked).await.expect("it is parked");
    let ended = timeout(DEADLINE, near.read(&mut [0])).await.expect("patience is over");
    assert_eq!(ended.unwrap_err().kind(), std::io::ErrorKind::TimedOut);
    assert!(!near.facts().is_parked());
}
