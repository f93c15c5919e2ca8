//! Where an exposed service leads: a program that knows nothing of us, reached by TCP or a Unix socket.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use libp2p::PeerId;
use punchline_bridge::{addr::synthetic_socket_addr, error::Refusal};
use tokio::{
    net::{TcpSocket, UnixStream, lookup_host},
    time::timeout,
};

use super::socket::Socket;
use crate::cli::SocketName;

/// For a target to accept. 5 s: a neighbour that does not answer two SYNs is not there, and the far
/// side's own deadline (8 s) leaves room for the answer to travel.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);

/// Why a target was not reached.
#[derive(Debug, thiserror::Error)]
pub(super) enum TargetError {
    /// Nobody listens there.
    #[error("connection refused by the target; is the program running, and does it listen there?")]
    Refused,
    /// The system cannot get there.
    #[error("{0}; check the address")]
    Unreachable(io::Error),
    /// No answer.
    #[error("no answer within {} s", deadline.as_secs_f32())]
    Deadline {
        /// How long we waited.
        deadline: Duration,
    },
}

impl TargetError {
    /// What the far side is told.
    pub(super) fn refusal(&self) -> Refusal {
        match self {
            Self::Refused => Refusal::TargetRefused,
            Self::Unreachable(_) | Self::Deadline { .. } => Refusal::TargetUnreachable,
        }
    }
}

impl From<io::Error> for TargetError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Self::Refused,
            _ => Self::Unreachable(error),
        }
    }
}

/// Connects to the target on behalf of a peer. If that is on this machine's IPv4 loopback, each peer
/// comes from [its own address](source).
///
/// # Errors
/// If nothing accepts within [`CONNECT_DEADLINE`].
pub(super) async fn connect(target: &SocketName, peer: PeerId) -> Result<Socket, TargetError> {
    connect_within(CONNECT_DEADLINE, target, peer).await
}

async fn connect_within(
    deadline: Duration,
    target: &SocketName,
    peer: PeerId,
) -> Result<Socket, TargetError> {
    let connecting = async {
        match target {
            SocketName::Unix(path) => UnixStream::connect(path).await.map(Socket::from),
            SocketName::Tcp { host, port } => connect_tcp(host, *port, peer).await,
        }
    };
    Ok(timeout(deadline, connecting).await.map_err(|_| TargetError::Deadline { deadline })??)
}

async fn connect_tcp(host: &str, port: u16, peer: PeerId) -> io::Result<Socket> {
    let mut failure = io::Error::other("the name has no address");
    for address in lookup_host((host, port)).await? {
        match connect_to(address, peer).await {
            Ok(socket) => return Ok(socket),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

async fn connect_to(address: SocketAddr, peer: PeerId) -> io::Result<Socket> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    if address.is_ipv4() && address.ip().is_loopback() {
        // Not every system lets us use all of 127/8; the address it chooses then serves, too.
        if let Err(error) = socket.bind((source(&peer), 0).into()) {
            tracing::debug!(%error, "no source address of its own for this peer");
        }
    }
    socket.connect(address).await.map(Socket::from)
}

/// The loopback address that a peer's connections come from: always the same, within 127/8, and neither
/// 127.0.0.1 nor near it. Programs tell their clients apart by IP address (kaspad takes two pending
/// handshakes and one connection from each), and all of ours would look the same.
pub(super) fn source(peer: &PeerId) -> Ipv4Addr {
    let SocketAddr::V6(stable) = synthetic_socket_addr(peer) else { return Ipv4Addr::LOCALHOST };
    let [.., b, c, d] = stable.ip().octets();
    // 1 to 254: 127.0.x.x is where programs of this machine are, and 255 may mean a broadcast.
    Ipv4Addr::new(127, 1 + b % 254, c, 1 + d % 254)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::HashSet;

    use tokio::net::{TcpListener, UnixListener};

    use super::*;

    fn peer(seed: u8) -> PeerId {
        libp2p::identity::Keypair::ed25519_from_bytes([seed; 32]).unwrap().public().to_peer_id()
    }

    #[test]
    fn every_peer_has_a_loopback_address_of_its_own_and_keeps_it() {
        let all: HashSet<Ipv4Addr> = (0..200).map(|seed| source(&peer(seed))).collect();
        assert_eq!(all.len(), 200);
        for address in all {
            let [first, second, _, last] = address.octets();
            assert!(first == 127 && second != 0 && !matches!(last, 0 | 255), "{address}");
        }
        let fixed = "12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp".parse().unwrap();
        assert_eq!(source(&fixed), source(&fixed));
    }

    #[tokio::test]
    async fn a_loopback_target_sees_the_peers_own_address() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = listener.local_addr().unwrap().to_string().parse().unwrap();
        for seed in [1, 2, 1] {
            let _socket = connect(&target, peer(seed)).await.unwrap();
            let (_, from) = listener.accept().await.unwrap();
            assert_eq!(from.ip(), source(&peer(seed)));
        }
    }

    #[tokio::test]
    async fn a_dead_target_is_refused_and_a_missing_one_unreachable() {
        let directory = tempfile::tempdir().unwrap();
        let stale = directory.path().join("stale");
        drop(UnixListener::bind(&stale).unwrap());
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        for (target, refusal) in [
            (free.to_string(), Refusal::TargetRefused),
            (format!("unix:{}", stale.display()), Refusal::TargetRefused),
            (format!("unix:{}/none", directory.path().display()), Refusal::TargetUnreachable),
        ] {
            let error = connect(&target.parse().unwrap(), peer(1)).await.unwrap_err();
            assert_eq!(error.refusal(), refusal, "{target}: {error}");
        }
    }

    #[tokio::test]
    async fn a_target_that_does_not_answer_is_given_up_at_the_deadline() {
        // A listener whose queue is full drops what comes next.
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(0).unwrap();
        let address = listener.local_addr().unwrap();
        let _queued = std::net::TcpStream::connect(address).unwrap();
        let deadline = Duration::from_millis(300);
        let connecting = connect_within(deadline, &address.to_string().parse().unwrap(), peer(1)).await;
        let error = connecting.unwrap_err();
        assert_eq!(error.to_string(), "no answer within 0.3 s");
        assert_eq!(error.refusal(), Refusal::TargetUnreachable);
    }
}
