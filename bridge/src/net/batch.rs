//! What Yamux writes leaves in large pieces. Yamux flushes after each of its frames, and each flush would be a record of
//! its own and a call of the system; here a flush waits until Yamux has nothing more to write or read.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};

use futures::{AsyncRead, AsyncWrite};

use super::lent::{WRITE_BYTES, give_back_write, lend_write};

/// A flush waits no longer than until this much was read: under a flood of the peer, answers leave as well.
const READ_BYTES_MAX: usize = 128 << 10;

/// What Yamux reads from and writes to.
pub(super) struct Batched<C>(Arc<Mutex<Batch<C>>>);

/// The same, for whoever says when to flush.
pub(super) struct Flush<C>(Arc<Mutex<Batch<C>>>);

struct Batch<C> {
    io: C,
    /// What waits to be written, from `written` on; no memory of its own when nothing does. At most [`WRITE_BYTES`].
    waiting: Vec<u8>,
    written: usize,
    /// Yamux wanted a flush that did not take place yet.
    wanted: bool,
    /// Bytes read since.
    read: usize,
}

pub(super) fn batched<C: AsyncWrite>(io: C) -> (Batched<C>, Flush<C>) {
    let batch = Batch { io, waiting: Vec::new(), written: 0, wanted: false, read: 0 };
    let batch = Arc::new(Mutex::new(batch));
    (Batched(Arc::clone(&batch)), Flush(batch))
}

fn lock<C>(batch: &Mutex<Batch<C>>) -> MutexGuard<'_, Batch<C>> {
    batch.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<C: AsyncWrite + Unpin> Flush<C> {
    /// Sends what waits, if Yamux wanted that.
    pub(super) fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut batch = lock(&self.0);
        if batch.wanted { batch.poll_flush(cx) } else { Poll::Ready(Ok(())) }
    }
}

impl<C: AsyncWrite + Unpin> Batch<C> {
    /// Takes what there is room for.
    fn poll_take(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.waiting.len() >= WRITE_BYTES {
            ready!(self.poll_write_all(cx))?;
        }
        if self.waiting.capacity() == 0 {
            self.waiting = lend_write();
        }
        let count = bytes.len().min(WRITE_BYTES - self.waiting.len());
        self.waiting.extend_from_slice(&bytes[..count]);
        Poll::Ready(Ok(count))
    }

    fn poll_write_all(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.waiting.len() {
            match ready!(Pin::new(&mut self.io).poll_write(cx, &self.waiting[self.written..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => self.written += count,
            }
        }
        if self.waiting.capacity() > 0 {
            give_back_write(std::mem::take(&mut self.waiting));
        }
        self.written = 0;
        Poll::Ready(Ok(()))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_write_all(cx))?;
        ready!(Pin::new(&mut self.io).poll_flush(cx))?;
        self.wanted = false;
        self.read = 0;
        Poll::Ready(Ok(()))
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_write_all(cx))?;
        Pin::new(&mut self.io).poll_close(cx)
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin> AsyncRead for Batched<C> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut batch = lock(&self.0);
        let read = Pin::new(&mut batch.io).poll_read(cx, buf);
        if let Poll::Ready(Ok(count)) = read
            && batch.wanted
        {
            batch.read += count;
        }
        read
    }
}

impl<C: AsyncWrite + Unpin> AsyncWrite for Batched<C> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        lock(&self.0).poll_take(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut batch = lock(&self.0);
        batch.wanted = true;
        if batch.read < READ_BYTES_MAX {
            return Poll::Ready(Ok(()));
        }
        batch.poll_flush(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        lock(&self.0).poll_close(cx)
    }
}

#[cfg(test)]
mod tests;
