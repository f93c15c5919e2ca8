//! What is known of a stream while it lives: where it runs, how much went over it, how it moved.

use std::{
    collections::VecDeque,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::{StreamId, machine::LossCause, route::Route, service::Service};

/// Moves that are remembered per stream; older ones are forgotten.
pub const MOVES_REMEMBERED_MAX: usize = 64;

/// Who started a connection or a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// This node did.
    Outbound,
    /// The peer did.
    Inbound,
}

/// One completed move.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MoveRecord<R> {
    /// The route before.
    pub from: R,
    /// The route since.
    pub to: R,
    /// How long nothing could flow.
    pub gap: Duration,
    /// How the leg before was lost; none if it was alive.
    pub cause: Option<LossCause>,
}

/// What a stream is, and how it fares.
#[derive(Debug)]
pub struct Facts<R> {
    /// Its id, the same at both ends.
    pub stream: StreamId,
    /// What it is for.
    pub service: Service,
    /// Who opened it.
    pub direction: Direction,
    /// The route of its first leg.
    pub first_route: R,
    route: watch::Sender<R>,
    parked: AtomicBool,
    moves: Mutex<VecDeque<MoveRecord<R>>>,
    bytes: Bytes,
}

/// Payload by direction and kind of route. What is sent again after a move counts again.
#[derive(Debug, Default)]
struct Bytes {
    sent_direct: AtomicU64,
    sent_relayed: AtomicU64,
    received_direct: AtomicU64,
    received_relayed: AtomicU64,
}

impl<R: Route> Facts<R> {
    /// Of a stream whose first leg takes `route`.
    pub fn new(stream: StreamId, service: Service, direction: Direction, route: R) -> Self {
        Self {
            stream,
            service,
            direction,
            first_route: route.clone(),
            route: watch::Sender::new(route),
            parked: AtomicBool::new(false),
            moves: Mutex::default(),
            bytes: Bytes::default(),
        }
    }

    /// The route that the stream takes; while it waits for one, the last.
    pub fn route(&self) -> R {
        self.route.borrow().clone()
    }

    /// Whether no leg is left, and the stream waits for one: up to its patience.
    pub fn is_parked(&self) -> bool {
        self.parked.load(Relaxed)
    }

    pub(crate) fn set_parked(&self, parked: bool) {
        self.parked.store(parked, Relaxed);
    }

    /// Tells of every change of the route.
    pub fn watch(&self) -> watch::Receiver<R> {
        self.route.subscribe()
    }

    /// Its moves, oldest first; the last [`MOVES_REMEMBERED_MAX`] of them.
    pub fn moves(&self) -> Vec<MoveRecord<R>> {
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

    /// Bytes of payload sent on all routes.
    pub fn sent_bytes(&self) -> u64 {
        self.sent_direct_bytes() + self.sent_relayed_bytes()
    }

    /// Bytes of payload received on all routes.
    pub fn received_bytes(&self) -> u64 {
        self.received_direct_bytes() + self.received_relayed_bytes()
    }

    pub(crate) fn moved(&self, record: MoveRecord<R>) {
        self.set_parked(false);
        self.route.send_replace(record.to.clone());
        let mut moves = self.moves.lock().unwrap_or_else(PoisonError::into_inner);
        if moves.len() == MOVES_REMEMBERED_MAX {
            moves.pop_front();
        }
        moves.push_back(record);
    }

    pub(crate) fn count_sent(&self, route: &R, bytes: usize) {
        if route.is_direct() {
            count(&self.bytes.sent_direct, bytes);
        } else {
            count(&self.bytes.sent_relayed, bytes);
            route.relayed(bytes);
        }
    }

    pub(crate) fn count_received(&self, route: &R, bytes: usize) {
        if route.is_direct() {
            count(&self.bytes.received_direct, bytes);
        } else {
            count(&self.bytes.received_relayed, bytes);
            route.relayed(bytes);
        }
    }
}

/// Counters are changed under the stream's lock alone; others read them.
fn count(counter: &AtomicU64, bytes: usize) {
    counter.store(counter.load(Relaxed) + bytes as u64, Relaxed);
}
