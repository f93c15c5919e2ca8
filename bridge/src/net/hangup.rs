//! Connections that close in bounded time.
//!
//! libp2p reports a connection as closed when everything that waits to be sent has left. On a dead path
//! that is never, and until then circuits are dialled and reservations made over the dead connection.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use libp2p::core::muxing::{StreamMuxer, StreamMuxerEvent};

/// For last words to leave: several round trips of a living path.
pub(super) const CLOSE_DEADLINE: Duration = Duration::from_millis(500);

/// A connection that is dropped when it has not closed in time.
pub(super) struct Bounded<M> {
    inner: M,
    deadline: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl<M> Bounded<M> {
    pub(super) fn new(inner: M) -> Self {
        Self { inner, deadline: None }
    }
}

impl<M: StreamMuxer<Error: Into<io::Error>> + Unpin> StreamMuxer for Bounded<M> {
    type Substream = M::Substream;
    /// In which the type of Yamux's own error can be found; in libp2p's it cannot.
    type Error = io::Error;

    fn poll_inbound(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Self::Substream, Self::Error>> {
        Pin::new(&mut self.inner).poll_inbound(cx).map_err(Into::into)
    }

    fn poll_outbound(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Self::Substream, Self::Error>> {
        Pin::new(&mut self.inner).poll_outbound(cx).map_err(Into::into)
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<StreamMuxerEvent, Self::Error>> {
        Pin::new(&mut self.inner).poll(cx).map_err(Into::into)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        if let Poll::Ready(closed) = Pin::new(&mut self.inner).poll_close(cx) {
            return Poll::Ready(closed.map_err(Into::into));
        }
        let deadline = self.deadline.get_or_insert_with(|| Box::pin(tokio::time::sleep(CLOSE_DEADLINE)));
        deadline.as_mut().poll(cx).map(Ok)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Sends nothing and never will.
    struct Stuck;

    impl StreamMuxer for Stuck {
        type Substream = futures::io::Cursor<Vec<u8>>;
        type Error = io::Error;

        fn poll_inbound(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<Self::Substream>> {
            Poll::Pending
        }

        fn poll_outbound(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<io::Result<Self::Substream>> {
            Poll::Pending
        }

        fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<StreamMuxerEvent>> {
            Poll::Pending
        }

        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_whose_last_words_cannot_leave_is_dropped_in_time() {
        let mut stuck = Bounded::new(Stuck);
        let began = tokio::time::Instant::now();
        std::future::poll_fn(|cx| Pin::new(&mut stuck).poll_close(cx)).await.unwrap();
        assert_eq!(began.elapsed().as_millis(), CLOSE_DEADLINE.as_millis());
    }
}
