//! Streams that were refused, at either end.

use punchline_bridge::error::Refusal;

use super::{Facts, Finding};
use crate::{report::Outcome, story::fault::Fault};

/// Of each service whose latest stream came to nothing, the latest first.
pub(super) fn findings(facts: &Facts<'_>) -> Vec<Finding> {
    let mut uses: Vec<_> =
        facts.remembered.into_iter().flat_map(|remembered| remembered.uses()).collect();
    uses.sort_by_key(|(_, of)| std::cmp::Reverse(of.at));
    let found =
        uses.into_iter().filter_map(|(service, of)| finding(facts, service.as_str(), &of.outcome));
    found.collect()
}

fn finding(facts: &Facts<'_>, service: &str, outcome: &Outcome) -> Option<Finding> {
    let peer = facts.peer;
    Some(match outcome {
        Outcome::Opened => return None,
        // It said so of a moment that is over.
        Outcome::RefusedThere(Refusal::Busy | Refusal::Shutdown) if facts.connected.is_none() => {
            return None;
        }
        Outcome::RefusedThere(reason) => refused_there(facts, service, *reason),
        Outcome::RefusedHere(reason) => Finding::new(
            Fault::NotServedHere,
            format!("the peer asked this node for `{service}`: {reason}"),
            format!("expose `{service}` here, or ask there for a service that this node has"),
        ),
        Outcome::Denied(reason) => Finding::new(
            Fault::RefusedHere,
            format!("this node refused it `{service}`: {reason}"),
            format!(
                "if it is to use it, let it in here with --allow {peer} (or in the file of --allow-file), or make a ticket \
                 for it with `punchline ticket new --service {service}`"
            ),
        ),
        Outcome::TargetFailed { target, reason } => Finding::new(
            Fault::TargetDownHere,
            format!(
                "the peer was let in, and the target behind `{service}` was not reached: {target}: {reason}"
            ),
            format!(
                "start the program that is to answer at {target}, or mend --service {service}=HOST:PORT"
            ),
        ),
        Outcome::HandshakeFailed(reason) => Finding::new(
            Fault::HandshakeFailed,
            format!("the session did not come about: {reason}"),
            "see that --network is the same at both ends; the log of the peer says more",
        ),
    })
}

fn refused_there(facts: &Facts<'_>, service: &str, reason: Refusal) -> Finding {
    let myself = facts.status.peer;
    let why = format!("the peer refused this node `{service}`: {reason}");
    match reason {
        Refusal::NotServed => Finding::new(
            Fault::NotServedThere,
            why,
            format!(
                "at the other end, see that `{service}` is exposed by this name and let this node in with --allow {myself}; \
                 or use a ticket that was made there"
            ),
        ),
        Refusal::TargetRefused | Refusal::TargetUnreachable => Finding::new(
            Fault::TargetDownThere,
            why,
            format!("start the program behind `{service}` at the other end, or mend --service there"),
        ),
        Refusal::TicketExpired | Refusal::TicketUsed | Refusal::TicketRevoked => Finding::new(
            Fault::TicketVoid,
            why,
            format!(
                "ask for another: `punchline ticket new --service {service}` makes one at the other end"
            ),
        ),
        Refusal::Busy | Refusal::Shutdown => Finding::new(
            Fault::BusyThere,
            why,
            "try again; if it stays so, close connections to it, or see whether it is running there",
        ),
        Refusal::DirectOnly => Finding::new(
            Fault::DirectOnly,
            why,
            "wait for a direct path, or let relays carry streams there with --relay-mode fallback",
        ),
    }
}
