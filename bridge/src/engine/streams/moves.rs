//! Which of our streams should run elsewhere: away from a relay as soon as there is a direct path, and
//! away from a path that died or soon will.
//!
//! ```text
//! on a connection --clearly better one--> moving --attached--> on the better one
//!        |                                  '--failed--> as before, again after a backoff
//!        '--lost--> detached --any connection--> moving
//! ```
//! A connection that is suspect is as good as lost, but the stream stays on it until another has it.
//!
//! Only streams that this node opened are here: their openers move them.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use libp2p::PeerId;

use crate::{engine::streams::guests, path::ConnectionId, service::Service, stream::StreamKey};

/// First and longest wait after a move that failed, or a reach that found nobody: a stream without a
/// path must notice within a second or two that there is one again, and not flood a dead network. The longest
/// holds for the first [`EAGER`] failures; a stream with the patience of hours then waits longer.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(4));

/// Failures until the waits grow beyond the longest: about two minutes of them.
const EAGER: u32 = 30;

/// The longest wait of a stream that has failed to find its peer for minutes.
const BACKOFF_PATIENT: Duration = Duration::from_secs(30);

#[derive(Debug)]
struct Ours {
    service: Service,
    on: Option<On>,
    moving: Option<ConnectionId>,
    retry: Option<Instant>,
    failures: u32,
    /// The wait after a failure was waived once: the connection that failed the stream was dying.
    waived: bool,
}

/// Where a stream runs, and since when.
#[derive(Clone, Copy, Debug)]
struct On {
    connection: ConnectionId,
    since: Instant,
}

/// Our streams, by key.
#[derive(Debug, Default)]
pub(crate) struct Moves {
    all: BTreeMap<StreamKey, Ours>,
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
    /// A stream is the program's from now on. `on`: none if its connection is gone already.
    pub(crate) fn opened(
        &mut self,
        key: StreamKey,
        service: Service,
        on: Option<ConnectionId>,
        now: Instant,
    ) {
        let on = on.map(|connection| On { connection, since: now });
        let fresh = Ours { service, on, moving: None, retry: None, failures: 0, waived: false };
        self.all.insert(key, fresh);
    }

    pub(crate) fn closed(&mut self, key: StreamKey) {
        self.all.remove(&key);
    }

    /// Whether we opened this stream.
    pub(crate) fn contains(&self, key: StreamKey) -> bool {
        self.all.contains_key(&key)
    }

    pub(crate) fn of(&self, peer: PeerId) -> Vec<StreamKey> {
        self.all.range(guests::of(peer)).map(|(key, _)| *key).collect()
    }

    /// The services of our streams to a peer, one entry a stream.
    pub(crate) fn services_of(&self, peer: PeerId) -> impl Iterator<Item = &Service> {
        self.all.range(guests::of(peer)).map(|(_, ours)| &ours.service)
    }

    /// Whether any stream to the peer runs on this connection, or is on its way to it.
    pub(crate) fn may_be_on(&self, peer: PeerId, connection: ConnectionId) -> bool {
        let there = |ours: &Ours| ours.runs_on(connection) || ours.moving == Some(connection);
        self.all.range(guests::of(peer)).any(|(_, ours)| there(ours))
    }

    /// A connection is not to be trusted any more: the streams on it need not wait for another, and
    /// those on their way to it have failed. Returns the former.
    pub(crate) fn leave(&mut self, connection: ConnectionId, now: Instant) -> Vec<StreamKey> {
        let mut left = Vec::new();
        for (key, ours) in &mut self.all {
            if ours.moving.take_if(|to| *to == connection).is_some() {
                ours.back_off(now);
            }
            if ours.runs_on(connection) {
                ours.retry = None;
                left.push(*key);
            }
        }
        left
    }

    /// Since when a stream has been where it is, if it is on this connection.
    pub(crate) fn came(&self, key: StreamKey, connection: ConnectionId) -> Option<Instant> {
        let on = self.all.get(&key)?.on.filter(|on| on.connection == connection)?;
        Some(on.since)
    }

    pub(crate) fn standing(&self, key: StreamKey, now: Instant) -> Option<Standing> {
        let ours = self.all.get(&key)?;
        let waits = ours.retry.is_some_and(|retry| retry > now);
        Some(match (ours.on, ours.moving) {
            (None, Some(to)) => Standing::Seeking(to),
            (_, Some(_)) => Standing::Busy,
            _ if waits => Standing::Busy,
            (Some(on), None) => Standing::On(on.connection),
            (None, None) => Standing::Detached,
        })
    }

