//! What Yamux writes leaves in large pieces. Yamux flushes after each of its frames, and each flush would be a record of
//! its own and a call of the system; here a flush waits until Yamux has nothing more to write or read. Until then what was
//! written waits in the buffers of TLS or Noise, which send what is too much for them.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};

use futures::{AsyncRead, AsyncWrite};

/// A flush waits no longer than until this much was read: under a flood of the peer, answers leave as well.
const READ_BYTES_MAX: usize = 128 << 10;

/// What Yamux reads from and writes to.
pub(super) struct Batched<C>(Arc<Mutex<Batch<C>>>);

/// The same, for whoever says when to flush.
pub(super) struct Flush<C>(Arc<Mutex<Batch<C>>>);

struct Batch<C> {
    io: C,
    /// Yamux wanted a flush that did not take place yet.
    wanted: bool,
    /// Bytes read since.
    read: usize,
}

pub(super) fn batched<C: AsyncWrite>(io: C) -> (Batched<C>, Flush<C>) {
    let batch = Batch { io, wanted: false, read: 0 };
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
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.io).poll_flush(cx))?;
        self.wanted = false;
        self.read = 0;
        Poll::Ready(Ok(()))
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
        Pin::new(&mut lock(&self.0).io).poll_write(cx, buf)
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
        Pin::new(&mut lock(&self.0).io).poll_close(cx)
    }
}

#[cfg(test)]
mod tests;
