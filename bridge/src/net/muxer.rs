//! Yamux, with what is unread counted and bounded.
//!
//! libp2p's own wrapper does not tell which substream is which, and so what is read of one could not be
//! counted. It also moves Yamux in the swarm's task of the connection, which looks at all that a node speaks each time;
//! here a task of its own does, and the swarm's runs when a substream begins or the connection ends. Whoever writes a small
//! message and flushes it moves Yamux at once, without the way over that task.

mod driver;
mod gate;

use std::{
    future::{Ready, ready},
    io,
    pin::Pin,
    sync::{Arc, Weak},
    task::{Context, Poll},
};

use futures::{AsyncRead, AsyncWrite};
use libp2p::core::{
    UpgradeInfo,
    muxing::{StreamMuxer, StreamMuxerEvent},
    upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade},
};

use tokio::task::AbortHandle;

use self::{
    driver::{Driven, Moves},
    gate::{Gate, Settles},
};
use super::{
    hangup::Bounded,
    unread::{Pool, Unread},
};

/// The body of a frame at most, so that with its header it fills four records of TLS.
const FRAME_BYTES: usize = (64 << 10) - 12;

/// Whoever wrote no more than this before a flush moves the connection itself. More is encrypted by the connection's task, while
/// the writer prepares what comes next.
const SMALL_BYTES: usize = 16 << 10;

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

/// One connection, as the swarm has it. When it is dropped, the connection is as well.
pub(super) struct Muxer<C: AsyncRead + AsyncWrite + Send + Unpin + 'static> {
    driven: Arc<Driven<C>>,
    task: AbortHandle,
}

/// A substream whose reads are counted.
pub(super) struct Substream {
    inner: yamux::Stream,
    /// Dropped after the stream, which says that it ends.
    gate: Settles,
    unread: Arc<Unread>,
    connection: Weak<dyn Moves>,
    /// Bytes that were written since the last flush.
    unflushed: usize,
}

impl<C: AsyncRead + AsyncWrite + Send + Unpin + 'static> Muxer<C> {
    /// Must be called within a tokio runtime.
    pub(super) fn new(io: C, pool: Arc<Pool>, mode: yamux::Mode) -> Self {
        let mut config = yamux::Config::default();
        config.set_split_send_size(FRAME_BYTES);
        let driven = Driven::new(io, pool, config, mode);
        let task = tokio::spawn(Arc::clone(&driven).drive()).abort_handle();
        Self { driven, task }
    }
}

#[cfg(test)]
impl<C: AsyncRead + AsyncWrite + Send + Unpin + 'static> Muxer<C> {
    pub(super) fn unread(&self) -> &Arc<Unread> {
        self.driven.unread()
    }
}

impl<C: AsyncRead + AsyncWrite + Send + Unpin + 'static> Drop for Muxer<C> {
    fn drop(&mut self) {
        self.driven.abandon();
        self.task.abort();
    }
}

/// The peer closed the connection in order.
#[derive(Debug, thiserror::Error)]
#[error("closed by the peer")]
pub(super) struct Parted;

/// What a substream meets whose connection ended first.
#[derive(Debug, thiserror::Error)]
#[error("the connection ended")]
struct Lost;

impl<C: AsyncRead + AsyncWrite + Send + Unpin + 'static> StreamMuxer for Muxer<C> {
    type Substream = Substream;
    type Error = io::Error;

    fn poll_inbound(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<Substream>> {
        self.driven.poll_inbound(cx)
    }

    fn poll_outbound(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<Substream>> {
        self.driven.poll_outbound(cx)
    }

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<StreamMuxerEvent>> {
        match self.driven.poll_end(cx) {
            Poll::Ready(error) => Poll::Ready(Err(error)),
            Poll::Pending => Poll::Pending,
        }
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.driven.poll_close(cx)
    }
}

impl Drop for Substream {
    fn drop(&mut self) {
        self.unread.end(self.inner.id().val());
    }
}

impl Substream {
    fn gate(&self) -> &Arc<Gate> {
        &self.gate.0
    }

    /// Writes, and has the task sleep on if it is little.
    fn written(
        &mut self,
        write: impl FnOnce(Pin<&mut yamux::Stream>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        let Self { inner, gate, .. } = self;
        let written = gate.0.aside(|| write(Pin::new(inner)));
        if let Poll::Ready(Ok(count)) = &written {
            self.unflushed += count;
        }
        if self.unflushed > SMALL_BYTES || !matches!(written, Poll::Ready(Ok(_))) {
            self.gate().settle();
        }
        written
    }

    fn counted(&self, read: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(count)) = &read {
            self.unread.read(self.inner.id().val(), *count);
        }
        // Reading makes room, of which Yamux tells the peer.
        self.gate().settle();
        // Yamux says the end of a substream also where the connection ended first. That would pass for a peer that does not speak
        // a protocol, where one is being negotiated.
        if matches!(read, Poll::Ready(Ok(0))) && !self.unread.has_ended(self.inner.id().val()) {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionAborted, Lost)));
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
        self.written(|inner| inner.poll_write(cx, buf))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.written(|inner| inner.poll_write_vectored(cx, bufs))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.unflushed = 0;
        if self.gate().forgive()
            && let Some(connection) = self.connection.upgrade()
        {
            connection.move_on();
        }
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let closed = Pin::new(&mut self.inner).poll_close(cx);
        self.gate().settle();
        closed
    }
}

#[cfg(test)]
mod tests;
