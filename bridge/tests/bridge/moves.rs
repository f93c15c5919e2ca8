//! Streams outlive the connections that carry them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use bytes::BytesMut;
use fastrand::Rng;
use futures::{AsyncReadExt as _, AsyncWriteExt as _, FutureExt};
use libp2p::identity::Keypair;
use punchline_bridge::{
    Config, Endpoint, Event, Events, Incoming, Path, Stream, StreamFacts,
    event::StreamEnd,
    stream::frame::{Code, Decoder, Frame, Item, Move},
};
use sha2::{Digest, Sha256};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf},
    sync::mpsc,
    task::JoinHandle,
};

use crate::{
    attacker::{PROTOCOL, attacker},
    world::{Node, QUIC, RelayNode, TCP, config, relay_config, service, unpunchable, until, within},
};

/// Two nodes and both ends of a stream, which the client opened.
struct Ends {
    client: Node,
    server: Node,
    near: Stream,
    far: Stream,
    /// Kept, or the service would end.
    _incoming: Incoming,
}

impl Ends {
    /// Over a direct connection, to be had again at any time.
    async fn direct(config: Config) -> Self {
        let server = Node::start(config.clone()).await;
        let incoming = server.endpoint.incoming(service()).await.unwrap();
        let client = Node::start(config).await;
        client.endpoint.add_addresses(server.id(), server.endpoint.listening().to_vec()).await;
        Self::of(client, server, incoming).await
    }

    /// Through a relay, with a direct connection soon to come.
    async fn relayed(config: Config) -> (RelayNode, Self) {
        let relay = RelayNode::start(relay_config(TCP)).await;
        let mut server = Node::start(config.clone()).await;
        let circuit = server.reserve(&relay.address).await;
        let incoming = server.endpoint.incoming(service()).await.unwrap();
        let client = Node::start(config).await;
        client.endpoint.add_addresses(server.id(), vec![circuit]).await;
        (relay, Self::of(client, server, incoming).await)
    }

    async fn of(client: Node, server: Node, mut incoming: Incoming) -> Self {
        let near = client.open(server.id()).await;
        let far = within("the stream", incoming.next()).await.unwrap();
        Self { client, server, near, far, _incoming: incoming }
    }
}

/// What came through in one direction.
#[derive(Debug, PartialEq, Eq)]
struct Content {
    bytes: u64,
    digest: [u8; 32],
}

/// Sends random blocks while `more` says so, finishes, and tells what it sent.
async fn send(mut write: WriteHalf<Stream>, seed: u64, mut more: impl FnMut(u64) -> bool) -> Content {
    let mut block = vec![0; 61_001];
    Rng::with_seed(seed).fill(&mut block);
    let (mut hash, mut bytes) = (Sha256::new(), 0);
    while more(bytes) {
        // No two blocks are alike, so that one too many or too few shows.
        block[..8].copy_from_slice(&bytes.to_be_bytes());
        hash.update(&block);
        write.write_all(&block).await.unwrap();
        bytes += block.len() as u64;
    }
    write.shutdown().await.unwrap();
    Content { bytes, digest: hash.finalize().into() }
}

async fn receive(mut read: ReadHalf<Stream>) -> Content {
    let (mut hash, mut bytes, mut block) = (Sha256::new(), 0, vec![0; 64 << 10]);
    loop {
        let read = read.read(&mut block).await.unwrap();
        if read == 0 {
            return Content { bytes, digest: hash.finalize().into() };
        }
        hash.update(&block[..read]);
        bytes += read as u64;
    }
}

/// Counts the moves of all streams that an endpoint has; its gaps in milliseconds, sorted.
fn gaps(endpoint: &Endpoint) -> (JoinHandle<Vec<f64>>, mpsc::Sender<()>) {
    let mut events = endpoint.events();
    let (end, mut ended) = mpsc::channel(1);
    let counting = tokio::spawn(async move {
        let mut gaps = Vec::new();
        loop {
            tokio::select! {
                biased;
                event = events.next() => match event {
                    Some(Event::StreamMoved { gap_ms, .. }) => gaps.push(gap_ms),
                    Some(_) => {}
                    None => break,
                },
                _ = ended.recv() => break,
            }
        }
        gaps.sort_by(f64::total_cmp);
        gaps
    });
    (counting, end)
}

