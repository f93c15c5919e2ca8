//! What is timed, and who does it.

use std::{
    fmt,
    io::{Read as _, Write as _},
    net::{IpAddr, Ipv4Addr},
    str::FromStr,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::{
    StreamExt as _,
    future::join_all,
    stream::{self, BoxStream},
};
use serde_json::json;
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming, transport::Channel};

use self::pb::{
    Chunk, Pace, Sum,
    bench_client::BenchClient,
    bench_server::{Bench, BenchServer},
};
use crate::subject::{self, Subject};

mod pb {
    #![allow(missing_docs, unreachable_pub, unused_qualifications, clippy::all)]
    tonic::include_proto!("bench");
}

/// How long each work goes on.
const LASTS: Duration = Duration::from_secs(2);

/// How long a stream over a path goes on at its receiver's, and how much of that is not counted: until then it finds out what
/// the path carries.
const LASTS_OVER_A_PATH: Duration = Duration::from_secs(12);
const SETTLES: Duration = Duration::from_secs(3);

/// No work takes so long unless what carries it is stuck.
const STUCK: Duration = Duration::from_secs(90);

/// Names the address of the machine that a process is on; loopback's if it is not there.
pub(crate) const OWN_ADDRESS: &str = "PUNCHLINE_BENCH_ADDRESS";

/// A small gRPC message.
const SMALL_BYTES: usize = 128;

/// Peers of one process that say nothing, unless [`PEERS`] names another number.
pub(crate) const IDLE_PEERS: usize = 300;

/// Names how many idle peers there are.
pub(crate) const PEERS: &str = "PUNCHLINE_BENCH_PEERS";

/// Calls or streams at once.
const AT_ONCE: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// One stream of messages of 64 KiB.
    Stream64K,
    /// Of 1 MiB.
    Stream1M,
    /// Many of 64 KiB at once.
    Streams,
    /// One small message there and back, again and again on one stream.
    Echo,
    /// Small calls, many at once.
    Unary,
    /// The first connection of a process: a channel to call over.
    Connect,
    /// The first call of a process, from where it begins to connect.
    FirstCall,
    /// Many peers of a server, after one small call of each.
    Idle,
    /// One stream of messages of 64 KiB over a path, as its receiver sees it.
    Steady,
}

impl Work {
    pub(crate) const ALL: [Self; 8] = [
        Self::Stream64K,
        Self::Stream1M,
        Self::Streams,
        Self::Echo,
        Self::Unary,
        Self::Connect,
        Self::FirstCall,
        Self::Idle,
    ];

    /// What is of interest where a path has distance.
    pub(crate) const OVER_PATHS: [Self; 2] = [Self::FirstCall, Self::Steady];

    pub(crate) fn unit(self) -> &'static str {
        match self {
            Self::Stream64K | Self::Stream1M | Self::Streams | Self::Steady => {
                "MB/s; CPU seconds of both a GB"
            }
            Self::Echo => "median of round trips in µs; CPU seconds of both for 1,000",
            Self::Unary => "calls/s; CPU seconds of both for 1,000",
            Self::Connect => "ms; early: the start of a node before, where one is needed",
            Self::FirstCall => "ms until the first answer; early: the start of a node before",
            Self::Idle => "memory and CPU of the server",
        }
    }

    pub(crate) fn less_is_better(self) -> bool {
        matches!(self, Self::Echo | Self::Connect | Self::FirstCall)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Stream64K => "stream-64k",
            Self::Stream1M => "stream-1m",
            Self::Streams => "streams",
            Self::Echo => "echo",
            Self::Unary => "unary",
            Self::Connect => "connect",
            Self::FirstCall => "first-call",
            Self::Idle => "idle",
            Self::Steady => "steady",
        }
    }
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Work {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut all = Self::ALL.into_iter().chain(Self::OVER_PATHS);
        all.find(|work| work.name() == text).ok_or_else(|| text.to_owned())
    }
}

struct Worker;

#[tonic::async_trait]
impl Bench for Worker {
    type EchoStream = BoxStream<'static, Result<Chunk, Status>>;

