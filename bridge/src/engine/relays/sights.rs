//! How relays see us over each transport and each family of addresses.
//!
//! A link to a relay is over TCP or QUIC and over IPv4 or IPv6, whichever was first, and shows the relay where one of our
//! ports comes from. A punch may need another: a peer whose network lets no TCP out is met over QUIC alone, and one that
//! has no IPv6 address over IPv4. So when there is somebody to punch to, relays are dialled by the others as well, if
//! they have an address for it. What they see comes by identify as ever. At a relay that keeps a place for us the
//! connection stays, and with it what the NAT maps for it, so that the next peer is punched over all at once; at others
//! it is closed as any unused one. Where this host has a public IPv6 address nobody needs to tell it.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};

use crate::{
    addr::{ip_of, transport_of},
    engine::{Engine, input::Action},
    error::Family,
    path::Transport,
};

/// Between two such dials to one relay by one transport.
const INTERVAL: Duration = Duration::from_secs(30);

/// When relays were last dialled for it. Bounded by the relays in use.
#[derive(Debug, Default)]
pub(crate) struct Sights {
    dialled: BTreeMap<(PeerId, Transport, Family), Instant>,
}

impl Sights {
    fn take(&mut self, relay: PeerId, transport: Transport, family: Family, now: Instant) -> bool {
        self.dialled.retain(|_, at| now.saturating_duration_since(*at) < INTERVAL);
        let key = (relay, transport, family);
        let fresh = !self.dialled.contains_key(&key);
        if fresh {
            self.dialled.insert(key, now);
        }
        fresh
    }
}

impl Engine {
    /// Lets relays see us over the transports and families that they do not see us over yet.
    pub(in crate::engine) fn be_seen_over_each_transport(&mut self, now: Instant) {
        if self.stopping.is_some() {
            return;
        }
        for (relay, _) in self.relays.all_ready() {
            for transport in [Transport::Tcp, Transport::Quic] {
                for family in [Family::V4, Family::V6] {
                    self.be_seen_over(relay, transport, family, now);
                }
            }
        }
    }

    fn be_seen_over(&mut self, relay: PeerId, transport: Transport, family: Family, now: Instant) {
        let all = self.relays.addresses(relay).into_iter();
        let fitting = all.filter(|address| transport_of(address) == transport);
        let addresses: Vec<_> = fitting.filter_map(|address| of_family(&address, family)).collect();
        if !addresses.is_empty()
            && self.candidates.needs_sight(transport, family)
            && !self.is_linked_over(relay, transport, family)
            && self.sights.take(relay, transport, family, now)
        {
            let dial = self.next_dial();
            self.actions.push_back(Action::Dial { dial, peer: relay, addresses });
        }
    }

    /// Of a connection by name only the relay knows the family, and says it by where it sees us.
    fn is_linked_over(&self, relay: PeerId, transport: Transport, family: Family) -> bool {
        self.connections.direct_over(relay, transport).any(|(id, address)| {
            let known = ip_of(address).map(Family::of).or_else(|| self.nat.seen_over(id));
            known.is_none_or(|known| known == family)
        })
    }
}

/// The address if it leads there over this family; a name as one that is looked up for this family alone. What TXT
/// records lead to is not known: it is dialled once.
fn of_family(address: &Multiaddr, family: Family) -> Option<Multiaddr> {
    let v4 = family == Family::V4;
    let name = match address.iter().next()? {
        Protocol::Dns(name) if v4 => Protocol::Dns4(name),
        Protocol::Dns(name) => Protocol::Dns6(name),
        first => {
            let fits = match first {
                Protocol::Dns4(_) | Protocol::Dnsaddr(_) => v4,
                Protocol::Dns6(_) => !v4,
                _ => ip_of(address).is_some_and(|ip| Family::of(ip) == family),
            };
            return fits.then(|| address.clone());
        }
    };
    address.replace(0, |_| Some(name.acquire()))
}
