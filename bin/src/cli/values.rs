//! Addresses and lists of them, as people write them.

use std::{fmt, net::SocketAddr, str::FromStr};

use ipnet::IpNet;
use libp2p::{Multiaddr, multiaddr::Protocol};
use punchline_bridge::{
    RelayLocator,
    addr::{self, StunServer},
};

use super::NamedTarget;
use crate::names::PeerRef;

/// An address to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddr {
    /// Accept connections here.
    At(Multiaddr),
    /// Be reached through this relay.
    Reserve(RelayLocator),
}

impl FromStr for ListenAddr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let address: Multiaddr = text.parse().map_err(|error| format!("{error}; {LISTEN_FORM}"))?;
        if let Some((name, _)) = addr::split_named_circuit(&address) {
            return Ok(Self::Reserve(name.into()));
        }
        if let Some((relay, _)) = addr::split_circuit(&address).map_err(|error| error.to_string())? {
            return usable(relay.into()).map(Self::Reserve);
        }
        match addr::listenable(&address) {
            Ok(()) => Ok(Self::At(address)),
            Err(fault) => Err(format!("nothing can listen there: it {fault}; {LISTEN_FORM}")),
        }
    }
}

/// An address for a relay to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayListenAddr(pub Multiaddr);

impl FromStr for RelayListenAddr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let address: Multiaddr = text.parse().map_err(|error| format!("{error}; {LISTEN_FORM}"))?;
        if addr::is_circuit(&address) {
            return Err("a relay must be reached directly; give an address of this machine".to_owned());
        }
        match addr::relay_listenable(&address) {
            Ok(()) => Ok(Self(address)),
            Err(fault) => {
                Err(format!("nothing can listen there: it {fault}; {LISTEN_FORM}, or {WEB_FORM}"))
            }
        }
    }
}

/// An address that a node or a relay may listen on, for whoever asks about its port. Of a circuit there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortAddr(pub Option<Multiaddr>);

impl FromStr for PortAddr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(ListenAddr::Reserve(_)) => Ok(Self(None)),
            Ok(ListenAddr::At(address)) => Ok(Self(Some(address))),
            Err(_) => text.parse().map(|RelayListenAddr(address)| Self(Some(address))),
        }
    }
}

const WEB_FORM: &str = "/ip4/<address>/tcp/<port>/tls/ws";

/// A proxy's address, which may hold a password: it is shown nowhere, and so is read by whoever uses it.
#[derive(Clone)]
pub struct ProxyUrl(String);

impl ProxyUrl {
    /// What was given.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl FromStr for ProxyUrl {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.trim().to_owned()))
    }
}

impl fmt::Debug for ProxyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProxyUrl")
    }
}

const LISTEN_FORM: &str =
    "say /ip4/<address>/tcp/<port>, /ip4/<address>/udp/<port>/quic-v1, or the same with /ip6";

/// An external address, or `auto`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExternalAddr {
    /// Wherever peers see us.
    Auto,
    /// Here.
    At(Multiaddr),
}

impl FromStr for ExternalAddr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        let address: Multiaddr = text.parse().map_err(|error| format!("{error}; {EXTERNAL_FORM}"))?;
        if addr::is_circuit(&address) {
            return Err(format!("it is behind another relay; {EXTERNAL_FORM}"));
        }
        match addr::dialable(&address) {
            Ok(()) => Ok(Self::At(address)),
            Err(fault) => Err(format!("nobody can dial that: it {fault}; {EXTERNAL_FORM}")),
        }
    }
}

const EXTERNAL_FORM: &str =
    "say /ip4/<address>/tcp/<port>, /dns4/<name>/udp/<port>/quic-v1 and so on, or auto";

/// An address where others reach this node, by the operator's word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnAddr(pub Multiaddr);

