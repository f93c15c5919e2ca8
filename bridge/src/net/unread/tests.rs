//! Peers that send what nobody reads, and others beside them.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use futures::{AsyncReadExt as _, AsyncWriteExt as _, future::poll_fn};
use libp2p::core::muxing::StreamMuxerExt as _;
use tokio::time::timeout;
use tokio_util::compat::TokioAsyncReadCompatExt as _;

use super::*;
use crate::net::{
    cause::find_cause,
    muxer::{Muxer, Parted, Substream},
};

type Io = tokio_util::compat::Compat<tokio::io::DuplexStream>;

/// Room for what is under way between the two ends.
const PIPE_BYTES: usize = 16 << 10;

/// Our end of a connection: what it counts, and the peer's substreams as they come. The far end is `far`.
struct Pair {
    unread: Arc<Unread>,
    inbound: tokio::sync::mpsc::UnboundedReceiver<Substream>,
    far: Far,
    near: tokio::task::JoinHandle<()>,
}

struct Far(tokio::sync::mpsc::UnboundedSender<tokio::sync::oneshot::Sender<Substream>>);

fn pair(pool: &Arc<Pool>) -> Pair {
    let (near, far) = tokio::io::duplex(PIPE_BYTES);
    let mut near: Muxer<Io> = Muxer::new(near.compat(), Arc::clone(pool), yamux::Mode::Server);
    let unread = Arc::clone(near.unread());
    let (tell, inbound) = tokio::sync::mpsc::unbounded_channel();
    let near = tokio::spawn(async move {
        while let Ok(substream) = poll_fn(|cx| near.poll_inbound_unpin(cx)).await {
            let _ = tell.send(substream);
        }
    });
    let (ask, mut asked) = tokio::sync::mpsc::unbounded_channel::<tokio::sync::oneshot::Sender<_>>();
    let mut far = Muxer::new(far.compat(), Pool::new(POOL_BYTES), yamux::Mode::Client);
    tokio::spawn(async move {
        loop {
            tokio::select! {
                Some(reply) = asked.recv() => {
                    let opened = poll_fn(|cx| far.poll_outbound_unpin(cx)).await;
                    let _ = reply.send(opened.unwrap());
                }
                ended = poll_fn(|cx| far.poll_unpin(cx)) => if ended.is_err() { return },
            }
        }
    });
    Pair { unread, inbound, far: Far(ask), near }
}

impl Far {
    async fn open(&self) -> Substream {
        let (reply, opened) = tokio::sync::oneshot::channel();
        self.0.send(reply).unwrap();
        opened.await.unwrap()
    }
}

