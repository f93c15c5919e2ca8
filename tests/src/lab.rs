//! A small internet of Linux network namespaces, with NATs that behave as asked.
//!
//! ```text
//!                    internet (a bridge, 73.0.0.1/24)
//!        ┌───────────────┬────────────────┐
//!      relay          router 0         router 1       …   NAT: 73.0.0.11, 73.0.0.12, …
//!    73.0.0.2            │                │
//!                     host 0           host 1         …   192.168.1.2, 192.168.2.2, …
//! ```
//! A router may have a second host in its network, its *neighbour* (192.168.1.3, …). Hosts behind a router that does
//! not translate ([`Nat::Open`], [`Nat::Firewall`]) have global addresses (74.0.1.2, …). Routers may be behind the
//! router of a *carrier* instead of on the internet: it is 73.0.0.101, its customers are 100.64.1.11, 100.64.1.12, …
//! No router sends back what its own hosts send to the public address, unless it is to ([`RouterSpec::hairpin`]).
//!
//! Packets cross at once, unless a router's line to the internet has properties of its own ([`Line`]): then they wait
//! in this process, since many kernels have no `netem`. The relay's line has none, so that a packet between a host
//! and the relay waits once, and one between two hosts twice.
//!
//! Machines have IPv4 addresses unless others are asked for ([`Families`]). IPv6 addresses are global ones that nobody
//! translates: the internet is 2600::1, the relay 2600::2, the hosts behind router 0 are 2600:0:0:1::2 and, as
//! neighbour, 2600:0:0:1::3. Whatever the router does with IPv4, over IPv6 it is a firewall. A router with NAT64 leads
//! its hosts to IPv4 as well.
//!
//! Reading order: `spec` says what a lab consists of, `nat` what routers can do; this file builds and measures;
//! `rules` is how nftables does what `nat` says, `families` all that concerns IPv6, `addresses` who has which address,
//! `wiring` lays the cables, `uplinks` takes a host from one network to another; `line` says how long packets wait, and
//! `forwarder` keeps them so long; `forwarded` has a router forward ports by hand, `miniupnpd` for whoever asks, `nat64` lets it translate; `namespace` is one
//! machine, `sweep` removes those that a killed process left behind; `capability` says whether this machine can have a
//! lab at all.

use std::net::{IpAddr, Ipv4Addr};

mod addresses;
mod capability;
mod command;
mod families;
mod forwarded;
mod forwarder;
mod line;
mod miniupnpd;
mod namespace;
mod nat;
mod nat64;
mod rules;
mod spec;
mod sweep;
mod uplinks;
mod wiring;

pub use capability::{Missing, capability};
pub use command::LabError;
pub use families::Families;
pub use line::Line;
pub use miniupnpd::{Miniupnpd, PortMapping};
pub use namespace::Namespace;
pub use nat::{Filtering, Mapping, Nat, UnknownNat};
pub use nat64::{WELL_KNOWN_PREFIX, has_nat64};
pub use spec::{Egress, LabSpec, RouterSpec, UnexpectedSyn};
pub use sweep::sweep;

use addresses::{
    INTERNET, RELAY, carrier_address, customer_address, gateway_address, host_address,
    neighbour_address, public_address, public_network, spare_address,
};
use command::run;
use families::{INTERNET_V6, RELAY_V6, carrier_v6, customer_v6, host_v6, neighbour_v6, public_v6};
use forwarder::Forwarder;
use nat64::Tayga;
use sweep::unique_prefix;

/// A running lab.
///
/// # Drop
///
/// Kills what still runs in the namespaces and removes them, also when a test panics. What a
/// killed test process left behind is swept by the next [`Lab::build`] on the machine.
#[derive(Debug)]
pub struct Lab {
    /// Dropped before the namespaces, which live as long as a device of theirs is held.
    lines: Vec<Forwarder>,
    translators: Vec<Tayga>,
    hosts: Vec<Namespace>,
    neighbours: Vec<Option<Namespace>>,
    routers: Vec<Namespace>,
    carriers: Vec<Namespace>,
    /// Of each router, the carrier that it is behind.
    behind_carrier: Vec<Option<usize>>,
    relay: Namespace,
    internet: Namespace,
}

