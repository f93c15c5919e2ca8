//! Cables, addresses and routes.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::addresses::{INTERNET, carrier_gateway, gateway_address, public_network};
use super::families::{carrier_gateway_v6, gateway_v6, network_v6};
use super::forwarder::Forwarder;
use super::{Lab, LabError, LabSpec, Line, Namespace, command, uplinks};

impl Lab {
    /// Lays the cables and gives every machine its addresses and routes.
    pub(super) fn wire(&mut self, spec: &LabSpec) -> Result<(), LabError> {
        self.lay_cables(spec)?;
        let mut links = self.customers(None);
        links.extend((0..self.carriers.len()).map(|index| format!("carrier{index}")));
        links.push("relay".to_owned());
        let routes = self.routes_to_hosts(None);
        let v6 = |machine: &Namespace| self.routes_to_networks(machine, None, None);
        let internet = (Some(INTERNET), self.internet.address_v6());
        self.internet
            .configure(&(network("bridge", &links, internet) + &routes + &v6(&self.internet)))?;
        self.relay.configure(&(own_interface("eth0", &self.relay) + &routes + &v6(&self.relay)))?;
        for (index, carrier) in self.carriers.iter().enumerate() {
            let inside = carrier.address_v6().map(|_| carrier_gateway_v6(index));
            let addresses = (Some(carrier_gateway(index)), inside);
            let lan = network("lan", &self.customers(Some(index)), addresses);
            let v6 = self.routes_to_networks(carrier, None, Some(index));
            wire_router(carrier, &(lan + &routes + &v6))?;
        }
        (0..self.routers.len()).try_for_each(|index| self.wire_home(index, spec))
    }

    fn lay_cables(&mut self, spec: &LabSpec) -> Result<(), LabError> {
        let mut cables = cable(&self.relay, "eth0", self.internet.name(), "relay");
        for (index, (carrier, spec)) in self.carriers.iter().zip(&spec.carriers).enumerate() {
            let far_link = format!("carrier{index}");
            self.lines.extend(line(spec.line, carrier, (&self.internet, &far_link), &mut cables)?);
        }
        for (index, (router, spec)) in self.routers.iter().zip(&spec.routers).enumerate() {
            let far = spec.carrier.map_or(&self.internet, |carrier| &self.carriers[carrier]);
            let far_link = format!("router{index}");
            self.lines.extend(line(spec.line, router, (far, &far_link), &mut cables)?);
            for (port, host) in self.behind(index).enumerate() {
                cables += &cable(host, "eth0", router.name(), &format!("lan{port}"));
            }
        }
        for (host, router) in &spec.uplinks {
            let card = uplinks::card(*host, *router);
            cables +=
                &cable(self.host(*host), &card, self.router(*router).name(), &uplinks::socket(*host));
        }
        command::run(command::ip().args(["-batch", "-"]), Some(&cables)).map(drop)
    }

    /// The links of the routers that are behind a carrier, or behind none.
    fn customers(&self, carrier: Option<usize>) -> Vec<String> {
        let behind = self.behind_carrier.iter().enumerate().filter(|(_, behind)| **behind == carrier);
        behind.map(|(index, _)| format!("router{index}")).collect()
    }

    fn wire_home(&self, index: usize, spec: &LabSpec) -> Result<(), LabError> {
        let gateway = gateway_address(index, self.is_private(index));
        let router = self.router(index);
        let inside = router.address_v6().map(|_| gateway_v6(index));
        let own = self.behind(index).enumerate().map(|(port, _)| format!("lan{port}"));
        let guests = spec.uplinks.iter().filter(|(_, router)| *router == index);
        let links: Vec<_> = own.chain(guests.map(|(host, _)| uplinks::socket(*host))).collect();
        let routes = match self.behind_carrier[index] {
            Some(carrier) => {
                let v6 = router.address_v6().map(|_| carrier_gateway_v6(carrier));
                default_routes((Some(carrier_gateway(carrier)), v6))
            }
            None => {
                self.routes_to_hosts(Some(index)) + &self.routes_to_networks(router, Some(index), None)
            }
        };
        wire_router(router, &(network("lan", &links, (Some(gateway), inside)) + &routes))?;
        self.behind(index).try_for_each(|host| {
            let routes = default_routes((host.has_v4().then_some(gateway), inside));
            host.configure(&(own_interface("eth0", host) + &routes))
        })
    }

