//! What the demo concludes from logs of events: of a run in which all is well, and of ones in which
//! something is not.

#![allow(clippy::unwrap_used)]

use std::{
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::{Value, json};

use super::{
    show::Show,
    stage::{Actor, Seen},
    story::{Act, DIRECT_BYTES_MIN, RELAYED_BYTES_MIN, Scene, Story},
};

const HASH: &str = "c02c9eec62d9025b6fcee5c96e6951eae9f8f50b3f68cda336707fbae3f4c7c0";
const MIB: u64 = 1 << 20;

/// Relayed and direct bytes when each act was counted for the last time.
const COUNTS: [(u64, u64); 4] =
    [(5 * MIB, 0), (6 * MIB, 40 * MIB), (11 * MIB, 41 * MIB), (12 * MIB, 80 * MIB)];

const LOAD_BYTES: u64 = 92 * MIB;

fn told(actor: Actor, at: u64, event: Value) -> Seen {
    Seen { actor, at: Duration::from_millis(at), event }
}

fn cue(at: u64, cue: &str) -> Seen {
    told(Actor::Demo, at, json!({"event": "cue", "cue": cue}))
}

fn both(at: u64, event: Value) -> [Seen; 2] {
    [Actor::Client, Actor::Server].map(|end| told(end, at, event.clone()))
}

/// Both ends count: what the client sent, the server received.
fn counted(at: u64, relayed: u64, direct: u64) -> [Seen; 2] {
    both(
        at,
        json!({
            "event": "stream_traffic",
            "sent_relayed_bytes": relayed, "received_relayed_bytes": relayed,
            "sent_direct_bytes": direct, "received_direct_bytes": direct,
        }),
    )
}

fn moved(at: u64, from: &str, to: &str) -> [Seen; 2] {
    let [client, mut server] =
        both(at, json!({"event": "stream_moved", "from": from, "to": to, "gap_ms": 0.4}));
    server.event["gap_ms"] = json!(3.6);
    [client, server]
}

fn relay_counts(at: u64, bytes: u64) -> Seen {
    let event = json!({"event": "relay_traffic", "received_bytes": bytes / 2, "sent_bytes": bytes / 2});
    told(Actor::Relay, at, event)
}

/// A direct act from `at` on: the relay is watched while `from` becomes `to`.
fn direct(at: u64, relayed: u64, from: u64, to: u64) -> Vec<Seen> {
    let mut log = moved(at, "relayed", "direct").to_vec();
    // What was under way still comes.
    log.push(relay_counts(at + 100, 2 * relayed - MIB));
    log.push(relay_counts(at + 400, 2 * relayed));
    log.extend(counted(at + 450, relayed, from));
    log.extend(counted(at + 2300, relayed, to));
    log.push(relay_counts(at + 2400, 2 * relayed + 4000));
    log.extend(counted(at + 2500, relayed, to));
    log
}

/// A run in which all is well.
fn run() -> Vec<Seen> {
    let [first, second, third, fourth] = COUNTS;
    let mut log = vec![
        told(Actor::Relay, 10, json!({"event": "listening", "address": "/ip4/127.0.0.1/tcp/40001"})),
        told(Actor::Server, 90, json!({"event": "reservation_held"})),
        told(Actor::Client, 100, json!({"event": "connection_opened", "path": "relayed"})),
    ];
    log.extend(both(110, json!({"event": "stream_opened", "path": "relayed"})));
    log.extend(both(130, json!({"event": "session_ready", "path": "relayed"})));
    log.extend(counted(700, first.0, first.1));
    log.push(cue(710, "allow-upgrades"));
    log.extend(direct(740, second.0, MIB, second.1));
    log.push(cue(3300, "close-direct"));
    log.extend(moved(3310, "direct", "relayed"));
    log.extend(counted(4000, third.0, third.1));
    log.push(cue(4010, "allow-upgrades"));
    log.extend(direct(4040, fourth.0, third.1 + MIB, fourth.1));
    log.push(cue(6600, "end-load"));
    log.extend(both(
        6700,
        json!({"event": "load_done", "bytes": LOAD_BYTES, "sha256": HASH, "ms": 6500}),
    ));
    log.push(told(
        Actor::Client,
        6700,
        json!({"event": "session_pinged", "pings": 812, "unanswered": 0}),
    ));
    log.push(cue(6710, "stop"));
    for mut closed in counted(6800, fourth.0, fourth.1) {
        closed.event["event"] = json!("stream_closed");
        // Each end counts one direction.
        let idle = if closed.actor == Actor::Client { "received" } else { "sent" };
        for path in ["direct", "relayed"] {
            closed.event[format!("{idle}_{path}_bytes")] = json!(0);
        }
        log.push(closed);
    }
    log.extend(both(6800, json!({"event": "session_ended"})));
    log.push(relay_counts(6900, 2 * fourth.0 + 60_000));
    log
}

fn story(log: Vec<Seen>) -> Story {
    let mut story = Story::default();
    log.into_iter().for_each(|seen| story.add(seen));
    (0..3).for_each(|_| story.exited(true));
    story
}

/// The claims that do not hold of a run that was spoiled.
fn untrue(spoil: impl FnOnce(&mut Vec<Seen>)) -> Vec<&'static str> {
    let mut log = run();
    spoil(&mut log);
    let claims = story(log).claims();
    claims.into_iter().filter(|claim| !claim.holds).map(|claim| claim.text).collect()
}

