//! Who speaks first on a connection of TCP that both ends dial.

use libp2p::PeerId;

use super::{Upgrades, schedule::ROUNDS_MAX, verdict::Claims};
use crate::engine::input::Role;

/// The round of a row in which the roles are turned with peers of others. The specification has the end that made the circuit
/// speak first; go-libp2p before 0.41 has the other one do so, and later ones turn the roles in this round to meet it. A peer
/// that never turns loses one round of four.
const TURNED: u32 = 3;

impl Upgrades {
    /// The `usual` role of this end, or the other one where it is time to try that.
    pub(in crate::engine::paths) fn role_in_turn(&self, peer: PeerId, usual: Role) -> Role {
        // Ours say something of themselves as soon as they know it.
        let Some(upgrade) = self.peers.get(&peer) else { return usual };
        let of_others = upgrade.findings.theirs == Claims::default();
        if !of_others || upgrade.attempts % ROUNDS_MAX != TURNED {
            return usual;
        }
        match usual {
            Role::Dialer => Role::Listener,
            Role::Listener => Role::Dialer,
            Role::Caller => Role::Caller,
        }
    }
}
