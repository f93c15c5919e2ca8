//! What a node knows of the DHT, and how those do whom it begins with: relays and bootstrap nodes.

use serde_json::{Value, json};

use super::{Answer, relays};
use crate::{
    asking::status::screen::round_trip,
    control::proto::{
        Announced, Bootstrap, Bucket, Count, Dht, Mainline, MainlineBucket, Namespace, Percentiles,
        Status,
    },
};

const NONE: &str = "this node takes no part in a DHT; --bootstrap <a node of it> does";

fn size(dht: &Dht) -> u32 {
    dht.buckets.iter().map(|bucket| bucket.nodes).sum()
}

pub(super) fn status(status: &Status) -> Answer {
    let Some(dht) = &status.dht else {
        let none = (NONE.to_owned(), json!({ "running": false, "routing_table_size": 0 }));
        return with_mainline(none, status);
    };
    let size = size(dht);
    let joined = match dht.joined {
        true => "joined",
        false if size == 0 && dht.mode == "server" && dht.bootstraps.is_empty() => "the first of it",
        false => "not joined yet",
    };
    let published = match dht.published_seconds {
        Some(seconds) => format!("others keep what it says of itself, since {seconds:.0} s"),
        None => "nobody keeps anything of it yet".to_owned(),
    };
    let mut lines = vec![
        format!("network `{}`, as a {}: {joined}, nodes in the table: {size}", dht.network, dht.mode),
        published,
        format!(
            "kept of others: records {}, contents {}, memberships {}",
            dht.records, dht.content, dht.providers
        ),
        format!(
            "lookups: {} found what was looked for, {} did not",
            dht.lookups_found, dht.lookups_missed
        ),
    ];
    let counts = |what: &str, counts: &[Count]| {
        let counts: Vec<String> =
            counts.iter().map(|count| format!("{} {}", count.count, count.what)).collect();
        (!counts.is_empty()).then(|| format!("{what}: {}", counts.join(", ")))
    };
    lines.extend(density(dht));
    lines.extend(paces(dht));
    lines.extend(dht.namespaces.iter().map(namespace));
    lines.extend(announced(&dht.announced));
    lines.extend(counts("refused to keep", &dht.refused));
    lines.extend(counts("not let into the table", &dht.denied));
    if dht.refused_questions + dht.passed_over + u64::from(dht.banned) > 0 {
        lines.push(format!(
            "questions not answered: {}, peers that lookups passed over: {}, peers banned at an address: {}",
            dht.refused_questions, dht.passed_over, dht.banned
        ));
    }
    lines.extend(dht.listening.iter().map(|address| format!("  listens on {address}")));
    let by_reason = |counts: &[Count]| {
        let count = |count: &Count| (count.what.clone(), Value::from(count.count));
        Value::Object(counts.iter().map(count).collect())
    };
    let json = json!({
        "running": true,
        "network": dht.network,
        "mode": dht.mode,
        "joined": dht.joined,
        "routing_table_size": size,
        "listening": dht.listening,
        "connections": dht.connections,
        "published_seconds": dht.published_seconds,
        "records": dht.records,
        "content": dht.content,
        "providers": dht.providers,
        "lookups_found": dht.lookups_found,
        "lookups_missed": dht.lookups_missed,
        "requests_sent": dht.requests_sent,
        "requests_received": dht.requests_received,
        "sent_per_second": dht.sent_per_second,
        "received_per_second": dht.received_per_second,
        "dials_failed": dht.dials_failed,
        "lookup_ms": dht.lookup.as_ref().map(percentiles),
        "round_trip_ms": dht.round_trip.as_ref().map(percentiles),
        "namespaces": dht.namespaces.iter().map(namespace_json).collect::<Vec<_>>(),
        "announced": dht.announced.iter().map(announced_json).collect::<Vec<_>>(),
        "passed_over": dht.passed_over,
        "refused_questions": dht.refused_questions,
        "banned": dht.banned,
        "nodes_estimated": dht.nodes_estimated,
        "density_alarm": dht.density_alarm,
        "refused": by_reason(&dht.refused),
        "denied": by_reason(&dht.denied),
    });
    with_mainline((lines.join("\n"), json), status)
}

