//! What the program does with its stream.

use std::{
    io,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use tokio::io::ReadBuf;

use super::{Inner, Shared, read::READS_MAX, wake::Waiter};
use crate::{frame::Code, machine::StreamError, route::Route};

/// A program that polled its stream is expected to poll it again within this time, or at most twice that.
/// Meanwhile what arrives waits for the program, so this is about as long as an acknowledgement may wait.
const ATTENDED: Duration = Duration::from_millis(15);

/// Whether the program polls its stream often enough to read and write the legs itself.
#[derive(Debug, Default)]
pub(super) struct Attendance {
    /// Until then the program is expected to; none: the background task does.
    pub(super) until: Option<Instant>,
    /// It has polled since `until` was set.
    came: bool,
}

/// What came of a read by the program.
enum Reading {
    Done(Result<(), StreamError>),
    Nothing,
    /// Much was read, none of it for the program, and others should get the lock.
    OthersTurn,
}

impl<R: Route> Shared<R> {
    pub(crate) fn poll_read(
        &self,
        task: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut inner = self.lock();
        inner.attend();
        let reading = inner.read_for(out, task);
        match &reading {
            Reading::Nothing => inner.reader.wait(task.waker()),
            Reading::Done(_) => inner.reader.done(),
            Reading::OthersTurn => task.waker().wake_by_ref(),
        }
        let waits = matches!(reading, Reading::Nothing);
        if inner.has_to_act(!waits) {
            let waker = if waits { task.waker() } else { &self.waker };
            inner.act(&mut Context::from_waker(waker), Instant::now());
        }
        match reading {
            Reading::Done(result) => Poll::Ready(result.map_err(io_error)),
            Reading::Nothing | Reading::OthersTurn => Poll::Pending,
        }
    }

    pub(crate) fn poll_write(&self, task: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut inner = self.lock();
        if inner.send_at_once(bytes, &mut self.context()) {
            inner.writer.done();
            return Poll::Ready(Ok(bytes.len()));
        }
        let mut written = inner.machine.write(bytes).map_err(io_error)?;
        if written == 0 && !bytes.is_empty() {
            // Acknowledgements make room.
            inner.attend_writer(task);
            written = inner.machine.write(bytes).map_err(io_error)?;
        }
        let waits = written == 0 && !bytes.is_empty();
        if !waits {
            inner.writer.done();
        }
        let returns = waits || inner.reader.is(task.waker());
        let waker = if returns { task.waker() } else { &self.waker };
        inner.act(&mut Context::from_waker(waker), Instant::now());
        if waits { Poll::Pending } else { Poll::Ready(Ok(written)) }
    }

    pub(crate) fn poll_shutdown(&self, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.lock();
        inner.machine.finish();
        inner.attend_writer(task);
        inner.act(task, Instant::now());
        match inner.machine.failure() {
            _ if inner.machine.is_delivered() => Poll::Ready(Ok(())),
            Some(error) => Poll::Ready(Err(io_error(error))),
            None => Poll::Pending,
        }
    }

    /// The program dropped its end. What it shut down is still delivered; else the stream is reset.
    pub(crate) fn let_go(&self) {
        let (mut inner, now) = (self.lock(), Instant::now());
        inner.unread = Some(0);
        if !inner.machine.is_finished_here() {
            inner.machine.reset(Code::Cancelled, now);
        }
        inner.act(&mut self.context(), now);
        (inner.reader, inner.writer) = (Waiter::default(), Waiter::default());
        inner.wake_background();
    }
}

impl<R: Route> Inner<R> {
    /// Reads into the program's memory: what the machine has buffered, else straight from a leg.
    fn read_for(&mut self, out: &mut ReadBuf<'_>, cx: &mut Context<'_>) -> Reading {
        let before = out.filled().len();
        for _ in 0..READS_MAX {
            if out.remaining() == 0 {
                return Reading::Done(Ok(()));
            }
            let kept = self.machine.buffered_bytes() > 0;
            if kept || !self.read_some(Some(out), cx) {
                if self.machine.starve() {
                    return Reading::Nothing;
                }
                let room = out.remaining().min(self.machine.buffered_bytes().max(1) as usize);
                match self.machine.read(out.initialize_unfilled_to(room)) {
                    Ok(Some(read)) => out.advance(read),
                    Ok(None) => return Reading::Nothing,
                    Err(error) => return Reading::Done(Err(error)),
                }
                return Reading::Done(Ok(()));
            }
            if out.filled().len() > before {
                return Reading::Done(Ok(()));
            }
        }
        Reading::OthersTurn
    }

    /// The program waits to write, or for an acknowledgement. Reads the legs for that, unless a reader does.
    fn attend_writer(&mut self, task: &mut Context<'_>) {
        self.writer.wait(task.waker());
        self.attend();
        if !self.reader.waits() && !self.read_all(task) {
            self.wake_background();
        }
    }

    /// Notes that the program polled its stream.
    fn attend(&mut self) {
        self.attendance.came = true;
        if self.attendance.until.is_none() {
            let until = Instant::now() + ATTENDED;
            self.attendance.until = Some(until);
            if self.armed.is_none_or(|armed| until < armed) {
                self.wake_background();
            }
        }
    }

    /// If the program did not poll in time, the background task takes over.
    pub(super) fn check_attendance(&mut self, now: Instant) {
        if self.attendance.until.is_none_or(|until| now < until) {
            return;
        }
        let came = std::mem::take(&mut self.attendance.came);
        self.attendance.until = came.then_some(now + ATTENDED);
    }
}

/// The only conversion into an I/O error.
fn io_error(error: StreamError) -> io::Error {
    let kind = match error {
        StreamError::Refused { .. } => io::ErrorKind::ConnectionRefused,
        StreamError::PeerReset { .. } => io::ErrorKind::ConnectionReset,
        StreamError::Reset { .. } => io::ErrorKind::ConnectionAborted,
        StreamError::Violation(_) => io::ErrorKind::InvalidData,
        StreamError::NoPath { .. } => io::ErrorKind::TimedOut,
        StreamError::Finished => io::ErrorKind::BrokenPipe,
    };
    io::Error::new(kind, error)
}
