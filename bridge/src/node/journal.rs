//! Writes down what the engine is told ([`record`](crate::engine::record)), for
//! [`Config::journal`](crate::Config::journal).

use std::{
    fmt::Debug,
    fs::File,
    io::{self, Write as _},
    path::Path,
    time::Instant,
};

use serde::Serialize;

use crate::engine::{
    input::Input,
    record::{Header, Line, Sum, count_from},
};

/// A journal ends after so many bytes.
const BYTES_MAX: usize = 16 << 20;

/// One file, written line by line, so that it also ends with a whole line if the process is killed. If the disk
/// fails, it ends there.
#[derive(Debug)]
pub(crate) struct Journal {
    file: Option<File>,
    bytes: usize,
    actions: Sum,
    events: Sum,
}

impl Journal {
    /// Replaces the file.
    pub(crate) fn begin(path: &Path, header: &Header) -> io::Result<Self> {
        count_from(Instant::now());
        let file = File::create(path)?;
        let (actions, events) = Default::default();
        let mut journal = Self { file: Some(file), bytes: 0, actions, events };
        journal.write(header)?;
        Ok(journal)
    }

    /// The engine is told this.
    pub(crate) fn input(&mut self, input: &Input, now: Instant) {
        self.told(Some(input.clone()), now);
    }

    /// A deadline of the engine has come.
    pub(crate) fn timeout(&mut self, now: Instant) {
        self.told(None, now);
    }

    /// The engine wants this done.
    pub(crate) fn action(&mut self, action: &impl Debug) {
        self.actions.add(action);
    }

    /// The engine tells the world this.
    pub(crate) fn event(&mut self, event: &impl Debug) {
        self.events.add(event);
    }

    fn told(&mut self, input: Option<Input>, now: Instant) {
        let line = Line::new(now, self.actions, self.events, input);
        if let Err(error) = self.write(&line) {
            tracing::warn!(%error, "the journal ends here");
            self.file = None;
        }
    }

    fn write(&mut self, line: &impl Serialize) -> io::Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        self.bytes += text.len();
        if self.bytes > BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it has its full length"));
        }
        file.write_all(&text)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use libp2p::PeerId;

    use super::*;
    use crate::config::Config;

    #[test]
    fn a_journal_ends_with_a_whole_line_when_it_has_its_full_length() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let header = Header { local: PeerId::random(), seed: 7, config: Config::default() };
        let mut journal = Journal::begin(&path, &header).unwrap();
        let input = Input::Learn {
            peer: PeerId::random(),
            addresses: vec!["/ip4/192.0.2.1/tcp/4001".parse().unwrap(); 5_000],
        };
        for _ in 0..BYTES_MAX / (5_000 * 20) {
            journal.input(&input, Instant::now());
        }
        drop(journal);
        let text = std::fs::read(&path).unwrap();
        assert!(text.len() <= BYTES_MAX && text.len() > BYTES_MAX / 2 && text.ends_with(b"}\n"));
    }
}
