//! The identity file: created on first use, readable by its owner alone, the same ever after.

mod claim;

pub use self::claim::{Claim, ClaimError, InUse, claim};

use std::{
    fs::{self, Permissions},
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use libp2p::identity::{DecodingError, Keypair};

/// Mode of the identity file: its owner may read and write it, nobody else may do anything.
const MODE: u32 = 0o600;

/// An Ed25519 key takes 68 bytes; nothing much larger is an identity.
const BYTES_MAX: u64 = 64 * 1024;

/// A key that is still being written; what a crash may leave behind.
const DRAFT_PREFIX: &str = ".identity-";

/// Why there is no identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The user has no home, so there is no default place.
    #[error("there is no home directory to keep an identity in; name a file with --identity")]
    NoHome,
    /// It is a directory, or something else that holds no key.
    #[error("{} is not a file; name the file of a private key with --identity", path.display())]
    NotAFile {
        /// What was named.
        path: PathBuf,
    },
    /// Others may read or change the key, and we could forbid it.
    #[error("{} can be read or changed by others (mode {mode:03o}), so it may no longer be yours alone; run: chmod 600 {}", path.display(), path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// Others may read or change the key, and only somebody else could forbid it.
    #[error("{} can be read or changed by others (mode {mode:03o}), and its owner (user {owner}) alone can mend that: mode 0440 or 0640 is enough for us as a member of its group (in Kubernetes: `defaultMode: 0440` for the secret, and `fsGroup` for the pod)", path.display())]
    ExposedByOwner {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
        /// Whose it is.
        owner: u32,
    },
    /// It holds something else.
    #[error("{} is not a libp2p private key ({cause}); move it away to have a new identity made", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        cause: DecodingError,
    },
    /// It is far too large for a key.
    #[error("{} has {bytes} bytes, which is no private key; name the right file with --identity", path.display())]
    Oversized {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
    /// The system refused.
    #[error("cannot {doing} the identity {}: {cause}; name a file of yours with --identity", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
}

/// Where the identity of this name is kept unless told otherwise: below the user's state directory.
///
/// # Errors
/// If the user has no home.
pub fn default_path(name: &str) -> Result<PathBuf, IdentityError> {
    let dirs = directories::ProjectDirs::from("", "", "punchline").ok_or(IdentityError::NoHome)?;
    Ok(dirs.state_dir().unwrap_or_else(|| dirs.data_local_dir()).join(name))
}

/// Reads the identity; makes one if the file does not exist.
///
/// # Errors
/// If others can read the file, it holds no key, or the system refuses.
pub fn load_or_create(path: &Path) -> Result<Keypair, IdentityError> {
    match load(path)? {
        Some(keypair) => Ok(keypair),
        None => create(path),
    }
}

/// Reads the identity; `None` if the file does not exist.
///
/// # Errors
/// If others can read the file, it holds no key, or the system refuses.
pub fn load(path: &Path) -> Result<Option<Keypair>, IdentityError> {
    let failed = |doing| move |cause| IdentityError::Io { doing, path: path.to_owned(), cause };
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(cause) => return Err(failed("read")(cause)),
    };
    if !metadata.is_file() {
        return Err(IdentityError::NotAFile { path: path.to_owned() });
    }
    let (mode, owner) = (metadata.permissions().mode() & 0o777, metadata.uid());
    let ours = owner == rustix::process::geteuid().as_raw();
    match exposed_by(mode, ours, owner == 0) {
        true if ours => return Err(IdentityError::Exposed { path: path.to_owned(), mode }),
        true => return Err(IdentityError::ExposedByOwner { path: path.to_owned(), mode, owner }),
        false => {}
    }
    if metadata.len() > BYTES_MAX {
        return Err(IdentityError::Oversized { path: path.to_owned(), bytes: metadata.len() });
    }
    let bytes = fs::read(path).map_err(failed("read"))?;
    let keypair = Keypair::from_protobuf_encoding(&bytes)
        .map_err(|cause| IdentityError::Malformed { path: path.to_owned(), cause })?;
    Ok(Some(keypair))
}

