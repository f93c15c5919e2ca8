//! What to think of the part that the node which runs here takes in the DHT.

use super::check;
use crate::doctor::{
    diagnosis::{Check, Verdict},
    findings::{DhtFinding, Findings},
};

/// Nothing is said where no node runs, or it takes no part.
pub(super) fn dht(found: &Findings) -> Vec<Check> {
    let Some(dht) = &found.dht else { return Vec::new() };
    let mut checks = vec![table(dht)];
    let down = dht.bootstraps.iter().filter(|(_, health)| health == "down");
    checks.extend(down.map(|(address, _)| bootstrap(address, dht)));
    checks
}

fn table(dht: &DhtFinding) -> Check {
    let DhtFinding { joined, nodes, bootstraps } = dht;
    match (nodes, joined) {
        // Somebody has to be the first.
        (0, _) if bootstraps.is_empty() => {
            check("dht", Verdict::Ok, "the node that runs here is the first of its DHT: it knows no other")
        }
        (0, _) => check(
            "dht",
            Verdict::Bad,
            "the node that runs here knows nobody in the DHT: it finds nobody there, and nobody finds it",
        )
        .advise(
            "see that the addresses of --bootstrap are right and that a node runs there, and that --dht-network is the \
             same at both; `punchline network bootstrap-health` says how they do",
        ),
        (nodes, false) => {
            check("dht", Verdict::Warning, format!("the node that runs here has not joined yet; it knows {nodes}"))
                .advise("`punchline wait-ready` waits for it; it takes some seconds")
        }
        (1, true) => check("dht", Verdict::Ok, "the node that runs here has joined, and knows 1 other"),
        (nodes, true) => {
            check("dht", Verdict::Ok, format!("the node that runs here has joined, and knows {nodes} others"))
        }
    }
}

/// While others are known, the DHT goes on without it.
fn bootstrap(address: &str, dht: &DhtFinding) -> Check {
    let verdict = if dht.nodes > 0 { Verdict::Warning } else { Verdict::Bad };
    check("bootstrap", verdict, "it does not answer the node that runs here")
        .of(address)
        .advise("see that it runs, and that its port is open; `punchline doctor reach` says what of it is reached")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdicts(nodes: u32, joined: bool, health: &[&str]) -> Vec<(&'static str, Verdict)> {
        let at = |health: &&str| ("/ip4/203.0.113.7/tcp/4001".to_owned(), (*health).to_owned());
        let bootstraps = health.iter().map(at).collect();
        let found =
            Findings { dht: Some(DhtFinding { joined, nodes, bootstraps }), ..Findings::default() };
        dht(&found).iter().map(|check| (check.check, check.verdict)).collect()
    }

    #[test]
    fn a_bootstrap_node_that_is_down_is_bad_only_where_nobody_else_is_known() {
        use Verdict::{Bad, Ok, Warning};
        assert_eq!(verdicts(12, true, &["healthy"]), [("dht", Ok)]);
        assert_eq!(verdicts(12, true, &["healthy", "down"]), [("dht", Ok), ("bootstrap", Warning)]);
        assert_eq!(verdicts(0, false, &["down"]), [("dht", Bad), ("bootstrap", Bad)]);
        assert_eq!(verdicts(3, false, &["degraded"]), [("dht", Warning)]);
        assert_eq!(verdicts(0, true, &[]), [("dht", Ok)], "the first of its DHT");
        assert_eq!(dht(&Findings::default()).len(), 0, "no node runs, or none of a DHT");
    }
}