    pub(crate) fn moving(&mut self, key: StreamKey, to: ConnectionId) {
        if let Some(ours) = self.all.get_mut(&key) {
            ours.moving = Some(to);
            ours.retry = None;
        }
    }

    pub(crate) fn moved(&mut self, key: StreamKey, connection: ConnectionId, now: Instant) {
        if let Some(ours) = self.all.get_mut(&key) {
            ours.on = Some(On { connection, since: now });
            (ours.moving, ours.retry) = (None, None);
            (ours.failures, ours.waived) = (0, false);
        }
    }

    pub(crate) fn failed(&mut self, key: StreamKey, now: Instant) {
        if let Some(ours) = self.all.get_mut(&key) {
            ours.moving = None;
            ours.back_off(now);
        }
    }

    /// Where a stream is moving to.
    pub(crate) fn target(&self, key: StreamKey) -> Option<ConnectionId> {
        self.all.get(&key)?.moving
    }

    /// A connection is gone. Streams often learn it first, and those that looked for a better place at
    /// once may have tried the dying one: they need not wait, but once only, or a peer that closes
    /// every connection would be dialled without pause. Whoever calls this looks at them again.
    pub(crate) fn waive_waits(&mut self, peer: PeerId) -> Vec<StreamKey> {
        let mut waived = Vec::new();
        for (key, ours) in self.all.range_mut(guests::of(peer)) {
            if ours.retry.is_some() && !std::mem::replace(&mut ours.waived, true) {
                ours.retry = None;
                waived.push(*key);
            }
        }
        waived
    }

    pub(crate) fn detached(&mut self, key: StreamKey) {
        if let Some(ours) = self.all.get_mut(&key) {
            (ours.on, ours.moving, ours.retry) = (None, None, None);
        }
    }

    /// Nobody was found: whatever has no path, or only a `shaky` one, looks again later.
    pub(crate) fn unreachable(
        &mut self,
        peer: PeerId,
        shaky: impl Fn(ConnectionId) -> bool,
        now: Instant,
    ) {
        for (_, ours) in self.all.range_mut(guests::of(peer)) {
            if ours.needs_path(&shaky) {
                ours.back_off(now);
            }
        }
    }

    /// A connection has come: waiting is over.
    pub(crate) fn end_waits(&mut self, peer: PeerId) {
        for (_, ours) in self.all.range_mut(guests::of(peer)) {
            ours.retry = None;
        }
    }

    /// This host is in another network: no stream waits any more. Whoever calls this looks at them again.
    pub(crate) fn end_all_waits(&mut self) -> Vec<StreamKey> {
        let waiting = self.all.iter_mut().filter(|(_, ours)| ours.retry.is_some());
        waiting
            .map(|(key, ours)| {
                (ours.retry, ours.failures) = (None, 0);
                *key
            })
            .collect()
    }

    /// The streams whose backoff is over; whoever calls this looks at them again.
    pub(crate) fn take_due(&mut self, now: Instant) -> Vec<StreamKey> {
        let due = |(key, ours): (&StreamKey, &mut Ours)| {
            ours.retry.take_if(|retry| *retry <= now).map(|_| *key)
        };
        self.all.iter_mut().filter_map(due).collect()
    }

    /// Whether a stream of ours waits for any connection to `peer` but a `shaky` one.
    pub(crate) fn needs_path(&self, peer: PeerId, shaky: impl Fn(ConnectionId) -> bool) -> bool {
        self.all.range(guests::of(peer)).any(|(_, ours)| ours.needs_path(&shaky))
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.all.values().filter_map(|ours| ours.retry).min()
    }
}

impl Ours {
    fn runs_on(&self, connection: ConnectionId) -> bool {
        self.on.is_some_and(|on| on.connection == connection)
    }

    fn needs_path(&self, shaky: impl Fn(ConnectionId) -> bool) -> bool {
        self.moving.is_none() && self.on.is_none_or(|on| shaky(on.connection))
    }

    fn back_off(&mut self, now: Instant) {
        let longest = if self.failures < EAGER { BACKOFF.1 } else { BACKOFF_PATIENT };
        let wait = BACKOFF.0.saturating_mul(1 << self.failures.min(8)).min(longest);
        self.failures = self.failures.saturating_add(1);
        self.retry = Some(now + wait);
    }
}