impl FromStr for OwnAddr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut address: Multiaddr = text.parse().map_err(|error| format!("{error}; {OWN_FORM}"))?;
        if addr::is_circuit(&address) {
            return Err(format!(
                "it leads through a relay, and peers are told of those anyway (--relay); {OWN_FORM}"
            ));
        }
        let fault = |fault| format!("nobody can dial that: it {fault}; {OWN_FORM}");
        addr::peer_dialable(&address).map_err(fault)?;
        match address.iter().next() {
            Some(Protocol::Ip4(_) | Protocol::Ip6(_)) => {}
            _ => return Err(format!("it is a name, which peers take from nobody; {OWN_FORM}")),
        }
        // Whose it is goes without saying.
        if matches!(address.iter().last(), Some(Protocol::P2p(_))) {
            address.pop();
        }
        Ok(Self(address))
    }
}

const OWN_FORM: &str = "say the public IP address and the port that leads to this node, as /ip4/<address>/tcp/<port> or \
                        /ip4/<address>/udp/<port>/quic-v1";

/// An address to listen on for nodes of the DHT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DhtListenAddr(pub Multiaddr);

impl FromStr for DhtListenAddr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let address: Multiaddr = text.parse().map_err(|error| format!("{error}; {LISTEN_FORM}"))?;
        match addr::listenable(&address) {
            Ok(()) => Ok(Self(address)),
            Err(fault) => Err(format!("nothing can listen there: it {fault}; {LISTEN_FORM}")),
        }
    }
}

/// Where to answer STUN, or `off`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StunAddr {
    /// Nowhere.
    Off,
    /// Here.
    At(SocketAddr),
}

impl FromStr for StunAddr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "off" => Ok(Self::Off),
            address => address
                .parse()
                .map(Self::At)
                .map_err(|error| format!("{error}; say IP:PORT, as 0.0.0.0:3478 or [::]:3478, or off")),
        }
    }
}

/// Most values in one list: what no human types, and a typo or an attack would.
const LIST_MAX: usize = 256;

/// One value of a repeatable flag: itself a list, separated by commas or semicolons.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Many<T>(Vec<T>);

/// One entry of such a list.
pub trait Listed: Sized {
    /// Reads one.
    ///
    /// # Errors
    /// What is wrong with it, and what to write instead.
    fn read(text: &str) -> Result<Self, String>;
}

/// Entries that are what their text says, and nothing more.
macro_rules! plain {
    ($($entry:ty),*) => {$(
        impl Listed for $entry {
            fn read(text: &str) -> Result<Self, String> {
                text.parse().map_err(|error: <Self as FromStr>::Err| error.to_string())
            }
        }
    )*};
}
plain!(
    ListenAddr,
    RelayListenAddr,
    PortAddr,
    DhtListenAddr,
    ExternalAddr,
    OwnAddr,
    StunAddr,
    StunServer,
    IpNet,
    std::net::IpAddr,
    PeerRef,
    NamedTarget
);

/// A name.
impl Listed for String {
    fn read(text: &str) -> Result<Self, String> {
        Ok(text.to_owned())
    }
}

/// An address of a peer.
impl Listed for Multiaddr {
    fn read(text: &str) -> Result<Self, String> {
        let address: Self = text.parse().map_err(|error| format!("{error}; {ADDR_FORM}"))?;
        let dialable = addr::peer_dialable(&address);
        dialable.map(|()| address).map_err(|fault| format!("nobody can dial that: it {fault}"))
    }
}

const ADDR_FORM: &str = "say /ip4/<address>/tcp/<port>, /dns4/<name>/udp/<port>/quic-v1 and so on";

/// A relay to dial.
impl Listed for RelayLocator {
    fn read(text: &str) -> Result<Self, String> {
        usable(text.parse().map_err(|error: <Self as FromStr>::Err| error.to_string())?)
    }
}

fn usable(relay: RelayLocator) -> Result<RelayLocator, String> {
    match addr::dialable(&relay.address()) {
        Ok(()) => Ok(relay),
        Err(fault) => Err(format!("nobody can dial that relay: {relay} {fault}")),
    }
}

