//! Who the far side is: what the transport proved, and the id Kaspa speaks of.

use std::net::{IpAddr, SocketAddr};

use tonic::Extensions;
use uuid::{Uuid, uuid};

/// Namespace of our Kaspa ids. Changing it changes the id of every node.
const NAMESPACE: Uuid = uuid!("6d7c1f0e-52a1-4c57-9b0e-3f6f2a5f8d41");

/// The Kaspa id of the node whose libp2p peer id has these bytes.
///
/// A UUID v5, so it is the same after every restart, and whoever knows the authenticated peer
/// id can check the claim. (Upstream draws a random id at every start.)
pub fn kaspa_id(peer_id_bytes: &[u8]) -> Uuid {
    Uuid::new_v5(&NAMESPACE, peer_id_bytes)
}

/// What the transport knows about the far side of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remote {
    /// The bytes of the peer id that the transport authenticated; `None` on a bare socket.
    pub peer_id_bytes: Option<Vec<u8>>,
    /// The far side's address, or one that stands for it on a relayed path.
    pub address: SocketAddr,
}

impl Remote {
    /// The remote that [`Accepted`](crate::transport::Accepted) attached to a call.
    pub fn from_extensions(extensions: &Extensions) -> Option<Self> {
        extensions.get::<Self>().cloned()
    }

    pub(crate) fn origin(&self) -> Origin {
        match &self.peer_id_bytes {
            Some(bytes) => Origin::Authenticated(bytes.clone()),
            None => Origin::Address(self.address.ip()),
        }
    }
}

/// Where a connection comes from, as far as that can be known: never its path, so a peer is
/// the same whichever path it came by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Origin {
    Authenticated(Vec<u8>),
    Address(IpAddr),
}

/// What makes two connections the same peer: upstream's (id, ip), with the authenticated
/// identity in place of the ip where there is one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct PeerKey {
    pub(crate) id: Uuid,
    pub(crate) origin: Origin,
}

/// Who opened the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// We dialled.
    Outbound,
    /// The peer dialled.
    Inbound,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kaspa_id_is_stable_across_restarts_and_differs_between_peers() {
        assert_eq!(kaspa_id(b"peer one"), uuid!("b3e61335-e7f2-501e-b7e9-59e82e87f4d2"));
        assert_ne!(kaspa_id(b"peer one"), kaspa_id(b"peer two"));
        assert_eq!(kaspa_id(b"peer one").get_version_num(), 5);
    }
}
