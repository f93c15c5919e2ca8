//! An event as an entry of the log: its sentence, and for programs its fields.

use libp2p::PeerId;
use punchline_bridge::event::Awaited;
use serde_json::{Map, Value};

use super::{Event, SessionEvent, called::Called, format::EVENT, sentence::Level};
use crate::gateway::event::GatewayEvent;

/// Where peers are; it stands in the file of events alone.
const PRIVATE: [(&str, &str); 5] = [
    ("node_discovered", "address"),
    ("connection_opened", "address"),
    ("upgrade_attempted", "addresses"),
    ("upgrade_failed", "tried"),
    ("way_failed", "way"),
];

/// What programs read of an event: its fields, with the names of peers that have one, and without where peers are.
pub(super) fn facts(
    event: &Event,
    fields: &Map<String, Value>,
    named: impl Fn(&PeerId) -> Option<String>,
) -> Map<String, Value> {
    let mut facts = public(fields);
    if let (Some(public), Some(reason)) = (reason(event), facts.get_mut("reason")) {
        *reason = public.into();
    }
    awaited(event, &mut facts);
    for (key, name) in NAMED {
        let peer = facts.get(key).and_then(Value::as_str).and_then(|peer| peer.parse().ok());
        if let Some(called) = peer.and_then(|peer| named(&peer)) {
            facts.insert(name.to_owned(), called.into());
        }
    }
    facts
}

/// Where the id of a peer stands, and its name beside it.
const NAMED: [(&str, &str); 4] = [
    ("peer", "peer_name"),
    ("relay", "relay_name"),
    ("source", "source_name"),
    ("destination", "destination_name"),
];

fn public(fields: &Map<String, Value>) -> Map<String, Value> {
    let name = fields.get("event").and_then(Value::as_str).unwrap_or_default();
    let mut facts = fields.clone();
    facts.retain(|key, value| !value.is_null() && !PRIVATE.contains(&(name, key.as_str())));
    facts
}

/// Why no stream came about, if an event says so: its own text names where the peer is.
fn reason(event: &Event) -> Option<String> {
    let called = Called::default();
    match event {
        Event::Bridge(punchline_bridge::Event::PeerUnreachable { reason, .. }) => {
            Some(called.open_error(reason))
        }
        Event::Session(SessionEvent::DialFailed { reason, .. })
        | Event::Gateway(GatewayEvent::ForwardFailed { reason, .. }) => Some(called.failure(reason)),
        _ => None,
    }
}

/// Likewise what is waited for.
fn awaited(event: &Event, facts: &mut Map<String, Value>) {
    let Event::Bridge(punchline_bridge::Event::Waiting(waiting)) = event else { return };
    let written = facts.get_mut("awaits").and_then(Value::as_array_mut).into_iter().flatten();
    for (awaited, written) in waiting.awaits.iter().zip(written) {
        if let Awaited::NextAttempt { cause: Some(error), .. } = awaited {
            written["cause"] = Called::default().open_error(error).into();
        }
    }
}

/// Logs an event, given as its [`facts`].
pub(super) fn log(level: Level, sentence: &str, facts: &Map<String, Value>) {
    let facts = Value::Object(facts.clone());
    match level {
        Level::Debug => tracing::debug!(target: EVENT, %facts, "{sentence}"),
        Level::Info => tracing::info!(target: EVENT, %facts, "{sentence}"),
        Level::Warn => tracing::warn!(target: EVENT, %facts, "{sentence}"),
    }
}

/// Logs what stands for itself.
pub(crate) fn say(sentence: &str) {
    tracing::info!(target: EVENT, "{sentence}");
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::report::tests::{documented, logged};

    #[test]
    fn an_entry_in_json_has_all_fields_of_its_event_but_addresses_of_peers() {
        for event in documented() {
            let event = event.as_object().unwrap();
            let run = || log(Level::Info, "it happened", &public(event));
            let entry: Value = serde_json::from_str(&logged(true, run)).unwrap();
            assert_eq!(entry["fields"]["message"], "it happened");
            let name = event["event"].as_str().unwrap();
            for (key, value) in event.iter().filter(|(_, value)| !value.is_null()) {
                let found = entry["fields"].get(key);
                match PRIVATE.contains(&(name, key)) {
                    true => assert_eq!(found, None),
                    false => assert_eq!(found, Some(value), "`{key}` of {event:?}"),
                }
            }
        }
    }

    #[test]
    fn an_entry_for_people_is_its_sentence_alone() {
        let event = serde_json::json!({ "event": "dial_failed", "peer": "12D3KooW" });
        let text =
            logged(false, || log(Level::Warn, "12D3…W is not reached", event.as_object().unwrap()));
        assert!(text.ends_with("Z WARN  12D3…W is not reached\n"), "{text}");
    }
}
