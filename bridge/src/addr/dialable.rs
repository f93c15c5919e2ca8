//! Which addresses our transports can dial, and listen on.

use libp2p::{Multiaddr, multiaddr::Protocol};

use super::{
    is_circuit,
    web::{WebPlace, is_web},
};

/// Why our transports can never dial an address, or listen on it; and what to write instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Undialable {
    /// It names no machine.
    #[error("names no host; begin with /ip4/<address>, /ip6/<address>, /dns4/<name> or /dns6/<name>")]
    Host,
    /// It means every address of a machine, and so none.
    #[error("names every address of a machine and so none; name the one that others reach")]
    Unspecified,
    /// It means many machines.
    #[error("is an address of many machines at once; name that of one")]
    Group,
    /// The interface is missing, and a multiaddr of ours cannot name it.
    #[error("is of one link and does not say of which; name another address of that machine")]
    LinkLocal,
    /// Port 0 means any free one.
    #[error("has port 0, where nobody answers; name the real port")]
    NoPort,
    /// Neither TCP nor QUIC nor a WebSocket, or something over them.
    #[error(
        "is neither TCP nor QUIC version 1 nor a WebSocket; end it with /tcp/<port>, /udp/<port>/quic-v1 or, for a \
         relay, /tcp/<port>/tls/ws"
    )]
    Transport,
    /// A WebSocket, which only relays have.
    #[error(
        "is a WebSocket, which only relays listen on; end it with /tcp/<port> or /udp/<port>/quic-v1"
    )]
    Websocket,
}

/// Whether a node can dial this address: TCP, QUIC or a WebSocket at one machine, or a circuit through one.
///
/// # Errors
/// If it never can, whatever the network does.
pub fn dialable(address: &Multiaddr) -> Result<(), Undialable> {
    let parts: Vec<Protocol<'_>> =
        address.iter().take_while(|part| *part != Protocol::P2pCircuit).collect();
    match parts.first() {
        Some(Protocol::Ip4(ip)) if ip.is_unspecified() => return Err(Undialable::Unspecified),
        Some(Protocol::Ip6(ip)) if ip.is_unspecified() => return Err(Undialable::Unspecified),
        // What such a name stands for says all the rest.
        Some(Protocol::Dnsaddr(_)) => return Ok(()),
        _ => {}
    }
    match transport(&parts)? {
        0 => Err(Undialable::NoPort),
        _ => Ok(()),
    }
}

/// Whether a node can dial this address of another node, which is no relay: TCP or QUIC at one machine, or a circuit.
///
/// # Errors
/// If it never can.
pub fn peer_dialable(address: &Multiaddr) -> Result<(), Undialable> {
    dialable(address)?;
    match is_web(address) && !is_circuit(address) {
        true => Err(Undialable::Websocket),
        false => Ok(()),
    }
}

/// Whether a node can listen on this address: TCP or QUIC on one or every address of this machine.
///
/// # Errors
/// If it never can.
pub fn listenable(address: &Multiaddr) -> Result<(), Undialable> {
    match is_web(address) {
        true => Err(Undialable::Websocket),
        false => relay_listenable(address),
    }
}

/// Whether a relay can listen on this address: as [`listenable`], or a WebSocket.
///
/// # Errors
/// If it never can.
pub fn relay_listenable(address: &Multiaddr) -> Result<(), Undialable> {
    let parts: Vec<Protocol<'_>> = address.iter().collect();
    match parts.as_slice() {
        [Protocol::Ip4(_) | Protocol::Ip6(_), .., Protocol::Tcp(_) | Protocol::QuicV1]
        | [Protocol::Ip4(_) | Protocol::Ip6(_), .., Protocol::Ws(_) | Protocol::Wss(_)] => {
            transport(&parts).map(drop)
        }
        [Protocol::Ip4(_) | Protocol::Ip6(_), ..] => Err(Undialable::Transport),
        _ => Err(Undialable::Host),
    }
}

