//! Where a forward listens: a TCP port, or a Unix socket that is its owner's alone.

use std::{io, net::SocketAddr, path::PathBuf};

use tokio::net::{TcpListener, TcpSocket, UnixListener, lookup_host};

use super::socket::Socket;
use crate::{
    cli::SocketName,
    unix_socket::{self, SocketFile, remove_stale},
};

/// Connections that wait to be accepted, while as many are carried as may be. The system may allow fewer
/// (`net.core.somaxconn`). TCP connections beyond it are asked to try again, and are not refused.
const BACKLOG: u32 = 1024;

/// Accepts local connections.
///
/// # Drop
/// Removes the file of a Unix socket.
#[derive(Debug)]
pub(super) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener, SocketFile),
}

/// Why nothing listens.
#[derive(Debug, thiserror::Error)]
pub(super) enum LocalError {
    /// Somebody answers there.
    #[error("another program listens on {name}; stop it, or name another place with --local")]
    InUse {
        /// Where.
        name: SocketName,
    },
    /// Something else lies there.
    #[error("{} is there already and is no socket; move it away, or name another place with --local", path.display())]
    NotASocket {
        /// Where.
        path: PathBuf,
    },
    /// The system refused.
    #[error("cannot listen on {name}: {cause}; name another place with --local")]
    Io {
        /// Where.
        name: SocketName,
        /// What it said.
        cause: io::Error,
    },
}

impl Listener {
    /// Listens. A socket file that nobody answers on any more makes place.
    ///
    /// # Errors
    /// If somebody else listens there, or the system refuses. Must be called on a tokio runtime.
    pub(super) async fn bind(name: &SocketName) -> Result<Self, LocalError> {
        let failed = |cause: io::Error| match cause.kind() {
            io::ErrorKind::AddrInUse => LocalError::InUse { name: name.clone() },
            _ => LocalError::Io { name: name.clone(), cause },
        };
        match name {
            SocketName::Tcp { host, port } => bind_tcp(host, *port).await.map(Self::Tcp).map_err(failed),
            SocketName::Unix(path) => {
                if !remove_stale(path).await.map_err(failed)? {
                    return Err(LocalError::NotASocket { path: path.clone() });
                }
                let (listener, file) = unix_socket::bind(path, BACKLOG).map_err(failed)?;
                Ok(Self::Unix(listener, file))
            }
        }
    }

    /// The next connection.
    pub(super) async fn accept(&self) -> io::Result<Socket> {
        match self {
            Self::Tcp(listener) => listener.accept().await.map(|(socket, _)| socket.into()),
            Self::Unix(listener, _) => listener.accept().await.map(|(socket, _)| socket.into()),
        }
    }

    /// Where it listens, with the real port.
    ///
    /// # Errors
    /// If the system does not know.
    pub(super) fn name(&self) -> io::Result<SocketName> {
        Ok(match self {
            Self::Tcp(listener) => {
                let address = listener.local_addr()?;
                SocketName::Tcp { host: address.ip().to_string(), port: address.port() }
            }
            Self::Unix(_, file) => SocketName::Unix(file.path().to_owned()),
        })
    }
}

/// Listens on the first address of the host that can be listened on.
async fn bind_tcp(host: &str, port: u16) -> io::Result<TcpListener> {
    let mut failure = io::Error::other("the name has no address");
    for address in lookup_host((host, port)).await? {
        match listen_tcp(address) {
            Ok(listener) => return Ok(listener),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

fn listen_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // Connections of a predecessor that are still closing keep nobody from listening.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

    use tokio::net::UnixStream;

    use super::*;

    fn unix(path: &Path) -> SocketName {
        SocketName::Unix(path.to_owned())
    }

    #[tokio::test]
    async fn a_unix_socket_is_its_owners_alone_and_is_removed_at_the_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let listener = Listener::bind(&unix(&path)).await.unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(listener.name().unwrap(), unix(&path));
        drop(listener);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_stale_socket_makes_place_and_a_live_one_or_a_file_does_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        drop(UnixListener::bind(&path).unwrap());
        let live = Listener::bind(&unix(&path)).await.unwrap();
        let error = Listener::bind(&unix(&path)).await.unwrap_err();
        assert!(matches!(error, LocalError::InUse { .. }), "{error}");
        assert!(UnixStream::connect(&path).await.is_ok(), "the live one is untouched");
        drop(live);
        fs::write(&path, "precious").unwrap();
        let error = Listener::bind(&unix(&path)).await.unwrap_err();
        assert!(matches!(error, LocalError::NotASocket { .. }), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"precious");
    }

    #[tokio::test]
    async fn a_successors_socket_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let listener = Listener::bind(&unix(&path)).await.unwrap();
        fs::rename(&path, directory.path().join("moved")).unwrap();
        let successor = Listener::bind(&unix(&path)).await.unwrap();
        drop(listener);
        assert!(path.exists());
        drop(successor);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn port_0_becomes_a_real_one_and_a_taken_one_is_said_to_be_taken() {
        let listener = Listener::bind(&"127.0.0.1:0".parse().unwrap()).await.unwrap();
        let name = listener.name().unwrap();
        assert!(matches!(name, SocketName::Tcp { port: 1.., .. }), "{name}");
        let error = Listener::bind(&name).await.unwrap_err().to_string();
        assert!(error.contains("another program listens") && error.contains("--local"), "{error}");
    }
}
