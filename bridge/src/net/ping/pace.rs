//! How often a connection is pinged.
//!
//! A ping finds out that a path is dead before a stream has to, so pings pass often where streams say something. Where they have
//! said nothing for [`QUIET_AFTER`], pings only keep the way open and notice in the end what died. Relays that lead to us or
//! to others are asked often all the same: nothing else tells that nobody can reach us any more. So are peers behind them: a relay
//! that hangs says nothing, and few peers stay relayed.

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
    relayed: bool,
    began: Instant,
    /// Since then pings pass rarely; none: they pass often.
    rests: Option<Instant>,
    /// What was said last.
    told: Duration,
}

impl Pace {
    /// `relayed`: it runs through a relay.
    pub(super) fn new(peer: PeerId, watched: Watched, pulse: Pulse, relayed: bool) -> Self {
        let (began, told) = (Instant::now(), PING_INTERVAL);
        Self { peer, watched, pulse, relayed, began, rests: None, told }
    }

    /// To be asked when a ping has passed: how long until the next.
    pub(super) fn interval(&mut self) -> Duration {
        let used = self.pulse.last_used().map_or(self.began, |used| self.began.max(used.into()));
        let may_rest = !self.relayed && !self.watched.contains(&self.peer);
        let quiet = used.elapsed() >= QUIET_AFTER && may_rest;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn circuits_and_relays_that_are_watched_are_pinged_often_however_quiet_they_are() {
        let (peer, relay, watched) = (PeerId::random(), PeerId::random(), Watched::default());
        watched.add(relay);
        let of = |peer, relayed| Pace::new(peer, watched.clone(), Pulse::default(), relayed);
        let mut all = [of(peer, false), of(peer, true), of(relay, false)];
        assert_eq!(all.each_mut().map(Pace::interval), [PING_INTERVAL; 3]);
        tokio::time::advance(QUIET_AFTER).await;
        let intervals = [QUIET_PING_INTERVAL, PING_INTERVAL, PING_INTERVAL];
        assert_eq!(all.each_mut().map(Pace::interval), intervals);
    }
}
