//! How relays see us over each transport.
//!
//! A link to a relay is over TCP or QUIC, whichever was first, and shows the relay where one of our two ports comes from.
//! A punch may need the other port: a peer whose network lets no TCP out is met over QUIC alone. So when there is somebody
//! to punch to, relays are dialled by the other transport as well, if they have an address for it. What they see
//! comes by identify as ever. At a relay that keeps a place for us the connection stays, and with it what the NAT
//! maps for it, so that the next peer is punched over both at once; at others it is closed as any unused one.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use libp2p::PeerId;

use crate::{
    addr::transport_of,
    engine::{Engine, input::Action},
    path::Transport,
};

/// Between two such dials to one relay by one transport.
const INTERVAL: Duration = Duration::from_secs(30);

/// When relays were last dialled for it. Bounded by the relays in use.
#[derive(Debug, Default)]
pub(crate) struct Sights {
    dialled: BTreeMap<(PeerId, Transport), Instant>,
}

impl Sights {
    fn take(&mut self, relay: PeerId, transport: Transport, now: Instant) -> bool {
        self.dialled.retain(|_, at| now.saturating_duration_since(*at) < INTERVAL);
        let fresh = !self.dialled.contains_key(&(relay, transport));
        if fresh {
            self.dialled.insert((relay, transport), now);
        }
        fresh
    }
}

impl Engine {
    /// Lets relays see us over the transports that they do not see us over yet.
    pub(in crate::engine) fn be_seen_over_each_transport(&mut self, now: Instant) {
        if self.stopping.is_some() {
            return;
        }
        for (relay, _) in self.relays.all_ready() {
            for transport in [Transport::Tcp, Transport::Quic] {
                let mut addresses = self.relays.addresses(relay);
                addresses.retain(|address| transport_of(address) == transport);
                if !addresses.is_empty()
                    && self.candidates.listens_over(transport)
                    && !self.connections.has_direct_over(relay, transport)
                    && self.sights.take(relay, transport, now)
                {
                    let dial = self.next_dial();
                    self.actions.push_back(Action::Dial { dial, peer: relay, addresses });
                }
            }
        }
    }
}
