//! The byte pipe to a peer that outlives its path.
//!
//! A [`Stream`] lives on one *leg* (a substream that carries it) at a time and moves between legs;
//! `design/wire.md` specifies what is said on them. [`frame`] is what the words look like, [`machine`]
//! who says them when, and [`budget`] what bounds the memory: these three do no I/O, read no clock and
//! draw no random number. `carrier` moves frames between a machine and its legs, `leg` is the I/O of
//! one leg, [`facts`](StreamFacts) what is known of a stream while it lives. [`over`] makes a stream of
//! any byte pipe.

pub mod budget;
pub(crate) mod carrier;
mod facts;
pub(crate) mod first;
pub mod frame;
mod id;
pub(crate) mod leg;
pub mod machine;
pub mod over;
pub(crate) mod pulse;

use std::{
    fmt, io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use libp2p::PeerId;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use self::carrier::Shared;
use crate::path::Path;

pub use self::{
    facts::{Carrying, MOVES_REMEMBERED_MAX, MoveRecord, StreamFacts},
    id::StreamId,
};

/// The one protocol of ours.
pub(crate) const PROTOCOL: libp2p::StreamProtocol = libp2p::StreamProtocol::new(PROTOCOL_NAME);

/// Its name, for messages.
pub(crate) const PROTOCOL_NAME: &str = "/punchline/stream/1";

/// A stream among those of all peers: an id alone is only a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
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
    shared: Arc<Shared>,
}

impl Stream {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Who is at the other end and how it gets there.
    pub fn facts(&self) -> &Arc<StreamFacts> {
        self.shared.facts()
    }

    /// The other end.
    pub fn peer(&self) -> PeerId {
        self.facts().peer
    }

    /// Ends it at once in both directions; the peer is told the code. Works while the halves of the
    /// stream are in use elsewhere: their reads and writes fail.
    pub fn reset(&self, code: frame::Code) {
        self.shared.reset(code);
    }

    /// The path that carries it now.
    pub fn path(&self) -> Path {
        self.facts().path()
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("facts", self.facts()).finish_non_exhaustive()
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.shared.poll_read(cx, buf)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.shared.poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Whatever was written is on its way, or waits for the substream or the peer's credit.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.shared.poll_shutdown(cx)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.shared.let_go();
    }
}
