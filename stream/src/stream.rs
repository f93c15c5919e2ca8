//! What the program holds of a stream.

use std::{
    fmt, io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{facts::Facts, frame, pump::Shared, route::Route};

/// A reliable, ordered pipe of bytes to a peer's service, and back. It moves between legs by itself;
/// what runs over it notices nothing but a pause.
///
/// Both directions close separately, as with TCP. `shutdown` ends ours, and is done when the peer has
/// everything; end of file means the peer ended its, and everything of it was read.
///
/// # Errors
/// `ConnectionReset`: the peer ended it. `TimedOut`: no path came back within the patience.
/// `InvalidData`: the peer broke the protocol. The source is a
/// [`StreamError`](crate::machine::StreamError).
///
/// # Drop
/// What was shut down is still delivered; if ours was not shut down, the stream is reset.
pub struct Stream<R: Route> {
    shared: Arc<Shared<R>>,
}

impl<R: Route> Stream<R> {
    pub(crate) fn new(shared: Arc<Shared<R>>) -> Self {
        Self { shared }
    }

    /// What is known of it.
    pub fn facts(&self) -> &Arc<Facts<R>> {
        self.shared.facts()
    }

    /// Ends it at once in both directions; the peer is told the code. Works while the halves of the
    /// stream are in use elsewhere: their reads and writes fail.
    pub fn reset(&self, code: frame::Code) {
        self.shared.reset(code);
    }
}

impl<R: Route> fmt::Debug for Stream<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("facts", self.facts()).finish_non_exhaustive()
    }
}

impl<R: Route> AsyncRead for Stream<R> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.shared.poll_read(cx, buf)
    }
}

impl<R: Route> AsyncWrite for Stream<R> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.shared.poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Whatever was written is on its way, or waits for the leg or for the peer's credit.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.shared.poll_shutdown(cx)
    }
}

impl<R: Route> Drop for Stream<R> {
    fn drop(&mut self) {
        self.shared.let_go();
    }
}
