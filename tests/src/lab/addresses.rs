//! Who has which address in a lab.
//!
//! The ranges of the internet are ones that every peer takes for global: stacks treat documentation and
//! benchmarking ranges as private and would then not punch at all.

use std::net::Ipv4Addr;

/// The machine that is the internet.
pub(super) const INTERNET: Ipv4Addr = Ipv4Addr::new(73, 0, 0, 1);

/// The relay.
pub(super) const RELAY: Ipv4Addr = Ipv4Addr::new(73, 0, 0, 2);

/// Router `index` on the internet.
pub(super) fn public_address(index: usize) -> Ipv4Addr {
    Ipv4Addr::new(73, 0, 0, 11 + octet(index))
}

/// Another address that router `index` may have on the internet.
pub(super) fn spare_address(index: usize) -> Ipv4Addr {
    Ipv4Addr::new(73, 0, 0, 51 + octet(index))
}

/// Carrier `index` on the internet.
pub(super) fn carrier_address(index: usize) -> Ipv4Addr {
    Ipv4Addr::new(73, 0, 0, 101 + octet(index))
}

/// Carrier `carrier` in the network of its customers.
pub(super) fn carrier_gateway(carrier: usize) -> Ipv4Addr {
    Ipv4Addr::new(100, 64, 1 + octet(carrier), 1)
}

/// Router `index` in the network of its carrier.
pub(super) fn customer_address(carrier: usize, index: usize) -> Ipv4Addr {
    Ipv4Addr::new(100, 64, 1 + octet(carrier), 11 + octet(index))
}

/// The network of the hosts behind router `index`, if it does not translate, as `ip` and `nft` write it.
pub(super) fn public_network(index: usize) -> String {
    format!("{}/24", in_network(index, false, 0))
}

/// Router `index` in the network of its hosts; `private` if it translates.
pub(super) fn gateway_address(index: usize, private: bool) -> Ipv4Addr {
    in_network(index, private, 1)
}

/// The host behind router `index`.
pub(super) fn host_address(index: usize, private: bool) -> Ipv4Addr {
    in_network(index, private, 2)
}

/// The other host behind router `index`.
pub(super) fn neighbour_address(index: usize, private: bool) -> Ipv4Addr {
    in_network(index, private, 3)
}

/// The host behind router `host` in the network of router `index`, where it is a guest.
pub(super) fn guest_address(index: usize, private: bool, host: usize) -> Ipv4Addr {
    in_network(index, private, 11 + octet(host))
}

fn in_network(index: usize, private: bool, machine: u8) -> Ipv4Addr {
    let network = 1 + octet(index);
    match private {
        true => Ipv4Addr::new(192, 168, network, machine),
        false => Ipv4Addr::new(74, 0, network, machine),
    }
}

fn octet(index: usize) -> u8 {
    u8::try_from(index).expect("indices below ROUTERS_MAX fit an octet")
}
