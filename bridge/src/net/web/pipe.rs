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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use async_tungstenite::accept_async;
    use futures::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::io::{DuplexStream, duplex};
    use tokio_util::compat::{Compat, TokioAsyncReadCompatExt as _};

    use super::{super::*, *};

    /// The pipe of whoever dialled, and the raw WebSocket at the other end.
    async fn pair() -> (Pipe, WebSocketStream<Compat<DuplexStream>>) {
        let (near, far) = duplex(8 << 10);
        let place = WebPlace::of(&"/ip4/192.0.2.1/tcp/80/ws".parse().unwrap()).unwrap();
        let opened = open::<io::Error>(near.compat(), &place, connector());
        let (near, far) = futures::join!(opened, accept_async(far.compat()));
        (near.unwrap(), far.unwrap())
    }

    #[tokio::test]
    async fn bytes_arrive_whole_however_they_were_cut_and_whatever_else_is_said() {
        let sent: Vec<u8> = (0..300_000_u32).map(|at| at as u8).collect();
        let (mut pipe, mut far) = pair().await;
        let there = sent.clone();
        let talks = async move {
            for (at, cut) in there.chunks(70_001).enumerate() {
                far.send(Message::Ping(Bytes::from_static(b"are you there"))).await.unwrap();
                far.send(Message::Binary(Bytes::copy_from_slice(cut))).await.unwrap();
                far.send(Message::Pong(Bytes::from(vec![at as u8; 3]))).await.unwrap();
                far.send(Message::Binary(Bytes::new())).await.unwrap();
            }
            far
        };
        let mut received = vec![0; sent.len()];
        let (far, read) = futures::join!(talks, pipe.read_exact(&mut received));
        read.unwrap();
        assert!(received == sent);
        drop(far);
        assert_eq!(pipe.read(&mut [0; 8]).await.unwrap(), 0, "the end of a process is an end");
    }

    #[tokio::test]
    async fn what_is_written_goes_in_small_binary_messages() {
        let (mut pipe, far) = pair().await;
        let writes = async {
            pipe.write_all(&[7; 100_000]).await.unwrap();
            pipe.flush().await.unwrap();
            pipe
        };
        let mut far = far;
        let reads = async {
            let mut total = 0;
            while total < 100_000 {
                let message = futures::StreamExt::next(&mut far).await.unwrap().unwrap();
                assert!(message.is_binary() && message.len() <= SENT_BYTES_MAX, "{}", message.len());
                total += message.len();
            }
        };
        futures::join!(writes, reads);
    }

    #[tokio::test]
    async fn a_message_that_is_too_large_and_a_text_end_the_pipe() {
        for message in [Message::binary(vec![0; MESSAGE_BYTES_MAX + 1]), Message::text("hello")] {
            let (mut pipe, mut far) = pair().await;
            let (_, read) = futures::join!(far.send(message), async {
                let read = pipe.read(&mut [0; 8]).await;
                drop(pipe);
                read
            });
            read.unwrap_err();
        }
    }
}
