//! What peers have sent and nobody has read yet: counted, and bounded for the whole process.
//!
//! Yamux lets a peer fill the window of each substream, 256 KiB and more, of 512 substreams of every
//! connection; whoever does so with many identities takes all memory. Here each frame is counted before its
//! body is taken from the transport, until the substream is read or dropped. Each connection has [`FLOOR`]
//! for itself; what is beyond comes from a pool that all share, of which one connection has a part at most.
//! Where that is used up, the connection is not read until something of it is: a peer that is read, as streams
//! always are, goes on at the pace of its reader, and one that nobody reads answers no ping and is closed.

use std::{
    collections::BTreeMap,
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use futures::{AsyncRead, AsyncWrite};

/// Unread bytes of one connection that are not taken from the pool. 64 KiB: any frame of the usual muxers
/// fits, so that a connection which is read goes on when the pool is empty.
pub(crate) const FLOOR: u64 = 64 << 10;

/// What all connections may have beyond their floor. 128 MiB: eight streams that fill their largest window at
/// once, faster than their readers are scheduled.
pub(crate) const POOL_BYTES: u64 = 128 << 20;

/// One connection has at most this part of the pool.
const PARTS: u64 = 8;

/// A frame's body at most: a whole first window. The usual muxers send 16 or 64 KiB.
const FRAME_BYTES_MAX: u64 = 256 << 10;

/// What all connections of a process share.
#[derive(Debug)]
pub(crate) struct Pool {
    limit: u64,
    state: Mutex<PoolState>,
}

#[derive(Debug, Default)]
struct PoolState {
    used: u64,
    /// Connections that wait for room, in the order they came. Bounded by their number.
    waiting: BTreeMap<u64, Waker>,
    next_ticket: u64,
}

/// Unread bytes of one connection, by substream.
#[derive(Debug)]
pub(crate) struct Unread {
    pool: Arc<Pool>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    of: BTreeMap<u32, Of>,
    /// Of a frame for a substream that is gone, which Yamux drops as soon as it is whole.
    passing: u64,
    total: u64,
    from_pool: u64,
    /// The peer said that it closes the connection.
    parted: bool,
    ticket: Option<u64>,
    waker: Option<Waker>,
}

/// One substream.
#[derive(Debug, Default)]
struct Of {
    bytes: u64,
    /// The peer said that nothing more comes, or that it is gone.
    ended: bool,
}

impl Pool {
    pub(crate) fn new(limit: u64) -> Arc<Self> {
        Arc::new(Self { limit, state: Mutex::default() })
    }

    /// Bytes beyond the connections' own, of all of them.
    pub(crate) fn used(&self) -> u64 {
        self.lock().used
    }

    /// How many they may be.
    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }

    /// Nothing panics while it holds the lock.
    fn lock(&self) -> MutexGuard<'_, PoolState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes some, or remembers who waits for it.
    fn take(&self, bytes: u64, ticket: &mut Option<u64>, waker: &Waker) -> bool {
        let mut state = self.lock();
        let before = ticket.and_then(|ticket| state.waiting.remove(&ticket));
        if state.used + bytes <= self.limit {
            *ticket = None;
            state.used += bytes;
            state.wake_next();
            return true;
        }
        // Who was woken and finds too little goes to the end of the queue.
        if before.is_none() {
            state.next_ticket += 1;
            *ticket = Some(state.next_ticket);
        }
        if let Some(ticket) = *ticket {
            state.waiting.insert(ticket, waker.clone());
        }
        false
    }

    fn give_back(&self, bytes: u64) {
        let mut state = self.lock();
        state.used -= bytes;
        state.wake_next();
    }

    fn forget(&self, ticket: u64) {
        let mut state = self.lock();
        // It may have been woken, and somebody else can use what it does not.
        if state.waiting.remove(&ticket).is_none() {
            state.wake_next();
        }
    }
}

impl PoolState {
    /// One at a time, and each that finds room wakes the next.
    fn wake_next(&mut self) {
        if let Some((_, waker)) = self.waiting.pop_first() {
            waker.wake();
        }
    }
}

