#![allow(clippy::unwrap_used)]
use std::{cell::Cell, collections::BTreeMap};

use super::*;

const FIRST: &str = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";
const OTHER: &str = "12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp";

/// Asks a zone of these records.
async fn follow_in(zone: &[(&str, &str)], host: &str) -> (Result<Vec<String>, String>, usize) {
    let mut records: BTreeMap<String, Vec<Multiaddr>> = BTreeMap::new();
    for (name, record) in zone {
        records.entry((*name).to_owned()).or_default().push(record.parse().unwrap());
    }
    let asked = Cell::new(0);
    let found = follow(host, |name: String| {
        asked.set(asked.get() + 1);
        std::future::ready(records.get(&name).cloned().ok_or(NameError::NoRecord { name })).boxed()
    });
    let found = found.await.map(|relays| relays.iter().map(ToString::to_string).collect());
    (found, asked.get())
}

fn at(host: &str, peer: &str) -> String {
    format!("{host}/tcp/4001/p2p/{peer}")
}

#[tokio::test]
async fn a_name_stands_for_several_relays_with_several_addresses_each_and_for_other_names() {
    let records = [at("/ip4/1.2.3.4", FIRST), at("/dns4/b.lab", FIRST), at("/ip4/1.2.3.5", OTHER)];
    let zone = [
        ("relay.lab", records[0].as_str()),
        ("relay.lab", records[1].as_str()),
        ("relay.lab", "/dnsaddr/more.lab"),
        ("more.lab", records[2].as_str()),
    ];
    let (found, asked) = follow_in(&zone, "relay.lab").await;
    assert_eq!((found.unwrap(), asked), (records.to_vec(), 2));
}

#[tokio::test]
async fn a_record_that_names_an_identity_takes_no_other_from_the_name_it_leads_to() {
    let (first, other) = (at("/ip4/1.2.3.4", FIRST), at("/ip4/1.2.3.5", OTHER));
    let pinned = format!("/dnsaddr/more.lab/p2p/{FIRST}");
    let zone = [("relay.lab", pinned.as_str()), ("more.lab", &first), ("more.lab", &other)];
    assert_eq!(follow_in(&zone, "relay.lab").await.0.unwrap(), [first]);
}

#[tokio::test]
async fn names_that_lead_in_a_circle_end_at_the_depth_that_is_followed() {
    let (found, asked) = follow_in(&[("relay.lab", "/dnsaddr/relay.lab")], "relay.lab").await;
    assert!(found.unwrap_err().contains("from name to name"));
    assert_eq!(asked, DEPTH_MAX);
}

#[tokio::test]
async fn names_that_fan_out_and_records_without_end_are_followed_up_to_the_limits() {
    let names: Vec<String> = (0..100).map(|number| format!("/dnsaddr/n{number}.lab")).collect();
    let zone: Vec<_> = names.iter().map(|name| ("relay.lab", name.as_str())).collect();
    let (found, asked) = follow_in(&zone, "relay.lab").await;
    assert!(found.is_err() && asked == LOOKUPS_MAX, "{asked} lookups");
    let many: Vec<String> =
        (1..100).map(|port| format!("/ip4/1.2.3.4/tcp/{port}/p2p/{FIRST}")).collect();
    let zone: Vec<_> = many.iter().map(|record| ("relay.lab", record.as_str())).collect();
    assert_eq!(follow_in(&zone, "relay.lab").await.0.unwrap().len(), Resolved::RELAYS_MAX);
}

#[tokio::test]
async fn records_that_are_of_no_use_are_said_with_what_they_should_be() {
    let (found, _) = follow_in(&[("relay.lab", "/ip4/1.2.3.4/tcp/4001")], "relay.lab").await;
    assert!(found.as_ref().unwrap_err().contains("/p2p/<relay's peer id>"), "{found:?}");
    let (found, _) = follow_in(&[("relay.lab", &at("/ip4/0.0.0.0", FIRST))], "relay.lab").await;
    assert!(found.as_ref().unwrap_err().contains("cannot be dialled"), "{found:?}");
    let (found, _) = follow_in(&[], "relay.lab").await;
    assert!(found.as_ref().unwrap_err().contains("_dnsaddr.relay.lab"), "{found:?}");
}
