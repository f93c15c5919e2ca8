//! Which of our streams should run elsewhere: away from a relay as soon as there is a direct path, and
//! away from a path that died.
//!
//! ```text
//! on a connection --better one--> moving --attached--> on the better one
//!        |                          '--failed--> as before, again after a backoff
//!        '--lost--> detached --any connection--> moving
//! ```
//! A connection that is suspect is as good as lost, but the stream stays on it until another has it.
//!
//! Only streams that this node opened are here: their openers move them.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use libp2p::PeerId;

use crate::{path::ConnectionId, stream::StreamKey};

/// First and longest wait after a move that failed, or a reach that found nobody: a stream without a
/// path must notice within a second or two that there is one again, and not flood a dead network.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(4));

#[derive(Debug, Default)]
struct Carried {
    on: Option<ConnectionId>,
    moving: Option<ConnectionId>,
    retry: Option<Instant>,
    failures: u32,
    /// It was spared the wait after a failure once: the connection that failed it was dying.
    spared: bool,
}

/// Our streams, by key.
#[derive(Debug, Default)]
pub(crate) struct Moves {
    all: HashMap<StreamKey, Carried>,
}

/// Where a stream stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    On(ConnectionId),
    Detached,
    /// Without a path, and on its way to one.
    Seeking(ConnectionId),
    /// On its way, or waiting for its backoff.
    Busy,
}

impl Moves {
    pub(crate) fn opened(&mut self, key: StreamKey, on: ConnectionId) {
        self.all.insert(key, Carried { on: Some(on), ..Carried::default() });
    }

    pub(crate) fn closed(&mut self, key: StreamKey) {
        self.all.remove(&key);
    }

    /// Whether we opened this stream.
    pub(crate) fn contains(&self, key: StreamKey) -> bool {
        self.all.contains_key(&key)
    }

    pub(crate) fn of(&self, peer: PeerId) -> Vec<StreamKey> {
        self.all.keys().filter(|key| key.peer == peer).copied().collect()
    }

    /// A connection is not to be trusted any more: the streams on it need not wait for another, and
    /// those on their way to it have failed. Returns the former.
    pub(crate) fn leave(&mut self, connection: ConnectionId, now: Instant) -> Vec<StreamKey> {
        let mut left = Vec::new();
        for (key, carried) in &mut self.all {
            if carried.moving.take_if(|to| *to == connection).is_some() {
                carried.back_off(now);
            }
            if carried.on == Some(connection) {
                carried.retry = None;
                left.push(*key);
            }
        }
        left
    }

    pub(crate) fn standing(&self, key: StreamKey, now: Instant) -> Option<Standing> {
        let carried = self.all.get(&key)?;
        let waits = carried.retry.is_some_and(|retry| retry > now);
        Some(match (carried.on, carried.moving) {
            (None, Some(to)) => Standing::Seeking(to),
            (_, Some(_)) => Standing::Busy,
            _ if waits => Standing::Busy,
            (Some(on), None) => Standing::On(on),
            (None, None) => Standing::Detached,
        })
    }

    pub(crate) fn moving(&mut self, key: StreamKey, to: ConnectionId) {
        if let Some(carried) = self.all.get_mut(&key) {
            carried.moving = Some(to);
            carried.retry = None;
        }
    }

    pub(crate) fn moved(&mut self, key: StreamKey, to: ConnectionId) {
        if let Some(carried) = self.all.get_mut(&key) {
            *carried = Carried { on: Some(to), ..Carried::default() };
        }
    }

    pub(crate) fn failed(&mut self, key: StreamKey, now: Instant) {
        if let Some(carried) = self.all.get_mut(&key) {
            carried.moving = None;
            carried.back_off(now);
        }
    }

    /// Where a stream is moving to.
    pub(crate) fn target(&self, key: StreamKey) -> Option<ConnectionId> {
        self.all.get(&key)?.moving
    }

    /// A connection is gone. Streams often learn it first, and those that looked for a better place at
    /// once may have tried the dying one: they need not wait, but once only, or a peer that closes
    /// every connection would be dialled without pause. Whoever calls this looks at them again.
    pub(crate) fn spare(&mut self, peer: PeerId) -> Vec<StreamKey> {
        let mut spared = Vec::new();
        for (key, carried) in self.all.iter_mut().filter(|(key, _)| key.peer == peer) {
            if carried.retry.is_some() && !std::mem::replace(&mut carried.spared, true) {
                carried.retry = None;
                spared.push(*key);
            }
        }
        spared
    }

    pub(crate) fn detached(&mut self, key: StreamKey) {
        if let Some(carried) = self.all.get_mut(&key) {
            carried.on = None;
            carried.moving = None;
            carried.retry = None;
        }
    }

    /// Nobody was found: whatever has no path, or only a `suspect` one, looks again later.
    pub(crate) fn unreachable(
        &mut self,
        peer: PeerId,
        suspect: impl Fn(ConnectionId) -> bool,
        now: Instant,
    ) {
        for (_, carried) in self.all.iter_mut().filter(|(key, _)| key.peer == peer) {
            if carried.is_stranded(&suspect) {
                carried.back_off(now);
            }
        }
    }

    /// A connection has come: waiting is over.
    pub(crate) fn hope(&mut self, peer: PeerId) {
        for (_, carried) in self.all.iter_mut().filter(|(key, _)| key.peer == peer) {
            carried.retry = None;
        }
    }

    /// The streams whose backoff is over; whoever calls this looks at them again.
    pub(crate) fn take_due(&mut self, now: Instant) -> Vec<StreamKey> {
        let due = |(key, carried): (&StreamKey, &mut Carried)| {
            carried.retry.take_if(|retry| *retry <= now).map(|_| *key)
        };
        self.all.iter_mut().filter_map(due).collect()
    }

    /// Whether a stream of ours waits for any connection to `peer` but a `suspect` one.
    pub(crate) fn awaits(&self, peer: PeerId, suspect: impl Fn(ConnectionId) -> bool) -> bool {
        self.all.iter().any(|(key, carried)| key.peer == peer && carried.is_stranded(&suspect))
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.all.values().filter_map(|carried| carried.retry).min()
    }
}

impl Carried {
    fn is_stranded(&self, suspect: impl Fn(ConnectionId) -> bool) -> bool {
        self.moving.is_none() && self.on.is_none_or(suspect)
    }

    fn back_off(&mut self, now: Instant) {
        let wait = BACKOFF.0.saturating_mul(1 << self.failures.min(8)).min(BACKOFF.1);
        self.failures = self.failures.saturating_add(1);
        self.retry = Some(now + wait);
    }
}
