//! The HTTP proxy through which a host that reaches nothing else reaches relays.

use std::{fmt, sync::Arc};

use http::{HeaderValue, Uri};
use hyper_util::client::proxy::matcher::Matcher;
use libp2p::Multiaddr;

use crate::addr::web::WebPlace;

/// A proxy, and what is reached without it. Its user and password are shown nowhere.
#[derive(Clone)]
pub struct Proxy {
    host: String,
    port: u16,
    matcher: Arc<Matcher>,
}

/// Why something is no proxy. The text has nothing of what was given, which may hold a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProxyError {
    /// It cannot be read.
    #[error(
        "is no address of a proxy; say http://<host>:<port> or http://<user>:<password>@<host>:<port>"
    )]
    Malformed,
    /// It speaks something else.
    #[error(
        "is of a kind of proxy that is not known; say one that is spoken with in HTTP, as http://<host>:<port>"
    )]
    Scheme,
    /// Ports of proxies differ.
    #[error("names no port; say http://<host>:<port>")]
    NoPort,
}

/// How to ask a proxy for a way.
#[derive(Clone)]
pub(crate) struct Asking {
    pub(crate) host: String,
    pub(crate) port: u16,
    /// The value of the header that proves who asks.
    pub(crate) authorization: Option<HeaderValue>,
}

impl Proxy {
    /// `url` as `http://host:port`, with `user:password@` before the host if it wants one, both percent-encoded.
    /// `exceptions`, separated by commas, are reached without it: host names, which stand for all below them, IP addresses
    /// and ranges, or `*`.
    ///
    /// # Errors
    /// If there is no such proxy.
    pub fn new(url: &str, exceptions: &str) -> Result<Self, ProxyError> {
        let full = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
        let uri: Uri = full.parse().map_err(|_| ProxyError::Malformed)?;
        if uri.scheme_str() != Some("http") {
            return Err(ProxyError::Scheme);
        }
        let host = uri.host().filter(|host| !host.is_empty()).ok_or(ProxyError::Malformed)?;
        let port = uri.port_u16().filter(|port| *port != 0).ok_or(ProxyError::NoPort)?;
        let matcher = Matcher::builder().https(full.as_str()).no(exceptions).build();
        Ok(Self { host: host.to_owned(), port, matcher: Arc::new(matcher) })
    }

    /// Its host, as it was named, and its port.
    pub fn place(&self) -> (&str, u16) {
        (&self.host, self.port)
    }

    /// Whether it is asked for the way to this address: to WebSockets, but for the exceptions.
    pub fn is_for(&self, address: &Multiaddr) -> bool {
        WebPlace::of(address).is_some_and(|place| self.way_to(&place).is_some())
    }

    /// How to reach a WebSocket through it; none if that is to be reached without it.
    pub(crate) fn way_to(&self, place: &WebPlace) -> Option<Asking> {
        let uri: Uri = format!("https://{}:{}/", place.host, place.port).parse().ok()?;
        let found = self.matcher.intercept(&uri)?;
        let authorization = found.basic_auth().cloned();
        Some(Asking { host: self.host.clone(), port: self.port, authorization })
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({self})")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn place(address: &str) -> WebPlace {
        WebPlace::of(&address.parse().unwrap()).unwrap()
    }

    #[test]
    fn a_proxy_is_asked_for_everything_but_its_exceptions() {
        let exceptions = "example.org, 10.0.0.0/8, 2001:db8::/32";
        let proxy = Proxy::new("http://proxy.example:3128", exceptions).unwrap();
        for address in [
            "/dns4/relay.example/tcp/443/tls/ws",
            "/ip4/1.2.3.4/tcp/443/wss",
            "/ip6/2a00::1/tcp/80/ws",
            "/dns4/notexample.org/tcp/443/tls/ws",
        ] {
            let asking = proxy.way_to(&place(address)).unwrap();
            assert_eq!((asking.host.as_str(), asking.port), ("proxy.example", 3128), "{address}");
        }
        for address in [
            "/dns4/example.org/tcp/443/tls/ws",
            "/dns6/relay.example.org/tcp/443/tls/ws",
            "/ip4/10.1.2.3/tcp/443/tls/ws",
            "/ip6/2001:db8::1/tcp/443/tls/ws",
        ] {
            assert!(proxy.way_to(&place(address)).is_none(), "{address}");
        }
    }

    #[test]
    fn user_and_password_are_for_the_proxy_alone() {
        let proxy = Proxy::new("http://ann:open%20sesame@proxy.example:3128", "").unwrap();
        let asking = proxy.way_to(&place("/ip4/1.2.3.4/tcp/443/wss")).unwrap();
        let header = asking.authorization.unwrap();
        assert_eq!(header, "Basic YW5uOm9wZW4gc2VzYW1l");
        assert!(header.is_sensitive());
        for shown in [format!("{proxy}"), format!("{proxy:?}")] {
            assert!(!shown.contains("sesame") && !shown.contains("ann"), "{shown}");
        }
    }

    #[test]
    fn what_is_no_proxy_is_refused_without_repeating_it() {
        for (url, error) in [
            ("socks5://secret@proxy.example:1080", ProxyError::Scheme),
            ("https://secret@proxy.example:3128", ProxyError::Scheme),
            ("http://secret@proxy.example", ProxyError::NoPort),
            ("secret secret", ProxyError::Malformed),
            ("http://", ProxyError::Malformed),
        ] {
            let refused = Proxy::new(url, "").unwrap_err();
            assert_eq!(refused, error, "{url}");
            assert!(!refused.to_string().contains("secret"));
        }
        assert!(Proxy::new("proxy.example:3128", "").is_ok(), "HTTP may go without saying");
    }
}
