//! What is written about metrics elsewhere fits to those that there are.

use std::fmt::Write as _;

use serde_json::Value;

use super::reading::{self, Told};
use crate::reference::assert_written;

const REFERENCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../design/metrics.md");

/// Its head; the rest is written from what is registered.
const HEAD: &str = "\
# Metrics

With `--metrics HOST:PORT` a node or a relay tells these numbers at `http://HOST:PORT/metrics`, as text that Prometheus
reads. Nothing is told unless it is asked for, and an address that other hosts reach takes `--metrics-public` as well:
nobody is asked who it is there. On a loopback address a browser that means another name is told nothing (DNS rebinding).
No label says who or where a peer is, and none has a value that a peer chose, so that there are as many series on the
first day as on any other: each is there at the first answer, a counter at zero if nothing happened.

`/healthz` answers 200 when the process does. `/readyz` answers 200 when it is usable, as `punchline health` does, and
otherwise 503 with the reason. A node is usable once a relay that answers holds a place for it, or four peers that it uses
or lets in are connected, or if it was given no relay; a client, or a process that only forwards, once a peer that it is for
is connected; a relay once it listens. When the node does not say within 5 s how it is, `/metrics` answers 503 as well. An
answer is good for 500 ms: whoever asks meanwhile gets the same.

32 connections are answered at once, of which one other host has 8 at most and this machine 24. A connection has 2 s for
the head of its request, of at most 8 KiB, and 10 s for the one answer. Where no place is left, the oldest connection that
has not said yet what it wants gives its own up, so that whoever only opens connections takes no answer away.

[deploy/prometheus/alerts.yml](../deploy/prometheus/alerts.yml) has alerts,
[deploy/grafana/punchline.json](../deploy/grafana/punchline.json) a dashboard.

This file is written from the program: `PUNCHLINE_WRITE_REFERENCE=1 cargo test -p punchline the_reference_names` does so
again.
";

fn reference() -> String {
    let mut text = HEAD.to_owned();
    for (name, Told { kind, help, labels, parts, .. }) in reading::all() {
        let said_by = parts.join(", ");
        write!(text, "\n## `{name}`\n\n{kind}, said by: {said_by}. {help}\n").unwrap();
        for (label, values) in
            labels.iter().filter(|(label, _)| !matches!(label.as_str(), "le" | "version"))
        {
            let values: Vec<String> = values.iter().map(|value| format!("`{value}`")).collect();
            let values =
                if label == "command" { "as it was called".to_owned() } else { values.join(", ") };
            write!(text, "\n- `{label}`: {values}").unwrap();
        }
        if labels.keys().any(|label| label != "le" && label != "version") {
            text.push('\n');
        }
    }
    text
}

#[test]
fn the_reference_names_every_metric_with_its_labels() {
    assert_written(REFERENCE, &reference(), "the_reference_names");
}

#[test]
fn the_reference_names_every_limit_that_a_node_or_a_relay_tells() {
    let limits = &reading::all()["punchline_limit_max"].labels["limit"];
    for name in
        ["streams_of_peers", "opens", "relays", "holds", "held_by_peers", "circuits", "open_files"]
    {
        assert!(limits.contains(name), "{name} is not among {limits:?}");
    }
    assert!(limits.iter().filter(|name| name.ends_with("_bytes")).count() >= 2, "{limits:?}");
}

#[test]
fn every_metric_says_what_it_is_after_the_conventions() {
    for (name, told) in reading::all() {
        assert!(told.help.len() > 15 && told.help.ends_with('.'), "{name}: {}", told.help);
        assert!(!told.help.ends_with(".."), "{name}: {}", told.help);
        assert!(!told.samples.is_empty(), "{name} has no series at the start");
        let unit = ["_seconds", "_bytes", "_bytes_total"].iter().any(|unit| name.ends_with(unit));
        match told.kind.as_str() {
            "counter" => assert!(name.ends_with("_total"), "{name}"),
            "histogram" => assert!(unit, "{name}"),
            "gauge" => assert!(!name.ends_with("_total") && !name.ends_with("_count"), "{name}"),
            "info" => assert!(name.ends_with("_info"), "{name}"),
            other => panic!("{name} is a {other}"),
        }
    }
}

/// That each metric which the query names exists, with the labels and values that it asks for.
fn assert_answered(query: &str, at: &str) {
    let all = reading::all();
    let is_of_name = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let mut found = 0;
    for (at_byte, _) in query.match_indices("punchline_") {
        let rest = &query[at_byte..];
        let end = rest.find(|letter| !is_of_name(letter)).unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        let told = all.values().find(|told| told.samples.contains(name));
        let told = told.unwrap_or_else(|| panic!("{at}: there is no {name} for: {query}"));
        found += 1;
        if !after.starts_with('{') {
            continue;
        }
        for (label, value) in reading::labels(after) {
            let values = told.labels.get(&label);
            assert!(
                values.is_some_and(|values| values.contains(&value)),
                "{at}: {label}={value} in {query}"
            );
        }
    }
    let of_prometheus = query.starts_with("up{") || query.starts_with("label_values(");
    assert!(found > 0 || of_prometheus, "{at}: no metric of ours in {query}");
}

/// All texts under a key, wherever it stands.
fn texts<'a>(value: &'a Value, key: &str, found: &mut Vec<&'a str>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::String(text) if name == key => found.push(text),
                    value => texts(value, key, found),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| texts(value, key, found)),
        _ => {}
    }
}

#[test]
fn each_query_of_the_dashboard_names_metrics_that_there_are() {
    let board: Value =
        serde_json::from_str(include_str!("../../../../deploy/grafana/punchline.json")).unwrap();
    let mut queries = Vec::new();
    texts(&board, "expr", &mut queries);
    texts(&board, "definition", &mut queries);
    assert!(queries.len() > 30, "{}", queries.len());
    for query in &queries {
        assert_answered(query, "deploy/grafana/punchline.json");
    }
    let asked = queries.join("\n");
    let ignored = |name: &str| !asked.contains(name.trim_end_matches("_info"));
    let all = reading::all();
    let unseen: Vec<&String> = all.keys().filter(|name| ignored(name)).collect();
    assert!(unseen.len() * 3 < all.len(), "of {} metrics these are not shown: {unseen:?}", all.len());
}

#[test]
fn each_alert_names_metrics_that_there_are() {
    let rules = include_str!("../../../../deploy/prometheus/alerts.yml");
    // From `expr:` to the next key of a rule.
    let queries: Vec<&str> = rules
        .split("expr:")
        .skip(1)
        .map(|rest| {
            rest.split("\n        for:").next().unwrap().split("\n        labels:").next().unwrap()
        })
        .map(|query| query.trim_start_matches([' ', '|', '\n']))
        .collect();
    assert_eq!(queries.len(), rules.matches("- alert:").count());
    for query in queries {
        assert_answered(query, "deploy/prometheus/alerts.yml");
    }
}
