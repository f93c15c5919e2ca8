//! Cables, addresses and routes.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

use super::addresses::{INTERNET, RELAY, carrier_gateway, gateway_address, public_network};
use super::forwarder::Forwarder;
use super::{Lab, LabError, LabSpec, Line, Namespace, command};

impl Lab {
    /// Lays the cables and gives every machine its addresses and routes.
    pub(super) fn wire(&mut self, spec: &LabSpec) -> Result<(), LabError> {
        self.lay_cables(spec)?;
        let mut links = self.customers(None);
        links.extend((0..self.carriers.len()).map(|index| format!("carrier{index}")));
        links.push("relay".to_owned());
        let routes = self.routes_to_hosts(None);
        self.internet.configure(&(network("bridge", &links, INTERNET) + &routes))?;
        self.relay.configure(&(interface("eth0", RELAY) + &routes))?;
        for (index, carrier) in self.carriers.iter().enumerate() {
            let lan = network("lan", &self.customers(Some(index)), carrier_gateway(index));
            wire_router(carrier, &(lan + &routes))?;
        }
        (0..self.routers.len()).try_for_each(|index| self.wire_home(index))
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
        command::run(command::ip().args(["-batch", "-"]), Some(&cables)).map(drop)
    }

    /// The links of the routers that are behind a carrier, or behind none.
    fn customers(&self, carrier: Option<usize>) -> Vec<String> {
        let behind = self.behind_carrier.iter().enumerate().filter(|(_, behind)| **behind == carrier);
        behind.map(|(index, _)| format!("router{index}")).collect()
    }

    fn wire_home(&self, index: usize) -> Result<(), LabError> {
        let gateway = gateway_address(index, self.is_private(index));
        let links: Vec<_> =
            self.behind(index).enumerate().map(|(port, _)| format!("lan{port}")).collect();
        let routes = match self.behind_carrier[index] {
            Some(carrier) => format!("route add default via {}\n", carrier_gateway(carrier)),
            None => self.routes_to_hosts(Some(index)),
        };
        wire_router(self.router(index), &(network("lan", &links, gateway) + &routes))?;
        let route = format!("route add default via {gateway}\n");
        self.behind(index)
            .try_for_each(|host| host.configure(&(interface("eth0", host.address()) + &route)))
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
}

/// Gives a router its address outside, then what `inside` says, and lets it forward.
fn wire_router(router: &Namespace, inside: &str) -> Result<(), LabError> {
    router.configure(&(interface("wan", router.address()) + inside))?;
    // Otherwise a second address goes with the first one.
    router.sysctl("ipv4/conf/all/promote_secondaries", "1")?;
    router.sysctl("ipv4/ip_forward", "1")
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

/// A bridge of links, on which the machine has an address.
fn network(bridge: &str, links: &[String], address: Ipv4Addr) -> String {
    let mut lines = format!("link add {bridge} type bridge\n");
    for link in links {
        let _ = writeln!(lines, "link set {link} master {bridge} up");
    }
    lines + &interface(bridge, address)
}

fn cable(near: &Namespace, near_link: &str, far: &str, far_link: &str) -> String {
    let near = near.name();
    format!("link add {near_link} netns {near} type veth peer name {far_link} netns {far}\n")
}

fn interface(link: &str, address: Ipv4Addr) -> String {
    format!("addr add {address}/24 dev {link}\nlink set {link} up\n")
}
