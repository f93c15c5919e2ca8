//! Where we may be reached: how relays see us from outside, what our router forwards to us, and the addresses of this
//! host.
//!
//! What a relay sees is taken as it says it. libp2p's identify replaces the port by our listen port, which
//! behind a NAT that changes ports is an address that nobody answers at.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    time::Instant,
};

use libp2p::{Multiaddr, PeerId};

use crate::{
    addr::{
        Ranges, ip_of,
        policy::{CANDIDATES_MAX, Candidate, Here, Nearness, Policy, Source, without_peer},
        scope::Scope,
        socket_of, transport_of,
    },
    engine::{input::Listener, paths::stated::Stated},
    error::Family,
    event::LetsIn,
    path::Transport,
    status::ExternalState,
};

/// Observations that are kept: two transports and families at as many relays as a node uses.
const OBSERVED_MAX: usize = 64;

/// Addresses of this host that are kept: a host of containers has dozens.
const LISTENING_MAX: usize = 64;

/// Our addresses.
#[derive(Debug)]
pub(crate) struct Candidates {
    policy: Policy,
    /// What our operator says.
    stated: Stated,
    /// The latest observation of each relay, per transport and family.
    observed: BTreeMap<(PeerId, Transport, bool), (Multiaddr, Instant)>,
    /// The latest observation, per transport and family, in which a router had left the port that we listen on alone. It
    /// may still do so towards peers where a relay sees another port: a router keeps a port for the address that this
    /// host had before, and gives us another one, towards the same destinations only.
    unchanged: BTreeMap<(Transport, bool), (Multiaddr, Instant)>,
    /// What our router lets through to us.
    mapped: BTreeMap<(Transport, Family), (Multiaddr, Instant)>,
    /// What we listen on, as the system reported it.
    listening: Vec<(Multiaddr, Instant)>,
    /// Those that a relay has reached, and who else does.
    confirmed: BTreeMap<Multiaddr, LetsIn>,
    here: Here,
    /// Since they were taken to be tested.
    changed: bool,
}

impl Candidates {
    pub(crate) fn new(policy: Policy, stated: Stated) -> Self {
        Self {
            policy,
            stated,
            observed: BTreeMap::new(),
            unchanged: BTreeMap::new(),
            mapped: BTreeMap::new(),
            listening: Vec::new(),
            confirmed: BTreeMap::new(),
            here: Here::default(),
            changed: false,
        }
    }

    pub(crate) fn policy(&self) -> &Policy {
        &self.policy
    }

    /// These ranges hold from now on.
    pub(crate) fn keep_to(&mut self, ranges: Ranges) {
        self.changed |= self.policy.keep_to(ranges);
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
        if self.policy.shows(observed) != Some(Nearness::Public) {
            return None;
        }
        let address = without_peer(observed);
        let key = (relay, transport_of(&address), socket.is_ipv6());
        if self.observed.len() >= OBSERVED_MAX && !self.observed.contains_key(&key) {
            let oldest = self.observed.iter().min_by_key(|(_, (_, at))| *at).map(|(key, _)| *key);
            self.observed.remove(&oldest?);
        }
        if self.listens_at(key.1, socket.port()) {
            self.unchanged.insert((key.1, key.2), (address.clone(), now));
        }
        let before = self.observed.insert(key, (address.clone(), now));
        self.locate();
        (before.map(|(before, _)| before).as_ref() != Some(&address)).then_some(address)
    }

    /// Where relays saw us in another network is nowhere now. Those that `sees` us still, over a transport, would not
    /// say it again.
    pub(crate) fn forget_sights(&mut self, sees: impl Fn(PeerId, Transport) -> bool) {
        self.observed.retain(|(relay, transport, _), _| sees(*relay, *transport));
        self.locate();
    }

    /// This host listens on an address.
    pub(crate) fn listening(&mut self, address: &Multiaddr, now: Instant) {
        let known = self.listening.iter().any(|(known, _)| known == address);
        if !known && self.listening.len() < LISTENING_MAX && socket_of(address).is_some() {
            self.listening.push((address.clone(), now));
            self.locate();
        }
    }

