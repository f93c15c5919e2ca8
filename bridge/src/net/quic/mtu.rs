//! How large packets may become.
//!
//! QUIC begins with 1,200 bytes and tries larger packets, up to a bound. Each costs about a microsecond at either end,
//! whatever its size. So the bound is what the route's interface carries, as far as the system says it: on loopback and on
//! networks with jumbo frames packets become large, and behind a tunnel nothing is tried that cannot leave.

use std::net::IpAddr;

use quinn_proto::MtuDiscoveryConfig;

/// Where the system does not say: Ethernet, with the heads of IPv6 and UDP.
const USUAL: u16 = 1_452;

/// What every path of QUIC carries.
const LEAST: u16 = 1_200;

/// Two of these leave with one call of the system.
const MOST: u16 = 32_400;

/// How up to the `largest` is tried towards `remote`.
///
/// A packet that only tries a size is filled with padding, byte by byte, at whose other end quinn looks at each: half a millisecond
/// for the largest, a dozen times in a search. What loopback carries is known, and so only that is tried, or a first call would wait.
pub(super) fn discovery(remote: IpAddr, largest: u16) -> MtuDiscoveryConfig {
    let mut discovery = MtuDiscoveryConfig::default();
    discovery.upper_bound(largest);
    if remote.is_loopback() {
        // Where the middle is nearer than this, quinn tries the upper bound.
        discovery.minimum_change((largest - LEAST) / 2 + 1);
    }
    discovery
}

/// The largest packet that is tried towards `remote`, in bytes without the heads of IP and UDP.
pub(super) fn largest_packet(remote: IpAddr) -> u16 {
    system::carried(remote).map_or(USUAL, |bytes| bytes.clamp(LEAST, MOST))
}

#[cfg(target_os = "linux")]
mod system {
    use std::net::{IpAddr, Ipv4Addr, UdpSocket};

    use nix::sys::socket::{getsockopt, sockopt::IpMtu};

    /// Heads of IPv4 and UDP, and of IPv6 and UDP.
    const HEADS: [u16; 2] = [28, 48];

    /// Of the loopback interface.
    const LOOPBACK: u16 = u16::MAX;

    /// What one packet of UDP can carry. For IPv6 nix has no such question, so only loopback is known.
    pub(super) fn carried(remote: IpAddr) -> Option<u16> {
        if remote.is_loopback() && remote.is_ipv6() {
            return Some(LOOPBACK - HEADS[1]);
        }
        let IpAddr::V4(remote) = remote else { return None };
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
        // To connect a datagram socket only looks up the route.
        socket.connect((remote, 9)).ok()?;
        let mtu = getsockopt(&socket, IpMtu).ok()?;
        Some(u16::try_from(mtu).unwrap_or(u16::MAX).saturating_sub(HEADS[0]))
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use std::net::IpAddr;

    pub(super) fn carried(_: IpAddr) -> Option<u16> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_as_large_as_the_route_carries_and_two_leave_at_once() {
        let of = |address: &str| largest_packet(address.parse().unwrap_or(IpAddr::from([127, 0, 0, 1])));
        if cfg!(target_os = "linux") {
            assert_eq!([of("127.0.0.1"), of("::1")], [MOST; 2]);
        }
        assert_eq!(of("2001:db8::1"), USUAL);
        assert!((LEAST..=MOST).contains(&of("198.51.100.1")));
    }
}
