//! Which of our addresses a connection leaves from.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

use libp2p::{Multiaddr, multiaddr::Protocol};

/// The IP address in front of a multiaddr.
pub(crate) fn ip_of(address: &Multiaddr) -> Option<IpAddr> {
    match address.iter().next()? {
        Protocol::Ip4(ip) => Some(ip.into()),
        Protocol::Ip6(ip) => Some(ip.into()),
        _ => None,
    }
}

/// The address of this host that the system routes from to the host of `remote`. Nothing is sent.
pub(crate) fn source_towards(remote: &Multiaddr) -> Option<IpAddr> {
    let remote = ip_of(remote)?;
    let any: IpAddr = match remote {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    // Any port will do: connecting a datagram socket only looks up the route.
    socket.connect((remote, 9)).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_goes_to_loopback_leaves_from_loopback() {
        let remote = "/ip4/127.0.0.1/tcp/4001".parse().unwrap();
        assert_eq!(source_towards(&remote), Some(Ipv4Addr::LOCALHOST.into()));
        assert_eq!(source_towards(&"/dns4/relay.example/tcp/1".parse().unwrap()), None);
    }
}
