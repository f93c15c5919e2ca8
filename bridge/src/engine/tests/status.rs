//! What a node tells of itself.

use super::*;
use crate::{
    engine::input::Exchange,
    error::UpgradeFailure,
    status::{RelayState, Status},
};

impl World {
    fn status(&self) -> Status {
        self.engine.status(self.now)
    }
}

#[test]
fn a_relay_is_told_by_where_the_node_stands_with_it() {
    let mut world = World::new();
    let actions = world.tell(Input::Reserve { relay: relay(9) });
    assert_eq!(world.status().relays[0].state, RelayState::Connecting);
    assert!(world.status().hindrance().is_some_and(|why| why.ends_with("does not answer yet")));
    world.dial_failed(dials(&actions)[0].0);
    assert!(world.status().hindrance().is_some_and(|why| why.contains("is not reached: ")));
    let [down] = &world.status().relays[..] else { panic!("one relay") };
    assert!(matches!(down.state, RelayState::Down { retry: Some(_) }), "{down:?}");
    assert!(down.failures == 1 && down.last_error.is_some(), "{down:?}");
    let mut world = World::new();
    world.reserved(&relay(9));
    let status = world.status();
    let [held] = &status.relays[..] else { panic!("one relay") };
    assert!(matches!(held.state, RelayState::Reserved { .. }) && held.last_error.is_none(), "{held:?}");
    assert_eq!(status.peers.len(), 0, "a relay is no peer");
    assert_eq!((status.hindrance(), World::new().status().hindrance()), (None, None));
}

#[test]
fn a_relayed_peer_is_told_with_the_reason_and_a_direct_one_without() {
    let mut world = World::with(|config| config.deadlines.relayed_grace = HOUR);
    let (circuit, _) = world.visited(peer(1));
    assert_eq!(world.status().peers[0].why_relayed, None, "nothing is known yet");
    for number in 1..=4 {
        let reason = UpgradeFailure::Exchange { cause: "the end".to_owned() };
        world.tell(Input::PunchExchangeFailed {
            exchange: Exchange { connection: circuit, number },
            reason,
        });
        world.pass(2 * S);
    }
    let [relayed] = &world.status().peers[..] else { panic!("one peer") };
    assert!(!relayed.path.is_direct() && relayed.why_relayed.is_some(), "{relayed:?}");
    assert!(relayed.next_attempt.is_some(), "{relayed:?}");
    world.connected(peer(1), Path::Direct, Transport::Tcp);
    let [direct] = &world.status().peers[..] else { panic!("one peer") };
    assert!(direct.path.is_direct() && direct.connections.len() == 2, "{direct:?}");
    assert_eq!((&direct.why_relayed, direct.next_attempt), (&None, None));
}
