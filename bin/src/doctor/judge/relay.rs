//! What to think of one address of a relay.

use punchline_bridge::{error::Family, path::Transport};

use super::{check, network, no_way};
use crate::doctor::{
    diagnosis::{Check, Verdict},
    findings::{Fault, Findings, RelayFinding},
};

/// An address that fails matters less where the same relay is reached at another one; but that somebody else answers there
/// is wrong whatever else is right.
pub(super) fn relay(relay: &RelayFinding, found: &Findings) -> Check {
    let address = relay.address.to_string();
    let Err(fault) = &relay.reached else {
        return check("relay", Verdict::Ok, "it is reached, and keeps a place for this host")
            .of(address);
    };
    if let Some(words) = blamed_elsewhere(relay, fault, found) {
        return check("relay", Verdict::Skipped, words).of(address);
    }
    let others = || found.relays.iter().filter(|other| other.relay == relay.relay);
    let verdict = match fault {
        Fault::WrongPeer { .. } => Verdict::Bad,
        _ if others().any(|other| other.reached.is_ok()) => Verdict::Warning,
        _ => Verdict::Bad,
    };
    let over_tcp = others().filter_map(|other| other.reached.as_ref().err());
    let (words, advice) = words(fault, over_tcp);
    let layer = Some(fault.layer());
    let advice = advice.map(str::to_owned);
    Check { layer, advice, ..check("relay", verdict, words).of(address) }
}

/// Silence over UDP has the cause that shows over TCP, where a host that hangs or refuses is heard of each time.
fn words<'a>(
    fault: &Fault,
    mut siblings: impl Iterator<Item = &'a Fault>,
) -> (String, Option<&'static str>) {
    let (Fault::UdpSilent { at, .. } | Fault::UdpRefused { at }) = fault else { return fault.words() };
    let cause = siblings
        .find(|other| matches!(other, Fault::Silent { .. } | Fault::TcpRefused { .. }))
        .and_then(|other| other.words().1);
    match cause {
        Some(advice) => (format!("nothing answers at {at} over UDP either"), Some(advice)),
        None => fault.words(),
    }
}

/// Why it was not reached, where another check has that to say.
fn blamed_elsewhere(relay: &RelayFinding, fault: &Fault, found: &Findings) -> Option<&'static str> {
    let is_unknown = |name: &String| {
        found
            .names
            .iter()
            .any(|(known, answer)| known == name && answer.as_ref().map_or(true, |ips| ips.is_empty()))
    };
    match (fault, no_way(relay)) {
        (Fault::Unresolved { name, .. }, _) if is_unknown(name) => {
            Some("it was not tried, since its name cannot be looked up: see `dns`")
        }
        (_, Some(Family::V4)) if found.v4.is_none() => {
            Some("it was not tried, since there is no way out over IPv4: see `ipv4`")
        }
        (_, Some(Family::V6)) if found.v6.is_none() => {
            Some("it was not tried, since there is no way out over IPv6: see `ipv6`")
        }
        (Fault::UdpSilent { .. } | Fault::UdpUnreachable { .. }, _)
            if relay.transport == Transport::Quic && network::udp_is_blocked(found) =>
        {
            Some("nothing comes back from it over UDP: see `udp`")
        }
        _ => None,
    }
}
