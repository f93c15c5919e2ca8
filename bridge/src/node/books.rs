//! The books of streams: who they are, what they said, how those that ended went.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use libp2p::PeerId;

use super::tombstones::Tombstones;
use crate::{
    event::StreamEnd,
    status::{ByPath, LimitStatus, StreamStatus},
    stream::{
        Handle, StreamKey,
        budget::{BUDGET_BYTES_DEFAULT, Budget},
        frame::Code,
        machine::{Farewell, StreamError},
    },
};

/// Streams that ended and whose peer may not know, of all peers and of one. A peer whose stream is forgotten
/// hears that it is unknown, and takes a finished one for lost.
const ENDED_MAX: usize = 4096;
const ENDED_PER_PEER_MAX: usize = 512;

/// Requests that were refused, of all peers and of one: whoever asks again for the same stream gets the same
/// answer, and the program is not asked twice. A table of their own, since anybody can be refused.
const REFUSED_MAX: usize = 1024;
const REFUSED_PER_PEER_MAX: usize = 128;

/// A live stream.
pub(super) struct Live {
    pub(super) handle: Handle,
    pub(super) failure: Option<StreamError>,
    /// Whether the program has it: opened and accepted.
    pub(super) announced: bool,
}

/// What the streams of one peer may hold together of what all may hold: a quarter.
const PEER_BUDGET_BYTES: u64 = BUDGET_BYTES_DEFAULT / 4;

/// All streams of this node. Bounded by the engine's limit of streams per peer and of connections.
pub(super) struct Books {
    live: HashMap<StreamKey, Live>,
    budget: Arc<Budget>,
    /// The share of each peer that has streams.
    shares: HashMap<PeerId, Weak<Budget>>,
    ended: Tombstones,
    refused: Tombstones,
}

impl Default for Books {
    fn default() -> Self {
        Self {
            live: HashMap::new(),
            budget: Budget::new(BUDGET_BYTES_DEFAULT),
            shares: HashMap::new(),
            ended: Tombstones::new(ENDED_MAX, ENDED_PER_PEER_MAX),
            refused: Tombstones::new(REFUSED_MAX, REFUSED_PER_PEER_MAX),
        }
    }
}

impl Books {
    pub(super) fn insert(&mut self, key: StreamKey, handle: Handle, announced: bool) {
        self.live.insert(key, Live { handle, failure: None, announced });
    }

    pub(super) fn get_mut(&mut self, key: StreamKey) -> Option<&mut Live> {
        self.live.get_mut(&key)
    }

    /// What all streams hold beyond their first windows.
    pub(super) fn memory(&self) -> LimitStatus {
        let (used, limit) = (self.budget.used(), self.budget.limit());
        LimitStatus { what: "stream_memory_bytes", used, limit }
    }

    /// What the streams of a peer hold memory from.
    pub(super) fn budget_of(&mut self, peer: PeerId) -> Arc<Budget> {
        if let Some(share) = self.shares.get(&peer).and_then(Weak::upgrade) {
            return share;
        }
        self.shares.retain(|_, share| share.strong_count() > 0);
        let share = self.budget.share(PEER_BUDGET_BYTES);
        self.shares.insert(peer, Arc::downgrade(&share));
        share
    }

    /// Takes a stream that said its last word out of the books.
    pub(super) fn close(
        &mut self,
        key: StreamKey,
        farewell: Option<Farewell>,
        keep: Duration,
        now: Instant,
    ) -> Option<Live> {
        if let Some(farewell) = farewell {
            self.ended.insert(key, farewell, keep, now);
        }
        self.live.remove(&key)
    }

    /// Remembers the answer to a request that was refused.
    pub(super) fn refuse(&mut self, key: StreamKey, farewell: Farewell, keep: Duration, now: Instant) {
        self.refused.insert(key, farewell, keep, now);
    }

    /// What to answer a peer that asks for a stream which is not live.
    pub(super) fn farewell(&self, key: StreamKey, now: Instant) -> Option<Farewell> {
        self.ended.get(key, now).or_else(|| self.refused.get(key, now))
    }

    /// Whether no stream lives.
    pub(super) fn is_empty(&self) -> bool {
        self.live.is_empty()
    }

    /// Those that the program has.
    pub(super) fn statuses(&self) -> impl Iterator<Item = StreamStatus> {
        self.live.iter().filter(|(_, live)| live.announced).map(|(key, live)| {
            let facts = live.handle.facts();
            let (direct, relayed) = (facts.sent_direct_bytes(), facts.sent_relayed_bytes());
            let sent_bytes = ByPath { direct, relayed };
            let (direct, relayed) = (facts.received_direct_bytes(), facts.received_relayed_bytes());
            StreamStatus {
                stream: key.stream,
                peer: key.peer,
                service: facts.service.clone(),
                direction: facts.direction,
                path: facts.route().path,
                waits: facts.is_parked(),
                moves: facts.moves().len(),
                sent_bytes,
                received_bytes: ByPath { direct, relayed },
            }
        })
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Live> {
        self.live.values()
    }
}

/// How a stream ended, for the world.
pub(super) fn end_of(failure: Option<StreamError>) -> StreamEnd {
    match failure {
        None => StreamEnd::Finished,
        Some(StreamError::Reset { code: Code::Cancelled | Code::Shutdown }) => StreamEnd::Dropped,
        Some(StreamError::Reset { code: Code::Unknown }) => StreamEnd::PathLost,
        Some(StreamError::PeerReset { .. } | StreamError::Refused { .. }) => StreamEnd::Reset,
        Some(StreamError::NoPath { .. }) => StreamEnd::PathLost,
        Some(StreamError::Reset { .. } | StreamError::Violation(_) | StreamError::Finished) => {
            StreamEnd::Violation
        }
    }
}