    /// Whether this host listens there, and may have another address in the eyes of others. To one with a public
    /// IPv6 address they can tell nothing: hardly any router translates those.
    pub(crate) fn needs_sight(&self, transport: Transport, family: Family) -> bool {
        let over = self.listening.iter().map(|(address, _)| address).filter(|address| {
            let ip = socket_of(address).map(|socket| Family::of(socket.ip()));
            transport_of(address) == transport && ip == Some(family)
        });
        let mut over = over.peekable();
        let own = |address: &Multiaddr| self.policy.shows(address) == Some(Nearness::Public);
        over.peek().is_some() && (family == Family::V4 || !over.any(own))
    }

    fn listens_at(&self, transport: Transport, port: u16) -> bool {
        self.listening.iter().any(|(address, _)| {
            transport_of(address) == transport
                && socket_of(address).is_some_and(|socket| socket.port() == port)
        })
    }

    /// Where routers left our port alone, as long as relays still see us come from that host.
    fn unchanged(&self) -> impl Iterator<Item = &(Multiaddr, Instant)> {
        self.unchanged.values().filter(|(address, _)| {
            let host = |address: &Multiaddr| socket_of(address).map(|socket| socket.ip());
            self.observed.values().any(|(observed, _)| host(observed) == host(address))
        })
    }

    /// It does not any more.
    pub(crate) fn listening_ended(&mut self, address: &Multiaddr) {
        self.listening.retain(|(known, _)| known != address);
        self.locate();
    }

    /// Our router lets whoever dials this address through to us; true if it did not before.
    pub(crate) fn mapped(&mut self, key: (Transport, Family), address: Multiaddr, now: Instant) -> bool {
        let before = self.mapped.insert(key, (address.clone(), now));
        self.locate();
        before.is_none_or(|(before, _)| before != address)
    }

    /// It does not any more. Returns what it was.
    pub(crate) fn mapping_lost(&mut self, key: (Transport, Family)) -> Option<Multiaddr> {
        let (address, _) = self.mapped.remove(&key)?;
        self.locate();
        Some(address)
    }

    /// What our operator says is offered from now on, if it was not before. Returns what is new.
    pub(crate) fn begin_stated(&mut self, now: Instant) -> Vec<Multiaddr> {
        let new = self.stated.begin(now);
        if !new.is_empty() {
            self.locate();
        }
        new
    }

    /// Whether our operator says it.
    pub(crate) fn is_stated(&self, address: &Multiaddr) -> bool {
        self.stated.contains(address)
    }

    /// A relay found nobody where our operator says that we are; true if none said so before.
    pub(crate) fn stated_unanswered(&mut self, address: &Multiaddr, relay: PeerId) -> bool {
        self.stated.unanswered(address, relay)
    }

    /// How what our operator says does.
    pub(crate) fn stated(&self) -> impl Iterator<Item = (&Multiaddr, ExternalState)> {
        self.stated.states(|address| self.confirmed.contains_key(address))
    }

    /// Those of these addresses that our router lets through to us, by its word or our operator's.
    pub(crate) fn mapped_of(&self, addresses: &[Multiaddr]) -> Vec<Multiaddr> {
        let is_mapped = |address: &&Multiaddr| {
            self.mapped.values().any(|(mapped, _)| mapped == *address)
                || self.stated.open().any(|stated| stated == *address)
        };
        addresses.iter().filter(is_mapped).cloned().collect()
    }

    /// Whether one of this family lets anybody in.
    pub(crate) fn is_open(&self, family: Family) -> bool {
        let of_family = |address: &Multiaddr| ip_of(address).map(Family::of) == Some(family);
        let mut confirmed = self.confirmed.iter();
        let mut stated = self.stated.open().filter(|address| self.policy.is_public(address));
        self.mapped.keys().any(|(_, mapped)| *mapped == family)
            || stated.any(of_family)
            || confirmed.any(|(address, lets_in)| *lets_in == LetsIn::Anybody && of_family(address))
    }

