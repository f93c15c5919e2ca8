//! The task that moves the Yamux of one connection, and what it shares with the swarm's and with whoever writes small messages.

use std::{
    collections::VecDeque,
    future::poll_fn,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError, Weak},
    task::{Context, Poll, Waker, ready},
};

use futures::{AsyncRead, AsyncWrite};

use super::{
    Parted, Substream,
    gate::{Gate, Settles},
};
use crate::net::{
    batch::{Batched, Flush, batched},
    unread::{Counted, Pool, Unread},
};

/// Substreams of the peer that nobody has taken yet. What is beyond is reset, as by libp2p's own wrapper.
const INBOUND_MAX: usize = 256;

/// Substreams that are taken from Yamux before others of the runtime have their turn.
const TURNS_MAX: usize = 16;

/// One connection.
pub(super) struct Driven<C: AsyncRead + AsyncWrite + Unpin> {
    /// For substreams.
    this: Weak<Self>,
    gate: Arc<Gate>,
    core: Mutex<Core<C>>,
    /// Never waited for while `core` is held by whoever has this.
    shared: Mutex<Shared>,
    unread: Arc<Unread>,
}

struct Core<C: AsyncRead + AsyncWrite + Unpin> {
    /// Until the swarm dropped the connection.
    connection: Option<yamux::Connection<Batched<Counted<C>>>>,
    flush: Flush<Counted<C>>,
    /// The swarm moves it from now on, towards its end.
    closing: bool,
    /// Of the gate, before the task: whoever moves the connection, that is woken for it.
    waker: Waker,
}

#[derive(Default)]
struct Shared {
    inbound: VecDeque<Substream>,
    /// The connection is over; why, until that was told.
    ended: Option<Option<io::Error>>,
    /// The swarm's task waits for one of the two.
    waits: Option<Waker>,
    /// It waits for `core`, to open a substream.
    wants_core: Option<Waker>,
}

/// An error of Yamux stays visible behind the I/O error.
fn to_io(error: yamux::ConnectionError) -> io::Error {
    match error {
        yamux::ConnectionError::Io(error) => error,
        error => io::Error::other(error),
    }
}

/// Nothing panics while it holds one of the locks, unless Yamux does.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// A connection, for its substreams.
pub(super) trait Moves: Send + Sync {
    /// Moves it there and then, so that what was written leaves; its task does if somebody else moves it at the moment.
    fn move_on(&self);
}

impl<C: AsyncRead + AsyncWrite + Send + Unpin + 'static> Moves for Driven<C> {
    fn move_on(&self) {
        for _ in 0..TURNS_MAX {
            let mut core = match self.core.try_lock() {
                Ok(core) => core,
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => break,
            };
            let next = if core.closing { return } else { core.poll_next() };
            drop(core);
            wake(lock(&self.shared).wants_core.take());
            match next {
                Poll::Pending => return,
                Poll::Ready(None) => break,
                Poll::Ready(Some(Ok(inner))) => self.begun(inner),
                Poll::Ready(Some(Err(error))) => {
                    self.end(error);
                    break;
                }
            }
        }
        self.gate.open();
    }
}