impl Unread {
    pub(crate) fn new(pool: Arc<Pool>) -> Arc<Self> {
        Arc::new(Self { pool, state: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the peer said that it closes the connection: it lives, then. The system of a process that is killed says
    /// nothing of the kind.
    pub(crate) fn has_parted(&self) -> bool {
        self.lock().parted
    }

    /// A substream begins.
    pub(crate) fn begin(&self, substream: u32) {
        self.lock().of.entry(substream).or_default();
    }

    /// The program, or whoever has the substream, took some of it.
    pub(crate) fn read(&self, substream: u32, bytes: usize) {
        let mut state = self.lock();
        let Some(of) = state.of.get_mut(&substream) else { return };
        let bytes = (bytes as u64).min(of.bytes);
        of.bytes -= bytes;
        self.release(&mut state, bytes);
    }

    /// Whether the peer said that this substream ends. The end of a connection is none.
    pub(crate) fn has_ended(&self, substream: u32) -> bool {
        self.lock().of.get(&substream).is_some_and(|of| of.ended)
    }

    /// The peer says that the substream ends.
    fn note_end(&self, substream: u32) {
        if let Some(of) = self.lock().of.get_mut(&substream) {
            of.ended = true;
        }
    }

    /// The substream is dropped, with what is in it.
    pub(crate) fn end(&self, substream: u32) {
        let mut state = self.lock();
        let bytes = state.of.remove(&substream).unwrap_or_default().bytes;
        self.release(&mut state, bytes);
    }

    /// A frame is about to come. Ready once there is room for it.
    fn poll_charge(&self, substream: u32, bytes: u64, cx: &Context<'_>) -> Poll<()> {
        let mut guard = self.lock();
        let state = &mut *guard;
        let beyond = (state.total + bytes).saturating_sub(FLOOR);
        let more = beyond.saturating_sub(state.from_pool);
        let within = beyond <= self.pool.limit / PARTS;
        if more > 0 && !(within && self.pool.take(more, &mut state.ticket, cx.waker())) {
            state.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        // Who needs nothing of the pool any more lets the next one have a look.
        if let Some(ticket) = state.ticket.take() {
            self.pool.forget(ticket);
        }
        state.from_pool += more;
        state.total += bytes;
        match state.of.get_mut(&substream) {
            Some(of) => of.bytes += bytes,
            None => state.passing = bytes,
        }
        Poll::Ready(())
    }

    /// The frame has come.
    fn passed(&self) {
        let mut state = self.lock();
        let bytes = std::mem::take(&mut state.passing);
        self.release(&mut state, bytes);
    }

    fn release(&self, state: &mut State, bytes: u64) {
        if bytes == 0 {
            return;
        }
        state.total -= bytes;
        let back = state.from_pool.saturating_sub(state.total.saturating_sub(FLOOR));
        if back > 0 {
            state.from_pool -= back;
            self.pool.give_back(back);
        }
        if let Some(waker) = state.waker.take() {
            waker.wake();
        }
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(ticket) = state.ticket {
            self.pool.forget(ticket);
        }
        if state.from_pool > 0 {
            self.pool.give_back(state.from_pool);
        }
    }
}

/// A transport under Yamux whose frames are counted.
pub(crate) struct Counted<C> {
    inner: C,
    unread: Arc<Unread>,
    at: At,
    /// Why writes fail.
    broken: Option<io::Error>,
}

/// Where in the stream of frames the reader is.
enum At {
    Header {
        bytes: [u8; HEADER_BYTES],
        have: usize,
    },
    /// Before a body, which is not counted yet.
    Body {
        substream: u32,
        bytes: u64,
    },
    Within {
        left: u64,
    },
}

const HEADER_BYTES: usize = 12;
const START: At = At::Header { bytes: [0; HEADER_BYTES], have: 0 };

/// The kind of a frame that has a body, of one that ends the connection, and the flag of one that begins a substream.
const DATA: u8 = 0;
const GO_AWAY: u8 = 3;
const SYN: u16 = 1;

/// Flags of one that ends it, in order or not.
const FIN: u16 = 4;
const RST: u16 = 8;

impl<C> Counted<C> {
    pub(crate) fn new(inner: C, unread: Arc<Unread>) -> Self {
        Self { inner, unread, at: START, broken: None }
    }

    /// A peer that closes a connection says so just before, and what it said can be read when writes fail already. So
    /// what is written after the peer's end goes nowhere, and what is read tells how the connection ended.
    fn outlived<T>(&mut self, written: Poll<io::Result<T>>, as_if: T) -> Poll<io::Result<T>> {
        match written {
            Poll::Ready(Err(error)) if is_end(&error) => {
                self.broken = Some(error);
                Poll::Ready(Ok(as_if))
            }
            written => written,
        }
    }

    /// What follows a header.
    fn after(&self, header: [u8; HEADER_BYTES]) -> io::Result<At> {
        let [_, kind, f0, f1, s0, s1, s2, s3, l0, l1, l2, l3] = header;
        let substream = u32::from_be_bytes([s0, s1, s2, s3]);
        let flags = u16::from_be_bytes([f0, f1]);
        if flags & SYN != 0 && substream != 0 {
            self.unread.begin(substream);
        }
        if flags & (FIN | RST) != 0 {
            self.unread.note_end(substream);
        }
        let bytes = u64::from(u32::from_be_bytes([l0, l1, l2, l3]));
        match kind {
            DATA if bytes > FRAME_BYTES_MAX => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("a frame of {bytes} bytes; {FRAME_BYTES_MAX} are the most"),
            )),
            DATA if bytes > 0 => Ok(At::Body { substream, bytes }),
            GO_AWAY => {
                self.unread.lock().parted = true;
                Ok(START)
            }
            _ => Ok(START),
        }
    }
}

fn is_end(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
}

impl<C: AsyncRead + Unpin> AsyncRead for Counted<C> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if let At::Body { substream, bytes } = this.at {
            std::task::ready!(this.unread.poll_charge(substream, bytes, cx));
            this.at = At::Within { left: bytes };
        }
        let most = match this.at {
            At::Header { have, .. } => HEADER_BYTES - have,
            At::Body { bytes: left, .. } | At::Within { left } => {
                usize::try_from(left).unwrap_or(usize::MAX)
            }
        };
        let most = most.min(buf.len());
        let count = std::task::ready!(Pin::new(&mut this.inner).poll_read(cx, &mut buf[..most]))?;
        if count == 0
            && let Some(error) = this.broken.take()
        {
            return Poll::Ready(Err(error));
        }
        match &mut this.at {
            At::Header { bytes, have } => {
                bytes[*have..*have + count].copy_from_slice(&buf[..count]);
                *have += count;
                if *have == HEADER_BYTES {
                    let header = *bytes;
                    this.at = this.after(header)?;
                }
            }
            At::Body { .. } => {}
            At::Within { left } => {
                *left -= count as u64;
                if *left == 0 {
                    this.at = START;
                    this.unread.passed();
                }
            }
        }
        Poll::Ready(Ok(count))
    }
}

impl<C: AsyncWrite + Unpin> AsyncWrite for Counted<C> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.outlived(written, buf.len())
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        self.outlived(written, bufs.iter().map(|buf| buf.len()).sum())
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.inner).poll_flush(cx);
        self.outlived(flushed, ())
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_close(cx)
    }
}

#[cfg(test)]
mod tests;
