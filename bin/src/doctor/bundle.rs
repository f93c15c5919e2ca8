//! One file with everything for a bug report.

use std::{
    io::{self, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::{Value, json};
use tempfile::NamedTempFile;

use super::{
    diagnosis::{Diagnosis, VERSION},
    sanitise::{EXPLANATION, Sanitiser},
};
use crate::{
    asking,
    cli::Asking,
    control::{self, proto},
};

/// For the events of the node that runs here to arrive.
const EVENTS: Duration = Duration::from_secs(2);

/// Events at most; a node keeps fewer.
const EVENTS_MAX: usize = 10_000;

/// A file that nobody sees until it is whole, in the place where it is to be. It is its owner's alone.
#[derive(Debug)]
pub(super) struct Bundle {
    path: PathBuf,
    draft: NamedTempFile,
}

/// Sees to it that the file can be made, before anything is looked at.
///
/// # Errors
/// If there is one already, or none can be made.
pub(super) fn begin(path: &Path) -> anyhow::Result<Bundle> {
    if path.symlink_metadata().is_ok() {
        return Err(taken(path));
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let draft =
        tempfile::Builder::new().prefix(".doctor-").tempfile_in(parent.unwrap_or(Path::new(".")));
    match draft {
        Ok(draft) => Ok(Bundle { path: path.to_owned(), draft }),
        Err(cause) => anyhow::bail!(
            "cannot write {}: {cause}; name a file in a directory of yours with --bundle",
            path.display()
        ),
    }
}

fn taken(path: &Path) -> anyhow::Error {
    anyhow::anyhow!("{} is there already; name another file with --bundle", path.display())
}

impl Bundle {
    /// # Errors
    /// If it cannot be written.
    pub(super) async fn write(
        mut self,
        diagnosis: &Diagnosis,
        status: Option<&proto::Status>,
        asking: &Asking,
    ) -> anyhow::Result<()> {
        let events = match status {
            Some(_) => tokio::time::timeout(EVENTS, events(asking)).await.unwrap_or_default(),
            None => Vec::new(),
        };
        let content = json!({
            "doctor": diagnosis,
            "status": status.map(asking::status_json).transpose()?,
            "events": events,
        });
        let home = std::env::home_dir().map(|home| home.to_string_lossy().into_owned());
        let mut sanitiser = Sanitiser::new(home);
        sanitiser.learn(&content);
        let mut clean = sanitiser.clean(&content);
        if let Some(fields) = clean.as_object_mut() {
            fields.insert("version".to_owned(), VERSION.into());
            fields.insert("punchline".to_owned(), env!("CARGO_PKG_VERSION").into());
            fields.insert("system".to_owned(), system());
            fields.insert("replaced".to_owned(), EXPLANATION.into());
        }
        let text = serde_json::to_string_pretty(&clean)? + "\n";
        let unwritable = |cause: io::Error| {
            anyhow::anyhow!("cannot write {}: {cause}; make room there", self.path.display())
        };
        self.draft.write_all(text.as_bytes()).map_err(unwritable)?;
        match self.draft.persist_noclobber(&self.path) {
            Ok(_) => Ok(()),
            Err(failed) if failed.error.kind() == io::ErrorKind::AlreadyExists => Err(taken(&self.path)),
            Err(failed) => Err(unwritable(failed.error)),
        }
    }
}

/// What happened to the node lately; nothing if it does not say.
async fn events(asking: &Asking) -> Vec<Value> {
    let mut found = Vec::new();
    let Ok(mut node) = control::ask(asking).await else { return found };
    let request = proto::WatchEventsRequest { follow: false };
    let Ok(answer) = node.watch_events(request).await else { return found };
    let mut answer = answer.into_inner();
    while let Ok(Some(event)) = answer.message().await {
        found.extend(serde_json::from_str::<Value>(&event.json).ok());
        if found.len() >= EVENTS_MAX {
            break;
        }
    }
    found
}

fn system() -> Value {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    json!({"os": std::env::consts::OS, "arch": std::env::consts::ARCH, "kernel": release.trim()})
}
