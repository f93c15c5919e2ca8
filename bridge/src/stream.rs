//! The byte pipe to a peer that outlives its path.
//!
//! The crate `punchline-stream` makes streams and knows no peers, connections or paths. Here its streams
//! get them: a [`Stream`] is one whose legs are substreams, and [`StreamFacts`] says who is at the other end
//! and how it gets there.

mod facts;
mod meter;

use std::{
    fmt, io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use libp2p::PeerId;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::path::Path;

pub use self::facts::{MoveRecord, Route, StreamFacts};
pub(crate) use self::meter::{Meter, NearlySpent};
pub(crate) use punchline_stream::{Ask, FirstError, Pulse, first_frame};
pub use punchline_stream::{MOVES_REMEMBERED_MAX, StreamId, budget, frame, machine, over};

/// A stream's [`Handle`](punchline_stream::Handle), for whoever brings its legs.
pub(crate) type Handle = punchline_stream::Handle<Route>;

/// What a stream tells whoever brings its legs.
pub(crate) type Note = punchline_stream::Note<Route>;

/// The one protocol of ours.
pub(crate) const PROTOCOL: libp2p::StreamProtocol = libp2p::StreamProtocol::new(PROTOCOL_NAME);

/// Its name, for messages.
pub(crate) const PROTOCOL_NAME: &str = "/punchline/stream/1";

/// A stream among those of all peers: an id alone is only a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct StreamKey {
    pub(crate) peer: PeerId,
    pub(crate) stream: StreamId,
}

/// A reliable, ordered pipe of bytes to a peer's service, and back. It moves between connections by
/// itself; what runs over it notices nothing but a pause.
///
/// Both directions close separately, as with TCP. `shutdown` ends ours, and is done when the peer has
/// everything; end of file means the peer ended its, and everything of it was read.
///
/// # Errors
/// `ConnectionReset`: the peer ended it. `TimedOut`: no path came back within the patience.
/// `InvalidData`: the peer broke the protocol. The source is a [`machine::StreamError`].
///
/// # Drop
/// What was shut down is still delivered; if ours was not shut down, the stream is reset.
pub struct Stream {
    pipe: punchline_stream::Stream<Route>,
    facts: Arc<StreamFacts>,
}

impl Stream {
    /// The program's end of a stream; to be taken once.
    pub(crate) fn new(handle: &Handle, peer: PeerId) -> Self {
        Self { pipe: handle.stream(), facts: Arc::new(StreamFacts::new(peer, handle.facts().clone())) }
    }

    /// Who is at the other end and how it gets there.
    pub fn facts(&self) -> &Arc<StreamFacts> {
        &self.facts
    }

    /// The other end.
    pub fn peer(&self) -> PeerId {
        self.facts.peer
    }

    /// Ends it at once in both directions; the peer is told the code. Works while the halves of the
    /// stream are in use elsewhere: their reads and writes fail.
    pub fn reset(&self, code: frame::Code) {
        self.pipe.reset(code);
    }

    /// The path that carries it now.
    pub fn path(&self) -> Path {
        self.facts.path()
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("facts", self.facts()).finish_non_exhaustive()
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_read(cx, buf)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.pipe).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_shutdown(cx)
    }
}
