//! One stream over simulated paths: two hosts with public addresses in a lab, and one line between them that delays, loses, and
//! takes so many bytes a second.
//!
//! `cargo bench -p punchline-tests --bench speed -- paths [--rounds N] [WORD…]`, where a WORD names a path, a work or a subject.
//! It needs root and Linux. Ratios are to gRPC over plain TCP in the same round. What a stream carries is counted where it is
//! received, after the first three seconds of twelve.

use std::{fmt, num::NonZeroU64, process::exit, time::Duration};

use punchline_tests::lab::{Lab, LabSpec, Line, Namespace, Nat, capability};
use serde_json::Value;

use crate::{Measure, Place, chosen, measure, rounds, subject::Subject, subjects, told, work::Work};

/// Two hosts, of which only what is measured between them is the same.
const SUBJECTS: [Subject; 6] =
    [Subject::Plain, Subject::Rustls, Subject::Stock, Subject::Tcp, Subject::Quic, Subject::Iroh];

const ROUNDS: usize = 3;

/// Bytes a second, frames whole: 100 Mbit/s, which the lab carries with a tenth of a core. Without a rate it would be the lab
/// that is measured. The line has a queue of 100 ms.
const RATE: u64 = 12_500_000;

/// Of what a host puts on the line, a message of gRPC can be this part: the rest is the heads of Ethernet, IP and TCP.
const PAYLOAD_PART: f64 = 1448.0 / 1514.0;

/// What systems use unless somebody changed it.
const CONGESTION: &str = "cubic";

/// What is between two hosts.
#[derive(Clone, Copy)]
struct Path {
    round_trip: Duration,
    /// In each direction.
    loss_permille: u16,
}

const fn path(round_trip_ms: u64, loss_permille: u16) -> Path {
    Path { round_trip: Duration::from_millis(round_trip_ms), loss_permille }
}

const PATHS: [Path; 4] = [path(60, 0), path(150, 0), path(60, 10), path(150, 10)];

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}ms", self.round_trip.as_millis())?;
        match self.loss_permille {
            0 => Ok(()),
            permille => write!(f, "-loss-{}%", f64::from(permille) / 10.0),
        }
    }
}

pub(crate) fn compare(words: &[&str]) {
    if let Err(missing) = capability() {
        eprintln!("there can be no simulated paths here: {missing}");
        exit(1);
    }
    let rounds = rounds(words).unwrap_or(ROUNDS);
    let named = |name: &str| words.contains(&name);
    let (subjects, works) = (subjects(&SUBJECTS, named), chosen(&Work::OVER_PATHS, named));
    let mut all = Vec::new();
    for path in chosen(&PATHS, named) {
        let lab = path.lab();
        let most = RATE as f64 / 1e6 * PAYLOAD_PART;
        println!("\n{path}, of which TCP can carry {most:.2} MB/s");
        for work in &works {
            println!(" {work}, {}", work.unit());
            let mut found: Vec<Vec<Measure>> = vec![Vec::new(); subjects.len()];
            for _ in 0..rounds {
                for (subject, found) in subjects.iter().zip(&mut found) {
                    found.push(measure(*subject, *work, Place::Lab(&lab)));
                }
            }
            for mut row in told(*work, &subjects, &found, Subject::Plain) {
                row["path"] = path.to_string().into();
                all.push(row);
            }
        }
        say_what_the_lab_lost(&lab);
    }
    println!("{}", Value::from(all));
}

impl Path {
    fn lab(self) -> Lab {
        let mut spec = LabSpec::new([Nat::Open, Nat::Open]);
        // One line between the two is one queue.
        spec.routers[0].line = Line {
            delay: self.round_trip / 2,
            loss_permille: self.loss_permille,
            rate: NonZeroU64::new(RATE),
            ..Line::default()
        };
        let lab = Lab::build(&spec).unwrap();
        for host in [lab.host(0), lab.host(1)] {
            // A kernel may keep it from namespaces, and then TCP is another than QUIC.
            if let Err(refused) = host.sysctl("ipv4/tcp_congestion_control", CONGESTION) {
                eprintln!("  TCP uses what the host does, and not {CONGESTION}: {refused}");
            }
            // What was measured last must not be known by what is measured next.
            host.sysctl("ipv4/tcp_no_metrics_save", "1").unwrap();
        }
        lab
    }
}

/// Frames that the kernel lost before the line could, since nobody took them in time: there should be none.
fn say_what_the_lab_lost(lab: &Lab) {
    let lost = dropped(lab.router(0), "wan") + dropped(lab.internet(), "router0");
    if lost > 0 {
        eprintln!("  {lost} frames were lost by the lab, and not by its line");
    }
}

fn dropped(machine: &Namespace, link: &str) -> u64 {
    let links = machine.command("cat").arg("/proc/net/dev").output().unwrap();
    let links = String::from_utf8(links.stdout).unwrap();
    let of = links.lines().find_map(|line| line.trim().strip_prefix(&format!("{link}:"))).unwrap();
    of.split_whitespace().nth(11).unwrap().parse().unwrap()
}