/// How large the network is, and whether somebody crowds round the place of this node's contact.
fn density(dht: &Dht) -> Vec<String> {
    let nodes =
        dht.nodes_estimated.map(|nodes| format!("nodes in the whole network, estimated: {nodes}"));
    let alarm = dht.density_alarm.then(|| {
        "density alarm: the 20 nodes nearest to where others keep its address lie nearer than chance allows; somebody may be \
         hiding it, and other nodes are told as well"
            .to_owned()
    });
    nodes.into_iter().chain(alarm).collect()
}

/// How much is asked, and how long it takes.
fn paces(dht: &Dht) -> Vec<String> {
    let took = |what: &str, found: &Option<Percentiles>| {
        let Percentiles { median_ms, p95_ms, .. } = found.as_ref()?;
        Some(format!(
            "{what}: half within {}, 95 % within {}",
            round_trip(*median_ms),
            round_trip(*p95_ms)
        ))
    };
    let asked = format!(
        "requests: {:.1} a second sent, {:.1} answered; {} and {} in all",
        dht.sent_per_second, dht.received_per_second, dht.requests_sent, dht.requests_received
    );
    let lookups = took("lookups took", &dht.lookup);
    let pings = took("round trips to its nodes", &dht.round_trip);
    [Some(asked), lookups, pings].into_iter().flatten().collect()
}

/// The hash is what two operators compare.
fn namespace(namespace: &Namespace) -> String {
    let Namespace { name, hash, joined, members } = namespace;
    let part = if *joined { "a member" } else { "looked at" };
    format!("namespace {name} ({hash}): {part}, other members known: {members}")
}

fn namespace_json(namespace: &Namespace) -> Value {
    let Namespace { name, hash, joined, members } = namespace;
    json!({ "namespace": name, "hash": hash, "joined": joined, "members": members })
}

/// What others announce themselves under, as far as this node keeps it.
fn announced(all: &[Announced]) -> Option<String> {
    let key = |announced: &Announced| format!("{} ({})", announced.hash, announced.peers);
    let keys: Vec<String> = all.iter().take(ANNOUNCED_SHOWN).map(key).collect();
    (!keys.is_empty()).then(|| format!("kept keys, and who announced themselves: {}", keys.join(", ")))
}

fn announced_json(announced: &Announced) -> Value {
    json!({ "hash": announced.hash, "peers": announced.peers })
}

fn percentiles(found: &Percentiles) -> Value {
    json!({ "median": found.median_ms, "p95": found.p95_ms, "p99": found.p99_ms })
}

/// Keys that are shown to a person; the others are in the JSON.
const ANNOUNCED_SHOWN: usize = 4;

/// And the 160-bit network, if the node is in one.
fn with_mainline((mut text, mut json): Answer, status: &Status) -> Answer {
    json["mainline"] = Value::Null;
    let Some(mainline) = &status.mainline else { return (text, json) };
    let Mainline { id, address, seen_at, serves, buckets, values, hashes, refused } = mainline;
    let nodes: u32 = buckets.iter().map(|bucket| bucket.nodes).sum();
    let does = if *serves { "answers" } else { "only asks" };
    let seen = seen_at.as_ref().map(|seen| format!(", seen at {seen}")).unwrap_or_default();
    text += &format!(
        "\n160-bit network, as {id} at {address} over UDP{seen}: it {does}, nodes in the table: {nodes}\nkept of others there: \
         values {values}, hashes {hashes}; queries that were too many: {refused}"
    );
    let bucket =
        |found: &MainlineBucket| json!({ "shared_bits": found.shared_bits, "nodes": found.nodes });
    json["mainline"] = json!({
        "id": id,
        "address": address,
        "seen_at": seen_at,
        "serves": serves,
        "routing_table_size": nodes,
        "buckets": buckets.iter().map(bucket).collect::<Vec<_>>(),
        "values": values,
        "hashes": hashes,
        "refused": refused,
    });
    (text, json)
}

