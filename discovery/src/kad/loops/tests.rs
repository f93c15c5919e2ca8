use std::collections::BTreeSet;

use super::*;

const S: Duration = Duration::from_secs(1);

/// Peers in a bucket.
const BUCKET: usize = 20;

fn loops() -> (Loops<&'static str>, Instant) {
    let now = Instant::now();
    let mut loops = Loops::new(7, BUCKET, now);
    assert_eq!(loops.poll_task(now), Some(Task::DialRemembered));
    (loops, now)
}

fn joined() -> (Loops<&'static str>, Instant) {
    let (mut loops, now) = loops();
    loops.knows(FEW, now);
    assert_eq!(loops.poll_task(now), Some(Task::Bootstrap));
    loops.bootstrap_ended(true, now);
    assert!(loops.joined());
    (loops, now)
}

/// All that is done until `end`, with the seconds when.
fn run(loops: &mut Loops<&'static str>, from: Instant, end: Instant) -> Vec<(u64, Task<&'static str>)> {
    let mut done = Vec::new();
    let mut now = from;
    while now <= end {
        while let Some(task) = loops.poll_task(now) {
            if task == Task::Bootstrap {
                loops.bootstrap_ended(true, now);
            }
            if task != Task::Sweep {
                done.push(((now - from).as_secs(), task));
            }
        }
        now = loops.poll_timeout().max(now + Duration::from_millis(1));
    }
    done
}

#[test]
fn nothing_is_published_before_a_bootstrap_has_ended_well() {
    let (mut loops, now) = loops();
    loops.changed("contact", now);
    assert_eq!(loops.poll_task(now + S / 2), None);
    loops.knows(1, now);
    assert_eq!(loops.poll_task(now), Some(Task::Bootstrap));
    loops.bootstrap_ended(false, now);
    assert_eq!(loops.poll_task(now + S / 2), None, "it led nowhere");
    assert_eq!(loops.poll_task(now + 2 * S), Some(Task::DialRemembered), "one peer is few");
    assert_eq!(loops.poll_task(now + 2 * S), Some(Task::Bootstrap));
    loops.bootstrap_ended(true, now + 2 * S);
    assert_eq!(loops.poll_task(now + 2 * S), Some(Task::Publish("contact")));
}

#[test]
fn what_is_said_does_not_wait_for_far_buckets_to_be_looked_into() {
    let (mut loops, now) = loops();
    loops.changed("contact", now);
    loops.knows(8, now);
    assert_eq!(loops.poll_task(now), Some(Task::Bootstrap));
    loops.bootstrap_answered(now + S);
    assert!(loops.joined());
    assert_eq!(loops.poll_task(now + S), Some(Task::Publish("contact")));
    loops.published(&"contact", true, now + 2 * S);
    loops.bootstrap_ended(false, now + 4 * S);
    assert!(loops.joined(), "what comes later takes nothing back");
    assert_eq!(loops.poll_task(now + 5 * S), None);
    assert_eq!(loops.poll_task(now + 6 * S), Some(Task::Bootstrap));
    loops.bootstrap_ended(true, now + 50 * S);
    let more = [(); 2].map(|()| loops.poll_task(now + 51 * S));
    assert!(more.contains(&Some(Task::Publish("contact"))), "others are known now: {more:?}");
    loops.published(&"contact", true, now + 51 * S);
    loops.bootstrap_ended(true, now + 52 * S);
    assert_eq!(loops.poll_task(now + 55 * S), None, "once");
}

#[test]
fn a_publication_that_failed_is_tried_again_in_seconds_and_one_that_did_not_after_an_hour() {
    let (mut loops, mut now) = joined();
    loops.changed("contact", now);
    now += SETTLE;
    for pause in [5, 15, 45, 120, 600, 600] {
        assert_eq!(loops.poll_task(now), Some(Task::Publish("contact")));
        loops.published(&"contact", false, now);
        loops.refresh = None;
        loops.sweep = now + 10_000 * S;
        assert_eq!(loops.poll_timeout(), now + pause * S);
        now += pause * S;
    }
    assert_eq!(loops.poll_task(now), Some(Task::Publish("contact")));
    loops.published(&"contact", true, now);
    let next = loops.publications["contact"].due.map(|due| due - now);
    assert!(next.is_some_and(|next| (3240 * S..=3960 * S).contains(&next)), "{next:?}");
}

#[test]
fn what_changes_all_the_time_is_said_every_five_seconds() {
    let (mut loops, begun) = joined();
    let mut said = 0;
    for tenth in 0..600 {
        let now = begun + tenth * S / 10;
        loops.changed("contact", now);
        while let Some(task) = loops.poll_task(now) {
            if let Task::Publish(item) = task {
                said += 1;
                loops.published(&item, true, now);
            }
        }
    }
    assert!((10..=13).contains(&said), "{said}");
}

#[test]
fn what_changes_while_it_is_said_is_said_again() {
    let (mut loops, now) = joined();
    loops.changed("contact", now);
    assert_eq!(loops.poll_task(now + S), Some(Task::Publish("contact")));
    loops.changed("contact", now + S);
    loops.published(&"contact", true, now + 2 * S);
    assert_eq!(loops.poll_task(now + 2 * S), None);
    assert_eq!(loops.poll_task(now + S + PUBLISH_APART), Some(Task::Publish("contact")));
}