impl Lab {
    /// Builds a lab; takes well under a second.
    ///
    /// # Errors
    ///
    /// If `spec` has more routers than fit, or routers that cannot be where they are to be, or if the machine refuses
    /// a step; see [`capability`] to ask beforehand.
    pub fn build(spec: &LabSpec) -> Result<Self, LabError> {
        check(spec)?;
        sweep()?;
        let prefix = unique_prefix();
        let add = |suffix: &str, v4, v6, families| {
            Namespace::add(format!("{prefix}{suffix}"), v4, v6, families)
        };
        let host = |(index, router): (usize, &RouterSpec)| {
            let address = host_address(index, router.nat.translates());
            add(&format!("host{index}"), address, host_v6(index), router.families)
        };
        let neighbour = |(index, router): (usize, &RouterSpec)| {
            let address = neighbour_address(index, router.nat.translates());
            let name = format!("neighbour{index}");
            let add = || add(&name, address, neighbour_v6(index), router.families);
            router.neighbour.then(add).transpose()
        };
        let router = |(index, router): (usize, &RouterSpec)| {
            let (v4, v6) = match router.carrier {
                Some(at) => (customer_address(at, index), customer_v6(at, index)),
                None => (public_address(index), public_v6(index)),
            };
            add(&format!("router{index}"), v4, v6, spec.of_router(router))
        };
        let carrier = |index| {
            let name = format!("carrier{index}");
            add(&name, carrier_address(index), carrier_v6(index), spec.of_carrier(index))
        };
        let routers = || spec.routers.iter().enumerate();
        let mut lab = Self {
            lines: Vec::new(),
            translators: Vec::new(),
            hosts: routers().map(host).collect::<Result<_, _>>()?,
            neighbours: routers().map(neighbour).collect::<Result<_, _>>()?,
            routers: routers().map(router).collect::<Result<_, _>>()?,
            carriers: (0..spec.carriers.len()).map(carrier).collect::<Result<_, _>>()?,
            behind_carrier: spec.routers.iter().map(|router| router.carrier).collect(),
            relay: add("relay", RELAY, RELAY_V6, spec.relay)?,
            internet: add("internet", INTERNET, INTERNET_V6, spec.of_internet())?,
        };
        lab.wire(spec)?;
        for (carrier, spec) in lab.carriers.iter().zip(&spec.carriers) {
            lab.apply(carrier, spec, carrier.address(), &[])?;
        }
        for (index, router) in spec.routers.iter().enumerate() {
            lab.set_router(index, router)?;
            if let Some(prefix) = router.nat64 {
                lab.translators.push(Tayga::start(lab.router(index), index, prefix)?);
            }
        }
        Ok(lab)
    }

    /// The machine on which a relay is to run, with a global address.
    pub fn relay(&self) -> &Namespace {
        &self.relay
    }

    /// Another machine with a global address: the second reflector, or a stranger.
    pub fn internet(&self) -> &Namespace {
        &self.internet
    }

    /// How many routers there are, each with a host.
    pub fn hosts(&self) -> usize {
        self.hosts.len()
    }

    /// The machine behind router `index`; panics if there is no such router.
    pub fn host(&self, index: usize) -> &Namespace {
        &self.hosts[index]
    }

    /// The other machine behind router `index`; panics if there is none.
    pub fn neighbour(&self, index: usize) -> &Namespace {
        self.neighbours[index].as_ref().expect("the router was asked for with a neighbour")
    }

    /// Router `index`; its address is the one that it has on the internet, or in its carrier's network. Panics if there
    /// is no such router.
    pub fn router(&self, index: usize) -> &Namespace {
        &self.routers[index]
    }