    /// Routes of a machine on the internet to the hosts that have global addresses, less those behind `own`.
    fn routes_to_hosts(&self, own: Option<usize>) -> String {
        let mut routes = String::new();
        for (index, router) in self.routers.iter().enumerate() {
            if !self.is_private(index) && own != Some(index) {
                let (network, router) = (public_network(index), router.address());
                let _ = writeln!(routes, "route add {network} via {router}");
            }
        }
        routes
    }

    /// Routes of `machine` to all networks with IPv6 addresses, less that behind `own`: through their routers, or
    /// through the carriers of these, other than `carrier`, which is the machine itself.
    fn routes_to_networks(
        &self,
        machine: &Namespace,
        own: Option<usize>,
        carrier: Option<usize>,
    ) -> String {
        let mut routes = String::new();
        if machine.address_v6().is_none() {
            return routes;
        }
        for (index, router) in self.routers.iter().enumerate().filter(|(index, _)| own != Some(*index)) {
            let behind = self.behind_carrier[index].filter(|behind| carrier != Some(*behind));
            let via = behind.map_or(router, |behind| &self.carriers[behind]);
            if let (Some(_), Some(via)) = (router.address_v6(), via.address_v6()) {
                let _ = writeln!(routes, "route add {} via {via}", network_v6(index));
            }
        }
        routes
    }
}

/// The IPv4 and the IPv6 address of one interface.
type Addresses = (Option<Ipv4Addr>, Option<Ipv6Addr>);

/// Gives a router its address outside, then what `inside` says, and lets it forward.
fn wire_router(router: &Namespace, inside: &str) -> Result<(), LabError> {
    router.configure(&(own_interface("wan", router) + inside))?;
    // Otherwise a second address goes with the first one.
    router.sysctl("ipv4/conf/all/promote_secondaries", "1")?;
    router.sysctl("ipv4/ip_forward", "1")?;
    match router.address_v6() {
        Some(_) => router.sysctl("ipv6/conf/all/forwarding", "1"),
        None => Ok(()),
    }
}

/// A cable to a router, added to `cables`, or else a link with the properties of its line.
fn line(
    line: Line,
    router: &Namespace,
    far: (&Namespace, &str),
    cables: &mut String,
) -> Result<Option<Forwarder>, LabError> {
    if line == Line::default() {
        *cables += &cable(router, "wan", far.0.name(), far.1);
        return Ok(None);
    }
    Forwarder::start(line, [(router, "wan"), far]).map(Some)
}

/// A bridge of links, on which the machine has addresses.
fn network(bridge: &str, links: &[String], addresses: Addresses) -> String {
    let mut lines = format!("link add {bridge} type bridge\n");
    for link in links {
        let _ = writeln!(lines, "link set {link} master {bridge} up");
    }
    lines + &interface(bridge, addresses)
}

fn cable(near: &Namespace, near_link: &str, far: &str, far_link: &str) -> String {
    let near = near.name();
    format!("link add {near_link} netns {near} type veth peer name {far_link} netns {far}\n")
}

fn own_interface(link: &str, machine: &Namespace) -> String {
    let address = machine.has_v4().then(|| machine.address());
    interface(link, (address, machine.address_v6()))
}

fn interface(link: &str, (v4, v6): Addresses) -> String {
    let mut lines = String::new();
    if let Some(address) = v4 {
        let _ = writeln!(lines, "addr add {address}/24 dev {link}");
    }
    if let Some(address) = v6 {
        let _ = writeln!(lines, "addr add {address}/64 dev {link} nodad");
    }
    lines + &format!("link set {link} up\n")
}

fn default_routes((v4, v6): Addresses) -> String {
    let mut lines = String::new();
    if let Some(gateway) = v4 {
        let _ = writeln!(lines, "route add default via {gateway}");
    }
    if let Some(gateway) = v6 {
        let _ = writeln!(lines, "route add default via {gateway}");
    }
    lines
}
