//! What a relay decides: who may connect, who holds a place, who is introduced to whom, which limit bites.
//!
//! A pure machine: it takes an input and the time, and gives actions and events; `behaviour` acts. [`asks`]
//! is the order in which limits are asked; the other files each hold one kind of thing and its limits. Fair
//! first, global last: what is refused for the sake of one peer or one address uses up nothing that others
//! need.

mod asks;
mod circuits;
mod connections;
mod dial_backs;
mod rates;
mod refusals;
mod reservations;
mod status;
pub(super) mod stun;
mod timers;
mod watches;

#[cfg(test)]
mod tests;

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use libp2p::PeerId;

use self::{
    asks::Allowances,
    circuits::{Circuits, Stage},
    connections::{Connections, Link},
    refusals::{Refusals, Refused},
    reservations::{Ended, Reservations},
    stun::StunPorts,
    timers::{Due, Timers},
    watches::Watches,
};
use crate::{
    addr::place::Place,
    event::{Asked, Event, LimitOwner},
    net::circuit::wire::Status,
    path::ConnectionId,
    relay::RelayConfig,
    word::Word,
};

pub(super) use self::{circuits::ANSWER_DEADLINE, dial_backs::DialBacks};

/// Between the announcement that a relay leaves and the end of its circuits: for several round trips, in
/// which clients make other circuits. A process that is told to stop has 4.5 s.
pub(super) const LEAVING: Duration = Duration::from_secs(3);

/// A request of a client; a circuit keeps the id of the request for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct AskId(pub(super) u64);

/// What happened.
#[derive(Debug)]
pub(super) enum Input {
    /// A connection that [`Machine::admits`] let in is up.
    Opened { connection: ConnectionId, peer: PeerId, place: Place },
    /// A connection is gone; `closed`: by the peer's system, which ended it or reset it.
    Closed { connection: ConnectionId, closed: bool },
    /// The peer said what it is.
    Identified { connection: ConnectionId, ours: bool, hears: bool },
    /// A client asks for a place.
    Reserve { ask: AskId, connection: ConnectionId },
    /// A client asks for a circuit.
    Connect { ask: AskId, connection: ConnectionId, destination: PeerId },
    /// The destination of a circuit has answered, or cannot.
    Answered { ask: AskId, answer: Answer },
    /// A circuit's bytes are no longer forwarded.
    Ended { ask: AskId, cause: Option<String>, bytes: u64 },
    /// A client wants to be told of these peers, and of no others.
    Watch { connection: ConnectionId, peers: Vec<PeerId> },
    /// A client's address is not dialled.
    DialBackRefused { peer: PeerId, limited: Limited },
    /// The relay is to stop.
    Leave,
}

/// What a circuit's destination said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Accepted,
    /// It has no room for another one.
    Full,
    /// It does not want this one.
    Denied,
    /// It said nothing, or nothing that makes sense.
    Failed,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Tell the client that it has a place.
    Grant {
        ask: AskId,
    },
    /// Tell the client that it gets nothing, and why.
    Refuse {
        ask: AskId,
        refusal: Refusal,
    },
    /// The client is gone: nobody waits for an answer.
    Forget {
        ask: AskId,
    },
    /// Ask the destination of a circuit, on this connection.
    AskDestination {
        ask: AskId,
        connection: ConnectionId,
        destination: PeerId,
        source: PeerId,
    },
    /// Forward between the two.
    Forward {
        ask: AskId,
    },
    /// Stop forwarding. Answered with [`Input::Ended`].
    Cut {
        ask: AskId,
        cause: &'static str,
    },
    /// Keep a connection open although it is idle, or no longer.
    Keep {
        peer: PeerId,
        connection: ConnectionId,
        keep: bool,
    },
    Close {
        peer: PeerId,
        connection: ConnectionId,
    },
    Say {
        peer: PeerId,
        connection: ConnectionId,
        word: Word,
    },
    /// All circuits have ended, or had their time: the relay may stop.
    Left,
}

/// Why a request was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: Status,
    /// The limit that it hit, if it was one.
    pub(super) limited: Option<Limited>,
}

