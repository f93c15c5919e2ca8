//! What is printed looks as `design/shapes` has it, for each version: one file for each kind of object.
#![allow(clippy::unwrap_used)]

use std::{collections::BTreeMap, path::PathBuf};

use prost_reflect::{Cardinality, DescriptorPool, Kind, MessageDescriptor};
use serde_json::{Map, Value, json};

use super::*;
use crate::{
    asking::examples,
    control::proto::{self, Candidate, Relay},
    reference::assert_written,
};

/// How a key is marked that may be absent.
const OPTIONAL: &str = "?";

fn of_message(message: &MessageDescriptor) -> Map<String, Value> {
    let fields = message.fields().map(|field| {
        let kind = match field.kind() {
            Kind::Message(message) => Value::Object(of_message(&message)),
            Kind::String => "string".into(),
            Kind::Bool => "boolean".into(),
            _ => "number".into(),
        };
        let kind = if field.cardinality() == Cardinality::Repeated { json!([kind]) } else { kind };
        let optional = if field.supports_presence() { OPTIONAL } else { "" };
        (format!("{}{optional}", field.name()), kind)
    });
    fields.collect()
}

/// As a protobuf message is printed.
fn of_answer(name: &str) -> Value {
    let pool = DescriptorPool::decode(proto::DESCRIPTORS).unwrap();
    let message = pool.get_message_by_name(&format!("punchline.v1.{name}")).unwrap();
    let mut shape = of_message(&message);
    shape.insert(KEY.to_owned(), "number".into());
    Value::Object(shape)
}

/// Of an example: types in place of values.
fn of_value(value: &Value) -> Value {
    match value {
        Value::Null => "null".into(),
        Value::Bool(_) => "boolean".into(),
        Value::Number(_) => "number".into(),
        Value::String(_) => "string".into(),
        Value::Array(all) => all.iter().take(1).map(of_value).collect(),
        Value::Object(fields) => {
            Value::Object(fields.iter().map(|(key, value)| (key.clone(), of_value(value))).collect())
        }
    }
}

fn dht() -> proto::Dht {
    proto::Dht {
        buckets: vec![proto::Bucket::default()],
        listening: vec![String::new()],
        bootstraps: vec![proto::Bootstrap {
            peer: Some(String::new()),
            round_trip_ms: Some(1.0),
            last_answer_seconds: Some(1.0),
            ..proto::Bootstrap::default()
        }],
        published_seconds: Some(1.0),
        lookup: Some(proto::Percentiles::default()),
        round_trip: Some(proto::Percentiles::default()),
        namespaces: vec![proto::Namespace::default()],
        announced: vec![proto::Announced::default()],
        nodes_estimated: Some(1),
        ..proto::Dht::default()
    }
}

fn mainline() -> proto::Mainline {
    proto::Mainline {
        seen_at: Some(String::new()),
        buckets: vec![proto::MainlineBucket::default()],
        ..proto::Mainline::default()
    }
}

/// Every kind of object, its version and its shape.
fn printed() -> Vec<(&'static str, u32, Value)> {
    let status = proto::Status {
        candidates: vec![Candidate::default()],
        external: vec![proto::External {
            relay: Some(String::new()),
            listener: Some(String::new()),
            ..proto::External::default()
        }],
        relays: vec![Relay {
            round_trip_ms: Some(1.0),
            last_error: Some(String::new()),
            ..Relay::default()
        }],
        hindrance: Some(String::new()),
        dht: Some(dht()),
        mainline: Some(mainline()),
        ..proto::Status::default()
    };
    let documented = include_str!("../../../design/doctor.md");
    let documented: Vec<Value> = documented
        .split("```json\n")
        .skip(1)
        .map(|block| serde_json::from_str(block.split("```").next().unwrap()).unwrap())
        .collect();
    let doctor = documented[0]["version"].as_u64().unwrap() as u32;
    let event = json!({ "ts": "", "shape": EVENT, "event": "" });
    let mut all = vec![
        ("status", STATUS, of_answer("Status")),
        ("why", STORY, of_answer("Story")),
        ("retry", RETRIED, of_answer("Retried")),
        ("discovery-verify", VERIFICATION, of_answer("Verification")),
        ("event", EVENT, of_value(&event)),
        ("doctor", doctor, of_value(&documented[0])),
        ("doctor-reach", doctor, of_value(&documented[1])),
    ];
    let mut answers = examples(&status);
    answers.push(("monitor-metrics", MONITOR, crate::page::numbers(&status)));
    #[cfg(feature = "mainline")]
    let answers = answers.into_iter().chain(crate::dht::examples());
    #[cfg(feature = "kad")]
    let answers = answers.into_iter().chain(crate::discovery::examples());
    all.extend(answers.into_iter().map(|(name, version, value)| (name, version, of_value(&value))));
    all
}

/// What of `before` is not in `now`, or is something else there.
fn broken(before: &Value, now: &Value, at: &str) -> Option<String> {
    match (before, now) {
        (Value::Object(before), Value::Object(now)) => before.iter().find_map(|(key, before)| {
            let at = format!("{at}.{key}");
            now.get(key).map_or(Some(at.clone()), |now| broken(before, now, &at))
        }),
        (Value::Array(before), Value::Array(now)) => match (before.first(), now.first()) {
            (Some(before), Some(now)) => broken(before, now, at),
            _ => None,
        },
        (before, now) => (before != now).then(|| at.to_owned()),
    }
}

fn file(name: &str, version: u32) -> PathBuf {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../design/shapes");
    PathBuf::from(folder).join(format!("{name}.{version}.json"))
}

#[test]
fn a_shape_that_changes_needs_another_version_unless_fields_are_only_added() {
    for (name, version, shape) in printed() {
        let path = file(name, version);
        let written =
            std::fs::read_to_string(&path).ok().map(|text| serde_json::from_str(&text).unwrap());
        let lost = written.as_ref().and_then(|written| broken(written, &shape, name));
        assert_eq!(
            lost, None,
            "this field is gone or another: raise the version of `{name}` in shapes.rs"
        );
        let shape = serde_json::to_string_pretty(&shape).unwrap() + "\n";
        assert_written(path, &shape, "a_shape");
    }
}

#[test]
fn every_object_that_is_printed_has_a_row_with_its_version() {
    let document = include_str!("../../../design/json.md");
    for (name, version, _) in printed() {
        let end = format!("| {version} | [`{name}`](shapes/{name}.{version}.json) |");
        assert!(document.contains(&end), "{end}");
    }
}

#[test]
fn what_breaks_whoever_reads_is_seen_and_what_is_added_is_not() {
    let before = json!({ "a": "string", "b": [{ "c": "number" }] });
    let more = json!({ "a": "string", "b": [{ "c": "number", "d": "string" }], "e": "null" });
    assert_eq!(broken(&before, &more, "it"), None);
    let cases: BTreeMap<&str, Value> = BTreeMap::from([
        ("it.a", json!({ "b": [{ "c": "number" }] })),
        ("it.b.c", json!({ "a": "string", "b": [{ "c": "string" }] })),
    ]);
    for (lost, now) in cases {
        assert_eq!(broken(&before, &now, "it").as_deref(), Some(lost));
    }
}