    /// A relay reached this one, and so do others; or nobody does. True if now one of its family lets anybody in and
    /// none did before.
    pub(crate) fn confirmed(&mut self, address: &Multiaddr, lets_in: Option<LetsIn>) -> bool {
        let family = ip_of(address).map_or(Family::V4, Family::of);
        let open = self.is_open(family);
        if lets_in.is_some() {
            self.stated.answered(address);
        }
        match lets_in {
            Some(lets_in) => self.confirmed.insert(address.clone(), lets_in),
            None => self.confirmed.remove(address),
        };
        !open && self.is_open(family)
    }

    /// The candidates to be tested, if there are others than before.
    pub(crate) fn take_changed(&mut self) -> Option<Vec<Multiaddr>> {
        std::mem::take(&mut self.changed).then(|| self.offer(false))
    }

    /// Our listeners that a router may stand before: those at private IPv4 addresses, which it translates, and those at
    /// public IPv6 addresses, which its firewall guards.
    pub(crate) fn behind_router(&self) -> Vec<Listener> {
        let behind = |(address, _): &(Multiaddr, Instant)| {
            let at = socket_of(address)?;
            let guarded = match at {
                SocketAddr::V4(_) => Scope::Private,
                SocketAddr::V6(_) => Scope::Public,
            };
            let listener = Listener { transport: transport_of(address), at };
            (self.policy.scope(at.ip()) == guarded).then_some(listener)
        };
        self.listening.iter().filter_map(behind).collect()
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

    /// Where this host listens.
    pub(crate) fn listening_at(&self) -> impl Iterator<Item = &Multiaddr> {
        self.listening.iter().map(|(address, _)| address)
    }

    /// What anybody is told, and how it is known; the best first.
    pub(crate) fn told(&self) -> Vec<(Multiaddr, Source)> {
        let mut public = self.all();
        public.retain(|candidate| candidate.nearness == Nearness::Public);
        public.sort_by_key(Candidate::score);
        public.truncate(CANDIDATES_MAX);
        public.into_iter().map(|candidate| (candidate.address, candidate.source)).collect()
    }

    /// Each address once, with its better source.
    fn all(&self) -> Vec<Candidate> {
        let mut all: Vec<Candidate> = Vec::new();
        let mapped = self.mapped.values().map(|found| (Source::Router, found));
        let observed = self.observed.values().chain(self.unchanged());
        let observed = observed.map(|found| (Source::Relay, found));
        let listening = self.listening.iter().map(|found| (Source::Interface, found));
        let others = mapped.chain(observed).chain(listening);
        let others = others.map(|(source, (address, seen))| (source, address, *seen));
        let stated = self.stated.offered().map(|(address, since)| (Source::Operator, address, since));
        for (source, address, seen) in stated.chain(others) {
            let Some(nearness) = self.policy.shows(address) else { continue };
            let told = matches!(source, Source::Operator | Source::Router);
            let confirmed = !told && self.confirmed.contains_key(address);
            let source = if confirmed { Source::Confirmed } else { source };
            let candidate = Candidate { address: address.clone(), source, nearness, seen };
            match all.iter_mut().find(|known| known.address == *address) {
                Some(known) if candidate.score() < known.score() => *known = candidate,
                Some(_) => {}
                None => all.push(candidate),
            }
        }
        all
    }

    fn locate(&mut self) {
        self.changed = true;
        let ip = |address: &Multiaddr| -> Option<IpAddr> { Some(socket_of(address)?.ip()) };
        let public = |address: &&Multiaddr| self.policy.is_public(address);
        let stated = self.stated.offered().map(|(address, _)| address).filter(public);
        self.here = Here {
            interfaces: self.listening.iter().filter_map(|(address, _)| ip(address)).collect(),
            public: self
                .observed
                .values()
                .chain(self.mapped.values())
                .map(|(address, _)| address)
                .chain(stated)
                .filter_map(ip)
                .collect(),
        };
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::addr::GlobalScope;

    fn address(text: &str) -> Multiaddr {
        text.parse().unwrap()
    }

    /// Nothing is known yet.
    fn fresh() -> (Candidates, Instant) {
        let policy = Policy::new(GlobalScope::default(), Ranges::default());
        (Candidates::new(policy, Stated::new(&[])), Instant::now())
    }

    /// A laptop that listens on all its addresses, seen by one relay.
    fn laptop() -> Candidates {
        let (mut candidates, now) = fresh();
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
    fn where_a_router_left_our_port_alone_before_that_port_is_offered_beside_the_one_that_a_relay_sees_now()
     {
        let (mut candidates, now) = (laptop(), Instant::now());
        let [ours, other] = ["/ip4/73.0.0.11/tcp/4001", "/ip4/73.0.0.11/tcp/59722"].map(address);
        let relay = PeerId::random();
        candidates.observed(relay, &other, now);
        assert!(!candidates.offer(false).contains(&ours), "nobody has seen that");
        candidates.observed(relay, &ours, now);
        candidates.observed(relay, &other, now + std::time::Duration::from_secs(1));
        let offered = candidates.offer(false);
        let at = |wanted: &Multiaddr| offered.iter().position(|address| address == wanted);
        assert!(at(&other) < at(&ours) && at(&ours).is_some(), "{offered:?}");
    }

    #[test]
    fn a_port_that_was_left_alone_is_forgotten_with_the_public_address() {
        let (mut candidates, now) = fresh();
        candidates.listening(&address("/ip4/192.168.1.7/tcp/4001"), now);
        let relay = PeerId::random();
        candidates.observed(relay, &address("/ip4/73.0.0.11/tcp/4001"), now);
        let moved = address("/ip4/73.0.0.12/tcp/59722");
        candidates.observed(relay, &moved, now);
        assert_eq!(candidates.offer(false), [moved]);
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
        let (mut candidates, now) = fresh();
        let own = address("/ip6/2a00::7/tcp/4001");
        candidates.listening(&own, now);
        assert_eq!(candidates.offer(false), std::slice::from_ref(&own));
        candidates.observed(PeerId::random(), &own, now);
        assert_eq!(candidates.offer(false), [own]);
    }

    #[test]
    fn what_our_router_forwards_is_offered_before_what_relays_observe() {
        let (mut candidates, now) = (laptop(), Instant::now());
        let mapped = address("/ip4/73.0.0.11/tcp/4001");
        let key = (Transport::Tcp, Family::V4);
        assert!(candidates.mapped(key, mapped.clone(), now));
        assert!(!candidates.mapped(key, mapped.clone(), now), "the same again");
        let observed = address("/ip4/73.0.0.11/tcp/35000");
        assert_eq!(candidates.offer(false), [mapped.clone(), observed.clone()]);
        assert_eq!(candidates.mapping_lost(key), Some(mapped));
        assert_eq!(candidates.offer(false), [observed]);
    }

    #[test]
    fn a_router_is_asked_for_listeners_at_private_ipv4_and_public_ipv6_addresses_alone() {
        let (mut candidates, now) = fresh();
        for other in [
            "/ip4/127.0.0.1/tcp/4001",
            "/ip4/73.0.0.11/tcp/4001",
            "/ip4/169.254.3.4/tcp/4001",
            "/ip6/fd00::7/tcp/4001",
            "/ip6/fe80::7/tcp/4001",
            "/ip6/::1/tcp/4001",
        ] {
            candidates.listening(&address(other), now);
        }
        assert_eq!(candidates.behind_router(), []);
        candidates.listening(&address("/ip4/192.168.1.7/udp/4002/quic-v1"), now);
        candidates.listening(&address("/ip6/2a00::7/udp/4003/quic-v1"), now);
        let listener = |at: &str| Listener { transport: Transport::Quic, at: at.parse().unwrap() };
        let expected = ["192.168.1.7:4002", "[2a00::7]:4003"].map(listener);
        assert_eq!(candidates.behind_router(), expected);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let (mut candidates, now) = fresh();
        for port in 1..=200 {
            candidates.observed(PeerId::random(), &address(&format!("/ip4/73.0.0.11/tcp/{port}")), now);
            candidates.listening(&address(&format!("/ip4/192.168.1.7/tcp/{port}")), now);
        }
        assert_eq!(candidates.observed.len(), OBSERVED_MAX);
        assert_eq!(candidates.listening.len(), LISTENING_MAX);
    }
}
