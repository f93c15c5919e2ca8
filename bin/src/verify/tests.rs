//! Whose turn it is, and what is told.
#![allow(clippy::unwrap_used)]

use punchline_discovery::verify::{Finding, Step, Verdict};

use super::*;

fn report(change: impl Fn(Step) -> Verdict) -> Report {
    let finding = |step| Finding {
        step,
        verdict: change(step),
        took: Duration::from_millis(1500),
        found: "what was found".to_owned(),
        advice: (change(step) != Verdict::Pass).then(|| "what to do".to_owned()),
        peers: Vec::new(),
        keys: Vec::new(),
        counts: vec![("nodes", 3)],
        ways: Vec::new(),
    };
    Report { steps: Step::ALL.map(finding) }
}

fn verified(report: Report) -> Arc<Verified> {
    Arc::new(Verified { report, ended: Instant::now(), took: Duration::from_secs(2) })
}

fn well(_: Step) -> Verdict {
    Verdict::Pass
}

fn without_members(step: Step) -> Verdict {
    if step == Step::Members { Verdict::Fail } else { Verdict::Pass }
}

#[test]
fn one_verification_runs_at_a_time_and_whoever_asks_the_same_has_its_answer() {
    let mut turns = Turns::default();
    let (plain, other) = (Key::default(), (Vec::new(), Some(PeerId::random())));
    let now = Instant::now();
    let Ok(Turn::Begin(..)) = turns.turn(&plain, now) else { panic!("it begins") };
    assert!(matches!(turns.turn(&plain, now), Ok(Turn::Wait(_))));
    assert!(matches!(turns.turn(&other, now), Err(NotVerified::Busy)));
    turns.ended(plain.clone(), true, &Ok(verified(report(well))));
    assert!(matches!(turns.turn(&plain, now), Ok(Turn::Known(_))), "it is fresh");
    assert!(matches!(turns.turn(&other, now), Ok(Turn::Begin(..))));
    turns.ended(other, false, &Err(NotVerified::Late));
    assert!(matches!(turns.turn(&plain, now + 2 * FRESH), Ok(Turn::Begin(..))));
}

#[test]
fn what_somebody_has_looked_at_in_particular_is_not_what_the_node_tells_of_itself() {
    let mut turns = Turns::default();
    let of_plain = verified(report(well));
    assert!(matches!(turns.ended(Key::default(), true, &Ok(of_plain)), Some(None)));
    let particular = (Vec::new(), Some(PeerId::random()));
    assert!(turns.ended(particular, false, &Ok(verified(report(without_members)))).is_none());
    assert_eq!(turns.plain.unwrap().report.verdict(), Verdict::Pass);
}

#[test]
fn the_first_verification_and_each_that_ends_otherwise_is_told() {
    let (well, bad) = (report(well), report(without_members));
    assert!(change(Some(&well), &well).is_none());
    assert!(change(None, &well).is_some());
    let Some(DhtEvent::DiscoveryVerified { verdict, steps }) = change(Some(&well), &bad) else {
        panic!("it is told");
    };
    assert_eq!((verdict, steps.len()), ("fail", 6));
    assert_eq!((steps[5].step, steps[5].verdict), (6, "fail"));
    assert_eq!(steps[5].advice.as_deref(), Some("what to do"));
}

#[test]
fn each_step_is_told_for_people_and_for_programs() {
    let told = shape::verification(&verified(report(without_members)));
    let json = crate::asking::verification_json(&told).unwrap();
    let steps = json["steps"].as_array().unwrap();
    assert_eq!(steps.len(), 6);
    for (number, step) in (1..).zip(steps) {
        assert_eq!(step["step"], number);
        assert_eq!(step["verdict"], if number == 6 { "fail" } else { "pass" });
        assert_eq!(step["counts"][0]["what"], "nodes");
    }
    assert_eq!((&json["verdict"], &json["shape"]), (&"fail".into(), &1.into()));
    let text = screen::of(&told);
    assert!(text.starts_with("pass  1 table       what was found  (1.5 s)\n"), "{text}");
    assert!(
        text.contains("fail  6 members     what was found  (1.5 s)\n        what to do\n"),
        "{text}"
    );
    let line = screen::line(&told);
    assert!(line.starts_with("discovery: step 6 (members) fails: what was found; what to do"), "{line}");
    let well = shape::verification(&verified(report(well)));
    assert!(screen::line(&well).starts_with("discovery: all six steps pass"));
}
