//! What a relay is and does at one moment, as plain data.

use std::time::Duration;

use libp2p::{Multiaddr, PeerId};
use tokio::sync::{mpsc, oneshot};

use super::driver::Order;
use crate::{addr::Ranges, status::LimitStatus};

/// A relay at one moment.
#[derive(Clone, Debug)]
pub struct Status {
    /// Its identity.
    pub peer: PeerId,
    /// Since its start.
    pub uptime: Duration,
    /// Where it listens, with the real ports.
    pub listening: Vec<Multiaddr>,
    /// Where its clients are told that it is reached; while there is none, it holds no place for anybody.
    pub external: Vec<Multiaddr>,
    /// Where it answers STUN, the first port of each pair.
    pub stun: Vec<Multiaddr>,
    /// How much it has under way.
    pub load: Load,
    /// Its limits and how full they are.
    pub limits: Vec<LimitStatus>,
    /// Bytes received since the start, circuits and all else.
    pub received_bytes: u64,
    /// Bytes sent since the start, likewise.
    pub sent_bytes: u64,
    /// Bytes that circuits carried since the start.
    pub forwarded_bytes: u64,
}

impl Status {
    /// What keeps the relay from being usable, in words; none if it listens.
    pub fn hindrance(&self) -> Option<String> {
        self.listening.is_empty().then(|| "the relay listens nowhere".to_owned())
    }
}

/// How much a relay has under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Connections.
    pub connections: usize,
    /// Places that are held.
    pub reservations: usize,
    /// Places that are kept for peers whose connection ended a moment ago.
    pub kept: usize,
    /// Circuits that carry bytes.
    pub circuits: usize,
    /// Circuits that are being set up.
    pub circuits_waiting: usize,
}

/// A running relay, for those who do not keep it running. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Handle(pub(super) mpsc::WeakSender<Order>);

impl Handle {
    /// How the relay is now; none if it has ended, or is about to.
    pub async fn status(&self) -> Option<Status> {
        let (reply, answer) = oneshot::channel();
        self.0.upgrade()?.send(Order::Status { reply }).await.ok()?;
        answer.await.ok()
    }

    /// As [`Relay::keep_to`](super::Relay::keep_to).
    pub async fn keep_to(&self, ranges: Ranges) {
        if let Some(orders) = self.0.upgrade() {
            let _ = orders.send(Order::KeepTo(ranges)).await;
        }
    }
}
