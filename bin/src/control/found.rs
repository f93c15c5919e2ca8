//! Who was found, as it is said on the control socket. Pure.

use std::collections::BTreeMap;

use libp2p::PeerId;
use punchline_bridge::Status;
use punchline_discovery::Known;

use super::proto;
use crate::names::Names;

/// Peers that are told; of more, those that are connected or sought come first.
const PEERS_MAX: usize = 1024;

/// What sources say, and whom the node is connected with.
pub(super) fn peers(known: &[Known], status: &Status, names: &Names) -> proto::Found {
    let mut found = BTreeMap::<PeerId, proto::FoundPeer>::new();
    for peer in &status.peers {
        let addresses = peer.connections.iter().map(|connection| connection.address.to_string());
        let entry = entry(&mut found, peer.peer, names);
        entry.sources.push("connected".to_owned());
        addresses.for_each(|address| add(&mut entry.addresses, address));
    }
    for known in known {
        let entry = entry(&mut found, known.peer, names);
        entry.sought = known.sought;
        known.sources.iter().for_each(|source| add(&mut entry.sources, source.to_string()));
        known.addresses.iter().for_each(|address| add(&mut entry.addresses, address.to_string()));
    }
    let mut peers: Vec<proto::FoundPeer> = found.into_values().collect();
    peers.sort_by_key(|peer| {
        !peer.sought && peer.sources.first().is_none_or(|first| first != "connected")
    });
    peers.truncate(PEERS_MAX);
    proto::Found { peers }
}

fn entry<'a>(
    found: &'a mut BTreeMap<PeerId, proto::FoundPeer>,
    peer: PeerId,
    names: &Names,
) -> &'a mut proto::FoundPeer {
    found.entry(peer).or_insert_with(|| proto::FoundPeer {
        peer: peer.to_string(),
        name: names.of(peer).map(ToString::to_string),
        ..proto::FoundPeer::default()
    })
}

fn add(all: &mut Vec<String>, one: String) {
    if !all.contains(&one) {
        all.push(one);
    }
}
