//! Relays that come and go with what their names stand for.

use std::{collections::BTreeMap, time::Instant};

use libp2p::{Multiaddr, PeerId};

use super::{
    Link, Relay, Relays, TooManyRelays,
    names::{Answer, NAMES_MAX, nearest},
};
use crate::{
    addr::{RefusedAddresses, RelayAddr, RelayLocator, RelayName, policy::Source, split_named_circuit},
    engine::{
        Engine,
        input::{Action, Resolved},
        paths::dials::Way,
    },
    error::{DialFailureReason, TriedWay},
    event::{Asked, Event},
};

impl Engine {
    /// A place is wanted at each of these.
    pub(in crate::engine) fn reserve_all(&mut self, relays: &[RelayLocator], now: Instant) {
        for relay in relays {
            match relay {
                RelayLocator::At(relay) => self.reserve(relay, now),
                RelayLocator::Named(name) if self.uses_relays() => {
                    if !self.relay_names.reserve(name, now) {
                        self.refused(None, Asked::Relay, NAMES_MAX as u64);
                    }
                }
                RelayLocator::Named(name) => {
                    self.name_failed(name, DialFailureReason::RelaysOff.to_string(), 1);
                }
            }
        }
        self.adopt_named(now);
    }

    /// Takes out of a peer's addresses those that lead through a name of relays, and remembers to look there.
    pub(in crate::engine) fn seek_behind_names(
        &mut self,
        peer: PeerId,
        addresses: &mut Vec<Multiaddr>,
        source: Source,
    ) {
        let named: Vec<RelayName> = addresses
            .extract_if(.., |address| split_named_circuit(address).is_some())
            .filter_map(|address| Some(split_named_circuit(&address)?.0))
            .collect();
        for name in named {
            if !self.relay_names.seek(peer, &name, source) {
                self.refused(Some(peer), Asked::Relay, NAMES_MAX as u64);
            }
            addresses.extend(circuits(self.relay_names.found(&name), peer));
        }
    }

    pub(in crate::engine) fn look_names_up(&mut self, now: Instant) {
        if self.stopping.is_some() {
            return;
        }
        for (name, given) in self.relay_names.take_due(now) {
            self.actions.push_back(Action::ResolveRelays { name, given });
        }
    }

    /// What a name stands for is known, or why it is not.
    pub(in crate::engine) fn relays_resolved(&mut self, resolved: Resolved, now: Instant) {
        let Resolved { name, mut relays, failure } = resolved;
        let Some(source) = self.relay_names.asked(&name) else { return };
        let judged = self.admit(&name, &mut relays, source);
        if relays.is_empty() {
            return self.not_resolved(&name, failure.unwrap_or(judged), now);
        }
        let Some(answer) = self.relay_names.resolved(&name, relays, now) else { return };
        if answer.is_news {
            let relays = answer.relays.clone();
            self.events.push_back(Event::RelayNameResolved { name: name.clone(), relays });
        }
        self.adopt_named(now);
        self.lead_to_peers(&name, &answer, source, now);
    }

    /// Keeps those of the addresses that may be dialled; why none is left, if so.
    fn admit(&self, name: &RelayName, relays: &mut Vec<RelayAddr>, source: Source) -> String {
        let (policy, here) = (self.candidates.policy(), self.candidates.here());
        let (local, mut refused) = (self.local, RefusedAddresses::default());
        relays.retain(|relay| {
            let judged = policy.judge_record(relay, source == Source::Operator, here);
            judged.map_err(|reason| refused.count(reason)).is_ok() && relay.peer() != local
        });
        match refused.total() {
            0 => format!("the records of _dnsaddr.{name} name no relay but this node itself"),
            _ => format!(
                "the relays that _dnsaddr.{name} names may not be dialled: {refused}; if these are public in your network, \
                 say so with --assume-global <their range>"
            ),
        }
    }

    fn not_resolved(&mut self, name: &RelayName, cause: String, now: Instant) {
        let Some(failures) = self.relay_names.failed(name, cause.clone(), now) else { return };
        let reason = DialFailureReason::Network { cause: cause.clone() };
        for peer in self.dials.take_resolving(name) {
            let way = TriedWay::RelayName(name.clone());
            let ended = self.dials.untaken_failed(peer, way, reason.clone());
            self.unreachable(ended, now);
        }
        self.name_failed(name, cause, failures);
    }

    /// Said at the first failure and then ever more rarely; and not while a relay of that name serves.
    fn name_failed(&mut self, name: &RelayName, cause: String, failures: u32) {
        let name = name.clone();
        let serves = |relay: &RelayAddr| self.relays.link(relay.peer()).is_some();
        if failures.is_power_of_two() && !self.relay_names.found(&name).iter().any(serves) {
            self.events.push_back(Event::RelayNameFailed { name, cause, failures });
        }
    }

