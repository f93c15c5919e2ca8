//! What to think of the DHT, as the node that runs here tells of it.

use std::time::Duration;

use super::{Check, Verdict, check};
use crate::doctor::findings::{DhtFinding, Verified};

/// So long others keep what a node says of itself.
const KEPT: Duration = Duration::from_secs(2 * 60 * 60);

/// It is said again each hour: with less than this left that failed.
const LITTLE: Duration = Duration::from_secs(45 * 60);

/// Nothing where no node runs here that takes part in one.
pub(super) fn dht(found: Option<&DhtFinding>) -> Vec<Check> {
    let Some(dht) = found else { return Vec::new() };
    let mut checks = vec![table(dht)];
    if dht.nodes > 0 {
        checks.push(record(dht));
    }
    checks.extend(dht.crowded.then(crowded));
    checks.extend(dht.verified.as_ref().map(verified));
    checks
}

fn table(dht: &DhtFinding) -> Check {
    let DhtFinding { network, nodes, bootstraps, .. } = dht;
    if *nodes > 0 {
        return check(
            "dht",
            Verdict::Ok,
            format!("nodes in the table: {nodes}, of the network `{network}`"),
        );
    }
    let empty = "the table is empty: no node of the DHT is known";
    let other = bootstraps.iter().find(|node| node.network.as_ref().is_some_and(|of| of != network));
    if let Some((node, of)) = other.and_then(|node| Some((node, node.network.as_ref()?))) {
        let advice = "say the same --dht-network as its nodes do";
        let words =
            format!("{empty}; {} is of the network `{of}`, this node of `{network}`", node.address);
        return check("dht", Verdict::Bad, words).advise(advice);
    }
    match bootstraps.first() {
        None => check("dht", Verdict::Warning, format!("{empty}, and none is given to begin with"))
            .advise("say where the DHT is: --bootstrap <the address of a node of it>"),
        Some(first) if bootstraps.iter().all(|node| node.down) => {
            let advice = format!("see that it runs: `punchline doctor reach {}`", first.address);
            check("dht", Verdict::Bad, format!("{empty}, and no bootstrap node answers")).advise(advice)
        }
        Some(first) => check("dht", Verdict::Warning, format!("{empty} yet")).advise(format!(
            "if that lasts, {} is no node of this DHT, or one that only asks",
            first.address
        )),
    }
}

/// How long others keep where this node is.
fn record(dht: &DhtFinding) -> Check {
    let Some(said) = dht.said else {
        let words = "nobody keeps where this node is: it says nothing of itself, or nobody took it yet";
        return check("dht_record", Verdict::Skipped, words);
    };
    let left = KEPT.saturating_sub(said);
    let minutes = left.as_secs() / 60;
    let words =
        format!("others keep where this node is for {minutes} min more; it is said again each hour");
    match left > LITTLE {
        true => check("dht_record", Verdict::Ok, words),
        false => check("dht_record", Verdict::Warning, words)
            .advise("saying it again failed: `punchline discovery verify` finds out why"),
    }
}

/// Said only where it is so: where nothing is known, nothing is well.
fn crowded() -> Check {
    let words = "nodes crowd round where others keep this node's address, nearer than chance allows: somebody may be hiding it";
    check("dht_density", Verdict::Warning, words).advise(
        "the node tells other nodes as well; who uses a relay, --mdns or another source finds it as before, and \
         `punchline discovery verify` tells whether strangers do",
    )
}

fn verified(verified: &Verified) -> Check {
    let Verified { verdict, words, advice } = verified;
    let verdict = match verdict.as_str() {
        "pass" => Verdict::Ok,
        "warn" => Verdict::Warning,
        _ => Verdict::Bad,
    };
    Check { advice: advice.clone(), ..check("discovery", verdict, words.clone()) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::doctor::findings::DhtBootstrap;

    fn node(down: bool, network: Option<&str>) -> DhtBootstrap {
        let address = "/ip4/203.0.113.7/tcp/4002".to_owned();
        DhtBootstrap { address, down, network: network.map(str::to_owned) }
    }

    fn with(nodes: u32, bootstraps: Vec<DhtBootstrap>, said: Option<u64>) -> Vec<Check> {
        let said = said.map(|minutes| Duration::from_secs(minutes * 60));
        let (network, verified, crowded) = ("main".to_owned(), None, false);
        dht(Some(&DhtFinding { network, nodes, bootstraps, said, crowded, verified }))
    }

    #[test]
    fn an_empty_table_and_a_wrong_network_are_named() {
        for (bootstraps, verdict, words) in [
            (
                vec![node(false, Some("other"))],
                Verdict::Bad,
                "of the network `other`, this node of `main`",
            ),
            (vec![node(true, None)], Verdict::Bad, "no bootstrap node answers"),
            (vec![node(false, Some("main"))], Verdict::Warning, "table is empty"),
            (Vec::new(), Verdict::Warning, "none is given"),
        ] {
            let checks = with(0, bootstraps, None);
            assert_eq!((checks.len(), checks[0].check, checks[0].verdict), (1, "dht", verdict));
            assert!(checks[0].found.contains(words), "{}", checks[0].found);
            assert!(checks[0].advice.is_some());
        }
        assert_eq!(with(3, Vec::new(), Some(1))[0].verdict, Verdict::Ok);
        assert!(dht(None).is_empty(), "nothing is said where there is no DHT");
    }

    #[test]
    fn a_crowd_round_the_place_of_our_own_record_is_a_warning() {
        let of = |crowded| {
            let (network, bootstraps) = ("main".to_owned(), Vec::new());
            DhtFinding { network, nodes: 3, bootstraps, said: None, crowded, verified: None }
        };
        let found =
            |crowded| dht(Some(&of(crowded))).into_iter().find(|found| found.check == "dht_density");
        assert!(found(false).is_none());
        assert_eq!(found(true).map(|found| found.verdict), Some(Verdict::Warning));
    }

    #[test]
    fn what_is_left_of_the_time_of_our_own_record_is_told() {
        let of = |said| with(3, Vec::new(), said).pop().unwrap();
        assert_eq!(of(Some(10)).verdict, Verdict::Ok);
        assert!(of(Some(10)).found.contains("for 110 min more"), "{}", of(Some(10)).found);
        let late = of(Some(100));
        assert_eq!(late.verdict, Verdict::Warning);
        assert!(late.found.contains("for 20 min more") && late.advice.is_some());
        assert_eq!(of(None).verdict, Verdict::Skipped);
    }
}
