//! `--rehearse`: a server or client that does what its demo tells it, line by line on standard input.
//!
//! The demo shows what happens when a hole punch comes late and when a direct connection goes. On one
//! machine nothing of that happens by itself, so the demo asks for it; the flag is hidden, and without it
//! nothing here is done and standard input is not read.

use std::{
    str::FromStr,
    sync::{Arc, Mutex, PoisonError},
};

use punchline_bridge::{Endpoint, StreamFacts};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    sync::watch,
};

use crate::report::{Reporter, SessionEvent};

/// What the demo may ask for, a line each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cue {
    /// Punch holes from now on.
    AllowUpgrades,
    /// Punch none until allowed again.
    HoldUpgrades,
    /// Close the direct connection that carries the session.
    CloseDirect,
    /// Report what the session's stream has carried.
    ReportTraffic,
    /// End the load.
    EndLoad,
}

impl Cue {
    /// The line that asks for it.
    pub(crate) fn line(self) -> &'static str {
        match self {
            Self::AllowUpgrades => "allow-upgrades",
            Self::HoldUpgrades => "hold-upgrades",
            Self::CloseDirect => "close-direct",
            Self::ReportTraffic => "report-traffic",
            Self::EndLoad => "end-load",
        }
    }
}

impl FromStr for Cue {
    type Err = ();

    fn from_str(line: &str) -> Result<Self, ()> {
        let all = [
            Self::AllowUpgrades,
            Self::HoldUpgrades,
            Self::CloseDirect,
            Self::ReportTraffic,
            Self::EndLoad,
        ];
        all.into_iter().find(|cue| cue.line() == line).ok_or(())
    }
}

/// What is told to whoever plays in a rehearsal. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Rehearsal {
    /// Whether this is one.
    on: bool,
    end_load: Arc<watch::Sender<bool>>,
    stream: Arc<Mutex<Option<Arc<StreamFacts>>>>,
}

impl Rehearsal {
    pub(crate) fn new(on: bool) -> Self {
        Self { on, end_load: Arc::default(), stream: Arc::default() }
    }

    /// Whether this is one.
    pub(crate) fn is_on(&self) -> bool {
        self.on
    }

    /// Changes once, when the load is to end.
    pub(crate) fn end_load(&self) -> watch::Receiver<bool> {
        self.end_load.subscribe()
    }

    /// Before the node meets anybody.
    pub(crate) async fn prepare(&self, endpoint: &Endpoint) {
        if self.on {
            endpoint.allow_upgrades(false).await;
        }
    }

    /// A session began on this stream; cues are about it from now on.
    pub(crate) fn plays_on(&self, stream: &Arc<StreamFacts>) {
        if self.on {
            *self.stream() = Some(stream.clone());
        }
    }

    fn stream(&self) -> std::sync::MutexGuard<'_, Option<Arc<StreamFacts>>> {
        self.stream.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does as told, and returns when nobody tells any more: the demo is gone. Never if this is no
    /// rehearsal.
    pub(crate) async fn follow(&self, endpoint: &Endpoint, reporter: &Reporter) {
        if !self.on {
            return std::future::pending().await;
        }
        let mut lines = BufReader::new(tokio::io::stdin()).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            match line.parse() {
                Ok(cue) => self.take(cue, endpoint, reporter).await,
                Err(()) => tracing::warn!(line, "no such cue"),
            }
        }
    }

    async fn take(&self, cue: Cue, endpoint: &Endpoint, reporter: &Reporter) {
        let stream = self.stream().clone();
        match (cue, stream) {
            (Cue::AllowUpgrades, _) => endpoint.allow_upgrades(true).await,
            (Cue::HoldUpgrades, _) => endpoint.allow_upgrades(false).await,
            (Cue::EndLoad, _) => drop(self.end_load.send_replace(true)),
            (Cue::CloseDirect, Some(stream)) => {
                let on = stream.route();
                match on.path.is_direct() {
                    true => endpoint.close(on.connection).await,
                    false => tracing::warn!("the session is not on a direct connection"),
                }
            }
            (Cue::ReportTraffic, Some(stream)) => reporter.report(SessionEvent::traffic(&stream)),
            (Cue::CloseDirect | Cue::ReportTraffic, None) => tracing::warn!("there is no session yet"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cue_is_what_its_line_says_and_nothing_else_is_one() {
        for line in ["allow-upgrades", "hold-upgrades", "close-direct", "report-traffic", "end-load"] {
            assert_eq!(line.parse::<Cue>().map(Cue::line), Ok(line));
        }
        assert_eq!("close-direct ".parse::<Cue>(), Err(()));
        assert_eq!("".parse::<Cue>(), Err(()));
    }
}