    /// The address from which the internet sees the host behind router `index`; panics if there is none.
    pub fn seen_address(&self, index: usize) -> Ipv4Addr {
        match (self.behind_carrier[index], self.is_private(index)) {
            (Some(carrier), _) => self.carriers[carrier].address(),
            (None, true) => self.router(index).address(),
            (None, false) => self.host(index).address(),
        }
    }

    /// The carrier of the given index; its address is the one that it has on the internet. Panics if there is none.
    pub fn carrier(&self, index: usize) -> &Namespace {
        &self.carriers[index]
    }

    /// A free address for [`Lab::reboot_router`].
    pub fn spare_address(&self, index: usize) -> Ipv4Addr {
        spare_address(index)
    }

    /// Replaces the rules of router `index`, and forgets its counters and blocks. What the kernel knows of
    /// flows stays until [`Lab::flush_nat`].
    ///
    /// # Errors
    ///
    /// If `nft` refuses the rules, or the hosts would need other addresses, since one NAT translates and the
    /// other does not.
    pub fn set_router(&self, index: usize, spec: &RouterSpec) -> Result<(), LabError> {
        self.set_router_at(index, spec, self.router(index).address())
    }

    /// Restarts router `index` with the public address `address`: what it knew of flows is gone, and those that were
    /// connected through it are not told. [`Namespace::address`] goes on naming the first one.
    ///
    /// # Errors
    ///
    /// As for [`Lab::set_router`], or if the router is behind a carrier or `address` is not of its network, so
    /// that `ip` refuses.
    pub fn reboot_router(
        &self,
        index: usize,
        spec: &RouterSpec,
        address: Ipv4Addr,
    ) -> Result<(), LabError> {
        // Without any address in between the router would lose its routes.
        self.router(index).configure(&format!("addr add {address}/24 dev wan\n"))?;
        let new = address.to_string();
        for old in self.router(index).addresses_on("wan", "-4")?.iter().filter(|old| **old != new) {
            self.router(index).configure(&format!("addr del {old}/24 dev wan\n"))?;
        }
        self.set_router_at(index, spec, address)?;
        self.flush_nat(index)
    }

    fn set_router_at(&self, index: usize, spec: &RouterSpec, address: Ipv4Addr) -> Result<(), LabError> {
        if spec.nat.translates() != self.is_private(index) {
            return Err(LabError::OtherAddresses { nat: spec.nat });
        }
        let others = || (0..self.routers.len()).filter(|&other| other != index);
        let seen: Vec<_> = others().map(|other| (other, self.seen_as(other))).collect();
        self.apply(self.router(index), spec, address, &seen)?;
        match self.router(index).address_v6() {
            Some(_) => {
                let rules = families::ruleset(spec, &others().collect::<Vec<_>>());
                run(self.router(index).command("nft").args(["-f", "-"]), Some(&rules)).map(drop)
            }
            None => Ok(()),
        }
    }

    /// Where the hosts behind router `index` are seen, as nftables writes a set of addresses.
    fn seen_as(&self, index: usize) -> String {
        match self.behind_carrier[index] {
            Some(carrier) => self.carriers[carrier].address().to_string(),
            None => {
                let (router, spare) = (public_address(index), spare_address(index));
                format!("{router}, {spare}, {}", public_network(index))
            }
        }
    }

    fn apply(
        &self,
        router: &Namespace,
        spec: &RouterSpec,
        address: Ipv4Addr,
        others: &[rules::Other],
    ) -> Result<(), LabError> {
        let rules = rules::ruleset(spec, address, others);
        run(router.command("nft").args(["-f", "-"]), Some(&rules))?;
        let seconds =
            |usual: u64| spec.udp_timeout.map_or(usual, |timeout| timeout.as_secs()).to_string();
        router.sysctl("netfilter/nf_conntrack_udp_timeout", &seconds(30))?;
        router.sysctl("netfilter/nf_conntrack_udp_timeout_stream", &seconds(120))
    }

