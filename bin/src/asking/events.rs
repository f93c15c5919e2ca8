//! `punchline events`: what happened, and what happens.

use std::io::Write as _;

use crate::{
    cli,
    control::{self, proto},
    stop,
};

/// Prints them.
///
/// # Errors
/// If no node answers, or it ends. Where events came faster than they were read, a line says how many are missing.
pub(super) async fn run(settings: cli::Events) -> anyhow::Result<()> {
    let mut node = control::ask(&settings.asking).await?;
    let request = proto::WatchEventsRequest { follow: settings.follow };
    let answer = node.watch_events(request).await.map_err(|error| super::refused(&error))?;
    let mut events = answer.into_inner();
    let mut out = std::io::stdout();
    loop {
        let event = tokio::select! {
            event = events.message() => event.unwrap_or_default(),
            () = stop::told() => return Ok(()),
        };
        let Some(event) = event else { break };
        writeln!(out, "{}", event.json).and_then(|()| out.flush())?;
    }
    match settings.follow {
        true => anyhow::bail!("the node has ended"),
        false => Ok(()),
    }
}
