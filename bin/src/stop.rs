//! Being told to stop: SIGTERM, Ctrl-C, or a closed terminal; or to read files again: SIGHUP.

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

use crate::supervised;

/// For everything to be closed after the signal; then the process ends anyway.
pub(crate) const DRAIN_DEADLINE: Duration = Duration::from_millis(4_300);

/// From the signal to the exit: under the 5 s that are promised.
const STOP_DEADLINE: Duration = Duration::from_millis(4_700);

/// For the last events and the end of the log to be read: the first, or what is left of the stop's
/// deadline, but the second at least.
const FLUSH_DEADLINE: (Duration, Duration) = (Duration::from_millis(1_000), Duration::from_millis(150));

/// Signals are a matter of the whole process, and so is this: when it was told to stop.
static TOLD: LazyLock<watch::Sender<Option<Instant>>> = LazyLock::new(|| watch::Sender::new(None));

/// How often the process was told to read its files again.
static RELOADS: LazyLock<watch::Sender<u64>> = LazyLock::new(|| watch::Sender::new(0));

/// From now on SIGTERM, Ctrl-C and SIGHUP do not kill the process, but end every [`told`], past or to come:
/// a signal during the start is not lost either. `reloads`: there is something that SIGHUP reads or opens
/// again. Must be called on a runtime.
///
/// # Errors
/// If the system does not let us handle signals.
pub(crate) fn heed(reloads: bool) -> io::Result<()> {
    // A service manager knows other ways to end us.
    let ignored = is_ignored(Signal::HUP) || supervised::is_supervised();
    let mut hangups = Hangups { reloads, ignored, at_terminal: has_terminal() };
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    // Unhandled it kills a process whose file of events grows beyond `ulimit -f`; handled, the write fails.
    drop(signal(SignalKind::from_raw(Signal::XFSZ.as_raw()))?);
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = hangup.recv() => match hangups.meaning(has_terminal()) {
                    Meaning::Stop => break,
                    Meaning::Reload => RELOADS.send_modify(|count| *count += 1),
                    Meaning::Nothing => {}
                },
            }
        }
        TOLD.send_replace(Some(Instant::now()));
        supervised::stopping();
    });
    Ok(())
}

/// What decides what SIGHUP means: a terminal that was closed, or a wish to have files read again.
struct Hangups {
    /// There is something to read or open again.
    reloads: bool,
    /// Whoever started us wants us to outlive the terminal, as `nohup` does.
    ignored: bool,
    /// We belong to a terminal.
    at_terminal: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Meaning {
    Stop,
    Reload,
    Nothing,
}

impl Hangups {
    fn meaning(&mut self, still_at_terminal: bool) -> Meaning {
        let closed = self.at_terminal && !still_at_terminal;
        self.at_terminal = still_at_terminal;
        match (closed, self.ignored, self.reloads) {
            (true, true, _) => Meaning::Nothing,
            (true, false, _) => Meaning::Stop,
            (false, _, true) => Meaning::Reload,
            (false, true, false) => Meaning::Nothing,
            (false, false, false) => Meaning::Stop,
        }
    }
}

/// Whether this process belongs to a terminal that is still there.
fn has_terminal() -> bool {
    std::fs::File::open("/dev/tty").is_ok()
}

/// Whether the signal was ignored when we were started. Where no `/proc` tells, it was not.
fn is_ignored(signal: Signal) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default();
    mask & (1 << (signal.as_raw() - 1)) != 0
}

/// Changes whenever the process is told to read its files again.
pub(crate) fn reloads() -> watch::Receiver<u64> {
    RELOADS.subscribe()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hangup_reloads_what_there_is_and_else_stops_and_a_closed_terminal_always_stops() {
        for (reloads, ignored, before, after, meaning) in [
            // Sent to a daemon, or to a program at a terminal.
            (true, false, false, false, Meaning::Reload),
            (true, false, true, true, Meaning::Reload),
            (false, false, false, false, Meaning::Stop),
            (false, false, true, true, Meaning::Stop),
            // The terminal was closed.
            (true, false, true, false, Meaning::Stop),
            (false, false, true, false, Meaning::Stop),
            // Under nohup.
            (true, true, true, false, Meaning::Nothing),
            (false, true, true, false, Meaning::Nothing),
            (true, true, true, true, Meaning::Reload),
            (false, true, false, false, Meaning::Nothing),
        ] {
            let mut hangups = Hangups { reloads, ignored, at_terminal: before };
            assert_eq!(hangups.meaning(after), meaning, "{reloads} {ignored} {before} {after}");
        }
    }

    #[test]
    fn the_next_hangup_after_a_closed_terminal_reloads() {
        let mut hangups = Hangups { reloads: true, ignored: true, at_terminal: true };
        assert_eq!(hangups.meaning(false), Meaning::Nothing);
        assert_eq!(hangups.meaning(false), Meaning::Reload);
    }
}