/// Closes whatever connection carries the stream, from either end, whenever it is told to.
fn cutter(client: &Node, server: &Node, ends: [Arc<StreamFacts>; 2], seed: u64) -> mpsc::Sender<()> {
    let (cut, mut cuts) = mpsc::channel(1);
    let nodes = [client.endpoint.clone(), server.endpoint.clone()];
    let mut rng = Rng::with_seed(seed);
    tokio::spawn(async move {
        while cuts.recv().await.is_some() {
            let end = rng.usize(0..2);
            nodes[end].close(ends[end].route().connection).await;
        }
    });
    cut
}

/// Says yes up to `total` bytes, and asks for a cut at random moments, `every` so many bytes or so.
fn cutting(total: u64, every: u64, cut: mpsc::Sender<()>, seed: u64) -> impl FnMut(u64) -> bool {
    let mut rng = Rng::with_seed(seed);
    let mut next = rng.u64(0..2 * every);
    move |sent| {
        if sent >= next {
            next = sent + rng.u64(0..2 * every);
            // A cut that is still waiting is as good.
            let _ = cut.try_send(());
        }
        sent < total
    }
}

async fn moved(events: &mut Events) -> (Path, Path) {
    until(events, "a move", |event| match event {
        Event::StreamMoved { from, to, .. } => Some((*from, *to)),
        _ => None,
    })
    .await
}

