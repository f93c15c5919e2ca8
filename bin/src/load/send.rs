//! The end that sends a load.

use std::{
    pin::Pin,
    time::{Duration, Instant},
};

use bytes::Bytes;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status, transport::Channel};

use super::{
    Count, Report,
    proto::{Piece, Receipt, load_client::LoadClient},
};

/// Bytes in one piece: small enough to hold back soon, large enough that framing costs nothing.
pub(super) const PIECE_BYTES: usize = 32 << 10;

/// Pieces that wait for HTTP/2: enough that it never waits for the next one.
const PIECES_WAITING_MAX: usize = 4;

/// From the last piece to the receipt: as long as Kaspa's nodes wait for an answer. On a slow path
/// several mebibytes are still under way.
const RECEIPT_DEADLINE: Duration = Duration::from_secs(120);

/// A load did not arrive.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    /// The call failed, or the peer takes no loads.
    #[error("the call for the load failed: {0}")]
    Call(#[from] Status),
    /// The receipt did not come in time.
    #[error("no receipt within {} s", RECEIPT_DEADLINE.as_secs())]
    NoReceipt,
    /// The receipt speaks of other bytes.
    #[error("{sent} bytes were sent, and the peer received {received}, or others")]
    Differs {
        /// What we sent.
        sent: u64,
        /// What the peer counted.
        received: u64,
    },
}

type Answer = Pin<Box<dyn Future<Output = Result<Response<Receipt>, Status>> + Send>>;

/// A load under way.
///
/// # Drop
/// Breaks it off; the peer reports nothing.
pub(crate) struct Sender {
    pieces: mpsc::Sender<Piece>,
    answer: Answer,
    source: StdRng,
    count: Count,
}

impl Sender {
    /// A load of bytes drawn from `seed`: the same seed makes the same bytes. They do not compress.
    pub(crate) fn begin(channel: Channel, seed: u64) -> Self {
        let (pieces, waiting) = mpsc::channel(PIECES_WAITING_MAX);
        let mut load = LoadClient::new(channel);
        let answer = async move { load.send(ReceiverStream::new(waiting)).await };
        let source = StdRng::seed_from_u64(seed);
        Self { pieces, answer: Box::pin(answer), source, count: Count::new(Instant::now()) }
    }

    /// Bytes so far, sent or on their way.
    pub(crate) fn bytes(&self) -> u64 {
        self.count.bytes
    }

    /// Sends [`PIECE_BYTES`] more. Returns when they are on their way, which a slow path delays.
    ///
    /// # Cancellation
    /// Nothing was sent or counted.
    pub(crate) async fn send_piece(&mut self) -> Result<(), LoadError> {
        let place = tokio::select! {
            biased;
            ended = &mut self.answer => return Err(ended.err().unwrap_or_else(too_early).into()),
            place = self.pieces.reserve() => place,
        };
        let Ok(place) = place else {
            // The call dropped the pieces: its answer says why.
            let ended = (&mut self.answer).await;
            return Err(ended.err().unwrap_or_else(too_early).into());
        };
        let mut piece = vec![0; PIECE_BYTES];
        self.source.fill_bytes(&mut piece);
        self.count.add(&piece);
        place.send(Piece { bytes: Bytes::from(piece) });
        Ok(())
    }

    /// Ends the load and waits until the peer has all of it.
    pub(crate) async fn finish(self) -> Result<Report, LoadError> {
        let Self { pieces, answer, count, .. } = self;
        drop(pieces);
        let answer = tokio::time::timeout(RECEIPT_DEADLINE, answer).await;
        let receipt = answer.map_err(|_| LoadError::NoReceipt)??.into_inner();
        let report = count.report(Instant::now());
        let same = receipt.bytes == report.bytes && receipt.sha256 == report.sha256[..];
        match same {
            true => Ok(report),
            false => Err(LoadError::Differs { sent: report.bytes, received: receipt.bytes }),
        }
    }
}

fn too_early() -> Status {
    Status::aborted("the peer sent a receipt before the end of the load")
}
