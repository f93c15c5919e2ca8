//! Addresses that the operator states (`--external`).

use punchline_bridge::status::{ExternalState, ExternalStatus};

use super::*;

#[test]
fn where_nobody_answers_at_what_the_operator_states_that_is_what_to_look_at() {
    let reason = UpgradeFailure::PortsChange { ours: SYMMETRIC, theirs: SYMMETRIC };
    let mut world = World::relayed(Some(reason));
    let stated = |state| ExternalStatus {
        address: "/ip4/198.51.100.4/tcp/7000".parse().unwrap(),
        state,
        listener: Some("/ip4/192.168.1.7/tcp/4001".parse().unwrap()),
    };
    world.status.external = vec![stated(ExternalState::Unanswered { relay: RELAY.parse().unwrap() })];
    world.finds("symmetric_both", "", "forwards TCP port 7000 to this host, 192.168.1.7, port 4001");
    world.status.external = vec![stated(ExternalState::Confirmed)];
    world.finds("symmetric_both", "", "this router forwards a port, and the peer did not come in there");
}