/// The events of that name of one actor.
fn of<'a>(log: &'a mut [Seen], actor: Actor, name: &'a str) -> impl Iterator<Item = &'a mut Seen> {
    log.iter_mut().filter(move |seen| seen.is(actor, name))
}

const BEGAN: &str = "the session began on the relay";
const MOVED: &str = "its stream moved under load";
const ONE: &str = "it stayed one session, one stream";
const ARRIVED: &str = "every byte of it arrived, unchanged";
const PASSED_BY: &str = "direct bytes passed the relay by";
const CARRIED: &str = "the relay carried the rest, no more";
const ENDED: &str = "all three ended when told to";

#[test]
fn every_claim_holds_of_a_run_in_which_all_is_well() {
    assert_eq!(untrue(|_| ()), [] as [&str; 0]);
    let told = story(run()).to_json();
    assert_eq!(told["ok"], true);
    assert_eq!(told["gap_ms"], 3.6, "the worst of both ends");
    assert_eq!(told["bytes"]["sent_direct"], 80 * MIB);
    assert_eq!(told["server_bytes"]["received_direct"], 80 * MIB);
    assert_eq!(told["moves"].as_array().unwrap().len(), 3);
}

#[test]
fn no_claim_holds_of_nothing() {
    let claims = Story::default().claims();
    assert!(claims.iter().all(|claim| !claim.holds), "{claims:?}");
}

#[test]
fn a_session_that_became_ready_on_the_direct_path_did_not_begin_on_the_relay() {
    for end in [Actor::Client, Actor::Server] {
        let direct = |log: &mut Vec<Seen>| {
            of(log, end, "session_ready").for_each(|seen| seen.event["path"] = json!("direct"));
        };
        assert_eq!(untrue(direct), [BEGAN]);
    }
}

#[test]
fn a_punch_before_the_load_flowed_is_not_a_beginning_on_the_relay() {
    for end in [Actor::Client, Actor::Server] {
        let few = |log: &mut Vec<Seen>| {
            let first = of(log, end, "stream_traffic").next().unwrap();
            first.event["sent_relayed_bytes"] = json!(RELAYED_BYTES_MIN - 1);
            first.event["received_relayed_bytes"] = json!(RELAYED_BYTES_MIN - 1);
        };
        assert_eq!(untrue(few), [BEGAN]);
    }
}

#[test]
fn a_move_that_one_end_did_not_make_is_none() {
    for end in [Actor::Client, Actor::Server] {
        let back = |log: &mut Vec<Seen>| {
            log.retain(|seen| !(seen.is(end, "stream_moved") && seen.text("to") == "relayed"));
        };
        assert_eq!(untrue(back), [MOVED]);
    }
}

#[test]
fn a_move_after_which_nothing_flowed_was_not_under_load() {
    let nothing = |log: &mut Vec<Seen>| {
        // The counts before the second punch say what those before the closing said.
        let before = COUNTS[1].0;
        for end in [Actor::Client, Actor::Server] {
            let count = of(log, end, "stream_traffic").find(|seen| seen.at.as_millis() == 4000).unwrap();
            count.event["sent_relayed_bytes"] = json!(before);
            count.event["received_relayed_bytes"] = json!(before);
        }
    };
    assert_eq!(untrue(nothing), [MOVED]);
}

