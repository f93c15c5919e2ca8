//! An event as an entry of the log: its name, and its fields.

use serde_json::{Map, Value};
use tracing::field::display;

/// An entry for each event: its name is the message, so that one can look for it, and its fields are those of
/// the event. Peers' addresses are left out: they belong in the debug log and in the events file only.
macro_rules! entries {
    ($name:expr, $fields:expr; $($event:literal: $($field:ident)*;)*) => {
        match $name {
            $($event => tracing::info!($($field = value($fields, stringify!($field)),)* $event),)*
            _ => tracing::info!(fields = %whole($fields), "an event"),
        }
    };
}

/// Logs an event, given as its fields.
pub(super) fn log(fields: &Map<String, Value>) {
    let name = fields.get("event").and_then(Value::as_str).unwrap_or_default();
    if name == "listen_failed" {
        // Somebody has to mend the host or the settings, or knows that it must be so.
        let (address, cause) = (value(fields, "address"), value(fields, "cause"));
        tracing::warn!(address, cause, "listen_failed");
        return;
    }
    entries! { name, fields;
        "listening": address;
        "listen_failed": address cause;
        "reservation_held": relay address expires circuit_bytes_max circuit_seconds_max;
        "reservation_lost": relay cause;
        "reservation_failed": relay cause failures;
        "relay_health": relay health was;
        "clock_differs": relay seconds;
        "network_blocks": relay transports what;
        "candidate_found": address source;
        "port_mapped": transport address protocol;
        "port_mapping_lost": transport address;
        "port_mapping_unusable": transport address protocol cause;
        "nat_found": family mapping filtering nat public_address observers;
        "candidates_refused": peer allowed refused;
        "address_confirmed": address server lets_in;
        "address_withdrawn": address;
        "connection_opened": peer connection path relay direction transport circuit_bytes_max circuit_seconds_max;
        "connection_closed": peer connection path cause;
        "upgrade_succeeded": peer connection transport took_ms attempts rung local_nat remote_nat;
        "upgrade_attempted": peer rung attempt;
        "upgrade_failed": peer reason attempts local_nat remote_nat again_seconds;
        "stream_opened": peer stream service path relay direction;
        "stream_moved": peer stream from to relay gap_ms cause;
        "stream_closed": peer stream service cause sent_direct_bytes sent_relayed_bytes received_direct_bytes received_relayed_bytes;
        "stream_refused": peer service reason direction;
        "way_failed": peer reason;
        "peer_unreachable": peer reason failures retry_in_ms;
        "refused": peer what limit whose count;
        "reservation_accepted": peer renewed;
        "reservation_ended": peer;
        "circuit_opened": source destination;
        "circuit_closed": source destination bytes cause;
        "relay_traffic": received_bytes sent_bytes forwarded_bytes;
        "stun_listening": address other_port;
        "upgrades_counted": local_nat remote_nat transport rung count;
        "stopped":;
        "session_ready": peer network protocol_version user_agent path;
        "session_ended": peer cause;
        "handshake_failed": peer reason;
        "dial_failed": peer reason retry_in_ms;
        "load_done": peer bytes sha256 ms path;
        "stream_traffic": peer stream path sent_direct_bytes sent_relayed_bytes received_direct_bytes received_relayed_bytes;
        "session_pinged": peer pings unanswered slowest_ms;
        "access_refused": peer service reason;
        "access_revoked": peer service;
        "access_reloaded": service error;
        "nets_reloaded": error;
        "target_failed": peer service target reason;
        "forward_listening": peer service local;
        "forward_failed": peer service reason;
        "forward_full": peer service limit;
        "metrics_listening": address;
        "page_listening": address;
        "events_lost": count;
        "suppressed": what count within_ms;
    }
}

/// An event that has no entry of its own.
fn whole(fields: &Map<String, Value>) -> String {
    Value::Object(fields.clone()).to_string()
}

/// The value of a field; none if it is null, which leaves it out. Words stand as they are, text in quotes.
fn value(fields: &Map<String, Value>, key: &str) -> Option<Box<dyn tracing::Value>> {
    Some(match fields.get(key)? {
        Value::Null => return None,
        Value::Bool(value) => Box::new(*value),
        Value::String(text) if text.contains(char::is_whitespace) => Box::new(text.clone()),
        Value::String(word) => Box::new(display(word.clone())),
        Value::Number(number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
            (Some(whole), ..) => Box::new(whole),
            (None, Some(negative), _) => Box::new(negative),
            (None, None, Some(fraction)) => Box::new(fraction),
            (None, None, None) => Box::new(display(number.clone())),
        },
        other => Box::new(display(other.clone())),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::report::tests::{documented, logged};

    /// Where peers are; it stands in the file of events alone.
    const PRIVATE: [(&str, &str); 4] = [
        ("connection_opened", "address"),
        ("upgrade_attempted", "addresses"),
        ("upgrade_failed", "tried"),
        ("way_failed", "way"),
    ];

    #[test]
    fn every_documented_event_has_an_entry_with_all_its_fields_but_addresses_of_peers() {
        for event in documented() {
            let event = event.as_object().unwrap();
            let entry: Value = serde_json::from_str(&logged(true, || log(event))).unwrap();
            assert_eq!(entry["fields"]["message"], event["event"]);
            let name = event["event"].as_str().unwrap();
            let is_private = |key: &str| PRIVATE.contains(&(name, key));
            for (key, value) in event.iter().filter(|(key, value)| *key != "event" && !value.is_null()) {
                let found = entry["fields"].get(key);
                match is_private(key) {
                    true => assert_eq!(found, None),
                    false if value.is_object() || value.is_array() => {
                        assert_eq!(found, Some(&value.to_string().into()))
                    }
                    false => assert_eq!(found, Some(value), "`{key}` of {event:?}"),
                }
            }
        }
    }

    #[test]
    fn an_entry_can_be_read() {
        let event = serde_json::json!({
            "event": "dial_failed", "peer": "12D3KooW", "reason": "no answer within 10 s", "retry_in_ms": null,
        });
        let text = logged(false, || log(event.as_object().unwrap()));
        assert!(
            text.ends_with("dial_failed peer=12D3KooW reason=\"no answer within 10 s\"\n"),
            "{text}"
        );
    }
}