impl<T: Listed> FromStr for Many<T> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split([',', ';']).map(str::trim).filter(|part| !part.is_empty());
        let parts: Vec<&str> = parts.collect();
        // What is given alone is named by whoever reads it.
        let named = |part: &str, error: String| match parts.len() {
            1 => error,
            _ => format!("`{part}`: {error}"),
        };
        let values = parts.iter().map(|part| T::read(part).map_err(|error| named(part, error)));
        let values: Vec<T> = values.collect::<Result<_, _>>()?;
        match values.len() {
            0 => Err("the list is empty".to_owned()),
            count if count > LIST_MAX => Err(format!("{count} values; at most {LIST_MAX} are taken")),
            _ => Ok(Self(values)),
        }
    }
}

/// All values of a repeatable flag.
pub fn all<T: Clone>(lists: &[Many<T>]) -> Vec<T> {
    lists.iter().flat_map(|list| list.0.iter().cloned()).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_what_a_transport_can_listen_on_is_an_address_to_listen_on() {
        for good in ["/ip4/0.0.0.0/tcp/0", "/ip6/::/tcp/4001", "/ip4/127.0.0.1/udp/0/quic-v1"] {
            assert!(matches!(good.parse(), Ok(ListenAddr::At(_))), "{good}");
        }
        for bad in ["/ip4/127.0.0.1", "/ip4/127.0.0.1/udp/5", "/dns4/a/tcp/1", "/p2p-circuit", "x"] {
            assert!(bad.parse::<ListenAddr>().is_err(), "{bad}");
        }
        let relay = "/ip4/203.0.113.7/tcp/1/p2p/12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp";
        let circuit = format!("{relay}/p2p-circuit");
        assert_eq!(circuit.parse(), Ok(ListenAddr::Reserve(relay.parse().unwrap())));
    }

    #[test]
    fn a_websocket_is_a_relays_and_no_other_nodes() {
        let peer = "12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp";
        for web in ["/dns4/relay.example/tcp/443/tls/ws", "/ip4/203.0.113.7/tcp/443/wss"] {
            let relay = format!("{web}/p2p/{peer}");
            assert!(relay.parse::<Many<RelayLocator>>().is_ok(), "{web}");
            assert!(web.parse::<ExternalAddr>().is_ok(), "{web}");
            let circuit = format!("{relay}/p2p-circuit");
            assert!(matches!(circuit.parse(), Ok(ListenAddr::Reserve(_))), "{web}");
            assert!(format!("{circuit}/p2p/{peer}").parse::<Many<Multiaddr>>().is_ok(), "{web}");
            assert!(web.parse::<Many<Multiaddr>>().unwrap_err().contains("only relays"), "{web}");
        }
        for web in ["/ip4/0.0.0.0/tcp/443/tls/ws", "/ip6/::/tcp/443/wss", "/ip4/127.0.0.1/tcp/0/ws"] {
            assert!(web.parse::<Many<RelayListenAddr>>().is_ok(), "{web}");
            assert!(web.parse::<ListenAddr>().unwrap_err().contains("only relays"), "{web}");
        }
        let circuit = format!("/ip4/203.0.113.7/tcp/1/p2p/{peer}/p2p-circuit");
        let error = circuit.parse::<RelayListenAddr>().unwrap_err();
        assert!(error.contains("a relay must be reached directly"), "{error}");
    }

    #[test]
    fn lists_take_repetition_commas_and_semicolons() {
        let net = |second: u8| format!("10.{second}.0.0/16");
        let a: Many<IpNet> = format!("{}, {};{}", net(1), net(2), net(3)).parse().unwrap();
        let b: Many<IpNet> = net(4).parse().unwrap();
        let read: Vec<String> = all(&[a, b]).iter().map(IpNet::to_string).collect();
        assert_eq!(read, [1, 2, 3, 4].map(net));
        assert!(" ; ".parse::<Many<IpNet>>().unwrap_err().contains("empty"));
        assert!(format!("{},x", net(1)).parse::<Many<IpNet>>().unwrap_err().contains("`x`"));
        let long = vec![net(1); LIST_MAX + 1].join(",");
        assert!(long.parse::<Many<IpNet>>().unwrap_err().contains("at most 256"));
    }

    #[test]
    fn of_a_list_the_wrong_entry_is_named_and_a_single_value_is_not_named_once_more() {
        let error = "relay:4001".parse::<Many<RelayLocator>>().unwrap_err();
        assert_eq!(error.matches("relay:4001").count(), 1, "{error}");
        let error = format!("{},x", "10.0.0.0/8").parse::<Many<IpNet>>().unwrap_err();
        assert!(error.starts_with("`x`: "), "{error}");
    }

    #[test]
    fn a_relay_is_an_address_with_its_identity_or_a_name_and_a_place_is_reserved_at_either() {
        let name: RelayLocator = "relay.example".parse().unwrap();
        assert_eq!(
            "relay.example".parse::<Many<RelayLocator>>().unwrap().0,
            std::slice::from_ref(&name)
        );
        let circuit = "/dnsaddr/relay.example/p2p-circuit";
        assert_eq!(circuit.parse(), Ok(ListenAddr::Reserve(name)));
    }

    #[test]
    fn an_address_of_ours_is_an_ip_address_and_a_port_and_nothing_else() {
        let peer = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";
        for good in
            ["/ip4/203.0.113.7/tcp/4001", "/ip6/2a00::7/udp/4001/quic-v1", "/ip4/127.0.0.1/tcp/1"]
        {
            let address: Multiaddr = good.parse().unwrap();
            assert_eq!(good.parse(), Ok(OwnAddr(address.clone())));
            assert_eq!(format!("{good}/p2p/{peer}").parse(), Ok(OwnAddr(address)), "its own id");
        }
        let circuit = format!("/ip4/203.0.113.7/tcp/4001/p2p/{peer}/p2p-circuit");
        for (bad, words) in [
            (&*circuit, "through a relay"),
            ("/p2p-circuit", "through a relay"),
            ("/ip4/203.0.113.7", "neither TCP nor QUIC"),
            ("/ip4/203.0.113.7/tcp/0", "port 0"),
            ("/ip4/0.0.0.0/tcp/4001", "names every address"),
            ("/ip6/::/udp/4001/quic-v1", "names every address"),
            ("/dns4/home.example.org/tcp/4001", "is a name"),
            ("/ip4/203.0.113.7/tcp/443/tls/ws", "only relays"),
            ("203.0.113.7:4001", "say the public IP address"),
            ("auto", "say the public IP address"),
        ] {
            let error = bad.parse::<OwnAddr>().unwrap_err();
            assert!(error.contains(words) && error.contains(OWN_FORM), "{bad}: {error}");
        }
    }

    #[test]
    fn addresses_that_nobody_can_dial_are_no_addresses() {
        let peer = "12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp";
        for bad in [
            "/ip4/203.0.113.7/udp/4001/quic",
            "/ip4/203.0.113.7/udp/4001",
            "/ip4/203.0.113.7/tcp/4001/tls",
            "/ip6/fe80::1/tcp/4001",
            "/ip4/203.0.113.7/tcp/0",
            "/ip4/0.0.0.0/tcp/4001",
        ] {
            let relay = format!("{bad}/p2p/{peer}");
            assert!(
                relay.parse::<Many<RelayLocator>>().unwrap_err().contains("nobody can dial"),
                "{bad}"
            );
            assert!(bad.parse::<Many<Multiaddr>>().unwrap_err().contains("nobody can dial"), "{bad}");
            assert!(bad.parse::<ExternalAddr>().unwrap_err().contains("nobody can dial"), "{bad}");
            let reserve = format!("{relay}/p2p-circuit");
            assert!(reserve.parse::<ListenAddr>().unwrap_err().contains("nobody can dial"), "{bad}");
        }
    }
}
