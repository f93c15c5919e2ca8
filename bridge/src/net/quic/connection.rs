//! A connection of QUIC and its substreams, as libp2p wants them.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures::{AsyncRead, AsyncWrite, FutureExt as _, future::BoxFuture};
use libp2p::core::muxing::{StreamMuxer, StreamMuxerEvent};
use quinn::{ConnectionError, RecvStream, SendStream};

use super::{Error, error::IN_ORDER};

type Opened = BoxFuture<'static, Result<(SendStream, RecvStream), ConnectionError>>;

/// Whoever drops it closes it in order.
pub(crate) struct Connection {
    inner: quinn::Connection,
    inbound: Option<Opened>,
    outbound: Option<Opened>,
    closed: Option<BoxFuture<'static, ConnectionError>>,
}

impl Connection {
    pub(super) fn new(inner: quinn::Connection) -> Self {
        Self { inner, inbound: None, outbound: None, closed: None }
    }
}

impl StreamMuxer for Connection {
    type Substream = Substream;
    type Error = Error;

    fn poll_inbound(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Substream, Error>> {
        let Self { inner, inbound, .. } = self.get_mut();
        let accept = || {
            let connection = inner.clone();
            async move { connection.accept_bi().await }.boxed()
        };
        poll_opened(inbound, accept, cx)
    }

    fn poll_outbound(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Substream, Error>> {
        let Self { inner, outbound, .. } = self.get_mut();
        let open = || {
            let connection = inner.clone();
            async move { connection.open_bi().await }.boxed()
        };
        poll_opened(outbound, open, cx)
    }

    /// Neither end changes its address.
    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<StreamMuxerEvent, Error>> {
        Poll::Pending
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let Self { inner, closed, .. } = self.get_mut();
        let closed = closed.get_or_insert_with(|| {
            inner.close(IN_ORDER.into(), &[]);
            let connection = inner.clone();
            async move { connection.closed().await }.boxed()
        });
        match ready!(closed.poll_unpin(cx)) {
            ConnectionError::LocallyClosed => Poll::Ready(Ok(())),
            error => Poll::Ready(Err(Error::Connection(error))),
        }
    }
}

/// Waits for a substream, of which one at a time is asked for.
fn poll_opened(
    asked: &mut Option<Opened>,
    ask: impl FnOnce() -> Opened,
    cx: &mut Context<'_>,
) -> Poll<Result<Substream, Error>> {
    let opened = ready!(asked.get_or_insert_with(ask).poll_unpin(cx));
    *asked = None;
    let (send, receive) = opened.map_err(Error::Connection)?;
    Poll::Ready(Ok(Substream { send, receive, closed: false }))
}

/// Both directions of bytes. To drop it closes the one that is written, and lets go of the one that is read.
pub(crate) struct Substream {
    send: SendStream,
    receive: RecvStream,
    closed: bool,
}

impl AsyncRead for Substream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        AsyncRead::poll_read(Pin::new(&mut self.receive), cx, buffer)
    }
}

impl AsyncWrite for Substream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        AsyncWrite::poll_write(Pin::new(&mut self.send), cx, bytes)
    }

    /// What was written leaves by itself.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// libp2p may ask twice.
    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.closed {
            return Poll::Ready(Ok(()));
        }
        let closed = ready!(AsyncWrite::poll_close(Pin::new(&mut self.send), cx));
        self.closed = true;
        Poll::Ready(closed)
    }
}
