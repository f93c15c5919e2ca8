//! From what observers saw to the kind of a NAT. Pure, and without a memory.

use std::net::{IpAddr, SocketAddr};

use crate::{
    addr::{GlobalScope, scope::Scope},
    nat::{Filtering, Mapping},
};

/// One observer saw what left one port of ours come from there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sight {
    pub(crate) mapped: SocketAddr,
    pub(crate) port: Port,
    /// Our operator chose the observer.
    pub(crate) trusted: bool,
}

/// Which port of ours it left: sights of different ports have nothing to do with each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Port {
    /// The one that STUN is spoken from: all its sights are of one moment.
    Stun,
    /// The one that QUIC listens on. Sights are as old as their connections, and the NAT may have got another address
    /// since: only another port of the same address proves that ports are changed.
    Quic,
    /// The one that TCP listens on. A dial leaves from another port where this one is taken, so a difference proves
    /// nothing.
    Tcp,
}

/// How the NAT maps. `seen` is of one family; `ours` are the addresses of this host.
///
/// Two observers are needed. Where both are ports of one server, a NAT that maps by address alone looks as if it kept
/// its port: RFC 4787 calls that mapping address-dependent, and it is rare.
pub(crate) fn mapping(seen: &[Sight], ours: &[IpAddr], scope: &GlobalScope) -> Option<Mapping> {
    // A server in our own network sees us as nobody outside does.
    let public = |sight: &&Sight| scope.scope(sight.mapped.ip()) == Scope::Public;
    let outside: Vec<Sight> = seen.iter().filter(public).copied().collect();
    let seen = if outside.is_empty() { seen } else { &outside };
    let trusted: Vec<Sight> = seen.iter().filter(|sight| sight.trusted).copied().collect();
    let believed = if trusted.is_empty() { seen } else { &trusted };
    if believed.iter().any(|sight| ours.contains(&sight.mapped.ip())) {
        return Some(Mapping::None);
    }
    compared(&trusted).or_else(|| compared(seen))
}

/// That ports are changed, once proven, outweighs what else looks as if they were not.
fn compared(seen: &[Sight]) -> Option<Mapping> {
    let mut found = None;
    for (at, one) in seen.iter().enumerate() {
        for other in seen[at + 1..].iter().filter(|other| other.port == one.port) {
            let (a, b) = (one.mapped, other.mapped);
            let differ = match one.port {
                Port::Stun => a != b,
                Port::Quic => a.ip() == b.ip() && a.port() != b.port(),
                Port::Tcp => false,
            };
            if differ {
                return Some(Mapping::DestinationDependent);
            }
            if a == b {
                found = Some(Mapping::EndpointIndependent);
            }
        }
    }
    found
}

/// Whether answers came in from where nothing had been sent to; none: it was not tried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LetIn {
    /// From another port of a server.
    pub(crate) other_port: Option<bool>,
    /// From another address.
    pub(crate) other_address: Option<bool>,
}

