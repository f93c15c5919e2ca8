//! One local connection, TCP or Unix. Unless it was ended in order, dropping it resets it.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream},
};

/// A local connection.
///
/// # Drop
/// Resets it (an end of file would pass for the end of the data), unless [`Socket::settle`] was called.
/// A Unix socket knows no reset: its other end sees an error if it sent what nobody read, else an end.
#[derive(Debug)]
pub(super) struct Socket {
    io: Io,
    settled: bool,
}

#[derive(Debug)]
enum Io {
    Tcp(TcpStream),
    Unix(UnixStream),
}

trait Duplex: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Duplex for T {}

impl Socket {
    /// Both directions have ended, and all that was read was passed on.
    pub(super) fn settle(&mut self) {
        self.settled = true;
    }

    /// An error that nobody has seen yet: a reset arrives even while nothing is read or written.
    pub(super) fn take_error(&self) -> Option<io::Error> {
        let taken = match &self.io {
            Io::Tcp(tcp) => tcp.take_error(),
            Io::Unix(unix) => unix.take_error(),
        };
        taken.unwrap_or_else(Some)
    }

    fn io(self: Pin<&mut Self>) -> Pin<&mut dyn Duplex> {
        match &mut self.get_mut().io {
            Io::Tcp(tcp) => Pin::new(tcp),
            Io::Unix(unix) => Pin::new(unix),
        }
    }
}

impl From<TcpStream> for Socket {
    fn from(tcp: TcpStream) -> Self {
        // Without it some bytes come later; that is no reason to refuse them.
        let _ = tcp.set_nodelay(true);
        Self { io: Io::Tcp(tcp), settled: false }
    }
}

impl From<UnixStream> for Socket {
    fn from(unix: UnixStream) -> Self {
        Self { io: Io::Unix(unix), settled: false }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if let (Io::Tcp(tcp), false) = (&self.io, self.settled) {
            // It fails only if the connection is gone already.
            let _ = tcp.set_zero_linger();
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.io().poll_read(cx, buf)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.io().poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io().poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io().poll_shutdown(cx)
    }
}
