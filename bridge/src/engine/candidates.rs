//! How the outside sees us: the raw addresses that relays observe.
//!
//! libp2p's identify replaces the observed port by our listen port, which behind a NAT that changes
//! ports is an address that nobody answers at. So the raw one is offered as well.

use std::collections::HashMap;

use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};

use crate::{
    addr::{GlobalScope, socket_of, transport_of},
    path::Transport,
};

/// The latest observation of each relay, per transport and family.
#[derive(Debug)]
pub(crate) struct Candidates {
    scope: GlobalScope,
    observed: HashMap<(PeerId, Transport, bool), Multiaddr>,
}

impl Candidates {
    pub(crate) fn new(scope: GlobalScope) -> Self {
        Self { scope, observed: HashMap::new() }
    }

    /// Returns the candidate if `relay` has not said the same before and it may be offered to others.
    pub(crate) fn observed(&mut self, relay: PeerId, observed: &Multiaddr) -> Option<Multiaddr> {
        let socket = socket_of(observed)?;
        if !self.scope.contains(socket.ip()) {
            return None;
        }
        let address: Multiaddr =
            observed.iter().filter(|part| !matches!(part, Protocol::P2p(_))).collect();
        let key = (relay, transport_of(&address), socket.is_ipv6());
        match self.observed.insert(key, address.clone()) {
            Some(before) if before == address => None,
            _ => Some(address),
        }
    }
}
