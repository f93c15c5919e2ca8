//! Pings that a person asks for: a beat on the connection where new streams would go, and its echo.
//!
//! Before the first word on a connection each end opens a substream for what it says, which takes two round trips more. So
//! the first ping of a connection is asked once to have these, and then for its answer.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

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
    open: BTreeMap<u64, Asked>,
    asked: u64,
}

#[derive(Clone, Copy, Debug)]
struct Asked {
    ping: PingId,
    connection: ConnectionId,
    at: Instant,
    /// It only has the substreams opened.
    opens: bool,
}

impl Pings {
    fn ask(&mut self, asked: Asked) -> u64 {
        while self.open.len() >= PINGS_MAX {
            self.open.pop_first();
        }
        self.asked += 1;
        let number = FIRST_PING + self.asked;
        self.open.insert(number, asked);
        number
    }

    /// Answers count on the connection on which they were asked for.
    fn answered(&mut self, connection: ConnectionId, number: u64) -> Option<Asked> {
        self.open.get(&number).filter(|asked| asked.connection == connection)?;
        self.open.remove(&number)
    }
}

impl Engine {
    pub(in crate::engine) fn ping(&mut self, ping: PingId, peer: PeerId, now: Instant) {
        let any = || self.connections.of(peer).find(|(_, found)| !found.is_closing()).map(|(id, _)| id);
        let Some(connection) = self.connections.best(peer, &[]).or_else(any) else {
            return self.actions.push_back(Action::Pinged { ping, answer: None });
        };
        let opens = self.connections.get(connection).is_some_and(|found| !found.has_echoed());
        self.say_ping(peer, Asked { ping, connection, at: now, opens });
    }

    fn say_ping(&mut self, peer: PeerId, asked: Asked) {
        let word = Word::Beat(self.pings.ask(asked));
        self.actions.push_back(Action::Say { peer, connection: asked.connection, word });
    }

    /// The peer answered, to a ping or to another word with this number.
    pub(in crate::engine) fn pinged(&mut self, connection: ConnectionId, number: u64, now: Instant) {
        self.connections.echoed(connection);
        let Some(asked) = self.pings.answered(connection, number) else { return };
        match self.peer(connection) {
            Some(peer) if asked.opens => self.say_ping(peer, Asked { at: now, opens: false, ..asked }),
            _ => {
                let took: Duration = now.saturating_duration_since(asked.at);
                let answer = Some((connection, took));
                self.actions.push_back(Action::Pinged { ping: asked.ping, answer });
            }
        }
    }
}
