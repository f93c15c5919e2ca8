//! The byte pipe to a peer that gRPC rides on.
//!
//! A [`Stream`] lives on one substream of one connection; [`hello`] opens it. It counts what it
//! carries, by path, and says so once when it ends.

pub(crate) mod hello;

use std::{
    fmt, io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use libp2p::{Multiaddr, PeerId};
use serde::{Serialize, Serializer};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::mpsc,
};
use tokio_util::compat::{Compat, FuturesAsyncReadCompatExt};

use crate::{
    event::StreamEnd,
    path::{ConnectionId, Direction, Path},
    service::Service,
};

/// A stream's id: 128 random bits chosen by its opener, the same at both ends.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId(u128);

impl StreamId {
    pub(crate) fn random() -> Self {
        Self(rand::random())
    }

    pub(crate) fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(u128::from_be_bytes(bytes))
    }

    pub(crate) fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for StreamId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What is known of a stream: who is at the other end, and how it gets there.
#[derive(Debug)]
pub struct StreamFacts {
    /// Its id, the same at both ends.
    pub stream: StreamId,
    /// The other end, authenticated by the connection's handshake.
    pub peer: PeerId,
    /// What it is for.
    pub service: Service,
    /// Who opened it.
    pub direction: Direction,
    /// The connection it rides on.
    pub connection: ConnectionId,
    /// The path of that connection.
    pub path: Path,
    /// The peer's address on that connection.
    pub address: Multiaddr,
    sent_bytes: AtomicU64,
    received_bytes: AtomicU64,
}

impl StreamFacts {
    pub(crate) fn new(
        hello: hello::Hello,
        direction: Direction,
        peer: PeerId,
        connection: ConnectionId,
        path: Path,
        address: Multiaddr,
    ) -> Self {
        Self {
            stream: hello.stream,
            peer,
            service: hello.service,
            direction,
            connection,
            path,
            address,
            sent_bytes: AtomicU64::new(0),
            received_bytes: AtomicU64::new(0),
        }
    }

    /// Bytes of payload handed to the connection so far.
    pub fn sent_bytes(&self) -> u64 {
        self.sent_bytes.load(Relaxed)
    }

    /// Bytes of payload read off the connection so far.
    pub fn received_bytes(&self) -> u64 {
        self.received_bytes.load(Relaxed)
    }
}

/// A stream has ended; said exactly once for each.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) facts: Arc<StreamFacts>,
    pub(crate) end: StreamEnd,
}

/// A reliable, ordered pipe of bytes to a peer's service, and back.
///
/// Both directions close separately, as with TCP: `shutdown` ends ours, end of file means the peer
/// ended its.
///
/// # Drop
/// Dropping it resets what was not finished.
pub struct Stream {
    io: Compat<libp2p::Stream>,
    facts: Arc<StreamFacts>,
    progress: Progress,
    // Unbounded, yet bounded by the number of streams: each sends one message in its life.
    ended: mpsc::UnboundedSender<Ended>,
}

#[derive(Default)]
struct Progress {
    sending_finished: bool,
    receiving_finished: bool,
    failed: bool,
}

impl Stream {
    pub(crate) fn new(
        io: libp2p::Stream,
        facts: StreamFacts,
        ended: mpsc::UnboundedSender<Ended>,
    ) -> Self {
        Self { io: io.compat(), facts: Arc::new(facts), progress: Progress::default(), ended }
    }

    /// Who is at the other end and how it gets there.
    pub fn facts(&self) -> &Arc<StreamFacts> {
        &self.facts
    }

    /// The other end.
    pub fn peer(&self) -> PeerId {
        self.facts.peer
    }

    /// The path it takes.
    pub fn path(&self) -> Path {
        self.facts.path
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("facts", &self.facts).finish_non_exhaustive()
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = std::task::ready!(Pin::new(&mut self.io).poll_read(cx, buf));
        let read = buf.filled().len() - before;
        self.facts.received_bytes.fetch_add(read as u64, Relaxed);
        match &result {
            Ok(()) if read == 0 && buf.remaining() > 0 => self.progress.receiving_finished = true,
            Ok(()) => {}
            Err(_) => self.progress.failed = true,
        }
        Poll::Ready(result)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = std::task::ready!(Pin::new(&mut self.io).poll_write(cx, buf));
        match &result {
            Ok(written) => {
                self.facts.sent_bytes.fetch_add(*written as u64, Relaxed);
            }
            Err(_) => self.progress.failed = true,
        }
        Poll::Ready(result)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = std::task::ready!(Pin::new(&mut self.io).poll_shutdown(cx));
        match &result {
            Ok(()) => self.progress.sending_finished = true,
            Err(_) => self.progress.failed = true,
        }
        Poll::Ready(result)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let end = match self.progress {
            Progress { failed: true, .. } => StreamEnd::PathLost,
            Progress { sending_finished: true, receiving_finished: true, .. } => StreamEnd::Finished,
            _ => StreamEnd::Dropped,
        };
        // Nobody listens once the node is shut down, and then nobody needs to.
        let _ = self.ended.send(Ended { facts: self.facts.clone(), end });
    }
}
