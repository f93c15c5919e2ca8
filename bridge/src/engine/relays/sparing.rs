//! Second circuits, through other relays: what [`spares`](super::spares) decides, with the facts of the other machines.

use std::time::Instant;

use libp2p::PeerId;

use crate::{
    addr::{
        RelayAddr,
        policy::{Acquaintance, Source},
    },
    engine::{
        Engine,
        input::{Action, DialId},
        paths::dials::addresses::{Known, Place},
    },
    error::DialFailureReason,
};

impl Engine {
    /// Whether a peer's streams, ours or its own, run through relays, for want of a direct way, or wait for one.
    pub(in crate::engine) fn runs_relayed(&self, peer: PeerId) -> bool {
        self.connections.is_reached_through_relays(peer)
            && (self.streams_with(peer) || self.awaits_direct(peer))
    }

    /// Connections to a peer, its streams or its known addresses have changed.
    pub(in crate::engine) fn consider_spare(&mut self, peer: PeerId, now: Instant) {
        let carries = self.connections.may_carry_relayed();
        if carries && self.stopping.is_none() && self.runs_relayed(peer) {
            self.spares.consider(peer, now);
            self.begin_beats(peer, now);
        }
    }

    pub(in crate::engine) fn make_spares(&mut self, now: Instant) {
        for peer in self.spares.take_due(now) {
            if self.stopping.is_some() || !self.runs_relayed(peer) {
                self.spares.settled(peer);
            } else if self.connections.sound_relays(peer).len() > 1 {
                self.spares.there(peer, now);
            } else if let Some(relay) = self.spare_way(peer, now) {
                self.make_spare(peer, &relay, now);
            } else if self.other_relays(peer).is_empty() {
                self.spares.settled(peer);
            } else {
                // They refuse at present, or we may not dial them: that ends.
                self.spares.tried(peer, None, now);
            }
        }
    }

    fn make_spare(&mut self, peer: PeerId, relay: &RelayAddr, now: Instant) {
        let Some(link) = self.relays.link(relay.peer()) else {
            let awaits = self.relays.add(relay, false, now).is_ok().then_some(relay.peer());
            self.relays.want_link(relay.peer(), now);
            self.spares.tried(peer, awaits, now);
            return self.relays_due(now);
        };
        self.spares.tried(peer, None, now);
        self.connections.touch(relay.peer(), now);
        let dial = self.next_dial();
        self.spares.dialling(dial, peer, relay.peer());
        self.actions.push_back(Action::DialCircuit { dial, peer, relay: relay.clone(), link });
    }

    /// The nearest of the relays that lead to a peer and through which it is not reached yet.
    fn spare_way(&mut self, peer: PeerId, now: Instant) -> Option<RelayAddr> {
        let mut ways = self.other_relays(peer);
        ways.retain(|(relay, _)| self.refusals.holding(relay.peer(), peer, now).is_none());
        // What is best known of them comes first among those that are as near.
        ways.sort_by_key(|(relay, _)| {
            let link = self.relays.link(relay.peer());
            (link.is_none(), link.and_then(|link| self.connections.distance(link)))
        });
        ways.into_iter()
            .find(|(relay, source)| self.may_dial(peer, relay, *source, now))
            .map(|way| way.0)
    }

    /// The relays that lead to a peer and through which it is not reached yet, and who said so.
    fn other_relays(&self, peer: PeerId) -> Vec<(RelayAddr, Source)> {
        let through = self.connections.sound_relays(peer);
        let other = |Known { place, source, .. }| match place {
            Place::Circuit(relay) if !through.contains(&relay.peer()) => Some((relay, source)),
            _ => None,
        };
        self.dials.known(peer).into_iter().filter_map(other).collect()
    }

    /// As for every address: what others said is judged, and dialled only so often.
    fn may_dial(&mut self, peer: PeerId, relay: &RelayAddr, source: Source, now: Instant) -> bool {
        if source == Source::Operator {
            return true;
        }
        let familiar = self.familiar.contains(peer);
        let acquaintance = Acquaintance { familiar, same_host: false };
        let (policy, here) = (self.candidates.policy(), self.candidates.here());
        policy.judge_relay(relay, acquaintance, here).is_ok()
            && self.allowance.take(peer, familiar, 1, now) == 1
    }

    /// Whether a dial that failed was for a spare.
    pub(in crate::engine) fn spare_failed(
        &mut self,
        dial: DialId,
        reason: &DialFailureReason,
        now: Instant,
    ) -> bool {
        let Some((peer, relay)) = self.spares.dialled(dial) else { return false };
        if let DialFailureReason::RelayFull(limit) = reason {
            self.refusals.refused(relay, peer, *limit, now);
        }
        true
    }
}
