//! What happens in the DHT, for people.

use super::{Level, Said, Saying};
use crate::finding::event::DhtEvent;

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
        DhtEvent::MemberFound { namespace, peer } => {
            (Level::Debug, format!("{} says that it is in `{namespace}`", said.called(peer)))
        }
        DhtEvent::MemberLost { namespace, peer } => {
            (Level::Debug, format!("{} is in `{namespace}` no more", said.called(peer)))
        }
    })
}
