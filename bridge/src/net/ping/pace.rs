//! How often a connection is pinged.
//!
//! A ping finds out that a path is dead before a stream has to, so pings pass often where streams say something. Where they have
//! said nothing for [`QUIET_AFTER`], pings only keep the way open and notice in the end what died. Relays that lead to us or
//! to others are asked often all the same: nothing else tells that nobody can reach us any more.

use std::{
    task::{Context, Poll},
    time::Duration,
};

use libp2p::PeerId;
use tokio::time::Instant;

use crate::{
    engine::{PING_INTERVAL, QUIET_AFTER, QUIET_PING_INTERVAL},
    net::watched::Watched,
    stream::Pulse,
};

/// Of one connection.
pub(super) struct Pace {
    peer: PeerId,
    watched: Watched,
    pulse: Pulse,
    began: Instant,
    /// Since then pings pass rarely; none: they pass often.
    rests: Option<Instant>,
    /// What was said last.
    told: Duration,
}

impl Pace {
    pub(super) fn new(peer: PeerId, watched: Watched, pulse: Pulse) -> Self {
        Self { peer, watched, pulse, began: Instant::now(), rests: None, told: PING_INTERVAL }
    }

    /// To be asked when a ping has passed: how long until the next.
    pub(super) fn interval(&mut self) -> Duration {
        let used = self.pulse.last_used().map_or(self.began, |used| self.began.max(used.into()));
        let quiet = used.elapsed() >= QUIET_AFTER && !self.watched.contains(&self.peer);
        self.rests = quiet.then(Instant::now);
        self.now()
    }

    fn now(&self) -> Duration {
        if self.rests.is_some() { QUIET_PING_INTERVAL } else { PING_INTERVAL }
    }

    /// Ready when pings are to pass more often or more rarely than was said last: how often.
    pub(super) fn poll_changed(&mut self, cx: &Context<'_>) -> Poll<Duration> {
        if let Some(since) = self.rests
            && self.pulse.poll_used(cx, since.into_std()).is_ready()
        {
            self.rests = None;
        }
        let now = self.now();
        if std::mem::replace(&mut self.told, now) == now { Poll::Pending } else { Poll::Ready(now) }
    }
}
