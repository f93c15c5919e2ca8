//! Allow files: one peer a line, by its id or its name, `#` begins a comment.

use std::{
    collections::HashSet,
    io,
    path::{Path, PathBuf},
};

use libp2p::{PeerId, identity::ParseError};

use super::file::{self, FileFault};
use crate::names::{Names, NamesError, NamesFile, PeerName, PeerRef};

/// Most peers in an allow file: all of them are kept in memory.
pub const ALLOW_MAX: usize = 10_000;

/// Largest allow file in bytes: as many peers, with a comment each.
pub const ALLOW_FILE_BYTES_MAX: u64 = 2 << 20;

/// Why an allow file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AllowError {
    /// It is a directory or a device.
    #[error("the allow file {} is not a file; name one with a peer id a line", path.display())]
    NotAFile {
        /// What was named.
        path: PathBuf,
    },
    /// Anybody on this machine could let peers in.
    #[error("anybody may write to {} (mode {mode:03o}), and so let peers in; run: chmod o-w {}", path.display(), path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// It is too large.
    #[error("the allow file {} has more than {ALLOW_FILE_BYTES_MAX} bytes; is it the right file?", path.display())]
    Oversized {
        /// The file.
        path: PathBuf,
    },
    /// It has too many peers.
    #[error("the allow file {} has more than {ALLOW_MAX} peers; use tickets, or several nodes", path.display())]
    TooMany {
        /// The file.
        path: PathBuf,
    },
    /// A line is no peer id.
    #[error("{}, line {line}: `{text}` is not a peer id ({cause}); write one a line, as `punchline id --of forward` prints it there", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Which line; the first is 1.
        line: usize,
        /// What it says, shortened.
        text: String,
        /// What the parser said.
        cause: ParseError,
    },
    /// A line is a name that nobody has.
    #[error("{}, line {line}: {cause}", path.display())]
    Name {
        /// The file.
        path: PathBuf,
        /// Which line; the first is 1.
        line: usize,
        /// What is wrong with the name, or with the file of names.
        cause: Box<NamesError>,
    },
    /// The system refused.
    #[error("cannot read the allow file {}: {cause}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
}

/// The peers in the file, by their ids or names.
pub(super) fn read(path: &Path, names: &NamesFile) -> Result<HashSet<PeerId>, AllowError> {
    let text = file::text(path, ALLOW_FILE_BYTES_MAX).map_err(|fault| {
        let path = path.to_owned();
        match fault {
            FileFault::NotAFile => AllowError::NotAFile { path },
            FileFault::Exposed { mode } => AllowError::Exposed { path, mode },
            FileFault::Oversized { .. } => AllowError::Oversized { path },
            FileFault::Io(cause) => AllowError::Io { path, cause },
        }
    })?;
    parse(&text, path, names)
}

