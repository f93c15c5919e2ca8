//! Loads between two nodes on loopback.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use bytes::Bytes;
use libp2p::identity::Keypair;
use punchline_bridge::{Config, Endpoint, grpc};
use serde_json::Value;
use tonic::{
    Code,
    transport::{Channel, server::Router},
};

use super::{
    proto::{Piece, load_client::LoadClient},
    receive::{LOAD_BYTES_MIN, LOADS_MAX},
    send::PIECE_BYTES,
    *,
};
use crate::report::Reporter;

/// Far above what it takes, so that only a hang ends here.
const SOON: Duration = Duration::from_secs(60);

const SERVICE: &str = "kaspa-p2p";

/// A node that takes loads, and a channel to it.
struct World {
    channel: Channel,
    events: tempfile::NamedTempFile,
    reporter: Reporter,
    _nodes: [Endpoint; 2],
}

impl World {
    async fn new() -> Self {
        let events = tempfile::NamedTempFile::new().unwrap();
        let reporter = Reporter::open(events.path(), None).unwrap();
        Self::serving(grpc::server().add_service(service(reporter.clone())), events, reporter).await
    }

    async fn serving(router: Router, events: tempfile::NamedTempFile, reporter: Reporter) -> Self {
        let (near, far) = (node().await, node().await);
        let incoming = far.incoming(SERVICE.parse().unwrap()).await.unwrap();
        tokio::spawn(router.serve_with_incoming(incoming));
        near.add_addresses(far.peer_id(), far.listening().to_vec()).await;
        let connector = grpc::Connector::new(near.clone(), far.peer_id(), SERVICE.parse().unwrap());
        let endpoint = grpc::client(&far.peer_id());
        let channel = soon(endpoint.connect_with_connector(connector)).await.unwrap();
        Self { channel, events, reporter, _nodes: [near, far] }
    }

    /// All that was reported; nothing is after this.
    fn reported(self) -> Vec<Value> {
        self.reporter.finish(SOON);
        let text = std::fs::read_to_string(self.events.path()).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

async fn node() -> Endpoint {
    let listen = vec!["/ip4/127.0.0.1/tcp/0".parse().unwrap()];
    let config = Config { listen, ..Config::default() };
    Endpoint::start(config, Keypair::generate_ed25519()).await.unwrap().0
}

async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, what).await.expect("it happens within the deadline")
}

async fn sent(channel: &Channel, seed: u64, bytes: u64) -> Report {
    let mut load = Sender::begin(channel.clone(), seed);
    while load.bytes() < bytes {
        soon(load.send_piece()).await.unwrap();
    }
    soon(load.finish()).await.unwrap()
}

#[tokio::test]
async fn both_ends_of_a_load_report_the_same_bytes_and_hash() {
    let world = World::new().await;
    let sent = sent(&world.channel, 1, 3 << 20).await;
    let reported = world.reported();
    let [arrived] = &reported[..] else { panic!("{reported:?}") };
    assert_eq!(sent.bytes, 3 << 20);
    assert_eq!(arrived["event"], "load_done");
    assert_eq!(arrived["bytes"], sent.bytes);
    let told = serde_json::to_value(sent.done(PeerId::random(), Path::Direct)).unwrap();
    assert_eq!(arrived["sha256"], told["sha256"]);
}

#[tokio::test]
async fn the_same_seed_makes_the_same_load_and_another_seed_does_not() {
    let world = World::new().await;
    let one = sent(&world.channel, 1, LOAD_BYTES_MIN).await;
    assert_eq!(sent(&world.channel, 1, LOAD_BYTES_MIN).await.sha256, one.sha256);
    assert_ne!(sent(&world.channel, 2, LOAD_BYTES_MIN).await.sha256, one.sha256);
}

#[tokio::test]
async fn a_load_of_less_than_a_mebibyte_is_refused_and_not_reported() {
    let world = World::new().await;
    let mut load = Sender::begin(world.channel.clone(), 1);
    soon(load.send_piece()).await.unwrap();
    let Err(LoadError::Call(status)) = soon(load.finish()).await else { panic!("not refused") };
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(world.reported(), [] as [Value; 0]);
}

#[tokio::test]
async fn one_load_too_many_at_once_is_refused_until_a_place_is_free() {
    let world = World::new().await;
    let mut running = Vec::new();
    for _ in 0..LOADS_MAX {
        let mut load = Sender::begin(world.channel.clone(), 1);
        // So many that HTTP/2 has taken one: then the call is there.
        for _ in 0..=LOAD_BYTES_MIN / PIECE_BYTES as u64 {
            soon(load.send_piece()).await.unwrap();
        }
        running.push(load);
    }
    let refused = soon(LoadClient::new(world.channel.clone()).send(tokio_stream::pending())).await;
    assert_eq!(refused.unwrap_err().code(), Code::ResourceExhausted);
    soon(running.pop().unwrap().finish()).await.unwrap();
    sent(&world.channel, 1, LOAD_BYTES_MIN).await;
}

#[tokio::test]
async fn a_peer_that_takes_no_loads_says_so_and_the_sender_hears_it() {
    let (_, health) = tonic_health::server::health_reporter();
    let router = grpc::server().add_service(health);
    let world = World::serving(router, tempfile::NamedTempFile::new().unwrap(), Reporter::none()).await;
    let mut load = Sender::begin(world.channel.clone(), 1);
    let error = soon(async {
        loop {
            if let Err(error) = load.send_piece().await {
                return error;
            }
        }
    });
    let LoadError::Call(status) = error.await else { panic!("not the call's status") };
    assert_eq!(status.code(), Code::Unimplemented);
}

#[test]
fn a_hash_is_told_as_64_hexadecimal_digits() {
    let now = Instant::now();
    let empty = Count::new(now).report(now).done(PeerId::random(), Path::Direct);
    let empty = serde_json::to_value(empty).unwrap();
    assert_eq!(empty["sha256"], "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

#[tokio::test]
async fn a_receipt_for_other_bytes_is_an_error() {
    let world = World::serving(
        grpc::server().add_service(proto::load_server::LoadServer::new(Forger)),
        tempfile::NamedTempFile::new().unwrap(),
        Reporter::none(),
    )
    .await;
    let mut load = Sender::begin(world.channel.clone(), 1);
    soon(load.send_piece()).await.unwrap();
    let error = soon(load.finish()).await.unwrap_err();
    assert!(matches!(error, LoadError::Differs { received, .. } if received == PIECE_BYTES as u64));
}

/// Counts right, and hashes nothing.
struct Forger;

#[tonic::async_trait]
impl proto::load_server::Load for Forger {
    async fn send(
        &self,
        request: tonic::Request<tonic::Streaming<Piece>>,
    ) -> Result<tonic::Response<proto::Receipt>, tonic::Status> {
        let (mut pieces, mut bytes) = (request.into_inner(), 0);
        while let Some(piece) = pieces.message().await? {
            bytes += piece.bytes.len() as u64;
        }
        let sha256 = Bytes::from_static(&[0; 32]);
        Ok(tonic::Response::new(proto::Receipt { bytes, sha256 }))
    }
}
