//! Streams leave a far connection for a near one.

use std::{net::SocketAddr, time::Duration};

use punchline_bridge::{Event, Multiaddr, Path, Stream};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc, oneshot},
    time::Instant,
};

use crate::world::{Node, TCP, config, until, within};

/// One way through the far proxy.
const FAR: Duration = Duration::from_millis(60);

/// Numbers that were said and not yet heard.
const UNDER_WAY: usize = 1000;
/// The last number.
const END: u64 = u64::MAX;

/// A TCP proxy before `target` for one connection: it forwards when told to, and each byte after `delay`.
/// Returns its address.
async fn proxy(target: &Multiaddr, delay: Duration, go: oneshot::Receiver<()>) -> Multiaddr {
    let port = target.to_string().rsplit('/').next().unwrap().parse().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("/ip4/127.0.0.1/tcp/{}", listener.local_addr().unwrap().port());
    tokio::spawn(async move {
        let (near, _) = listener.accept().await.unwrap();
        go.await.unwrap();
        let far = TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], port))).await.unwrap();
        let ((near_read, near_write), (far_read, far_write)) = (near.into_split(), far.into_split());
        tokio::join!(carry(near_read, far_write, delay), carry(far_read, near_write, delay));
    });
    address.parse().unwrap()
}

async fn carry(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, delay: Duration) {
    let (queue, mut queued) = mpsc::unbounded_channel();
    let reading = async move {
        let mut buffer = vec![0; 16 << 10];
        while let Ok(read @ 1..) = from.read(&mut buffer).await {
            let _ = queue.send((Instant::now() + delay, buffer[..read].to_vec()));
        }
    };
    let writing = async move {
        while let Some((at, bytes)) = queued.recv().await {
            tokio::time::sleep_until(at).await;
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
    };
    tokio::join!(reading, writing);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_moves_to_a_much_nearer_direct_connection_and_loses_nothing() {
    let (mut client, server) = (Node::start(config(TCP)).await, Node::start(config(TCP)).await);
    server.echo().await;
    let ((far, far_go), (near, near_go)) = (oneshot::channel(), oneshot::channel());
    far.send(()).unwrap();
    let to_server = proxy(&server.endpoint.listening()[0], FAR, far_go).await;
    let to_client = proxy(&client.endpoint.listening()[0], Duration::ZERO, near_go).await;

    // The server dials too, and its connection comes up later.
    server.endpoint.add_addresses(client.id(), vec![to_client]).await;
    server.endpoint.hold(client.id()).await;
    client.endpoint.add_addresses(server.id(), vec![to_server]).await;
    let mut stream = client.open(server.id()).await;
    let before = echo(&mut stream).await;
    let (stop, stopped) = oneshot::channel();
    let counting = tokio::spawn(count(stream, stopped));
    near.send(()).unwrap();

    let paths = until(&mut client.events, "a move", |event| match event {
        Event::StreamMoved { from, to, cause: None, .. } => Some((*from, *to)),
        _ => None,
    })
    .await;
    assert_eq!(paths, (Path::Direct, Path::Direct));
    stop.send(()).unwrap();
    let mut stream = within("all numbers", counting).await.unwrap();
    let after = echo(&mut stream).await;
    assert!(before >= FAR * 2 && after < FAR * 2, "round trips: {before:?} and then {after:?}");
}

/// Says numbers in order until it is told to stop, and hears each of them in its turn. Something is always under way.
async fn count(stream: Stream, mut stop: oneshot::Receiver<()>) -> Stream {
    let (mut read, mut write) = tokio::io::split(stream);
    let room = Semaphore::new(UNDER_WAY);
    let saying = async {
        let mut said = 0;
        while stop.try_recv().is_err() {
            room.acquire().await.unwrap().forget();
            write.write_u64(said).await.unwrap();
            said += 1;
        }
        write.write_u64(END).await.unwrap();
        said
    };
    let hearing = async {
        let mut expected = 0;
        loop {
            match read.read_u64().await.unwrap() {
                END => return expected,
                heard => assert_eq!(heard, expected, "lost, doubled or out of order"),
            }
            room.add_permits(1);
            expected += 1;
        }
    };
    let (said, heard) = tokio::join!(saying, hearing);
    assert_eq!(heard, said);
    read.unsplit(write)
}

/// How long the echo of some bytes takes.
async fn echo(stream: &mut Stream) -> Duration {
    let begun = Instant::now();
    within("an echo", async {
        stream.write_all(b"near or far").await.unwrap();
        let mut back = [0; 11];
        stream.read_exact(&mut back).await.unwrap();
        assert_eq!(&back, b"near or far");
    })
    .await;
    begun.elapsed()
}
