//! Unix sockets that are their owner's alone.

use std::{
    fs::{self, Metadata, Permissions},
    io,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use rustix::fs::Access;
use tokio::net::{UnixListener, UnixSocket, UnixStream};

/// Mode of a Unix socket: whoever can connect acts in this node's name.
const MODE: u32 = 0o600;

/// Removes a socket that nobody answers on. False if something else lies there, which stays as it is: a file, or a link,
/// wherever it leads.
///
/// # Errors
/// If another program answers there, the path has too many bytes, or the system refuses.
pub(crate) async fn remove_stale(path: &Path) -> io::Result<bool> {
    fits(path)?;
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        Err(error) => return Err(error),
    };
    if !found.file_type().is_socket() {
        return Ok(false);
    }
    match UnixStream::connect(path).await {
        Ok(_) => Err(io::ErrorKind::AddrInUse.into()),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map(|()| true)
        }
        Err(error) => Err(error),
    }
}

/// Whether a socket may be made at this path; leaves no trace.
pub(crate) fn check(path: &Path) -> io::Result<()> {
    fits(path)?;
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => Err(io::Error::other(NO_SOCKET)),
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
            let folder = folder.unwrap_or(Path::new("."));
            // The system refuses in its own words where there is no such folder, or this user may not write there.
            Ok(rustix::fs::access(folder, Access::WRITE_OK | Access::EXEC_OK)?)
        }
        Err(error) => Err(error),
    }
}

fn fits(path: &Path) -> io::Result<()> {
    match path.as_os_str().len() {
        ..=PATH_BYTES_MAX => Ok(()),
        bytes => Err(io::Error::other(format!(
            "the path has {bytes} bytes, and a socket's {PATH_BYTES_MAX} at most"
        ))),
    }
}

/// Why a path cannot become a socket's.
pub(crate) const NO_SOCKET: &str = "something else lies there, which is no socket";

/// `sun_path` has 108 bytes, and ends with a zero.
const PATH_BYTES_MAX: usize = 107;

/// Nobody can connect before `listen`, and by then the mode is set.
pub(crate) fn bind(path: &Path, backlog: u32) -> io::Result<(UnixListener, SocketFile)> {
    let socket = UnixSocket::new_stream()?;
    socket.bind(path)?;
    let file = SocketFile::new(path)?;
    fs::set_permissions(path, Permissions::from_mode(MODE))?;
    Ok((socket.listen(backlog)?, file))
}

/// Our socket in the file system.
///
/// # Drop
/// Removes it, unless another program has put its own in its place.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    inode: (u64, u64),
}

impl SocketFile {
    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn new(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), inode: inode(&fs::symlink_metadata(path)?) })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|found| inode(&found) == self.inode) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn inode(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::symlink;

    use super::*;

    #[tokio::test]
    async fn a_path_that_is_too_long_for_a_socket_is_told_with_how_long_it_may_be() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x".repeat(PATH_BYTES_MAX));
        for refused in [check(&path), remove_stale(&path).await.map(|_| ())] {
            let cause = refused.unwrap_err().to_string();
            assert!(cause.contains("107 at most"), "{cause}");
        }
    }

    #[tokio::test]
    async fn a_link_that_somebody_put_there_is_not_followed_and_what_it_leads_to_stays() {
        let folder = tempfile::tempdir().unwrap();
        let (precious, live) = (folder.path().join("precious"), folder.path().join("live"));
        fs::write(&precious, "mine").unwrap();
        let (_listener, _file) = bind(&live, 1).unwrap();
        for leads_to in [&precious, &live, &folder.path().join("nowhere")] {
            let link = folder.path().join("socket");
            symlink(leads_to, &link).unwrap();
            assert!(check(&link).is_err());
            assert!(!remove_stale(&link).await.unwrap(), "it is no socket");
            assert!(bind(&link, 1).is_err(), "nor is one made through it");
            fs::remove_file(&link).unwrap();
        }
        assert_eq!(fs::read_to_string(&precious).unwrap(), "mine");
        assert!(live.exists() && !folder.path().join("nowhere").exists());
    }

    #[tokio::test]
    async fn a_socket_that_nobody_answers_on_is_replaced_and_one_that_somebody_does_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "its program was killed");
        assert!(remove_stale(&path).await.unwrap() && !path.exists());
        let (_listener, _file) = bind(&path, 1).unwrap();
        let taken = remove_stale(&path).await.unwrap_err();
        assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);
        assert!(path.exists());
    }

    #[tokio::test]
    async fn nobody_else_may_connect_and_the_socket_of_a_later_program_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let (listener, file) = bind(&path, 1).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, MODE);
        fs::rename(&path, folder.path().join("kept")).unwrap();
        let (_later, _its_file) = bind(&path, 1).unwrap();
        drop((listener, file));
        assert!(path.exists(), "it is not ours");
    }
}
