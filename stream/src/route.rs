//! What a stream must know of the way that a leg takes.

use std::fmt::Debug;

use crate::pulse::Pulse;

/// The way that a leg takes, described by whoever brings the leg: for instance a connection and its path.
pub trait Route: Clone + Debug + Send + Sync + 'static {
    /// Whether nobody forwards what is sent: bytes are counted by this.
    fn is_direct(&self) -> bool;

    /// When anything was last heard on this route; shared by all streams that run over it.
    fn pulse(&self) -> &Pulse;

    /// So many bytes of payload were sent or received on a route that is not direct.
    fn relayed(&self, _bytes: usize) {}
}
