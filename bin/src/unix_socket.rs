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

/// Removes a socket that nobody answers on. False if something else lies there.
pub(crate) async fn remove_stale(path: &Path) -> io::Result<bool> {
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
    if path.as_os_str().len() > PATH_BYTES_MAX {
        return Err(io::Error::other(format!("the path has more than {PATH_BYTES_MAX} bytes")));
    }
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
