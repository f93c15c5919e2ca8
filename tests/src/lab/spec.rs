//! What a lab consists of, before it is built.

use std::net::Ipv6Addr;
use std::time::Duration;

use super::families::Families;
use super::line::Line;
use super::nat::Nat;

/// What a lab consists of: a host behind each router, or two, and carriers that some of the routers are behind.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct LabSpec {
    /// The routers, in the order of their indices; at most [`ROUTERS_MAX`](super::ROUTERS_MAX).
    pub routers: Vec<RouterSpec>,
    /// The routers of carriers, to which [`RouterSpec::carrier`] refers; at most
    /// [`CARRIERS_MAX`](super::CARRIERS_MAX). They have no hosts, and must translate.
    pub carriers: Vec<RouterSpec>,
    /// Which addresses the relay has.
    pub relay: Families,
    /// Hosts that have a second network card, and the router whose network it fits, each by its index. The card is
    /// down until [`Lab::join`](super::Lab::join).
    pub uplinks: Vec<(usize, usize)>,
}

impl LabSpec {
    /// A lab with one router for each of `nats`; unexpected SYNs are dropped.
    pub fn new(nats: impl IntoIterator<Item = Nat>) -> Self {
        let routers = nats.into_iter().map(RouterSpec::new).collect();
        Self { routers, ..Self::default() }
    }

    /// The same lab, in which router `index` is behind a carrier of its own (CGNAT); panics if there is no such router.
    pub fn behind_carrier(mut self, index: usize, carrier: RouterSpec) -> Self {
        self.routers[index].carrier = Some(self.carriers.len());
        self.carriers.push(carrier);
        self
    }

    /// The same lab, in which all routers are behind one carrier.
    pub fn behind_one_carrier(mut self, carrier: RouterSpec) -> Self {
        for router in &mut self.routers {
            router.carrier = Some(self.carriers.len());
        }
        self.carriers.push(carrier);
        self
    }

    /// The same lab, in which the host behind router `host` can be in the network of `router`, too.
    pub fn uplink(mut self, host: usize, router: usize) -> Self {
        self.uplinks.push((host, router));
        self
    }

    /// The same lab, in which every router has two hosts in its network.
    pub fn with_neighbours(self) -> Self {
        self.each(|router| router.neighbour = true)
    }

    /// The same lab, in which every host and the relay have addresses of these families.
    pub fn families(mut self, families: Families) -> Self {
        self.relay = families;
        self.each(|router| router.families = families)
    }

    /// The same lab, in which the hosts behind router `index` have addresses of these families; panics if there is no
    /// such router.
    pub fn host_families(mut self, index: usize, families: Families) -> Self {
        self.routers[index].families = families;
        self
    }

    /// The same lab, in which the relay has addresses of these families.
    pub fn relay_families(mut self, families: Families) -> Self {
        self.relay = families;
        self
    }

    /// The same lab, in which packets between a host and the relay take `one_way`, and those between two hosts twice
    /// as long.
    pub fn delay(self, one_way: Duration) -> Self {
        self.line(Line { delay: one_way, ..Line::default() })
    }

    /// The same lab, in which every router has such a line to the internet, or to its carrier.
    pub fn line(self, line: Line) -> Self {
        self.each(|router| router.line = line)
    }

    /// The same lab, in which every router answers unexpected SYNs as given.
    pub fn unexpected_syn(self, answer: UnexpectedSyn) -> Self {
        self.each(|router| router.unexpected_syn = answer)
    }

    /// What a router has, given its spec: IPv4 always.
    pub(super) fn of_router(&self, router: &RouterSpec) -> Families {
        both_if(router.families.has_v6())
    }

    /// What carrier `index` has.
    pub(super) fn of_carrier(&self, index: usize) -> Families {
        let mut customers = self.routers.iter().filter(|router| router.carrier == Some(index));
        both_if(customers.any(|router| router.families.has_v6()))
    }

    /// What the internet has: all that anybody has.
    pub(super) fn of_internet(&self) -> Families {
        both_if(self.relay.has_v6() || self.routers.iter().any(|router| router.families.has_v6()))
    }

    fn each(mut self, change: impl FnMut(&mut RouterSpec)) -> Self {
        self.routers.iter_mut().for_each(change);
        self
    }
}

fn both_if(v6: bool) -> Families {
    if v6 { Families::Both } else { Families::V4 }
}

/// One router.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RouterSpec {
    /// How it maps and filters.
    pub nat: Nat,
    /// What it does with SYNs from outside.
    pub unexpected_syn: UnexpectedSyn,
    /// What may leave.
    pub egress: Egress,
    /// How long a UDP flow is remembered after its last packet, in whole seconds; none for what Linux does: 30 s,
    /// and 120 s where there were answers.
    pub udp_timeout: Option<Duration>,
    /// Whether machines inside reach each other by their public addresses, seen as coming from the sender's
    /// public address. Only for kinds that keep ports.
    pub hairpin: bool,
    /// Whether a second host is in its network. Only heeded when the lab is built.
    pub neighbour: bool,
    /// Its line to the internet, or to its carrier. Only heeded when the lab is built.
    pub line: Line,
    /// The carrier that it is behind, by its index, rather than on the internet. Only heeded when the lab is built.
    pub carrier: Option<usize>,
    /// Which addresses its hosts have. The router itself and its carrier have IPv4 addresses always. Only heeded when
    /// the lab is built.
    pub families: Families,
    /// The first 96 bits of addresses by which its hosts send to IPv4 ones (NAT64); it does with what they send as with
    /// all IPv4 packets of its hosts. Needs `tayga`. Only heeded when the lab is built.
    pub nat64: Option<Ipv6Addr>,
}

impl RouterSpec {
    /// A router with one host that maps and filters as given, drops unexpected SYNs, lets everything out and delays
    /// nothing.
    pub fn new(nat: Nat) -> Self {
        Self {
            nat,
            unexpected_syn: UnexpectedSyn::Drop,
            egress: Egress::All,
            udp_timeout: None,
            hairpin: false,
            neighbour: false,
            line: Line::default(),
            carrier: None,
            families: Families::V4,
            nat64: None,
        }
    }
}

/// What a router answers to a TCP SYN from outside that it does not expect.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum UnexpectedSyn {
    /// Nothing, as RFC 5382 (REQ-4) asks, so that simultaneous open works.
    Drop,
    /// A RST, to every SYN from outside, even to one that crosses a SYN from inside (against
    /// RFC 5382, REQ-2), so that simultaneous open fails whatever its timing.
    Reset,
}

/// What a router lets its hosts send.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Egress {
    /// Everything.
    All,
    /// No UDP, in neither direction.
    NoUdp,
    /// No TCP, in neither direction.
    NoTcp,
    /// TCP to port 443, and nothing else; no UDP in either direction.
    Https,
}
