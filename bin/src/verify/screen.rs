//! A verification for a person. Pure.

use std::fmt::Write as _;

use crate::control::proto::{Verification, VerifiedStep, Way};

/// The text, with the end of its last line.
pub(crate) fn of(verification: &Verification) -> String {
    let mut text = String::new();
    for step in &verification.steps {
        let VerifiedStep { step, name, verdict, took_ms, found, advice, ways, .. } = step;
        let seconds = took_ms / 1000.0;
        let _ = writeln!(text, "{verdict}  {step} {name:<10}  {found}  ({seconds:.1} s)");
        for way in ways {
            let _ = writeln!(text, "        {}", self::way(way));
        }
        if let Some(advice) = advice {
            let _ = writeln!(text, "        {advice}");
        }
    }
    text
}

fn way(way: &Way) -> String {
    let Way { direction, path, open, peer, address, answered_by, cause } = way;
    let whom = address.as_ref().or(peer.as_ref()).cloned().unwrap_or_default();
    let says = match (open, answered_by.as_deref(), cause) {
        (true, Some("peer"), _) if direction == "in" => "a peer came".to_owned(),
        (true, Some("peer"), _) => "the peer answers".to_owned(),
        (true, Some("node"), _) => "a node of the DHT answers".to_owned(),
        (true, Some("relay"), _) => "a relay dialled it".to_owned(),
        (true, _, _) => "a stranger came through the relay".to_owned(),
        (false, _, Some(cause)) => format!("closed: {cause}"),
        (false, ..) => "closed".to_owned(),
    };
    format!("{direction:<3} {path:<7}  {whom}: {says}")
}

/// One line on the latest one.
pub(crate) fn line(verification: &Verification) -> String {
    let Verification { verdict, steps, ended_seconds, .. } = verification;
    let ago = format!("verified {ended_seconds:.0} s ago");
    let of = |step: &&VerifiedStep| step.verdict == *verdict;
    match steps.iter().find(of).filter(|_| verdict != "pass") {
        None => format!("discovery: all six steps pass, {ago}"),
        Some(VerifiedStep { step, name, verdict, found, advice, .. }) => {
            let advice = advice.as_ref().map(|advice| format!("; {advice}")).unwrap_or_default();
            format!("discovery: step {step} ({name}) {verdict}s: {found}{advice}; {ago}")
        }
    }
}
