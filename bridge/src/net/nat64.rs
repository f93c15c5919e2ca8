//! Relays at IPv4 addresses, for hosts that have none: through the NAT64 translator of their network.
//!
//! Only for relays that our operator named. What peers name would lead to whatever address they put into it, and those
//! that are met by a punch have to be met at an address of their own.

use std::{
    io::ErrorKind,
    net::{IpAddr, Ipv4Addr, UdpSocket},
    time::Duration,
};

use libp2p::Multiaddr;
use tokio::time::timeout;

use super::{guard::Permits, names::Names};
use crate::{
    addr::{ip_of, translated::Prefix},
    error::Family,
};

/// A name without IPv6 addresses: one that has some got them from a name server that knows the network's translator
/// (RFC 7050).
const IPV4_ONLY: &str = "ipv4only.arpa";

/// What it stands for.
const KNOWN: [Ipv4Addr; 2] = [Ipv4Addr::new(192, 0, 0, 170), Ipv4Addr::new(192, 0, 0, 171)];

/// For the answer about it: where no name server answers, the usual prefix is tried.
const PATIENCE: Duration = Duration::from_secs(1);

/// Makes IPv6 addresses of those that this host has no way to. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Nat64 {
    names: Names,
    permits: Permits,
    has_route: fn(Ipv4Addr) -> bool,
}

impl Nat64 {
    pub(crate) fn new(names: Names, permits: Permits) -> Self {
        Self { names, permits, has_route }
    }

    /// Whether this address leads nowhere unless it is translated.
    pub(crate) fn is_wanted(&self, address: &Multiaddr) -> bool {
        match ip_of(address) {
            Some(IpAddr::V4(ip)) => self.permits.may_be_translated(ip) && !(self.has_route)(ip),
            _ => false,
        }
    }

    /// The addresses, with those translated that are wanted so.
    pub(crate) async fn translate(&self, addresses: Vec<Multiaddr>) -> Vec<Multiaddr> {
        if !addresses.iter().any(|address| self.is_wanted(address)) {
            return addresses;
        }
        let prefix = self.prefix().await;
        let translate = |address: Multiaddr| match ip_of(&address) {
            Some(IpAddr::V4(ip)) if self.is_wanted(&address) => {
                let leads = address.replace(0, |_| Some(prefix.address_of(ip).into()));
                let leads = leads.unwrap_or_else(|| address.clone());
                tracing::debug!(%address, %leads, "no way to IPv4: dialled through NAT64");
                self.permits.looked_up(&address, std::slice::from_ref(&leads));
                leads
            }
            _ => address,
        };
        addresses.into_iter().map(translate).collect()
    }

    async fn prefix(&self) -> Prefix {
        let asked = timeout(PATIENCE, self.names.addresses(IPV4_ONLY, Some(Family::V6))).await;
        let found = asked.ok().and_then(Result::ok).unwrap_or_default().into_iter();
        let discovered = |ip: IpAddr| match ip {
            IpAddr::V6(ip) => KNOWN.into_iter().find_map(|known| Prefix::discovered(ip, known)),
            IpAddr::V4(_) => None,
        };
        found.filter_map(discovered).next().unwrap_or(Prefix::WELL_KNOWN)
    }
}

/// Whether packets to this address can leave this host; none is sent to find out.
fn has_route(ip: Ipv4Addr) -> bool {
    let probe = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0));
    let connected = probe.and_then(|probe| probe.connect((ip, DISCARD)));
    !connected.is_err_and(|error| {
        matches!(error.kind(), ErrorKind::NetworkUnreachable | ErrorKind::AddrNotAvailable)
    })
}

/// Any port will do.
const DISCARD: u16 = 9;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io;

    use super::*;
    use crate::addr::{GlobalScope, Ranges};

    const ID: &str = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";

    fn without_name_server(_: &str) -> io::Result<Vec<IpAddr>> {
        Err(ErrorKind::NotFound.into())
    }

    fn dns64(name: &str) -> io::Result<Vec<IpAddr>> {
        assert_eq!(name, IPV4_ONLY);
        Ok(["192.0.0.170", "2a00:64::192.0.0.171"].map(|ip| ip.parse().unwrap()).to_vec())
    }

    /// On a host that has IPv4 or not, whose operator named one relay.
    async fn dialled(
        ask: fn(&str) -> io::Result<Vec<IpAddr>>,
        has_route: fn(Ipv4Addr) -> bool,
        address: &str,
    ) -> String {
        let permits = Permits::new(GlobalScope::default(), Ranges::default());
        for named in ["/ip4/73.0.0.2/tcp/4001", "/ip4/10.0.0.2/tcp/4001"] {
            permits.given_relay(&format!("{named}/p2p/{ID}").parse().unwrap());
        }
        let nat64 = Nat64 { has_route, ..Nat64::new(Names::asking(ask), permits) };
        nat64.translate(vec![address.parse().unwrap()]).await[0].to_string()
    }

    #[tokio::test]
    async fn a_relay_of_the_operator_is_dialled_through_the_networks_translator_where_ipv4_is_missing() {
        let [none, some]: [fn(Ipv4Addr) -> bool; 2] = [|_| false, |_| true];
        let relay = "/ip4/73.0.0.2/udp/4001/quic-v1";
        for (ask, has_route, address, expected) in [
            (dns64 as fn(&str) -> _, none, relay, "/ip6/2a00:64::4900:2/udp/4001/quic-v1"),
            (without_name_server, none, relay, "/ip6/64:ff9b::4900:2/udp/4001/quic-v1"),
            (dns64, some, relay, relay),
            (dns64, none, "/ip4/73.0.0.9/tcp/1", "/ip4/73.0.0.9/tcp/1"),
            // RFC 6052, section 3.1: translators are of the internet, and private addresses are of a network.
            (dns64, none, "/ip4/10.0.0.2/tcp/4001", "/ip4/10.0.0.2/tcp/4001"),
            (dns64, none, "/ip6/2a00::1/tcp/1", "/ip6/2a00::1/tcp/1"),
        ] {
            assert_eq!(dialled(ask, has_route, address).await, expected, "{address}");
        }
    }

    #[test]
    fn a_host_has_a_way_to_itself() {
        assert!(has_route(Ipv4Addr::LOCALHOST));
    }
}
