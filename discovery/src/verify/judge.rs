//! What to think of it. Pure.

use std::{collections::BTreeSet, fmt::Write as _, time::Duration};

use libp2p::PeerId;

use super::{
    Evidence, Finding, Kept, Members, Peers, Publish, Read, Report, Step, Table, Verdict,
    directions::directions,
};
use crate::kad::{Bootstrap, Health};

/// With so many nodes in the table a node loses touch with nobody by chance.
const NODES_ENOUGH: usize = 4;

/// What is kept by so many is found, though one or two of them go.
const KEEPERS_ENOUGH: usize = 3;

/// So many nodes keep what is said, at most.
const NEAREST: usize = 20;

/// Peers and keys that one step tells.
const TOLD_MAX: usize = 64;

/// Makes verdicts.
pub fn judge(evidence: &Evidence) -> Report {
    let Evidence { table, publish, read, peers, directions: ways, members } = evidence;
    let steps = [
        of(Step::Table, table.took, self::table(&table.found)),
        of(Step::Publish, publish.took, tried(publish.found.as_ref(), self::publish)),
        of(
            Step::Read,
            read.took,
            tried(read.found.as_ref(), |found| self::read(found, publish.found.as_ref())),
        ),
        of(Step::Peers, peers.took, self::peers(&peers.found)),
        of(Step::Directions, ways.took, directions(&ways.found)),
        of(Step::Members, members.took, tried(members.found.as_ref(), self::members)),
    ];
    Report { steps }
}

/// A finding without step and time.
pub(super) struct Judged {
    pub(super) verdict: Verdict,
    pub(super) found: String,
    pub(super) advice: Option<String>,
    pub(super) peers: Vec<PeerId>,
    pub(super) keys: Vec<String>,
    pub(super) counts: Vec<(&'static str, usize)>,
    pub(super) ways: Vec<super::Way>,
}

pub(super) fn judged(verdict: Verdict, found: impl Into<String>) -> Judged {
    let (advice, peers, keys, counts, ways) = Default::default();
    Judged { verdict, found: found.into(), advice, peers, keys, counts, ways }
}

impl Judged {
    pub(super) fn advise(self, advice: impl Into<String>) -> Self {
        Self { advice: Some(advice.into()), ..self }
    }

    fn rests_on<'a>(self, peers: impl IntoIterator<Item = &'a PeerId>) -> Self {
        Self { peers: peers.into_iter().take(TOLD_MAX).copied().collect(), ..self }
    }

    fn key(mut self, key: &[u8]) -> Self {
        self.keys.push(hex(key));
        self
    }

    fn counted(mut self, what: &'static str, count: usize) -> Self {
        self.counts.push((what, count));
        self
    }
}

fn of(step: Step, took: Duration, judged: Judged) -> Finding {
    let Judged { verdict, found, advice, peers, keys, counts, ways } = judged;
    Finding { step, verdict, took, found, advice, peers, keys, counts, ways }
}

