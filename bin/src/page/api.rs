//! What programs ask for that watched other monitors of DHTs: the same names, with what is true here.

use hyper::StatusCode;
use serde_json::{Value, json};
use tonic::Request;

use super::Told;
use crate::{
    asking::found_json,
    control::{
        Answers,
        proto::{GetStatusRequest, ListFoundRequest, Status},
    },
    shapes::{self, versioned},
};

/// Numbers, under the names that these programs know.
pub(super) async fn metrics(node: &impl Answers) -> Told {
    let told = node.get_status(Request::new(GetStatusRequest {})).await.map_err(|error| busy(&error))?;
    Ok(numbers(told.get_ref()).to_string().into())
}

/// The peers or nodes that are known, as `punchline network peers --json` prints them.
pub(super) async fn nodes(node: &impl Answers) -> Told {
    match node.list_found(Request::new(ListFoundRequest {})).await {
        Ok(found) => Ok(found_json(found.get_ref()).to_string().into()),
        // A relay looks for nobody.
        Err(error) if error.code() == tonic::Code::Unimplemented => {
            Err((StatusCode::NOT_FOUND, error.message().to_owned()))
        }
        Err(error) => Err(busy(&error)),
    }
}

fn busy(error: &tonic::Status) -> (StatusCode, String) {
    (StatusCode::SERVICE_UNAVAILABLE, error.message().to_owned())
}

/// Messages are requests of the DHT, as they are for the programs that these names come from.
pub(crate) fn numbers(status: &Status) -> Value {
    let dht = status.dht.as_ref();
    let of_dht = |count: fn(&crate::control::proto::Dht) -> u64| dht.map(count).unwrap_or_default();
    let connected = match &status.relaying {
        Some(relaying) => relaying.connections as usize,
        None => status.peers.len(),
    };
    let trip = dht.and_then(|dht| dht.round_trip.as_ref());
    let latency =
        trip.map(|trip| json!({ "p50": trip.median_ms, "p95": trip.p95_ms, "p99": trip.p99_ms }));
    let lookup = dht.and_then(|dht| dht.lookup.as_ref());
    let lookup =
        lookup.map(|took| json!({ "p50": took.median_ms, "p95": took.p95_ms, "p99": took.p99_ms }));
    let numbers = json!({
        "uptime_seconds": status.uptime_seconds,
        "connected_peers": connected,
        "routing_table_size": of_dht(|dht| dht.buckets.iter().map(|bucket| u64::from(bucket.nodes)).sum()),
        "messages_sent": of_dht(|dht| dht.requests_sent),
        "messages_received": of_dht(|dht| dht.requests_received),
        "connection_failures": of_dht(|dht| dht.dials_failed),
        "lookups_found": of_dht(|dht| dht.lookups_found),
        "lookups_missed": of_dht(|dht| dht.lookups_missed),
        "lookup_ms": lookup,
        "latency_ms": latency,
    });
    versioned(shapes::MONITOR, numbers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::proto::{Bucket, Dht, Percentiles, Relaying};

    #[test]
    fn the_five_numbers_of_other_monitors_have_their_names() {
        let dht = Dht {
            buckets: vec![Bucket { index: 255, nodes: 7 }, Bucket { index: 254, nodes: 2 }],
            requests_sent: 11,
            requests_received: 13,
            dials_failed: 3,
            round_trip: Some(Percentiles { median_ms: 20.0, p95_ms: 40.0, p99_ms: 80.0 }),
            ..Dht::default()
        };
        let relaying = Some(Relaying { connections: 5, ..Relaying::default() });
        let told = numbers(&Status { dht: Some(dht), relaying, ..Status::default() });
        let names = [
            "connected_peers",
            "routing_table_size",
            "messages_sent",
            "messages_received",
            "connection_failures",
        ];
        assert_eq!(names.map(|name| told[name].as_u64()), [5, 9, 11, 13, 3].map(Some));
        assert_eq!((&told["latency_ms"]["p99"], &told["lookup_ms"]), (&json!(80.0), &Value::Null));
        assert_eq!(numbers(&Status::default())["messages_sent"], 0);
    }
}
