//! The side that asks: finds the socket of a running node, and its answers.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};

use super::{SUFFIX, proto::node_client::NodeClient};
use crate::{
    cli::{Asking, ControlSocket},
    identity,
};

/// For a node to answer; one under full load does within a second, and it gives a peer 5 s.
const ANSWER_DEADLINE: Duration = Duration::from_secs(8);

/// Sockets that are looked at when none is named.
const SOCKETS_MAX: usize = 64;

/// Why nobody answers.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    /// None of the usual places has a node that answers.
    #[error("no node answers in {}; start one, or name its socket with --control PATH", place.display())]
    NoNode {
        /// Where was looked.
        place: PathBuf,
    },
    /// More than one answers, and it was not said which is meant.
    #[error("several nodes run here: {}; say which with --node NAME", names.join(", "))]
    Several {
        /// Their names.
        names: Vec<String>,
    },
    /// The one that is meant does not answer.
    #[error("no node answers at {}: {cause}; is it running?", path.display())]
    Silent {
        /// Its socket.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// The user has no home.
    #[error("{0}")]
    Nowhere(#[from] identity::IdentityError),
}

/// For an answer for which the node asks others in the DHT: it gives a lookup 10 s, and may need two.
#[cfg(feature = "kad")]
const LOOKUP_DEADLINE: Duration = Duration::from_secs(30);

/// As [`ask`], for questions that the node asks others in the DHT.
///
/// # Errors
/// As [`ask`].
#[cfg(feature = "kad")]
pub(crate) async fn ask_for_lookups(asking: &Asking) -> Result<Asked, AskError> {
    client(found(asking).await?, LOOKUP_DEADLINE)
}

/// A node that was found.
pub(crate) type Asked = NodeClient<Channel>;

/// Finds the node that is meant. Without a word on which it is, the only one that answers.
///
/// # Errors
/// If none answers, or several do.
pub(crate) async fn ask(asking: &Asking) -> Result<Asked, AskError> {
    client(found(asking).await?, ANSWER_DEADLINE)
}

async fn found(asking: &Asking) -> Result<UnixStream, AskError> {
    match (&asking.node, &asking.control, &asking.identity) {
        (None, Some(ControlSocket::At(path)), _) => return connect(path).await,
        (None, _, Some(identity)) => {
            let mut path = identity.canonicalize().unwrap_or_else(|_| identity.clone()).into_os_string();
            path.push(SUFFIX);
            return connect(Path::new(&path)).await;
        }
        _ => {}
    }
    let place = identity::default_path("")?;
    if let Some(name) = &asking.node {
        let named = sockets(&place).into_iter().find(|path| name_of(path) == *name);
        let path = named.unwrap_or_else(|| place.join(socket_of(name)));
        return connect(&path).await;
    }
    let mut found = Vec::new();
    for path in sockets(&place) {
        if let Ok(socket) = connect(&path).await {
            found.push((name_of(&path), socket));
        }
    }
    found.sort_by(|(one, _), (other, _)| one.cmp(other));
    match found.len() {
        1 => Ok(found.remove(0).1),
        0 => Err(AskError::NoNode { place }),
        _ => Err(AskError::Several { names: found.into_iter().map(|(name, _)| name).collect() }),
    }
}

async fn connect(path: &Path) -> Result<UnixStream, AskError> {
    let silent = |cause| AskError::Silent { path: path.to_owned(), cause };
    match tokio::time::timeout(ANSWER_DEADLINE, UnixStream::connect(path)).await {
        Ok(connected) => connected.map_err(silent),
        Err(late) => Err(silent(late.into())),
    }
}

fn client(socket: UnixStream, deadline: Duration) -> Result<Asked, AskError> {
    let mut socket = Some(socket);
    let connector = tower::service_fn(move |_: Uri| {
        let socket = socket.take().map(TokioIo::new);
        async move { socket.ok_or_else(|| io::Error::other("the node has gone")) }
    });
    // The name stands for the socket, and is never looked up.
    let endpoint = Endpoint::from_static("http://node").timeout(deadline);
    Ok(NodeClient::new(endpoint.connect_with_connector_lazy(connector)))
}

fn sockets(place: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(place).into_iter().flatten().flatten().map(|entry| entry.path());
    let is_socket =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().ends_with(SUFFIX));
    entries.filter(is_socket).take(SOCKETS_MAX).collect()
}

/// `identity-forward.sock` is of the node called `forward`, and `identity.sock` of `expose`, whose identity it is.
fn name_of(path: &Path) -> String {
    let file = path.file_name().unwrap_or_default().to_string_lossy();
    let stem = file.strip_suffix(SUFFIX).unwrap_or(&file);
    match stem.strip_prefix("identity") {
        Some("") => "expose".to_owned(),
        Some(rest) => rest.trim_start_matches('-').to_owned(),
        None => stem.to_owned(),
    }
}

fn socket_of(name: &str) -> String {
    match name {
        "expose" | "run" => format!("identity{SUFFIX}"),
        name => format!("identity-{name}{SUFFIX}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_called_after_its_command() {
        for name in ["expose", "forward", "server", "client"] {
            assert_eq!(name_of(Path::new("/state").join(socket_of(name)).as_path()), name);
        }
        assert_eq!(name_of(Path::new("/state/alice.sock")), "alice");
    }

    #[test]
    fn of_a_folder_with_many_sockets_some_are_asked() {
        let folder = tempfile::tempdir().expect("a folder");
        for number in 0..2 * SOCKETS_MAX {
            fs::write(folder.path().join(format!("{number}{SUFFIX}")), "").expect("a file");
        }
        fs::write(folder.path().join("identity"), "").expect("a file");
        assert_eq!(sockets(folder.path()).len(), SOCKETS_MAX);
    }
}
