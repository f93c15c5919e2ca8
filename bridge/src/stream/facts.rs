//! What is known of a stream while it lives: where it runs, what it carried, how it moved.

use std::{
    collections::VecDeque,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use libp2p::{Multiaddr, PeerId};
use tokio::sync::watch;

use super::{StreamId, pulse::Pulse};
use crate::{
    path::{ConnectionId, Direction, Path},
    service::Service,
};

/// Moves that are remembered per stream; older ones are forgotten.
pub const MOVES_REMEMBERED_MAX: usize = 64;

/// The connection that carries a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Carrying {
    /// Which one.
    pub connection: ConnectionId,
    /// Its path.
    pub path: Path,
    /// The peer's address on it.
    pub address: Multiaddr,
    /// When anything was heard on it.
    pub(crate) pulse: Pulse,
}

/// One completed move.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MoveRecord {
    /// The path before.
    pub from: Path,
    /// The path since.
    pub to: Path,
    /// How long nothing could flow.
    pub gap: Duration,
    /// How the connection before was lost; none if it was alive.
    pub cause: Option<String>,
}

/// Who is at the other end of a stream, and how it gets there.
#[derive(Debug)]
pub struct StreamFacts {
    /// Its id, the same at both ends.
    pub stream: StreamId,
    /// The other end, authenticated by the connection's handshake.
    pub peer: PeerId,
    /// What it is for.
    pub service: Service,
    /// Who opened it.
    pub direction: Direction,
    /// The path it began on.
    pub path_at_open: Path,
    now: watch::Sender<Carrying>,
    moves: Mutex<VecDeque<MoveRecord>>,
    bytes: Bytes,
}

/// Payload by direction and path. What is sent again after a move counts again.
#[derive(Debug, Default)]
struct Bytes {
    sent_direct: AtomicU64,
    sent_relayed: AtomicU64,
    received_direct: AtomicU64,
    received_relayed: AtomicU64,
}

impl StreamFacts {
    pub(crate) fn new(
        stream: StreamId,
        peer: PeerId,
        service: Service,
        direction: Direction,
        on: Carrying,
    ) -> Self {
        Self {
            stream,
            peer,
            service,
            direction,
            path_at_open: on.path,
            now: watch::Sender::new(on),
            moves: Mutex::default(),
            bytes: Bytes::default(),
        }
    }

    /// The path that carries it now; while it waits for one, the last.
    pub fn path(&self) -> Path {
        self.now.borrow().path
    }

    /// The connection that carries it now; while it waits for one, the last.
    pub fn carrying(&self) -> Carrying {
        self.now.borrow().clone()
    }

    /// Tells of every change of the connection that carries it.
    pub fn watch(&self) -> watch::Receiver<Carrying> {
        self.now.subscribe()
    }

    /// Its moves, oldest first; the last [`MOVES_REMEMBERED_MAX`] of them.
    pub fn moves(&self) -> Vec<MoveRecord> {
        self.moves.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// Bytes of payload sent directly; what a move sends again counts again.
    pub fn sent_direct_bytes(&self) -> u64 {
        self.bytes.sent_direct.load(Relaxed)
    }

    /// Bytes of payload sent through relays.
    pub fn sent_relayed_bytes(&self) -> u64 {
        self.bytes.sent_relayed.load(Relaxed)
    }

    /// Bytes of payload received directly; what a move delivers again counts again.
    pub fn received_direct_bytes(&self) -> u64 {
        self.bytes.received_direct.load(Relaxed)
    }

    /// Bytes of payload received through relays.
    pub fn received_relayed_bytes(&self) -> u64 {
        self.bytes.received_relayed.load(Relaxed)
    }

    /// Bytes of payload sent on all paths.
    pub fn sent_bytes(&self) -> u64 {
        self.sent_direct_bytes() + self.sent_relayed_bytes()
    }

    /// Bytes of payload received on all paths.
    pub fn received_bytes(&self) -> u64 {
        self.received_direct_bytes() + self.received_relayed_bytes()
    }

    pub(super) fn moved(&self, to: Carrying, record: MoveRecord) {
        self.now.send_replace(to);
        let mut moves = self.moves.lock().unwrap_or_else(PoisonError::into_inner);
        if moves.len() == MOVES_REMEMBERED_MAX {
            moves.pop_front();
        }
        moves.push_back(record);
    }

    pub(super) fn count_sent(&self, path: Path, bytes: usize) {
        let counter = if path.is_direct() { &self.bytes.sent_direct } else { &self.bytes.sent_relayed };
        count(counter, bytes);
    }

    pub(super) fn count_received(&self, path: Path, bytes: usize) {
        let counter =
            if path.is_direct() { &self.bytes.received_direct } else { &self.bytes.received_relayed };
        count(counter, bytes);
    }
}

/// Counters are changed under the stream's lock alone; others read them.
fn count(counter: &AtomicU64, bytes: usize) {
    counter.store(counter.load(Relaxed) + bytes as u64, Relaxed);
}
