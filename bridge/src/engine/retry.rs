//! Somebody does not want to wait: what rests until its next attempt is tried now. Relays that are down are dialled, names
//! of relays that could not be resolved are looked up, relays that refused a place are asked again, punches begin anew, peers
//! that are held and missing are looked for, and relays see whether we are reached where our operator says. What is under way goes on as it is.
//!
//! Backoffs keep a node from being a burden to others, so this is done once in a while only, whoever asks for it.

use std::time::{Duration, Instant};

use libp2p::PeerId;

use super::{Engine, paths::upgrades::Resting};
use crate::{status::Retried, word::Word};

/// Between two retries. A row of punches takes some seconds, and a relay allows an address a few requests a minute.
pub(crate) const RETRY_PACE: Duration = Duration::from_secs(5);

impl Engine {
    /// What [`Input::Retry`](super::input::Input::Retry) would begin now, for this peer or relay, or for all.
    pub(crate) fn retry_outlook(&self, peer: Option<PeerId>, now: Instant) -> Retried {
        if let Some(wait) = self.retry_wait(now) {
            return Retried::TooSoon { wait };
        }
        let is_meant = |other: &PeerId| peer.is_none_or(|peer| peer == *other);
        let upgrades = self.upgrades.resting(now).into_iter().filter(|(peer, _)| is_meant(peer)).count();
        let relays = self.relays.resting(now).into_iter().filter(is_meant).count();
        let names = if peer.is_none() { self.relay_names.resting(now) } else { 0 };
        let peers = self.holds.resting(now).into_iter().filter(is_meant).count();
        match self.stopping {
            None => Retried::Begun { upgrades, relays: relays + names, peers },
            Some(_) => Retried::Begun { upgrades: 0, relays: 0, peers: 0 },
        }
    }

    fn retry_wait(&self, now: Instant) -> Option<Duration> {
        let next = self.retried? + RETRY_PACE;
        (next > now).then(|| next - now)
    }

    pub(super) fn retry_now(&mut self, peer: Option<PeerId>, now: Instant) {
        if self.retry_wait(now).is_some() || self.stopping.is_some() {
            return;
        }
        self.retried = Some(now);
        self.bans.lift(peer);
        let is_meant = |other: &PeerId| peer.is_none_or(|peer| peer == *other);
        for relay in self.relays.resting(now).into_iter().filter(is_meant) {
            self.relays.retry(relay, now);
        }
        if peer.is_none() {
            self.relay_names.retry(now);
            self.test_stated(now);
        }
        for missing in self.holds.resting(now).into_iter().filter(is_meant) {
            self.holds.retry(missing, now);
        }
        for (peer, whose) in self.upgrades.resting(now) {
            match whose {
                _ if !is_meant(&peer) => {}
                Resting::Ours => {
                    self.upgrades.improved(peer, now);
                }
                Resting::Theirs => self.say_of_punches(peer, Word::PunchAgain),
            }
        }
    }
}
