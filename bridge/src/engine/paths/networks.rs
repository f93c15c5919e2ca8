//! This host gets into another network, or wakes up.

use std::time::{Duration, Instant};

use crate::{
    engine::{
        Engine,
        input::DialId,
        liveness::GIVEN_UP,
        relays::{blocked::Obstacles, sights::Sights},
    },
    error::CloseCause,
};

impl Engine {
    /// What failed or was waited for in the network before says nothing about this one: relays are dialled at once, and
    /// peers looked for. Our router is another one, perhaps, and so is the kind of NAT that we are behind. The dials that
    /// have `begun` in this one go on.
    pub(in crate::engine) fn network_changed(&mut self, begun: &[DialId], now: Instant) {
        if self.stopping.is_some() {
            return;
        }
        self.nat.network_changed(now);
        let connections = &self.connections;
        self.candidates.forget_sights(|relay, transport| {
            let mut links = connections.direct_over(relay, transport);
            links.any(|(id, _)| connections.get(id).is_some_and(|link| !link.is_closing()))
        });
        self.test_stated(now);
        self.outlook_improved();
        self.map_ports_anew();
        self.sights = Sights::default();
        self.obstacles = Obstacles::default();
        self.relays.network_changed(begun, now);
        self.relay_names.network_changed(now);
        for peer in self.connections.forget_demotions() {
            self.place_all(peer, now);
        }
        for key in self.moves.end_all_waits() {
            self.place(key, now);
        }
        for peer in self.holds.missing() {
            self.holds.heard_of(peer, now);
        }
    }

    /// Who slept for longer than the others wait finds nothing but dead connections, and need not try them.
    pub(in crate::engine) fn slept(&mut self, lasted: Duration, now: Instant) {
        if lasted >= GIVEN_UP {
            for connection in self.connections.all_direct() {
                self.close(connection, CloseCause::Slept);
            }
        }
        self.network_changed(&[], now);
    }
}
