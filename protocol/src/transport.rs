//! gRPC over any byte stream: the two adapters tonic needs, for callers that have none.

use std::{
    io,
    pin::Pin,
    sync::{Mutex, PoisonError},
    task::{Context, Poll},
};

use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::transport::{Channel, Endpoint, Uri, server::Connected};
use tower::service_fn;

use crate::identity::Remote;

/// A channel over one byte stream, used when the first call is made. When the stream ends the
/// channel is of no more use: a byte stream cannot be dialled again.
pub fn channel<T>(stream: T) -> Channel
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let stream = Mutex::new(Some(stream));
    let connector = service_fn(move |_: Uri| {
        let stream = stream.lock().unwrap_or_else(PoisonError::into_inner).take();
        let spent = || io::Error::new(io::ErrorKind::NotConnected, "the byte stream has ended");
        std::future::ready(stream.map(TokioIo::new).ok_or_else(spent))
    });
    // The name only fills the `:authority` header; nothing resolves it.
    Endpoint::from_static("http://kaspa.peer").connect_with_connector_lazy(connector)
}

/// An accepted byte stream and what is known about its far side, for
/// [`serve_with_incoming`](tonic::transport::server::Router::serve_with_incoming);
/// [`Remote::from_extensions`] finds it again.
#[derive(Debug)]
pub struct Accepted<T> {
    stream: T,
    remote: Remote,
}

impl<T> Accepted<T> {
    /// `stream`, whose far side is `remote`.
    pub fn new(stream: T, remote: Remote) -> Self {
        Self { stream, remote }
    }
}

impl<T> Connected for Accepted<T> {
    type ConnectInfo = Remote;

    fn connect_info(&self) -> Remote {
        self.remote.clone()
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Accepted<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Accepted<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
