//! Where peers come from, and how much of something one host or network may have.
//!
//! Identities are free, addresses are not. An IPv4 address and an IPv6 /64 count as one host; a /24 and
//! a /48 as one network, which is what a person can rent or be given.

use std::{collections::BTreeMap, net::IpAddr};

use ipnet::IpNet;

/// The host and the network that an address belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) host: IpNet,
    pub(crate) network: IpNet,
}

impl Place {
    pub(crate) fn of(ip: IpAddr) -> Self {
        let ip = ip.to_canonical();
        let (host, network) = if ip.is_ipv4() { (32, 24) } else { (64, 48) };
        Self { host: prefix(ip, host), network: prefix(ip, network) }
    }
}

/// Every length that is asked for exists in the address's family.
fn prefix(ip: IpAddr, length: u8) -> IpNet {
    IpNet::new(ip, length).map_or(IpNet::from(ip), |net| net.trunc())
}

/// How many of something each host and each network has, and how many it may have.
#[derive(Debug)]
pub(crate) struct Shares {
    host_max: usize,
    network_max: usize,
    taken: BTreeMap<IpNet, usize>,
}

impl Shares {
    /// A network gets twice the share of a host, so that one host never fills it.
    pub(crate) fn new(host_max: usize) -> Self {
        Self { host_max, network_max: host_max.saturating_mul(2), taken: BTreeMap::new() }
    }

    /// Whether `place` may have one more.
    ///
    /// # Errors
    /// The limit that it has reached.
    pub(crate) fn fits(&self, place: Place) -> Result<(), usize> {
        let reached = |net: IpNet, max: usize| self.count(net) >= max;
        if reached(place.host, self.host_max) {
            return Err(self.host_max);
        }
        if reached(place.network, self.network_max) {
            return Err(self.network_max);
        }
        Ok(())
    }

    pub(crate) fn take(&mut self, place: Place) {
        for net in [place.host, place.network] {
            *self.taken.entry(net).or_default() += 1;
        }
    }

    pub(crate) fn give_back(&mut self, place: Place) {
        for net in [place.host, place.network] {
            if let Some(count) = self.taken.get_mut(&net) {
                *count -= 1;
                if *count == 0 {
                    self.taken.remove(&net);
                }
            }
        }
    }

    pub(crate) fn count(&self, net: IpNet) -> usize {
        self.taken.get(&net).copied().unwrap_or(0)
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.taken.is_empty()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn place(ip: &str) -> Place {
        Place::of(ip.parse().unwrap())
    }

    #[test]
    fn addresses_that_one_person_has_count_as_one() {
        assert_eq!(place("198.51.100.7"), place("::ffff:198.51.100.7"));
        assert_eq!(place("2001:db8:1:2::1"), place("2001:db8:1:2:ffff::9"));
        assert_ne!(place("2001:db8:1:2::1").host, place("2001:db8:1:3::1").host);
        assert_eq!(place("2001:db8:1:2::1").network, place("2001:db8:1:3::1").network);
        assert_ne!(place("198.51.100.7").host, place("198.51.100.8").host);
        assert_eq!(place("198.51.100.7").network, place("198.51.100.8").network);
    }

    #[test]
    fn a_host_has_its_share_and_a_network_twice_that() {
        let mut shares = Shares::new(2);
        for ip in ["198.51.100.1", "198.51.100.1", "198.51.100.2", "198.51.100.3"] {
            assert_eq!(shares.fits(place(ip)), Ok(()));
            shares.take(place(ip));
        }
        assert_eq!(shares.fits(place("198.51.100.1")), Err(2));
        assert_eq!(shares.fits(place("198.51.100.4")), Err(4), "the network's");
        assert_eq!(shares.fits(place("203.0.113.1")), Ok(()));
        shares.give_back(place("198.51.100.1"));
        assert_eq!(shares.fits(place("198.51.100.4")), Ok(()));
        for ip in ["198.51.100.1", "198.51.100.2", "198.51.100.3"] {
            shares.give_back(place(ip));
        }
        assert!(shares.is_empty());
    }
}
