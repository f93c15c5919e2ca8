//! Where we may be reached: how relays see us from outside, and the addresses of this host.
//!
//! What a relay sees is taken as it says it. libp2p's identify replaces the port by our listen port, which
//! behind a NAT that changes ports is an address that nobody answers at.

use std::{collections::BTreeMap, net::IpAddr, time::Instant};

use libp2p::{Multiaddr, PeerId};

use crate::{
    addr::{
        GlobalScope,
        policy::{CANDIDATES_MAX, Candidate, Here, Nearness, Policy, Source, without_peer},
        scope::Scope,
        socket_of, transport_of,
    },
    path::Transport,
};

/// Observations that are kept: two transports and families at as many relays as a node uses.
const OBSERVED_MAX: usize = 64;

/// Addresses of this host that are kept: a host of containers has dozens.
const LISTENING_MAX: usize = 64;

/// Our addresses.
#[derive(Debug)]
pub(crate) struct Candidates {
    policy: Policy,
    /// The latest observation of each relay, per transport and family.
    observed: BTreeMap<(PeerId, Transport, bool), (Multiaddr, Instant)>,
    /// What we listen on, as the system reported it.
    listening: Vec<(Multiaddr, Instant)>,
    here: Here,
}

impl Candidates {
    pub(crate) fn new(global: GlobalScope) -> Self {
        Self {
            policy: Policy::new(global),
            observed: BTreeMap::new(),
            listening: Vec::new(),
            here: Here::default(),
        }
    }

    pub(crate) fn policy(&self) -> &Policy {
        &self.policy
    }

    pub(crate) fn here(&self) -> &Here {
        &self.here
    }

    /// Returns the candidate if `relay` has not said the same before and it may be offered to others.
    pub(crate) fn observed(
        &mut self,
        relay: PeerId,
        observed: &Multiaddr,
        now: Instant,
    ) -> Option<Multiaddr> {
        let socket = socket_of(observed)?;
        if self.policy.scope(socket.ip()) != Scope::Public {
            return None;
        }
        let address = without_peer(observed);
        let key = (relay, transport_of(&address), socket.is_ipv6());
        if self.observed.len() >= OBSERVED_MAX && !self.observed.contains_key(&key) {
            let oldest = self.observed.iter().min_by_key(|(_, (_, at))| *at).map(|(key, _)| *key);
            self.observed.remove(&oldest?);
        }
        let before = self.observed.insert(key, (address.clone(), now));
        self.locate();
        (before.map(|(before, _)| before).as_ref() != Some(&address)).then_some(address)
    }

    /// This host listens on an address.
    pub(crate) fn listening(&mut self, address: &Multiaddr, now: Instant) {
        let known = self.listening.iter().any(|(known, _)| known == address);
        if !known && self.listening.len() < LISTENING_MAX && socket_of(address).is_some() {
            self.listening.push((address.clone(), now));
            self.locate();
        }
    }

    /// It does not any more.
    pub(crate) fn listening_ended(&mut self, address: &Multiaddr) {
        self.listening.retain(|(known, _)| known != address);
        self.locate();
    }

    /// What to offer to a peer: public addresses to anybody, and to a familiar peer those of our networks
    /// as well, for which half of the places are kept.
    pub(crate) fn offer(&self, familiar: bool) -> Vec<Multiaddr> {
        let (mut public, mut private) = (Vec::new(), Vec::new());
        for candidate in self.all() {
            match candidate.nearness {
                Nearness::Public => public.push(candidate),
                _ if familiar => private.push(candidate),
                _ => {}
            }
        }
        public.sort_by_key(Candidate::score);
        public.truncate(CANDIDATES_MAX - private.len().min(CANDIDATES_MAX / 2));
        // Loopback last: it is of use to the same host alone, which can use the others too.
        private.sort_by_key(|candidate| candidate.nearness == Nearness::ThisHost);
        private.truncate(CANDIDATES_MAX - public.len());
        public.into_iter().chain(private).map(|candidate| candidate.address).collect()
    }

    /// Each address once, with its better source.
    fn all(&self) -> Vec<Candidate> {
        let mut all: Vec<Candidate> = Vec::new();
        let observed = self.observed.values().map(|found| (Source::Relay, found));
        let listening = self.listening.iter().map(|found| (Source::Interface, found));
        for (source, (address, seen)) in observed.chain(listening) {
            let Some(nearness) = self.nearness(address) else { continue };
            let candidate = Candidate { address: address.clone(), source, nearness, seen: *seen };
            match all.iter_mut().find(|known| known.address == *address) {
                Some(known) if candidate.score() < known.score() => *known = candidate,
                Some(_) => {}
                None => all.push(candidate),
            }
        }
        all
    }

