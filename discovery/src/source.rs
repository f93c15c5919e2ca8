//! What every source can do.

use std::{
    collections::BTreeSet,
    task::{Context, Poll},
};

use libp2p::{Multiaddr, PeerId};

use crate::hint::Hint;

/// Finds peers.
pub trait Lookup: Send {
    /// These peers are sought from now on, and no others. `new` is the one that was not before.
    fn seek(&mut self, sought: &BTreeSet<PeerId>, new: PeerId);

    /// These peers are sought from now on, and no others. `gone` is the one that is not any more.
    fn forget(&mut self, sought: &BTreeSet<PeerId>, gone: PeerId) {
        let _ = (sought, gone);
    }

    /// The next hint, about whomever. What is known without waiting is ready as soon as its peer is sought.
    fn poll_hint(&mut self, cx: &mut Context<'_>) -> Poll<Hint>;
}

/// Tells others where this node is.
pub trait Publish: Send {
    /// This node listens here from now on, and nowhere else.
    fn publish(&mut self, addresses: &[Multiaddr]);

    /// Others reach this node at these addresses, from farther away: confirmed ones, and circuits through relays.
    fn reachable(&mut self, addresses: &[Multiaddr]) {
        let _ = addresses;
    }
}
