//! What was found out once, or was so once, and what came later.

use super::*;

#[test]
fn a_clock_that_differed_once_is_not_blamed_when_the_relay_says_that_it_agrees() {
    let once = BridgeEvent::ClockDiffers { relay: id(RELAY), seconds: 3600 };
    assert_eq!(World::direct().hears(once).tell(PEER).unwrap().findings, []);
}

#[test]
fn two_symmetric_nats_are_the_reason_also_when_a_later_round_of_words_breaks_off() {
    let symmetric = NatKind { mapping: Some(Mapping::DestinationDependent), ..NatKind::default() };
    let failure = UpgradeFailure::Exchange { cause: "unexpected end of file".to_owned() };
    let failed = BridgeEvent::UpgradeFailed {
        peer: id(PEER),
        reason: failure.clone(),
        attempts: 1,
        local_nat: symmetric,
        remote_nat: symmetric,
        tried: Vec::new(),
        again_seconds: None,
    };
    World::relayed(Some(failure.clone())).finds("no_punching", "end of file", "punchline why");
    let mut world = World::relayed(Some(failure)).hears(failed);
    world.status.nat_v4 = symmetric;
    world.finds("symmetric_both", "no hole punch is possible", "UPnP");
}

#[test]
fn that_a_relay_is_dialled_again_does_not_hide_what_the_last_dial_came_to() {
    let way = TriedWay::Relay(relay_addr());
    let mut world = World::new().unreachable(way, late());
    let relay = &mut world.status.relays[0];
    (relay.state, relay.last_error) = (RelayState::Connecting, None);
    world.finds("relay_silent", "no answer within 10 s", "hangs");
    assert_eq!(world.tell(PEER).unwrap().findings.len(), 1);
}