/// What was not tried fails for what it needs.
fn tried<T>(found: Option<&T>, judge: impl Fn(&T) -> Judged) -> Judged {
    match found {
        Some(found) => judge(found),
        None => {
            judged(Verdict::Fail, "not tried: no node of the DHT is known").advise("mend step 1 first")
        }
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// `1 node`, `2 nodes`.
pub(super) fn some(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

fn table(table: &Table) -> Judged {
    let (nodes, known) = (table.nodes.len(), table.known());
    let answered = table.answered.len();
    let judged = if nodes == 0 {
        judged(Verdict::Fail, nobody(table)).advise(why_nobody(table))
    } else if answered == 0 {
        let words = format!("{} in the table, and none answers", some(nodes, "node"));
        judged(Verdict::Fail, words).advise(
            "this host may have lost its network: `punchline doctor` looks at it; a node finds its way back by itself",
        )
    } else if nodes >= NODES_ENOUGH.min(known) {
        judged(Verdict::Pass, format!("{} in the table, {answered} answered", some(nodes, "node")))
    } else {
        let words = format!("{} in the table, {known} known", some(nodes, "node"));
        judged(Verdict::Warn, words).advise(
            "nodes enter once this one reached them: wait a minute, and see that it may dial out over TCP and QUIC",
        )
    };
    judged
        .rests_on(table.nodes.union(&table.answered))
        .counted("nodes", nodes)
        .counted("answered", answered)
        .counted("known", known)
}

fn nobody(table: &Table) -> String {
    let bootstraps = &table.bootstraps;
    let of = |health| bootstraps.iter().filter(|node| node.health == health).count();
    match bootstraps.len() {
        0 => "no node of the DHT is known, and none is given to begin with".to_owned(),
        all => format!(
            "no node of the DHT is in the table; of {} {} answer and {} do not",
            some(all, "bootstrap node"),
            of(Health::Healthy) + of(Health::Degraded),
            of(Health::Down)
        ),
    }
}

fn why_nobody(table: &Table) -> String {
    let Table { network, bootstraps, .. } = table;
    let is_up = |node: &&Bootstrap| matches!(node.health, Health::Healthy | Health::Degraded);
    let other = |node: &&Bootstrap| node.network.as_ref().is_some_and(|of| of.as_str() != network);
    if let Some(Bootstrap { address, network: Some(theirs), .. }) = bootstraps.iter().find(other) {
        return format!(
            "{address} is of the network `{theirs}`, this node of `{network}`: say the same with --dht-network"
        );
    }
    if let Some(Bootstrap { address, .. }) = bootstraps.iter().find(|node| is_up(node)) {
        return format!(
            "{address} answers, and is no node of the network `{network}`: is it the address of something else, or does \
             its node only ask (--dht client)? `punchline bootstrap` runs one that answers"
        );
    }
    match bootstraps.first() {
        None => "say where the DHT is: --bootstrap <the address of a node of it>".to_owned(),
        Some(Bootstrap { address, .. }) => format!(
            "see that it runs, and that no firewall blocks its port on the way: `punchline doctor reach {address}` says how \
             far one gets"
        ),
    }
}

/// How many keep it, of as many as should.
fn kept(kept: &Kept, known: usize) -> Verdict {
    match kept.by.len() {
        0 => Verdict::Fail,
        some if some >= KEEPERS_ENOUGH.min(known) => Verdict::Pass,
        _ => Verdict::Warn,
    }
}

fn publish(publish: &Publish) -> Judged {
    let Publish { taken, probe, contact, known } = publish;
    let by = probe.by.len();
    let judged = match (taken, by) {
        (Err(cause), 0) => judged(Verdict::Fail, format!("nobody keeps what this node says: {cause}"))
            .advise("the nodes of the DHT refuse it or do not answer; `punchline network dht-status` there says why"),
        (Ok(taken), 0) => {
            let words = format!("{} took what this node says, and none gives it back", some(*taken, "node"));
            judged(Verdict::Fail, words).advise(
                "they keep nothing: the lifetime of records there is 0, or their store is full; use bootstrap nodes that \
                 store, as `punchline bootstrap`",
            )
        }
        _ => match contact.as_ref().map(|contact| (contact.by.len(), kept(contact, *known))) {
            Some((0, _)) => judged(Verdict::Fail, "nobody keeps where this node says that it is").advise(
                "nodes that kept it have gone; it is said again within the hour, or at once when this node starts again",
            ),
            contact => {
                let verdict = kept(probe, *known).max(contact.map_or(Verdict::Pass, |(_, at)| at));
                let words = match contact {
                    None => format!("{} keep what this node says", some(by, "node")),
                    Some((of_contact, _)) => format!(
                        "{} keep what this node says, {of_contact} where it is",
                        some(by, "node")
                    ),
                };
                match verdict {
                    Verdict::Pass => judged(verdict, words),
                    _ => judged(verdict, words).advise(
                        "if these go, nobody finds this node: more bootstrap nodes help, or nodes that answer (--dht-listen)",
                    ),
                }
            }
        },
    };
    let judged = judged.rests_on(&probe.by).key(&probe.key).counted("kept_by", by);
    let judged = judged.counted("taken_by", *taken.as_ref().unwrap_or(&0)).counted("known", *known);
    with_contact(judged, contact.as_ref())
}

fn with_contact(judged: Judged, contact: Option<&Kept>) -> Judged {
    match contact {
        Some(contact) => judged.key(&contact.key).counted("contact_kept_by", contact.by.len()),
        None => judged,
    }
}

fn read(read: &Read, publish: Option<&Publish>) -> Judged {
    let Read { table, probe, contact } = read;
    let records = || contact.iter().chain([probe]);
    let missing = records().any(|kept| kept.by.is_empty() && !kept.by_us);
    let by_us_alone = records().any(|kept| kept.by.is_empty());
    let unkept = publish.is_some_and(|publish| publish.probe.by.is_empty());
    let judged = if *table == 0 {
        judged(Verdict::Fail, "a stranger that begins where this node did gets into no table").advise(
            "the nodes to begin with do not let others in: see that they answer (--dht server) and are where they say",
        )
    } else if missing && unkept {
        judged(Verdict::Fail, "a stranger finds nothing of this node").advise("mend step 2 first")
    } else if missing {
        let other = records().map(|kept| kept.others).sum::<usize>();
        let words = match other {
            0 => "a stranger does not find what others keep of this node".to_owned(),
            other => {
                format!("a stranger finds {} of other bytes than this node's", some(other, "record"))
            }
        };
        judged(Verdict::Fail, words).advise(
            "the nodes to begin with and those that keep it do not know each other: say more with --bootstrap, the same \
             everywhere",
        )
    } else if by_us_alone {
        judged(Verdict::Warn, "a stranger finds this node only by asking this node itself")
            .advise("no other node keeps it: name further bootstrap nodes")
    } else {
        let words = format!("a stranger reads the same bytes from {}", some(probe.by.len(), "node"));
        judged(Verdict::Pass, words)
    };
    let judged = judged.rests_on(&probe.by).key(&probe.key).counted("read_from", probe.by.len());
    with_contact(judged.counted("strangers_table", *table), contact.as_ref())
}

fn peers(peers: &Peers) -> Judged {
    let all: BTreeSet<PeerId> = peers.by_source.values().flatten().copied().collect();
    let others = all.difference(&peers.bootstraps).count();
    let by_source = peers.by_source.iter().filter(|(_, found)| !found.is_empty());
    let words: Vec<String> =
        by_source.map(|(source, found)| format!("{} by {source}", found.len())).collect();
    let judged = match (all.len(), others) {
        (0, _) => judged(Verdict::Fail, "no peer was found by any source")
            .advise("nobody else is there: see step 1, and that others use the same --bootstrap and --dht-network"),
        (_, 0) => judged(Verdict::Warn, format!("only bootstrap nodes were found: {}", words.join(", ")))
            .advise("nobody else is there yet: start another node with the same --bootstrap"),
        _ => judged(Verdict::Pass, format!("{}: {}", some(all.len(), "peer"), words.join(", "))),
    };
    judged.rests_on(&all).counted("peers", all.len()).counted("besides_bootstraps", others)
}

fn members(members: &Members) -> Judged {
    let Members { name, id, key, joined, other_secret, all, seen, witnesses } = members;
    let asked = witnesses.asked.min(NEAREST);
    let telling = witnesses.telling;
    let called = match name {
        Some(name) => format!("the namespace `{name}` ({}…)", &id[..id.len().min(8)]),
        None => "a namespace of its own, for the trial".to_owned(),
    };
    let judged = if !joined && *other_secret {
        judged(
            Verdict::Fail,
            format!("this node is in one of that name with another secret, not in {called}"),
        )
        .advise("all members need the same --namespace-secret: compare the files")
    } else if !joined {
        let is_in = match all.as_slice() {
            [] => "it is in none".to_owned(),
            some => format!("it is in `{}`", some.join("`, `")),
        };
        judged(Verdict::Fail, format!("this node is not in {called}"))
            .advise(format!("{is_in}: say --namespace where it runs, with the same name"))
    } else if *seen && telling > 0 && telling * 2 >= asked {
        judged(
            Verdict::Pass,
            format!("a stranger finds this node in {called}: {telling} of {asked} nodes tell of it"),
        )
    } else if *seen || telling > 0 {
        judged(Verdict::Warn, format!("{telling} of {asked} nodes tell of this node in {called}"))
            .advise("the others came later, or are full: it is said again within the hour; verify again then")
    } else {
        judged(Verdict::Fail, format!("a stranger does not find this node in {called}"))
            .advise("the nodes of the DHT do not keep who is a member: see step 2")
    };
    judged.key(key).counted("asked", asked).counted("telling", telling)
}
