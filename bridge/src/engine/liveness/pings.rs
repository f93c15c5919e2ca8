//! Pings that a person asks for: a beat on the connection where new streams would go, and its echo.

use std::collections::BTreeMap;

use libp2p::PeerId;

use crate::{
    engine::{
        Engine,
        input::{Action, PingId},
    },
    path::ConnectionId,
    word::{FIRST_PING, Word},
};

/// Pings that wait for an answer; one more takes the place of the oldest, whose asker gives up by the clock.
pub(crate) const PINGS_MAX: usize = 64;

/// By number, in the order in which they were asked for.
#[derive(Debug, Default)]
pub(crate) struct Pings {
    open: BTreeMap<u64, (PingId, ConnectionId)>,
    asked: u64,
}

impl Pings {
    fn ask(&mut self, ping: PingId, connection: ConnectionId) -> u64 {
        while self.open.len() >= PINGS_MAX {
            self.open.pop_first();
        }
        self.asked += 1;
        let number = FIRST_PING + self.asked;
        self.open.insert(number, (ping, connection));
        number
    }

    /// Answers count on the connection on which they were asked for.
    fn answered(&mut self, connection: ConnectionId, number: u64) -> Option<PingId> {
        let (_, on) = self.open.get(&number)?;
        if *on != connection {
            return None;
        }
        self.open.remove(&number).map(|(ping, _)| ping)
    }
}

impl Engine {
    pub(in crate::engine) fn ping(&mut self, ping: PingId, peer: PeerId) {
        let any = || self.connections.of(peer).find(|(_, found)| !found.is_closing()).map(|(id, _)| id);
        let Some(connection) = self.connections.best(peer, &[]).or_else(any) else {
            return self.actions.push_back(Action::Pinged { ping, connection: None });
        };
        let word = Word::Beat(self.pings.ask(ping, connection));
        self.actions.push_back(Action::Say { peer, connection, word });
    }

    pub(in crate::engine) fn pinged(&mut self, connection: ConnectionId, number: u64) {
        if let Some(ping) = self.pings.answered(connection, number) {
            self.actions.push_back(Action::Pinged { ping, connection: Some(connection) });
        }
    }
}
