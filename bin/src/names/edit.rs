//! Changes in the file of names. What else people wrote there stays as it is.

use std::{
    fs, io,
    io::Write as _,
    path::{Path, PathBuf},
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
        let text = self.text()?;
        let edited = named(&text, &self.0, name, peer)?;
        if edited == text { Ok(()) } else { self.write(&edited) }
    }

    /// Takes a name away, and says which and whose.
    ///
    /// # Errors
    /// If there is none, or the file cannot be used.
    pub fn forget(&self, peer: &PeerRef) -> Result<(PeerName, PeerId), EditError> {
        let (edited, name, peer) = forgotten(&self.text()?, &self.0, peer)?;
        self.write(&edited).map(|()| (name, peer))
    }

    /// Whole or not at all: a node may read it at any time.
    fn write(&self, text: &str) -> Result<(), EditError> {
        let failed = |cause| EditError::Write { path: self.0.clone(), cause };
        // Where it is a link, what it leads to is replaced.
        let path = self.0.canonicalize().unwrap_or_else(|_| self.0.clone());
        let folder = path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder).map_err(failed)?;
        let mut draft = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
        draft.write_all(text.as_bytes()).map_err(failed)?;
        if let Ok(before) = fs::metadata(&path) {
            draft.as_file().set_permissions(before.permissions()).map_err(failed)?;
        }
        draft.as_file().sync_all().map_err(failed)?;
        draft.persist(&path).map(drop).map_err(|error| failed(error.error))
    }
}