#[test]
fn a_second_session_or_stream_is_not_one() {
    for (end, name) in [(Actor::Client, "session_ready"), (Actor::Server, "stream_opened")] {
        let again = |log: &mut Vec<Seen>| {
            let at =
                log.iter().position(|seen| seen.is_cue(crate::rehearsal::Cue::CloseDirect)).unwrap();
            log.insert(at, told(end, 3300, json!({"event": name, "path": "relayed"})));
        };
        assert_eq!(untrue(again), [ONE]);
    }
}

#[test]
fn a_session_or_stream_that_ended_before_its_time_is_not_one() {
    for name in ["session_ended", "stream_closed"] {
        let ended = |log: &mut Vec<Seen>| {
            let at = log.iter().position(Seen::is_curtain).unwrap();
            log.insert(at, told(Actor::Server, 6705, json!({"event": name})));
        };
        assert_eq!(untrue(ended), [ONE]);
    }
}

#[test]
fn a_session_that_did_not_answer_under_load_did_not_stay() {
    for (field, value) in [("unanswered", 1), ("pings", 0)] {
        let silent = |log: &mut Vec<Seen>| {
            of(log, Actor::Client, "session_pinged").for_each(|seen| seen.event[field] = json!(value));
        };
        assert_eq!(untrue(silent), [ONE]);
    }
}

#[test]
fn a_load_that_differs_at_the_two_ends_did_not_arrive() {
    for (field, value) in [("bytes", json!(LOAD_BYTES - 1)), ("sha256", json!("0".repeat(64)))] {
        let spoilt = |log: &mut Vec<Seen>| {
            of(log, Actor::Server, "load_done").for_each(|seen| seen.event[field] = value.clone());
        };
        assert_eq!(untrue(spoilt), [ARRIVED]);
    }
    let lost = |log: &mut Vec<Seen>| log.retain(|seen| seen.name() != "load_done");
    assert_eq!(untrue(lost), [ARRIVED]);
}

#[test]
fn a_relay_whose_counters_rise_with_the_load_was_not_passed_by() {
    let rises = |log: &mut Vec<Seen>| {
        let count = of(log, Actor::Relay, "relay_traffic").find(|seen| seen.at.as_millis() == 3140);
        count.unwrap().event["sent_bytes"] = json!(COUNTS[1].0 + MIB);
    };
    assert_eq!(untrue(rises), [PASSED_BY]);
}

#[test]
fn a_relay_that_was_counted_once_was_not_watched() {
    let once = |log: &mut Vec<Seen>| {
        log.retain(|seen| !(seen.actor == Actor::Relay && seen.at.as_millis() == 4440));
    };
    assert_eq!(untrue(once), [PASSED_BY]);
}

#[test]
fn an_end_that_counted_no_direct_bytes_passed_nothing_by() {
    for end in [Actor::Client, Actor::Server] {
        let still = |log: &mut Vec<Seen>| {
            let first = of(log, end, "stream_traffic").find(|seen| seen.at.as_millis() == 1190);
            let few = json!(COUNTS[1].1 - DIRECT_BYTES_MIN + 1);
            let first = first.unwrap();
            first.event["sent_direct_bytes"] = few.clone();
            first.event["received_direct_bytes"] = few;
        };
        assert_eq!(untrue(still), [PASSED_BY]);
    }
}

#[test]
fn a_relay_that_counted_more_or_less_than_went_through_it_did_not_carry_just_that() {
    for (add, take) in [(2 * MIB, 0), (0, 2 * MIB)] {
        let off = |log: &mut Vec<Seen>| {
            let last = of(log, Actor::Relay, "relay_traffic").last().unwrap();
            last.event["sent_bytes"] = json!(last.number("sent_bytes") + add - take);
        };
        assert_eq!(untrue(off), [CARRIED]);
    }
}

