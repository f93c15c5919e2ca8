//! Cables, addresses and routes.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

use super::addresses::{INTERNET, RELAY, gateway_address, public_network};
use super::forwarder::Forwarder;
use super::{Lab, LabError, Line, Namespace, RouterSpec, command};

impl Lab {
    /// Lays the cables and gives every machine its addresses and routes.
    pub(super) fn wire(&mut self, routers: &[RouterSpec]) -> Result<(), LabError> {
        self.lay_cables(routers)?;
        let mut bridge = "link add bridge type bridge\nlink set relay master bridge up\n".to_owned();
        for index in 0..self.routers.len() {
            let _ = writeln!(bridge, "link set router{index} master bridge up");
        }
        bridge += &format!("addr add {INTERNET}/24 dev bridge\nlink set bridge up\n");
        self.internet.configure(&(bridge + &self.routes_to_hosts(None)))?;
        self.relay.configure(&(interface("eth0", RELAY) + &self.routes_to_hosts(None)))?;
        (0..self.routers.len()).try_for_each(|index| self.wire_router(index))
    }

    fn lay_cables(&mut self, specs: &[RouterSpec]) -> Result<(), LabError> {
        let internet = self.internet.name();
        let mut cables = cable(&self.relay, "eth0", internet, "relay");
        for (index, (router, spec)) in self.routers.iter().zip(specs).enumerate() {
            let far_link = format!("router{index}");
            match spec.line == Line::default() {
                true => cables += &cable(router, "wan", internet, &far_link),
                false => {
                    let ends = [(router, "wan"), (&self.internet, far_link.as_str())];
                    self.lines.push(Forwarder::start(spec.line, ends)?);
                }
            }
            for (port, host) in self.behind(index).enumerate() {
                cables += &cable(host, "eth0", router.name(), &format!("lan{port}"));
            }
        }
        command::run(command::ip().args(["-batch", "-"]), Some(&cables)).map(drop)
    }

    fn wire_router(&self, index: usize) -> Result<(), LabError> {
        let router = self.router(index);
        let gateway = gateway_address(index, self.is_private(index));
        let mut lines = "link add lan type bridge\n".to_owned() + &interface("wan", router.address());
        for (port, _) in self.behind(index).enumerate() {
            let _ = writeln!(lines, "link set lan{port} master lan up");
        }
        lines += &interface("lan", gateway);
        router.configure(&(lines + &self.routes_to_hosts(Some(index))))?;
        router.sysctl("ipv4/ip_forward", "1")?;
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

fn cable(near: &Namespace, near_link: &str, far: &str, far_link: &str) -> String {
    let near = near.name();
    format!("link add {near_link} netns {near} type veth peer name {far_link} netns {far}\n")
}

fn interface(link: &str, address: Ipv4Addr) -> String {
    format!("addr add {address}/24 dev {link}\nlink set {link} up\n")
}
