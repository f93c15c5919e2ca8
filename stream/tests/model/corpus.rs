//! What the fuzzers found worth keeping, run again: `stream/fuzz` says how it came about.

use std::{fs, panic, path::Path};

use crate::fuzz;

/// Runs every file of a corpus; all that fail are named.
fn replay(target: &str, run: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let (mut inputs, mut failed) = (0, Vec::new());
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let input = fs::read(&path).unwrap();
        inputs += 1;
        if panic::catch_unwind(|| run(&input)).is_err() {
            failed.push(path.display().to_string());
        }
    }
    assert!(inputs > 10, "{}: only {inputs} inputs", folder.display());
    assert!(failed.is_empty(), "cargo fuzz run {target} FILE tells more of:\n{}", failed.join("\n"));
}

#[test]
fn bytes_that_fuzzing_found_are_decoded_or_refused() {
    replay("codec", fuzz::codec::run);
}

#[test]
fn attacks_that_fuzzing_found_end_one_stream_at_most() {
    replay("machine", fuzz::machine::run);
}
