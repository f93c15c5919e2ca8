//! What the program does with its stream.

use std::{
    io,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use tokio::io::ReadBuf;

use super::{Inner, Leg, Shared, drive::READS_MAX};
use crate::stream::{frame::Code, machine::StreamError};

/// How long a program that has come to its stream is trusted to come again, at least; at most twice
/// that. So long may wait for it what arrives: about as long as an acknowledgement may.
const ATTENDED: Duration = Duration::from_millis(15);

/// Whether the program sees to the legs of its stream.
#[derive(Debug, Default)]
pub(super) struct Attendance {
    /// Until then it is trusted to; none: the carrier does.
    pub(super) until: Option<Instant>,
    /// It has come since that was settled.
    came: bool,
    /// Its reader is whom the legs wake.
    reads: bool,
}

/// What reading for the program came to.
enum Reading {
    Done(Result<(), StreamError>),
    Nothing,
    /// Much was read and none of it was for the program.
    OthersTurn,
}

impl Shared {
    pub(in crate::stream) fn poll_read(
        &self,
        task: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let (mut inner, cx) = (self.lock(), &mut self.context());
        inner.attend();
        let (reading, touched) = inner.read_for(out, cx);
        inner.attendance.reads = matches!(reading, Reading::Nothing);
        match reading {
            Reading::Nothing => inner.nudge.attend(task.waker()),
            Reading::Done(_) => drop(inner.nudge.dismiss()),
            Reading::OthersTurn => task.waker().wake_by_ref(),
        }
        if touched || inner.legs.iter().any(Leg::has_to_write) {
            inner.act(cx, Instant::now());
        }
        match reading {
            Reading::Done(result) => Poll::Ready(result.map_err(io_error)),
            Reading::Nothing | Reading::OthersTurn => Poll::Pending,
        }
    }

    pub(in crate::stream) fn poll_write(
        &self,
        task: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let (mut inner, cx) = (self.lock(), &mut self.context());
        let mut written = inner.machine.write(bytes).map_err(io_error)?;
        if written == 0 && !bytes.is_empty() {
            // Acknowledgements make room.
            inner.attend_writer(task, cx);
            written = inner.machine.write(bytes).map_err(io_error)?;
        }
        inner.act(cx, Instant::now());
        if written == 0 && !bytes.is_empty() { Poll::Pending } else { Poll::Ready(Ok(written)) }
    }

    pub(in crate::stream) fn poll_shutdown(&self, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        let (mut inner, cx) = (self.lock(), &mut self.context());
        inner.machine.finish();
        inner.attend_writer(task, cx);
        inner.act(cx, Instant::now());
        match inner.machine.failure() {
            _ if inner.machine.is_delivered() => Poll::Ready(Ok(())),
            Some(error) => Poll::Ready(Err(io_error(error))),
            None => Poll::Pending,
        }
    }

    /// The program let go of its end: what it shut down is still delivered, all else is reset.
    pub(in crate::stream) fn let_go(&self) {
        let (mut inner, now) = (self.lock(), Instant::now());
        inner.unread = Some(0);
        if !inner.machine.is_finished_here() {
            inner.machine.reset(Code::Cancelled, now);
        }
        inner.act(&mut self.context(), now);
        drop(inner.nudge.dismiss());
        inner.nudge.carrier();
    }
}

impl Inner {
    /// Reads into the program's memory, from the machine and past it. Whether that changed anything.
    fn read_for(&mut self, out: &mut ReadBuf<'_>, cx: &mut Context<'_>) -> (Reading, bool) {
        let before = out.filled().len();
        for turn in 0..READS_MAX {
            if out.remaining() == 0 {
                return (Reading::Done(Ok(())), true);
            }
            let wanted = out.remaining().min(self.machine.buffered_bytes() as usize);
            let read = match wanted {
                0 => self.machine.read(&mut [0]),
                wanted => self.machine.read(out.initialize_unfilled_to(wanted)),
            };
            match read {
                Ok(Some(0)) => return (Reading::Done(Ok(())), true),
                Ok(Some(read)) => out.advance(read),
                Ok(None) => {}
                Err(error) => return (Reading::Done(Err(error)), true),
            }
            if out.filled().len() > before {
                return (Reading::Done(Ok(())), true);
            }
            if !self.read_some(Some(out), cx) {
                return (Reading::Nothing, turn > 0);
            }
            if out.filled().len() > before {
                return (Reading::Done(Ok(())), true);
            }
        }
        (Reading::OthersTurn, true)
    }

    /// The program waits for room or for an acknowledgement.
    fn attend_writer(&mut self, task: &Context<'_>, cx: &mut Context<'_>) {
        self.writer = Some(task.waker().clone());
        if !self.attendance.reads {
            self.attend();
            self.nudge.attend(task.waker());
        }
        if !self.drive(cx) {
            self.nudge.carrier();
        }
    }

    /// The program is here.
    fn attend(&mut self) {
        self.attendance.came = true;
        if self.attendance.until.is_none() {
            let until = Instant::now() + ATTENDED;
            self.attendance.until = Some(until);
            if self.armed.is_none_or(|armed| until < armed) {
                self.nudge.carrier();
            }
        }
    }

    /// Whether the program came in time. If not, its stream is the carrier's again.
    pub(super) fn check_attendance(&mut self, now: Instant) {
        if self.attendance.until.is_none_or(|until| now < until) {
            return;
        }
        let came = std::mem::take(&mut self.attendance.came);
        self.attendance.until = came.then_some(now + ATTENDED);
        if !came {
            let waiting = self.nudge.dismiss();
            if std::mem::take(&mut self.attendance.reads) {
                self.reader = waiting;
            }
        }
    }
}

/// One conversion, in one place.
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
