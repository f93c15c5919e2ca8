//! What peers of one process cost while nothing is said: its memory, and its share of a core.
//!
//! Connections take some seconds to find out how quiet they are; what they cost meanwhile is told apart. So is the memory of the first
//! peer: most of it is code and buffers that all of them share.

use std::{thread::sleep, time::Duration};

use serde_json::{Value, json};

use crate::{
    Subject, Work, after,
    parts::{Parts, Place},
    subjects,
};

/// How long idle peers are looked at.
pub(crate) const LOOKS: Duration = Duration::from_secs(20);

/// Until then a connection is as lively as one that has just been used.
const SETTLES: Duration = Duration::from_secs(35);

/// How many there are, one crowd after the other.
const CROWDS: [usize; 3] = [1, 100, 1000];

/// With so many peers, a call of each, and again after `looks`.
pub(crate) fn of(subject: Subject, peers: usize, looks: Duration) -> Value {
    let mut parts = Parts::serving(subject, Place::Loopback);
    let started = parts.server().resident();
    parts.ask(subject, Work::Idle, 1);
    let before = parts.server().resident();
    parts.ask(subject, Work::Idle, peers);
    let first = percent(&parts, LOOKS);
    sleep(SETTLES.saturating_sub(LOOKS));
    let kib = (parts.server().resident() - before) / peers as f64;
    let quiet = percent(&parts, looks);
    let grown = (parts.server().resident() - before) / peers as f64 - kib;
    let alive = parts.alive();
    println!(
        "  {:<8} {peers:>5} peers: {kib:>7.1} KiB a peer beside the first ({} KiB) and {grown:.1} more {} s later; of a core {first:.2} % at first, {quiet:.2} % when quiet; {alive} answer",
        subject.to_string(),
        before - started,
        looks.as_secs(),
    );
    json!({
        "work": Work::Idle.to_string(),
        "subject": subject.to_string(),
        "peers": peers,
        "kib_of_the_first": before - started,
        "kib_a_peer": kib,
        "kib_a_peer_grown": grown,
        "percent_of_a_core_at_first": first,
        "percent_of_a_core": quiet,
        "alive": alive,
    })
}

/// Of a core, by the process that serves.
fn percent(parts: &Parts<'_>, looks: Duration) -> f64 {
    let cpu = parts.server().cpu();
    sleep(looks);
    100.0 * (parts.server().cpu() - cpu) / looks.as_secs_f64()
}

/// Crowds of the subjects that a word names, for so many minutes each.
pub(crate) fn crowds(words: &[&str]) {
    let minutes = after(words, "--minutes").map(|minutes| minutes.parse::<u64>().unwrap() * 60);
    let looks = minutes.map_or(LOOKS, Duration::from_secs);
    let subjects = subjects(&Subject::ALL, |name| words.contains(&name));
    println!("\nmemory and CPU of a server with quiet peers");
    let of = |peers| subjects.iter().map(move |subject| of(*subject, peers, looks));
    let named = |peers: &usize| words.contains(&peers.to_string().as_str());
    let any = CROWDS.iter().any(named);
    let crowds = CROWDS.into_iter().filter(|peers| !any || named(peers));
    let all: Vec<Value> = crowds.flat_map(of).collect();
    println!("{}", Value::from(all));
}