impl<C: AsyncRead + AsyncWrite + Send + Unpin + 'static> Driven<C> {
    pub(super) fn new(io: C, pool: Arc<Pool>, config: yamux::Config, mode: yamux::Mode) -> Arc<Self> {
        let unread = Unread::new(pool);
        let (io, flush) = batched(Counted::new(io, Arc::clone(&unread)));
        let connection = Some(yamux::Connection::new(io, config, mode));
        let gate = Arc::new(Gate::default());
        let waker = Waker::from(Arc::clone(&gate));
        let core = Mutex::new(Core { connection, flush, closing: false, waker });
        let shared = Mutex::default();
        Arc::new_cyclic(|this| Self { this: Weak::clone(this), gate, core, shared, unread })
    }

    /// The task. It ends with the connection.
    pub(super) async fn drive(self: Arc<Self>) {
        poll_fn(|cx| self.poll_drive(cx)).await;
    }

    #[cfg(test)]
    pub(super) fn unread(&self) -> &Arc<Unread> {
        &self.unread
    }

    /// Does something while this thread moves the connection.
    #[cfg(test)]
    pub(super) fn while_moved<T>(&self, does: impl FnOnce() -> T) -> T {
        let _moves = lock(&self.core);
        does()
    }

    fn poll_drive(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.gate.is_task(cx.waker());
        self.gate.forgive();
        for _ in 0..TURNS_MAX {
            let mut core = lock(&self.core);
            let next = if core.closing { Poll::Ready(None) } else { core.poll_next() };
            drop(core);
            wake(lock(&self.shared).wants_core.take());
            match ready!(next) {
                None => return Poll::Ready(()),
                Some(Ok(inner)) => self.begun(inner),
                Some(Err(error)) => {
                    self.end(error);
                    return Poll::Ready(());
                }
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn substream(&self, inner: yamux::Stream) -> Substream {
        let (unread, gate) = (Arc::clone(&self.unread), Settles(Arc::clone(&self.gate)));
        let connection: Weak<Self> = Weak::clone(&self.this);
        Substream { inner, gate, unread, connection, unflushed: 0 }
    }

    fn begun(&self, inner: yamux::Stream) {
        let substream = self.substream(inner);
        let mut shared = lock(&self.shared);
        if shared.inbound.len() < INBOUND_MAX {
            shared.inbound.push_back(substream);
            wake(shared.waits.take());
        } else {
            tracing::debug!("a substream was reset: {INBOUND_MAX} wait already");
        }
    }

    fn end(&self, error: yamux::ConnectionError) {
        let error = if self.unread.has_parted() { io::Error::other(Parted) } else { to_io(error) };
        let mut shared = lock(&self.shared);
        // The first says why.
        shared.ended.get_or_insert(Some(error));
        wake(shared.waits.take());
    }

    pub(super) fn poll_inbound(&self, cx: &Context<'_>) -> Poll<io::Result<Substream>> {
        let mut shared = lock(&self.shared);
        match shared.inbound.pop_front() {
            Some(substream) => Poll::Ready(Ok(substream)),
            None => shared.poll_end(cx).map(Err),
        }
    }

    /// Ready when the connection is over.
    pub(super) fn poll_end(&self, cx: &Context<'_>) -> Poll<io::Error> {
        lock(&self.shared).poll_end(cx)
    }

    pub(super) fn poll_outbound(&self, cx: &mut Context<'_>) -> Poll<io::Result<Substream>> {
        let mut core = ready!(self.poll_core(cx));
        let Some(connection) = &mut core.connection else {
            return Poll::Ready(Err(to_io(yamux::ConnectionError::Closed)));
        };
        let inner = ready!(connection.poll_new_outbound(cx)).map_err(to_io)?;
        drop(core);
        // Yamux listens to a substream only when it is moved on after that began.
        self.gate.open();
        self.unread.begin(inner.id().val());
        Poll::Ready(Ok(self.substream(inner)))
    }

    /// Ready when the connection's task does not move it at the moment: the swarm's does not block for that.
    fn poll_core(&self, cx: &Context<'_>) -> Poll<MutexGuard<'_, Core<C>>> {
        for waits in [false, true] {
            match self.core.try_lock() {
                Ok(core) => return Poll::Ready(core),
                Err(TryLockError::Poisoned(poisoned)) => return Poll::Ready(poisoned.into_inner()),
                // Looks again after that: the other task may have let go before it could see who waits.
                Err(TryLockError::WouldBlock) if !waits => {
                    lock(&self.shared).wants_core = Some(cx.waker().clone());
                }
                Err(TryLockError::WouldBlock) => {}
            }
        }
        Poll::Pending
    }

    pub(super) fn poll_close(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut core = lock(&self.core);
        core.closing = true;
        core.poll_close(cx)
    }

    /// Drops the connection at once, whatever its task does.
    pub(super) fn abandon(&self) {
        let mut core = lock(&self.core);
        core.closing = true;
        core.connection = None;
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin> Core<C> {
    /// The one call that moves Yamux on.
    fn poll_next(&mut self) -> Poll<Option<Result<yamux::Stream, yamux::ConnectionError>>> {
        let Some(connection) = &mut self.connection else { return Poll::Ready(None) };
        let cx = &mut Context::from_waker(&self.waker);
        let next = connection.poll_next_inbound(cx);
        if let Poll::Ready(Err(error)) = self.flush.poll_flush(cx)
            && next.is_pending()
        {
            return Poll::Ready(Some(Err(yamux::ConnectionError::Io(error))));
        }
        next.map(|next| Some(next.unwrap_or(Err(yamux::ConnectionError::Closed))))
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(connection) = &mut self.connection else { return Poll::Ready(Ok(())) };
        let closed = connection.poll_close(cx).map_err(to_io);
        match self.flush.poll_flush(cx) {
            Poll::Ready(Err(error)) if closed.is_pending() => Poll::Ready(Err(error)),
            _ => closed,
        }
    }
}

impl Shared {
    fn poll_end(&mut self, cx: &Context<'_>) -> Poll<io::Error> {
        match &mut self.ended {
            Some(error) => {
                let error = error.take().unwrap_or_else(|| to_io(yamux::ConnectionError::Closed));
                Poll::Ready(error)
            }
            None => {
                if !self.waits.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                    self.waits = Some(cx.waker().clone());
                }
                Poll::Pending
            }
        }
    }
}
