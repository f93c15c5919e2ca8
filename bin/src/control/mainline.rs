//! A node's part in the 160-bit network, as it is said on the control socket.

use std::net::SocketAddrV4;

use punchline_discovery::mainline::{Mainline, RoutingTable};

use super::proto;

/// None: it has ended.
pub(super) async fn told(node: &Mainline) -> Option<proto::Mainline> {
    let table = node.routing_table().await.ok()?;
    Some(status(node.local_address(), &table))
}

fn status(address: SocketAddrV4, table: &RoutingTable) -> proto::Mainline {
    let RoutingTable { id, serves, buckets, seen_at, values, hashes, refused, .. } = table;
    let bucket = |(shared_bits, nodes): &(usize, usize)| proto::MainlineBucket {
        shared_bits: *shared_bits as u32,
        nodes: *nodes as u32,
    };
    proto::Mainline {
        id: id.to_string(),
        address: address.to_string(),
        seen_at: seen_at.map(|seen| seen.to_string()),
        serves: *serves,
        buckets: buckets.iter().map(bucket).collect(),
        values: *values as u32,
        hashes: *hashes as u32,
        refused: *refused,
    }
}