/// Whether the permissions give the key away. A key of ours is to be ours alone. One that root or somebody
/// else provides may be read by its group, since that is how we are let in to it: so Kubernetes hands
/// secrets to a pod with an `fsGroup`.
fn exposed_by(mode: u32, ours: bool, of_root: bool) -> bool {
    let provided = of_root || !ours;
    mode & if provided { 0o037 } else { 0o077 } != 0
}

/// Writes a new key beside the file and links it into place, so that a crash leaves no half of one and
/// of two that start at once, both use the same.
fn create(path: &Path) -> Result<Keypair, IdentityError> {
    let failed = |doing| move |cause| IdentityError::Io { doing, path: path.to_owned(), cause };
    let keypair = Keypair::generate_ed25519();
    let bytes = keypair
        .to_protobuf_encoding()
        .map_err(|cause| IdentityError::Malformed { path: path.to_owned(), cause })?;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let directory = directory.unwrap_or(Path::new("."));
    fs::create_dir_all(directory).map_err(failed("create the directory of"))?;
    let written = tempfile::Builder::new()
        .prefix(DRAFT_PREFIX)
        .permissions(Permissions::from_mode(MODE))
        .tempfile_in(directory)
        .and_then(|mut draft| {
            draft.write_all(&bytes)?;
            draft.as_file().sync_all()?;
            Ok(draft)
        });
    match written.map_err(failed("write"))?.persist_noclobber(path) {
        Ok(_) => Ok(keypair),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => match load(path)? {
            Some(keypair) => Ok(keypair),
            None => Err(failed("write")(error.error)),
        },
        Err(error) => Err(failed("write")(error.error)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn it_is_created_once_with_mode_0600_and_stays_the_same() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("deep/identity");
        let first = load_or_create(&path).unwrap().public();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(load_or_create(&path).unwrap().public(), first);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no draft is left");
    }

    #[test]
    fn one_that_others_can_read_is_refused_with_the_command_that_mends_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("identity");
        load_or_create(&path).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        let error = load_or_create(&path).unwrap_err().to_string();
        assert!(error.contains(&format!("chmod 600 {}", path.display())), "{error}");
    }

    #[test]
    fn a_key_that_somebody_else_provides_may_be_read_by_its_group_and_by_nobody_else() {
        for (mode, of_ours, provided) in [
            (0o600, false, false),
            (0o400, false, false),
            (0o440, true, false),
            (0o640, true, false),
            (0o660, true, true),
            (0o450, true, true),
            (0o444, true, true),
            (0o604, true, true),
            (0o602, true, true),
        ] {
            assert_eq!(exposed_by(mode, true, false), of_ours, "{mode:o}");
            assert_eq!(exposed_by(mode, false, false), provided, "{mode:o}");
            assert_eq!(exposed_by(mode, true, true), provided, "{mode:o}");
        }
    }

    #[test]
    fn the_remedy_is_one_that_can_be_followed() {
        let path = PathBuf::from("/run/secrets/key");
        let (mode, owner) = (0o444, 0);
        let others = IdentityError::ExposedByOwner { path, mode, owner }.to_string();
        assert!(
            others.contains("user 0") && others.contains("fsGroup") && !others.contains("chmod 600")
        );
    }

    #[test]
    fn garbage_and_something_huge_are_told_apart_and_kept() {
        let directory = tempfile::tempdir().unwrap();
        for (size, wanted) in [(100, "not a libp2p private key"), (100_000, "no private key")] {
            let path = directory.path().join(size.to_string());
            fs::write(&path, vec![7; size]).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
            let error = load_or_create(&path).unwrap_err().to_string();
            assert!(error.contains(wanted), "{error}");
            assert_eq!(fs::read(&path).unwrap().len(), size);
        }
    }

    #[test]
    fn many_that_start_at_once_agree_on_one_identity() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("identity");
        let load = || load_or_create(&path).unwrap().public().to_peer_id();
        let all = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(load)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
        });
        assert!(all.iter().all(|peer| *peer == all[0]));
    }
}