    fn nearness(&self, address: &Multiaddr) -> Option<Nearness> {
        match self.policy.scope(socket_of(address)?.ip()) {
            Scope::Public => Some(Nearness::Public),
            Scope::Private => Some(Nearness::ThisNetwork),
            Scope::Loopback => Some(Nearness::ThisHost),
            Scope::Forbidden => None,
        }
    }

    fn locate(&mut self) {
        let ip = |address: &Multiaddr| -> Option<IpAddr> { Some(socket_of(address)?.ip()) };
        self.here = Here {
            interfaces: self.listening.iter().filter_map(|(address, _)| ip(address)).collect(),
            public: self.observed.values().filter_map(|(address, _)| ip(address)).collect(),
        };
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn address(text: &str) -> Multiaddr {
        text.parse().unwrap()
    }

    /// A laptop that listens on all its addresses, seen by one relay.
    fn laptop() -> Candidates {
        let (mut candidates, now) = (Candidates::new(GlobalScope::default()), Instant::now());
        for ip in ["127.0.0.1", "192.168.1.7", "169.254.3.4", "10.20.30.40"] {
            candidates.listening(&address(&format!("/ip4/{ip}/tcp/4001")), now);
        }
        candidates.observed(PeerId::random(), &address("/ip4/73.0.0.11/tcp/35000"), now).unwrap();
        candidates
    }

    #[test]
    fn private_addresses_are_offered_to_familiar_peers_alone() {
        let candidates = laptop();
        assert_eq!(candidates.offer(false), [address("/ip4/73.0.0.11/tcp/35000")]);
        let offered = candidates.offer(true);
        let expected =
            ["/ip4/73.0.0.11/tcp/35000", "/ip4/192.168.1.7/tcp/4001", "/ip4/10.20.30.40/tcp/4001"];
        assert_eq!(offered[..3], expected.map(address));
        assert_eq!(
            offered[3..],
            [address("/ip4/127.0.0.1/tcp/4001")],
            "loopback last, link-local never"
        );
    }

    #[test]
    fn half_of_the_places_are_kept_for_the_networks_that_both_may_share() {
        let mut candidates = laptop();
        let now = Instant::now();
        for port in 1..=20 {
            candidates.observed(PeerId::random(), &address(&format!("/ip4/73.0.0.11/tcp/{port}")), now);
            candidates.listening(&address(&format!("/ip4/192.168.1.7/tcp/{port}")), now);
        }
        let public = |offered: &[Multiaddr]| {
            offered.iter().filter(|address| address.to_string().starts_with("/ip4/73.")).count()
        };
        let (stranger, familiar) = (candidates.offer(false), candidates.offer(true));
        assert_eq!((stranger.len(), public(&stranger)), (CANDIDATES_MAX, CANDIDATES_MAX));
        assert_eq!((familiar.len(), public(&familiar)), (CANDIDATES_MAX, CANDIDATES_MAX / 2));
    }

    #[test]
    fn an_address_that_this_host_lost_is_not_offered() {
        let mut candidates = laptop();
        candidates.listening_ended(&address("/ip4/192.168.1.7/tcp/4001"));
        assert!(!candidates.offer(true).contains(&address("/ip4/192.168.1.7/tcp/4001")));
        assert!(!candidates.here().interfaces.contains(&"192.168.1.7".parse().unwrap()));
    }

    #[test]
    fn a_public_address_of_this_host_is_offered_once_and_by_its_observation() {
        let (mut candidates, now) = (Candidates::new(GlobalScope::default()), Instant::now());
        let own = address("/ip6/2a00::7/tcp/4001");
        candidates.listening(&own, now);
        assert_eq!(candidates.offer(false), std::slice::from_ref(&own));
        candidates.observed(PeerId::random(), &own, now);
        assert_eq!(candidates.offer(false), [own]);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let (mut candidates, now) = (Candidates::new(GlobalScope::default()), Instant::now());
        for port in 1..=200 {
            candidates.observed(PeerId::random(), &address(&format!("/ip4/73.0.0.11/tcp/{port}")), now);
            candidates.listening(&address(&format!("/ip4/192.168.1.7/tcp/{port}")), now);
        }
        assert_eq!(candidates.observed.len(), OBSERVED_MAX);
        assert_eq!(candidates.listening.len(), LISTENING_MAX);
    }
}
