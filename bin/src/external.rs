//! Where the operator says that a node is reached, in words: what to look at where nobody answers. Pure.

use libp2p::{Multiaddr, multiaddr::Protocol};

use crate::relay::ip_of;

/// What to look at if nobody answers at `address`; `listener` is where this host listens for what comes there.
pub(crate) fn remedy(address: &Multiaddr, listener: Option<&Multiaddr>) -> String {
    let (outside, carrier) = place(address);
    let Some(listener) = listener else {
        let family = match address.iter().next() {
            Some(Protocol::Ip6(_)) => "IPv6",
            _ => "IPv4",
        };
        return format!(
            "this node does not listen over {carrier} and {family} (--listen), so nothing can be forwarded to it"
        );
    };
    let (inside, _) = place(listener);
    let host = host(listener);
    format!(
        "see that the router forwards {carrier} port {outside} to this host, {host}, port {inside}, and that no firewall here \
         or there keeps it out (`punchline doctor firewall`)"
    )
}

/// The port, and what runs over it.
fn place(address: &Multiaddr) -> (u16, &'static str) {
    let port = |part| match part {
        Protocol::Tcp(port) => Some((port, "TCP")),
        Protocol::Udp(port) => Some((port, "UDP")),
        _ => None,
    };
    address.iter().find_map(port).unwrap_or((0, "TCP"))
}

fn host(address: &Multiaddr) -> String {
    match address.iter().next() {
        Some(Protocol::Ip4(ip)) => ip.to_string(),
        Some(Protocol::Ip6(ip)) => ip.to_string(),
        _ => address.to_string(),
    }
}

/// What is hardly meant: the port that the router forwards to is another one after each start, or there is none. `listen`: what
/// the settings say, nothing if they say nothing.
pub(crate) fn caution(external: &[Multiaddr], listen: &[Multiaddr]) -> Option<String> {
    let kind = |address: &Multiaddr| {
        let v6 = matches!(address.iter().next(), Some(Protocol::Ip6(_)));
        (v6, place(address).1)
    };
    let is_fixed =
        |address: &&Multiaddr| listen.iter().any(|at| kind(at) == kind(address) && place(at).0 != 0);
    let loose = external.iter().find(|address| !is_fixed(address))?;
    let (v6, carrier) = kind(loose);
    let any = if v6 { "/ip6/::" } else { "/ip4/0.0.0.0" };
    let (port, over) = match (place(loose).0, carrier) {
        (port, "UDP") => (port, format!("{any}/udp/{port}/quic-v1")),
        (port, _) => (port, format!("{any}/tcp/{port}")),
    };
    Some(format!(
        "--external says that this node is reached at {loose}, but --listen names no {carrier} port that a router could forward \
         to: say --listen {over}, and have port {port} forwarded to it"
    ))
}

/// Of addresses that strangers are not told.
pub(crate) fn private(
    external: &[Multiaddr],
    is_public: impl Fn(std::net::IpAddr) -> bool,
) -> Option<String> {
    let private = external.iter().find(|address| !ip_of(address).is_some_and(&is_public))?;
    Some(format!(
        "{private} of --external is not a public address: only peers that may be in this network are told of it, and no relay \
         looks whether it leads here; where such addresses count as public, say --assume-global"
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn at(text: &str) -> Multiaddr {
        text.parse().unwrap()
    }

    #[test]
    fn what_to_look_at_names_both_ports_or_says_that_there_is_none_to_forward_to() {
        let outside = at("/ip4/203.0.113.7/udp/7000/quic-v1");
        let words = remedy(&outside, Some(&at("/ip4/192.168.1.7/udp/4001/quic-v1")));
        assert!(words.contains("UDP port 7000 to this host, 192.168.1.7, port 4001"), "{words}");
        assert!(words.contains("firewall"), "{words}");
        let words = remedy(&at("/ip6/2a00::7/tcp/7000"), None);
        assert!(words.contains("does not listen over TCP and IPv6 (--listen)"), "{words}");
    }

    #[test]
    fn a_port_that_the_system_chooses_is_none_to_forward_to() {
        let outside = [at("/ip4/203.0.113.7/tcp/7000")];
        for listen in [vec![], vec![at("/ip4/0.0.0.0/tcp/0")], vec![at("/ip4/0.0.0.0/udp/4001/quic-v1")]]
        {
            let words = caution(&outside, &listen).unwrap();
            assert!(words.contains("--listen /ip4/0.0.0.0/tcp/7000"), "{words}");
        }
        assert_eq!(caution(&outside, &[at("/ip4/192.168.1.7/tcp/4001")]), None);
        assert_eq!(caution(&[], &[]), None);
        let v6 = [at("/ip6/2a00::7/udp/7000/quic-v1")];
        let words = caution(&v6, &[at("/ip4/0.0.0.0/udp/7000/quic-v1")]).unwrap();
        assert!(words.contains("--listen /ip6/::/udp/7000/quic-v1"), "{words}");
    }

    #[test]
    fn an_address_that_strangers_are_not_told_is_named() {
        let both = [at("/ip4/203.0.113.7/tcp/7000"), at("/ip4/10.0.0.7/tcp/7000")];
        let words = private(&both, |ip| !ip.to_string().starts_with("10.")).unwrap();
        assert!(
            words.starts_with("/ip4/10.0.0.7/tcp/7000") && words.contains("--assume-global"),
            "{words}"
        );
        assert_eq!(private(&both[..1], |_| true), None);
    }
}
