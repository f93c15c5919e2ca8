//! What a tonic handler may know of its caller.

use std::{net::SocketAddr, sync::Arc};

use libp2p::{Multiaddr, PeerId};
use tonic::transport::server::Connected;

use crate::{
    addr::synthetic_socket_addr,
    path::Path,
    service::Service,
    stream::{Stream, StreamFacts, StreamId},
};

/// The facts of the stream that a request came by; found in the request's extensions.
#[derive(Clone, Debug)]
pub struct ConnectInfo {
    facts: Arc<StreamFacts>,
}

impl ConnectInfo {
    /// The caller, authenticated by the connection's handshake.
    pub fn peer(&self) -> PeerId {
        self.facts.peer
    }

    /// The stream's id, the same at both ends.
    pub fn stream(&self) -> StreamId {
        self.facts.stream
    }

    /// The service the stream was opened for.
    pub fn service(&self) -> &Service {
        &self.facts.service
    }

    /// The path the stream was opened on.
    pub fn path_at_open(&self) -> Path {
        self.facts.path_at_open
    }

    /// The path the stream takes now.
    pub fn path(&self) -> Path {
        self.facts.path()
    }

    /// Everything else: bytes by path, moves, and a watch on the connection in use.
    pub fn facts(&self) -> &Arc<StreamFacts> {
        &self.facts
    }

    /// The relay in the middle, if there is one now.
    pub fn relay(&self) -> Option<PeerId> {
        self.path().relay()
    }

    /// The caller's address on the connection in use.
    pub fn remote_address(&self) -> Multiaddr {
        self.facts.route().address
    }

    /// For programs that insist on a socket address: a synthetic one, derived from the peer id alone,
    /// so that a peer keeps it whichever path it comes by. Nothing can be sent to it.
    pub fn socket_addr(&self) -> SocketAddr {
        synthetic_socket_addr(&self.facts.peer)
    }
}

impl Connected for Stream {
    type ConnectInfo = ConnectInfo;

    fn connect_info(&self) -> ConnectInfo {
        ConnectInfo { facts: self.facts().clone() }
    }
}
