//! Which addresses matter of those that strangers name, and how that changes while the node runs.

use std::{
    net::IpAddr,
    sync::{Arc, PoisonError, RwLock},
};

use libp2p::{Multiaddr, PeerId};

use crate::record::AddressPolicy;

/// Which addresses matter of those that strangers name.
#[derive(Clone)]
pub struct Policy {
    /// Where nodes of the DHT are dialled, and told to others: direct addresses.
    pub dials: Arc<dyn AddressPolicy>,
    /// Which addresses of a peer's contact are handed on to whoever looks for it: circuits too.
    pub hands_on: Arc<dyn AddressPolicy>,
    /// Addresses that belong to no part of the internet, of which there may be any number in one network: labs.
    pub exempt: Arc<dyn Fn(IpAddr) -> bool + Send + Sync>,
}

/// The policy that holds just now: transport, store and table ask the same one.
pub(super) struct Current(Arc<RwLock<Policy>>);

impl Current {
    /// Begins with this one. The second is what says at any time what holds then.
    pub(super) fn new(first: Policy) -> (Self, Policy) {
        let now = Arc::new(RwLock::new(first));
        let holds =
            |now: &Arc<RwLock<Policy>>| now.read().unwrap_or_else(PoisonError::into_inner).clone();
        let (dials, hands_on, exempt) = (now.clone(), now.clone(), now.clone());
        let policy = Policy {
            dials: Arc::new(move |at: &Multiaddr, peer: PeerId| holds(&dials).dials.admits(at, peer)),
            hands_on: Arc::new(move |at: &Multiaddr, peer: PeerId| {
                holds(&hands_on).hands_on.admits(at, peer)
            }),
            exempt: Arc::new(move |ip| (holds(&exempt).exempt)(ip)),
        };
        (Self(now), policy)
    }

    /// This one holds from now on.
    pub(super) fn set(&self, policy: Policy) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = policy;
    }
}