#[test]
fn a_process_that_exits_with_an_error_did_not_end_when_told() {
    let mut story = Story::default();
    run().into_iter().for_each(|seen| story.add(seen));
    for clean in [true, false, true] {
        story.exited(clean);
    }
    let claims = story.claims();
    let untrue: Vec<_> = claims.iter().filter(|claim| !claim.holds).map(|claim| claim.text).collect();
    assert_eq!(untrue, [ENDED]);
}

#[test]
fn an_act_is_over_when_its_load_was_carried_and_the_relay_watched() {
    let mut story = Story::default();
    let mut over = Vec::new();
    for seen in run() {
        let at = seen.at.as_millis();
        story.add(seen);
        for act in [Act::First, Act::Second, Act::Third, Act::Fourth] {
            if story.has(Scene::Carried(act)) && !over.iter().any(|(other, _)| *other == act) {
                over.push((act, at));
            }
        }
    }
    let when = [(Act::First, 700), (Act::Second, 3140), (Act::Third, 4000), (Act::Fourth, 6440)];
    assert_eq!(over, when);
}

#[test]
fn a_story_that_broke_off_is_not_ok_and_says_why() {
    let mut story = story(run());
    assert_eq!(story.to_json()["failure"], Value::Null);
    story.broke_off("the relay ended on its own".to_owned());
    let told = story.to_json();
    assert_eq!((&told["ok"], &told["failure"]), (&json!(false), &json!("the relay ended on its own")));
}

/// What is printed, to look at afterwards.
#[derive(Clone, Default)]
struct Page(Arc<Mutex<Vec<u8>>>);

impl io::Write for Page {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(text)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// All that `show` prints of a run.
fn shown(log: Vec<Seen>, on: impl FnOnce(Show) -> Show) -> String {
    let page = Page::default();
    let (mut show, mut story) = (on(Show::to(Box::new(page.clone()))), Story::default());
    show.title();
    for seen in log {
        story.add(seen.clone());
        show.event(&seen, &story);
    }
    (0..3).for_each(|_| story.exited(true));
    show.verdict(&story).unwrap();
    let page = page.0.lock().unwrap().clone();
    String::from_utf8(page).unwrap()
}

/// A run that took long and carried much, also the relay.
fn large_run() -> Vec<Seen> {
    let mut log = run();
    for seen in &mut log {
        seen.at *= 100;
        let Value::Object(fields) = &mut seen.event else { continue };
        for (name, value) in fields {
            match value.as_u64() {
                Some(bytes) if name.contains("bytes") => *value = json!(bytes * 1000),
                _ => {}
            }
            if name == "gap_ms" {
                *value = json!(12_345.6);
            }
        }
    }
    log
}

#[test]
fn the_whole_demo_fits_80_columns_and_24_lines() {
    for log in [run(), large_run()] {
        let page = shown(log, |show| show);
        assert!(page.lines().all(|line| line.chars().count() < 80), "{page}");
        assert!(page.lines().count() < 24, "one is left for the prompt:\n{page}");
        assert_eq!(page.matches(['✓', '✗']).count(), 7, "{page}");
        assert!(!page.contains('\x1b'), "{page}");
        for role in ["relay", "server", "client"] {
            assert!(page.contains(&format!(" s  {role}")), "{page}");
        }
    }
}

#[test]
fn on_a_terminal_progress_is_a_line_that_the_next_one_replaces() {
    let page = shown(large_run(), Show::on_terminal);
    let lines: Vec<&str> = page.split('\n').collect();
    let rewritten = |line: &&&str| line.contains("\r\x1b[2K");
    assert!(lines.iter().filter(rewritten).count() > 3, "{page}");
    assert!(lines.len() <= 24, "{page}");
    for passing in page.split("\x1b[2K").filter(|text| text.contains("s  load")) {
        let (_, line) = passing.rsplit_once("\x1b[2m").unwrap();
        assert!(line.chars().count() < 80, "{line}");
    }
}

#[test]
fn what_went_wrong_is_told_on_one_line_however_long() {
    let mut log = run();
    let reason = "no address to punch to: no relay has told one of the two how the outside sees it";
    log.insert(8, told(Actor::Client, 140, json!({"event": "upgrade_failed", "reason": reason})));
    let page = shown(log, |show| show);
    assert!(page.contains("could not punch: no address") && page.contains('…'), "{page}");
    assert!(page.lines().all(|line| line.chars().count() < 80), "{page}");
}
