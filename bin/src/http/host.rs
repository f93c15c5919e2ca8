//! Whom a browser means, by what it says: another site may have its own name lead here, to read what is for this machine (DNS
//! rebinding), or have its pages ask for something here. Pure.

use std::net::{IpAddr, SocketAddr};

use hyper::{
    HeaderMap,
    header::{HOST, HeaderName, ORIGIN},
    http::uri::Authority,
};

/// The value of a header that stands there once.
fn only(headers: &HeaderMap, name: HeaderName) -> Option<&[u8]> {
    let mut named = headers.get_all(name).iter();
    match (named.next(), named.next()) {
        (Some(value), None) => Some(value.as_bytes()),
        _ => None,
    }
}

/// Whether whoever listens at `given` is meant. An address in place of a name cannot be another site's.
pub(crate) fn is_meant(given: SocketAddr, headers: &HeaderMap) -> bool {
    let Some(Ok(host)) = only(headers, HOST).map(Authority::try_from) else { return false };
    let host = host.host();
    let given = given.ip();
    match host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        Ok(ip) => ip.is_loopback() || ip == given || given.is_unspecified(),
        Err(_) => host.eq_ignore_ascii_case("localhost"),
    }
}

/// Whether a page of ours asks. Browsers say which site's page it is, and no page can have them say another.
pub(crate) fn is_own_origin(headers: &HeaderMap) -> bool {
    let (Some(host), Some(origin)) = (only(headers, HOST), only(headers, ORIGIN)) else {
        return false;
    };
    origin.strip_prefix(b"http://").is_some_and(|origin| origin.eq_ignore_ascii_case(host))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use hyper::header::HeaderValue;

    use super::*;

    fn headers(said: &[(HeaderName, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in said {
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    fn meant(address: &str, hosts: &[&str]) -> bool {
        let hosts: Vec<_> = hosts.iter().map(|host| (HOST, *host)).collect();
        is_meant(address.parse().unwrap(), &headers(&hosts))
    }

    #[test]
    fn a_site_that_has_its_name_lead_here_is_refused() {
        let own = "127.0.0.1:9465";
        for host in ["localhost", "LocalHost:9465", "127.0.0.1:9465", "127.0.0.1:8080", "[::1]:9465"] {
            assert!(meant(own, &[host]), "{host}");
        }
        for host in ["evil.example:9465", "localhost.evil.example", "192.0.2.1", "127.0.0.1.evil", ""] {
            assert!(!meant(own, &[host]), "{host}");
        }
        assert!(!meant(own, &[]) && !meant(own, &["localhost", "evil.example"]), "one name");
    }

    #[test]
    fn the_given_host_is_meant_and_any_address_where_all_are_given() {
        let given = "192.0.2.1:80";
        assert!(meant(given, &["192.0.2.1"]) && meant(given, &["localhost"]));
        assert!(!meant(given, &["192.0.2.2"]) && !meant(given, &["evil.example"]));
        let all = "0.0.0.0:80";
        assert!(meant(all, &["192.0.2.2:80"]) && meant(all, &["[2001:db8::1]:80"]));
        assert!(!meant(all, &["evil.example:80"]));
    }

    #[test]
    fn only_a_page_from_here_is_of_our_origin() {
        let own = |origins: &[&str]| {
            let mut said = vec![(HOST, "127.0.0.1:9465")];
            said.extend(origins.iter().map(|origin| (ORIGIN, *origin)));
            is_own_origin(&headers(&said))
        };
        assert!(own(&["http://127.0.0.1:9465"]));
        let wrong = [
            "http://127.0.0.1:8000",
            "http://evil.example",
            "https://127.0.0.1:9465",
            "null",
            "127.0.0.1:9465",
        ];
        for wrong in wrong {
            assert!(!own(&[wrong]), "{wrong}");
        }
        assert!(!own(&[]) && !own(&["http://127.0.0.1:9465", "http://evil.example"]), "one origin");
    }
}
