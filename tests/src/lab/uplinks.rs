//! Hosts that change networks, as a laptop does: a card for each, and the default route by the one that is preferred.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::addresses::{gateway_address, guest_address};
use super::families::{gateway_v6, guest_v6};
use super::{Lab, LabError};

impl Lab {
    /// Brings the machine behind router `host` into the network of `router`, its own or that of an
    /// [uplink](super::LabSpec::uplink): its card is up, has an address of each family that the machine has at home, and
    /// a default route through the router. Of several routes the one with the lowest `metric` is taken, as network
    /// managers prefer a cable to Wi-Fi. What was connected by another network is not told.
    ///
    /// # Errors
    ///
    /// If `ip` refuses.
    pub fn join(&self, host: usize, router: usize, metric: u32) -> Result<(), LabError> {
        let card = card(host, router);
        let mut lines = format!("link set {card} up\n");
        if self.host(host).has_v4() {
            let address = self.address_in(host, router);
            let gateway = gateway_address(router, self.is_private(router));
            lines += &format!(
                "addr replace {address}/24 dev {card}\nroute flush exact 0.0.0.0/0 dev {card}\n\
                 route add default via {gateway} dev {card} metric {metric}\n"
            );
        }
        if let Some(address) = self.v6_in(host, router) {
            let gateway = gateway_v6(router);
            lines += &format!(
                "addr replace {address}/64 dev {card} nodad\n\
                 route replace default via {gateway} dev {card} metric {metric}\n"
            );
        }
        self.host(host).configure(&lines)
    }

    /// Takes it out of that network again, as when the cable is pulled: card, addresses and routes go at once.
    ///
    /// # Errors
    ///
    /// If `ip` refuses.
    pub fn leave(&self, host: usize, router: usize) -> Result<(), LabError> {
        let card = card(host, router);
        self.host(host).configure(&format!("link set {card} down\naddr flush dev {card}\n"))
    }

    fn address_in(&self, host: usize, router: usize) -> Ipv4Addr {
        match host == router {
            true => self.host(host).address(),
            false => guest_address(router, self.is_private(router), host),
        }
    }

    fn v6_in(&self, host: usize, router: usize) -> Option<Ipv6Addr> {
        let at_home = self.host(host).address_v6()?;
        Some(if host == router { at_home } else { guest_v6(router, host) })
    }
}

/// The card of a host in the network of `router`.
pub(super) fn card(host: usize, router: usize) -> String {
    if host == router { "eth0".to_owned() } else { format!("uplink{router}") }
}

/// The router's end of the cable to a guest.
pub(super) fn socket(host: usize) -> String {
    format!("guest{host}")
}
