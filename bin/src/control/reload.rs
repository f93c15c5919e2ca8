//! Files are read again because somebody asks: all of them hold from then on, or none.

use punchline_bridge::{Endpoint, addr::Ranges, relay};

use super::offers::{Board, Reread};
use crate::{
    access,
    cli::Nets,
    names::NamesFile,
    report::{ReportEvent, Reporter},
};

/// Who keeps to ranges.
#[derive(Clone)]
pub(crate) enum Keeper {
    /// A node.
    Node(Endpoint),
    /// A relay.
    Relay(relay::Handle),
}

impl Keeper {
    async fn keep_to(&self, ranges: Ranges) {
        match self {
            Self::Node(endpoint) => endpoint.keep_to(ranges).await,
            Self::Relay(relay) => relay.keep_to(ranges).await,
        }
    }
}

/// The files that every node and relay may have.
#[derive(Clone)]
pub(crate) struct Files {
    pub(crate) nets: Nets,
    pub(crate) keeper: Keeper,
    pub(crate) names: NamesFile,
    /// Knows the file of events.
    pub(crate) reporter: Reporter,
}

impl Files {
    /// Reads all files again, those of `board` too, and then makes them hold. What was read, a line each.
    ///
    /// # Errors
    /// What is wrong with the first that cannot be used; then all stays as it was.
    pub(super) async fn reload(&self, board: &Board) -> Result<Vec<String>, String> {
        let (files, board) = (self.clone(), board.clone());
        let reading = tokio::task::spawn_blocking(move || files.reread(&board));
        let reread = reading.await.map_err(|_| "the node is about to end".to_owned())??;
        let mut said = Vec::new();
        for Reread { said: line, apply } in reread {
            apply.await;
            said.push(line);
        }
        Ok(said)
    }

    fn reread(&self, board: &Board) -> Result<Vec<Reread>, String> {
        let mut all = Vec::new();
        let names = self.names.read().map_err(|error| error.to_string())?;
        let count = names.iter().count();
        if count > 0 {
            // They are read whenever they are needed.
            let said = format!("{count} names of peers from {}", self.names.path().display());
            all.push(Reread { said, apply: Box::pin(async {}) });
        }
        all.extend(board.reread()?);
        if let Some(path) = &self.nets.net_file {
            let ranges = access::ranges(&self.nets).map_err(|error| error.to_string())?;
            let (keeper, reporter) = (self.keeper.clone(), self.reporter.clone());
            let apply = async move {
                keeper.keep_to(ranges).await;
                reporter.report(ReportEvent::NetsReloaded { error: None });
            };
            let said = format!("ranges from {}", path.display());
            all.push(Reread { said, apply: Box::pin(apply) });
        }
        if let Some(path) = self.reporter.file() {
            let unwritable = |cause| format!("cannot write events to {}: {cause}", path.display());
            Reporter::check(path).map_err(unwritable)?;
            let reporter = self.reporter.clone();
            let apply = async move { reporter.reopen() };
            let said = format!("opened {} anew, for events", path.display());
            all.push(Reread { said, apply: Box::pin(apply) });
        }
        Ok(all)
    }
}
