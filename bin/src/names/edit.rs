//! Changes in the file of names. What else people wrote there stays as it is.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, fchown},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use super::{Names, NamesError, NamesFile, PeerName, PeerRef, entries};
use libp2p::PeerId;

/// Why the file of names was not changed.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    /// What is in it cannot be used.
    #[error(transparent)]
    Names(#[from] NamesError),
    /// The name means somebody else.
    #[error("`{name}` is {peer} already; `punchline peers forget {name}` makes it free")]
    Taken {
        /// The name.
        name: PeerName,
        /// Who it is.
        peer: PeerId,
    },
    /// The peer has another name.
    #[error("{peer} is called `{name}` already; `punchline peers forget {name}` takes that back")]
    Called {
        /// The peer.
        peer: PeerId,
        /// What it is called.
        name: PeerName,
    },
    /// The peer has no name.
    #[error("{peer} has no name; `punchline peers` lists those that have one")]
    Nameless {
        /// The peer.
        peer: PeerId,
    },
    /// The system refused.
    #[error("cannot write {}: {cause}; `--identity FILE` says beside which identity names are kept", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
}

/// The text with one name more.
pub(super) fn named(
    text: &str,
    path: &Path,
    name: &PeerName,
    peer: PeerId,
) -> Result<String, EditError> {
    let names = Names::parse(text, path)?;
    match (names.by_name.get(name), names.of(peer)) {
        (Some(same), _) if *same == peer => return Ok(text.to_owned()),
        (Some(other), _) => return Err(EditError::Taken { name: name.clone(), peer: *other }),
        (None, Some(other)) => return Err(EditError::Called { peer, name: other.clone() }),
        (None, None) => {}
    }
    let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    let edited = format!("{text}{end}{name} = \"{peer}\"\n");
    // What is written can be read again: the limits hold.
    Names::parse(&edited, path)?;
    Ok(edited)
}

/// The text without a name, and whose it was.
pub(super) fn forgotten(
    text: &str,
    path: &Path,
    peer: &PeerRef,
) -> Result<(String, PeerName, PeerId), EditError> {
    let names = Names::parse(text, path)?;
    let id = names.resolve(peer)?;
    let name = names.of(id).ok_or(EditError::Nameless { peer: id })?.clone();
    let mut edited = text.to_owned();
    if let Some(entry) = entries(text, path)?.into_iter().find(|entry| entry.peer == id) {
        // Whole lines: TOML has one entry on each, and what stands behind it is about it.
        let begin = text[..entry.span.start].rfind('\n').map_or(0, |at| at + 1);
        let end = text[entry.span.end..].find('\n').map_or(text.len(), |at| entry.span.end + at + 1);
        edited.replace_range(begin..end, "");
    }
    Ok((edited, name, id))
}

impl NamesFile {
    /// Gives a peer a name.
    ///
    /// # Errors
    /// If the name or the peer is taken, or the file cannot be used.
    pub fn name(&self, peer: PeerId, name: &PeerName) -> Result<(), EditError> {
        let _lock = self.lock()?;
        let text = self.text()?;
        let edited = named(&text, &self.0, name, peer)?;
        if edited == text { Ok(()) } else { self.write(&edited) }
    }

    /// Takes a name away, and says which and whose.
    ///
    /// # Errors
    /// If there is none, or the file cannot be used.
    pub fn forget(&self, peer: &PeerRef) -> Result<(PeerName, PeerId), EditError> {
        let _lock = self.lock()?;
        let (edited, name, peer) = forgotten(&self.text()?, &self.0, peer)?;
        self.write(&edited).map(|()| (name, peer))
    }

    /// Where the file is; if it is a link, what that leads to.
    fn place(&self) -> PathBuf {
        self.0.canonicalize().unwrap_or_else(|_| self.0.clone())
    }

    /// Until it is dropped nobody else changes the file: what two do at once is not lost. The lock is on the folder, for the
    /// file is replaced. It blocks, for milliseconds as a rule.
    fn lock(&self) -> Result<Option<File>, EditError> {
        let failed = |cause| EditError::Write { path: self.0.clone(), cause };
        let place = self.place();
        let folder = place.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder).map_err(failed)?;
        let locked = File::open(folder).map_err(failed)?;
        let begun = Instant::now();
        loop {
            match locked.try_lock() {
                Ok(()) => return Ok(Some(locked)),
                Err(TryLockError::WouldBlock) if begun.elapsed() < LOCK_WAIT_MAX => {
                    thread::sleep(LOCK_POLL);
                }
                Err(TryLockError::WouldBlock) => {
                    let held = "another process changes it, and does not come to an end";
                    return Err(failed(io::Error::other(held)));
                }
                // Some file systems have no locks. That is no reason not to give names.
                Err(TryLockError::Error(_)) => return Ok(None),
            }
        }
    }

    /// Whole or not at all: a node may read it at any time.
    fn write(&self, text: &str) -> Result<(), EditError> {
        let failed = |cause| EditError::Write { path: self.0.clone(), cause };
        let path = self.place();
        let folder = path.parent().unwrap_or(Path::new("."));
        let mut draft = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
        draft.write_all(text.as_bytes()).map_err(failed)?;
        let before = fs::metadata(&path);
        if let Ok(before) = &before {
            draft.as_file().set_permissions(before.permissions()).map_err(failed)?;
        }
        // The node of a user is to read what root wrote for it.
        if let Ok(owner) = before.or_else(|_| fs::metadata(folder)) {
            give_to(draft.as_file(), &owner).map_err(failed)?;
        }
        draft.as_file().sync_all().map_err(failed)?;
        draft.persist(&path).map(drop).map_err(|error| failed(error.error))
    }
}

/// Whoever may not give files away keeps what they made, and it is theirs as it was before.
fn give_to(file: &File, owner: &fs::Metadata) -> io::Result<()> {
    let mine = file.metadata()?;
    if (mine.uid(), mine.gid()) == (owner.uid(), owner.gid()) {
        return Ok(());
    }
    match fchown(file, Some(owner.uid()), Some(owner.gid())) {
        Err(cause) if cause.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        given => given,
    }
}

/// For another process to be done with the file, and between two looks at whether it is.
const LOCK_WAIT_MAX: Duration = Duration::from_secs(5);
const LOCK_POLL: Duration = Duration::from_millis(5);
