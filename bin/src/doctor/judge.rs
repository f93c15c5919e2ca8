//! What to think of what was found: each check its verdict, and all together what to expect. Pure.

mod dht;
mod external;
mod host;
mod network;
mod relay;

use std::time::Duration;

use super::{
    diagnosis::{Check, Diagnosis, Expectation, VERSION, Verdict},
    findings::{Fault, Findings, RelayFinding},
};
use punchline_bridge::{
    addr::GlobalScope,
    error::Family,
    nat::{Filtering, Mapping, NatClass, NatKind},
    path::Transport,
    survey::{Hairpin, RouterAnswer},
};

/// What is wrong is blamed once, where it is: a check that fails for what another one says is skipped, and says so.
/// `global`: which addresses count as public.
pub(super) fn judge(found: &Findings, global: &GlobalScope, took: Duration) -> Diagnosis {
    let mut checks = vec![network::ipv4(found), network::ipv6(found, global)];
    checks.extend(network::dns(found));
    checks.extend(found.relays.iter().map(|relay| relay::relay(relay, found)));
    checks.extend([
        network::udp(found),
        network::tcp(found),
        network::port_443(found),
        network::proxy(found),
        network::nat(found),
        network::hairpin(found),
        network::port_mapping(found, global),
        network::clock(found),
        network::mtu(found),
    ]);
    checks.extend(found.external.iter().map(external::external));
    checks.extend(dht::dht(found.dht.as_ref()));
    checks.extend(host::listening(found));
    checks.extend(host::identities(found));
    checks.push(host::state(found));
    checks.push(host::open_files(found));
    let count = |verdict| checks.iter().filter(|check| check.verdict == verdict).count();
    Diagnosis {
        version: VERSION,
        punchline: env!("CARGO_PKG_VERSION"),
        bad: count(Verdict::Bad),
        warnings: count(Verdict::Warning),
        took_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        expect: expect(found, global),
        checks,
    }
}

fn check(check: &'static str, verdict: Verdict, found: impl Into<String>) -> Check {
    Check { check, subject: None, verdict, layer: None, found: found.into(), advice: None }
}

impl Check {
    fn advise(self, advice: impl Into<String>) -> Self {
        Self { advice: Some(advice.into()), ..self }
    }

    fn of(self, subject: impl Into<String>) -> Self {
        Self { subject: Some(subject.into()), ..self }
    }
}

/// Whether a relay was reached over this transport.
fn reached(found: &Findings, transport: Transport) -> bool {
    found.relays.iter().any(|relay| relay.transport == transport && relay.reached.is_ok())
}

/// Whether anything came back over UDP.
fn udp_answers(found: &Findings) -> bool {
    let stun = found.hairpin.is_some_and(|hairpin| hairpin != Hairpin::Unknown);
    let passed_quic = |relay: &RelayFinding| {
        let later = |fault: &Fault| {
            !matches!(
                fault,
                Fault::Unresolved { .. }
                    | Fault::Deadline { .. }
                    | Fault::UdpRefused { .. }
                    | Fault::UdpSilent { .. }
                    | Fault::UdpUnreachable { .. }
            )
        };
        relay.transport == Transport::Quic && relay.reached.as_ref().err().is_none_or(later)
    };
    let filtering = [found.node.nat_v4, found.node.nat_v6].iter().any(|nat| nat.filtering.is_some());
    stun || filtering || found.relays.iter().any(passed_quic)
}

/// Whether a relay does not answer over UDP that is there over TCP, or is named over UDP alone.
fn udp_is_lost(found: &Findings) -> bool {
    let silent = |relay: &RelayFinding| {
        matches!(relay.reached, Err(Fault::UdpSilent { .. } | Fault::UdpUnreachable { .. }))
    };
    let is_there = |relay: &RelayFinding| {
        let others = || found.relays.iter().filter(|other| other.relay == relay.relay);
        others().any(|other| other.transport != Transport::Quic && other.reached.is_ok())
            || others().all(|other| other.transport == Transport::Quic)
    };
    found.relays.iter().any(|relay| silent(relay) && is_there(relay))
}

/// Whether no relay is reached for nothing but the lack of this family.
fn lacks(found: &Findings, family: Family) -> bool {
    !found.relays.is_empty() && found.relays.iter().all(|relay| no_way(relay) == Some(family))
}

/// The family over which this host has no way to the relay's address.
fn no_way(relay: &RelayFinding) -> Option<Family> {
    match relay.reached {
        Err(Fault::TcpUnreachable { at, .. } | Fault::UdpUnreachable { at, .. }) => {
            Some(Family::of(at.ip()))
        }
        _ => None,
    }
}

/// The public address that our router forwards from.
fn mapped(found: &Findings, global: &GlobalScope) -> bool {
    let usable =
        |answer: &RouterAnswer| matches!(answer, RouterAnswer::Forwards(at) if global.contains(at.ip()));
    found.mapping.iter().flatten().any(|(_, answer)| usable(answer))
}

/// The hardest to punch.
const SYMMETRIC: NatKind = NatKind {
    mapping: Some(Mapping::DestinationDependent),
    filtering: Some(Filtering::AddressAndPortDependent),
};

/// Whether a peer behind any NAT can come in.
fn lets_in_all(nat: NatKind) -> bool {
    nat.mapping.is_some() && nat.filtering.is_some() && !nat.rules_out_punch(SYMMETRIC)
}

fn expect(found: &Findings, global: &GlobalScope) -> Expectation {
    if found.relays.is_empty() {
        return Expectation::NotKnown;
    }
    let over = |transport| reached(found, transport);
    let plain_tcp = over(Transport::Tcp);
    let (web, udp) = (over(Transport::Websocket), udp_answers(found));
    if !plain_tcp && !web && !over(Transport::Quic) {
        return Expectation::Nobody;
    }
    // A relay that is only listening on WebSockets says nothing about TCP to other ports.
    let failed = |transport| {
        found.relays.iter().any(|relay| relay.transport == transport && relay.reached.is_err())
    };
    if web
        && !plain_tcp
        && !udp
        && (failed(Transport::Tcp) || failed(Transport::Quic) || found.proxy.is_some())
    {
        return Expectation::RelayedOverHttps;
    }
    if mapped(found, global) || [found.node.nat_v4, found.node.nat_v6].into_iter().any(lets_in_all) {
        return Expectation::DirectWithNearlyAll;
    }
    let nat = match found.node.nat_v4 {
        unknown if unknown == NatKind::default() => found.node.nat_v6,
        known => known,
    };
    match nat.class() {
        NatClass::Symmetric if found.v6.is_some_and(|ip| global.contains(ip)) => {
            Expectation::DirectOverIpv6
        }
        NatClass::Symmetric => Expectation::DirectWithSome,
        // The kind is found out over UDP.
        NatClass::Unknown if plain_tcp && !udp && udp_is_lost(found) => Expectation::DirectOverTcp,
        NatClass::Unknown => Expectation::RelayedAtLeast,
        _ if !udp => Expectation::DirectOverTcp,
        _ => Expectation::DirectWithMost,
    }
}

#[cfg(test)]
mod tests;
