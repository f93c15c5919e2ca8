//! From what observers say to the kind of NAT that this node knows itself behind.

use std::time::Instant;

use libp2p::{Multiaddr, PeerId};

use super::nat::{Found, Step};
use crate::{
    engine::{Engine, input::Action},
    event::Event,
    path::ConnectionId,
};

impl Engine {
    /// A relay says that it answers STUN at this port. Only those in use are asked.
    pub(in crate::engine) fn stun_offered(&mut self, id: ConnectionId, port: u16, now: Instant) {
        let Some(connection) = self.connections.get(id) else { return };
        if self.relays.contains(connection.peer) && connection.path.is_direct() {
            let trusted = self.relays.is_chosen(connection.peer);
            self.nat.offered(id, &connection.address, port, trusted, now);
        }
    }

    /// A relay sees a port that we listen on come from there.
    pub(in crate::engine) fn port_observed(
        &mut self,
        id: ConnectionId,
        relay: PeerId,
        observed: &Multiaddr,
    ) {
        self.nat.observed(id, observed, self.relays.is_chosen(relay));
    }

    /// Asks what is to be asked, and tells what is known. A relayed connection may become direct where it could not
    /// before, once the kind is another.
    pub(in crate::engine) fn observe_nat(&mut self, now: Instant) {
        if self.stopping.is_some() {
            return;
        }
        for step in self.nat.poll(now) {
            self.actions.push_back(match step {
                Step::Ask(ask) => Action::AskStun(ask),
                Step::Resolve { run, server } => Action::ResolveStun { run, server },
                Step::Close(run) => Action::CloseStun { run },
            });
        }
        if let Some(answered) = self.nat.take_ended() {
            self.note_udp(answered);
        }
        for found in self.nat.news(&self.candidates.here().interfaces) {
            let Found { family, kind, public, observers, changed } = found;
            self.events.push_back(Event::NatFound {
                family,
                mapping: kind.mapping,
                filtering: kind.filtering,
                nat: kind,
                public_address: public,
                observers,
            });
            if changed {
                self.outlook_improved();
            }
        }
    }
}