/// The port, if this is a host and one of our transports.
fn transport(parts: &[Protocol<'_>]) -> Result<u16, Undialable> {
    match parts.first() {
        Some(Protocol::Ip4(ip)) if ip.is_multicast() || ip.is_broadcast() => Err(Undialable::Group),
        Some(Protocol::Ip6(ip)) if ip.is_multicast() => Err(Undialable::Group),
        Some(Protocol::Ip6(ip)) if ip.is_unicast_link_local() => Err(Undialable::LinkLocal),
        Some(Protocol::Ip4(_) | Protocol::Ip6(_)) => Ok(()),
        Some(Protocol::Dns(_) | Protocol::Dns4(_) | Protocol::Dns6(_)) => Ok(()),
        _ => Err(Undialable::Host),
    }?;
    match &parts[1..] {
        [Protocol::Tcp(port)] | [Protocol::Tcp(port), Protocol::P2p(_)] => Ok(*port),
        [Protocol::Udp(port), Protocol::QuicV1] => Ok(*port),
        [Protocol::Udp(port), Protocol::QuicV1, Protocol::P2p(_)] => Ok(*port),
        _ => match WebPlace::of(&parts.iter().cloned().collect()) {
            Some(place) => Ok(place.port),
            None => Err(Undialable::Transport),
        },
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const RELAY: &str = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";

    #[test]
    fn only_tcp_quic_and_websockets_at_one_machine_can_be_dialled() {
        for good in [
            "/ip4/1.2.3.4/tcp/5/ws".to_owned(),
            "/dns4/example.org/tcp/443/wss".to_owned(),
            format!("/dns4/example.org/tcp/443/tls/ws/p2p/{RELAY}"),
            format!("/ip6/2a00::1/tcp/443/tls/ws/p2p/{RELAY}/p2p-circuit/p2p/{RELAY}"),
            "/ip4/1.2.3.4/tcp/5".to_owned(),
            "/ip4/169.254.1.1/tcp/5".to_owned(),
            "/ip6/2a00::1/udp/5/quic-v1".to_owned(),
            format!("/dns4/example.org/udp/5/quic-v1/p2p/{RELAY}"),
            format!("/dnsaddr/example.org/p2p/{RELAY}"),
            format!("/ip4/1.2.3.4/tcp/5/p2p/{RELAY}/p2p-circuit/p2p/{RELAY}"),
        ] {
            assert_eq!(dialable(&good.parse().unwrap()), Ok(()), "{good}");
        }
        for (bad, fault) in [
            ("/ip4/1.2.3.4", Undialable::Transport),
            ("/ip4/1.2.3.4/udp/5", Undialable::Transport),
            ("/ip4/1.2.3.4/udp/5/quic", Undialable::Transport),
            ("/ip4/1.2.3.4/tcp/5/tls", Undialable::Transport),
            ("/ip4/1.2.3.4/udp/5/ws", Undialable::Transport),
            ("/dns4/example.org/tcp/443/x-parity-wss/%2fpath", Undialable::Transport),
            ("/ip4/1.2.3.4/tcp/0", Undialable::NoPort),
            ("/ip4/1.2.3.4/tcp/0/tls/ws", Undialable::NoPort),
            ("/ip4/0.0.0.0/tcp/443/tls/ws", Undialable::Unspecified),
            ("/ip4/1.2.3.4/udp/0/quic-v1", Undialable::NoPort),
            ("/ip4/0.0.0.0/tcp/5", Undialable::Unspecified),
            ("/ip6/::/tcp/5", Undialable::Unspecified),
            ("/ip6/fe80::1/tcp/5", Undialable::LinkLocal),
            ("/ip4/224.0.0.1/udp/5/quic-v1", Undialable::Group),
            ("/ip6/ff02::1/tcp/5", Undialable::Group),
            ("/ip6zone/eth0/ip6/fe80::1/tcp/5", Undialable::Host),
            ("/memory/5", Undialable::Host),
            ("/p2p-circuit", Undialable::Host),
        ] {
            assert_eq!(dialable(&bad.parse().unwrap()), Err(fault), "{bad}");
        }
        let web = "/ip4/1.2.3.4/tcp/443/tls/ws";
        assert_eq!(peer_dialable(&web.parse().unwrap()), Err(Undialable::Websocket));
        let circuit = format!("{web}/p2p/{RELAY}/p2p-circuit");
        assert_eq!(peer_dialable(&circuit.parse().unwrap()), Ok(()));
    }

    #[test]
    fn only_addresses_of_this_machine_can_be_listened_on() {
        for good in ["/ip4/0.0.0.0/tcp/0", "/ip6/::/udp/0/quic-v1", "/ip4/127.0.0.1/tcp/5"] {
            assert_eq!(listenable(&good.parse().unwrap()), Ok(()), "{good}");
        }
        for (bad, fault) in [
            ("/dns4/example.org/tcp/5", Undialable::Host),
            ("/ip4/1.2.3.4/udp/5/quic", Undialable::Transport),
            ("/ip4/1.2.3.4/tcp/5/ws", Undialable::Websocket),
            ("/ip6/fe80::1/tcp/5", Undialable::LinkLocal),
            ("/ip4/224.0.0.1/tcp/5", Undialable::Group),
        ] {
            assert_eq!(listenable(&bad.parse().unwrap()), Err(fault), "{bad}");
        }
    }

    #[test]
    fn a_relay_can_listen_on_websockets_too() {
        for good in ["/ip4/0.0.0.0/tcp/443/tls/ws", "/ip6/::/tcp/443/wss", "/ip4/127.0.0.1/tcp/0/ws"] {
            assert_eq!(relay_listenable(&good.parse().unwrap()), Ok(()), "{good}");
        }
        for (bad, fault) in [
            ("/dns4/example.org/tcp/443/tls/ws", Undialable::Host),
            ("/ip4/0.0.0.0/tcp/443/tls", Undialable::Transport),
            ("/ip4/0.0.0.0/udp/443/ws", Undialable::Transport),
        ] {
            assert_eq!(relay_listenable(&bad.parse().unwrap()), Err(fault), "{bad}");
        }
    }
}
