//! What a relay tells of itself.

use super::*;
use crate::relay::Load;

#[test]
fn a_relay_tells_what_is_under_way_and_a_place_that_is_kept_counts_against_its_limit() {
    let config = RelayConfig { reservations: 3, circuits: 7, ..RelayConfig::default() };
    let mut world = World::new(&config);
    let (stays, goes) = (world.server("203.0.113.1"), world.server("203.0.113.2"));
    let client = world.client("198.51.100.1");
    world.circuit(client, stays.peer);
    world.connect(client, stays.peer);
    world.advance(SECOND);
    world.close(goes);
    let load = Load { connections: 2, reservations: 1, kept: 1, circuits: 1, circuits_waiting: 1 };
    assert_eq!(world.machine.load(), load);
    let limits = world.machine.limits();
    let full: Vec<_> = limits.iter().map(|limit| (limit.what, limit.used, limit.limit)).collect();
    let expected =
        [("reservations", 2, 3), ("circuits", 2, 7), ("connections", 2, 4096), ("handshakes", 0, 1024)];
    assert_eq!(full, expected);
}