    async fn sink(&self, request: Request<Streaming<Chunk>>) -> Result<Response<Sum>, Status> {
        let mut chunks = request.into_inner();
        let mut bytes = 0;
        while let Some(chunk) = chunks.message().await? {
            bytes += chunk.data.len() as u64;
        }
        Ok(Response::new(Sum { bytes }))
    }

    async fn echo(
        &self,
        request: Request<Streaming<Chunk>>,
    ) -> Result<Response<Self::EchoStream>, Status> {
        Ok(Response::new(request.into_inner().boxed()))
    }

    async fn unary(&self, request: Request<Chunk>) -> Result<Response<Chunk>, Status> {
        Ok(Response::new(request.into_inner()))
    }

    /// Begins and ends to count when a message has come, so that none is counted in part. What is still on its way does not
    /// count, however much it is.
    async fn steady(&self, request: Request<Streaming<Chunk>>) -> Result<Response<Pace>, Status> {
        let (mut chunks, began) = (request.into_inner(), Instant::now());
        let (mut pace, mut settled) = (Pace::default(), None);
        while let Some(chunk) = chunks.message().await? {
            let (now, bytes) = (began.elapsed(), chunk.data.len() as u64);
            match settled {
                None => {
                    pace.early_bytes += bytes;
                    pace.early_micros = now.as_micros() as u64;
                    settled = (now >= SETTLES).then_some(now);
                }
                Some(since) => {
                    pace.steady_bytes += bytes;
                    pace.steady_micros = (now - since).as_micros() as u64;
                }
            }
            if now >= LASTS_OVER_A_PATH {
                break;
            }
        }
        Ok(Response::new(pace))
    }
}

/// Of this machine.
pub(crate) fn own_address() -> IpAddr {
    let told = std::env::var(OWN_ADDRESS);
    told.map_or(Ipv4Addr::LOCALHOST.into(), |address| address.parse().unwrap())
}

/// The larger messages are longer than tonic takes by itself.
const MESSAGE_BYTES_MAX: usize = 2 << 20;

/// The whole life of a serving process: says where it is, and serves until it is killed.
#[tokio::main]
pub(crate) async fn serve(subject: Subject, relay: Option<&str>) {
    let (address, incoming) = subject::listen(subject, relay).await;
    println!("{address}");
    std::io::stdout().flush().unwrap();
    let service = BenchServer::new(Worker).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let server = punchline_bridge::grpc::server().add_service(service);
    server.serve_with_incoming(incoming).await.unwrap();
}

/// Likewise of an asking one: does the work, says what it found, and waits to be killed.
pub(crate) fn ask(subject: Subject, work: Work, address: &str) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let mut others = Vec::new();
    let mut early = None;
    let doing = async {
        let began = Instant::now();
        let (channel, started) = subject::connect(subject, address).await;
        let connected = began.elapsed() - started;
        let mut client = BenchClient::new(channel);
        client.unary(chunk(SMALL_BYTES)).await.unwrap();
        let answered = began.elapsed() - started;
        match work {
            Work::Connect | Work::FirstCall => {
                early = Some(started.as_secs_f64() * 1e3);
                let took = if work == Work::Connect { connected } else { answered };
                (took.as_secs_f64() * 1e3, 1.0)
            }
            Work::Stream64K => bulk(client, 64 << 10, 1).await,
            Work::Stream1M => bulk(client, 1 << 20, 1).await,
            Work::Streams => bulk(client, 64 << 10, AT_ONCE).await,
            Work::Echo => echo(client).await,
            Work::Unary => unary(client).await,
            Work::Idle => {
                others = peers(subject, address, client).await;
                (0.0, 1.0)
            }
            Work::Steady => {
                let pace = steady(client).await;
                early = Some(per_micro(pace.early_bytes, pace.early_micros));
                let bytes = pace.early_bytes + pace.steady_bytes;
                (per_micro(pace.steady_bytes, pace.steady_micros), bytes as f64 / 1e9)
            }
        }
    };
    let (value, units) = runtime.block_on(async { timeout(STUCK, doing).await }).expect("it is stuck");
    println!("{}", json!({ "value": value, "units": units, "early": early }));
    std::io::stdout().flush().unwrap();
    // Somebody asks who of them is still there, or nobody does.
    let mut again = [0];
    while std::io::stdin().read(&mut again).is_ok_and(|bytes| bytes > 0) {
        println!("{}", runtime.block_on(alive(&mut others)));
        std::io::stdout().flush().unwrap();
    }
}

