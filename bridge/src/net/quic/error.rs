//! What goes wrong with QUIC.

use std::io;

use futures_rustls::rustls;
use quinn_proto::{ApplicationClose, ConfigError, ConnectError, ConnectionError, VarInt};

/// Why nobody is listened to, a dial or a handshake failed, or a connection ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A socket cannot be opened, or the interfaces not be watched.
    #[error("{0}")]
    Socket(#[source] io::Error),
    /// A limit of the protocol's machine was exceeded by a setting of ours.
    #[error("{0}")]
    Setting(#[from] ConfigError),
    /// TLS does not take its configuration.
    #[error("{0}")]
    Tls(#[source] rustls::Error),
    /// It was not dialled.
    #[error("{0}")]
    Connect(#[source] ConnectError),
    /// The handshake took too long.
    #[error("the handshake was not over in time")]
    Late,
    /// The handshake is over, and the other end has not shown who it is.
    #[error("{0}")]
    Unknown(#[source] io::Error),
    /// The connection is over, or did not come about.
    #[error("{0}")]
    Connection(#[source] ConnectionError),
    /// The system broke the socket of a listener.
    #[error("its socket broke")]
    Broken,
}

/// Why a substream is not read or written any more.
#[derive(Debug, thiserror::Error)]
pub(super) enum StreamError {
    /// The peer gave up what it was writing.
    #[error("the peer reset the substream ({0})")]
    Reset(VarInt),
    /// The peer reads no more.
    #[error("the peer reads the substream no more ({0})")]
    Stopped(VarInt),
    /// It was closed here.
    #[error("the substream is closed")]
    Closed,
    /// Its connection is over.
    #[error("{0}")]
    Lost(#[source] ConnectionError),
}

/// Said by who closes a connection on purpose, as libp2p does.
pub(super) const IN_ORDER: u32 = 0;

/// Said to a peer that was silent for too long, if it hears that: the connection is over, and not by anybody's wish.
pub(super) const SILENT: u32 = 1;

/// Whether the peer said that it closes the connection.
pub(crate) fn is_in_order(error: &ConnectionError) -> bool {
    matches!(error, ConnectionError::ApplicationClosed(ApplicationClose { error_code, .. })
        if *error_code == IN_ORDER.into())
}
