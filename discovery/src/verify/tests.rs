//! Verdicts by tables of evidence; and real nodes over memory, of which one has a fault.
#![allow(clippy::unwrap_used)]

mod faults;

use std::collections::{BTreeMap, BTreeSet};

use libp2p::{Multiaddr, PeerId};

use super::*;
use crate::{
    Network,
    kad::{Bootstrap, Health},
};

fn some(number: usize) -> BTreeSet<PeerId> {
    (0..number).map(|_| PeerId::random()).collect()
}

fn timed<T>(found: T) -> Timed<T> {
    Timed { took: Duration::from_millis(20), found }
}

fn kept(by: usize) -> Kept {
    Kept { key: vec![7; 4], by: some(by), by_us: true, others: 0 }
}

fn node(health: Health, network: Option<&str>) -> Bootstrap {
    Bootstrap {
        address: "/ip4/203.0.113.7/tcp/4002".parse().unwrap(),
        peer: Some(PeerId::random()),
        health,
        round_trip: None,
        last_answer: None,
        misses: 0,
        network: network.map(|name| name.parse::<Network>().unwrap()),
    }
}

fn way(direction: Direction, route: Route, open: bool) -> Way {
    let outcome = if open { Ok(Answerer::Peer) } else { Err("nobody came".to_owned()) };
    let address = Some("/ip4/73.0.0.11/tcp/4001".parse().unwrap());
    Way { direction, peer: Some(PeerId::random()), address, route, outcome, private: false }
}

/// All is well.
fn healthy() -> Evidence {
    let nodes = some(5);
    let (answered, network) = (nodes.clone(), "main".to_owned());
    let table =
        Table { network, nodes, answered, bootstraps: vec![node(Health::Healthy, Some("main"))] };
    let publish = Publish { taken: Ok(5), probe: kept(5), contact: Some(kept(5)), known: table.known() };
    let by_source = BTreeMap::from([("kad".to_owned(), table.nodes.clone())]);
    let members = Members {
        name: Some("kaspa-main".to_owned()),
        id: "0123456789abcdef".to_owned(),
        joined: true,
        seen: true,
        witnesses: Witnesses { asked: 5, telling: 5 },
        ..Members::default()
    };
    let ways = vec![way(Direction::Out, Route::Direct, true), way(Direction::In, Route::Direct, true)];
    Evidence {
        table: timed(table),
        publish: timed(Some(publish)),
        read: timed(Some(Read { table: 5, probe: kept(5), contact: Some(kept(5)) })),
        peers: timed(Peers { by_source, bootstraps: some(1) }),
        directions: timed(Directions { ways, to_be_found: true, missed: None }),
        members: timed(Some(members)),
    }
}

fn with(change: impl FnOnce(&mut Evidence)) -> Report {
    let mut evidence = healthy();
    change(&mut evidence);
    judge(&evidence)
}

/// Only this step is other than well, and says this, with this advice.
fn only(report: &Report, step: Step, verdict: Verdict, found: &str, advice: &str) {
    for finding in &report.steps {
        let expected = if finding.step == step { verdict } else { Verdict::Pass };
        assert_eq!(finding.verdict, expected, "{finding:?}");
        assert_eq!(finding.advice.is_some(), expected != Verdict::Pass, "{finding:?}");
    }
    let worst = report.worst();
    assert_eq!((report.verdict(), worst.step), (verdict, step));
    assert!(worst.found.contains(found), "{}", worst.found);
    let said = worst.advice.as_ref().unwrap();
    assert!(said.contains(advice), "{said}");
}

#[test]
fn where_all_is_well_six_steps_pass_in_order_and_say_what_they_rest_on() {
    let report = judge(&healthy());
    assert_eq!(report.verdict(), Verdict::Pass);
    for (number, finding) in (1..).zip(&report.steps) {
        assert_eq!((finding.step.number(), finding.advice.as_ref()), (number, None), "{finding:?}");
        assert!(!finding.found.is_empty() && !finding.counts.is_empty(), "{finding:?}");
        assert_eq!(finding.took, Duration::from_millis(20));
    }
    assert_eq!(report.steps[1].keys, ["07070707", "07070707"]);
    assert_eq!(report.steps[4].ways.len(), 2);
}

#[test]
fn a_table_passes_with_four_nodes_or_all_that_are_known() {
    for (nodes, more, verdict) in
        [(4, 20, Verdict::Pass), (3, 0, Verdict::Pass), (3, 1, Verdict::Warn), (1, 0, Verdict::Pass)]
    {
        let report = with(|evidence| {
            let nodes = some(nodes);
            let answered = nodes.iter().copied().chain(some(more)).collect();
            evidence.table.found.nodes = nodes;
            evidence.table.found.answered = answered;
        });
        assert_eq!(report.steps[0].verdict, verdict, "{nodes} and {more} more");
    }
    let silent = with(|evidence| evidence.table.found.answered.clear());
    only(&silent, Step::Table, Verdict::Fail, "none answers", "punchline doctor");
}

