//! What this network seems to block, judged by how relays can be reached.

use libp2p::PeerId;

use crate::{
    engine::{Engine, input::Opened},
    event::{Blocked, Event},
    path::Transport,
};

impl Engine {
    /// A WebSocket takes the most round trips and begins last: where it is first to be there, the rest seems blocked.
    pub(in crate::engine) fn note_blocked(&mut self, opened: &Opened) {
        let Opened { peer, transport, dial, .. } = *opened;
        match transport {
            _ if dial.is_none() => {}
            Transport::Websocket => self.blocks(peer, self.relays.passed_over(peer, transport)),
            Transport::Tcp => self.blocked.retain(|blocked| *blocked != Transport::Tcp),
            Transport::Quic => self.blocked.clear(),
        }
    }

    /// A relay that is there over TCP says that it answers over UDP, too. Where no answer comes, UDP seems blocked.
    pub(in crate::engine) fn note_udp(&mut self, answered: bool) {
        if answered {
            return self.blocked.retain(|blocked| *blocked != Transport::Quic);
        }
        let relay = |link| Some(self.connections.get(link)?.peer);
        let Some(relay) = self.nat.offering().find_map(relay) else { return };
        let over_quic = |relay| self.connections.direct_over(relay, Transport::Quic).next().is_some();
        if self.relays.all_ready().into_iter().any(|(relay, _)| over_quic(relay)) {
            return;
        }
        let mut blocked = self.blocked.clone();
        if !blocked.contains(&Transport::Quic) {
            blocked.push(Transport::Quic);
        }
        self.blocks(relay, blocked);
    }

    fn blocks(&mut self, relay: PeerId, transports: Vec<Transport>) {
        if transports != self.blocked && !transports.is_empty() {
            let what = Blocked::of(&transports);
            self.events.push_back(Event::NetworkBlocks { relay, transports: transports.clone(), what });
        }
        self.blocked = transports;
    }
}
