//! One process at a time runs as an identity: two with the same key take each other's connections and
//! reservations, since peers and relays cannot tell them apart.
//!
//! The claim is an advisory lock on the identity file itself: it works on a file that may only be read, in
//! a directory that may not be written to, and ends with the process, however that ends.

use std::{
    fs::{File, TryLockError},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use super::IdentityError;

/// A predecessor that was just told to stop, or killed, may take this long to be gone.
const WAIT_MAX: Duration = Duration::from_secs(2);

const POLL: Duration = Duration::from_millis(20);

/// The right to run as an identity.
///
/// # Drop
/// Gives it back.
#[derive(Debug)]
pub struct Claim(#[expect(dead_code, reason = "it is open for as long as the lock is held")] File);

/// Another process runs as this identity.
#[derive(Debug, thiserror::Error)]
#[error("{} is in use by {}; two nodes with one identity would take each other's connections. Give this one an identity of its own with --identity <another file>, or let one process do the work of both: punchline run --config <file>", path.display(), named(*holder))]
pub struct InUse {
    /// The identity.
    pub path: PathBuf,
    /// The process, if the system tells.
    pub holder: Option<u32>,
}

fn named(holder: Option<u32>) -> String {
    holder.map_or("another process".to_owned(), |pid| format!("process {pid}"))
}

/// Why an identity cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// Another process has it.
    #[error(transparent)]
    InUse(#[from] InUse),
    /// The file cannot be read.
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

/// Claims the identity in a file that exists; waits a moment for a process that has it and is ending.
///
/// # Errors
/// If another process has it.
pub fn claim(path: &Path) -> Result<Claim, ClaimError> {
    claim_within(WAIT_MAX, path)
}

fn claim_within(wait_max: Duration, path: &Path) -> Result<Claim, ClaimError> {
    let unreadable = |cause| IdentityError::Io { doing: "read", path: path.to_owned(), cause };
    let file = File::open(path).map_err(unreadable)?;
    let began = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Claim(file)),
            Err(TryLockError::WouldBlock) if began.elapsed() < wait_max => thread::sleep(POLL),
            Err(TryLockError::WouldBlock) => {
                return Err(InUse { path: path.to_owned(), holder: holder(&file) }.into());
            }
            // Some file systems have no locks. That is no reason not to run.
            Err(TryLockError::Error(error)) => {
                tracing::debug!(%error, "this file system cannot tell whether the identity is in use");
                return Ok(Claim(file));
            }
        }
    }
}

/// The process that has the lock, where the system tells.
fn holder(file: &File) -> Option<u32> {
    let metadata = file.metadata().ok()?;
    let device = metadata.dev();
    let device = format!("{:02x}:{:02x}", rustix::fs::major(device), rustix::fs::minor(device));
    holder_in(&std::fs::read_to_string("/proc/locks").ok()?, &device, metadata.ino())
}

/// Finds a lock in the text of `/proc/locks`. File systems with layers tell another device there than
/// the file does, and so the file's number alone is good enough if nothing fits better.
fn holder_in(locks: &str, device: &str, inode: u64) -> Option<u32> {
    let mut second_best = None;
    for line in locks.lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [_, "FLOCK", _, "WRITE", pid, place, ..] = fields.as_slice() else { continue };
        let Some((found_device, found_inode)) = place.rsplit_once(':') else { continue };
        let pid = pid.parse().ok().filter(|pid| *pid > 0);
        match found_inode.parse() == Ok(inode) {
            true if found_device == device => return pid,
            true => second_best = second_best.or(pid),
            false => {}
        }
    }
    second_best
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    const LOCKS: &str = "\
1: POSIX  ADVISORY  WRITE 100 08:01:77 0 EOF
2: FLOCK  ADVISORY  WRITE 101 08:02:77 0 EOF
3: FLOCK  ADVISORY  WRITE 102 08:01:77 0 EOF
3: -> FLOCK  ADVISORY  WRITE 103 08:01:77 0 EOF
4: FLOCK  ADVISORY  READ 104 08:01:78 0 EOF
5: FLOCK  ADVISORY  WRITE 0 08:01:79 0 EOF
";

    #[test]
    fn the_holder_of_a_lock_is_the_one_of_that_file_on_that_device() {
        assert_eq!(holder_in(LOCKS, "08:01", 77), Some(102));
        assert_eq!(holder_in(LOCKS, "00:3f", 77), Some(101));
        assert_eq!(holder_in(LOCKS, "08:01", 78), None, "who reads claims nothing");
        assert_eq!(holder_in(LOCKS, "08:01", 79), None, "a process of another container");
        assert_eq!(holder_in("nonsense\n1: FLOCK\n", "08:01", 77), None);
    }

    #[test]
    fn a_second_claim_says_who_has_the_first_and_succeeds_when_that_is_gone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("identity");
        super::super::load_or_create(&path).unwrap();
        // Neither may be written to.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o500)).unwrap();
        let first = claim(&path).unwrap();
        let error = claim_within(Duration::ZERO, &path).unwrap_err().to_string();
        assert!(error.contains(&path.display().to_string()) && error.contains("--identity"), "{error}");
        if cfg!(target_os = "linux") {
            assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
        }
        let waiting = thread::spawn({
            let path = path.clone();
            move || claim_within(Duration::from_secs(10), &path).is_ok()
        });
        drop(first);
        assert!(waiting.join().unwrap());
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o700)).unwrap();
    }
}
