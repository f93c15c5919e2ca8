//! A WebSocket as a pipe of bytes: what is written goes as binary messages, and how it was cut does not matter.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use async_tungstenite::{
    WebSocketStream,
    tungstenite::{Error, Message, error::ProtocolError},
};
use bytes::{Buf as _, Bytes};
use futures::{AsyncRead, AsyncWrite, Sink as _, Stream as _};

use super::AnyCarrier;

/// One message of ours at most: small, so that the other end has little to hold until it is whole.
const SENT_BYTES_MAX: usize = 16 << 10;

/// One end.
pub(crate) struct Pipe {
    socket: WebSocketStream<AnyCarrier>,
    /// What is left of the last message.
    rest: Bytes,
    /// The other end was told that this is the end.
    closed: bool,
}

impl Pipe {
    pub(super) fn new(socket: WebSocketStream<AnyCarrier>) -> Self {
        Self { socket, rest: Bytes::new(), closed: false }
    }

    fn socket(&mut self) -> Pin<&mut WebSocketStream<AnyCarrier>> {
        Pin::new(&mut self.socket)
    }
}

impl AsyncRead for Pipe {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        while self.rest.is_empty() {
            match ready!(self.socket().poll_next(cx)) {
                None => return Poll::Ready(Ok(0)),
                Some(Err(error)) if is_end(&error) => return Poll::Ready(Ok(0)),
                Some(Err(error)) => return Poll::Ready(Err(to_io(error))),
                Some(Ok(Message::Binary(bytes))) => self.rest = bytes,
                Some(Ok(Message::Text(_))) => {
                    let what = "a text where bytes are spoken";
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, what)));
                }
                // Pings are answered where they are read; the end follows a word of it.
                Some(Ok(
                    Message::Ping(_) | Message::Pong(_) | Message::Close(_) | Message::Frame(_),
                )) => {}
            }
        }
        let count = buffer.len().min(self.rest.len());
        self.rest.copy_to_slice(&mut buffer[..count]);
        Poll::Ready(Ok(count))
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.socket().poll_ready(cx)).map_err(to_io)?;
        let count = bytes.len().min(SENT_BYTES_MAX);
        let message = Message::Binary(Bytes::copy_from_slice(&bytes[..count]));
        self.socket().start_send(message).map_err(to_io)?;
        Poll::Ready(Ok(count))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket().poll_flush(cx).map_err(to_io)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.closed {
            ready!(self.socket().poll_close(cx)).map_err(to_io)?;
            self.closed = true;
        }
        Pin::new(self.socket.get_mut()).poll_close(cx)
    }
}

/// Whether the other end's system closed the connection, as it does for a process that died. Over TCP that is the end
/// too: what must not be cut short has its own last word.
fn is_end(error: &Error) -> bool {
    match error {
        Error::Io(error) => error.kind() == io::ErrorKind::UnexpectedEof,
        error => matches!(error, Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)),
    }
}

fn to_io(error: Error) -> io::Error {
    match error {
        Error::Io(error) => error,
        Error::ConnectionClosed | Error::AlreadyClosed => io::ErrorKind::BrokenPipe.into(),
        other => io::Error::other(other),
    }
}
