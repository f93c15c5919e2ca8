//! Who was found, as it is said on the control socket. Pure.

use std::collections::BTreeMap;

use libp2p::PeerId;
use punchline_bridge::status::PeerStatus;
use punchline_discovery::Known;

use super::proto;
use crate::names::Names;

/// Peers that are told; of more, those that are connected or sought come first.
const PEERS_MAX: usize = 1024;

/// What sources say, and whom the node is connected with.
pub(super) fn peers(known: &[Known], connected: &[PeerStatus], names: &Names) -> proto::Found {
    let mut found = BTreeMap::<PeerId, proto::FoundPeer>::new();
    for peer in connected {
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use punchline_bridge::path::Path;
    use punchline_discovery::Source;

    use super::*;

    fn known(peer: PeerId, sought: bool) -> Known {
        let addresses = vec!["/ip4/192.168.1.9/tcp/4001".parse().unwrap()];
        Known { peer, sought, sources: vec![Source::LocalNetwork, Source::ThisHost], addresses }
    }

    fn connected(peer: PeerId) -> PeerStatus {
        let (why_relayed, next_attempt) = (None, None);
        let (path, connections) = (Path::Direct, Vec::new());
        PeerStatus { peer, familiar: true, path, connections, why_relayed, next_attempt }
    }

    #[test]
    fn a_peer_that_is_connected_and_was_found_is_told_once_with_each_source_once() {
        let peer = PeerId::random();
        let found = peers(&[known(peer, true)], &[connected(peer)], &Names::default()).peers;
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].peer.clone(), found[0].sought), (peer.to_string(), true));
        assert_eq!(found[0].sources, ["connected", "mdns"]);
        assert_eq!(found[0].addresses, ["/ip4/192.168.1.9/tcp/4001"]);
    }

    #[test]
    fn of_a_crowd_those_that_are_sought_or_connected_are_told() {
        let (sought, here) = (PeerId::random(), PeerId::random());
        let mut all: Vec<Known> = (0..2 * PEERS_MAX).map(|_| known(PeerId::random(), false)).collect();
        all.push(known(sought, true));
        let found = peers(&all, &[connected(here)], &Names::default()).peers;
        assert_eq!(found.len(), PEERS_MAX);
        for peer in [sought, here] {
            assert!(found[..2].iter().any(|told| told.peer == peer.to_string()));
        }
    }
}
