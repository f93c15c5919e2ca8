//! The books of streams: who they are, what they said, how those that ended went.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use crate::{
    event::StreamEnd,
    stream::{
        Handle, StreamKey,
        frame::Code,
        machine::{Farewell, StreamError},
    },
};

/// Books that ended and whose peer may not know. The oldest is forgotten first; its peer then hears
/// that the stream is unknown, and takes a finished one for lost.
const TOMBSTONES_MAX: usize = 4096;

/// A live stream.
pub(super) struct Live {
    pub(super) handle: Handle,
    pub(super) failure: Option<StreamError>,
    /// Whether the program has it: opened and accepted.
    pub(super) announced: bool,
}

struct Tombstone {
    key: StreamKey,
    farewell: Farewell,
    until: Instant,
}

/// All streams of this node. Bounded by the engine's limit of streams per peer and of connections.
#[derive(Default)]
pub(super) struct Books {
    live: HashMap<StreamKey, Live>,
    tombstones: VecDeque<Tombstone>,
}

impl Books {
    pub(super) fn insert(&mut self, key: StreamKey, handle: Handle, announced: bool) {
        self.live.insert(key, Live { handle, failure: None, announced });
    }

    pub(super) fn get_mut(&mut self, key: StreamKey) -> Option<&mut Live> {
        self.live.get_mut(&key)
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
            while self.tombstones.len() >= TOMBSTONES_MAX
                || self.tombstones.front().is_some_and(|oldest| oldest.until <= now)
            {
                self.tombstones.pop_front();
            }
            self.tombstones.push_back(Tombstone { key, farewell, until: now + keep });
        }
        self.live.remove(&key)
    }

    /// What to answer a peer that asks for a stream which is not live.
    pub(super) fn farewell(&self, key: StreamKey) -> Option<Farewell> {
        self.tombstones.iter().rev().find(|stone| stone.key == key).map(|stone| stone.farewell)
    }

    /// Whether no stream lives.
    pub(super) fn is_empty(&self) -> bool {
        self.live.is_empty()
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
