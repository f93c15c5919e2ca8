//! A leg's I/O: bytes in, frames out of one substream.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::{Buf as _, Bytes};
use futures::io::{AsyncRead, AsyncWrite};

use super::{gate::Gate, read::READS_MAX};
use crate::{
    frame::{Decoder, data_head},
    machine::{LegEnd, LegId, Transmit},
    route::Route,
};

/// Encoded frames that wait for the substream: four of Yamux's frames, so that it is never idle while
/// there is more, and acknowledgements never wait behind much payload.
const OUT_BYTES_MAX: usize = 64 << 10;

/// What Yamux puts into one frame, and then into one packet. While there is more, only whole ones are
/// written: a header's worth at the end of every 64 KiB would cost a fifth packet.
const BLOCK_BYTES: usize = 16 << 10;

/// How often at most it is noted for the other streams of a route that something was heard.
const PULSE: Duration = Duration::from_millis(1);

/// One read of what nobody hears any more.
const UNHEARD_BYTES: usize = 4 << 10;

/// For a leg that was left to take its last frames. What it does not take by then, another leg has.
const FLUSH_DEADLINE: Duration = Duration::from_secs(5);

/// What a leg is made of: a substream, a socket, or any other pipe.
pub trait Pipe: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Pipe for T {}

pub(super) struct LegIo<R> {
    pub(super) id: LegId,
    pub(super) route: R,
    pub(super) decoder: Decoder,
    io: Box<dyn Pipe>,
    incoming: Gate,
    outgoing: Gate,
    /// Encoded frames, from `written` on still to be written.
    out: Vec<u8>,
    written: usize,
    /// A frame that is written from where it is kept, after `out`.
    image: Bytes,
    unflushed: bool,
    /// Until then, it was said on the connection that something was heard.
    beaten: Option<Instant>,
    /// Left in order: write what is left, close, forget.
    leaving: Option<Instant>,
}

impl<R: Route> LegIo<R> {
    pub(super) fn new(id: LegId, route: R, io: Box<dyn Pipe>) -> Self {
        let (decoder, out, image) = (Decoder::new(), Vec::new(), Bytes::new());
        let (incoming, outgoing) = (Gate::new(), Gate::new());
        Self {
            id,
            route,
            decoder,
            io,
            incoming,
            outgoing,
            out,
            written: 0,
            image,
            unflushed: false,
            beaten: None,
            leaving: None,
        }
    }

    pub(super) fn leave(&mut self, end: LegEnd, now: Instant) -> bool {
        if end == LegEnd::Flush && self.leaving.is_none() {
            self.leaving = Some(now + FLUSH_DEADLINE);
        }
        end == LegEnd::Abort
    }

    /// Something was heard.
    pub(super) fn beat(&mut self, now: Instant) {
        if self.beaten.is_none_or(|until| until <= now) {
            self.route.pulse().used(now);
            self.beaten = Some(now + PULSE);
        }
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.leaving.is_some()
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.leaving
    }

    pub(super) fn takes_more(&self) -> bool {
        self.image.is_empty() && self.unwritten() < OUT_BYTES_MAX && self.leaving.is_none()
    }

    /// Whether something waits for the substream to take it.
    pub(super) fn has_to_write(&self) -> bool {
        self.unwritten() > 0 || !self.image.is_empty() || self.unflushed || self.is_leaving()
    }

    /// Takes a frame; nothing more until an image of it is written.
    pub(super) fn put(&mut self, transmit: Transmit<'_>) {
        match transmit {
            Transmit::Frame(frame) => frame.encode(&mut self.out),
            Transmit::Data { image: Some(image), .. } => self.image = image,
            Transmit::Data { offset, payload, image: None } => self.put_data(offset, payload),
        }
    }