    /// Bytes that crossed the relay's link so far, both directions added, headers included.
    ///
    /// # Errors
    ///
    /// If `ip` does not tell.
    pub fn relay_link_bytes(&self) -> Result<u64, LabError> {
        let mut command = self.relay.ip();
        command.args(["-j", "-s", "link", "show", "dev", "eth0"]);
        let answer = command::json(&mut command)?;
        let of = |way: &str| answer.pointer(&format!("/0/stats64/{way}/bytes"))?.as_u64();
        match (of("rx"), of("tx")) {
            (Some(received), Some(sent)) => Ok(received + sent),
            _ => Err(LabError::answer(&command, "no byte counters")),
        }
    }

    /// Bytes that router `a` forwarded so far between its host and the host of router
    /// `b`, both directions added, headers included: traffic on the direct path. All that are behind one carrier
    /// look alike.
    ///
    /// # Errors
    ///
    /// If `nft` does not tell.
    pub fn direct_bytes(&self, a: usize, b: usize) -> Result<u64, LabError> {
        let v6 = match self.router(a).address_v6() {
            Some(_) => self.direct_bytes_of("ip6", a, b)?,
            None => 0,
        };
        Ok(self.direct_bytes_of("ip", a, b)? + v6)
    }

    fn direct_bytes_of(&self, family: &str, a: usize, b: usize) -> Result<u64, LabError> {
        let mut command = self.router(a).command("nft");
        command.args(["-j", "list", "counter", family, "lab", &rules::direct_counter(b)]);
        let answer = command::json(&mut command)?;
        let objects = answer.get("nftables").and_then(|list| list.as_array());
        objects
            .into_iter()
            .flatten()
            .find_map(|object| object.pointer("/counter/bytes")?.as_u64())
            .ok_or_else(|| LabError::answer(&command, "no such counter"))
    }

    /// Cuts every router off the relay: packets vanish silently, as with a pulled cable.
    ///
    /// # Errors
    ///
    /// If `nft` refuses.
    pub fn block_relay(&self) -> Result<(), LabError> {
        self.each_way_to_relay(|router, relay| self.block(router, relay))
    }

    /// Ends [`Lab::block_relay`].
    ///
    /// # Errors
    ///
    /// If `nft` refuses.
    pub fn unblock_relay(&self) -> Result<(), LabError> {
        self.each_way_to_relay(|router, relay| self.unblock(router, relay))
    }

    fn each_way_to_relay(
        &self,
        change: impl Fn(usize, IpAddr) -> Result<(), LabError>,
    ) -> Result<(), LabError> {
        for index in 0..self.routers.len() {
            change(index, RELAY.into())?;
            if self.router(index).address_v6().is_some() {
                change(index, RELAY_V6.into())?;
            }
        }
        Ok(())
    }

    /// Makes router `index` forward nothing to or from `address`, without telling anybody.
    ///
    /// # Errors
    ///
    /// If `nft` refuses.
    pub fn block(&self, index: usize, address: impl Into<IpAddr>) -> Result<(), LabError> {
        self.change_blocked(index, "add", address.into())
    }

    /// Ends [`Lab::block`].
    ///
    /// # Errors
    ///
    /// If `nft` refuses, as it does where `address` is not blocked.
    pub fn unblock(&self, index: usize, address: impl Into<IpAddr>) -> Result<(), LabError> {
        self.change_blocked(index, "delete", address.into())
    }

    /// Lets nothing pass between the hosts behind routers `a` and `b` but what others forward.
    ///
    /// # Errors
    ///
    /// If `nft` refuses.
    pub fn cut_direct(&self, a: usize, b: usize) -> Result<(), LabError> {
        self.block(a, self.router(b).address())?;
        self.block(b, self.router(a).address())
    }

