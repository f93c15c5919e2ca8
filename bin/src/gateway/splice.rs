//! Two byte pipes, joined: what one end says, the other hears, ends and resets included.

use std::{
    future::poll_fn,
    io,
    ops::Range,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use punchline_bridge::Stream;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Interval, MissedTickBehavior, interval_at},
};

use super::socket::Socket;

/// Bytes that wait between the two, in each direction: as much as one frame of a stream holds. More
/// would only cost memory, since sockets and streams have buffers of their own.
const BUFFER_BYTES: usize = 64 << 10;

/// How often a joint is looked at while nothing flows: a broken end is noticed, and a revoked right
/// takes effect, within this.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// What can be joined.
pub(super) trait Pipe: AsyncRead + AsyncWrite + Unpin {
    /// How it broke, also if nobody reads or writes.
    fn broken(&mut self) -> Option<io::Error>;
}

impl Pipe for Socket {
    fn broken(&mut self) -> Option<io::Error> {
        self.take_error()
    }
}

impl Pipe for Stream {
    fn broken(&mut self) -> Option<io::Error> {
        // An empty write sends nothing and waits for nothing; after our own end it is a broken pipe.
        let mut cx = Context::from_waker(std::task::Waker::noop());
        match Pin::new(self).poll_write(&mut cx, &[]) {
            Poll::Ready(Err(error)) if error.kind() != io::ErrorKind::BrokenPipe => Some(error),
            _ => None,
        }
    }
}

/// How it ended.
#[derive(Debug)]
pub(super) enum End {
    /// In order, both ways; every byte was passed on.
    Finished,
    /// The near pipe broke.
    Near(io::Error),
    /// The far pipe broke.
    Far(io::Error),
    /// It may no longer be.
    Cut,
}

/// Joins the two until both directions have ended, one of the two breaks, or `stands` says no. An end
/// of one direction is passed on at once, and the other direction goes on. Resetting what is left is
/// the caller's business.
pub(super) async fn splice(
    near: &mut impl Pipe,
    far: &mut impl Pipe,
    mut stands: impl FnMut() -> bool,
) -> End {
    if !stands() {
        return End::Cut;
    }
    let (mut out, mut back) = (Flow::new(), Flow::new());
    let mut look = interval_at(Instant::now() + LOOK_INTERVAL, LOOK_INTERVAL);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    poll_fn(|cx| {
        if let Poll::Ready(end) = poll_look(&mut look, cx, near, far, &mut stands) {
            return Poll::Ready(end);
        }
        let out = match out.poll(cx, near, far) {
            Poll::Ready(Err(Broken::Source(error))) => return Poll::Ready(End::Near(error)),
            Poll::Ready(Err(Broken::Sink(error))) => return Poll::Ready(End::Far(error)),
            flow => flow.is_ready(),
        };
        let back = match back.poll(cx, far, near) {
            Poll::Ready(Err(Broken::Source(error))) => return Poll::Ready(End::Far(error)),
            Poll::Ready(Err(Broken::Sink(error))) => return Poll::Ready(End::Near(error)),
            flow => flow.is_ready(),
        };
        if out && back { Poll::Ready(End::Finished) } else { Poll::Pending }
    })
    .await
}

fn poll_look(
    look: &mut Interval,
    cx: &mut Context<'_>,
    near: &mut impl Pipe,
    far: &mut impl Pipe,
    stands: &mut impl FnMut() -> bool,
) -> Poll<End> {
    loop {
        ready!(look.poll_tick(cx));
        if let Some(error) = near.broken() {
            return Poll::Ready(End::Near(error));
        }
        if let Some(error) = far.broken() {
            return Poll::Ready(End::Far(error));
        }
        if !stands() {
            return Poll::Ready(End::Cut);
        }
    }
}

/// One direction.
struct Flow {
    buffer: Box<[u8]>,
    waiting: Range<usize>,
    stage: Stage,
}

enum Stage {
    Carrying,
    /// The source has ended, and the sink is being told.
    Ending,
    Ended,
}

/// Which end of a direction broke.
enum Broken {
    Source(io::Error),
    Sink(io::Error),
}

impl Flow {
    fn new() -> Self {
        Self { buffer: vec![0; BUFFER_BYTES].into(), waiting: 0..0, stage: Stage::Carrying }
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut impl Pipe,
        sink: &mut impl Pipe,
    ) -> Poll<Result<(), Broken>> {
        loop {
            match self.stage {
                Stage::Ended => return Poll::Ready(Ok(())),
                Stage::Ending => {
                    ready!(Pin::new(&mut *sink).poll_shutdown(cx)).map_err(Broken::Sink)?;
                    self.stage = Stage::Ended;
                }
                Stage::Carrying if self.waiting.is_empty() => {
                    let mut into = ReadBuf::new(&mut self.buffer);
                    ready!(Pin::new(&mut *source).poll_read(cx, &mut into)).map_err(Broken::Source)?;
                    self.waiting = 0..into.filled().len();
                    if self.waiting.is_empty() {
                        self.stage = Stage::Ending;
                    }
                }
                Stage::Carrying => {
                    let bytes = &self.buffer[self.waiting.clone()];
                    let written = ready!(Pin::new(&mut *sink).poll_write(cx, bytes));
                    match written.map_err(Broken::Sink)? {
                        0 => return Poll::Ready(Err(Broken::Sink(io::ErrorKind::WriteZero.into()))),
                        written => self.waiting.start += written,
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
