#![allow(clippy::unwrap_used)]
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UnixStream},
    task::JoinHandle,
    time::timeout,
};

use super::*;

/// More than any test here needs.
const SOON: Duration = Duration::from_secs(10);

async fn tcp() -> (TcpStream, Socket) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let program = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    (program, listener.accept().await.unwrap().0.into())
}

fn unix() -> (UnixStream, Socket) {
    let (program, socket) = UnixStream::pair().unwrap();
    (program, socket.into())
}

/// Joins two sockets as the gateway does; both are let go of at the end.
fn join(mut near: Socket, mut far: Socket, stands: &Arc<AtomicBool>) -> JoinHandle<End> {
    let stands = stands.clone();
    tokio::spawn(async move {
        let end = splice(&mut near, &mut far, || stands.load(Relaxed)).await;
        if let End::Finished = end {
            near.settle();
            far.settle();
        }
        end
    })
}

fn yes() -> Arc<AtomicBool> {
    Arc::new(AtomicBool::new(true))
}

async fn soon<T>(future: impl Future<Output = T>) -> T {
    timeout(SOON, future).await.unwrap()
}

#[tokio::test]
async fn a_request_that_ends_is_still_answered() {
    let ((mut client, near), (mut server, far)) = (tcp().await, unix());
    let joined = join(near, far, &yes());
    client.write_all(&[7; 300_000]).await.unwrap();
    client.shutdown().await.unwrap();
    let mut heard = Vec::new();
    soon(server.read_to_end(&mut heard)).await.unwrap();
    assert_eq!(heard.len(), 300_000);
    server.write_all(b"answer").await.unwrap();
    drop(server);
    let mut answer = String::new();
    soon(client.read_to_string(&mut answer)).await.unwrap();
    assert_eq!(answer, "answer");
    assert!(matches!(soon(joined).await.unwrap(), End::Finished));
}

#[tokio::test]
async fn a_reset_of_either_end_resets_the_other() {
    for backwards in [false, true] {
        let ((client, near), (server, far)) = (tcp().await, tcp().await);
        let joined = join(near, far, &yes());
        let (broken, mut other) = if backwards { (server, client) } else { (client, server) };
        broken.set_zero_linger().unwrap();
        drop(broken);
        let error = soon(other.read_u8()).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        let end = soon(joined).await.unwrap();
        assert!(matches!((backwards, &end), (false, End::Near(_)) | (true, End::Far(_))), "{end:?}");
    }
}

#[tokio::test]
async fn a_reset_is_noticed_while_both_directions_are_stuck() {
    let ((mut client, near), (mut server, far)) = (tcp().await, tcp().await);
    let joined = join(near, far, &yes());
    let stuck = |end: TcpStream| async move {
        // Nobody reads at either end, so all buffers fill up.
        let mut end = end;
        let chunk = vec![0; 1 << 20];
        while let Ok(written) = timeout(LOOK_INTERVAL, end.write_all(&chunk)).await {
            written.unwrap();
        }
        end
    };
    (client, server) = tokio::join!(stuck(client), stuck(server));
    client.set_zero_linger().unwrap();
    drop(client);
    assert!(matches!(soon(joined).await.unwrap(), End::Near(_)));
    let mut heard = Vec::new();
    assert!(soon(server.read_to_end(&mut heard)).await.is_err(), "no end in order");
}

#[tokio::test]
async fn what_may_no_longer_be_is_cut_within_a_second_though_nothing_flows() {
    let ((mut client, near), (_server, far)) = (tcp().await, tcp().await);
    let stands = yes();
    let joined = join(near, far, &stands);
    client.write_all(b"x").await.unwrap();
    stands.store(false, Relaxed);
    let end = timeout(Duration::from_secs(1), joined).await.unwrap().unwrap();
    assert!(matches!(end, End::Cut), "{end:?}");
    assert!(soon(client.read_u8()).await.is_err());
}

#[tokio::test]
async fn what_may_not_be_from_the_start_carries_no_byte() {
    let ((mut client, near), (mut server, far)) = (tcp().await, tcp().await);
    client.write_all(b"secret").await.unwrap();
    let stands = yes();
    stands.store(false, Relaxed);
    assert!(matches!(soon(join(near, far, &stands)).await.unwrap(), End::Cut));
    let mut heard = Vec::new();
    let _ = soon(server.read_to_end(&mut heard)).await;
    assert!(heard.is_empty());
}

#[tokio::test]
async fn a_reader_that_stops_stops_the_writer_and_then_gets_everything() {
    let ((mut client, near), (mut server, far)) = (tcp().await, tcp().await);
    let joined = join(near, far, &yes());
    let chunk: Vec<u8> = (0..1 << 20).map(|at: u32| at as u8).collect();
    let mut sent = 0;
    // Ends only because of backpressure.
    while let Ok(written) = timeout(LOOK_INTERVAL, client.write(&chunk[sent % chunk.len()..])).await {
        sent += written.unwrap();
        assert!(sent < 1 << 30, "nothing stops the writer");
    }
    let reading = tokio::spawn(async move {
        let mut heard = Vec::new();
        server.read_to_end(&mut heard).await.unwrap();
        heard
    });
    client.shutdown().await.unwrap();
    let heard = soon(reading).await.unwrap();
    assert_eq!(heard.len(), sent);
    assert!(heard.iter().enumerate().all(|(at, byte)| *byte == at as u8));
    assert!(matches!(soon(joined).await.unwrap(), End::Finished));
}
