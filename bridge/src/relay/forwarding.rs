//! Forwarding: bytes between the two substreams of one circuit, in a task of its own.
//!
//! Payload never passes through a connection's task or the swarm's. What one way holds while its receiver is
//! slow is one buffer; an idle circuit holds none.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
};

use futures::{AsyncRead, AsyncWrite};
use tokio::{sync::oneshot, time::Instant};

/// What is read at once. Four frames of Yamux: less costs more turns for each byte, more only memory.
const BUFFER_BYTES: usize = 64 * 1024;

/// Buffers that are kept for later: 4 MiB.
const IDLE_BUFFERS_MAX: usize = 64;

/// Buffers that are filled in a row before others get their turn, and the circuit's time is looked at.
const CHUNKS_IN_A_ROW: usize = 16;

/// Buffers that nobody uses at the moment.
#[derive(Clone, Debug, Default)]
pub(super) struct Buffers(Arc<Mutex<Vec<Box<[u8]>>>>);

impl Buffers {
    fn take(&self) -> Box<[u8]> {
        let pooled = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        pooled.unwrap_or_else(|| vec![0; BUFFER_BYTES].into())
    }

    fn give_back(&self, buffer: Box<[u8]>) {
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_BUFFERS_MAX {
            idle.push(buffer);
        }
    }
}

/// What a circuit may carry.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    /// Both directions added up. None: no limit.
    pub(super) bytes: Option<u64>,
    pub(super) until: Instant,
}

/// How a circuit ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    /// None if both ends had said everything.
    pub(super) cause: Option<String>,
    pub(super) bytes: u64,
}

/// Forwards until both directions have ended, a term is over, or it is `cut` with a cause. What is forwarded
/// is also added to `total`.
pub(super) async fn forward(
    source: impl AsyncRead + AsyncWrite + Unpin,
    destination: impl AsyncRead + AsyncWrite + Unpin,
    terms: Terms,
    buffers: Buffers,
    total: Arc<AtomicU64>,
    cut: oneshot::Receiver<&'static str>,
) -> Outcome {
    let mut circuit = Circuit {
        source,
        destination,
        there: Way::default(),
        back: Way::default(),
        meter: Meter { left: terms.bytes.unwrap_or(u64::MAX), forwarded: 0, total, buffers },
    };
    let cause = tokio::select! {
        biased;
        cause = cut => Some(cause.unwrap_or("the relay stops").to_owned()),
        () = tokio::time::sleep_until(terms.until) => Some("its time is over".to_owned()),
        ended = std::future::poll_fn(|cx| circuit.poll(cx)) => match ended {
            Ok(End::Finished) => None,
            Ok(End::UsedUp) => Some("its bytes are used up".to_owned()),
            Err(error) => Some(error.to_string()),
        },
    };
    Outcome { cause, bytes: circuit.meter.forwarded }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The sender said that nothing more comes, and the receiver was told.
    Finished,
    /// Nothing more may come, and everything before is on its way.
    UsedUp,
}

struct Circuit<S, D> {
    source: S,
    destination: D,
    there: Way,
    back: Way,
    meter: Meter,
}

impl<S, D> Circuit<S, D>
where
    S: AsyncRead + AsyncWrite + Unpin,
    D: AsyncRead + AsyncWrite + Unpin,
{
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<End>> {
        loop {
            let left = self.meter.left;
            let there = self.there.poll(&mut self.source, &mut self.destination, &mut self.meter, cx)?;
            let back = self.back.poll(&mut self.destination, &mut self.source, &mut self.meter, cx)?;
            // The way that was asked first does not know yet that the other one used up the rest.
            if self.meter.left == 0 && left > 0 {
                continue;
            }
            let ends = (ready!(there), ready!(back));
            let end = if ends == (End::Finished, End::Finished) { End::Finished } else { End::UsedUp };
            return Poll::Ready(Ok(end));
        }
    }
}

/// What is counted, and what it is counted against.
struct Meter {
    /// Bytes that may still be read.
    left: u64,
    forwarded: u64,
    total: Arc<AtomicU64>,
    buffers: Buffers,
}