    /// Takes those relays into use that names stand for, and lets go of those that they stood for and that do not serve.
    fn adopt_named(&mut self, now: Instant) {
        let wanted = self.relay_names.wanted(self.local);
        let places: Vec<PeerId> = wanted.keys().copied().collect();
        let Followed { gone, refused } = self.relays.follow_names(wanted, now);
        places.into_iter().for_each(|relay| self.wait_begins(relay, false, now));
        gone.iter().for_each(|relay| self.wait_may_end(*relay));
        let reason =
            DialFailureReason::Network { cause: "its name does not lead to it any more".to_owned() };
        for relay in gone {
            self.circuits_failed(relay, &reason, now);
        }
        for (relay, TooManyRelays { limit }) in refused {
            self.refused(Some(relay), Asked::Relay, limit as u64);
        }
        self.watchers_changed = true;
    }

    /// Those who are sought behind the name may be found by its relays.
    fn lead_to_peers(&mut self, name: &RelayName, answer: &Answer, source: Source, now: Instant) {
        let found = self.relay_names.found(name).to_vec();
        for peer in &answer.peers {
            let gone = nearest(&answer.before, *peer).filter(|relay| !found.contains(relay));
            self.dials.forget_circuits(*peer, &gone.cloned().collect::<Vec<_>>());
            self.learn(*peer, circuits(&found, *peer), source, now);
            self.holds.heard_of(*peer, now);
        }
        for peer in self.dials.take_resolving(name) {
            let ways: Vec<RelayAddr> = nearest(&found, peer).cloned().collect();
            self.dials.also_take(peer, ways.len());
            for relay in ways {
                self.take(peer, Way::Circuit(relay), now);
            }
        }
    }
}

fn circuits(relays: &[RelayAddr], peer: PeerId) -> Vec<Multiaddr> {
    nearest(relays, peer).map(|relay| relay.circuit_to(peer)).collect()
}

/// What following the names came to.
#[derive(Debug, Default)]
pub(super) struct Followed {
    /// Relays that are not in use any more.
    gone: Vec<PeerId>,
    /// Relays that there is no room for.
    refused: Vec<(PeerId, TooManyRelays)>,
}

impl Relays {
    /// Because of names, places are wanted at these relays and at no others. One that no name stands for any more is kept
    /// while its link is up.
    fn follow_names(&mut self, wanted: BTreeMap<PeerId, Vec<RelayAddr>>, now: Instant) -> Followed {
        let mut followed = Followed::default();
        for (peer, relay) in &mut self.all {
            if !relay.named.is_empty() && !wanted.contains_key(peer) {
                relay.vanished = relay.is_up();
                if !relay.vanished {
                    relay.unname();
                    followed.gone.push(*peer);
                }
            }
        }
        followed.gone.retain(|peer| !self.all.get(peer).is_some_and(|relay| relay.reserve));
        self.all.retain(|peer, _| !followed.gone.contains(peer));
        for (peer, addresses) in wanted {
            if let Err(full) = self.follow_name(peer, addresses, now) {
                followed.refused.push((peer, full));
            }
        }
        followed
    }

    fn follow_name(
        &mut self,
        peer: PeerId,
        addresses: Vec<RelayAddr>,
        now: Instant,
    ) -> Result<(), TooManyRelays> {
        let max = self.addresses_max;
        let relay = self.room_for(peer, now)?;
        relay.vanished = false;
        let before = relay.addresses.clone();
        relay.addresses.retain(|address| !relay.named.contains(address));
        relay.named = addresses.into_iter().filter(|new| !relay.addresses.contains(new)).collect();
        relay.named.truncate(max.saturating_sub(relay.addresses.len()));
        relay.addresses.extend(relay.named.iter().cloned());
        relay.want_place(now);
        let is_new = relay.addresses.iter().any(|address| !before.contains(address));
        if is_new && !relay.is_up() {
            // A dial under way leads where the relay was before.
            relay.link = Link::Down { retry: Some(now) };
        }
        Ok(())
    }
}

impl Relay {
    fn is_up(&self) -> bool {
        matches!(self.link, Link::Identifying { .. } | Link::Ready { .. })
    }

    /// No name stands for it any more. It stays in use if the operator gave its address.
    pub(super) fn unname(&mut self) {
        let named = std::mem::take(&mut self.named);
        self.addresses.retain(|address| !named.contains(address));
        (self.vanished, self.reserve) = (false, self.given);
    }
}
