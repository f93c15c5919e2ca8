//! `punchline status`: how a running node is, on one screen or as JSON.

mod dht;
pub(super) mod screen;

use std::{io::Write as _, time::Duration};

use crate::cli;

/// How often it is asked with `--watch`.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// Puts the cursor into the upper left corner and clears what follows.
const CLEAR: &str = "\x1b[H\x1b[J";

/// Asks and prints.
///
/// # Errors
/// If no node answers, or several do and none was named.
pub(super) async fn run(settings: cli::Status) -> anyhow::Result<()> {
    loop {
        let status = super::status(&settings.asking).await?;
        let text = match settings.json {
            true => super::status_json(&status)?.to_string() + "\n",
            false => screen::of(&status),
        };
        let text = if settings.watch && !settings.json { format!("{CLEAR}{text}") } else { text };
        let mut out = std::io::stdout();
        out.write_all(text.as_bytes()).and_then(|()| out.flush())?;
        if !settings.watch {
            return Ok(());
        }
        tokio::select! {
            () = tokio::time::sleep(WATCH_INTERVAL) => {}
            () = crate::stop::told() => return Ok(()),
        }
    }
}
