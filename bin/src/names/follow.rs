//! A file of names that is edited while a node runs: the log soon calls peers what it says.

use std::{
    convert::Infallible,
    time::{Duration, SystemTime},
};

use super::{Names, NamesError, NamesFile};
use crate::report::Reporter;

/// How often the file is looked at: one call of the system, which blocks a thread of those that may block.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// What shows that a file was written: its time and its length; none if it is not there.
type Stamp = Option<(SystemTime, u64)>;

/// Tells the reporter what peers are called, now and whenever the file says otherwise, for as long as it runs.
pub(crate) async fn follow(file: NamesFile, reporter: Reporter) -> Infallible {
    let (mut look, mut before) = (tokio::time::interval(LOOK_INTERVAL), None);
    loop {
        look.tick().await;
        let looking = file.clone();
        // A runtime that ends reads no more files.
        let Ok(found) = tokio::task::spawn_blocking(move || looking.news(before)).await else {
            continue;
        };
        let Some((stamp, names)) = found else { continue };
        before = Some(stamp);
        match names {
            Ok(names) => reporter.calls(names),
            Err(error) => tracing::warn!("{error}; peers keep the names that they had"),
        }
    }
}

impl NamesFile {
    /// What it says, if it was written since it looked so.
    fn news(&self, before: Option<Stamp>) -> Option<(Stamp, Result<Names, NamesError>)> {
        let stamp =
            self.path().metadata().ok().and_then(|found| Some((found.modified().ok()?, found.len())));
        (before != Some(stamp)).then(|| (stamp, self.read()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_file_is_read_when_it_was_written_and_when_it_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let file = NamesFile::at(folder.path().join("peers.toml"));
        let (stamp, names) = file.news(None).unwrap();
        assert_eq!((stamp, names.unwrap().iter().count()), (None, 0));
        assert!(file.news(Some(stamp)).is_none());
        file.name(libp2p::PeerId::random(), &"alice".parse().unwrap()).unwrap();
        let (stamp, names) = file.news(Some(stamp)).unwrap();
        assert_eq!(names.unwrap().iter().count(), 1);
        assert!(file.news(Some(stamp)).is_none());
        std::fs::remove_file(file.path()).unwrap();
        assert_eq!(file.news(Some(stamp)).unwrap().0, None);
    }
}