fn parse(text: &str, path: &Path, file: &NamesFile) -> Result<HashSet<PeerId>, AllowError> {
    let mut peers = HashSet::new();
    let mut names: Option<Names> = None;
    for (line, entry) in file::entries(text) {
        let path = || path.to_owned();
        let peer = match (entry.parse::<PeerId>(), entry.parse::<PeerName>()) {
            (Ok(peer), _) => peer,
            (Err(cause), Err(_)) => {
                let text = file::shown(entry);
                return Err(AllowError::Line { path: path(), line, text, cause });
            }
            (Err(_), Ok(name)) => {
                let wrong = |cause| AllowError::Name { path: path(), line, cause: Box::new(cause) };
                // Read once, and only where it is needed.
                if names.is_none() {
                    names = Some(file.read().map_err(wrong)?);
                }
                let names = names.get_or_insert_default();
                names.resolve(&PeerRef::Name(name)).map_err(wrong)?
            }
        };
        peers.insert(peer);
        if peers.len() > ALLOW_MAX {
            return Err(AllowError::TooMany { path: path() });
        }
    }
    Ok(peers)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::{
        fs::{self, Permissions},
        os::unix::fs::PermissionsExt as _,
    };

    use super::*;

    const A: &str = "12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp";
    const B: &str = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";

    fn parsed(text: &str) -> Result<HashSet<PeerId>, AllowError> {
        parse(text, Path::new("allowed"), &NamesFile::default())
    }

    #[test]
    fn ids_comments_blank_lines_and_repetitions_are_read() {
        let text = format!("# friends\n\n{A} # Ada\r\n\t {B}\n{A}\n#{B}#\n");
        assert_eq!(parsed(&text).unwrap(), HashSet::from([A.parse().unwrap(), B.parse().unwrap()]));
        assert!(parsed("").unwrap().is_empty());
    }

    #[test]
    fn a_wrong_line_is_named_by_its_number_and_shown_in_part() {
        for (text, line, shown) in [
            (format!("{A}\n\n{B}x\n"), 3, &B[..20]),
            (format!("{A} {B}"), 1, &A[..20]),
            ("#\nAda\u{1b}[31m".to_owned(), 2, "Ada\\u{1b}[31m"),
            ("y".repeat(5000), 1, "yyyy"),
        ] {
            let error = parsed(&text).unwrap_err().to_string();
            assert!(error.contains(&format!("allowed, line {line}: `{shown}")), "{error}");
            assert!(error.len() < 400, "{error}");
        }
    }

    #[test]
    fn there_is_a_most_of_peers() {
        let peers = |count| (0..count).map(|_| format!("{}\n", PeerId::random())).collect::<String>();
        assert_eq!(parsed(&peers(ALLOW_MAX)).unwrap().len(), ALLOW_MAX);
        let error = parsed(&peers(ALLOW_MAX + 1)).unwrap_err();
        assert!(matches!(error, AllowError::TooMany { .. }), "{error}");
    }

    #[test]
    fn a_file_that_is_none_or_anybody_s_or_huge_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("allowed");
        assert!(matches!(read(&path, &NamesFile::default()), Err(AllowError::Io { .. })));
        assert!(matches!(
            read(directory.path(), &NamesFile::default()),
            Err(AllowError::NotAFile { .. })
        ));
        fs::write(&path, format!("{A}\n\u{0}\u{ff}")).unwrap();
        assert!(matches!(read(&path, &NamesFile::default()), Err(AllowError::Line { line: 2, .. })));
        fs::write(&path, [0xff, 0xfe]).unwrap();
        assert!(matches!(read(&path, &NamesFile::default()), Err(AllowError::Line { line: 1, .. })));
        fs::write(&path, A).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o664)).unwrap();
        assert_eq!(read(&path, &NamesFile::default()).unwrap().len(), 1);
        fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
        let error = read(&path, &NamesFile::default()).unwrap_err().to_string();
        assert!(error.contains(&format!("chmod o-w {}", path.display())), "{error}");
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "#".repeat(ALLOW_FILE_BYTES_MAX as usize + 1)).unwrap();
        assert!(matches!(read(&path, &NamesFile::default()), Err(AllowError::Oversized { .. })));
    }

    #[test]
    fn a_name_stands_for_its_peer_and_an_unknown_one_is_named_by_its_line() {
        let directory = tempfile::tempdir().unwrap();
        let names = NamesFile::at(directory.path().join("peers.toml"));
        fs::write(names.path(), format!("alice = \"{A}\"\n")).unwrap();
        let parsed = |text: &str| parse(text, Path::new("allowed"), &names);
        let both = HashSet::from([A.parse().unwrap(), B.parse().unwrap()]);
        assert_eq!(parsed(&format!("alice # Ada\n{B}\n")).unwrap(), both);
        let error = parsed("alice\n\nalicia\n").unwrap_err().to_string();
        assert!(
            error.starts_with("allowed, line 3: `alicia` is not a peer id")
                && error.contains("mean alice?")
        );
        fs::write(names.path(), "alice = 5\n").unwrap();
        let error = parsed("alice\n").unwrap_err().to_string();
        assert!(
            error.starts_with("allowed, line 1: ") && error.contains("peers.toml, line 1: "),
            "{error}"
        );
        assert!(parsed(&format!("{B}\n")).is_ok(), "no name is needed");
    }
}
