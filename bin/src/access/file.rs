//! Files of an operator that say who is let in.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    os::unix::fs::PermissionsExt as _,
    path::Path,
};

/// Why such a file is not read.
#[derive(Debug, thiserror::Error)]
pub enum FileFault {
    /// It is a directory or a device.
    #[error("it is not a file")]
    NotAFile,
    /// Anybody on this machine could change it.
    #[error("anybody may write to it (mode {mode:03o}), and so let others in; run chmod o-w on it")]
    Exposed {
        /// Its permissions.
        mode: u32,
    },
    /// It is too large.
    #[error("it has more than {limit} bytes; is it the right file?")]
    Oversized {
        /// How many bytes it may have.
        limit: u64,
    },
    /// The system refused.
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
}

/// What is in a file of at most `limit` bytes that only its operator can write.
pub(crate) fn text(path: &Path, limit: u64) -> Result<String, FileFault> {
    let metadata = fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(FileFault::NotAFile);
    }
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o002 != 0 {
        return Err(FileFault::Exposed { mode });
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(FileFault::Oversized { limit });
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The lines that say something, with their numbers from 1; `#` begins a comment.
pub(crate) fn entries(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let entry = |line| str::split(line, '#').next().unwrap_or_default().trim();
    let numbered = text.lines().enumerate().map(move |(at, line)| (at + 1, entry(line)));
    numbered.filter(|(_, entry)| !entry.is_empty())
}

/// As much of a wrong entry as is shown.
pub(crate) fn shown(entry: &str) -> String {
    entry.chars().take(SHOWN_MAX).flat_map(char::escape_debug).collect()
}

const SHOWN_MAX: usize = 60;
