//! Being told to stop: SIGTERM or Ctrl-C.

use std::{io, sync::LazyLock, time::Duration};

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

/// For everything to be closed after the signal; then the process ends anyway.
pub(crate) const DRAIN_DEADLINE: Duration = Duration::from_millis(4_500);

/// Signals are a matter of the whole process, and so is this.
static TOLD: LazyLock<watch::Sender<bool>> = LazyLock::new(|| watch::Sender::new(false));

/// From now on SIGTERM and Ctrl-C do not kill the process, but end every [`told`], past or to come:
/// a signal during the start is not lost either. Must be called on a runtime.
///
/// # Errors
/// If the system does not let us handle signals.
pub(crate) fn heed() -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        TOLD.send_replace(true);
    });
    Ok(())
}

/// Returns when the process is told to stop, or has been.
pub(crate) async fn told() {
    // The sender is static: the wait cannot fail.
    let _ = TOLD.subscribe().wait_for(|told| *told).await;
}

/// Drains within the deadline.
pub(crate) async fn drain(work: impl Future<Output = ()>) {
    if tokio::time::timeout(DRAIN_DEADLINE, work).await.is_err() {
        tracing::warn!("not everything could be closed in time");
    }
}