#[test]
fn an_empty_table_is_blamed_on_what_the_bootstrap_nodes_show() {
    for (bootstraps, advice) in [
        (vec![node(Health::Healthy, Some("other"))], "network `other`, this node of `main`"),
        (vec![node(Health::Healthy, None)], "is no node of the network `main`"),
        (vec![node(Health::Down, None)], "no firewall blocks its port"),
        (Vec::new(), "--bootstrap"),
    ] {
        let report = with(|evidence| {
            let network = "main".to_owned();
            evidence.table.found = Table { network, bootstraps, ..Table::default() };
            (evidence.publish.found, evidence.read.found, evidence.members.found) = (None, None, None);
        });
        let worst = report.worst();
        assert_eq!((worst.step, worst.verdict), (Step::Table, Verdict::Fail));
        assert!(worst.advice.as_ref().unwrap().contains(advice), "{worst:?}");
        for step in [1, 2, 5] {
            let finding = &report.steps[step];
            assert_eq!(finding.verdict, Verdict::Fail);
            assert_eq!(finding.advice.as_deref(), Some("mend step 1 first"));
        }
    }
}

#[test]
fn what_is_said_passes_when_three_keep_it_or_all_that_are_known() {
    for (by, known, verdict) in
        [(3, 9, Verdict::Pass), (2, 9, Verdict::Warn), (2, 2, Verdict::Pass), (1, 1, Verdict::Pass)]
    {
        let report = with(|evidence| {
            let publish = evidence.publish.found.as_mut().unwrap();
            (publish.probe, publish.contact, publish.known) = (kept(by), Some(kept(by)), known);
        });
        assert_eq!(report.steps[1].verdict, verdict, "{by} of {known}");
    }
    let change = |change: fn(&mut Publish)| {
        with(|evidence| {
            let publish = evidence.publish.found.as_mut().unwrap();
            change(publish);
        })
    };
    let ttl = change(|publish| (publish.taken, publish.probe) = (Ok(4), kept(0)));
    only(&ttl, Step::Publish, Verdict::Fail, "4 nodes took", "lifetime of records there is 0");
    let refused = change(|publish| {
        (publish.taken, publish.probe) = (Err("nobody keeps it".to_owned()), kept(0));
    });
    only(&refused, Step::Publish, Verdict::Fail, "nobody keeps what this node says", "refuse it");
    let lost = change(|publish| publish.contact = Some(kept(0)));
    only(&lost, Step::Publish, Verdict::Fail, "where this node says that it is", "within the hour");
    let nothing_said = change(|publish| publish.contact = None);
    assert_eq!(nothing_said.verdict(), Verdict::Pass, "who only looks for others says nothing");
}

#[test]
fn a_stranger_who_reads_only_from_us_is_a_warning_and_one_who_reads_nothing_a_failure() {
    let change = |change: fn(&mut Read)| {
        with(|evidence| {
            let read = evidence.read.found.as_mut().unwrap();
            change(read);
        })
    };
    let ours = change(|read| read.probe = kept(0));
    only(&ours, Step::Read, Verdict::Warn, "this node itself", "further bootstrap nodes");
    let none = || Kept { by_us: false, ..kept(0) };
    let nothing = with(|evidence| evidence.read.found.as_mut().unwrap().probe = none());
    only(&nothing, Step::Read, Verdict::Fail, "does not find", "--bootstrap");
    let outside = change(|read| read.table = 0);
    only(&outside, Step::Read, Verdict::Fail, "gets into no table", "--dht server");
    let forged = with(|evidence| {
        evidence.read.found.as_mut().unwrap().probe = Kept { others: 2, ..none() };
    });
    only(&forged, Step::Read, Verdict::Fail, "2 records of other bytes", "--bootstrap");
    let no_contact = with(|evidence| evidence.read.found.as_mut().unwrap().contact = Some(none()));
    only(&no_contact, Step::Read, Verdict::Fail, "does not find", "--bootstrap");
}

#[test]
fn a_stranger_who_reads_nothing_because_nobody_keeps_it_is_sent_to_step_two() {
    let report = with(|evidence| {
        evidence.publish.found.as_mut().unwrap().probe = kept(0);
        evidence.read.found.as_mut().unwrap().probe = Kept { by_us: false, ..kept(0) };
    });
    assert_eq!(report.worst().step, Step::Publish);
    assert_eq!(report.steps[2].advice.as_deref(), Some("mend step 2 first"));
}

