//! What upstream logs, kept for the tests: it tells there, and nowhere else, which Reject it got.

use std::fmt::Write as _;
use std::sync::LazyLock;
use std::time::Duration;

use log::{LevelFilter, Log, Metadata, Record};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

/// Something was waited for in vain.
#[derive(Debug, thiserror::Error)]
#[error("not within {deadline:?}: {awaited}; upstream's log:\n{log}")]
pub struct Missing {
    awaited: String,
    deadline: Duration,
    log: String,
}

/// Waits for a line that contains all of `parts`, logged before or to come, and returns it.
///
/// # Errors
/// If there is none within [`DEADLINE`].
pub async fn line(parts: &[&str]) -> Result<String, Missing> {
    let find = || {
        let lines = JOURNAL.lines.borrow();
        lines.iter().find(|line| parts.iter().all(|part| line.contains(part))).cloned()
    };
    until(&format!("a line with {parts:?}"), find).await
}

/// Waits until `condition` gives a value, asking it anew whenever upstream has logged something:
/// upstream logs each change of its peers after making it.
///
/// # Errors
/// If it gives none within [`DEADLINE`].
pub async fn until<T>(awaited: &str, condition: impl Fn() -> Option<T>) -> Result<T, Missing> {
    let expires = Instant::now() + DEADLINE;
    let mut news = JOURNAL.lines.subscribe();
    loop {
        news.mark_unchanged();
        // The journal is not locked here: upstream logs while it holds locks of its own.
        if let Some(value) = condition() {
            return Ok(value);
        }
        if timeout_at(expires, news.changed()).await.is_err() {
            let (awaited, deadline) = (awaited.to_owned(), DEADLINE);
            return Err(Missing { awaited, deadline, log: report() });
        }
    }
}

/// Starts keeping what upstream logs.
pub(crate) fn open() {
    // Only the first of the process's peers finds no logger.
    if log::set_logger(&*JOURNAL).is_ok() {
        log::set_max_level(LevelFilter::Debug);
    }
}

fn report() -> String {
    JOURNAL.lines.borrow().iter().fold(String::new(), |mut report, line| {
        let _ = writeln!(report, "  {line}");
        report
    })
}

struct Journal {
    lines: watch::Sender<Vec<String>>,
}

static JOURNAL: LazyLock<Journal> = LazyLock::new(|| Journal { lines: watch::Sender::default() });

impl Log for Journal {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("kaspa_p2p_lib")
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let line = record.args().to_string();
        self.lines.send_modify(|lines| {
            if lines.len() == LINES_MAX {
                lines.remove(0);
            }
            lines.push(line);
        });
    }

    fn flush(&self) {}
}

/// How long a test waits for upstream: longer than any deadline of a handshake (12 s) and than a path
/// takes to be found on a busy machine.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Lines kept, of all peers of the process: a session logs about fifteen, so these are a thousand
/// sessions.
pub const LINES_MAX: usize = 16_384;
