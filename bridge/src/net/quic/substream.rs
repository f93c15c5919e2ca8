//! A substream of QUIC.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures::{AsyncRead, AsyncWrite};
use quinn_proto::{FinishError, ReadError, ReadableError, StreamId, VarInt, WriteError};

use super::{
    error::{IN_ORDER, StreamError},
    link::{Held, State},
};

/// Both directions of bytes. What is written leaves when it is flushed, or when there is no room for more. To drop it closes
/// the one that is written, and lets go of the one that is read.
pub(crate) struct Substream {
    held: Arc<Held>,
    id: StreamId,
    /// Something was written since it was flushed.
    unflushed: bool,
    /// All was read, or the peer ended it otherwise.
    read_ended: bool,
    closed: bool,
}

impl Substream {
    pub(super) fn new(held: Arc<Held>, id: StreamId) -> Self {
        Self { held, id, unflushed: false, read_ended: false, closed: false }
    }

    fn flush(&mut self) {
        if std::mem::take(&mut self.unflushed) {
            let link = self.held.link();
            link.run(link.lock());
        }
    }

    /// Writes all of it that there is room for: at least a byte, or why not.
    fn write(&mut self, cx: &mut Context<'_>, parts: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let held = Arc::clone(&self.held);
        let mut written = 0;
        // Where there is no room, what was written before has to leave before there is.
        for flushed in [false, true] {
            let mut state = held.link().lock();
            for part in parts.iter().filter(|part| !part.is_empty()) {
                match write(&mut state, self.id, part) {
                    Ok(count) => {
                        (written, self.unflushed) = (written + count, true);
                        if count < part.len() {
                            break;
                        }
                    }
                    Err(None) => break,
                    Err(Some(_)) if written > 0 => break,
                    Err(Some(error)) => return Poll::Ready(Err(error.into())),
                }
            }
            if written > 0 || parts.iter().all(|part| part.is_empty()) {
                return Poll::Ready(Ok(written));
            }
            if flushed || !self.unflushed {
                state.writers.insert(self.id, cx.waker().clone());
                return Poll::Pending;
            }
            drop(state);
            self.flush();
        }
        Poll::Pending
    }
}

/// Writes some of it. No error: there is no room now.
fn write(state: &mut State, id: StreamId, bytes: &[u8]) -> Result<usize, Option<StreamError>> {
    if let Some(lost) = &state.lost {
        return Err(Some(StreamError::Lost(lost.clone())));
    }
    state.inner.send_stream(id).write(bytes).map_err(|error| match error {
        WriteError::Blocked => None,
        WriteError::Stopped(code) => Some(StreamError::Stopped(code)),
        WriteError::ClosedStream => Some(StreamError::Closed),
    })
}

/// What a look for bytes found.
enum Read {
    Bytes(usize),
    End,
    Nothing,
    Reset(VarInt),
}

/// Reads what is there, as much as there is room for. The flag: the peer is to be told that it may send more.
fn read(state: &mut State, id: StreamId, buffer: &mut [u8]) -> (Read, bool) {
    let mut stream = state.inner.recv_stream(id);
    let mut chunks = match stream.read(true) {
        Ok(chunks) => chunks,
        Err(ReadableError::ClosedStream | ReadableError::IllegalOrderedRead) => {
            return (Read::End, false);
        }
    };
    let mut count = 0;
    let found = loop {
        match chunks.next(buffer.len() - count) {
            Ok(Some(chunk)) => {
                buffer[count..count + chunk.bytes.len()].copy_from_slice(&chunk.bytes);
                count += chunk.bytes.len();
                if count == buffer.len() {
                    break Read::Bytes(count);
                }
            }
            _ if count > 0 => break Read::Bytes(count),
            Ok(None) => break Read::End,
            Err(ReadError::Blocked) => break Read::Nothing,
            Err(ReadError::Reset(code)) => break Read::Reset(code),
        }
    };
    (found, chunks.finalize().should_transmit())
}

impl AsyncRead for Substream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        if self.read_ended || buffer.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let (held, id) = (Arc::clone(&self.held), self.id);
        let link = held.link();
        let mut state = link.lock();
        let (found, tells) = read(&mut state, id, buffer);
        let polled = match found {
            Read::Bytes(count) => Poll::Ready(Ok(count)),
            Read::End => {
                self.read_ended = true;
                Poll::Ready(Ok(0))
            }
            Read::Reset(code) => {
                self.read_ended = true;
                Poll::Ready(Err(StreamError::Reset(code).into()))
            }
            Read::Nothing => match &state.lost {
                Some(lost) => Poll::Ready(Err(StreamError::Lost(lost.clone()).into())),
                None => {
                    state.readers.insert(id, cx.waker().clone());
                    Poll::Pending
                }
            },
        };
        if tells {
            link.run(state);
        }
        polled
    }
}

impl AsyncWrite for Substream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.write(cx, &[io::IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.write(cx, parts)
    }

    /// Hands the system what the path takes now. The rest leaves by itself.
    fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.flush();
        Poll::Ready(Ok(()))
    }

    /// libp2p may ask twice.
    fn poll_close(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if std::mem::replace(&mut self.closed, true) {
            return Poll::Ready(Ok(()));
        }
        let held = Arc::clone(&self.held);
        let link = held.link();
        let mut state = link.lock();
        if let Some(lost) = &state.lost {
            return Poll::Ready(Err(StreamError::Lost(lost.clone()).into()));
        }
        let finished = state.inner.send_stream(self.id).finish();
        link.run(state);
        self.unflushed = false;
        Poll::Ready(match finished {
            // That the peer reads no more is no fault of who has nothing more to write.
            Ok(()) | Err(FinishError::Stopped(_)) => Ok(()),
            Err(FinishError::ClosedStream) => Err(StreamError::Closed.into()),
        })
    }
}

impl Drop for Substream {
    fn drop(&mut self) {
        let link = self.held.link();
        let mut state = link.lock();
        state.let_go(self.id);
        if state.lost.is_some() {
            return;
        }
        // Of one that is over there is nothing to say.
        if !self.closed {
            let _ = state.inner.send_stream(self.id).finish();
        }
        if !self.read_ended {
            let _ = state.inner.recv_stream(self.id).stop(IN_ORDER.into());
        }
        link.run(state);
    }
}

impl From<StreamError> for io::Error {
    fn from(error: StreamError) -> Self {
        let kind = match error {
            StreamError::Reset(_) | StreamError::Stopped(_) => io::ErrorKind::ConnectionReset,
            StreamError::Closed | StreamError::Lost(_) => io::ErrorKind::NotConnected,
        };
        Self::new(kind, error)
    }
}