/// Connections whose peers send on eight substreams each for as long as anybody takes it, and nobody reads.
async fn greedy(pool: &Arc<Pool>) -> (Vec<Pair>, Vec<Substream>) {
    let mut pairs: Vec<Pair> = (0..12).map(|_| pair(pool)).collect();
    let (mut sending, mut unread) = (Vec::new(), Vec::new());
    for pair in &mut pairs {
        for _ in 0..8 {
            let mut substream = pair.far.open().await;
            // Only now the other end hears of it.
            substream.write_all(&[7]).await.unwrap();
            substream.flush().await.unwrap();
            sending.push(substream);
            unread.push(timeout(Duration::from_secs(5), pair.inbound.recv()).await.unwrap().unwrap());
        }
    }
    for mut substream in sending {
        tokio::spawn(async move { while substream.write_all(&[7; 16 << 10]).await.is_ok() {} });
    }
    until("all wait", || pairs.iter().all(|pair| pair.unread.is_blocked())).await;
    (pairs, unread)
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let holding = async {
        while !holds() {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(5), holding).await.unwrap_or_else(|_| panic!("{what}"));
}

impl Unread {
    fn total(&self) -> u64 {
        self.lock().total
    }

    fn is_blocked(&self) -> bool {
        self.lock().waker.is_some()
    }
}

const LIMIT: u64 = 8 << 20;

#[tokio::test]
async fn what_nobody_reads_reaches_the_ceiling_and_does_not_pass_it() {
    let pool = Pool::new(LIMIT);
    let (pairs, unread) = greedy(&pool).await;
    let totals: Vec<u64> = pairs.iter().map(|pair| pair.unread.total()).collect();
    let ceiling = LIMIT + pairs.len() as u64 * FLOOR;
    let reached: u64 = totals.iter().sum();
    assert!(reached <= ceiling && reached >= ceiling * 9 / 10, "{reached} of {ceiling}");
    assert!(totals.iter().all(|total| *total <= LIMIT / PARTS + FLOOR), "{totals:?}");
    assert!(pool.used() <= LIMIT);
    // What is dropped is free, and what is gone takes nothing with it.
    drop(unread);
    for pair in &pairs {
        pair.near.abort();
    }
    drop(pairs);
    until("everything is given back", || pool.used() == 0).await;
}

#[tokio::test]
async fn a_connection_that_is_read_goes_on_beside_those_that_took_the_whole_pool() {
    let pool = Pool::new(LIMIT);
    let _greedy = greedy(&pool).await;
    let mut honest = pair(&pool);
    let mut sent = honest.far.open().await;
    let sending = tokio::spawn(async move {
        sent.write_all(&vec![7; 4 << 20]).await.unwrap();
        sent.close().await.unwrap();
    });
    let mut received = Vec::new();
    let mut substream = timeout(Duration::from_secs(5), honest.inbound.recv()).await.unwrap().unwrap();
    let read = timeout(Duration::from_secs(5), substream.read_to_end(&mut received)).await;
    assert_eq!(read.unwrap().unwrap(), 4 << 20);
    sending.await.unwrap();
    assert_eq!(honest.unread.total(), 0);
}

#[tokio::test]
async fn a_connection_that_waits_for_the_pool_goes_on_when_another_is_read() {
    let pool = Pool::new(LIMIT);
    let (pairs, mut unread) = greedy(&pool).await;
    let short = pairs.iter().min_by_key(|pair| pair.unread.total()).unwrap();
    let before = short.unread.total();
    assert!(before < LIMIT / PARTS, "it waits for others, and not for itself");
    // Reads on: those of the first connections leave, and the others have what is free.
    unread.drain(..8 * 6);
    pairs[..6].iter().for_each(|pair| pair.near.abort());
    let last = pairs.last().unwrap();
    until("there is more", || last.unread.total() > before).await;
}

#[test]
fn a_frame_that_is_larger_than_a_window_is_an_error() {
    let counted = Counted::new((), Unread::new(Pool::new(LIMIT)));
    let header = |kind, bytes: u32| {
        let mut header = [0; HEADER_BYTES];
        (header[1], header[7]) = (kind, 1);
        header[8..].copy_from_slice(&bytes.to_be_bytes());
        header
    };
    assert!(counted.after(header(DATA, FRAME_BYTES_MAX as u32)).is_ok());
    assert!(counted.after(header(DATA, FRAME_BYTES_MAX as u32 + 1)).is_err());
    assert!(matches!(counted.after(header(1, u32::MAX)).unwrap(), At::Header { have: 0, .. }));
}

#[test]
fn what_comes_for_a_substream_that_is_gone_is_counted_only_while_it_comes() {
    let unread = Unread::new(Pool::new(LIMIT));
    let charge = |substream| {
        let cx = Context::from_waker(Waker::noop());
        assert!(unread.poll_charge(substream, 1000, &cx).is_ready());
    };
    unread.begin(1);
    charge(1);
    unread.passed();
    assert_eq!(unread.total(), 1000);
    unread.end(1);
    charge(1);
    assert_eq!(unread.total(), 1000);
    unread.passed();
    unread.read(1, 1000);
    assert_eq!(unread.total(), 0);
}

#[tokio::test]
async fn a_peer_that_closes_a_connection_is_told_from_one_that_has_just_gone() {
    for in_order in [true, false] {
        let (near, far) = tokio::io::duplex(PIPE_BYTES);
        let pool = Pool::new(POOL_BYTES);
        let mut near: Muxer<Io> = Muxer::new(near.compat(), Arc::clone(&pool), yamux::Mode::Server);
        let mut far: Muxer<Io> = Muxer::new(far.compat(), pool, yamux::Mode::Client);
        if in_order {
            poll_fn(|cx| far.poll_close_unpin(cx)).await.unwrap();
        }
        drop(far);
        let end = poll_fn(|cx| near.poll_inbound_unpin(cx)).await.err().unwrap();
        assert_eq!(find_cause::<Parted>(&end).is_some(), in_order, "{end}");
    }
}
