//! What happens in the DHT, for people.

use super::{Level, Said, Saying};
use crate::finding::event::{DhtEvent, VerifiedStep};

pub(super) fn sentence(event: &DhtEvent, said: &Said) -> Saying {
    Some(match event {
        DhtEvent::DhtListening { address } => {
            (Level::Debug, format!("nodes of the DHT are answered on {address}"))
        }
        DhtEvent::DhtJoined { table, took_ms } => {
            (Level::Info, format!("in the DHT after {took_ms} ms; nodes in the table: {table}"))
        }
        DhtEvent::BootstrapChanged { address, peer: _, health: "healthy", silent_ms: _ } => {
            (Level::Info, format!("the bootstrap node at {address} answers"))
        }
        DhtEvent::BootstrapChanged { address, peer: _, health, silent_ms } => {
            let since = silent_ms.map(|ms| format!(" since {} s", ms / 1000)).unwrap_or_default();
            let (level, does) = match *health {
                "down" => (Level::Warn, "does not answer"),
                _ => (Level::Info, "does not answer in time"),
            };
            (
                level,
                format!("the bootstrap node at {address} {does}{since}; others of the DHT are asked"),
            )
        }
        DhtEvent::NodeDiscovered { peer, address: _ } => {
            (Level::Debug, format!("{} is a node of the DHT", said.called(peer)))
        }
        DhtEvent::RoutingTableUpdated { table } => {
            (Level::Debug, format!("{table} nodes of the DHT are known"))
        }
        DhtEvent::LookupCompleted { lookup, found, took_ms, requests } => {
            let outcome = if *found { "found" } else { "not found" };
            let words = format!(
                "a {lookup} was looked for in the DHT and {outcome}: {requests} requests, {took_ms} ms"
            );
            (Level::Debug, words)
        }
        DhtEvent::DataStored { nodes } => {
            (Level::Debug, format!("{nodes} nodes of the DHT keep what this one says"))
        }
        DhtEvent::DensityAlarmRaised { expected, nodes } => (
            Level::Warn,
            format!(
                "20 nodes of the DHT crowd round the place of this node's address, where {expected:.1} of about {nodes} are \
                 expected: somebody may be hiding it. Others near it are told as well; relays and \
                 other sources do not depend on it"
            ),
        ),
        DhtEvent::DensityAlarmEnded => (
            Level::Info,
            "nodes of the DHT no longer crowd round the place of this node's address".to_owned(),
        ),
        DhtEvent::MemberFound { namespace, peer } => {
            (Level::Debug, format!("{} says that it is in `{namespace}`", said.called(peer)))
        }
        DhtEvent::DiscoveryVerified { verdict, steps } => verified(verdict, steps),
        DhtEvent::MemberLost { namespace, peer } => {
            (Level::Debug, format!("{} is in `{namespace}` no more", said.called(peer)))
        }
    })
}

/// The first of the steps that are worst is what to mend first.
fn verified(verdict: &str, steps: &[VerifiedStep]) -> (Level, String) {
    let (level, how) = match verdict {
        "pass" => {
            return (Level::Info, "discovery works: all six steps of its verification pass".to_owned());
        }
        "warn" => (Level::Info, "discovery works, with less than there could be"),
        _ => (Level::Warn, "discovery does not work"),
    };
    let worst = steps.iter().find(|step| step.verdict == verdict);
    let of = |VerifiedStep { step, name, found, advice, .. }: &VerifiedStep| {
        let advice = advice.as_ref().map(|advice| format!("; {advice}")).unwrap_or_default();
        format!(": step {step} ({name}): {found}{advice}")
    };
    (level, how.to_owned() + &worst.map(of).unwrap_or_default())
}
