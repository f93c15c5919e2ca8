//! How the node is: what the engine knows, and what only the driver sees.

use std::time::Instant;

use libp2p::PeerId;
use tokio::sync::oneshot;

use super::Driver;
use crate::{
    engine::input::Input,
    status::{Retried, Status},
};

impl Driver {
    pub(super) fn status(&self) -> Status {
        let now = Instant::now();
        let mut status = self.engine.status(now);
        status.uptime = now - self.started;
        status.streams = self.legs.books.statuses().collect();
        status.limits.extend(self.swarm.behaviour().door.limits());
        status.limits.push(self.legs.books.memory());
        status
    }

    /// What begins is known before it does, since no input is left that could change it.
    pub(super) fn retry(&self, peer: Option<PeerId>, reply: oneshot::Sender<Retried>) -> Input {
        let _ = reply.send(self.engine.retry_outlook(peer, Instant::now()));
        Input::Retry(peer)
    }
}
