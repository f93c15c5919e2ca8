//! What whoever carries the packets between two programs can read: design/operate.md says, and nothing beyond that.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use anyhow::{Context as _, Result, ensure};
use libp2p::PeerId;
use punchline_tests::process::Program;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

use crate::world::{LISTEN, SOON, World};

/// All that passed, both ways.
type Seen = Arc<Mutex<Vec<u8>>>;

/// Carries TCP to `to`, and remembers all of it. The port to come to.
async fn tcp_between(to: SocketAddr, seen: Seen) -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            let Ok(far) = TcpStream::connect(to).await else { continue };
            let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
            tokio::spawn(pass(near_in, far_out, seen.clone()));
            tokio::spawn(pass(far_in, near_out, seen.clone()));
        }
    });
    Ok(port)
}

async fn pass(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    seen: Seen,
) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        seen.lock().unwrap().extend_from_slice(&buffer[..count]);
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}

/// The same for the datagrams of one client.
async fn udp_between(to: SocketAddr, seen: Seen) -> Result<u16> {
    let near = UdpSocket::bind("127.0.0.1:0").await?;
    let far = UdpSocket::bind("127.0.0.1:0").await?;
    let port = near.local_addr()?.port();
    tokio::spawn(async move {
        let (mut there, mut back) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
        let mut client = None;
        loop {
            let (count, from, bytes) = tokio::select! {
                Ok((count, from)) = near.recv_from(&mut there) => (count, from, &there),
                Ok((count, from)) = far.recv_from(&mut back) => (count, from, &back),
            };
            seen.lock().unwrap().extend_from_slice(&bytes[..count]);
            let sent = match (from == to, client) {
                (true, Some(client)) => near.send_to(&bytes[..count], client).await,
                (true, None) => continue,
                (false, _) => {
                    client = Some(from);
                    far.send_to(&bytes[..count], to).await
                }
            };
            if sent.is_err() {
                return;
            }
        }
    });
    Ok(port)
}

/// Who it is, as whoever looks for it in bytes would: the id as text, and the key that is in it.
fn marks(peer: &str) -> Result<Vec<Vec<u8>>> {
    let id: PeerId = peer.parse()?;
    let bytes = id.to_bytes();
    let key = bytes.get(bytes.len() - 32..).context("a key")?.to_vec();
    Ok(vec![peer.as_bytes().to_vec(), key])
}

#[track_caller]
fn ensure_unseen(seen: &Seen, marks: &[Vec<u8>], least: usize) -> Result<()> {
    let seen = seen.lock().unwrap();
    ensure!(seen.len() >= least, "only {} bytes passed there", seen.len());
    for mark in marks {
        let at = seen.windows(mark.len()).position(|window| window == mark.as_slice());
        ensure!(at.is_none(), "{:?} is at byte {at:?}", String::from_utf8_lossy(mark));
    }
    Ok(())
}

/// Said over the stream, and long enough to stand out.
const WORDS: &[u8] = b"a sentence that nobody but the two programs is to read";

/// A program that says back what it hears.
pub(crate) async fn echo() -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = socket.split();
                let _ = tokio::io::copy(&mut from, &mut to).await;
            });
        }
    });
    Ok(port)
}

const SERVICE: &str = "a-service-of-some-name";

/// What passes between an `expose` that listens at `listen` and a `forward` that knows it by what is `between`.
async fn carried(quic: bool) -> Result<()> {
    let world = World::new()?;
    let (ours, theirs) = (world.peer_id("forward").await?, world.peer_id("expose").await?);
    let listen = if quic { "/ip4/127.0.0.1/udp/0/quic-v1" } else { LISTEN };
    let service = format!("{SERVICE}=127.0.0.1:{}", echo().await?);
    let launch = world.launch("expose", "expose")?.args(["--listen", listen, "--allow", &ours]);
    let expose = launch.args(["--service", &service]).spawn()?;
    let listens = expose.wait_for("listening", |_| true, SOON).await?;
    let address = listens.text("address").context("an address")?;
    let port = address.split('/').nth(4).context("a port")?.parse::<u16>()?;
    let (seen, to) = (Seen::default(), SocketAddr::from(([127, 0, 0, 1], port)));
    let between = match quic {
        true => format!("/ip4/127.0.0.1/udp/{}/quic-v1", udp_between(to, seen.clone()).await?),
        false => format!("/ip4/127.0.0.1/tcp/{}", tcp_between(to, seen.clone()).await?),
    };
    let local = world.text("local");
    let launch = world.launch("forward", "forward")?.args(["--listen", listen, "--peer", &theirs]);
    let launch = launch.args(["--addr", &between, "--service", SERVICE]);
    let forward = launch.args(["--local", &format!("unix:{local}")]).spawn()?;
    let said = async {
        forward.wait_for("connection_opened", |_| true, SOON).await?;
        let mut socket = tokio::net::UnixStream::connect(&local).await?;
        for _ in 0..100 {
            let mut heard = vec![0; WORDS.len()];
            socket.write_all(WORDS).await?;
            tokio::time::timeout(SOON, socket.read_exact(&mut heard)).await??;
            ensure!(heard == WORDS);
        }
        let mut secrets = [marks(&ours)?, marks(&theirs)?].concat();
        secrets.extend([WORDS.to_vec(), SERVICE.as_bytes().to_vec()]);
        ensure_unseen(&seen, &secrets, 200 * WORDS.len())
    };
    said.await.with_context(|| [&expose, &forward].map(Program::report).concat())
}

#[tokio::test]
async fn whoever_carries_tcp_between_two_peers_reads_neither_who_they_are_nor_what_for_nor_what_is_said()
-> Result<()> {
    carried(false).await
}

#[tokio::test]
async fn whoever_carries_quic_between_two_peers_reads_neither_who_they_are_nor_what_for_nor_what_is_said()
-> Result<()> {
    carried(true).await
}

#[tokio::test]
async fn whoever_carries_what_a_node_asks_the_dht_reads_neither_who_it_is_nor_its_namespace()
-> Result<()> {
    let world = World::new()?;
    let (ours, theirs) = (world.peer_id("expose").await?, world.peer_id("bootstrap").await?);
    let public = ["--assume-global", "127.0.0.0/8"];
    let launch = world.launch("bootstrap", "bootstrap")?.args(["--listen", LISTEN]).args(public);
    let bootstrap = launch.spawn()?;
    let listens = bootstrap.wait_for("dht_listening", |_| true, SOON).await?;
    let address = listens.text("address").context("an address")?;
    let port = address.split('/').nth(4).context("a port")?.parse::<u16>()?;
    let seen = Seen::default();
    let between = tcp_between(SocketAddr::from(([127, 0, 0, 1], port)), seen.clone()).await?;
    let begin = format!("/ip4/127.0.0.1/tcp/{between}/p2p/{theirs}");
    let launch =
        world.launch("expose", "expose")?.args(["--listen", LISTEN, "--allow-any"]).args(public);
    let launch = launch.args(["--service", "web=127.0.0.1:1", "--bootstrap", &begin]);
    let expose = launch.args(["--namespace", "a-namespace-of-some-name"]).spawn()?;
    let said = async {
        expose.wait_for("data_stored", |_| true, SOON).await?;
        let name = b"a-namespace-of-some-name".to_vec();
        let secrets = [marks(&ours)?, marks(&theirs)?, vec![name]].concat();
        ensure_unseen(&seen, &secrets, 1000)
    };
    said.await.with_context(|| [&bootstrap, &expose].map(Program::report).concat())
}
