//! What there may be many of.

use super::*;

#[test]
fn of_many_peers_that_are_known_some_are_named_and_the_others_counted() {
    let peers: Vec<PeerId> =
        (0..NAMED_MAX + 3).map(|_| Keypair::generate_ed25519().public().to_peer_id()).collect();
    let error = Unknown::Peer { peer: id(PEER), peers: peers.clone() }.to_string();
    assert!(error.ends_with(&format!("{} and 3 more", peers[NAMED_MAX - 1])), "{error}");
    let error = Unknown::Peer { peer: id(PEER), peers: Vec::new() }.to_string();
    assert!(error.ends_with("it has met nobody yet"), "{error}");
}

#[test]
fn a_peer_with_many_faults_is_told_the_first_few() {
    let mut world = World::direct();
    for number in 0..2 * findings::FINDINGS_MAX {
        let service = format!("service-{number}").parse().unwrap();
        let (peer, direction) = (id(PEER), Direction::Outbound);
        world = world.hears(BridgeEvent::StreamRefused {
            peer,
            service,
            reason: Refusal::NotServed,
            direction,
        });
    }
    assert_eq!(world.tell(PEER).unwrap().findings.len(), findings::FINDINGS_MAX);
}

#[test]
fn of_the_many_addresses_that_were_tried_the_latest_few_are_told() {
    let mut world = World::direct();
    let at = |port: usize| format!("/ip4/198.51.100.9/tcp/{port}").parse::<Multiaddr>().unwrap();
    for attempt in 0..4 {
        let addresses = (0..ADDRESSES_MAX).map(|number| at(1000 + attempt * 100 + number)).collect();
        let (peer, rung, attempt) = (id(PEER), Rung::Punch, attempt as u32 + 1);
        world = world.hears(BridgeEvent::UpgradeAttempted { peer, rung, attempt, addresses });
    }
    let told = world.tell(PEER).unwrap().there.unwrap().addresses;
    assert_eq!(told.len(), ADDRESSES_MAX);
    assert_eq!(told[0], "/ip4/198.51.100.9/tcp/35000", "where it is connected comes first");
    assert_eq!(told[1], at(1300).to_string());
}
