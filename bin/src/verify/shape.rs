//! A verification as it is said on the control socket. Pure.

use punchline_discovery::verify::{Answerer, Direction, Finding, Route, Way};

use super::Verified;
use crate::control::proto;

pub(crate) fn verification(verified: &Verified) -> proto::Verification {
    let Verified { report, ended, took } = verified;
    proto::Verification {
        verdict: report.verdict().name().to_owned(),
        steps: report.steps.iter().map(step).collect(),
        ended_seconds: ended.elapsed().as_secs_f64(),
        took_ms: took.as_secs_f64() * 1000.0,
    }
}

fn step(finding: &Finding) -> proto::VerifiedStep {
    let count = |(what, count): &(&'static str, usize)| proto::Count {
        what: (*what).to_owned(),
        count: *count as u64,
    };
    proto::VerifiedStep {
        step: finding.step.number().into(),
        name: finding.step.name().to_owned(),
        verdict: finding.verdict.name().to_owned(),
        took_ms: finding.took.as_secs_f64() * 1000.0,
        found: finding.found.clone(),
        advice: finding.advice.clone(),
        peers: finding.peers.iter().map(ToString::to_string).collect(),
        keys: finding.keys.clone(),
        counts: finding.counts.iter().map(count).collect(),
        ways: finding.ways.iter().map(way).collect(),
    }
}

fn way(way: &Way) -> proto::Way {
    let answerer = way.outcome.as_ref().ok().map(|answerer| match answerer {
        Answerer::Peer => "peer",
        Answerer::Node => "node",
        Answerer::Relay => "relay",
        Answerer::Stranger => "stranger",
    });
    proto::Way {
        direction: match way.direction {
            Direction::Out => "out",
            Direction::In => "in",
        }
        .to_owned(),
        path: match way.route {
            Route::Direct => "direct",
            Route::Relayed => "relayed",
        }
        .to_owned(),
        open: way.outcome.is_ok(),
        peer: way.peer.map(|peer| peer.to_string()),
        address: way.address.as_ref().map(ToString::to_string),
        answered_by: answerer.map(str::to_owned),
        cause: way.outcome.as_ref().err().cloned(),
    }
}
