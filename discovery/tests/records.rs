//! What the fuzzer found worth keeping, run again, and some thousand inputs made from it.
#![allow(clippy::unwrap_used)]

#[path = "../fuzz/src/lib.rs"]
#[allow(unreachable_pub, reason = "it is a library elsewhere")]
mod fuzz;

use std::{fs, panic, path::Path};

use fuzz::record::{NOW, run};

/// Inputs that are made from those of the corpus.
const MADE: usize = 5000;

fn corpus() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/record");
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

/// Runs one; the input is told if it fails.
fn check(input: &[u8]) {
    assert!(panic::catch_unwind(|| run(input)).is_ok(), "cargo fuzz run record tells more of {input:?}");
}

#[test]
fn bytes_that_fuzzing_found_are_records_or_refused() {
    let corpus = corpus();
    assert!(corpus.len() > 10, "only {} inputs", corpus.len());
    corpus.iter().for_each(|input| check(input));
}

#[test]
fn records_that_were_changed_are_records_or_refused() {
    let (corpus, mut dice) = (corpus(), Dice(NOW.millis()));
    for _ in 0..MADE {
        let mut input = corpus[dice.below(corpus.len())].clone();
        for _ in 0..=dice.below(4) {
            dice.change(&mut input, &corpus);
        }
        check(&input);
    }
}

/// The same numbers each time.
struct Dice(u64);

impl Dice {
    /// xorshift64.
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound.max(1) as u64) as usize
    }

    fn change(&mut self, input: &mut Vec<u8>, corpus: &[Vec<u8>]) {
        let at = self.below(input.len());
        match self.below(5) {
            0 => input.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << self.below(8)),
            1 => input.insert(at.min(input.len()), self.below(256) as u8),
            2 => input.truncate(at),
            3 => {
                let end = at + self.below(input.len() - at);
                input.drain(at..end);
            }
            _ => {
                let other = &corpus[self.below(corpus.len())];
                let (from, length) = (self.below(other.len()), self.below(64));
                let piece: Vec<u8> = other.iter().skip(from).take(length).copied().collect();
                input.splice(at..at, piece);
            }
        }
    }
}
