//! What an upgrade wants done.

use libp2p::Multiaddr;

use crate::{engine::input::Exchange, path::ConnectionId};

/// What is due for a peer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// Ask for its addresses.
    Begin,
    /// Answer its offer.
    Answer(Exchange),
    /// Dial these as the beginner does.
    Dial(Vec<Multiaddr>),
    /// Call at these.
    Call(Vec<Multiaddr>),
    /// The answer is late: ask on another circuit than this, if there is one.
    Elsewhere(ConnectionId),
    /// Nothing more comes: say why.
    Settle,
}
