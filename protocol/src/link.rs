//! One call seen from either end: a stream of messages in, two lanes of messages out.
//!
//! Answers have a lane of their own, ahead of everything else: an answer never waits behind
//! bulk, and producing one never blocks the task that reads. A writer of bulk waits for room,
//! so HTTP/2's flow control reaches it.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures::Stream;
use thiserror::Error;
use tokio::{sync::mpsc, time};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::{Code, Status, Streaming};

use crate::wire::{KaspadMessage, Payload, ProtocolError};

/// Answers waiting to be written, in messages. A peer that asks more without reading is cut
/// off; upstream lets 131,328 messages pile up, we do not lend a peer that much memory.
pub const ANSWERS_MAX: usize = 256;

/// Other messages waiting to be written. Enough to keep HTTP/2 busy between two wake-ups of the
/// writer; more would only be memory, as the writer waits for room anyway.
pub const BULK_MAX: usize = 32;

/// How long a closing side waits for its last words to be read and for the peer to close: one
/// relayed round trip with room to spare. Without it the Reject may be cut off by the reset.
pub const CLOSE_LINGER: Duration = Duration::from_secs(1);

/// The call failed below the protocol.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{message} ({code:?})")]
pub struct TransportError {
    /// gRPC's code.
    pub code: Code,
    /// gRPC's text.
    pub message: String,
}

impl From<Status> for TransportError {
    fn from(status: Status) -> Self {
        Self { code: status.code(), message: status.message().to_owned() }
    }
}

/// Why nothing more will come in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LinkEnd {
    Closed,
    Transport(TransportError),
}

/// Both directions of one call.
#[derive(Debug)]
pub(crate) struct Link {
    incoming: Streaming<KaspadMessage>,
    lanes: Lanes,
}

impl Link {
    pub(crate) fn new(incoming: Streaming<KaspadMessage>, lanes: Lanes) -> Self {
        Self { incoming, lanes }
    }

    /// The next message. Cancel-safe.
    pub(crate) async fn receive(&mut self) -> Result<KaspadMessage, LinkEnd> {
        match self.incoming.message().await {
            Ok(Some(message)) => Ok(message),
            Ok(None) => Err(LinkEnd::Closed),
            // What a peer's reset of the call looks like: it went away without ending its side.
            Err(status) if status.code() == Code::Cancelled => Err(LinkEnd::Closed),
            Err(status) => Err(LinkEnd::Transport(status.into())),
        }
    }

    pub(crate) fn lanes(&self) -> &Lanes {
        &self.lanes
    }

    /// Ends our side after what is queued, and waits shortly for the peer to end its own.
    pub(crate) async fn linger(mut self) {
        self.lanes.closing.cancel();
        let drain = async { while self.receive().await.is_ok() {} };
        // Both outcomes are an end: the peer has closed, or had its time.
        let _ = time::timeout(CLOSE_LINGER, drain).await;
    }
}

/// The writing ends of the lanes.
#[derive(Debug, Clone)]
pub(crate) struct Lanes {
    answers: mpsc::Sender<KaspadMessage>,
    bulk: mpsc::Sender<KaspadMessage>,
    closing: CancellationToken,
}

impl Lanes {
    /// Queues an answer without waiting.
    pub(crate) fn answer(&self, payload: Payload) -> Result<(), ProtocolError> {
        match self.answers.try_send(KaspadMessage::new(payload)) {
            // With the call over there is nobody to answer; the reader will see the end.
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => Ok(()),
            Err(mpsc::error::TrySendError::Full(_)) => {
                Err(ProtocolError::OutgoingRouteFull { limit: ANSWERS_MAX })
            }
        }
    }

    /// Queues a message, waiting for room; `false` if the call is over.
    pub(crate) async fn send(&self, message: KaspadMessage) -> bool {
        self.bulk.send(message).await.is_ok()
    }
}

/// The reading end of the lanes: the stream that gRPC writes. Ends once it is told to close
/// and what was queued is written, or when every writer is gone.
#[derive(Debug)]
pub(crate) struct Outgoing {
    answers: mpsc::Receiver<KaspadMessage>,
    bulk: mpsc::Receiver<KaspadMessage>,
    closing: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
}

/// A fresh pair of lanes.
pub(crate) fn lanes() -> (Lanes, Outgoing) {
    let (answers, answers_out) = mpsc::channel(ANSWERS_MAX);
    let (bulk, bulk_out) = mpsc::channel(BULK_MAX);
    let closing = CancellationToken::new();
    let outgoing = Outgoing {
        answers: answers_out,
        bulk: bulk_out,
        closing: Some(Box::pin(closing.clone().cancelled_owned())),
    };
    let lanes = Lanes { answers, bulk, closing };
    (lanes, outgoing)
}

impl Stream for Outgoing {
    type Item = KaspadMessage;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<KaspadMessage>> {
        let this = &mut *self;
        let told = this.closing.as_mut().map(|closing| closing.as_mut().poll(cx));
        if told.is_some_and(|told| told.is_ready()) {
            this.closing = None;
            this.answers.close();
            this.bulk.close();
        }
        match this.answers.poll_recv(cx) {
            Poll::Ready(Some(message)) => Poll::Ready(Some(message)),
            Poll::Ready(None) => this.bulk.poll_recv(cx),
            Poll::Pending => match this.bulk.poll_recv(cx) {
                Poll::Ready(Some(message)) => Poll::Ready(Some(message)),
                Poll::Ready(None) | Poll::Pending => Poll::Pending,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use futures::{FutureExt, StreamExt};

    use super::*;
    use crate::wire::proto::{PingMessage, PongMessage};

    fn ping(nonce: u64) -> KaspadMessage {
        KaspadMessage::new(Payload::Ping(PingMessage { nonce }))
    }

    #[tokio::test]
    async fn an_answer_overtakes_bulk() {
        let (lanes, mut outgoing) = lanes();
        assert!(lanes.send(ping(1)).await);
        let pong = Payload::Pong(PongMessage { nonce: 2 });
        lanes.answer(pong.clone()).unwrap();
        assert_eq!(outgoing.next().await, Some(KaspadMessage::new(pong)));
        assert_eq!(outgoing.next().await, Some(ping(1)));
    }

    #[tokio::test]
    async fn one_answer_too_many_is_a_protocol_error() {
        let (lanes, _outgoing) = lanes();
        let answer = || lanes.answer(Payload::Pong(PongMessage { nonce: 0 }));
        for _ in 0..ANSWERS_MAX {
            answer().unwrap();
        }
        let full = ProtocolError::OutgoingRouteFull { limit: ANSWERS_MAX };
        assert_eq!(answer(), Err(full));
    }

    #[tokio::test]
    async fn a_writer_of_bulk_waits_when_the_lane_is_full() {
        let (lanes, mut outgoing) = lanes();
        for nonce in 0..BULK_MAX as u64 {
            assert!(lanes.send(ping(nonce)).await);
        }
        let one_more = lanes.send(ping(99));
        let mut one_more = std::pin::pin!(one_more);
        assert_eq!(one_more.as_mut().now_or_never(), None);
        outgoing.next().await;
        assert!(one_more.await);
    }

    #[tokio::test]
    async fn closing_writes_what_is_queued_and_then_ends() {
        let (lanes, mut outgoing) = lanes();
        assert!(lanes.send(ping(1)).await);
        lanes.closing.cancel();
        assert_eq!(outgoing.next().await, Some(ping(1)));
        assert_eq!(outgoing.next().await, None);
        assert!(!lanes.send(ping(2)).await);
    }
}