    /// Writes a DATA frame, to a leg that has nothing else to write. What the substream does not take at once
    /// is left to [`LegIo::poll_write`].
    pub(super) fn send_data(
        &mut self,
        offset: u64,
        payload: &[u8],
        cx: &mut Context<'_>,
    ) -> io::Result<()> {
        self.put_data(offset, payload);
        let (io, out) = (Pin::new(&mut self.io), &self.out[..]);
        if let Poll::Ready(written) = self.outgoing.poll(cx, |cx| io.poll_write(cx, out)) {
            self.wrote(written?);
            if self.unwritten() == 0 {
                self.unflushed = Pin::new(&mut self.io).poll_flush(cx)?.is_pending();
            }
        }
        Ok(())
    }

    /// Takes a DATA frame.
    fn put_data(&mut self, offset: u64, payload: &[u8]) {
        self.out.extend_from_slice(&data_head(offset, payload.len()));
        self.out.extend_from_slice(payload);
    }

    /// Gives back memory that an idle leg has no use for.
    pub(super) fn release(&mut self) {
        if self.unwritten() == 0 {
            (self.out, self.written) = (Vec::new(), 0);
        }
    }

    /// Reads. `returns`: the caller polls again only when woken, so the pipe may wake it directly instead of
    /// through the gate.
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut [u8],
        returns: bool,
    ) -> Poll<io::Result<usize>> {
        let most = self.decoder.stretch().map_or(out.len(), |most| most.min(out.len()));
        let (io, out) = (Pin::new(&mut self.io), &mut out[..most]);
        if returns {
            self.incoming.pass(|| io.poll_read(cx, out))
        } else {
            self.incoming.poll(cx, |cx| io.poll_read(cx, out))
        }
    }

    /// Writes what waits; if there is `more`, whole blocks of it. True if something was written.
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>, more: bool) -> io::Result<bool> {
        let mut progress = false;
        loop {
            let encoded = &self.out[self.written..];
            let hold_back = if more && self.image.is_empty() { encoded.len() % BLOCK_BYTES } else { 0 };
            let bytes = match encoded {
                [] => &self.image[..],
                encoded => &encoded[..encoded.len() - hold_back],
            };
            if bytes.is_empty() {
                break;
            }
            let io = Pin::new(&mut self.io);
            match self.outgoing.poll(cx, |cx| io.poll_write(cx, bytes)) {
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(written)) => self.wrote(written),
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => return Ok(progress),
            }
            progress = true;
            if !more && self.unwritten() == 0 && self.image.is_empty() {
                break;
            }
        }
        if self.unflushed && Pin::new(&mut self.io).poll_flush(cx)?.is_ready() {
            self.unflushed = false;
        }
        Ok(progress)
    }

    fn wrote(&mut self, bytes: usize) {
        self.unflushed = true;
        if self.unwritten() == 0 {
            self.image.advance(bytes);
            if self.image.is_empty() {
                // An empty `Bytes` would still hold the frame's memory, which the sender uses again.
                self.image = Bytes::new();
            }
            return;
        }
        self.written += bytes;
        if self.unwritten() == 0 {
            self.out.clear();
            self.written = 0;
        } else if self.written >= OUT_BYTES_MAX {
            self.out.drain(..self.written);
            self.written = 0;
        }
    }

    fn unwritten(&self) -> usize {
        self.out.len() - self.written
    }

    /// Whether a leg that was left has nothing more to do. That a pipe took the last frames does not mean that they
    /// leave before the connection under it is closed; that the other end has closed its direction shows that they
    /// have come. What it still says there is not heard, and the deadline holds for it too.
    pub(super) fn poll_left(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        let Some(deadline) = self.leaving else { return false };
        if deadline <= now || self.poll_write(cx, false).is_err() {
            return true;
        }
        let all = self.unwritten() == 0 && self.image.is_empty();
        if !all || Pin::new(&mut self.io).poll_close(cx).is_pending() {
            return false;
        }
        let mut unheard = [0; UNHEARD_BYTES];
        for _ in 0..READS_MAX {
            match Pin::new(&mut self.io).poll_read(cx, &mut unheard) {
                Poll::Pending => return false,
                Poll::Ready(Ok(1..)) => {}
                Poll::Ready(Ok(0) | Err(_)) => return true,
            }
        }
        cx.waker().wake_by_ref();
        false
    }
}
