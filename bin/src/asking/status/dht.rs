//! A node's part in DHTs, in a line or two of its screen. `punchline network dht-status` has the rest.

use crate::control::proto::{Bootstrap, Dht, Mainline, Status};

/// Namespaces that are named; the others are counted.
const NAMED_MAX: usize = 4;

pub(super) fn lines(status: &Status) -> Vec<String> {
    let mut lines: Vec<String> = status.dht.iter().flat_map(dht).collect();
    lines.extend(status.mainline.as_ref().map(mainline));
    lines
}

fn dht(dht: &Dht) -> Vec<String> {
    let nodes: u32 = dht.buckets.iter().map(|bucket| bucket.nodes).sum();
    let joined = match dht.joined {
        true => "joined",
        false if nodes == 0 && dht.mode == "server" && dht.bootstraps.is_empty() => "the first of it",
        false => "not joined yet",
    };
    let mut first =
        format!("DHT `{}` as a {}: {joined}, {}", dht.network, dht.mode, counted(nodes, "node"));
    let down = |node: &&Bootstrap| node.health == "down";
    let missing: Vec<&str> =
        dht.bootstraps.iter().filter(down).map(|node| node.address.as_str()).collect();
    match (missing.len(), dht.bootstraps.len()) {
        (0, _) => {}
        (down, all) if down == all => first += ", no bootstrap node answers",
        (_, _) => first += &format!(", does not reach {}", missing.join(", ")),
    }
    let mut lines = vec![first];
    let named = dht.namespaces.iter().take(NAMED_MAX);
    lines.extend(named.map(|space| {
        format!(
            "namespace `{}` ({}): {}",
            space.name,
            space.hash,
            counted(space.members, "other member")
        )
    }));
    if let Some(more @ 1..) = dht.namespaces.len().checked_sub(NAMED_MAX) {
        lines.push(format!("and {more} more namespaces"));
    }
    lines
}

fn mainline(mainline: &Mainline) -> String {
    let nodes: u32 = mainline.buckets.iter().map(|bucket| bucket.nodes).sum();
    format!("160-bit network at {} over UDP: {}", mainline.address, counted(nodes, "node"))
}

fn counted(count: u32, one: &str) -> String {
    format!("{count} {one}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::proto::{Bucket, Namespace};

    #[test]
    fn a_line_says_how_the_dht_is_and_one_each_namespace_with_what_to_compare() {
        let bootstrap = |port: u16, health: &str| Bootstrap {
            address: format!("/ip4/203.0.113.7/tcp/{port}"),
            health: health.to_owned(),
            ..Bootstrap::default()
        };
        let space = Namespace {
            name: "kaspa".to_owned(),
            hash: "0123456789abcdef".to_owned(),
            joined: true,
            members: 1,
        };
        let mut told = Dht {
            network: "main".to_owned(),
            mode: "client".to_owned(),
            joined: true,
            buckets: vec![Bucket { index: 255, nodes: 7 }],
            bootstraps: vec![bootstrap(1, "healthy"), bootstrap(2, "down")],
            namespaces: vec![space; NAMED_MAX + 2],
            ..Dht::default()
        };
        let screen = dht(&told);
        let first = "DHT `main` as a client: joined, 7 nodes, does not reach /ip4/203.0.113.7/tcp/2";
        assert_eq!(screen[0], first);
        assert_eq!(screen[1], "namespace `kaspa` (0123456789abcdef): 1 other member");
        assert_eq!(screen.last().map(String::as_str), Some("and 2 more namespaces"));
        told.bootstraps.remove(0);
        assert!(dht(&told)[0].ends_with("no bootstrap node answers"), "{:?}", dht(&told));
        assert_eq!(lines(&Status::default()).len(), 0);
    }
}
