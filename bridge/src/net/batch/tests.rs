#![allow(clippy::unwrap_used)]
use futures::{AsyncReadExt as _, AsyncWriteExt as _, future::poll_fn, io::BufWriter, poll};
use tokio::io::DuplexStream;
use tokio_util::compat::{Compat, TokioAsyncReadCompatExt as _};

use super::*;

/// Sends when it is flushed, as TLS does.
type Io = BufWriter<Compat<DuplexStream>>;

/// Room between the two ends.
const PIPE_BYTES: usize = 4 << 10;

fn pair() -> (Batched<Io>, Flush<Io>, Compat<DuplexStream>) {
    let (near, far) = tokio::io::duplex(PIPE_BYTES);
    let (batched, flush) = batched(BufWriter::with_capacity(4 * PIPE_BYTES, near.compat()));
    (batched, flush, far.compat())
}

async fn flushed(flush: &Flush<Io>) -> io::Result<()> {
    poll_fn(|cx| flush.poll_flush(cx)).await
}

#[tokio::test]
async fn frames_leave_together_when_somebody_says_so_and_not_before() {
    let (mut near, flush, mut far) = pair();
    let mut got = [0; 10];
    for frame in [&b"three"[..], b"words"] {
        near.write_all(frame).await.unwrap();
        near.flush().await.unwrap();
        assert!(poll!(far.read(&mut got)).is_pending());
    }
    flushed(&flush).await.unwrap();
    assert_eq!(far.read(&mut got).await.unwrap(), 10);
    assert_eq!(&got, b"threewords");
}

#[tokio::test]
async fn what_yamux_wants_no_flush_of_waits() {
    let (mut near, flush, mut far) = pair();
    near.write_all(b"half a frame").await.unwrap();
    flushed(&flush).await.unwrap();
    assert!(poll!(far.read(&mut [0; 1])).is_pending());
}

#[tokio::test]
async fn under_a_flood_of_the_peer_answers_leave_as_well() {
    let (mut near, _flush, mut far) = pair();
    near.write_all(b"answer").await.unwrap();
    near.flush().await.unwrap();
    let mut part = vec![0; PIPE_BYTES];
    let mut read = 0;
    while read < READ_BYTES_MAX {
        far.write_all(&part).await.unwrap();
        near.read_exact(&mut part).await.unwrap();
        read += part.len();
        near.flush().await.unwrap();
    }
    let mut got = [0; 6];
    let Poll::Ready(count) = poll!(far.read(&mut got)) else { panic!("no answer") };
    assert_eq!((count.unwrap(), &got), (6, b"answer"));
}

#[tokio::test]
async fn an_end_in_the_middle_is_told_to_whoever_flushes() {
    let (mut near, flush, mut far) = pair();
    near.write_all(&[7; 3 * PIPE_BYTES]).await.unwrap();
    near.flush().await.unwrap();
    assert!(poll!(Box::pin(flushed(&flush))).is_pending());
    far.read_exact(&mut [0; 100]).await.unwrap();
    drop(far);
    assert_eq!(flushed(&flush).await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    assert_eq!(near.read(&mut [0; 1]).await.unwrap(), 0);
}

#[tokio::test]
async fn what_waits_leaves_before_this_direction_is_closed_and_the_other_goes_on() {
    let (mut near, _flush, mut far) = pair();
    near.write_all(b"last words").await.unwrap();
    near.close().await.unwrap();
    let mut got = Vec::new();
    far.read_to_end(&mut got).await.unwrap();
    assert_eq!(got, b"last words");
    far.write_all(b"heard").await.unwrap();
    let mut got = [0; 5];
    near.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"heard");
}

#[tokio::test]
async fn what_is_written_after_the_peer_closed_its_direction_leaves() {
    let (mut near, flush, mut far) = pair();
    far.close().await.unwrap();
    assert_eq!(near.read(&mut [0; 1]).await.unwrap(), 0);
    near.write_all(b"still here").await.unwrap();
    near.flush().await.unwrap();
    flushed(&flush).await.unwrap();
    let mut got = [0; 10];
    far.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"still here");
}