#[test]
fn only_bootstrap_nodes_are_a_warning_and_nobody_is_a_failure() {
    let alone = with(|evidence| {
        let peers = &mut evidence.peers.found;
        peers.bootstraps = peers.by_source["kad"].clone();
    });
    only(&alone, Step::Peers, Verdict::Warn, "only bootstrap nodes", "same --bootstrap");
    let nobody = with(|evidence| evidence.peers.found.by_source.clear());
    only(&nobody, Step::Peers, Verdict::Fail, "no peer was found", "--dht-network");
}

#[test]
fn directions_are_judged_by_the_best_way_of_each() {
    use Direction::{In, Out};
    use Route::{Direct, Relayed};
    let ways = |to_be_found, ways: Vec<Way>| {
        with(|evidence| evidence.directions.found = Directions { ways, to_be_found, missed: None })
    };
    let both = vec![
        way(Out, Relayed, true),
        way(Out, Direct, true),
        way(In, Relayed, true),
        way(In, Direct, true),
    ];
    assert_eq!(ways(true, both).steps[4].found, "out direct, in direct");
    for (found, words, advice) in [
        (vec![way(Out, Relayed, true), way(In, Direct, true)], "out relayed, in direct", "why PEER"),
        (vec![way(Out, Direct, true), way(In, Relayed, true)], "out direct, in relayed", "--relay"),
    ] {
        only(&ways(true, found), Step::Directions, Verdict::Warn, words, advice);
    }
    let blocked = vec![way(Out, Direct, true), way(In, Relayed, true), way(In, Direct, false)];
    let advice = "/ip4/73.0.0.11/tcp/4001: open this port";
    only(&ways(true, blocked), Step::Directions, Verdict::Warn, "in relayed", advice);
    let blocked = vec![way(Out, Direct, true), way(In, Direct, false)];
    only(&ways(true, blocked), Step::Directions, Verdict::Fail, "in closed", advice);
    let none = vec![way(Out, Direct, false), way(In, Direct, true)];
    only(&ways(true, none), Step::Directions, Verdict::Fail, "out closed", "punchline doctor");
    let only_looks = ways(false, vec![way(Out, Direct, true)]);
    assert_eq!(only_looks.steps[4].verdict, Verdict::Pass, "nobody need come to it");
    let missed = with(|evidence| {
        evidence.directions.found.missed = Some((PeerId::random(), "no address".to_owned()));
    });
    only(&missed, Step::Directions, Verdict::Fail, "no address", "punchline why");
}

#[test]
fn a_private_address_that_is_told_to_everybody_is_named_even_where_another_way_is_open() {
    let at: Multiaddr = "/ip4/192.168.1.9/tcp/4001".parse().unwrap();
    let private =
        || Way { address: Some(at.clone()), private: true, ..way(Direction::In, Route::Direct, false) };
    let beside = with(|evidence| evidence.directions.found.ways.push(private()));
    only(&beside, Step::Directions, Verdict::Warn, "in direct", "192.168.1.9/tcp/4001 is private");
    let alone = with(|evidence| {
        evidence.directions.found.ways.retain(|way| way.direction == Direction::Out);
        evidence.directions.found.ways.push(private());
    });
    only(&alone, Step::Directions, Verdict::Fail, "in closed", "192.168.1.9/tcp/4001 is private");
}

#[test]
fn a_member_is_one_whom_half_of_the_nearest_tell_of_and_a_stranger_sees() {
    let change = |change: fn(&mut Members)| {
        with(|evidence| {
            let members = evidence.members.found.as_mut().unwrap();
            change(members);
        })
    };
    for (asked, telling, verdict) in
        [(20, 10, Verdict::Pass), (40, 10, Verdict::Pass), (20, 9, Verdict::Warn), (1, 1, Verdict::Pass)]
    {
        let report = with(|evidence| {
            evidence.members.found.as_mut().unwrap().witnesses = Witnesses { asked, telling };
        });
        assert_eq!(report.steps[5].verdict, verdict, "{telling} of {asked}");
    }
    let unseen = change(|members| (members.seen, members.witnesses.telling) = (false, 0));
    only(&unseen, Step::Members, Verdict::Fail, "does not find this node", "step 2");
    let secret = change(|members| (members.joined, members.other_secret) = (false, true));
    only(&secret, Step::Members, Verdict::Fail, "another secret", "--namespace-secret");
    let elsewhere = change(|members| {
        (members.joined, members.all) = (false, vec!["kaspa-test".to_owned()]);
    });
    only(&elsewhere, Step::Members, Verdict::Fail, "not in the namespace", "it is in `kaspa-test`");
    let trial = change(|members| members.name = None);
    assert!(trial.steps[5].found.contains("for the trial"), "{:?}", trial.steps[5]);
}
