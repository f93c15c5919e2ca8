//! Connections that are there.

use libp2p::{Multiaddr, PeerId};
use serde::{Deserialize, Serialize};

use super::{CircuitLimit, DialId};
use crate::path::{ConnectionId, Direction, Path, Transport};

/// A connection as the swarm reports it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Opened {
    pub(crate) connection: ConnectionId,
    pub(crate) dial: Option<DialId>,
    pub(crate) peer: PeerId,
    #[serde(with = "crate::engine::record::path")]
    pub(crate) path: Path,
    pub(crate) direction: Direction,
    pub(crate) transport: Transport,
    pub(crate) address: Multiaddr,
    /// What the relay lets a circuit carry; none on a direct connection, or if it sets no limit.
    pub(crate) limit: Option<CircuitLimit>,
}
