//! Step 5: whom this node reaches, and who reaches it. Pure.

use super::{
    Direction, Directions, Route, Verdict, Way,
    judge::{Judged, judged},
};

pub(super) fn directions(directions: &Directions) -> Judged {
    let Directions { ways, to_be_found, missed } = directions;
    let best = |direction| {
        let open = ways.iter().filter(|way| way.direction == direction && way.outcome.is_ok());
        open.map(|way| way.route).min()
    };
    let (out, back) = (best(Direction::Out), best(Direction::In));
    let words = match (to_be_found, back) {
        (false, None) => format!("out {}; this node only looks for others", told(out)),
        _ => format!("out {}, in {}", told(out), told(back)),
    };
    let judged = if let Some((peer, cause)) = missed {
        judged(Verdict::Fail, format!("{peer} is not reached: {cause}"))
            .advise(format!("`punchline why {peer}` says what is in the way"))
    } else if out.is_none() {
        judged(Verdict::Fail, words)
            .advise("nobody is reached: `punchline doctor` looks at this network")
    } else if *to_be_found && back.is_none() {
        judged(Verdict::Fail, words).advise(not_in(ways))
    } else if out == Some(Route::Relayed) {
        judged(Verdict::Warn, words)
            .advise("peers are reached through relays alone: `punchline why PEER` says why")
    } else if *to_be_found && back == Some(Route::Relayed) {
        judged(Verdict::Warn, words).advise(not_in(ways))
    } else if let Some(private) = private(ways) {
        judged(Verdict::Warn, words).advise(private)
    } else {
        judged(Verdict::Pass, words)
    };
    let counts = [(Direction::Out, "out_open", "out_closed"), (Direction::In, "in_open", "in_closed")];
    let count = |direction, open| {
        ways.iter().filter(|way| way.direction == direction && way.outcome.is_ok() == open).count()
    };
    let mut judged = Judged { ways: ways.clone(), ..judged };
    for (direction, open, closed) in counts {
        judged.counts.extend([(open, count(direction, true)), (closed, count(direction, false))]);
    }
    judged.peers = ways.iter().filter_map(|way| way.peer).collect();
    judged.peers.sort();
    judged.peers.dedup();
    judged
}

fn told(route: Option<Route>) -> &'static str {
    match route {
        Some(Route::Direct) => "direct",
        Some(Route::Relayed) => "relayed",
        None => "closed",
    }
}

/// What to do where nobody comes in directly.
fn not_in(ways: &[Way]) -> String {
    if let Some(private) = private(ways) {
        return private;
    }
    let closed = ways.iter().filter(|way| way.direction == Direction::In && way.outcome.is_err());
    let addresses: Vec<String> =
        closed.filter_map(|way| way.address.as_ref()).map(ToString::to_string).take(4).collect();
    match addresses.is_empty() {
        true => "nobody is told an address that leads here directly: a port that is forwarded (--port-mapping), a public \
                 address (--listen) or else a relay (--relay) gives one; peers may still punch through"
            .to_owned(),
        false => format!(
            "nobody outside was seen to reach {}: open this port in the firewall of host and router; a relay (--relay) tries it",
            addresses.join(", ")
        ),
    }
}

/// An address that only its own network reaches is told to everybody.
fn private(ways: &[Way]) -> Option<String> {
    let is_private = |way: &&Way| way.direction == Direction::In && way.private && way.outcome.is_err();
    let address = ways.iter().find(is_private)?.address.as_ref()?;
    Some(format!(
        "{address} is private, and told to everybody: it is reached in its own network alone; --assume-global takes it for \
         public, leave that out unless all peers are in that network"
    ))
}