/// Bytes on their way.
struct Chunk {
    buffer: Box<[u8]>,
    sent: usize,
    end: usize,
}

/// One direction.
#[derive(Default)]
struct Way {
    chunk: Option<Chunk>,
    unflushed: bool,
    /// The sender said that nothing more comes.
    finished: bool,
    end: Option<End>,
}

impl Way {
    fn poll(
        &mut self,
        from: &mut (impl AsyncRead + Unpin),
        to: &mut (impl AsyncWrite + Unpin),
        meter: &mut Meter,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<End>> {
        for _ in 0..CHUNKS_IN_A_ROW {
            if let Some(end) = self.end {
                return Poll::Ready(Ok(end));
            }
            ready!(self.poll_send(to, meter, cx))?;
            if self.finished {
                ready!(Pin::new(&mut *to).poll_close(cx))?;
                self.end = Some(End::Finished);
            } else if meter.left == 0 {
                ready!(Pin::new(&mut *to).poll_flush(cx))?;
                self.end = Some(End::UsedUp);
            } else if self.poll_receive(from, meter, cx)?.is_pending() {
                return self.poll_rest(to, cx);
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Sends what was received.
    fn poll_send(
        &mut self,
        to: &mut (impl AsyncWrite + Unpin),
        meter: &mut Meter,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while let Some(chunk) = &mut self.chunk {
            let rest = &chunk.buffer[chunk.sent..chunk.end];
            let sent = ready!(Pin::new(&mut *to).poll_write(cx, rest))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.unflushed = true;
            chunk.sent += sent;
            meter.forwarded += sent as u64;
            meter.total.fetch_add(sent as u64, Ordering::Relaxed);
            if chunk.sent == chunk.end
                && let Some(chunk) = self.chunk.take()
            {
                meter.buffers.give_back(chunk.buffer);
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Receives as much as a buffer holds and the circuit may carry.
    fn poll_receive(
        &mut self,
        from: &mut (impl AsyncRead + Unpin),
        meter: &mut Meter,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let mut buffer = meter.buffers.take();
        let most = usize::try_from(meter.left).unwrap_or(usize::MAX).min(buffer.len());
        match Pin::new(from).poll_read(cx, &mut buffer[..most]) {
            Poll::Ready(Ok(received)) if received > 0 => {
                meter.left -= received as u64;
                self.chunk = Some(Chunk { buffer, sent: 0, end: received });
                return Poll::Ready(Ok(()));
            }
            other => {
                meter.buffers.give_back(buffer);
                ready!(other)?;
                self.finished = true;
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Nothing comes at the moment: what was sent must not wait for more.
    fn poll_rest(
        &mut self,
        to: &mut (impl AsyncWrite + Unpin),
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<End>> {
        if self.unflushed {
            ready!(Pin::new(to).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio_util::compat::TokioAsyncReadCompatExt;

    use super::*;

    struct World {
        source: DuplexStream,
        destination: DuplexStream,
        total: Arc<AtomicU64>,
        buffers: Buffers,
        cut: oneshot::Sender<&'static str>,
        task: tokio::task::JoinHandle<Outcome>,
    }

    fn world(bytes: Option<u64>, time: Duration) -> World {
        let (source, near) = duplex(32 * 1024);
        let (destination, far) = duplex(32 * 1024);
        let (total, buffers) = (Arc::new(AtomicU64::new(0)), Buffers::default());
        let (cut, cutting) = oneshot::channel();
        let terms = Terms { bytes, until: Instant::now() + time };
        let pool = buffers.clone();
        let circuit = forward(near.compat(), far.compat(), terms, pool, total.clone(), cutting);
        World { source, destination, total, buffers, cut, task: tokio::spawn(circuit) }
    }

    const LONG: Duration = Duration::from_secs(3600);

    #[tokio::test(start_paused = true)]
    async fn bytes_go_both_ways_and_each_way_ends_for_itself() {
        let World { mut source, mut destination, total, buffers, cut: _cut, task } = world(None, LONG);
        let sent = vec![7; 300_000];
        let (_, received) = tokio::join!(
            async {
                source.write_all(&sent).await.unwrap();
                source.shutdown().await.unwrap();
            },
            async {
                let mut received = Vec::new();
                destination.read_to_end(&mut received).await.unwrap();
                received
            }
        );
        assert!(received == sent, "the half-close was passed on, and nothing was lost");
        destination.write_all(b"answer").await.unwrap();
        destination.shutdown().await.unwrap();
        let mut answer = Vec::new();
        source.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer, b"answer");
        assert_eq!(task.await.unwrap(), Outcome { cause: None, bytes: 300_006 });
        assert_eq!(total.load(Ordering::Relaxed), 300_006);
        assert!(!buffers.0.lock().unwrap().is_empty(), "buffers are used again");
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_circuit_holds_no_buffer() {
        let mut world = world(None, LONG);
        world.source.write_all(b"hello").await.unwrap();
        let mut hello = [0; 5];
        world.destination.read_exact(&mut hello).await.unwrap();
        tokio::task::yield_now().await;
        assert_eq!(world.buffers.0.lock().unwrap().len(), 1, "one was made, and it is back");
        assert!(!world.task.is_finished());
    }

    #[tokio::test(start_paused = true)]
    async fn exactly_so_many_bytes_are_forwarded_as_the_circuit_may_carry() {
        for limit in [1, 1000, 65_536, 100_000] {
            let World { mut source, mut destination, cut: _cut, task, .. } = world(Some(limit), LONG);
            let sending = tokio::spawn(async move {
                // More than allowed: the rest is never read.
                let _ = source.write_all(&[7; 200_000]).await;
                source
            });
            let mut received = Vec::new();
            destination.read_to_end(&mut received).await.unwrap();
            assert_eq!(received.len() as u64, limit);
            let cause = Some("its bytes are used up".to_owned());
            assert_eq!(task.await.unwrap(), Outcome { cause, bytes: limit });
            sending.await.unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn both_directions_count_together() {
        let World { mut source, mut destination, cut: _cut, task, .. } = world(Some(1000), LONG);
        let mut bytes = vec![0; 600];
        source.write_all(&[7; 600]).await.unwrap();
        destination.read_exact(&mut bytes).await.unwrap();
        destination.write_all(&[7; 600]).await.unwrap();
        let mut answer = Vec::new();
        source.read_to_end(&mut answer).await.unwrap();
        assert_eq!((answer.len(), task.await.unwrap().bytes), (400, 1000));
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_circuit_ends_when_its_time_is_over() {
        let world = world(None, Duration::from_secs(7));
        let started = Instant::now();
        let outcome = world.task.await.unwrap();
        assert_eq!(outcome.cause.as_deref(), Some("its time is over"));
        let took = started.elapsed();
        assert!(took >= Duration::from_secs(7) && took < Duration::from_millis(7_010), "{took:?}");
    }

    /// Always has bytes and always takes them.
    struct Busy;

    impl AsyncRead for Busy {
        fn poll_read(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            to: &mut [u8],
        ) -> Poll<io::Result<usize>> {
            Poll::Ready(Ok(to.len()))
        }
    }

    impl AsyncWrite for Busy {
        fn poll_write(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            from: &[u8],
        ) -> Poll<io::Result<usize>> {
            Poll::Ready(Ok(from.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn a_circuit_that_never_pauses_ends_when_its_time_is_over() {
        let (_cut, cutting) = oneshot::channel();
        let until = Instant::now() + Duration::from_millis(50);
        let terms = Terms { bytes: None, until };
        let outcome = forward(Busy, Busy, terms, Buffers::default(), Arc::default(), cutting).await;
        assert_eq!(outcome.cause.as_deref(), Some("its time is over"));
        assert!(until.elapsed() < Duration::from_secs(1), "{:?} late", until.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_circuit_can_be_cut() {
        let world = world(None, LONG);
        world.cut.send("a connection closed").unwrap();
        let outcome = world.task.await.unwrap();
        assert_eq!(outcome.cause.as_deref(), Some("a connection closed"));
    }
}
