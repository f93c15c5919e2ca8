//! Being told to stop: SIGTERM or Ctrl-C.

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

/// For everything to be closed after the signal; then the process ends anyway.
pub(crate) const DRAIN_DEADLINE: Duration = Duration::from_millis(4_500);

/// Returns when the process is told to stop.
pub(crate) async fn told() {
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}

/// Drains within the deadline.
pub(crate) async fn drain(work: impl Future<Output = ()>) {
    if tokio::time::timeout(DRAIN_DEADLINE, work).await.is_err() {
        tracing::warn!("not everything could be closed in time");
    }
}
