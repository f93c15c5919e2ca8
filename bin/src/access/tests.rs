//! Tickets, the ledger and the gate, with real files and a made-up clock.

#![allow(clippy::unwrap_used)]

mod gate;
mod ledger;
mod ticket;

use std::path::PathBuf;

use libp2p::{PeerId, identity::Keypair};
use tempfile::TempDir;

use super::{Gate, Ledger, Routes, Rules, Terms, Ticket, TicketId};

/// The time at which everything happens, in Unix seconds.
const NOW: u64 = 1_800_000_000;

/// A node with a ledger.
struct Node {
    directory: TempDir,
    key: Keypair,
}

impl Node {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap(), key: key(7) }
    }

    fn peer(&self) -> PeerId {
        self.key.public().to_peer_id()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn ledger(&self) -> Ledger {
        Ledger::at(self.path("tickets"))
    }

    fn gate(&self, rules: Rules) -> Gate {
        Gate::open(rules, self.peer(), self.path("tickets")).unwrap()
    }

    /// A gate that takes tickets alone.
    fn ticket_gate(&self) -> Gate {
        self.gate(Rules { tickets: true, ..Rules::default() })
    }

    /// A ticket that stands in the ledger and is good for ten seconds.
    fn ticket(&self, once: bool) -> Ticket {
        let terms = terms(once);
        self.ledger().change(|book| book.issue(&terms, NOW)).unwrap().unwrap();
        Ticket::issue(terms, routes(), &self.key).unwrap()
    }

    fn revoke(&self, id: TicketId) {
        self.ledger().change(|book| book.revoke(&[id], NOW)).unwrap().unwrap();
    }
}

fn key(seed: u8) -> Keypair {
    Keypair::ed25519_from_bytes([seed; 32]).unwrap()
}

fn terms(once: bool) -> Terms {
    Terms { id: TicketId::random(), service: "kaspad".parse().unwrap(), expires: NOW + 10, once }
}

fn routes() -> Routes {
    let relay = "/ip4/203.0.113.7/tcp/4001/p2p/12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp";
    Routes {
        relays: vec![relay.parse().unwrap()],
        addrs: vec!["/ip4/198.51.100.9/udp/4001/quic-v1".parse().unwrap()],
    }
}
