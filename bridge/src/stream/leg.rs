//! A leg's I/O: frames in and out of one substream.

use std::{
    cell::Cell,
    io,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::{Buf as _, BytesMut};
use futures::io::{AsyncRead, AsyncWrite};

use super::{
    facts::Carrying,
    frame::{Decoder, Frame, FrameError},
    machine::{LegEnd, LegId},
};

/// Encoded frames that wait for the substream: four of Yamux's frames, so that it is never idle while
/// there is more, and acknowledgements never wait behind much payload.
const OUT_BYTES_MAX: usize = 64 << 10;

/// A payload of this size is not alone: room for more of its kind is made at once.
const LARGE_BYTES: usize = 16 << 10;

/// What one read asks for: no more calls than a program makes that reads the substream itself.
const READ_BYTES: usize = 64 << 10;

thread_local! {
    /// Where substreams are read into: one for each thread instead of one for each leg, so that an idle
    /// leg holds nothing.
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// What Yamux puts into one frame, and then into one packet. While there is more, only whole ones are
/// written: a header's worth at the end of every 64 KiB would cost a fifth packet.
const BLOCK_BYTES: usize = 16 << 10;

/// For a leg that was left to take its last frames. What it does not take by then, another leg has.
const FLUSH_DEADLINE: Duration = Duration::from_secs(5);

/// A substream, or a stand-in for one.
pub(crate) trait Pipe: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Pipe for T {}

pub(super) struct Leg {
    pub(super) id: LegId,
    pub(super) on: Carrying,
    io: Box<dyn Pipe>,
    decoder: Decoder,
    out: BytesMut,
    unflushed: bool,
    /// Left in order: write what is left, close, forget.
    leaving: Option<Instant>,
}

/// What reading a leg gave.
pub(super) enum Read {
    Frame(Frame),
    /// Bytes, but not a whole frame.
    Bytes,
    Malformed(FrameError),
    Ended,
    Failed(io::ErrorKind),
    Nothing,
}

impl Leg {
    pub(super) fn new(id: LegId, on: Carrying, io: Box<dyn Pipe>, decoder: Decoder) -> Self {
        let out = BytesMut::new();
        Self { id, on, io, decoder, out, unflushed: false, leaving: None }
    }

    pub(super) fn leave(&mut self, end: LegEnd, now: Instant) -> bool {
        if end == LegEnd::Flush && self.leaving.is_none() {
            self.leaving = Some(now + FLUSH_DEADLINE);
        }
        end == LegEnd::Abort
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.leaving.is_some()
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.leaving
    }

    pub(super) fn takes_more(&self) -> bool {
        self.out.len() < OUT_BYTES_MAX && self.leaving.is_none()
    }

    pub(super) fn put(&mut self, frame: &Frame) {
        if let Frame::Data { payload, .. } = frame
            && self.out.capacity() < self.out.len() + payload.len()
        {
            let more = if payload.len() < LARGE_BYTES { 0 } else { OUT_BYTES_MAX };
            self.out.reserve(payload.len() + more);
        }
        frame.encode(&mut self.out);
    }

    /// The next thing that arrived.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>) -> Read {
        match self.decoder.decode() {
            Ok(Some(frame)) => return Read::Frame(frame),
            Ok(None) => {}
            Err(error) => return Read::Malformed(error),
        }
        let mut scratch = SCRATCH.take();
        scratch.resize(READ_BYTES, 0);
        let read = match Pin::new(&mut self.io).poll_read(cx, &mut scratch) {
            Poll::Ready(Ok(0)) => Read::Ended,
            Poll::Ready(Ok(read)) => {
                self.decoder.feed(&scratch[..read]);
                Read::Bytes
            }
            Poll::Ready(Err(error)) => Read::Failed(error.kind()),
            Poll::Pending => {
                self.decoder.park();
                if self.out.is_empty() {
                    self.out = BytesMut::new();
                }
                Read::Nothing
            }
        };
        SCRATCH.set(scratch);
        read
    }

    /// Writes what waits; if there is `more`, whole blocks of it. True if something was written.
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>, more: bool) -> io::Result<bool> {
        let mut progress = false;
        while self.out.len() >= BLOCK_BYTES || !(more || self.out.is_empty()) {
            let whole = if more { self.out.len() / BLOCK_BYTES * BLOCK_BYTES } else { self.out.len() };
            match Pin::new(&mut self.io).poll_write(cx, &self.out[..whole]) {
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(written)) => {
                    self.out.advance(written);
                    self.unflushed = true;
                    progress = true;
                }
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => return Ok(progress),
            }
        }
        if self.unflushed && Pin::new(&mut self.io).poll_flush(cx)?.is_ready() {
            self.unflushed = false;
        }
        Ok(progress)
    }

    /// Whether a leg that was left has nothing more to do.
    pub(super) fn poll_left(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        let Some(deadline) = self.leaving else { return false };
        if deadline <= now || self.poll_write(cx, false).is_err() {
            return true;
        }
        self.out.is_empty() && Pin::new(&mut self.io).poll_close(cx).is_ready()
    }
}
