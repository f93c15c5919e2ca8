//! An event as an entry of the log: its sentence, and for programs its fields.

use serde_json::{Map, Value};

use super::{format::EVENT, sentence::Level};

/// Where peers are; it stands in the file of events alone.
const PRIVATE: [(&str, &str); 4] = [
    ("connection_opened", "address"),
    ("upgrade_attempted", "addresses"),
    ("upgrade_failed", "tried"),
    ("way_failed", "way"),
];

/// Logs an event, given as its fields.
pub(super) fn log(level: Level, sentence: &str, fields: &Map<String, Value>) {
    let name = fields.get("event").and_then(Value::as_str).unwrap_or_default();
    let mut facts = fields.clone();
    facts.retain(|key, value| !value.is_null() && !PRIVATE.contains(&(name, key.as_str())));
    let facts = Value::Object(facts);
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
            let run = || log(Level::Info, "it happened", event);
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
