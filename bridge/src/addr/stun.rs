//! A STUN server by name or address, as people write it.

use std::{fmt, net::IpAddr, str::FromStr};

use libp2p::{Multiaddr, multiaddr::Protocol};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// The port of STUN (RFC 8489, section 18.6).
pub const STUN_PORT: u16 = 3478;

/// A name of the DNS is no longer.
const NAME_BYTES_MAX: usize = 253;

/// Where a STUN server answers, over UDP.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StunServer {
    pub(crate) host: Host,
    pub(crate) port: u16,
}

/// A host as it is named.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Host {
    Ip(IpAddr),
    Name(String),
}

/// Why a text names no STUN server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StunServerError {
    /// Another scheme.
    #[error("only STUN over UDP is spoken; {FORM}")]
    Scheme,
    /// No name of a host, and no address.
    #[error("it names no host; {FORM}")]
    Host,
    /// No port.
    #[error("its port is not between 1 and 65535; {FORM}")]
    Port,
}

const FORM: &str = "say HOST:PORT or stun:HOST:PORT, as stun.example.org:3478 or [2001:db8::7]:3478";

impl StunServer {
    /// The one at `port` of the host that an address begins with.
    pub(crate) fn beside(address: &Multiaddr, port: u16) -> Option<Self> {
        let host = match address.iter().next()? {
            Protocol::Ip4(ip) => Host::Ip(ip.into()),
            Protocol::Ip6(ip) => Host::Ip(ip.into()),
            Protocol::Dns(name) | Protocol::Dns4(name) | Protocol::Dns6(name) => {
                Host::Name(name.into_owned())
            }
            _ => return None,
        };
        (port != 0).then_some(Self { host, port })
    }
}

impl FromStr for StunServer {
    type Err = StunServerError;

    fn from_str(text: &str) -> Result<Self, StunServerError> {
        let text = text.strip_prefix("stun:").unwrap_or(text);
        if ["stuns:", "turn:", "turns:"].iter().any(|scheme| text.starts_with(scheme))
            || text.contains('/')
        {
            return Err(StunServerError::Scheme);
        }
        let (host, port) = split_port(text)?;
        let port = match port.map(str::parse) {
            None => STUN_PORT,
            Some(Ok(port)) if port != 0 => port,
            Some(_) => return Err(StunServerError::Port),
        };
        Ok(Self { host: host.parse()?, port })
    }
}

/// An IPv6 address stands in brackets where a port follows, and may do without where none does.
fn split_port(text: &str) -> Result<(&str, Option<&str>), StunServerError> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, after) = rest.split_once(']').ok_or(StunServerError::Host)?;
        return match after.strip_prefix(':') {
            None if !after.is_empty() => Err(StunServerError::Port),
            port => Ok((host, port)),
        };
    }
    match text.split_once(':') {
        Some((_, rest)) if rest.contains(':') => Ok((text, None)),
        Some((host, port)) => Ok((host, Some(port))),
        None => Ok((text, None)),
    }
}

impl FromStr for Host {
    type Err = StunServerError;

    fn from_str(text: &str) -> Result<Self, StunServerError> {
        if let Ok(ip) = text.parse() {
            return Ok(Self::Ip(ip));
        }
        let fits = |c: char| c.is_alphanumeric() || matches!(c, '-' | '.' | '_');
        let is_name = !text.is_empty() && text.len() <= NAME_BYTES_MAX && text.chars().all(fits);
        if is_name { Ok(Self::Name(text.to_owned())) } else { Err(StunServerError::Host) }
    }
}

impl fmt::Display for StunServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]:{}", self.port),
            Host::Ip(ip) => write!(f, "{ip}:{}", self.port),
            Host::Name(name) => write!(f, "{name}:{}", self.port),
        }
    }
}

impl Serialize for StunServer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for StunServer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_server_is_written_with_or_without_scheme_and_port() {
        for (text, server) in [
            ("stun.example.org:5000", "stun.example.org:5000"),
            ("stun:stun.example.org:5000", "stun.example.org:5000"),
            ("stun.example.org", "stun.example.org:3478"),
            ("stun:203.0.113.7", "203.0.113.7:3478"),
            ("203.0.113.7:19302", "203.0.113.7:19302"),
            ("[2001:db8::7]:5000", "[2001:db8::7]:5000"),
            ("[2001:db8::7]", "[2001:db8::7]:3478"),
            ("2001:db8::7", "[2001:db8::7]:3478"),
        ] {
            let read: StunServer = text.parse().unwrap();
            assert_eq!(read.to_string(), server);
            assert_eq!(server.parse(), Ok(read));
        }
    }

    #[test]
    fn what_names_no_server_is_refused_with_the_form() {
        for (text, error) in [
            ("", StunServerError::Host),
            (":3478", StunServerError::Host),
            ("a b:3478", StunServerError::Host),
            ("[::1:3478", StunServerError::Host),
            ("a:0", StunServerError::Port),
            ("a:65536", StunServerError::Port),
            ("a:", StunServerError::Port),
            ("[::1]3478", StunServerError::Port),
            ("stuns:a:3478", StunServerError::Scheme),
            ("turn:a:3478", StunServerError::Scheme),
            ("/ip4/203.0.113.7/udp/3478", StunServerError::Scheme),
        ] {
            assert_eq!(text.parse::<StunServer>(), Err(error), "{text}");
        }
        assert!("x".repeat(NAME_BYTES_MAX + 1).parse::<StunServer>().is_err());
    }

    #[test]
    fn a_relay_answers_at_the_host_that_it_is_dialled_at() {
        let beside = |text: &str| StunServer::beside(&text.parse().unwrap(), 3478);
        assert_eq!(beside("/ip4/203.0.113.7/tcp/4001"), "203.0.113.7:3478".parse().ok());
        assert_eq!(beside("/dns4/relay.example/udp/4001/quic-v1"), "relay.example".parse().ok());
        assert_eq!(beside("/dnsaddr/relay.example"), None, "that leads anywhere");
    }
}
