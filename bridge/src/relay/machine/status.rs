//! How much is under way, and how full the limits are.

use super::Machine;
use crate::{relay::Load, status::LimitStatus};

impl Machine {
    pub(in crate::relay) fn load(&self) -> Load {
        let (held, kept) = self.reservations.counts();
        let (open, waiting) = self.circuits.counts();
        Load {
            connections: self.connections.counts().1,
            reservations: held,
            kept,
            circuits: open,
            circuits_waiting: waiting,
        }
    }

    /// Those of the whole relay: those of one peer or address are asked before them, and turn away only that one.
    pub(in crate::relay) fn limits(&self) -> Vec<LimitStatus> {
        let (handshakes, connections) = self.connections.counts();
        let (held, kept) = self.reservations.counts();
        let (open, waiting) = self.circuits.counts();
        let (handshakes_max, connections_max) = self.connections.limits();
        vec![
            LimitStatus::new("reservations", held + kept, self.reservations.limit()),
            LimitStatus::new("circuits", open + waiting, self.circuits.limit()),
            LimitStatus::new("connections", connections, connections_max),
            LimitStatus::new("handshakes", handshakes, handshakes_max),
        ]
    }
}
