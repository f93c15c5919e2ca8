//! Addresses that stand for peers, for programs that know nothing else.

use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6};

use libp2p::PeerId;
use siphasher::sip::SipHasher13;

/// A socket address for programs that insist on one: the same peer always gets the same address,
/// whichever path it came by.
///
/// The prefix `fd50:756e:6368::/48` is unique-local (RFC 4193), so it collides with nothing routable;
/// the other 80 bits and the port are a keyed hash of the peer id alone.
pub fn synthetic_socket_addr(peer: &PeerId) -> SocketAddr {
    let high = stable_hash(peer, 0);
    let low = stable_hash(peer, 1);
    let ip = Ipv6Addr::new(
        0xfd50,
        0x756e,
        0x6368,
        segment(high, 0),
        segment(high, 1),
        segment(high, 2),
        segment(high, 3),
        segment(low, 0),
    );
    // Port 0 means "any" to many programs, so it is left out.
    let port = segment(low, 1).max(1);
    SocketAddr::V6(SocketAddrV6::new(ip, port, 0, 0))
}

fn segment(hash: u64, index: u32) -> u16 {
    (hash >> (16 * index)) as u16
}

fn stable_hash(peer: &PeerId, salt: u64) -> u64 {
    SipHasher13::new_with_keys(0x7075_6e63_686c_696e, salt).hash(&peer.to_bytes())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const FIXED: &str = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";

    fn peer(seed: u8) -> PeerId {
        libp2p::identity::Keypair::ed25519_from_bytes([seed; 32]).unwrap().public().to_peer_id()
    }

    #[test]
    fn a_peer_always_gets_the_same_synthetic_address_and_others_get_another() {
        let fixed: PeerId = FIXED.parse().unwrap();
        assert_eq!(synthetic_socket_addr(&fixed).to_string(), synthetic_socket_addr(&fixed).to_string());
        let mut seen = std::collections::HashSet::new();
        for seed in 0..200 {
            let address = synthetic_socket_addr(&peer(seed));
            assert!(address.ip().to_string().starts_with("fd50:756e:6368:"), "{address}");
            assert!(seen.insert(address.ip()));
        }
    }
}
