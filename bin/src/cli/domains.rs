//! Where peers are asked for: names in DNS, nodes that a DHT is begun with, meeting points.

use std::str::FromStr;

#[cfg(any(feature = "dns", feature = "kad"))]
use punchline_bridge::addr::RelayName;

use super::values::Listed;

/// A domain: TXT records of `_dnsaddr.<domain>` say where peers are.
#[cfg(feature = "dns")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Domain(RelayName);

#[cfg(feature = "dns")]
impl Domain {
    /// As text.
    pub(crate) fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

#[cfg(feature = "dns")]
impl FromStr for Domain {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let name = text.strip_prefix("/dnsaddr/").unwrap_or(text);
        name.parse().map(Self).map_err(|_| {
            format!("`{text}` is no domain; say it as example.org, and TXT records of _dnsaddr.example.org say where peers are")
        })
    }
}

#[cfg(feature = "dns")]
impl Listed for Domain {
    fn read(text: &str) -> Result<Self, String> {
        text.parse()
    }
}

/// Where a DHT is begun.
#[cfg(feature = "kad")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BootstrapAddr {
    /// At this node.
    At(libp2p::Multiaddr),
    /// At the nodes that this name stands for.
    Named(RelayName),
}

#[cfg(feature = "kad")]
impl FromStr for BootstrapAddr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.starts_with('/') {
            return match text.strip_prefix("/dnsaddr/").map(str::parse) {
                // With an id behind it, it is the address of one node.
                Some(Ok(name)) => Ok(Self::Named(name)),
                _ => Listed::read(text).map(Self::At),
            };
        }
        match text.parse::<RelayName>() {
            Ok(name) if name.as_str().contains('.') => Ok(Self::Named(name)),
            _ => Err(format!("`{text}` is neither a multiaddr nor a name; {BOOTSTRAP_FORM}")),
        }
    }
}

#[cfg(feature = "kad")]
const BOOTSTRAP_FORM: &str = "say /ip4/203.0.113.7/tcp/4001/p2p/12D3KooW…, or bootstrap.example.org, if TXT records of \
     _dnsaddr.bootstrap.example.org say such addresses";

#[cfg(feature = "kad")]
impl Listed for BootstrapAddr {
    fn read(text: &str) -> Result<Self, String> {
        text.parse()
    }
}

/// The addresses among these, and the names.
#[cfg(feature = "kad")]
pub(crate) fn split(given: Vec<BootstrapAddr>) -> (Vec<libp2p::Multiaddr>, Vec<RelayName>) {
    let (mut addresses, mut names) = (Vec::new(), Vec::new());
    for bootstrap in given {
        match bootstrap {
            BootstrapAddr::At(address) => addresses.push(address),
            BootstrapAddr::Named(name) => names.push(name),
        }
    }
    (addresses, names)
}

/// A meeting point.
#[cfg(feature = "rendezvous")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeetingPoint(pub(crate) libp2p::Multiaddr);

#[cfg(feature = "rendezvous")]
impl FromStr for MeetingPoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let address: libp2p::Multiaddr = Listed::read(text)?;
        match address.iter().last() {
            Some(libp2p::multiaddr::Protocol::P2p(_)) => Ok(Self(address)),
            _ => Err(format!("it does not say who must answer there; say {text}/p2p/<its peer id>")),
        }
    }
}

#[cfg(feature = "rendezvous")]
impl Listed for MeetingPoint {
    fn read(text: &str) -> Result<Self, String> {
        text.parse()
    }
}

#[cfg(all(test, feature = "dns", feature = "kad"))]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_bootstrap_is_an_address_or_a_name_of_several() {
        let id = "12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp";
        let name = BootstrapAddr::Named("boot.example.org".parse().unwrap());
        for text in ["boot.example.org", "Boot.Example.org.", "/dnsaddr/boot.example.org"] {
            assert_eq!(text.parse(), Ok(name.clone()), "{text}");
        }
        for text in [
            format!("/ip4/203.0.113.7/tcp/4001/p2p/{id}"),
            format!("/dnsaddr/boot.example.org/p2p/{id}"),
            "/dns4/boot.example.org/tcp/4001".to_owned(),
        ] {
            assert_eq!(text.parse(), Ok(BootstrapAddr::At(text.parse().unwrap())), "{text}");
        }
        for wrong in ["boot", "203.0.113.7:4001", id, "/ip4/203.0.113.7"] {
            assert!(wrong.parse::<BootstrapAddr>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_domain_is_a_name_and_no_address() {
        for good in ["example.org", "/dnsaddr/example.org", "lan"] {
            assert!(good.parse::<Domain>().is_ok(), "{good}");
        }
        for wrong in ["", "203.0.113.7", "http://example.org", "/ip4/203.0.113.7/tcp/1"] {
            assert!(wrong.parse::<Domain>().unwrap_err().contains("_dnsaddr"), "{wrong}");
        }
    }
}
