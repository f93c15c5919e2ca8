//! The end that receives loads.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use punchline_bridge::grpc::ConnectInfo;
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status, Streaming};

use super::{
    Count, Report,
    proto::{
        Piece, Receipt,
        load_server::{Load, LoadServer},
    },
};
use crate::report::Reporter;

/// Loads received at once, of all peers: each costs a hash over whatever comes.
pub(super) const LOADS_MAX: usize = 64;

/// The smallest load. Each is reported, so an event costs its peer a mebibyte.
pub(super) const LOAD_BYTES_MIN: u64 = 1 << 20;

/// Between two pieces. A stream may wait a minute for a path; a peer that is silent for two has nothing
/// to measure, and others want its place.
const SILENCE_DEADLINE: Duration = Duration::from_secs(120);

/// A gRPC service that receives loads and reports each that arrived whole.
pub(crate) fn service(reporter: Reporter) -> LoadServer<impl Load> {
    LoadServer::new(Receiver { reporter, places: Arc::new(Semaphore::new(LOADS_MAX)) })
}

struct Receiver {
    reporter: Reporter,
    places: Arc<Semaphore>,
}

#[tonic::async_trait]
impl Load for Receiver {
    async fn send(&self, request: Request<Streaming<Piece>>) -> Result<Response<Receipt>, Status> {
        let caller = request.extensions().get::<ConnectInfo>().cloned();
        let caller = caller.ok_or_else(|| Status::invalid_argument("who is calling?"))?;
        let _place = self.places.try_acquire().map_err(|_| {
            Status::resource_exhausted(format!("{LOADS_MAX} loads are being received; try again later"))
        })?;
        let Report { bytes, sha256, .. } = {
            let report = receive(request.into_inner()).await?;
            self.reporter.report(report.done(caller.peer(), caller.path()));
            report
        };
        Ok(Response::new(Receipt { bytes, sha256: Bytes::copy_from_slice(&sha256) }))
    }
}

async fn receive(mut pieces: Streaming<Piece>) -> Result<Report, Status> {
    let mut count: Option<Count> = None;
    loop {
        let piece = tokio::time::timeout(SILENCE_DEADLINE, pieces.message()).await;
        let silent = |_| Status::deadline_exceeded("nothing came for two minutes");
        let Some(piece) = piece.map_err(silent)?? else { break };
        count.get_or_insert_with(|| Count::new(Instant::now())).add(&piece.bytes);
    }
    match count.filter(|count| count.bytes >= LOAD_BYTES_MIN) {
        Some(count) => Ok(count.report(Instant::now())),
        None => Err(Status::invalid_argument("a load is at least one mebibyte")),
    }
}
