//! gRPC over our paths beside gRPC over TLS to a public address, over plain TCP, over stock libp2p and over iroh: the same
//! work, two processes each and what is between them, in turns, so that the machine's noise hits all.
//!
//! `cargo bench -p punchline-tests --bench speed [-- [--rounds N] WORD…]` runs the works and subjects that a WORD names, all
//! without one; prints a table with medians and ratios to TLS in the same round, and a line of JSON for machines. `--chart FILE`
//! draws them as SVG, and `chart FILE PRINTED…` draws what other runs printed into these files.
//! iroh is a program of its own (`tests/iroh`), which `PUNCHLINE_IROH` names. Everything is on loopback, bounded by time, and
//! ends by itself. `-- paths` does some of it over simulated paths instead ([`paths`]), and `-- crowds [--minutes N]` looks at 1, 100
//! and 1,000 quiet peers ([`idle`]).
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

mod chart;
mod idle;
mod parts;
mod paths;
mod subject;
mod work;

use serde_json::{Value, json};

use self::{
    parts::{Parts, Place},
    subject::Subject,
    work::Work,
};

/// Odd, so that the median is one of them.
const ROUNDS: usize = 5;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["relay"] => subject::relay(),
        ["serve", subject] => work::serve(subject.parse().unwrap(), None),
        ["serve", subject, relay] => work::serve(subject.parse().unwrap(), Some(relay)),
        ["ask", subject, work, address] => {
            work::ask(subject.parse().unwrap(), work.parse().unwrap(), address)
        }
        ["paths", words @ ..] => paths::compare(words),
        ["crowds", words @ ..] => idle::crowds(words),
        ["chart", to, from @ ..] => draw(to, from),
        words => compare(words),
    }
}

/// What comes after a flag.
fn after<'words>(words: &[&'words str], flag: &str) -> Option<&'words str> {
    words.iter().position(|word| *word == flag).map(|at| words[at + 1])
}

fn rounds(words: &[&str]) -> Option<usize> {
    after(words, "--rounds").map(|rounds| rounds.parse().unwrap())
}

/// Those that are named, and there.
fn subjects(all: &[Subject], named: impl Fn(&str) -> bool) -> Vec<Subject> {
    let mut subjects = chosen(all, named);
    subjects.retain(|subject| match parts::missing(*subject) {
        Some(missing) => {
            eprintln!("{subject} is left out: {missing}");
            false
        }
        None => true,
    });
    subjects
}

fn compare(words: &[&str]) {
    let rounds = rounds(words).unwrap_or(ROUNDS);
    let named = |name: &str| words.contains(&name);
    let subjects = subjects(&Subject::ALL, named);
    let works: Vec<Work> = chosen(&Work::ALL, named);
    let mut all = Vec::new();
    for work in works {
        println!("\n{work}, {}", work.unit());
        if work == Work::Idle {
            all.extend(subjects.iter().map(|subject| idle::of(*subject, work::IDLE_PEERS, idle::LOOKS)));
            continue;
        }
        let mut found: Vec<Vec<Measure>> = vec![Vec::new(); subjects.len()];
        for _ in 0..rounds {
            for (subject, found) in subjects.iter().zip(&mut found) {
                found.push(measure(*subject, work, Place::Loopback));
            }
        }
        all.extend(told(work, &subjects, &found, Subject::Rustls));
    }
    if let Some(to) = after(words, "--chart") {
        std::fs::write(to, chart::svg(&all)).unwrap();
    }
    println!("{}", Value::from(all));
}

/// Prints what was found of one work, with ratios to one of the subjects; returns it for machines.
fn told(work: Work, subjects: &[Subject], found: &[Vec<Measure>], anchor: Subject) -> Vec<Value> {
    let at = subjects.iter().position(|subject| *subject == anchor);
    let told = |(subject, of): (&Subject, &Vec<Measure>)| {
        let row = row(of, anchor, at.map(|at| &found[at]));
        println!("{}", shown(*subject, &row, anchor));
        json!({ "work": work.to_string(), "subject": subject.to_string(), "found": row })
    };
    subjects.iter().zip(found).map(told).collect()
}

/// Draws what was printed: the last line of each of these files.
fn draw(to: &str, from: &[&str]) {
    let mut rows: Vec<Value> = Vec::new();
    for file in from {
        let printed = std::fs::read_to_string(file).unwrap();
        let line: Value = serde_json::from_str(printed.lines().last().unwrap()).unwrap();
        rows.extend(line.as_array().unwrap().iter().cloned());
    }
    std::fs::write(to, chart::svg(&rows)).unwrap();
}

/// Those that are named; all, if none is.
fn chosen<T: Copy + ToString>(all: &[T], named: impl Fn(&str) -> bool) -> Vec<T> {
    let chosen: Vec<T> = all.iter().copied().filter(|one| named(&one.to_string())).collect();
    if chosen.is_empty() { all.to_vec() } else { chosen }
}

#[derive(Clone)]
struct Measure {
    value: f64,
    /// Of both processes, a GB or a thousand calls.
    cpu: f64,
    /// What it was before it was steady, or took before it began, where that is told.
    early: Option<f64>,
}

fn row(found: &[Measure], anchor: Subject, ratio_to: Option<&Vec<Measure>>) -> Value {
    let values: Vec<f64> = found.iter().map(|found| found.value).collect();
    let cpu: Vec<f64> = found.iter().map(|found| found.cpu).collect();
    let early: Vec<f64> = found.iter().filter_map(|found| found.early).collect();
    let ratios = ratio_to
        .map(|anchor| values.iter().zip(anchor).map(|(value, anchor)| value / anchor.value).collect());
    let spread =
        [values.iter().copied().fold(f64::MAX, f64::min), values.iter().copied().fold(0.0, f64::max)];
    json!({
        "median": median(values.clone()),
        "least_and_most": spread,
        "cpu_seconds": median(cpu),
        "early": (!early.is_empty()).then(|| median(early)),
        format!("ratio_to_{anchor}"): ratios.map(median),
    })
}

fn shown(subject: Subject, row: &Value, anchor: Subject) -> String {
    let number = |key: &str| row[key].as_f64().unwrap_or(f64::NAN);
    let ends = &row["least_and_most"];
    let early = row["early"].as_f64().map_or(String::new(), |early| format!("  early {early:.2}"));
    format!(
        "  {:<8} {:>10.2}  ({:.2} to {:.2})  ÷ {anchor} {:.2}  cpu {:.2}{early}",
        subject.to_string(),
        number("median"),
        ends[0].as_f64().unwrap_or(f64::NAN),
        ends[1].as_f64().unwrap_or(f64::NAN),
        number(&format!("ratio_to_{anchor}")),
        number("cpu_seconds"),
    )
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// One work in processes of its own.
fn measure(subject: Subject, work: Work, place: Place<'_>) -> Measure {
    let mut parts = Parts::serving(subject, place);
    let said = parts.ask(subject, work, 1);
    let said: Value = serde_json::from_str(&said).unwrap();
    let number = |key: &str| said[key].as_f64().unwrap();
    let early = said["early"].as_f64();
    Measure { value: number("value"), cpu: parts.cpu() / number("units"), early }
}
