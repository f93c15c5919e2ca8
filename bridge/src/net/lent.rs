//! Large buffers that are lent while bytes wait in them, so that much is moved with one call of the system and a quiet
//! connection has none.

use std::{
    cell::RefCell,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures::{AsyncRead, AsyncWrite};

/// What a buffer holds: four of the largest records of TLS 1.3, each with its head of 5 bytes and up to 256 bytes more than its data.
pub(super) const BUFFER_BYTES: usize = 4 * (5 + (16 << 10) + 256);

/// What one for datagrams holds at first.
const DATAGRAMS_BYTES: usize = 64 << 10;

/// Buffers of each kind that a thread keeps, for the connections that it moves in turns.
const KEPT: usize = 4;

thread_local! {
    static BUFFERS: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
    static DATAGRAMS: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

fn keep<T>(kept: &RefCell<Vec<T>>, buffer: T) {
    let mut kept = kept.borrow_mut();
    if kept.len() < KEPT {
        kept.push(buffer);
    }
}

/// A buffer of [`BUFFER_BYTES`], with whatever was in it before.
pub(super) fn lend() -> Box<[u8]> {
    BUFFERS.with_borrow_mut(Vec::pop).unwrap_or_else(|| vec![0; BUFFER_BYTES].into_boxed_slice())
}

/// Takes one back.
pub(super) fn give_back(buffer: Box<[u8]>) {
    BUFFERS.with(|kept| keep(kept, buffer));
}

/// An empty buffer for datagrams.
pub(super) fn lend_datagrams() -> Vec<u8> {
    DATAGRAMS.with_borrow_mut(Vec::pop).unwrap_or_else(|| Vec::with_capacity(DATAGRAMS_BYTES))
}

/// Takes one back.
pub(super) fn give_back_datagrams(mut buffer: Vec<u8>) {
    buffer.clear();
    DATAGRAMS.with(|kept| keep(kept, buffer));
}

/// Reads much at once from `C`, for whoever asks for little.
pub(crate) struct ReadAhead<C> {
    inner: C,
    /// What was read ahead.
    ahead: Option<Ahead>,
}

struct Ahead {
    buffer: Box<[u8]>,
    from: usize,
    to: usize,
}

impl<C> ReadAhead<C> {
    pub(super) fn new(inner: C) -> Self {
        Self { inner, ahead: None }
    }

    /// What it reads from, and what it read ahead.
    pub(super) fn into_parts(self) -> (C, Vec<u8>) {
        let ahead = self.ahead.map(|ahead| {
            let rest = ahead.buffer[ahead.from..ahead.to].to_vec();
            give_back(ahead.buffer);
            rest
        });
        (self.inner, ahead.unwrap_or_default())
    }

    #[cfg(test)]
    pub(super) fn holds_a_buffer(&self) -> bool {
        self.ahead.is_some()
    }
}

impl Ahead {
    /// What of it fits, and the rest, if there is any.
    fn take(mut self, out: &mut [u8]) -> (usize, Option<Self>) {
        let count = out.len().min(self.to - self.from);
        out[..count].copy_from_slice(&self.buffer[self.from..self.from + count]);
        self.from += count;
        if self.from < self.to {
            return (count, Some(self));
        }
        give_back(self.buffer);
        (count, None)
    }
}

impl<C: AsyncRead + Unpin> AsyncRead for ReadAhead<C> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        if let Some(ahead) = self.ahead.take() {
            let (count, rest) = ahead.take(out);
            self.ahead = rest;
            return Poll::Ready(Ok(count));
        }
        if out.len() >= BUFFER_BYTES {
            return Pin::new(&mut self.inner).poll_read(cx, out);
        }
        let mut buffer = lend();
        let read = Pin::new(&mut self.inner).poll_read(cx, &mut buffer);
        let to = if let Poll::Ready(Ok(count)) = read { count } else { 0 };
        let (count, rest) = Ahead { buffer, from: 0, to }.take(out);
        self.ahead = rest;
        ready!(read)?;
        Poll::Ready(Ok(count))
    }
}

impl<C: AsyncWrite + Unpin> AsyncWrite for ReadAhead<C> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, parts)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_close(cx)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use futures::{AsyncReadExt as _, AsyncWriteExt as _, poll};
    use tokio_util::compat::TokioAsyncReadCompatExt as _;

    use super::*;

    #[tokio::test]
    async fn a_buffer_is_held_only_while_bytes_wait_in_it() {
        let (near, far) = tokio::io::duplex(1 << 20);
        let (mut near, mut far) = (ReadAhead::new(near.compat()), far.compat());
        let mut few = [0; 10];
        assert!(poll!(near.read(&mut few)).is_pending());
        assert!(!near.holds_a_buffer());
        let sent: Vec<u8> = (0..=255).cycle().take(2 * BUFFER_BYTES + 7).collect();
        far.write_all(&sent).await.unwrap();
        assert_eq!(near.read(&mut few).await.unwrap(), few.len());
        assert!(near.holds_a_buffer());
        let mut rest = vec![0; sent.len() - few.len()];
        near.read_exact(&mut rest).await.unwrap();
        assert_eq!((&few[..], &rest[..]), sent.split_at(few.len()));
        assert!(!near.holds_a_buffer());
        drop(far);
        assert_eq!(near.read(&mut few).await.unwrap(), 0);
        assert!(!near.holds_a_buffer());
    }

    #[tokio::test]
    async fn what_was_read_ahead_goes_along_to_whoever_reads_on() {
        let (near, far) = tokio::io::duplex(1 << 10);
        let (mut near, mut far) = (ReadAhead::new(near.compat()), far.compat());
        far.write_all(b"first and rest").await.unwrap();
        near.read_exact(&mut [0; 5]).await.unwrap();
        assert_eq!(near.into_parts().1, b" and rest");
        assert_eq!(BUFFERS.with_borrow(Vec::len), 1);
    }

    #[test]
    fn a_thread_keeps_few_buffers() {
        let lent: Vec<_> = (0..KEPT + 3).map(|_| lend()).collect();
        lent.into_iter().for_each(give_back);
        assert_eq!(BUFFERS.with_borrow(Vec::len), KEPT);
    }
}
