//! Yamux, with what is unread counted and bounded.
//!
//! libp2p's own wrapper does not tell which substream is which, and so what is read of one could not be
//! counted.

use std::{
    collections::VecDeque,
    future::{Ready, ready},
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready as poll_ready},
};

use futures::{AsyncRead, AsyncWrite};
use libp2p::core::{
    UpgradeInfo,
    muxing::{StreamMuxer, StreamMuxerEvent},
    upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade},
};

use super::{
    batch::{Batched, Flush, batched},
    hangup::Bounded,
    unread::{Counted, Pool, Unread},
};

/// Substreams of the peer that nobody has taken yet. What is beyond is reset, as by libp2p's own wrapper.
const INBOUND_MAX: usize = 256;

/// The body of a frame at most, so that with its header it fills four records of TLS.
const FRAME_BYTES: usize = (64 << 10) - 12;

/// Makes connections that close in bounded time.
#[derive(Clone, Debug)]
pub(super) struct Config {
    pub(super) pool: Arc<Pool>,
}

impl UpgradeInfo for Config {
    type Info = &'static str;
    type InfoIter = std::iter::Once<Self::Info>;

    fn protocol_info(&self) -> Self::InfoIter {
        std::iter::once("/yamux/1.0.0")
    }
}

impl<C: AsyncRead + AsyncWrite + Send + Unpin + 'static> InboundConnectionUpgrade<C> for Config {
    type Output = Bounded<Muxer<C>>;
    type Error = io::Error;
    type Future = Ready<io::Result<Self::Output>>;

    fn upgrade_inbound(self, io: C, _: Self::Info) -> Self::Future {
        ready(Ok(Bounded::new(Muxer::new(io, self.pool, yamux::Mode::Server))))
    }
}

impl<C: AsyncRead + AsyncWrite + Send + Unpin + 'static> OutboundConnectionUpgrade<C> for Config {
    type Output = Bounded<Muxer<C>>;
    type Error = io::Error;
    type Future = Ready<io::Result<Self::Output>>;

    fn upgrade_outbound(self, io: C, _: Self::Info) -> Self::Future {
        ready(Ok(Bounded::new(Muxer::new(io, self.pool, yamux::Mode::Client))))
    }
}

/// One connection.
pub(super) struct Muxer<C> {
    connection: yamux::Connection<Batched<Counted<C>>>,
    flush: Flush<Counted<C>>,
    unread: Arc<Unread>,
    inbound: VecDeque<Substream>,
    wants_inbound: Option<Waker>,
}

/// A substream whose reads are counted.
pub(super) struct Substream {
    inner: yamux::Stream,
    unread: Arc<Unread>,
}

impl<C: AsyncRead + AsyncWrite + Unpin> Muxer<C> {
    pub(super) fn new(io: C, pool: Arc<Pool>, mode: yamux::Mode) -> Self {
        let unread = Unread::new(pool);
        let io = Counted::new(io, Arc::clone(&unread));
        let (io, flush) = batched(io);
        let mut config = yamux::Config::default();
        config.set_split_send_size(FRAME_BYTES);
        let connection = yamux::Connection::new(io, config, mode);
        Self { connection, flush, unread, inbound: VecDeque::new(), wants_inbound: None }
    }

    #[cfg(test)]
    pub(super) fn unread(&self) -> &Arc<Unread> {
        &self.unread
    }

    /// The one call that moves Yamux on.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Substream>> {
        let next = self.connection.poll_next_inbound(cx);
        if let Poll::Ready(Err(error)) = self.flush.poll_flush(cx)
            && next.is_pending()
        {
            return Poll::Ready(Err(error));
        }
        let next = poll_ready!(next);
        let next = next.unwrap_or(Err(yamux::ConnectionError::Closed));
        let inner = next.map_err(|error| match self.unread.has_parted() {
            true => io::Error::other(Parted),
            false => to_io(error),
        })?;
        Poll::Ready(Ok(Substream { inner, unread: Arc::clone(&self.unread) }))
    }
}

/// The peer closed the connection in order.
#[derive(Debug, thiserror::Error)]
#[error("closed by the peer")]
pub(super) struct Parted;

/// An error of Yamux stays visible behind the I/O error.
fn to_io(error: yamux::ConnectionError) -> io::Error {
    match error {
        yamux::ConnectionError::Io(error) => error,
        error => io::Error::other(error),
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin> StreamMuxer for Muxer<C> {
    type Substream = Substream;
    type Error = io::Error;

    fn poll_inbound(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<Substream>> {
        let this = self.get_mut();
        if let Some(substream) = this.inbound.pop_front() {
            return Poll::Ready(Ok(substream));
        }
        let next = this.poll_next(cx);
        if next.is_pending() {
            this.wants_inbound = Some(cx.waker().clone());
        }
        next
    }

    fn poll_outbound(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<Substream>> {
        let this = self.get_mut();
        let inner = poll_ready!(this.connection.poll_new_outbound(cx)).map_err(to_io)?;
        this.unread.begin(inner.id().val());
        Poll::Ready(Ok(Substream { inner, unread: Arc::clone(&this.unread) }))
    }

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<StreamMuxerEvent>> {
        let this = self.get_mut();
        let substream = poll_ready!(this.poll_next(cx))?;
        if this.inbound.len() < INBOUND_MAX {
            this.inbound.push_back(substream);
            if let Some(waker) = this.wants_inbound.take() {
                waker.wake();
            }
        } else {
            tracing::debug!("a substream was reset: {INBOUND_MAX} wait already");
        }
        // There may be more; others have their turn first.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let closed = this.connection.poll_close(cx).map_err(to_io);
        match this.flush.poll_flush(cx) {
            Poll::Ready(Err(error)) if closed.is_pending() => Poll::Ready(Err(error)),
            _ => closed,
        }
    }
}

impl Drop for Substream {
    fn drop(&mut self) {
        self.unread.end(self.inner.id().val());
    }
}

impl Substream {
    fn counted(&self, read: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(count)) = &read {
            self.unread.read(self.inner.id().val(), *count);
        }
        read
    }
}

impl AsyncRead for Substream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let read = Pin::new(&mut self.inner).poll_read(cx, buf);
        self.counted(read)
    }

    fn poll_read_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &mut [io::IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        let read = Pin::new(&mut self.inner).poll_read_vectored(cx, bufs);
        self.counted(read)
    }
}

impl AsyncWrite for Substream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_close(cx)
    }
}
