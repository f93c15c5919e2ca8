//! What is timed. Each end runs in a task of its own, as in a program.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::link::{Ends, Pipe};

/// One bulk transfer: a fraction of a second's work, so that starting and ending it hardly count, and the
/// machine is about as fast during the next.
pub(crate) const BULK_BYTES: usize = 128 << 20;

/// What a program writes and reads at a time.
const CHUNK_BYTES: usize = 64 << 10;

/// Round trips in all.
pub(crate) const PINGS: usize = 40_000;

/// A small gRPC message.
const PING_BYTES: usize = 128;

/// From the first byte written at one end to the last byte read at the other.
pub(crate) async fn bulk(ends: &Ends) -> Duration {
    let begun = Instant::now();
    let near = tokio::spawn(write_all(ends.near.clone()));
    tokio::spawn(read_all(ends.far.clone())).await.unwrap();
    let took = begun.elapsed();
    near.await.unwrap();
    took
}

async fn write_all(near: Pipe) {
    let (mut near, chunk) = (near.lock_owned().await, vec![7; CHUNK_BYTES]);
    for _ in 0..BULK_BYTES / CHUNK_BYTES {
        near.write_all(&chunk).await.unwrap();
    }
    near.flush().await.unwrap();
}

async fn read_all(far: Pipe) {
    let (mut far, mut chunk, mut read) = (far.lock_owned().await, vec![0; CHUNK_BYTES], 0);
    while read < BULK_BYTES {
        match far.read(&mut chunk).await.unwrap() {
            0 => panic!("the pipe ended after {read} bytes"),
            bytes => read += bytes,
        }
    }
}

/// The microseconds of each of `count` round trips.
pub(crate) async fn pings(ends: &Ends, count: usize) -> Vec<f64> {
    let far = tokio::spawn(answer(ends.far.clone(), count));
    let took = tokio::spawn(ask(ends.near.clone(), count)).await.unwrap();
    far.await.unwrap();
    took
}

async fn ask(near: Pipe, count: usize) -> Vec<f64> {
    let mut near = near.lock_owned().await;
    let (mut message, mut took) = ([7; PING_BYTES], Vec::with_capacity(count));
    for _ in 0..count {
        let begun = Instant::now();
        near.write_all(&message).await.unwrap();
        near.flush().await.unwrap();
        near.read_exact(&mut message).await.unwrap();
        took.push(begun.elapsed().as_secs_f64() * 1e6);
    }
    took
}

async fn answer(far: Pipe, count: usize) {
    let (mut far, mut message) = (far.lock_owned().await, [0; PING_BYTES]);
    for _ in 0..count {
        far.read_exact(&mut message).await.unwrap();
        far.write_all(&message).await.unwrap();
        far.flush().await.unwrap();
    }
}
