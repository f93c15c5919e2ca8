//! What to think of the addresses where the operator says that the node that runs here is reached.

use super::{Check, Verdict, check};
use crate::{control::proto::External, external};

/// A relay that reached it settles the matter, and so does one that did not.
pub(super) fn external(one: &External) -> Check {
    let judged = match one.state.as_str() {
        "confirmed" => check("external", Verdict::Ok, "a relay reached this node there"),
        "unanswered" => {
            let relay = one.relay.as_deref().unwrap_or_default();
            let words = format!("nobody answers there: relay {relay} tried it in vain");
            let listener = one.listener.as_ref().and_then(|listener| listener.parse().ok());
            let remedy = one.address.parse().ok().map(|at| external::remedy(&at, listener.as_ref()));
            Check { advice: remedy, ..check("external", Verdict::Bad, words) }
        }
        _ => check("external", Verdict::Skipped, "no relay tried it yet")
            .advise("give the node a relay (--relay), which does"),
    };
    judged.of(&one.address)
}
