//! What two ends say to each other before they dial at the same moment.

use libp2p::Multiaddr;
use serde::{Deserialize, Serialize};

use crate::{error::Family, nat::NatKinds, path::ConnectionId};

/// One exchange of addresses on a relayed connection. What is said in an older one is not taken for a word
/// in a later one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Exchange {
    pub(crate) connection: ConnectionId,
    /// Counted where the exchange begins at this end: by the engine where it asks, by the connection's handler
    /// where the peer asks. A connection has exchanges of one kind only.
    pub(crate) number: u64,
}

/// Who speaks first on a connection that both ends dial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// This end.
    Dialer,
    /// The peer, although this end dials too.
    Listener,
    /// This end, which dials from any port: the peer may let in whoever calls.
    Caller,
}

/// What one end of a relayed connection says of itself before a punch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Offer {
    /// Where it may be reached.
    pub(crate) candidates: Vec<Multiaddr>,
    pub(crate) nat: NatKinds,
    /// One of the candidates over IPv4 lets anybody in.
    pub(crate) open: bool,
    /// Likewise over IPv6.
    #[serde(default)]
    pub(crate) open_v6: bool,
    /// Those of the candidates that are mapped at a router.
    #[serde(default)]
    pub(crate) mapped: Vec<Multiaddr>,
}

impl Offer {
    /// Whether one of the candidates of this family lets anybody in.
    pub(crate) fn is_open(&self, family: Family) -> bool {
        match family {
            Family::V4 => self.open,
            Family::V6 => self.open_v6,
        }
    }
}