async fn stream_end(events: &mut Events) -> StreamEnd {
    until(events, "the end of the stream", |event| match event {
        Event::StreamClosed { cause, .. } => Some(*cause),
        _ => None,
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_moves_from_the_relay_to_the_direct_connection_while_data_flows_both_ways() {
    let mut short = unpunchable(TCP);
    short.deadlines.relayed_grace = Duration::from_millis(500);
    let (_relay, mut ends) = Ends::relayed(short).await;
    let relayed = ends.near.facts().path_at_open;
    assert!(!relayed.is_direct());
    let facts = [ends.near.facts().clone(), ends.far.facts().clone()];
    let enough = Arc::new(AtomicBool::new(false));
    let going = || {
        let enough = enough.clone();
        move |_| !enough.load(Relaxed)
    };
    swap_a_byte(&mut ends.near, &mut ends.far).await;
    for node in [&ends.client, &ends.server] {
        node.endpoint.allow_upgrades(true).await;
    }
    let (near_read, near_write) = tokio::io::split(ends.near);
    let (far_read, far_write) = tokio::io::split(ends.far);
    let up = tokio::spawn(send(near_write, 1, going()));
    let down = tokio::spawn(send(far_write, 2, going()));
    let (upped, downed) = (tokio::spawn(receive(far_read)), tokio::spawn(receive(near_read)));
    assert_eq!(moved(&mut ends.client.events).await, (relayed, Path::Direct));
    let (from, to) = moved(&mut ends.server.events).await;
    assert!(!from.is_direct() && to.is_direct());
    for events in [&mut ends.client.events, &mut ends.server.events] {
        until(events, "the end of the relayed connection", |event| {
            let relayed = matches!(event, Event::ConnectionClosed { path: Path::Relayed { .. }, .. });
            relayed.then_some(())
        })
        .await;
    }
    enough.store(true, Relaxed);
    assert_eq!(within("upwards", up).await.unwrap(), within("its end", upped).await.unwrap());
    assert_eq!(within("downwards", down).await.unwrap(), within("its end", downed).await.unwrap());
    for facts in facts {
        let [record] = &facts.moves()[..] else { panic!("{:?}", facts.moves()) };
        println!("{:?}: {record:?}", facts.direction);
        assert_eq!(
            (record.from.is_direct(), record.to, facts.path()),
            (false, Path::Direct, Path::Direct)
        );
        assert!(facts.sent_relayed_bytes() > 0 && facts.sent_direct_bytes() > 0);
    }
}

/// One byte arrives each way.
async fn swap_a_byte(near: &mut Stream, far: &mut Stream) {
    within("a byte each way", async {
        near.write_u8(1).await.unwrap();
        far.write_u8(2).await.unwrap();
        assert_eq!((far.read_u8().await.unwrap(), near.read_u8().await.unwrap()), (1, 2));
    })
    .await;
}

/// Sends so much each way with cuts every so many bytes or so: the content must be the same. Tells how
/// many moves there were.
async fn transfer(name: &str, ends: Ends, totals: [u64; 2], every: u64, seed: u64) -> usize {
    println!("{name}: seed {seed}");
    let facts = [ends.near.facts().clone(), ends.far.facts().clone()];
    let cut = cutter(&ends.client, &ends.server, facts, seed);
    let (counting, counted) = gaps(&ends.client.endpoint);
    let started = Instant::now();
    let (near_read, near_write) = tokio::io::split(ends.near);
    let (far_read, far_write) = tokio::io::split(ends.far);
    let up = cutting(totals[0], every, cut.clone(), seed + 1);
    let up = tokio::spawn(send(near_write, seed, up));
    let down = tokio::spawn(send(far_write, seed, cutting(totals[1], every, cut, seed + 2)));
    let (upped, downed) = (tokio::spawn(receive(far_read)), tokio::spawn(receive(near_read)));
    let all = async { (up.await, upped.await, down.await, downed.await) };
    let (up, upped, down, downed) = tokio::time::timeout(Duration::from_secs(180), all)
        .await
        .unwrap_or_else(|_| panic!("{name}: seed {seed}: no end"));
    assert_eq!(up.unwrap(), upped.unwrap(), "seed {seed}");
    assert_eq!(down.unwrap(), downed.unwrap(), "seed {seed}");
    drop(counted);
    let gaps = counting.await.unwrap();
    let at = |part: f64| gaps.get((gaps.len() as f64 * part) as usize).or(gaps.last()).copied();
    println!(
        "{name}: {totals:?} bytes in {:.1?}, {} moves, gaps in ms: p50 {:.1?} p99 {:.1?} max {:.1?}",
        started.elapsed(),
        gaps.len(),
        at(0.5),
        at(0.99),
        gaps.last(),
    );
    gaps.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_gibibyte_each_way_survives_a_hundred_lost_connections() {
    let ends = Ends::direct(config(TCP)).await;
    let moves = transfer("bulk", ends, [512 << 20; 2], 2 << 20, rand::random::<u32>().into()).await;
    assert!(moves >= 100, "only {moves} moves");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_direction_may_end_at_any_moment_while_connections_are_lost() {
    let seed = rand::random::<u32>().into();
    let mut rng = Rng::with_seed(seed);
    println!("half-closes: seed {seed}");
    let mut moves = 0;
    for _ in 0..10 {
        let totals = [rng.u64(0..4 << 20), rng.u64(0..4 << 20)];
        let ends = Ends::direct(config(TCP)).await;
        moves += transfer("half-closes", ends, totals, 256 << 10, rng.u32(..).into()).await;
    }
    assert!(moves >= 10, "only {moves} moves");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_stands_still_while_the_stream_moves_gets_everything() {
    let ends = Ends::direct(config(TCP)).await;
    let seed = rand::random::<u32>().into();
    println!("backpressure: seed {seed}");
    let facts = [ends.near.facts().clone(), ends.far.facts().clone()];
    let moves = facts[0].clone();
    let cut = cutter(&ends.client, &ends.server, facts, seed);
    let (near_read, near_write) = tokio::io::split(ends.near);
    let (far_read, far_write) = tokio::io::split(ends.far);
    // More than windows and buffers can hold at their largest.
    let up = tokio::spawn(send(near_write, 1, |sent| sent < 48 << 20));
    let down = tokio::spawn(send(far_write, 2, cutting(32 << 20, 1 << 20, cut, seed)));
    let downed = within("downwards", receive(near_read)).await;
    assert!(!up.is_finished());
    assert!(moves.moves().len() >= 3, "{:?}", moves.moves());
    let upped = within("upwards", receive(far_read)).await;
    assert_eq!(within("its end", up).await.unwrap(), upped);
    assert_eq!(within("its end", down).await.unwrap(), downed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_without_any_path_fails_at_both_ends_when_patience_is_over() {
    let mut short = config(TCP);
    short.streams.patience = Duration::from_secs(2);
    let (relay, mut ends) = Ends::relayed(short).await;
    assert!(moved(&mut ends.client.events).await.1.is_direct());
    moved(&mut ends.server.events).await;

    // A direct connection that the peer closes in order would tell the other end more than that a path is lost.
    for node in [&ends.client, &ends.server] {
        node.endpoint.allow_upgrades(false).await;
    }
    ends.client.endpoint.close(ends.near.facts().route().connection).await;
    moved(&mut ends.client.events).await;
    moved(&mut ends.server.events).await;
    within("a message", ends.near.write_all(b"on another path")).await.unwrap();
    let mut message = [0; 15];
    within("the message", ends.far.read_exact(&mut message)).await.unwrap();
    assert_eq!(&message, b"on another path");

    let lost = Instant::now();
    relay.relay.shutdown().await;
    let peer = ends.server.id();
    let carrying = ends.near.facts().clone();
    let closing = async {
        // Whatever carries the stream is closed until nothing does.
        let mut events = ends.client.endpoint.events();
        ends.client.endpoint.close(carrying.route().connection).await;
        while let Some(event) = events.next().await {
            match event {
                Event::ConnectionOpened { peer: opened, connection, .. } if opened == peer => {
                    ends.client.endpoint.close(connection).await;
                }
                Event::StreamMoved { .. } => {
                    ends.client.endpoint.close(carrying.route().connection).await;
                }
                Event::StreamClosed { .. } => break,
                _ => {}
            }
        }
    };
    let mut rest = Vec::new();
    let reading = async {
        let near = ends.near.read_to_end(&mut rest).await.unwrap_err();
        let far = ends.far.read_to_end(&mut Vec::new()).await.unwrap_err();
        (near, far)
    };
    let (_, (near, far)) = within("the end", async { tokio::join!(closing, reading) }).await;
    assert_eq!((near.kind(), far.kind()), (std::io::ErrorKind::TimedOut, std::io::ErrorKind::TimedOut));
    assert!((2..6).contains(&lost.elapsed().as_secs()), "{:?}", lost.elapsed());
    assert_eq!(stream_end(&mut ends.client.events).await, StreamEnd::PathLost);
    assert_eq!(stream_end(&mut ends.server.events).await, StreamEnd::PathLost);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_shuts_down_in_order_ends_its_streams_within_5_s_over_tcp_and_quic() {
    for listen in [TCP, QUIC] {
        let Ends { mut near, server, far: _far, client: _client, .. } =
            Ends::direct(config(listen)).await;
        let began = Instant::now();
        server.endpoint.shutdown().await;
        let error = within("the end", near.read_to_end(&mut Vec::new())).await.unwrap_err();
        // Its word, or, if the connection was gone before that, our own conclusion after
        // `Deadlines::absence`: the connection does not wait for the word to arrive.
        let told = [std::io::ErrorKind::ConnectionReset, std::io::ErrorKind::ConnectionAborted];
        assert!(told.contains(&error.kind()), "{listen}: {error}");
        assert!(began.elapsed() < Duration::from_secs(5), "{listen}: {:?}", began.elapsed());
    }
}

/// A server on a runtime of its own, which is dropped: sockets close, nobody says a word.
#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_was_restarted_does_not_know_the_stream_and_says_so_at_once() {
    let keypair = Keypair::generate_ed25519();
    let process = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let process = process.unwrap();
    let key = keypair.clone();
    let starting = process.spawn(async move {
        let server = Node::start_as(config(TCP), key).await;
        let incoming = server.endpoint.incoming(service()).await.unwrap();
        (server, incoming)
    });
    let (server, mut incoming) = starting.await.unwrap();
    let client = Node::start(config(TCP)).await;
    let listening = server.endpoint.listening().to_vec();
    client.endpoint.add_addresses(server.id(), listening.clone()).await;
    let mut near = client.open(server.id()).await;
    let far = within("the stream", incoming.next()).await.unwrap();
    tokio::task::block_in_place(|| drop(process));
    drop((server, incoming, far));
    let again = Config { listen: listening, ..config(TCP) };
    let back = Instant::now();
    let _server = Node::start_as(again, keypair).await;
    let error = within("the error", near.read_to_end(&mut Vec::new())).await.unwrap_err();
    println!("restarted: {:.1?} until the stream failed: {error}", back.elapsed());
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}");
    assert!(back.elapsed() < Duration::from_secs(5), "{:?}", back.elapsed());
}

/// The first frame that comes.
async fn frame(io: &mut libp2p::Stream) -> Frame {
    let (mut decoder, mut byte) = (Decoder::new(), [0]);
    loop {
        io.read_exact(&mut byte).await.unwrap();
        if let Some(Item::Frame(frame)) = decoder.decode(&mut &byte[..]).unwrap() {
            return frame;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_who_knows_the_id_of_a_stream_is_told_that_there_is_none() {
    let mut ends = Ends::direct(config(TCP)).await;
    let stream = ends.near.facts().stream;
    for victim in [&ends.server, &ends.client] {
        let mut stranger = attacker(victim.id(), victim.endpoint.listening()[0].clone()).await;
        let mut io = within("a leg", stranger.open_stream(victim.id(), PROTOCOL)).await.unwrap();
        let mut out = BytesMut::new();
        Frame::Move(Move { stream, epoch: 7, received: 0, limit: 1 << 20 }).encode(&mut out);
        within("the words", io.write_all(&out)).await.unwrap();
        within("the words", io.flush()).await.unwrap();
        assert_eq!(within("an answer", frame(&mut io)).await, Frame::Reset { code: Code::Unknown });
    }
    within("a conversation", async {
        ends.near.write_all(b"unmoved").await.unwrap();
        ends.near.shutdown().await.unwrap();
        let mut text = String::new();
        ends.far.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "unmoved");
    })
    .await;
    assert!(ends.far.facts().moves().is_empty());
}

/// Lets go of a stream that was shut down, with or without the loss of its connection.
async fn dropped_after_shutdown(cut: bool) {
    let mut ends = Ends::direct(config(TCP)).await;
    let message: Vec<u8> = (0..200_000_u32).map(|at| (at % 251) as u8).collect();
    within("the write", ends.near.write_all(&message)).await.unwrap();
    if cut {
        ends.client.endpoint.close(ends.near.facts().route().connection).await;
    }
    assert!(ends.near.shutdown().now_or_never().is_none_or(|done| done.is_ok()));
    drop(ends.near);
    let mut arrived = Vec::new();
    within("everything", ends.far.read_to_end(&mut arrived)).await.unwrap();
    assert!(arrived == message, "{} of {} bytes", arrived.len(), message.len());
    within("the other direction", ends.far.shutdown()).await.unwrap();
    assert_eq!(stream_end(&mut ends.client.events).await, StreamEnd::Finished);
    assert_eq!(stream_end(&mut ends.server.events).await, StreamEnd::Finished);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_shut_down_arrives_although_the_stream_is_dropped_at_once() {
    dropped_after_shutdown(false).await;
    dropped_after_shutdown(true).await;
}

async fn dropped_unfinished(cut: bool) {
    let mut ends = Ends::direct(config(TCP)).await;
    within("the write", ends.near.write_all(b"half a sen")).await.unwrap();
    if cut {
        ends.server.endpoint.close(ends.far.facts().route().connection).await;
    }
    drop(ends.near);
    let end = within("the end", ends.far.read_to_end(&mut Vec::new())).await;
    assert_eq!(end.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    assert_eq!(stream_end(&mut ends.client.events).await, StreamEnd::Dropped);
    assert_eq!(stream_end(&mut ends.server.events).await, StreamEnd::Reset);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_dropped_before_it_was_shut_down_is_reset() {
    dropped_unfinished(false).await;
    dropped_unfinished(true).await;
}
