//! The file in which a node remembers its tickets. It is only ever replaced whole, so a crash leaves the
//! old one or the new one; who changes it holds a lock, so no change of another process is lost.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions, Permissions, TryLockError},
    io::{self, Read as _, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use super::book::{Book, BookError};

/// Mode of the ledger and its lock: their owner may read and write them, nobody else may do anything.
const MODE: u32 = 0o600;

/// A full ledger has less than half of this.
pub(super) const BYTES_MAX: u64 = 1 << 20;

/// How long to wait for another process that changes the ledger: one change takes milliseconds.
const LOCK_WAIT_MAX: Duration = Duration::from_secs(2);

/// How often to look whether the other process is done.
const LOCK_POLL: Duration = Duration::from_millis(5);

/// A ledger that is still being written; what a crash may leave behind.
const DRAFT_PREFIX: &str = ".tickets-";

/// Why the ledger cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// It is a directory or a device.
    #[error("{} is not a file, and cannot hold tickets; move it away", path.display())]
    NotAFile {
        /// Where it is.
        path: PathBuf,
    },
    /// Others may read or write it.
    #[error("{} can be used by others (mode {mode:03o}), so what it says of tickets cannot be trusted; run: chmod 600 {}", path.display(), path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// It is far too large.
    #[error("{} has {bytes} bytes, which no ledger has; move it away, and every ticket is void", path.display())]
    Oversized {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
    /// It is no ledger, or a damaged one.
    #[error("{} is damaged ({cause}), so nobody knows which tickets were revoked; mend it, or move it away, and every ticket is void", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where and why.
        cause: serde_json::Error,
    },
    /// It says what no ledger says.
    #[error("{} cannot be used: {cause}; mend it, or move it away, and every ticket is void", path.display())]
    Book {
        /// The file.
        path: PathBuf,
        /// What it says.
        cause: BookError,
    },
    /// Another process holds the lock and does not let go.
    #[error("another process has held {} for {} s; is a `punchline ticket` stuck?", path.display(), waited.as_secs())]
    Locked {
        /// The lock.
        path: PathBuf,
        /// How long we waited.
        waited: Duration,
    },
    /// The system refused.
    #[error("cannot {doing} {}: {cause}; tickets are kept there, next to the identity", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
}

/// The ledger of one node.
#[derive(Clone, Debug)]
pub struct Ledger {
    path: PathBuf,
}

/// What stood in the ledger at one time.
#[derive(Debug)]
pub(super) struct Snapshot {
    pub(super) book: Book,
    /// `None`: there was no file.
    file: Option<Seen>,
}

/// Which file it was. It is kept open, so no later one can have its inode number: a ledger that was
/// replaced is always noticed, however coarse the file system's clock.
#[derive(Debug)]
struct Seen {
    _open: File,
    stamp: Stamp,
}

/// Tells files apart, and what hands did to one of them.
#[derive(Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    mode: u32,
    size: u64,
    modified: (i64, i64),
}

impl Ledger {
    /// The ledger in this file, whether it exists or not.
    pub fn at(path: PathBuf) -> Self {
        Self { path }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What stands in it; nothing if there is no file.
    ///
    /// # Errors
    /// If others may use the file, it is damaged, or the system refuses.
    pub fn read(&self) -> Result<Book, LedgerError> {
        Ok(self.snapshot()?.book)
    }

    /// Changes it; when this returns, the change is on the disk. Blocks, for milliseconds as a rule and
    /// 2 s at most.
    ///
    /// # Errors
    /// If it cannot be read or written, or another process does not let go of it. It is unchanged then.
    pub fn change<T>(&self, edit: impl FnOnce(&mut Book) -> T) -> Result<T, LedgerError> {
        let _lock = self.lock(LOCK_WAIT_MAX)?;
        let before = self.read()?;
        let mut book = before.clone();
        let outcome = edit(&mut book);
        if book != before {
            self.write(&book)?;
        }
        Ok(outcome)
    }

    pub(super) fn snapshot(&self) -> Result<Snapshot, LedgerError> {
        let failed = |cause| LedgerError::Io { doing: "read", path: self.path.clone(), cause };
        let found = match fs::metadata(&self.path) {
            Ok(found) => found,
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => {
                return Ok(Snapshot { book: Book::default(), file: None });
            }
            Err(cause) => return Err(failed(cause)),
        };
        // Before it is opened: that could wait for ever on a pipe.
        if !found.is_file() {
            return Err(LedgerError::NotAFile { path: self.path.clone() });
        }
        let mut file = File::open(&self.path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        let mode = metadata.mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(LedgerError::Exposed { path: self.path.clone(), mode });
        }
        let mut text = Vec::new();
        (&mut file).take(BYTES_MAX + 1).read_to_end(&mut text).map_err(failed)?;
        if text.len() as u64 > BYTES_MAX {
            return Err(LedgerError::Oversized { path: self.path.clone(), bytes: metadata.len() });
        }
        let book: Book = serde_json::from_slice(&text)
            .map_err(|cause| LedgerError::Malformed { path: self.path.clone(), cause })?;
        book.check().map_err(|cause| LedgerError::Book { path: self.path.clone(), cause })?;
        Ok(Snapshot { book, file: Some(Seen { _open: file, stamp: Stamp::of(&metadata) }) })
    }

    /// Whether the file is still the one that `snapshot` was taken of.
    pub(super) fn is_current(&self, snapshot: &Snapshot) -> bool {
        match (fs::metadata(&self.path), &snapshot.file) {
            (Ok(metadata), Some(seen)) => Stamp::of(&metadata) == seen.stamp,
            (Err(error), None) => error.kind() == io::ErrorKind::NotFound,
            _ => false,
        }
    }

    /// Held until it is dropped. A file of its own, since the ledger itself is replaced.
    pub(super) fn lock(&self, wait_max: Duration) -> Result<File, LedgerError> {
        let path = with_suffix(&self.path, ".lock");
        let failed = |cause| LedgerError::Io { doing: "lock", path: path.clone(), cause };
        let mut options = OpenOptions::new();
        let file = options.create(true).truncate(false).write(true).mode(MODE).open(&path);
        let file = file.map_err(failed)?;
        let begun = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::WouldBlock) if begun.elapsed() < wait_max => thread::sleep(LOCK_POLL),
                Err(TryLockError::WouldBlock) => {
                    return Err(LedgerError::Locked { path, waited: wait_max });
                }
                Err(TryLockError::Error(cause)) => return Err(failed(cause)),
            }
        }
    }

    fn write(&self, book: &Book) -> Result<(), LedgerError> {
        let failed = |cause| LedgerError::Io { doing: "write", path: self.path.clone(), cause };
        let directory = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let directory = directory.unwrap_or(Path::new("."));
        let mut text = serde_json::to_vec_pretty(book).map_err(|cause| failed(cause.into()))?;
        text.push(b'\n');
        let mut draft = tempfile::Builder::new()
            .prefix(DRAFT_PREFIX)
            .permissions(Permissions::from_mode(MODE))
            .tempfile_in(directory)
            .map_err(failed)?;
        draft.write_all(&text).map_err(failed)?;
        draft.as_file().sync_all().map_err(failed)?;
        draft.persist(&self.path).map_err(|error| failed(error.error))?;
        // Only now would the new name survive a power cut.
        File::open(directory).and_then(|directory| directory.sync_all()).map_err(failed)
    }
}

impl Stamp {
    fn of(metadata: &fs::Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            mode: metadata.mode(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}
