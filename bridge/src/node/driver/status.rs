//! How the node is: what the engine knows, and what only the driver sees.

use std::time::Instant;

use super::Driver;
use crate::status::Status;

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
}
