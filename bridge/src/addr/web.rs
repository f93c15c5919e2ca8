//! Addresses of WebSockets, alone or over TLS: `/tcp/<port>/ws`, `/tcp/<port>/tls/ws` and `/tcp/<port>/wss`.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use libp2p::{Multiaddr, multiaddr::Protocol};

/// A WebSocket's address, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WebPlace {
    pub(crate) host: Host,
    pub(crate) port: u16,
    /// Whether it is reached over TLS.
    pub(crate) tls: bool,
    /// The name to ask for within TLS, where `host` is what that name stands for.
    name: Option<String>,
}

/// Where a WebSocket listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Host {
    Ip(IpAddr),
    Name(String),
}

impl WebPlace {
    /// None if it is not the address of a WebSocket, or of one below a path.
    pub(crate) fn of(address: &Multiaddr) -> Option<Self> {
        let mut parts = address.iter();
        let host = match parts.next()? {
            Protocol::Ip4(ip) => Host::Ip(ip.into()),
            Protocol::Ip6(ip) => Host::Ip(ip.into()),
            Protocol::Dns(name) | Protocol::Dns4(name) | Protocol::Dns6(name) => {
                Host::Name(name.into_owned())
            }
            _ => return None,
        };
        let Protocol::Tcp(port) = parts.next()? else { return None };
        let (tls, name) = read_layers(&mut parts)?;
        match (parts.next(), parts.next()) {
            (None | Some(Protocol::P2p(_)), None) => Some(Self { host, port, tls, name }),
            _ => None,
        }
    }

    /// The IP address and port, unless its host has to be looked up.
    pub(crate) fn socket(&self) -> Option<SocketAddr> {
        match self.host {
            Host::Ip(ip) => Some(SocketAddr::new(ip, self.port)),
            Host::Name(_) => None,
        }
    }

    /// Whom to ask for: the name that was dialled, if there was one.
    pub(crate) fn asked(&self) -> String {
        self.name.clone().unwrap_or_else(|| self.host.to_string())
    }
}

/// Whether there is TLS, and the name to ask for in it.
fn read_layers<'a>(parts: &mut impl Iterator<Item = Protocol<'a>>) -> Option<(bool, Option<String>)> {
    let root = |path: &str| path == "/";
    match parts.next()? {
        Protocol::Ws(path) if root(&path) => Some((false, None)),
        Protocol::Wss(path) if root(&path) => Some((true, None)),
        Protocol::Tls => match parts.next()? {
            Protocol::Ws(path) if root(&path) => Some((true, None)),
            Protocol::Sni(name) => match parts.next()? {
                Protocol::Ws(path) if root(&path) => Some((true, Some(name.into_owned()))),
                _ => None,
            },
            _ => None,
        },
        _ => None,
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]"),
            Self::Ip(ip) => ip.fmt(f),
            Self::Name(name) => name.fmt(f),
        }
    }
}

/// Whether a WebSocket carries what is sent to this address.
pub fn is_web(address: &Multiaddr) -> bool {
    address.iter().any(|part| matches!(part, Protocol::Ws(_) | Protocol::Wss(_)))
}

/// Splits the address of a WebSocket into that of its TCP socket and what comes after it. A peer id at the end belongs to
/// neither.
pub(crate) fn split_web(address: &Multiaddr) -> Option<(Multiaddr, Multiaddr)> {
    WebPlace::of(address)?;
    let layers = address.iter().skip(2).filter(|part| !matches!(part, Protocol::P2p(_)));
    Some((address.iter().take(2).collect(), layers.collect()))
}

/// What a WebSocket's address by name becomes once its name stands for `ip`: over TLS, the name is asked for there.
pub(crate) fn resolved(address: &Multiaddr, ip: IpAddr) -> Option<Multiaddr> {
    let place = WebPlace::of(address)?;
    let socket = Multiaddr::from(ip).with(Protocol::Tcp(place.port));
    let web = match place.tls {
        true => socket.with(Protocol::Tls).with(Protocol::Sni(place.asked().into())),
        false => socket,
    };
    let web = web.with(Protocol::Ws("/".into()));
    Some(match address.iter().last() {
        Some(peer @ Protocol::P2p(_)) => web.with(peer),
        _ => web,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const RELAY: &str = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";

    fn address(text: &str) -> Multiaddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_websocket_is_known_by_its_host_its_port_and_whether_it_has_tls() {
        for (text, host, tls) in [
            ("/ip4/1.2.3.4/tcp/443/ws", "1.2.3.4", false),
            ("/ip4/1.2.3.4/tcp/443/tls/ws", "1.2.3.4", true),
            ("/ip6/2a00::1/tcp/443/wss", "[2a00::1]", true),
            ("/dns4/relay.example/tcp/443/wss", "relay.example", true),
            ("/ip4/1.2.3.4/tcp/443/tls/sni/relay.example/ws", "relay.example", true),
        ] {
            for text in [text.to_owned(), format!("{text}/p2p/{RELAY}")] {
                let place = WebPlace::of(&address(&text)).unwrap();
                assert_eq!((place.asked().as_str(), place.port, place.tls), (host, 443, tls), "{text}");
            }
        }
        for other in [
            "/ip4/1.2.3.4/tcp/443",
            "/ip4/1.2.3.4/tcp/443/tls",
            "/ip4/1.2.3.4/udp/443/quic-v1",
            "/ip4/1.2.3.4/tcp/443/x-parity-ws/%2ffoo",
            "/ip4/1.2.3.4/tcp/443/tls/sni/relay.example",
            "/ip4/1.2.3.4/tcp/443/ws/p2p-circuit",
            "/dnsaddr/relay.example/tcp/443/ws",
        ] {
            assert_eq!(WebPlace::of(&address(other)), None, "{other}");
        }
    }

    #[test]
    fn a_name_that_was_looked_up_is_still_asked_for_within_tls() {
        let ip = "1.2.3.4".parse().unwrap();
        for (named, plain) in [
            ("/dns4/relay.example/tcp/443/tls/ws", "/ip4/1.2.3.4/tcp/443/tls/sni/relay.example/ws"),
            ("/dns/relay.example/tcp/443/wss", "/ip4/1.2.3.4/tcp/443/tls/sni/relay.example/ws"),
            ("/dns4/relay.example/tcp/80/ws", "/ip4/1.2.3.4/tcp/80/ws"),
        ] {
            assert_eq!(resolved(&address(named), ip), Some(address(plain)), "{named}");
            let peer = format!("/p2p/{RELAY}");
            let named = address(&(named.to_owned() + &peer));
            assert_eq!(resolved(&named, ip), Some(address(&(plain.to_owned() + &peer))));
        }
        assert_eq!(resolved(&address("/dns4/relay.example/tcp/443"), ip), None);
    }
}