pub(super) fn table(status: &Status) -> Answer {
    let size = status.dht.as_ref().map(size);
    let text = match size {
        Some(size) => size.to_string(),
        None => format!("0: {NONE}"),
    };
    (text, json!({ "running": size.is_some(), "routing_table_size": size.unwrap_or(0) }))
}

/// Each bucket has the nodes whose ids begin as ours do, and differ in the bit that it is named after.
pub(super) fn buckets(status: &Status) -> Answer {
    let (size, mut json) = table(status);
    let buckets = status.dht.as_ref().map(|dht| &dht.buckets[..]).unwrap_or_default();
    let line = |bucket: &Bucket| {
        let Bucket { index, nodes } = bucket;
        format!("\n  2^{index} to 2^{}: {nodes}", index + 1)
    };
    let text = size + &buckets.iter().map(line).collect::<String>();
    let of = |bucket: &Bucket| json!({ "bucket": bucket.index, "nodes": bucket.nodes });
    json["buckets"] = buckets.iter().map(of).collect();
    json["mainline"] = Value::Null;
    let Some(mainline) = &status.mainline else { return (text, json) };
    let line = |found: &MainlineBucket| {
        let MainlineBucket { shared_bits, nodes } = found;
        // Ids have 160 bits.
        let upper = 160_u32.saturating_sub(*shared_bits);
        format!("\n  2^{} to 2^{upper}: {nodes}", upper.saturating_sub(1))
    };
    let nodes: u32 = mainline.buckets.iter().map(|bucket| bucket.nodes).sum();
    let lines: String = mainline.buckets.iter().map(line).collect();
    let text = format!("{text}\n160-bit network: {nodes}{lines}");
    json["mainline"] = mainline
        .buckets
        .iter()
        .map(|found| json!({ "shared_bits": found.shared_bits, "nodes": found.nodes }))
        .collect();
    (text, json)
}