/// A limit that was hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limited {
    pub(super) whose: LimitOwner,
    pub(super) limit: usize,
    /// When the same request may succeed.
    pub(super) retry_after: Duration,
}

/// The machine. See the module's text.
#[derive(Debug)]
pub(super) struct Machine {
    silence: Duration,
    connections: Connections,
    reservations: Reservations,
    circuits: Circuits,
    watches: Watches,
    allowances: Allowances,
    refusals: Refusals,
    /// When the next summary of refusals is due, if one is.
    summary: Option<Instant>,
    timers: Timers,
    /// When the relay has left, once it was told to.
    leaving: Option<Instant>,
    stun: StunPorts,
    actions: VecDeque<Action>,
    events: VecDeque<Event>,
}

impl Machine {
    pub(super) fn new(config: &RelayConfig) -> Self {
        Self {
            silence: config.silence,
            connections: Connections::new(config),
            reservations: Reservations::new(config),
            circuits: Circuits::new(config),
            watches: Watches::new(),
            allowances: Allowances::new(config),
            refusals: Refusals::default(),
            summary: None,
            timers: Timers::default(),
            leaving: None,
            stun: StunPorts::default(),
            actions: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// Clients that listen are told from now on.
    pub(super) fn answers_stun_at(&mut self, ports: StunPorts) {
        self.stun = ports;
    }

    /// Whether a socket may shake hands. If so, [`handshake_over`](Self::handshake_over) must follow.
    pub(super) fn knock(
        &mut self,
        connection: ConnectionId,
        place: Place,
        now: Instant,
    ) -> Result<(), Limited> {
        let room = self.connections.knock(connection, place);
        room.inspect_err(|limited| self.note(None, Asked::Connection, *limited, now))
    }

    /// A handshake has succeeded or failed.
    pub(super) fn handshake_over(&mut self, connection: ConnectionId) {
        self.connections.handshake_over(connection);
    }

    /// Whether a peer may have this connection.
    pub(super) fn admits(&mut self, peer: PeerId, place: Place, now: Instant) -> Result<(), Limited> {
        let room = self.connections.admits(peer, place);
        room.inspect_err(|limited| self.note(Some(peer), Asked::Connection, *limited, now))
    }

    pub(super) fn handle(&mut self, input: Input, now: Instant) {
        match input {
            Input::Opened { connection, peer, place } => self.opened(connection, peer, place, now),
            Input::Closed { connection, closed } => self.closed(connection, closed, now),
            Input::Identified { connection, ours, hears } => {
                self.heard_from(connection);
                self.identified(connection, ours, hears, now);
            }
            Input::Reserve { ask, connection } => {
                self.heard_from(connection);
                self.reserve(ask, connection, now);
            }
            Input::Connect { ask, connection, destination } => {
                self.heard_from(connection);
                self.connect(ask, connection, destination, now);
            }
            Input::Answered { ask, answer } => self.answered(ask, answer, now),
            Input::Ended { ask, cause, bytes } => self.ended(ask, cause, bytes),
            Input::Watch { connection, peers } => self.watch(connection, &peers, now),
            Input::DialBackRefused { peer, limited } => {
                self.note(Some(peer), Asked::DialBack, limited, now);
            }
            Input::Leave => self.leave(now),
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        while let Some(due) = self.timers.take_due(now) {
            match due {
                Due::Silent(connection) => self.close(connection),
                Due::Lapse(connection) => self.reservation_over(connection, now),
                Due::Unkept(peer) => self.reservations.unkeep(peer),
                Due::Unanswered(ask) => self.unanswered(ask, now),
                Due::Summary => {
                    let summaries = self.refusals.summaries(now);
                    self.events.extend(summaries);
                    self.summary = None;
                    self.arm_summary();
                }
                Due::Left => self.left(),
            }
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.timers.next()
    }

    pub(super) fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    pub(super) fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    fn opened(&mut self, connection: ConnectionId, peer: PeerId, place: Place, now: Instant) {
        let silent_until = now + self.silence;
        self.timers.set(Due::Silent(connection), silent_until);
        let silent_until = Some(silent_until);
        let link = Link { peer, place, ours: false, hears: false, silent_until };
        self.connections.opened(connection, link);
    }

    /// Something was said on a connection: it is no silent one.
    fn heard_from(&mut self, connection: ConnectionId) {
        let link = self.connections.link_mut(connection);
        if let Some(until) = link.and_then(|link| link.silent_until.take()) {
            self.timers.clear(Due::Silent(connection), until);
        }
    }

    fn identified(&mut self, connection: ConnectionId, ours: bool, hears: bool, now: Instant) {
        let Some(link) = self.connections.link_mut(connection) else { return };
        (link.ours, link.hears) = (ours, hears);
        let (peer, place) = (link.peer, link.place);
        if let Some(port) = self.stun.of(place) {
            self.say(connection, Word::Stun { port });
        }
        // It may have taken its place before it said what it is.
        if self.reservations.newest(peer) == Some(connection) {
            for old in self.left_over(peer, connection) {
                self.take_away(old, now);
            }
        }
    }

    /// Connections of a node of ours that hold a place besides `connection`: a node has one link to a relay,
    /// so its address changed and the old ones are dead, though nobody may know yet. Other implementations
    /// may hold several.
    fn left_over(&self, peer: PeerId, connection: ConnectionId) -> Vec<ConnectionId> {
        let ours = |connection| self.connections.link(connection).is_some_and(|link| link.ours);
        let others = self.reservations.of(peer).iter().copied().filter(|other| *other != connection);
        if ours(connection) { others.filter(|other| ours(*other)).collect() } else { Vec::new() }
    }

    /// Ends the place that an old connection of a peer holds, and the connection.
    fn take_away(&mut self, connection: ConnectionId, now: Instant) {
        if let Some(Ended { lapses, .. }) = self.reservations.end(connection, now) {
            self.timers.clear(Due::Lapse(connection), lapses);
        }
        self.close(connection);
    }

    fn close(&mut self, connection: ConnectionId) {
        let Some(link) = self.connections.link_mut(connection) else { return };
        // A connection may take a moment to close: its timer must not be cleared with a time that passed.
        if let Some(until) = link.silent_until.take() {
            self.timers.clear(Due::Silent(connection), until);
        }
        let peer = link.peer;
        self.actions.push_back(Action::Close { peer, connection });
    }

    /// The place ends: its connection closed, or it was not renewed.
    fn reservation_over(&mut self, connection: ConnectionId, now: Instant) {
        let Some(ended) = self.reservations.end(connection, now) else { return };
        let Ended { peer, lapses, kept_until, last } = ended;
        self.timers.clear(Due::Lapse(connection), lapses);
        if let Some(until) = kept_until {
            self.timers.set(Due::Unkept(peer), until);
        }
        if self.connections.link(connection).is_some() {
            self.actions.push_back(Action::Keep { peer, connection, keep: false });
        }
        if last {
            self.events.push_back(Event::ReservationEnded { peer });
        }
    }

    fn closed(&mut self, connection: ConnectionId, closed: bool, now: Instant) {
        self.heard_from(connection);
        let Some(Link { peer, .. }) = self.connections.closed(connection) else { return };
        let mut concerned: Vec<ConnectionId> = Vec::new();
        let gone = !self.connections.is_connected(peer);
        if gone && self.reservations.is_held(connection) {
            concerned.extend(self.watches.of(peer));
        }
        self.reservation_over(connection, now);
        if gone {
            self.reservations.left(peer, closed, now);
        }
        self.watches.end(connection);
        for ask in self.circuits.at(connection) {
            if let Some(other) = self.lost_an_end(ask, connection, now) {
                concerned.push(other);
            }
        }
        if gone {
            concerned.sort_unstable();
            concerned.dedup();
            for client in concerned {
                self.say(client, Word::Absent { peer, closed });
            }
        }
    }

    /// A circuit's end is gone. The connection of the other one, if bytes were forwarded.
    fn lost_an_end(&mut self, ask: AskId, gone: ConnectionId, now: Instant) -> Option<ConnectionId> {
        let circuit = self.circuits.get(ask)?;
        let (from, to) = (circuit.from, circuit.to);
        if circuit.stage == Stage::Open {
            self.actions.push_back(Action::Cut { ask, cause: "a connection closed" });
            return Some(if from == gone { to } else { from });
        }
        if from == gone {
            self.end_unopened(ask);
            self.actions.push_back(Action::Forget { ask });
        } else {
            self.circuit_failed(ask, Status::ConnectionFailed, None);
        }
        self.take_turns(to, now);
        None
    }

    /// Tells a client, if it listens.
    fn say(&mut self, connection: ConnectionId, word: Word) {
        if let Some(link) = self.connections.link(connection).filter(|link| link.hears) {
            self.actions.push_back(Action::Say { peer: link.peer, connection, word });
        }
    }

    /// A client hears only of peers that got a place among the watches and that its address could pay for:
    /// else anybody could ask without end who is here.
    fn watch(&mut self, connection: ConnectionId, peers: &[PeerId], now: Instant) {
        let Some(link) = self.connections.link_mut(connection) else { return };
        // Whoever speaks the protocol hears it too, even if it has not said so yet.
        link.hears = true;
        let (client, place) = (link.peer, link.place);
        let pay = || self.allowances.look_up(place, now);
        let (watched, unpaid) = self.watches.replace(connection, place, peers, pay);
        for peer in watched {
            if self.reservations.newest(peer).is_some() {
                self.say(connection, Word::Present(peer));
            } else if !self.connections.is_connected(peer)
                && let Some(closed) = self.reservations.has_just_left(peer, now)
            {
                self.say(connection, Word::Absent { peer, closed });
            }
        }
        if let Some(limited) = unpaid {
            self.note(Some(client), Asked::Watch, limited, now);
        }
    }

    /// Announces the end and takes nothing new. Clients that hear of it get [`LEAVING`]; if there are none,
    /// waiting would help nobody.
    fn leave(&mut self, now: Instant) {
        if self.leaving.is_some() {
            return;
        }
        self.leaving = Some(now + LEAVING);
        let all: Vec<(AskId, bool)> =
            (self.circuits.all()).map(|(ask, circuit)| (ask, circuit.stage == Stage::Open)).collect();
        for (ask, _) in all.iter().filter(|(_, open)| !open) {
            self.circuit_failed(*ask, Status::ResourceLimitExceeded, Some(self.leaving_limit(now)));
        }
        let ends = self.circuits.all().flat_map(|(_, circuit)| [circuit.from, circuit.to]);
        let mut told: Vec<ConnectionId> = ends.chain(self.reservations.connections()).collect();
        told.sort_unstable();
        told.dedup();
        let hears =
            |connection: ConnectionId| self.connections.link(connection).is_some_and(|l| l.hears);
        let heard = self.circuits.all().any(|(_, circuit)| hears(circuit.from) || hears(circuit.to));
        for connection in told {
            self.say(connection, Word::Leaving { within: LEAVING });
        }
        if heard { self.timers.set(Due::Left, now + LEAVING) } else { self.left() }
    }

    /// The time for leaving is over: what is still open ends, and then the relay may stop.
    fn left(&mut self) {
        let open: Vec<AskId> = self.circuits.all().map(|(ask, _)| ask).collect();
        if open.is_empty() {
            self.actions.push_back(Action::Left);
        }
        for ask in open {
            self.actions.push_back(Action::Cut { ask, cause: "the relay stops" });
        }
    }

    fn leaving_limit(&self, now: Instant) -> Limited {
        let until = self.leaving.unwrap_or(now);
        let retry_after = until.saturating_duration_since(now);
        Limited { whose: LimitOwner::Relay, limit: 0, retry_after }
    }

    /// Counts a refusal.
    fn note(&mut self, peer: Option<PeerId>, what: Asked, limited: Limited, now: Instant) {
        let Limited { whose, limit, .. } = limited;
        let refused = Refused { peer, what, limit: limit as u64, whose };
        self.events.extend(self.refusals.note(refused, now));
        self.arm_summary();
    }

    fn arm_summary(&mut self) {
        let due = self.refusals.due();
        if due != self.summary {
            if let Some(before) = self.summary {
                self.timers.clear(Due::Summary, before);
            }
            if let Some(at) = due {
                self.timers.set(Due::Summary, at);
            }
            self.summary = due;
        }
    }
}
