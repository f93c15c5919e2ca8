//! Where peers may be found, and the dials under way to find them.
//!
//! A *reach* is one attempt to get any connection to a peer: its direct addresses in one dial, and one
//! circuit through each relay it is known behind. It ends when the last of them has failed.

use std::collections::{BTreeMap, HashMap};

use libp2p::{Multiaddr, PeerId};

use super::input::DialId;
use crate::{
    addr::{RelayAddr, split_circuit},
    error::{DialFailure, DialFailureReason},
};

/// Where a peer may be found.
#[derive(Clone, Debug, Default)]
struct Known {
    direct: Vec<Multiaddr>,
    relays: Vec<RelayAddr>,
}

/// A dial that may be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Direct(Vec<Multiaddr>),
    Circuit(RelayAddr),
}

#[derive(Debug, Default)]
struct Reach {
    /// Ways that [`Dials::begin`] named and nobody has taken yet.
    untaken: usize,
    dialling: HashMap<DialId, Way>,
    awaiting: BTreeMap<PeerId, RelayAddr>,
    failures: Vec<DialFailure>,
}

/// The addresses we know and the reaches under way.
#[derive(Debug)]
pub(crate) struct Dials {
    known: HashMap<PeerId, Known>,
    reaches: HashMap<PeerId, Reach>,
    owners: HashMap<DialId, PeerId>,
    peers_max: usize,
    addresses_max: usize,
}

impl Dials {
    pub(crate) fn new(peers_max: usize, addresses_max: usize) -> Self {
        Self {
            known: HashMap::new(),
            reaches: HashMap::new(),
            owners: HashMap::new(),
            peers_max,
            addresses_max,
        }
    }

    /// Remembers addresses of a peer, up to the limits; a circuit address names a relay it is behind.
    pub(crate) fn learn(&mut self, peer: PeerId, addresses: Vec<Multiaddr>) {
        if !self.known.contains_key(&peer) && self.known.len() >= self.peers_max {
            // A peer that nobody is reaching for makes room: its addresses can be learnt again.
            let idle = self.known.keys().find(|peer| !self.reaches.contains_key(peer)).copied();
            let Some(idle) = idle else { return };
            self.known.remove(&idle);
        }
        let known = self.known.entry(peer).or_default();
        for address in addresses {
            if known.direct.len() + known.relays.len() >= self.addresses_max {
                break;
            }
            match split_circuit(&address) {
                Ok(Some((relay, _))) if !known.relays.contains(&relay) => known.relays.push(relay),
                Ok(None) if !known.direct.contains(&address) => known.direct.push(address),
                _ => {}
            }
        }
    }

    pub(crate) fn is_reaching(&self, peer: PeerId) -> bool {
        self.reaches.contains_key(&peer)
    }

    /// Starts a reach: the ways to take. Empty if nothing is known of the peer.
    pub(crate) fn begin(&mut self, peer: PeerId) -> Vec<Way> {
        let Some(known) = self.known.get(&peer) else { return Vec::new() };
        let mut ways: Vec<Way> = known.relays.iter().cloned().map(Way::Circuit).collect();
        if !known.direct.is_empty() {
            ways.push(Way::Direct(known.direct.clone()));
        }
        if !ways.is_empty() {
            let untaken = ways.len();
            self.reaches.insert(peer, Reach { untaken, ..Reach::default() });
        }
        ways
    }

    pub(crate) fn dialling(&mut self, peer: PeerId, dial: DialId, way: Way) {
        if let Some(reach) = self.reaches.get_mut(&peer) {
            reach.untaken = reach.untaken.saturating_sub(1);
            reach.dialling.insert(dial, way);
            self.owners.insert(dial, peer);
        }
    }

    /// Whether this reach dials a circuit through that relay already.
    pub(crate) fn is_dialling_through(&self, peer: PeerId, relay: PeerId) -> bool {
        let through = |way: &Way| matches!(way, Way::Circuit(address) if address.peer() == relay);
        self.reaches.get(&peer).is_some_and(|reach| reach.dialling.values().any(through))
    }

    /// A way that needs not be taken, since another one that is under way is as good.
    pub(crate) fn skip(&mut self, peer: PeerId) {
        if let Some(reach) = self.reaches.get_mut(&peer) {
            reach.untaken = reach.untaken.saturating_sub(1);
        }
    }

    /// The circuit is dialled once the relay is ready.
    pub(crate) fn await_relay(&mut self, peer: PeerId, relay: RelayAddr) {
        if let Some(reach) = self.reaches.get_mut(&peer) {
            reach.untaken = reach.untaken.saturating_sub(1);
            reach.awaiting.insert(relay.peer(), relay);
        }
    }

    /// The circuits that waited for this relay, by the peer they lead to; each must be taken again.
    pub(crate) fn take_awaiting(&mut self, relay: PeerId) -> Vec<(PeerId, RelayAddr)> {
        let take = |(peer, reach): (&PeerId, &mut Reach)| {
            let address = reach.awaiting.remove(&relay)?;
            reach.untaken += 1;
            Some((*peer, address))
        };
        self.reaches.iter_mut().filter_map(take).collect()
    }

    /// A dial became a connection, or nobody needs it any more.
    pub(crate) fn succeeded(&mut self, dial: DialId) {
        if let Some(peer) = self.owners.remove(&dial)
            && let Some(reach) = self.reaches.get_mut(&peer)
        {
            reach.dialling.remove(&dial);
            self.finish(peer);
        }
    }

    /// Notes a failure; when it was the last way, returns the peer and all failures.
    pub(crate) fn failed(
        &mut self,
        dial: DialId,
        reason: DialFailureReason,
    ) -> Option<(PeerId, Vec<DialFailure>)> {
        let peer = self.owners.remove(&dial)?;
        let reach = self.reaches.get_mut(&peer)?;
        let way = reach.dialling.remove(&dial)?;
        reach.untaken += 1;
        self.way_failed(peer, &way, reason)
    }

    /// As [`Dials::failed`], for a way that could not even be dialled.
    pub(crate) fn way_failed(
        &mut self,
        peer: PeerId,
        way: &Way,
        reason: DialFailureReason,
    ) -> Option<(PeerId, Vec<DialFailure>)> {
        let reach = self.reaches.get_mut(&peer)?;
        reach.untaken = reach.untaken.saturating_sub(1);
        reach.failures.push(DialFailure { way: way.to_string(), reason });
        self.finish(peer).map(|failures| (peer, failures))
    }

    fn finish(&mut self, peer: PeerId) -> Option<Vec<DialFailure>> {
        let reach = self.reaches.get(&peer)?;
        if reach.untaken > 0 || !reach.dialling.is_empty() || !reach.awaiting.is_empty() {
            return None;
        }
        self.reaches.remove(&peer).map(|reach| reach.failures)
    }
}

impl std::fmt::Display for Way {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Direct(addresses) => {
                let texts: Vec<_> = addresses.iter().map(ToString::to_string).collect();
                write!(f, "direct ({})", texts.join(", "))
            }
            Self::Circuit(relay) => write!(f, "through relay {relay}"),
        }
    }
}