    /// Ends [`Lab::cut_direct`].
    ///
    /// # Errors
    ///
    /// If `nft` refuses.
    pub fn mend_direct(&self, a: usize, b: usize) -> Result<(), LabError> {
        self.unblock(a, self.router(b).address())?;
        self.unblock(b, self.router(a).address())
    }

    /// Makes router `index` forget its mappings, as a reboot does. Needs `conntrack`.
    ///
    /// # Errors
    ///
    /// If `conntrack` is not installed or refuses.
    pub fn flush_nat(&self, index: usize) -> Result<(), LabError> {
        let router = self.router(index);
        run(router.command("nft").args(["-f", "-"]), Some(rules::FORGET))?;
        for family in ["ipv4", "ipv6"] {
            run(router.command("conntrack").args(["-F", "-f", family]), None)?;
        }
        Ok(())
    }

    /// Takes its address from the machine behind router `index` and gives it `address`, of the same
    /// network, as a new lease does; what was connected from the old one is not told.
    /// [`Namespace::address`] goes on naming the first one.
    ///
    /// # Errors
    ///
    /// If `ip` refuses.
    pub fn renumber(&self, index: usize, address: Ipv4Addr) -> Result<(), LabError> {
        let gateway = gateway_address(index, self.is_private(index));
        let host = self.host(index);
        let old = host.addresses_on("eth0", "-4")?;
        let removed: String = old.iter().map(|old| format!("addr del {old}/24 dev eth0\n")).collect();
        host.configure(&format!(
            "{removed}addr add {address}/24 dev eth0\nroute replace default via {gateway}\n"
        ))
    }

    fn change_blocked(&self, index: usize, verb: &str, address: IpAddr) -> Result<(), LabError> {
        let family = if address.is_ipv6() { "ip6" } else { "ip" };
        let element = format!("{verb} element {family} lab blocked {{ {address} }}\n");
        run(self.router(index).command("nft").args(["-f", "-"]), Some(&element)).map(drop)
    }

    /// The machines behind router `index`.
    fn behind(&self, index: usize) -> impl Iterator<Item = &Namespace> {
        std::iter::once(&self.hosts[index]).chain(&self.neighbours[index])
    }

    fn is_private(&self, index: usize) -> bool {
        self.host(index).address() == host_address(index, true)
    }
}

fn check(spec: &LabSpec) -> Result<(), LabError> {
    let (asked, carriers) = (spec.routers.len(), spec.carriers.len());
    if asked > ROUTERS_MAX || carriers > CARRIERS_MAX {
        return Err(LabError::TooManyRouters { asked: asked.max(carriers) });
    }
    let global = |router: &&RouterSpec| !router.nat.translates();
    let behind = spec.routers.iter().filter(|router| router.carrier.is_some());
    if let Some(router) = behind.chain(&spec.carriers).find(global) {
        return Err(LabError::GlobalBehindCarrier { nat: router.nat });
    }
    let missing = |(host, router): &&(usize, usize)| host == router || (*host).max(*router) >= asked;
    if let Some(&(host, router)) = spec.uplinks.iter().find(missing) {
        return Err(LabError::NoUplink { host, router });
    }
    match spec.routers.iter().filter_map(|router| router.carrier).find(|&carrier| carrier >= carriers) {
        Some(carrier) => Err(LabError::NoSuchCarrier { carrier }),
        None => Ok(()),
    }
}

/// The most routers in a lab: their public addresses start at .11 of a /24, and a test that wants
/// more than this on one machine measures the machine.
pub const ROUTERS_MAX: usize = 32;

/// The most carriers in a lab.
pub const CARRIERS_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_routers_than_the_limit_are_refused() {
        let spec = LabSpec::new(vec![Nat::PortPreserving; ROUTERS_MAX + 1]);
        let refused = Lab::build(&spec);
        assert!(matches!(refused, Err(LabError::TooManyRouters { asked }) if asked == ROUTERS_MAX + 1));
    }
}