/// How many of them answer, on the connections that they have.
async fn alive(peers: &mut [BenchClient<Channel>]) -> usize {
    let calls = peers.iter_mut().map(|peer| timeout(STUCK, peer.unary(chunk(SMALL_BYTES))));
    join_all(calls).await.into_iter().filter(|answer| matches!(answer, Ok(Ok(_)))).count()
}

/// As many as there are to be, with the first.
async fn peers(
    subject: Subject,
    address: &str,
    first: BenchClient<Channel>,
) -> Vec<BenchClient<Channel>> {
    let mut peers = vec![first];
    let wanted = std::env::var(PEERS).map_or(IDLE_PEERS, |peers| peers.parse().unwrap());
    while peers.len() < wanted {
        let mut client = BenchClient::new(subject::connect(subject, address).await.0);
        client.unary(chunk(SMALL_BYTES)).await.unwrap();
        peers.push(client);
    }
    peers
}

fn chunk(bytes: usize) -> Chunk {
    Chunk { data: Bytes::from(vec![7; bytes]) }
}

/// MB/s, and GB.
async fn bulk(client: BenchClient<Channel>, bytes: usize, streams: usize) -> (f64, f64) {
    let began = Instant::now();
    let data = chunk(bytes);
    let sink = |_| {
        let (mut client, data) = (client.clone(), data.clone());
        tokio::spawn(async move {
            let chunks =
                stream::repeat(data).take_while(move |_| std::future::ready(began.elapsed() < LASTS));
            client.sink(chunks).await.unwrap().into_inner().bytes
        })
    };
    let sums = join_all((0..streams).map(sink)).await;
    let total: u64 = sums.into_iter().map(Result::unwrap).sum();
    let took = began.elapsed().as_secs_f64();
    (total as f64 / 1e6 / took, total as f64 / 1e9)
}

/// Sends until the receiver has seen enough.
async fn steady(mut client: BenchClient<Channel>) -> Pace {
    client.steady(stream::repeat(chunk(64 << 10))).await.unwrap().into_inner()
}

/// Which are MB a second.
fn per_micro(bytes: u64, micros: u64) -> f64 {
    bytes as f64 / micros.max(1) as f64
}

/// Microseconds, and thousands.
async fn echo(mut client: BenchClient<Channel>) -> (f64, f64) {
    let (say, said) = mpsc::channel(1);
    let mut answers = client.echo(ReceiverStream::new(said)).await.unwrap().into_inner();
    let (began, data, mut took) = (Instant::now(), chunk(SMALL_BYTES), Vec::new());
    while began.elapsed() < LASTS {
        let asked = Instant::now();
        say.send(data.clone()).await.unwrap();
        answers.message().await.unwrap().unwrap();
        took.push(asked.elapsed().as_secs_f64() * 1e6);
    }
    took.sort_by(f64::total_cmp);
    (took[took.len() / 2], took.len() as f64 / 1e3)
}

/// Calls a second, and thousands.
async fn unary(client: BenchClient<Channel>) -> (f64, f64) {
    let began = Instant::now();
    let calls = |_| {
        let mut client = client.clone();
        tokio::spawn(async move {
            let mut calls = 0_u64;
            while began.elapsed() < LASTS {
                client.unary(chunk(SMALL_BYTES)).await.unwrap();
                calls += 1;
            }
            calls
        })
    };
    let calls: u64 = join_all((0..AT_ONCE).map(calls)).await.into_iter().map(Result::unwrap).sum();
    (calls as f64 / began.elapsed().as_secs_f64(), calls as f64 / 1e3)
}
