//! What this network seems to block, judged by how relays can be reached.

use std::collections::BTreeMap;

use libp2p::PeerId;

use crate::{
    addr::transport_of,
    engine::{
        Engine,
        input::{Action, DialId, Opened},
    },
    event::{Blocked, Event},
    path::Transport,
};

/// What was seen.
#[derive(Debug, Default)]
pub(crate) struct Obstacles {
    /// What was last said to be blocked.
    blocked: Vec<Transport>,
    /// Dials that will show whether these transports are blocked on the way to a relay; one at a time for each.
    pub(in crate::engine) looks: BTreeMap<PeerId, (DialId, Vec<Transport>)>,
}

impl Obstacles {
    pub(in crate::engine) fn blocked(&self) -> Option<Blocked> {
        (!self.blocked.is_empty()).then(|| Blocked::of(&self.blocked))
    }
}

impl Engine {
    /// A WebSocket takes the most round trips and begins last: where it is first to be there, the rest may be blocked. Or
    /// this host was busy for a moment; so the rest is dialled again, without a rival.
    pub(in crate::engine) fn note_blocked(&mut self, opened: &Opened) {
        let Opened { peer, transport, dial, .. } = *opened;
        if dial.is_some() && transport == Transport::Websocket {
            self.look_again(peer);
        }
    }

    /// A dial to a relay got through.
    pub(in crate::engine) fn note_open(&mut self, dial: DialId, transport: Transport) {
        self.obstacles.looks.retain(|_, (look, _)| *look != dial);
        match transport {
            Transport::Websocket => {}
            Transport::Tcp => self.obstacles.blocked.retain(|blocked| *blocked != Transport::Tcp),
            Transport::Quic => self.obstacles.blocked.clear(),
        }
    }

    fn look_again(&mut self, relay: PeerId) {
        let over = self.relays.passed_over(relay, Transport::Websocket);
        if over.is_empty() || over == self.obstacles.blocked || self.stopping.is_some() {
            return;
        }
        let mut addresses = self.relays.addresses(relay);
        addresses.retain(|address| over.contains(&transport_of(address)));
        let dial = self.next_dial();
        self.obstacles.looks.insert(relay, (dial, over));
        self.actions.push_back(Action::Dial { dial, peer: relay, addresses });
    }

    /// If the dial was such a look, what it was for is blocked.
    pub(in crate::engine) fn look_failed(&mut self, dial: DialId) {
        let looks = &mut self.obstacles.looks;
        let failed = looks.extract_if(.., |_, (look, _)| *look == dial).next();
        if let Some((relay, (_, over))) = failed {
            self.blocks(relay, over);
        }
    }

    /// A relay that is there over TCP says that it answers over UDP, too. Where no answer comes, UDP seems blocked.
    pub(in crate::engine) fn note_udp(&mut self, answered: bool) {
        if answered {
            return self.obstacles.blocked.retain(|blocked| *blocked != Transport::Quic);
        }
        let relay = |link| Some(self.connections.get(link)?.peer);
        let Some(relay) = self.nat.offering().find_map(relay) else { return };
        let over_quic = |relay| self.connections.direct_over(relay, Transport::Quic).next().is_some();
        if self.relays.all_ready().into_iter().any(|(relay, _)| over_quic(relay)) {
            return;
        }
        let mut blocked = self.obstacles.blocked.clone();
        if !blocked.contains(&Transport::Quic) {
            blocked.push(Transport::Quic);
        }
        self.blocks(relay, blocked);
    }

    fn blocks(&mut self, relay: PeerId, transports: Vec<Transport>) {
        if transports != self.obstacles.blocked && !transports.is_empty() {
            let what = Blocked::of(&transports);
            self.events.push_back(Event::NetworkBlocks { relay, transports: transports.clone(), what });
        }
        self.obstacles.blocked = transports;
    }
}