/// Where this node meets others: relays, and the nodes of the DHT that it begins with.
pub(super) fn health(status: &Status) -> Answer {
    let (mut text, mut json) = relays(status);
    let Some(dht) = &status.dht else { return (text, json) };
    let line = |node: &Bootstrap| {
        let ping = node.round_trip_ms.map(|ms| format!(", {}", round_trip(ms))).unwrap_or_default();
        let failures = match node.failures {
            0 => String::new(),
            failures => format!(", {failures} looks in a row failed"),
        };
        format!("\n{}  {}{ping}{failures}", node.address, node.health)
    };
    text += &dht.bootstraps.iter().map(line).collect::<String>();
    let of = |node: &Bootstrap| {
        json!({
            "address": node.address,
            "peer": node.peer,
            "health": node.health,
            "reachable": node.health == "healthy",
            "latency_ms": node.round_trip_ms,
            "last_answer_seconds": node.last_answer_seconds,
            "failures": node.failures,
        })
    };
    json["bootstraps"] = dht.bootstraps.iter().map(of).collect();
    json["peer_count"] = dht.connections.into();
    json["routing_table_size"] = size(dht).into();
    (text, json)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node() -> Status {
        let bootstrap = Bootstrap {
            address: "/ip4/203.0.113.7/tcp/4001".to_owned(),
            health: "healthy".to_owned(),
            round_trip_ms: Some(20.0),
            ..Bootstrap::default()
        };
        let dht = Dht {
            network: "main".to_owned(),
            mode: "client".to_owned(),
            joined: true,
            buckets: vec![Bucket { index: 254, nodes: 2 }, Bucket { index: 255, nodes: 5 }],
            bootstraps: vec![bootstrap],
            refused: vec![Count { what: "signature".to_owned(), count: 3 }],
            published_seconds: Some(12.0),
            ..Dht::default()
        };
        Status { dht: Some(dht), ..Status::default() }
    }

    #[test]
    fn what_is_known_of_the_dht_is_told_for_people_and_for_programs() {
        for (answer, text, pointer, value) in [
            (
                status(&node()),
                "as a client: joined, nodes in the table: 7",
                "/routing_table_size",
                json!(7),
            ),
            (status(&node()), "refused to keep: 3 signature", "/refused/signature", json!(3)),
            (table(&node()), "7", "/routing_table_size", json!(7)),
            (buckets(&node()), "2^254 to 2^255: 2", "/buckets/1/nodes", json!(5)),
            (health(&node()), "healthy, 20 ms", "/bootstraps/0/reachable", json!(true)),
            (health(&node()), "uses no relay", "/routing_table_size", json!(7)),
        ] {
            assert!(answer.0.contains(text), "{}", answer.0);
            assert_eq!(answer.1.pointer(pointer), Some(&value));
        }
    }

    #[test]
    fn a_160_bit_network_is_told_beside_the_dht_and_without_one() {
        let mainline = Mainline {
            id: "ab".repeat(20),
            address: "0.0.0.0:6881".to_owned(),
            buckets: vec![MainlineBucket { shared_bits: 0, nodes: 5 }],
            ..Mainline::default()
        };
        for status in [node(), Status::default()] {
            let told = Status { mainline: Some(mainline.clone()), ..status };
            let (text, json) = super::status(&told);
            assert!(text.contains("over UDP: it only asks, nodes in the table: 5"), "{text}");
            assert_eq!(json["mainline"]["routing_table_size"], 5);
            let (text, json) = buckets(&told);
            assert!(text.ends_with("160-bit network: 5\n  2^159 to 2^160: 5"), "{text}");
            assert_eq!(json["mainline"][0]["nodes"], 5);
        }
    }

    #[test]
    fn paces_and_namespaces_are_told_with_the_hash_to_compare() {
        let mut told = node();
        let Some(dht) = &mut told.dht else { return };
        dht.lookup = Some(Percentiles { median_ms: 20.0, p95_ms: 85.0, p99_ms: 90.0 });
        dht.sent_per_second = 1.25;
        dht.namespaces = vec![Namespace {
            name: "kaspa".to_owned(),
            hash: "0123456789abcdef".to_owned(),
            joined: true,
            members: 3,
        }];
        dht.announced = vec![Announced { hash: "0123456789abcdef".to_owned(), peers: 4 }];
        let (text, json) = status(&told);
        for line in [
            "requests: 1.2 a second sent",
            "lookups took: half within 20 ms, 95 % within 85 ms",
            "namespace kaspa (0123456789abcdef): a member, other members known: 3",
            "kept keys, and who announced themselves: 0123456789abcdef (4)",
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }
        assert_eq!(json["namespaces"][0]["hash"], json["announced"][0]["hash"]);
    }

    #[test]
    fn a_density_alarm_and_the_size_of_the_network_are_told_where_they_are_known() {
        let (text, json) = status(&node());
        assert!(!text.contains("estimated") && !text.contains("density"), "{text}");
        assert_eq!((&json["nodes_estimated"], &json["density_alarm"]), (&Value::Null, &json!(false)));
        let mut told = node();
        let Some(dht) = &mut told.dht else { return };
        (dht.nodes_estimated, dht.density_alarm) = (Some(1_043), true);
        let (text, json) = status(&told);
        assert!(
            text.contains("the whole network, estimated: 1043\ndensity alarm: the 20 nodes"),
            "{text}"
        );
        assert_eq!((&json["nodes_estimated"], &json["density_alarm"]), (&json!(1043), &json!(true)));
    }

    #[test]
    fn without_a_dht_it_is_said_how_to_have_one() {
        let none = Status::default();
        for answer in [status(&none), table(&none), buckets(&none)] {
            assert!(answer.0.contains("--bootstrap"), "{}", answer.0);
            assert_eq!(answer.1["running"], json!(false));
        }
        assert_eq!(health(&none).1.get("bootstraps"), None);
    }
}
