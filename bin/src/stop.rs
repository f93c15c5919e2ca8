//! Being told to stop: SIGTERM or Ctrl-C.

use std::{
    io,
    sync::LazyLock,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

/// For everything to be closed after the signal; then the process ends anyway.
pub(crate) const DRAIN_DEADLINE: Duration = Duration::from_millis(4_300);

/// From the signal to the exit: under the 5 s that are promised.
const STOP_DEADLINE: Duration = Duration::from_millis(4_700);

/// For the last events and the end of the log to be read: the first, or what is left of the stop's
/// deadline, but the second at least.
const FLUSH_DEADLINE: (Duration, Duration) = (Duration::from_millis(1_000), Duration::from_millis(150));

/// Signals are a matter of the whole process, and so is this: when it was told to stop.
static TOLD: LazyLock<watch::Sender<Option<Instant>>> = LazyLock::new(|| watch::Sender::new(None));

/// From now on SIGTERM and Ctrl-C do not kill the process, but end every [`told`], past or to come:
/// a signal during the start is not lost either. Must be called on a runtime.
///
/// # Errors
/// If the system does not let us handle signals.
pub(crate) fn heed() -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    // Unhandled it kills a process whose file of events grows beyond `ulimit -f`; handled, the write fails.
    drop(signal(SignalKind::from_raw(Signal::XFSZ.as_raw()))?);
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        TOLD.send_replace(Some(Instant::now()));
    });
    Ok(())
}

/// Returns when the process is told to stop, or has been.
pub(crate) async fn told() {
    // The sender is static: the wait cannot fail.
    let _ = TOLD.subscribe().wait_for(Option::is_some).await;
}

/// Drains within the deadline.
pub(crate) async fn drain(work: impl Future<Output = ()>) {
    if tokio::time::timeout(DRAIN_DEADLINE, work).await.is_err() {
        tracing::warn!("not everything could be closed in time");
    }
}

/// How long the end of what this process says may take to be read.
pub(crate) fn flush_deadline() -> Duration {
    let (longest, shortest) = FLUSH_DEADLINE;
    let left = TOLD.borrow().map(|told| STOP_DEADLINE.saturating_sub(told.elapsed()));
    left.unwrap_or(longest).clamp(shortest, longest)
}
