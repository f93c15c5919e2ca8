//! Streams that peers open to one of our services: taken as they come, or decided on one by one.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use libp2p::PeerId;
use tokio::sync::{mpsc, oneshot};

use crate::{engine::input::InboundId, error::Refusal, path::Path, service::Service, stream::Stream};

/// What waits in the queue of a service.
#[derive(Debug)]
pub(crate) enum Arrival {
    /// The peer was answered.
    Stream(Stream),
    /// The program decides.
    Request(Box<Request>),
}

/// The program's answer to a request.
#[derive(Debug)]
pub(crate) enum Decision {
    /// Take it; the stream goes there, if there still is one.
    Accept(oneshot::Sender<Stream>),
    Refuse(Refusal),
}

/// To the driver. Unbounded, yet each request in it counts as a stream of its peer, and is decided once.
pub(crate) type Decisions = mpsc::UnboundedSender<(InboundId, Decision)>;

/// The streams of one service, in the order they arrived. Those that nobody takes wait in a bounded
/// queue; what does not fit is refused with a reason and counted. Dropping it ends the service.
///
/// As a [`futures::Stream`] it yields what tonic's `serve_with_incoming` wants; it never yields an error.
#[derive(Debug)]
pub struct Incoming(mpsc::Receiver<Arrival>);

impl Incoming {
    pub(crate) fn new(arrivals: mpsc::Receiver<Arrival>) -> Self {
        Self(arrivals)
    }

    /// The next stream; none after the node has ended.
    ///
    /// # Cancellation
    /// Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Option<Stream> {
        std::future::poll_fn(|cx| self.poll_stream(cx)).await
    }

    fn poll_stream(&mut self, cx: &mut Context<'_>) -> Poll<Option<Stream>> {
        loop {
            match std::task::ready!(self.0.poll_recv(cx)) {
                Some(Arrival::Stream(stream)) => return Poll::Ready(Some(stream)),
                // Nobody puts it there; dropping it would refuse it.
                Some(Arrival::Request(_)) => {}
                None => return Poll::Ready(None),
            }
        }
    }
}

impl futures::Stream for Incoming {
    type Item = io::Result<Stream>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_stream(cx).map(|stream| stream.map(Ok))
    }
}

/// The streams that peers ask for at one service, each to be accepted or refused by the program. Bounded
/// as [`Incoming`] is. Dropping it ends the service.
#[derive(Debug)]
pub struct Requests(mpsc::Receiver<Arrival>);

impl Requests {
    pub(crate) fn new(arrivals: mpsc::Receiver<Arrival>) -> Self {
        Self(arrivals)
    }

    /// The next request; none after the node has ended.
    ///
    /// # Cancellation
    /// Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Option<Request> {
        loop {
            match self.0.recv().await? {
                Arrival::Request(request) => return Some(*request),
                // Nobody puts it there.
                Arrival::Stream(_) => {}
            }
        }
    }
}

/// A peer asks for a stream, and has not been answered. Dropping it refuses it as a service that
/// does not exist. The peer waits for the answer up to
/// [`Deadlines::negotiate`](crate::config::Deadlines::negotiate), 10 s by default; what it sends meanwhile
/// (at most 16 KiB) waits too.
#[derive(Debug)]
pub struct Request {
    pub(crate) inbound: InboundId,
    pub(crate) peer: PeerId,
    pub(crate) path: Path,
    pub(crate) service: Service,
    pub(crate) ticket: Bytes,
    pub(crate) decisions: Option<Decisions>,
}

impl Request {
    /// Who asks; authenticated by the connection.
    pub fn peer(&self) -> PeerId {
        self.peer
    }

    /// The path it came by.
    pub fn path(&self) -> Path {
        self.path
    }

    /// What it asks for.
    pub fn service(&self) -> &Service {
        &self.service
    }

    /// What it presented; empty if nothing. At most
    /// [`TICKET_BYTES_MAX`](crate::stream::frame::TICKET_BYTES_MAX) bytes of its choice.
    pub fn ticket(&self) -> &Bytes {
        &self.ticket
    }

    /// Answers the peer and takes the stream. A peer whose connection is gone is waited for as long as it waits
    /// for the answer. None if the peer, or this node, has gone meanwhile.
    ///
    /// # Cancellation
    /// Dropping the future lets go of the stream.
    pub async fn accept(mut self) -> Option<Stream> {
        let (reply, stream) = oneshot::channel();
        self.decide(Decision::Accept(reply));
        stream.await.ok()
    }

    /// Turns the peer away; it is told why.
    pub fn refuse(mut self, refusal: Refusal) {
        self.decide(Decision::Refuse(refusal));
    }

    fn decide(&mut self, decision: Decision) {
        if let Some(decisions) = self.decisions.take() {
            // Without a driver the node has ended, and nobody waits.
            let _ = decisions.send((self.inbound, decision));
        }
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        self.decide(Decision::Refuse(Refusal::NotServed));
    }
}