#[test]
fn the_table_is_refreshed_lightly_every_five_minutes_and_fully_every_thirty() {
    let (mut loops, now) = joined();
    let done = run(&mut loops, now, now + 2 * 3600 * S);
    let count = |wanted: Task<&str>| done.iter().filter(|(_, task)| *task == wanted).count();
    assert!((3..=4).contains(&count(Task::Bootstrap)), "{done:?}");
    assert!((20..=26).contains(&count(Task::Refresh)), "{done:?}");
    assert_eq!(count(Task::DialRemembered), 0);
}

#[test]
fn where_many_nodes_leave_it_is_said_sooner_as_the_model_asks_and_never_more_often_than_in_twelve_minutes()
 {
    let after = |lost: usize| {
        let (mut loops, now) = joined();
        loops.knows(100, now);
        loops.changed("contact", now);
        assert_eq!(loops.poll_task(now + S), Some(Task::Publish("contact")));
        loops.published(&"contact", true, now + S);
        (0..lost).for_each(|_| loops.lost(PeerId::random(), now + 2 * S));
        loops.publications["contact"].due.map(|due| (due - now).as_secs() / 60)
    };
    // Of a hundred, in ten minutes.
    for (lost, minutes) in [(0, 53..=66), (2, 53..=66), (20, 53..=60), (50, 24..=24), (100, 12..=12)] {
        let due = after(lost).unwrap_or_default();
        assert!(minutes.contains(&due), "{lost}: {due}");
    }
    let (mut loops, now) = joined();
    loops.knows(2, now);
    (0..1000).for_each(|_| loops.lost(PeerId::random(), now));
    assert_eq!(loops.publish_every(), PUBLISH_EVERY / 5);
    loops.lost(PeerId::random(), now + CHURN_WITHIN);
    assert_eq!(loops.publish_every(), PUBLISH_EVERY, "they left long ago");
}

#[test]
fn when_strangers_were_met_the_table_is_refreshed_at_once_and_not_without_end() {
    let (mut loops, now) = joined();
    let mut refreshes = 0;
    for second in 0..120 {
        loops.met_strangers(7, 20, now + second * S);
        while let Some(task) = loops.poll_task(now + second * S) {
            refreshes += u32::from(task == Task::Refresh);
            assert!(refreshes != 1 || second == 3, "the first comes soon: {second}");
        }
    }
    assert!((5..=7).contains(&refreshes), "{refreshes}");
}

#[test]
fn what_was_said_in_a_small_network_is_said_anew_as_it_grows_and_not_when_nodes_come_and_go() {
    let (mut loops, now) = joined();
    loops.changed("contact", now);
    let said = |loops: &mut Loops<&'static str>, at: Instant| {
        loops.refresh = None;
        let said = loops.poll_task(at) == Some(Task::Publish("contact"));
        if said {
            loops.published(&"contact", true, at);
        }
        said
    };
    loops.sweep = now + 10_000 * S;
    loops.bootstrap = None;
    assert!(said(&mut loops, now + S));
    for (peers, grown) in [(13, false), (14, true), (23, false), (4, false), (23, false), (24, true)] {
        loops.knows(peers, now + S);
        let soon = loops.poll_timeout() <= now + S + GROWN_WITHIN;
        assert_eq!(soon, grown, "{peers} peers");
        assert_eq!(said(&mut loops, now + S + GROWN_WITHIN), grown, "{peers} peers");
    }
}

#[test]
fn a_neighbour_that_joined_lately_is_no_reason_to_look_around() {
    let (mut loops, now) = joined();
    let mut refreshes_when = |strangers, named| {
        loops.refresh = Some(now + 300 * S);
        loops.met_strangers(strangers, named, now);
        loops.refresh != Some(now + 300 * S)
    };
    for (strangers, named) in [(0, 0), (0, 20), (1, 20), (6, 20), (1, 4)] {
        assert!(!refreshes_when(strangers, named), "{strangers} of {named}");
    }
    for (strangers, named) in [(7, 20), (20, 20), (1, 3), (1, 1)] {
        assert!(refreshes_when(strangers, named), "{strangers} of {named}");
    }
}

#[test]
fn nodes_that_began_together_do_not_go_on_together() {
    let next = |seed| {
        let now = Instant::now();
        let mut loops = Loops::<&str>::new(seed, BUCKET, now);
        loops.knows(FEW, now);
        loops.poll_task(now);
        loops.bootstrap_ended(true, now);
        loops.refresh.map(|refresh| refresh - now)
    };
    let all: BTreeSet<_> = (0..8).map(|seed| next(seed << 40)).collect();
    assert_eq!(all.len(), 8);
}

#[test]
fn who_is_alone_dials_those_that_it_remembers_ever_more_rarely_and_never_gives_up() {
    let (mut loops, now) = loops();
    let done = run(&mut loops, now, now + 3600 * S);
    let dials: Vec<u64> = done.iter().map(|(at, _)| *at).collect();
    assert!((10..=25).contains(&dials.len()), "{dials:?}");
    assert!(dials.windows(2).all(|pair| pair[1] - pair[0] <= 330), "{dials:?}");
    assert!(dials.last().is_some_and(|last| *last > 3200), "{dials:?}");
}
