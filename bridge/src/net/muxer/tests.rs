#![allow(clippy::unwrap_used)]

use futures::{AsyncReadExt as _, AsyncWriteExt as _, FutureExt as _};
use tokio::{
    io::{AsyncReadExt as _, DuplexStream, duplex},
    task::yield_now,
};
use tokio_util::compat::{Compat, TokioAsyncReadCompatExt as _};

use super::*;
use crate::net::unread::POOL_BYTES;

type Near = Muxer<Compat<DuplexStream>>;

/// A connection, a substream of it, and the far end of what it writes to. The connection's task runs only where a test awaits.
async fn near() -> (Near, Substream, DuplexStream) {
    let (near, mut far) = duplex(1 << 20);
    let mut muxer = Muxer::new(near.compat(), Pool::new(POOL_BYTES), yamux::Mode::Client);
    let substream = std::future::poll_fn(|cx| Pin::new(&mut muxer).poll_outbound(cx)).await.unwrap();
    settle().await;
    arrived(&mut far);
    (muxer, substream, far)
}

async fn settle() {
    for _ in 0..8 {
        yield_now().await;
    }
}

/// What has arrived already.
fn arrived(far: &mut DuplexStream) -> Vec<u8> {
    let (mut all, mut some) = (Vec::new(), [0; 4096]);
    while let Some(read) = far.read(&mut some).now_or_never() {
        all.extend_from_slice(&some[..read.unwrap()]);
    }
    all
}

#[tokio::test]
async fn a_small_message_leaves_when_it_is_flushed_and_no_task_runs_for_that() {
    let (_muxer, mut substream, mut far) = near().await;
    substream.write_all(b"hello").now_or_never().unwrap().unwrap();
    assert_eq!(arrived(&mut far), b"");
    substream.flush().now_or_never().unwrap().unwrap();
    assert!(arrived(&mut far).ends_with(b"hello"));
    settle().await;
    assert_eq!(arrived(&mut far), b"", "nothing was left to do");
}

#[tokio::test]
async fn a_large_one_the_task_sends_though_nobody_flushes() {
    let (_muxer, mut substream, mut far) = near().await;
    substream.write_all(&[7; SMALL_BYTES + 1]).now_or_never().unwrap().unwrap();
    assert_eq!(arrived(&mut far), b"");
    settle().await;
    assert!(arrived(&mut far).len() > SMALL_BYTES);
}

#[tokio::test]
async fn who_drops_or_closes_a_substream_before_a_flush_loses_nothing() {
    for closes in [true, false] {
        let (_muxer, mut substream, mut far) = near().await;
        substream.write_all(b"last").now_or_never().unwrap().unwrap();
        if closes {
            substream.close().now_or_never().unwrap().unwrap();
        }
        drop(substream);
        settle().await;
        let arrived = arrived(&mut far);
        assert!(arrived.windows(4).any(|bytes| bytes == b"last"), "closes: {closes}: {arrived:?}");
    }
}

#[tokio::test]
async fn a_message_while_the_connection_is_moved_by_another_is_sent_by_the_task() {
    let (muxer, mut substream, mut far) = near().await;
    substream.write_all(b"hello").now_or_never().unwrap().unwrap();
    muxer.driven.while_moved(|| substream.flush().now_or_never().unwrap().unwrap());
    assert_eq!(arrived(&mut far), b"");
    settle().await;
    assert!(arrived(&mut far).ends_with(b"hello"));
}

/// Many substreams of both ends of one connection at once, on several threads: each message comes back.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_lost_or_waits_for_ever_however_writers_and_the_task_meet() {
    let (near, far) = duplex(64 << 10);
    let pool = Pool::new(POOL_BYTES);
    let mut near = Muxer::new(near.compat(), Arc::clone(&pool), yamux::Mode::Client);
    let mut far = Muxer::new(far.compat(), pool, yamux::Mode::Server);
    let echoes = tokio::spawn(async move {
        loop {
            let Ok(mut substream) = std::future::poll_fn(|cx| Pin::new(&mut far).poll_inbound(cx)).await
            else {
                return;
            };
            tokio::spawn(async move {
                let mut byte = [0];
                while substream.read(&mut byte).await.is_ok_and(|read| read > 0) {
                    substream.write_all(&byte).await.unwrap();
                    substream.flush().await.unwrap();
                }
            });
        }
    });
    let mut asks = Vec::new();
    for number in 0..32_u8 {
        let mut substream =
            std::future::poll_fn(|cx| Pin::new(&mut near).poll_outbound(cx)).await.unwrap();
        asks.push(tokio::spawn(async move {
            for _ in 0..500 {
                substream.write_all(&[number]).await.unwrap();
                substream.flush().await.unwrap();
                let mut byte = [0];
                substream.read_exact(&mut byte).await.unwrap();
                assert_eq!(byte, [number]);
            }
        }));
    }
    let all = futures::future::join_all(asks);
    let all = tokio::time::timeout(std::time::Duration::from_secs(60), all).await.unwrap();
    all.into_iter().for_each(|ask| ask.unwrap());
    echoes.abort();
}

#[tokio::test]
async fn a_connection_that_ends_is_no_end_of_its_substreams_in_order_but_a_peer_that_closes_one_is() {
    for parts in [true, false] {
        let (near, far) = duplex(64 << 10);
        let pool = Pool::new(POOL_BYTES);
        let mut near = Muxer::new(near.compat(), Arc::clone(&pool), yamux::Mode::Client);
        let mut far = Muxer::new(far.compat(), pool, yamux::Mode::Server);
        let mut ours = std::future::poll_fn(|cx| Pin::new(&mut near).poll_outbound(cx)).await.unwrap();
        ours.write_all(b"hello").await.unwrap();
        ours.flush().await.unwrap();
        let mut theirs = std::future::poll_fn(|cx| Pin::new(&mut far).poll_inbound(cx)).await.unwrap();
        if parts {
            theirs.close().await.unwrap();
            settle().await;
        }
        // The system's end of the connection, without a word.
        drop((theirs, far));
        let read = ours.read(&mut [0]).await;
        match parts {
            true => assert_eq!(read.unwrap(), 0),
            false => assert_eq!(read.unwrap_err().kind(), io::ErrorKind::ConnectionAborted),
        }
    }
}