/// How the NAT, or a firewall, filters. That anybody is let in takes a server with two addresses to prove; without one
/// the narrower reading is said, which promises a peer nothing that may not hold.
pub(crate) fn filtering(let_in: LetIn) -> Option<Filtering> {
    match (let_in.other_address, let_in.other_port) {
        (Some(true), _) => Some(Filtering::EndpointIndependent),
        (_, Some(true)) => Some(Filtering::AddressDependent),
        (_, Some(false)) => Some(Filtering::AddressAndPortDependent),
        (_, None) => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn sight(mapped: &str, port: Port) -> Sight {
        Sight { mapped: mapped.parse().unwrap(), port, trusted: false }
    }

    fn trusted(mapped: &str, port: Port) -> Sight {
        Sight { trusted: true, ..sight(mapped, port) }
    }

    fn of(seen: &[Sight]) -> Option<Mapping> {
        let ours = ["192.168.1.7", "73.0.0.99"].map(|ip| ip.parse().unwrap());
        mapping(seen, &ours, &GlobalScope::default())
    }

    #[test]
    fn a_stranger_that_says_we_have_the_public_address_ourselves_is_not_believed_before_a_trusted_one() {
        let liar = sight("73.0.0.99:40000", Port::Stun);
        assert_eq!(
            of(&[liar, trusted(A, Port::Stun), trusted(A, Port::Stun)]),
            Some(Mapping::EndpointIndependent)
        );
        assert_eq!(of(&[liar]), Some(Mapping::None), "there is nobody else");
    }

    const A: &str = "73.0.0.11:40000";
    const B: &str = "73.0.0.11:51234";
    const C: &str = "73.0.0.12:40000";

    #[test]
    fn two_observers_tell_the_mapping_and_one_does_not() {
        use Port::{Quic, Stun, Tcp};
        let (same, differ) = (Some(Mapping::EndpointIndependent), Some(Mapping::DestinationDependent));
        for (seen, expected) in [
            (&[][..], None),
            (&[(A, Stun)], None),
            (&[(A, Stun), (A, Stun)], same),
            (&[(A, Stun), (B, Stun)], differ),
            (&[(A, Stun), (C, Stun)], differ),
            (&[(A, Quic), (A, Quic)], same),
            (&[(A, Quic), (B, Quic)], differ),
            // It may have got another address in between.
            (&[(A, Quic), (C, Quic)], None),
            (&[(A, Tcp), (A, Tcp)], same),
            // One of the two may have left from any port.
            (&[(A, Tcp), (B, Tcp)], None),
            // Ports of ours that differ are mapped to ports that differ.
            (&[(A, Stun), (B, Quic)], None),
            (&[(A, Stun), (A, Stun), (A, Quic), (B, Quic)], differ),
            (&[(A, Stun), (B, Stun), (A, Tcp), (A, Tcp)], differ),
        ] {
            let sights: Vec<Sight> = seen.iter().map(|(mapped, port)| sight(mapped, *port)).collect();
            assert_eq!(of(&sights), expected, "{seen:?}");
        }
    }

    #[test]
    fn a_host_that_has_the_address_it_is_seen_at_is_behind_no_nat() {
        assert_eq!(of(&[sight("73.0.0.99:40000", Port::Stun)]), Some(Mapping::None));
        assert_eq!(of(&[sight("192.168.1.7:40000", Port::Stun)]), Some(Mapping::None));
    }

    #[test]
    fn a_server_in_our_own_network_is_not_asked_how_we_look_from_outside() {
        let at_home = sight("192.168.1.7:40000", Port::Stun);
        assert_eq!(of(&[at_home, sight(A, Port::Stun)]), None);
        let seen = [at_home, sight(A, Port::Stun), sight(A, Port::Stun)];
        assert_eq!(of(&seen), Some(Mapping::EndpointIndependent));
    }

    #[test]
    fn an_observer_that_somebody_named_cannot_belie_two_that_our_operator_chose() {
        let chosen = [trusted(A, Port::Stun), trusted(A, Port::Stun)];
        let with_a_liar = [chosen[0], chosen[1], sight(B, Port::Stun)];
        assert_eq!(of(&with_a_liar), Some(Mapping::EndpointIndependent));
        assert_eq!(of(&with_a_liar[1..]), Some(Mapping::DestinationDependent), "with one it may");
    }

    #[test]
    fn filtering_is_told_as_narrow_as_it_may_be() {
        for (other_port, other_address, expected) in [
            (None, None, None),
            (Some(false), None, Some(Filtering::AddressAndPortDependent)),
            (Some(true), None, Some(Filtering::AddressDependent)),
            (Some(true), Some(false), Some(Filtering::AddressDependent)),
            (Some(true), Some(true), Some(Filtering::EndpointIndependent)),
            (Some(false), Some(true), Some(Filtering::EndpointIndependent)),
        ] {
            assert_eq!(filtering(LetIn { other_port, other_address }), expected);
        }
    }
}
